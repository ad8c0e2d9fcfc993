//! Routes and what the document says of them, kept in one list: neither can be without the other,
//! and what `OPTIONS` answers is taken from it too.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::MethodRouter;
use utoipa::openapi::HttpMethod;
use utoipa::openapi::path::{PathItem, PathsBuilder};

use super::operation::{Doc, Schemas};
use crate::middleware;
use crate::server::Api;

/// The routes of a part of the API.
pub(crate) struct Routes<H> {
    paths: Vec<Path<H>>,
}

struct Path<H> {
    path: &'static str,
    at: At<H>,
}

/// What one path answers, by method.
pub(crate) struct At<H> {
    handlers: MethodRouter<Api<H>>,
    docs: Vec<(HttpMethod, Doc)>,
}

impl<H: Send + Sync + 'static> Routes<H> {
    pub(crate) fn new() -> Self {
        Self { paths: Vec::new() }
    }

    /// Adds a path, with what `methods` adds to it.
    pub(crate) fn at(mut self, path: &'static str, methods: impl FnOnce(At<H>) -> At<H>) -> Self {
        let at = methods(At { handlers: MethodRouter::new(), docs: Vec::new() });
        self.paths.push(Path { path, at });
        self
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        self
    }

    /// The routes to serve, and the paths and schemas of the document.
    pub(crate) fn finish(self) -> (Router<Api<H>>, PathsBuilder, Schemas) {
        let (mut router, mut paths) = (Router::new(), PathsBuilder::new());
        let mut schemas = Schemas::new();
        for Path { path, at } in self.paths {
            let (methods, accept) = (at.methods(), at.accepts());
            let options = async move || {
                let mut response = middleware::preflight(&methods);
                response.headers_mut().extend(accept);
                response
            };
            router = router.route(path, at.handlers.options(options));
            let mut item = PathItem::default();
            for (method, doc) in at.docs {
                let (operation, used) = doc.finish(path);
                schemas.extend(used);
                item.merge_operations(PathItem::new(method, operation));
            }
            paths = paths.path(path, item);
        }
        (router, paths, schemas)
    }
}

impl<H: Send + Sync + 'static> At<H> {
    pub(crate) fn get<T: 'static, F: Handler<T, Api<H>>>(self, handler: F, doc: Doc) -> Self {
        self.with(HttpMethod::Get, doc, |handlers| handlers.get(handler))
    }

    pub(crate) fn post<T: 'static, F: Handler<T, Api<H>>>(self, handler: F, doc: Doc) -> Self {
        self.with(HttpMethod::Post, doc, |handlers| handlers.post(handler))
    }

    pub(crate) fn patch<T: 'static, F: Handler<T, Api<H>>>(self, handler: F, doc: Doc) -> Self {
        self.with(HttpMethod::Patch, doc, |handlers| handlers.patch(handler))
    }

    pub(crate) fn delete<T: 'static, F: Handler<T, Api<H>>>(self, handler: F, doc: Doc) -> Self {
        self.with(HttpMethod::Delete, doc, |handlers| handlers.delete(handler))
    }

    /// Lets the bodies be of any size: the handlers set their own limits.
    pub(crate) fn without_body_limit(mut self) -> Self {
        self.handlers = self.handlers.layer(DefaultBodyLimit::disable());
        self
    }

    fn with(
        mut self,
        method: HttpMethod,
        doc: Doc,
        add: impl FnOnce(MethodRouter<Api<H>>) -> MethodRouter<Api<H>>,
    ) -> Self {
        self.handlers = add(self.handlers);
        self.docs.push((method, doc));
        self
    }

    /// For `Allow`.
    fn methods(&self) -> HeaderValue {
        let all = [
            (HttpMethod::Get, "GET, HEAD"),
            (HttpMethod::Post, "POST"),
            (HttpMethod::Patch, "PATCH"),
            (HttpMethod::Delete, "DELETE"),
        ];
        let has = |method: &HttpMethod| self.docs.iter().any(|(other, _)| other == method);
        let names = all.iter().filter(|(method, _)| has(method)).map(|(_, name)| *name);
        listed(names.chain(["OPTIONS"]))
    }

    /// What the bodies may be (RFC 9725 §4.2 for `POST`, RFC 5789 §3.1 for `PATCH`).
    fn accepts(&self) -> HeaderMap {
        let of = |(method, doc): &(HttpMethod, Doc)| {
            let name = match method {
                HttpMethod::Post => "accept-post",
                HttpMethod::Patch => "accept-patch",
                _ => return None,
            };
            let types = listed(doc.media_types().iter().copied());
            Some((HeaderName::from_static(name), types))
        };
        self.docs.iter().filter_map(of).collect()
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> HeaderValue {
    let list = names.collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(list).expect("methods and media types are ASCII")
}
