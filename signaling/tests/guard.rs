//! What stands in front of every route: limits, request ids, the access log, headers for browsers.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::routing::get;
use common::{API_KEY, Face, FakeHouse, Lines, Reply};
use signaling::wire::Grants;
use signaling::{ApiConfig, LimitsConfig};

fn config() -> ApiConfig {
    ApiConfig::new(API_KEY, None, false).unwrap()
}

/// A request that came from an address, with headers.
async fn ask(face: &Face, from: [u8; 4], path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((from, 4711))));
    face.send(request).await
}

const HERE: [u8; 4] = [192, 0, 2, 1];
const THERE: [u8; 4] = [192, 0, 2, 2];
const LISTED: &str = "https://app.example.org";

#[tokio::test]
async fn an_address_that_asks_too_much_is_told_when_to_come_back() {
    let limits = LimitsConfig { address_per_s: 1, address_burst: 3, ..LimitsConfig::default() };
    let face = Face::with_config(config().with_limits(limits));
    for _ in 0..3 {
        assert_eq!(ask(&face, HERE, "/v1/languages", &[]).await.status, 200);
    }
    let reply = ask(&face, HERE, "/v1/languages", &[]).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.problem().kind, "/problems/too-many-requests");
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(reply.header("access-control-allow-origin"), "*", "a page can read why");
    assert_eq!(ask(&face, THERE, "/v1/languages", &[]).await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_used_too_much_waits_wherever_it_comes_from() {
    let limits = LimitsConfig { key_per_s: 1, key_burst: 2, ..LimitsConfig::default() };
    let face = Face::with_config(config().with_limits(limits));
    let bearer = format!("Bearer {API_KEY}");
    let key = [("authorization", bearer.as_str())];
    assert_eq!(ask(&face, HERE, "/v1/rooms", &key).await.status, 200);
    assert_eq!(ask(&face, THERE, "/v1/rooms", &key).await.status, 200);
    assert_eq!(ask(&face, HERE, "/v1/rooms", &key).await.status, 429);
}

#[tokio::test]
async fn guessing_keys_ends_early_and_shuts_out_nobody_who_has_one() {
    let limits = LimitsConfig { refused_per_min: 1, refused_burst: 3, ..LimitsConfig::default() };
    let face = Face::with_config(config().with_limits(limits));
    let bearer = format!("Bearer {API_KEY}");
    let key = [("authorization", bearer.as_str())];
    assert_eq!(ask(&face, HERE, "/v1/rooms", &key).await.status, 200);
    for guess in 0..3 {
        let path = format!("/v1/rooms/lobby/events?access_token={guess}");
        assert_eq!(ask(&face, HERE, &path, &[]).await.status, 401);
    }
    let reply = ask(&face, HERE, "/v1/rooms", &[("authorization", "Bearer x")]).await;
    assert_eq!(reply.status, 429);
    assert!(reply.header("retry-after").parse::<u32>().unwrap() > 50);
    assert_eq!(ask(&face, HERE, "/v1/rooms", &key).await.status, 200);
    assert_eq!(ask(&face, THERE, "/v1/rooms", &[]).await.status, 401);
}

#[tokio::test]
async fn a_trusted_proxys_word_decides_who_is_limited() {
    let limits = LimitsConfig { address_per_s: 1, address_burst: 1, ..LimitsConfig::default() };
    let config = config().with_limits(limits);
    let face = Face::with_config(config.with_trusted_proxies(vec!["192.0.2.1".parse().unwrap()]));
    let behind = |address: &'static str| [("x-forwarded-for", address)];
    let path = "/v1/languages";
    assert_eq!(ask(&face, HERE, path, &behind("198.51.100.1")).await.status, 200);
    assert_eq!(ask(&face, HERE, path, &behind("198.51.100.2")).await.status, 200);
    assert_eq!(ask(&face, HERE, path, &behind("198.51.100.1")).await.status, 429);
    // Somebody else who says so is not believed.
    assert_eq!(ask(&face, THERE, path, &behind("198.51.100.3")).await.status, 200);
    assert_eq!(ask(&face, THERE, path, &behind("198.51.100.4")).await.status, 429);
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let face = Face::new();
    let reply = ask(&face, HERE, "/healthz", &[("x-request-id", "call-7")]).await;
    assert_eq!(reply.header("x-request-id"), "call-7");
    let one = ask(&face, HERE, "/nowhere", &[("x-request-id", "a b")]).await;
    let other = ask(&face, HERE, "/nowhere", &[]).await;
    assert_eq!(one.header("x-request-id").len(), 32);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn only_listed_origins_are_allowed_when_there_is_a_list() {
    let face = Face::with_config(config().with_origins(&[LISTED.to_owned()]).unwrap());
    let reply = ask(&face, HERE, "/v1/languages", &[("origin", LISTED)]).await;
    assert_eq!(reply.header("access-control-allow-origin"), LISTED);
    assert_eq!(reply.header("vary"), "Origin");
    assert!(reply.header("access-control-expose-headers").contains("X-Request-Id"));
    for other in ["https://elsewhere.example", "null"] {
        let reply = ask(&face, HERE, "/v1/languages", &[("origin", other)]).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, ""));
        assert_eq!(reply.header("vary"), "Origin");
    }
    let preflight = Request::options("/v1/rooms").header("origin", LISTED);
    let reply = face.send(preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.header("access-control-allow-origin"), LISTED);
    assert!(reply.header("access-control-allow-headers").contains("Last-Event-ID"));
}

#[tokio::test]
async fn a_browser_may_do_nothing_with_an_answer_and_what_a_page_sets_stays() {
    let policy = "default-src 'self'";
    let page = get(move || async move { ([("content-security-policy", policy)], "page") });
    let house = Arc::new(FakeHouse::default());
    let face = Face::new();
    let router = signaling::router_with(house, config(), Router::new().route("/", page));
    let face = Face { router, ..face };
    let api = ask(&face, HERE, "/v1/languages", &[]).await;
    assert!(api.header("content-security-policy").contains("default-src 'none'"));
    let page = ask(&face, HERE, "/", &[]).await;
    assert_eq!((page.text().as_str(), page.header("content-security-policy")), ("page", policy));
    for reply in [api, page] {
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert!(reply.header("permissions-policy").starts_with("microphone=(self)"));
        assert_eq!(reply.header("x-request-id").len(), 32);
    }
}

#[tokio::test]
async fn a_request_leaves_one_line_and_no_token() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let face = Face::new();
    let token = face.token("lobby", "ana", Grants { listen: false, ..Grants::default() }).token;
    let path = format!("/v1/rooms/lobby/events?access_token={token}");
    let id = [("x-request-id", "call-7")];
    assert_eq!(ask(&face, HERE, &path, &id).await.status, 403);
    assert_eq!(ask(&face, HERE, "/healthz", &[]).await.status, 200);
    let text = lines.text();
    assert_eq!(text.lines().count(), 1, "health is asked for too often to be told: {text}");
    for part in [
        "access",
        "GET",
        "/v1/rooms/{room}/events",
        "status=403",
        "elapsed_ms=",
        "call-7",
        "identity=\"ana\"",
    ] {
        assert!(text.contains(part), "{part} is missing from {text}");
    }
    let secret = token.rsplit('.').next().unwrap();
    assert!(!text.contains("access_token") && !text.contains(secret), "{text}");
}
