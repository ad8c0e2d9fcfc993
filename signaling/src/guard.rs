//! What stands in front of every route, the page's too: the id of a request, the line about it in
//! the access log, the rate limits, and the headers that browsers go by.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::client::{self, Network};
use crate::limits::Limits;
use crate::problem::{ApiError, Kind};
use crate::stats::Stats;

/// Names a request in its answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// Longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 64;
/// Routes that load balancers and orchestrators ask every few seconds.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// Headers of answers that pages of other origins may read.
const EXPOSED: &str = "Location, Link, ETag, Retry-After, WWW-Authenticate, X-Request-Id";

/// What the guard goes by.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) origins: Origins,
    pub(crate) stats: Arc<Stats>,
}

/// Whose pages may call from a browser. Credentials are bearer tokens that a page must hold, never
/// cookies that a browser would add by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origins {
    /// Everybody's.
    #[default]
    Any,
    /// Those of these origins.
    Listed(Vec<HeaderValue>),
}

/// Where whoever checks the credentials of a request notes whom they name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller(Arc<OnceLock<String>>);

impl Caller {
    pub(crate) fn is(&self, name: &str) {
        // Checked twice, it is the same one.
        let _ = self.0.set(name.to_owned());
    }
}

/// The layer.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let caller = Caller::default();
    request.extensions_mut().insert(caller.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());

    let is_health = route.as_ref().is_some_and(|route| HEALTH.contains(&route.as_str()));
    let answering = async {
        // Whoever watches the server is never told to wait: it would be taken for dead.
        if is_health { next.run(request).await } else { guard.admit(request, next, &caller).await }
    };
    let mut response = answering.instrument(span).await;
    let headers = response.headers_mut();
    guard.origins.allow(origin.as_ref(), headers);
    for (name, value) in SECURITY {
        // The page has a policy of its own.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(REQUEST_ID, id.clone());

    // The route, never the address: an address may hold an access token or the id of a session.
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let (id, status) = (id.to_str().unwrap_or_default(), response.status().as_u16());
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    let identity = caller.0.get().map_or("", String::as_str);
    if response.status().is_server_error() {
        tracing::warn!(target: "access", %method, route, status, elapsed_ms, id, identity);
    } else if is_health {
        tracing::debug!(target: "access", %method, route, status, elapsed_ms, id, identity);
    } else {
        tracing::info!(target: "access", %method, route, status, elapsed_ms, id, identity);
    }
    response
}

/// The access log alone, for a listener whose limits and headers are another program's.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let status = response.status().as_u16();
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    tracing::info!(target: "access", %method, route, status, elapsed_ms);
    response
}

/// What answers of the API may do in a browser, and what a page may unless it says otherwise.
const SECURITY: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (PERMISSIONS_POLICY, "microphone=(self), camera=(), geolocation=()"),
];

impl Guard {
    /// Lets the handler answer, unless a limit is reached.
    async fn admit(&self, request: Request, next: Next, caller: &Caller) -> Response {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let address = peer.map(|ConnectInfo(peer)| {
            client::address(peer.ip(), request.headers(), &self.trusted_proxies)
        });
        let credential = credential(request.headers(), request.uri()).map(str::to_owned);
        if let Err(wait) = self.limits.admit(address, credential.as_deref(), Instant::now()) {
            self.stats.limited.add(1);
            return too_many(wait);
        }
        let response = next.run(request).await;
        self.learn(address, credential.as_deref(), caller, &response);
        response
    }

    fn learn(
        &self,
        address: Option<IpAddr>,
        credential: Option<&str>,
        caller: &Caller,
        response: &Response,
    ) {
        let now = Instant::now();
        if let (Some(credential), true) = (credential, caller.0.get().is_some()) {
            self.limits.accepted(credential, now);
        }
        if let (Some(address), 401) = (address, response.status().as_u16()) {
            self.limits.refused(address, now);
        }
    }
}

impl Origins {
    /// # Errors
    /// Names the origin that is none.
    pub(crate) fn parse(origins: &[String]) -> Result<Self, String> {
        if origins.iter().any(|origin| origin == "*") {
            return Ok(Self::Any);
        }
        let parse = |origin: &String| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            let is_origin = authority.is_some_and(|authority| {
                !authority.is_empty() && !authority.contains(['/', '?', '#', '@'])
            });
            let value = HeaderValue::try_from(origin.as_str()).ok().filter(|_| is_origin);
            value.ok_or_else(|| {
                format!("{origin:?} is no origin: write https://app.example.org, or * for any")
            })
        };
        origins.iter().map(parse).collect::<Result<_, _>>().map(Self::Listed)
    }

    fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let allowed = match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(known) => {
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                origin.filter(|origin| known.contains(origin)).cloned()
            }
        };
        if let Some(allowed) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers
                .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

fn too_many(wait: Duration) -> Response {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    ApiError::new(Kind::TooManyRequests, format!("wait {seconds} s before the next request"))
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
        .into_response()
}

/// The client's id when it can stand in a log line, otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    headers.get(REQUEST_ID).filter(is_sane).cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", rand::random::<u128>());
        HeaderValue::try_from(id).expect("hexadecimal digits can stand in a header")
    })
}

/// What the request shows of itself, checked or not: a bearer token, or one in the address.
fn credential<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_address = || {
        let pairs = uri.query()?.split('&');
        pairs.filter_map(|pair| pair.strip_prefix("access_token=")).next()
    };
    header
        .map(|value| value.split_once(' ').map_or(value, |(_, token)| token.trim()))
        .or_else(in_address)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_an_authority() {
        let parse = |origin: &str| Origins::parse(&[origin.to_owned()]);
        assert_eq!(parse("*"), Ok(Origins::Any));
        assert!(parse("https://app.example.org:8443").is_ok());
        for wrong in ["app.example.org", "https://", "https://a/b", "https://a\n", ""] {
            assert!(parse(wrong).unwrap_err().contains("is no origin"), "{wrong:?}");
        }
        assert_eq!(Origins::parse(&[]), Ok(Origins::Listed(Vec::new())));
    }

    #[test]
    fn a_request_id_is_taken_only_when_it_can_stand_in_a_log_line() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, value.parse().unwrap());
            request_id(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(id("a-1_b.C"), "a-1_b.C");
        for wrong in ["", "a b", "a\"b", &"x".repeat(65)] {
            let made = id(wrong);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
