//! Whatever a client sends, it gets an answer that blames the client.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use common::{API_KEY, Face};
use proptest::prelude::*;
use signaling::house::Role;
use signaling::wire::{Event, Grants};

const ROUTES: [(&str, &str); 19] = [
    ("POST", "/v1/rooms"),
    ("GET", "/v1/rooms"),
    ("GET", "/v1/rooms/lobby"),
    ("POST", "/v1/rooms/lobby/tokens"),
    ("POST", "/v1/development/tokens"),
    ("POST", "/v1/rooms/lobby/sessions"),
    ("PATCH", "/v1/rooms/lobby/sessions/x"),
    ("DELETE", "/v1/rooms/lobby/sessions/x"),
    ("GET", "/v1/rooms/other/events"),
    ("DELETE", "/v1/rooms/other"),
    ("POST", "/v1/rooms/lobby/tokens?claims=livekit"),
    ("POST", "/v1/rooms/lobby/whip"),
    ("POST", "/v1/rooms/lobby/whep?channel=floor&original_gain=0.4"),
    ("PATCH", "/v1/rooms/lobby/whip/x"),
    ("PATCH", "/v1/rooms/lobby/whep/x"),
    ("GET", "/v1/rooms/lobby/whep/x"),
    ("GET", "/v1/rooms/lobby/ice-servers"),
    ("PATCH", "/v1/rooms/lobby/participants/ana"),
    ("DELETE", "/v1/rooms/lobby/participants/ana"),
];

const TYPES: [&str; 4] =
    ["application/json", "application/sdp", "application/trickle-ice-sdpfrag", "text/plain"];

fn authorizations() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(format!("Bearer {API_KEY}").into_bytes()),
        Just(b"participant".to_vec()),
        prop::collection::vec(any::<u8>(), 0..200),
        "Bearer [A-Za-z0-9_.=-]{0,200}".prop_map(String::into_bytes),
        "Bearer eyJhbGciOiJIUzI1NiJ9\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,43}"
            .prop_map(String::into_bytes),
    ]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        r#"\{("name":"[a-z\\" ]{0,9}",?)?("original_gain":-?[0-9e.]{0,8})?\}"#
            .prop_map(String::into_bytes),
        "v=0\r\n([a-z]=[ -~]{0,40}\r\n){0,8}".prop_map(String::into_bytes),
        (0_usize..5000).prop_map(|depth| "[".repeat(depth).into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_body_and_no_credentials_make_a_server_error(
        route in prop::sample::select(&ROUTES[..]),
        kind in prop::sample::select(&TYPES[..]),
        authorization in authorizations(),
        if_match in prop::collection::vec(any::<u8>(), 0..20),
        body in bodies(),
    ) {
        let face = Face::new();
        let authorization = if authorization == b"participant" {
            format!("Bearer {}", face.token("lobby", "ana", Grants::default()).token).into_bytes()
        } else {
            authorization
        };
        let mut request =
            Request::builder().method(route.0).uri(route.1).header("content-type", kind);
        if let Ok(value) = HeaderValue::from_bytes(&authorization) {
            request = request.header("authorization", value);
        }
        if let Ok(value) = HeaderValue::from_bytes(&if_match) {
            request = request.header("if-match", value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(face.send(request));
        prop_assert!(!reply.status.is_server_error(), "{}", reply.text());
        if reply.status.is_client_error() {
            reply.problem();
        }
    }

    #[test]
    fn no_path_and_no_query_make_a_server_error(path in "/[ -~]{0,60}", query in "[!-~]{0,60}") {
        let face = Face::new();
        let Ok(request) = Request::get(format!("{path}?{query}")).body(Body::empty()) else {
            return Ok(());
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(face.send(request));
        prop_assert!(!reply.status.is_server_error(), "{}", reply.text());
    }

    #[test]
    fn no_parameter_of_a_session_makes_a_server_error_or_a_gain_out_of_range(
        door in prop::sample::select(&["whip", "whep", "sessions"][..]),
        query in prop_oneof![
            "[ -~]{0,40}",
            "(channel|relay|original_gain|x)=[a-z0-9.%+-]{0,8}(&(channel|original_gain)=[a-z0-9.-]{0,8})?",
        ],
        accept in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let face = Face::new();
        let grants = Grants { interpret: vec!["fr".to_owned()], ..Grants::default() };
        let token = face.token("lobby", "ana", grants).token;
        let uri = format!("/v1/rooms/lobby/{door}?{query}");
        let mut request = Request::post(uri)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/sdp");
        if let Ok(value) = HeaderValue::from_bytes(&accept) {
            request = request.header("accept", value);
        }
        let Ok(request) = request.body(Body::from("v=0\r\nm=audio 9\r\n")) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(face.send(request));
        prop_assert!(!reply.status.is_server_error(), "{}", reply.text());
        match face.house.caller("lobby", "session-of-ana") {
            Some(caller) => {
                let gain = caller.original_gain.unwrap_or(0.0);
                prop_assert!((0.0..=1.0).contains(&gain), "{gain}");
                let is_both = matches!(caller.role, Role::Both { .. });
                prop_assert!(door == "sessions" || !is_both);
            }
            None => prop_assert!(reply.status.is_client_error(), "{}", reply.text()),
        }
    }

    #[test]
    fn arbitrary_bytes_are_never_an_event_that_does_not_survive_a_round_trip(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(event) = serde_json::from_slice::<Event>(&bytes) {
            let text = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        }
    }
}
