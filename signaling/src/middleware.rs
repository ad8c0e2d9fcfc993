//! What surrounds every handler: the log line, the headers browsers ask for, and the net that
//! turns whatever a library answered on its own into a problem.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::{ApiError, Kind, PROBLEM_JSON};

/// One line per request. It names the route, never the address: an address may hold an access
/// token or the id of a session.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);
    let status = response.status().as_u16();
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    if response.status().is_server_error() {
        tracing::warn!(%method, route, status, elapsed_ms, "request failed");
    } else {
        tracing::debug!(%method, route, status, elapsed_ms, "request");
    }
    response
}

/// Any origin may call: credentials are bearer tokens that a page must hold, never cookies that a
/// browser would add by itself.
pub(crate) async fn allow_origins(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Location, Link, ETag, Retry-After, WWW-Authenticate"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Answers `OPTIONS`: the preflight of browsers, and what RFC 9725 §4.2 asks of an endpoint that
/// takes offers.
pub(crate) fn preflight(methods: &'static str, accept_post: Option<&'static str>) -> Response {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::ALLOW, methods);
    set(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match");
    set(header::ACCESS_CONTROL_MAX_AGE, "86400");
    if let Some(accept_post) = accept_post {
        set(HeaderName::from_static("accept-post"), accept_post);
    }
    (StatusCode::OK, headers).into_response()
}

/// Every error leaves as a problem, even one that a library made (404, 405, 408, 413 …).
pub(crate) async fn problems_only(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == PROBLEM_JSON.as_bytes());
    if !is_error || is_problem {
        return response;
    }
    let mut problem = ApiError::from_status(status);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem = problem.with_header(header::ALLOW, allow.clone());
    }
    problem.into_response()
}

/// What a panicking handler answers. The message goes to the log: it may quote anything.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `CatchPanicLayer` calls")]
pub(crate) fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    tracing::error!(message, "a request handler panicked");
    ApiError::new(Kind::Internal, "the cause is in the server's log").into_response()
}
