//! The HTTP face: whatever is asked, the answer blames the client, as problem+json, and never the
//! server.

#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request};
use dragoman_fuzz::house::EmptyHouse;
use libfuzzer_sys::fuzz_target;
use signaling::ApiConfig;
use signaling::wire::Problem;
use tower::ServiceExt as _;

const API_KEY: &str = "0123456789abcdef0123456789abcdef";
const METHODS: [&str; 6] = ["GET", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"];
const PATHS: [&str; 13] = [
    "/v1/rooms",
    "/v1/rooms/lobby",
    "/v1/rooms/lobby/tokens",
    "/v1/rooms/lobby/sessions",
    "/v1/rooms/lobby/sessions/one",
    "/v1/rooms/lobby/whip?channel=fr&relay=es",
    "/v1/rooms/lobby/whep?channel=floor&original_gain=0.2",
    "/v1/rooms/lobby/whep/one",
    "/v1/rooms/lobby/participants/one",
    "/v1/rooms/lobby/ice-servers",
    "/v1/rooms/lobby/events",
    "/v1/languages",
    "/readyz",
];
const TYPES: [&str; 4] =
    ["application/json", "application/sdp", "application/trickle-ice-sdpfrag", "text/plain"];

#[derive(Arbitrary, Debug)]
struct Call {
    method: u8,
    path: Result<u8, String>,
    content_type: Result<u8, Vec<u8>>,
    authorization: Authorization,
    if_match: Option<Vec<u8>>,
    body: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Authorization {
    Key,
    Nobody,
    Bytes(Vec<u8>),
    Bearer(String),
}

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let config = ApiConfig::new(API_KEY, None, false).expect("a good key");
    signaling::router(Arc::new(EmptyHouse), config)
});

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
});

fn pick<'a>(names: &[&'a str], index: u8) -> &'a str {
    names[usize::from(index) % names.len()]
}

fuzz_target!(|call: Call| {
    let path = match &call.path {
        Ok(index) => pick(&PATHS, *index).to_owned(),
        Err(path) => format!("/{path}"),
    };
    let mut request = Request::builder().method(pick(&METHODS, call.method)).uri(path);
    let content_type = match &call.content_type {
        Ok(index) => pick(&TYPES, *index).as_bytes(),
        Err(bytes) => bytes,
    };
    let authorization = match &call.authorization {
        Authorization::Key => Some(format!("Bearer {API_KEY}").into_bytes()),
        Authorization::Nobody => None,
        Authorization::Bytes(bytes) => Some(bytes.clone()),
        Authorization::Bearer(token) => Some(format!("Bearer {token}").into_bytes()),
    };
    let headers = [
        ("content-type", Some(content_type.to_vec())),
        ("authorization", authorization),
        ("if-match", call.if_match.clone()),
    ];
    for (name, value) in headers {
        if let Some(Ok(value)) = value.map(|value| HeaderValue::from_bytes(&value)) {
            request = request.header(name, value);
        }
    }
    let Ok(request) = request.body(Body::from(call.body.clone())) else { return };
    let (status, body) = RUNTIME.block_on(async {
        let response = ROUTER.clone().oneshot(request).await.expect("the router always answers");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a short answer");
        (status, body)
    });
    assert!(!status.is_server_error(), "{status}: {}", String::from_utf8_lossy(&body));
    if status.is_client_error() && !body.is_empty() {
        let problem: Problem = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(problem.status, status.as_u16());
        assert!(!problem.detail.is_empty());
    }
});
