//! Every route against what clients get wrong: the status, the slug and the headers.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use axum::body::Body;
use axum::http::{Method, Request};
use common::{API_KEY, ETAG, Face, Reply};
use signaling::house::House;
use signaling::wire::{CreateToken, Development, Grants, LanguageInfo, Room, Token};
use signaling::{ApiConfig, mint_admin_token, mint_token};
use std::sync::atomic::Ordering;

const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
const FRAGMENT: &str = "a=ice-ufrag:x\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";

/// Credentials by name.
fn credential(face: &Face, who: &str) -> Option<String> {
    let all = Grants { moderate: true, ..Grants::default() };
    let none = Grants { speak: false, listen: false, ..Grants::default() };
    let bearer = |token: Token| Some(format!("Bearer {}", token.token));
    match who {
        "nobody" => None,
        "key" => Some(format!("Bearer {API_KEY}")),
        "lower-case scheme" => Some(format!("bearer {API_KEY}")),
        "wrong key" => Some(format!("Bearer {}", "f".repeat(32))),
        "basic" => Some("Basic YTpi".to_owned()),
        "bare key" => Some(API_KEY.to_owned()),
        "admin" => bearer(mint_admin_token(&face.token_key, "office", None).unwrap()),
        "ana" => bearer(face.token("lobby", "ana", Grants::default())),
        "moderator" => bearer(face.token("lobby", "mod", all)),
        "mute" => bearer(face.token("lobby", "mute", none)),
        "stranger" => bearer(face.token("elsewhere", "eve", all)),
        "tampered" => bearer(face.token("lobby", "ana", all)).map(|mut value| {
            let last = if value.ends_with('A') { 'B' } else { 'A' };
            let middle = value.len() - 20;
            value.replace_range(
                middle..=middle,
                if &value[middle..=middle] == "x" { "y" } else { "x" },
            );
            value.pop();
            value.push(last);
            value
        }),
        other => panic!("no credential is called {other}"),
    }
}

async fn ask(face: &Face, method: &str, path: &str, who: &str, kind: &str, body: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = credential(face, who) {
        request = request.header("authorization", value);
    }
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    face.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

const JSON: &str = "application/json";
const SDP: &str = "application/sdp";
const ROOM: &str = "/v1/rooms/lobby";
const SESSIONS: &str = "/v1/rooms/lobby/sessions";
const TOKENS: &str = "/v1/rooms/lobby/tokens";
const EVENTS: &str = "/v1/rooms/lobby/events";
const DEVELOPMENT: &str = "/v1/development/tokens";
const GOOD_GUEST: &str = r#"{"room":"desk","language":"en"}"#;
const GRANTS_IN_A_LIST: &str =
    r#"{"identity":"ben","language":"en","grants":[true,true,null,[],true]}"#;
const FOREIGN_VOICE: &str = r#"{"identity":"ben","language":"en","voice":"ef_dora"}"#;
const GOOD_TOKEN: &str = r#"{"identity":"ben","language":"en"}"#;

#[tokio::test]
async fn every_mistake_has_its_status_and_its_slug() {
    // method, path, who, content type, body, status, slug
    let cases = [
        // Paths and methods.
        ("GET", "/", "key", "", "", 404, "no-such-path"),
        ("GET", "/v2/rooms", "key", "", "", 404, "no-such-path"),
        ("GET", "/v1/rooms/lobby/nothing", "key", "", "", 404, "no-such-path"),
        ("PUT", "/v1/rooms", "key", "", "", 405, "method-not-allowed"),
        ("PATCH", ROOM, "key", "", "", 405, "method-not-allowed"),
        ("GET", TOKENS, "key", "", "", 405, "method-not-allowed"),
        ("GET", SESSIONS, "ana", "", "", 405, "method-not-allowed"),
        ("POST", EVENTS, "ana", "", "", 405, "method-not-allowed"),
        ("POST", "/healthz", "nobody", "", "", 405, "method-not-allowed"),
        ("POST", "/v1/languages", "nobody", "", "", 405, "method-not-allowed"),
        // Nobody, somebody else, somebody with too little.
        ("POST", "/v1/rooms", "nobody", JSON, "{}", 401, "missing-credentials"),
        ("GET", "/v1/rooms", "nobody", "", "", 401, "missing-credentials"),
        ("GET", ROOM, "nobody", "", "", 401, "missing-credentials"),
        ("DELETE", ROOM, "nobody", "", "", 401, "missing-credentials"),
        ("POST", TOKENS, "nobody", JSON, GOOD_TOKEN, 401, "missing-credentials"),
        ("POST", SESSIONS, "nobody", SDP, OFFER, 401, "missing-credentials"),
        ("DELETE", "/v1/rooms/lobby/sessions/x", "nobody", "", "", 401, "missing-credentials"),
        ("GET", EVENTS, "nobody", "", "", 401, "missing-credentials"),
        ("GET", "/v1/rooms", "basic", "", "", 401, "missing-credentials"),
        ("GET", "/v1/rooms", "bare key", "", "", 401, "missing-credentials"),
        ("GET", "/v1/rooms", "wrong key", "", "", 401, "invalid-token"),
        ("GET", ROOM, "tampered", "", "", 401, "invalid-token"),
        ("POST", SESSIONS, "tampered", SDP, OFFER, 401, "invalid-token"),
        ("GET", EVENTS, "tampered", "", "", 401, "invalid-token"),
        ("GET", "/v1/rooms/lobby/events?access_token=x", "nobody", "", "", 401, "invalid-token"),
        ("POST", "/v1/rooms", "ana", JSON, "{}", 403, "forbidden"),
        ("GET", "/v1/rooms", "moderator", "", "", 403, "forbidden"),
        ("POST", TOKENS, "moderator", JSON, GOOD_TOKEN, 403, "forbidden"),
        ("DELETE", ROOM, "ana", "", "", 403, "forbidden"),
        ("GET", ROOM, "stranger", "", "", 403, "forbidden"),
        ("DELETE", ROOM, "stranger", "", "", 403, "forbidden"),
        ("POST", SESSIONS, "stranger", SDP, OFFER, 403, "forbidden"),
        ("POST", SESSIONS, "mute", SDP, OFFER, 403, "forbidden"),
        ("POST", SESSIONS, "key", SDP, OFFER, 403, "forbidden"),
        ("DELETE", "/v1/rooms/lobby/sessions/x", "stranger", "", "", 403, "forbidden"),
        ("GET", EVENTS, "stranger", "", "", 403, "forbidden"),
        ("GET", EVENTS, "mute", "", "", 403, "forbidden"),
        // Things that are not there.
        ("GET", "/v1/rooms/nowhere", "key", "", "", 404, "no-such-room"),
        ("GET", "/v1/rooms/a%20b", "key", "", "", 404, "no-such-room"),
        ("GET", "/v1/rooms/%ff", "key", "", "", 404, "no-such-room"),
        ("DELETE", "/v1/rooms/nowhere", "key", "", "", 404, "no-such-room"),
        ("POST", "/v1/rooms/nowhere/tokens", "key", JSON, GOOD_TOKEN, 404, "no-such-room"),
        ("GET", "/v1/rooms/nowhere/events", "key", "", "", 404, "no-such-room"),
        ("POST", "/v1/rooms/elsewhere/sessions", "stranger", SDP, OFFER, 404, "no-such-room"),
        ("DELETE", "/v1/rooms/lobby/sessions/x", "ana", "", "", 404, "no-such-session"),
        ("DELETE", "/v1/rooms/lobby/sessions/%20", "ana", "", "", 404, "no-such-session"),
        // Bodies.
        ("POST", "/v1/rooms", "key", "", "{}", 415, "unsupported-media-type"),
        ("POST", "/v1/rooms", "key", "text/plain", "{}", 415, "unsupported-media-type"),
        ("POST", "/v1/rooms", "key", JSON, "", 400, "bad-json"),
        ("POST", "/v1/rooms", "key", JSON, "{", 400, "bad-json"),
        ("POST", "/v1/rooms", "key", JSON, "{} {}", 400, "bad-json"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"kind":"party"}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"unknown":1}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"name":"a b"}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"languages":["?"]}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"record":["?"]}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"relay":{"es":"?"}}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"relay":{"es":"es-MX"}}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"original_gain":1.5}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"max_participants":0}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"empty_timeout_s":31536001}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"departure_timeout_s":1e20}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"kind":{"call":null}}"#, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, "[]", 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, "{} {}", 400, "bad-json"),
        ("POST", TOKENS, "key", JSON, GRANTS_IN_A_LIST, 422, "invalid-field"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"name":"lobby"}"#, 409, "room-exists"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"name":"overload"}"#, 503, "overloaded"),
        ("POST", "/v1/rooms", "key", JSON, r#"{"name":"broken"}"#, 500, "internal"),
        ("POST", TOKENS, "key", JSON, r#"{"identity":"ben"}"#, 422, "invalid-field"),
        ("POST", TOKENS, "key", JSON, r#"{"identity":"","language":"en"}"#, 422, "invalid-field"),
        ("POST", TOKENS, "key", JSON, FOREIGN_VOICE, 422, "invalid-field"),
        ("POST", DEVELOPMENT, "nobody", JSON, GOOD_GUEST, 404, "no-development"),
        ("GET", DEVELOPMENT, "nobody", "", "", 405, "method-not-allowed"),
        ("POST", SESSIONS, "ana", "", OFFER, 415, "unsupported-media-type"),
        ("POST", SESSIONS, "ana", JSON, OFFER, 415, "unsupported-media-type"),
        ("POST", SESSIONS, "ana", "application/sdpx", OFFER, 415, "unsupported-media-type"),
        ("POST", SESSIONS, "ana", SDP, "", 400, "bad-sdp"),
        ("POST", SESSIONS, "ana", SDP, "hello", 400, "bad-sdp"),
        ("POST", SESSIONS, "ana", SDP, "v=0\r\nm=video 9\r\n", 422, "unacceptable-sdp"),
        (
            "PATCH",
            "/v1/rooms/lobby/sessions/x",
            "ana",
            SDP,
            FRAGMENT,
            415,
            "unsupported-media-type",
        ),
    ];
    let face = Face::new();
    for (method, path, who, kind, body, status, slug) in cases {
        let reply = ask(&face, method, path, who, kind, body).await;
        let case = format!("{method} {path} as {who} with {kind} {body:?}: {}", reply.text());
        assert_eq!(reply.status.as_u16(), status, "{case}");
        assert_eq!(reply.problem().kind, format!("/problems/{slug}"), "{case}");
        let challenge = reply.header("www-authenticate");
        assert_eq!(challenge.starts_with("Bearer"), status == 401, "{case}");
        assert_eq!(reply.header("allow").is_empty(), status != 405, "{case}");
        assert_eq!(reply.header("retry-after").is_empty(), status != 503, "{case}");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "{case}");
        assert!(!reply.text().contains("secret"), "{case}");
    }
}

#[tokio::test]
async fn bodies_over_their_limit_are_refused_announced_or_not() {
    let face = Face::new();
    let large = "x".repeat(64 * 1024 + 1);
    for (path, who, kind) in [("/v1/rooms", "key", JSON), (SESSIONS, "ana", SDP)] {
        let reply = ask(&face, "POST", path, who, kind, &large).await;
        assert_eq!(reply.status, 413);
        assert_eq!(reply.problem().kind, "/problems/body-too-large");

        let chunks =
            futures::stream::iter([large.clone(), large.clone()].map(Ok::<_, std::io::Error>));
        let request = Request::post(path)
            .header("authorization", credential(&face, who).unwrap())
            .header("content-type", kind)
            .body(Body::from_stream(chunks))
            .unwrap();
        let reply = face.send(request).await;
        assert_eq!(reply.status, 413, "{}", reply.text());
    }
}

#[tokio::test]
async fn an_offer_of_exactly_the_limit_is_read() {
    let face = Face::new();
    let offer = format!("{OFFER}{}", "x".repeat(64 * 1024 - OFFER.len()));
    let reply = ask(&face, "POST", SESSIONS, "ana", SDP, &offer).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_problem_and_the_next_request_is_served() {
    let face = Face::new();
    let reply = ask(&face, "POST", "/v1/rooms", "key", JSON, r#"{"name":"panic"}"#).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.problem().kind, "/problems/internal");
    assert!(!reply.text().contains("secret"));
    assert_eq!(ask(&face, "GET", "/healthz", "nobody", "", "").await.status, 200);
}

#[tokio::test]
async fn rooms_are_made_shown_and_ended() {
    let face = Face::new();
    let body = r#"{"name":"r1","kind":"conference","languages":["en","pt-BR"],"original_gain":0}"#;
    let reply = ask(&face, "POST", "/v1/rooms", "admin", "application/json; charset=utf-8", body);
    let reply = reply.await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("location"), "/v1/rooms/r1");
    let room: Room = reply.json();
    assert_eq!((room.name.as_str(), room.original_gain), ("r1", 0.0));

    let reply = ask(&face, "GET", "/v1/rooms", "lower-case scheme", "", "").await;
    assert_eq!(reply.json::<Vec<Room>>().len(), 2);
    let reply = ask(&face, "GET", ROOM, "ana", "", "").await;
    assert_eq!(reply.json::<Room>().name, "lobby");
    assert_eq!(ask(&face, "DELETE", "/v1/rooms/r1", "key", "", "").await.status, 204);
    assert_eq!(ask(&face, "GET", "/v1/rooms/r1", "key", "", "").await.status, 404);
    assert_eq!(ask(&face, "DELETE", ROOM, "moderator", "", "").await.status, 204);
}

#[tokio::test]
async fn a_minted_token_opens_a_session() {
    let face = Face::new();
    let request = CreateToken {
        identity: "ben".to_owned(),
        name: Some("Ben".to_owned()),
        language: "en".to_owned(),
        hear: Some("es".to_owned()),
        voice: Some("ef_dora".to_owned()),
        grants: Grants::default(),
        ttl_s: None,
    };
    let body = serde_json::to_string(&request).unwrap();
    let reply = ask(&face, "POST", TOKENS, "key", JSON, &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), "no-store");
    let token: Token = reply.json();
    assert_eq!(token.identity, "ben");

    let offer = Request::post(SESSIONS)
        .header("authorization", format!("Bearer {}", token.token))
        .header("content-type", "application/sdp; charset=utf-8")
        .body(Body::from(OFFER))
        .unwrap();
    let reply = face.send(offer).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/sdp");
    assert_eq!(reply.header("location"), "/v1/rooms/lobby/sessions/session-of-ben");
    assert_eq!(reply.header("etag"), format!("\"{ETAG}\""));
    let exposed = reply.header("access-control-expose-headers");
    assert!(exposed.contains("Location") && exposed.contains("ETag") && exposed.contains("Link"));
}

#[tokio::test]
async fn a_token_with_a_voice_that_is_not_here_opens_no_session() {
    let face = Face::new();
    let request = CreateToken {
        identity: "ana".to_owned(),
        name: None,
        language: "es".to_owned(),
        hear: None,
        voice: Some("somebody".to_owned()),
        grants: Grants::default(),
        ttl_s: None,
    };
    let token = mint_token(&face.token_key, "lobby", &request).unwrap().token;
    let offer = Request::post(SESSIONS)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", SDP)
        .body(Body::from(OFFER))
        .unwrap();
    let reply = face.send(offer).await;
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert!(reply.problem().detail.contains("ef_dora"), "{}", reply.text());
}

#[tokio::test]
async fn in_development_mode_anybody_gets_a_token_and_its_room_but_no_page_of_another_site() {
    let closed = Face::new();
    let shown: Development = ask(&closed, "GET", "/v1/development", "nobody", "", "").await.json();
    assert!(!shown.tokens);

    let face = Face::with_config(ApiConfig::new(API_KEY, None, true).unwrap());
    let shown: Development = ask(&face, "GET", "/v1/development", "nobody", "", "").await.json();
    assert!(shown.tokens);

    let ask_from = async |origin: &str, body: &str| {
        let mut request = Request::post(DEVELOPMENT)
            .header("content-type", JSON)
            .header("host", "127.0.0.1:8080");
        if !origin.is_empty() {
            request = request.header("origin", origin);
        }
        face.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    for origin in ["https://elsewhere.example", "null", "http://127.0.0.1:8081"] {
        let reply = ask_from(origin, GOOD_GUEST).await;
        assert_eq!(reply.problem().kind, "/problems/forbidden", "{origin}");
    }
    assert!(face.house.room("desk").is_err(), "a refusal makes no room");
    for body in [
        r#"{"room":"a b","language":"en"}"#,
        r#"{"room":"desk","language":"?"}"#,
        r#"{"room":"desk","language":"en","hear":"es","voice":"somebody"}"#,
        r#"{"room":"desk","language":"en","grants":{"interpret":["floor"]}}"#,
        r#"{"room":"desk","language":"en","kind":"party"}"#,
        r#"{"room":"desk","language":"en","languages":["?"]}"#,
    ] {
        let reply = ask_from("", body).await;
        assert_eq!(reply.problem().kind, "/problems/invalid-field", "{body}");
    }
    assert!(face.house.room("desk").is_err(), "a refusal makes no room");

    // Twice: the second finds the room there.
    for origin in ["", "http://127.0.0.1:8080"] {
        let reply = ask_from(origin, GOOD_GUEST).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let token: Token = reply.json();
        assert!(token.identity.starts_with("guest-"), "{}", token.identity);
        let shown = Request::get("/v1/rooms/desk")
            .header("authorization", format!("Bearer {}", token.token))
            .body(Body::empty())
            .unwrap();
        assert_eq!(face.send(shown).await.status, 200);
    }
    let large = format!(r#"{{"room":"{}"}}"#, "x".repeat(64 * 1024));
    assert_eq!(ask_from("", &large).await.status, 413);
}

#[tokio::test]
async fn voices_are_listed_with_their_language_and_engine() {
    let face = Face::new();
    let reply = ask(&face, "GET", "/v1/voices", "nobody", "", "").await;
    let expected = r#"[{"name":"ef_dora","language":"es","engine":"kokoro","kind":"built-in"}]"#;
    assert_eq!(reply.text(), expected);
}

#[tokio::test]
async fn an_identity_and_a_seat_are_taken_once() {
    let face = Face::new();
    assert_eq!(ask(&face, "POST", SESSIONS, "ana", SDP, OFFER).await.status, 201);
    let reply = ask(&face, "POST", SESSIONS, "ana", SDP, OFFER).await;
    assert_eq!(
        (reply.status.as_u16(), reply.problem().kind.as_str()),
        (409, "/problems/identity-taken")
    );
    assert_eq!(ask(&face, "POST", SESSIONS, "moderator", SDP, OFFER).await.status, 201);
    let third = face.token("lobby", "third", Grants::default());
    let request = Request::post(SESSIONS)
        .header("authorization", format!("Bearer {}", third.token))
        .header("content-type", SDP)
        .body(Body::from(OFFER))
        .unwrap();
    let reply = face.send(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.problem().kind.as_str()),
        (409, "/problems/room-full")
    );
    let session = "/v1/rooms/lobby/sessions/session-of-ana";
    assert_eq!(ask(&face, "DELETE", session, "ana", "", "").await.status, 200);
    assert_eq!(ask(&face, "DELETE", session, "ana", "", "").await.status, 404);
}

#[tokio::test]
async fn trickled_candidates_are_taken_and_new_credentials_restart_ice() {
    const RESTART: &str = "a=ice-ufrag:new1\r\na=ice-pwd:0123456789012345678901\r\n";
    const HALF: &str = "a=ice-ufrag:new1\r\n";
    const CANDIDATE: &str = "a=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";
    let face = Face::new();
    assert_eq!(ask(&face, "POST", SESSIONS, "ana", SDP, OFFER).await.status, 201);
    let cases = [
        ("session-of-ana", Some("\"etag-1\""), FRAGMENT, 204, ""),
        ("session-of-ana", Some("\"etag-1\""), RESTART, 200, ""),
        ("session-of-ana", Some("*"), RESTART, 200, ""),
        ("session-of-ana", Some("\"*\""), RESTART, 200, ""),
        ("session-of-ana", None, FRAGMENT, 428, "precondition-required"),
        ("session-of-ana", None, RESTART, 428, "precondition-required"),
        ("session-of-ana", Some("\"old\""), FRAGMENT, 412, "precondition-failed"),
        ("session-of-ana", Some("\"old\""), RESTART, 412, "precondition-failed"),
        ("session-of-ana", Some("etag-1"), FRAGMENT, 412, "precondition-failed"),
        ("session-of-ana", Some("W/\"etag-1\""), FRAGMENT, 412, "precondition-failed"),
        ("session-of-ana", Some("*"), FRAGMENT, 422, "no-ice-credentials"),
        ("session-of-ana", Some("*"), CANDIDATE, 422, "no-ice-credentials"),
        ("session-of-ana", Some("*"), HALF, 400, "bad-fragment"),
        ("session-of-ana", Some("\"etag-1\""), "hello", 400, "bad-fragment"),
        ("session-of-ana", Some("\"etag-1\""), "", 400, "bad-fragment"),
        ("session-of-eve", Some("\"etag-1\""), FRAGMENT, 404, "no-such-session"),
    ];
    for (session, if_match, fragment, status, slug) in cases {
        let mut request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{SESSIONS}/{session}"))
            .header("authorization", credential(&face, "ana").unwrap())
            .header("content-type", "application/trickle-ice-sdpfrag");
        if let Some(if_match) = if_match {
            request = request.header("if-match", if_match);
        }
        let reply = face.send(request.body(Body::from(fragment)).unwrap()).await;
        assert_eq!(reply.status.as_u16(), status, "{if_match:?} {fragment:?}: {}", reply.text());
        if !slug.is_empty() {
            assert_eq!(reply.problem().kind, format!("/problems/{slug}"));
        }
        if status == 200 {
            assert_eq!(reply.header("content-type"), "application/trickle-ice-sdpfrag");
            assert_eq!(reply.header("etag"), "\"etag-2\"");
            assert!(reply.text().contains("a=ice-ufrag:ours\r\n"));
        } else {
            // RFC 9725 §4.3.2: an answer to candidates carries no tag.
            assert_eq!(reply.header("etag"), "");
        }
    }
}

#[tokio::test]
async fn preflights_need_no_credentials_and_name_what_may_be_posted() {
    let face = Face::new();
    for path in ["/v1/rooms", ROOM, TOKENS, SESSIONS, "/v1/rooms/lobby/sessions/x", EVENTS] {
        let reply = ask(&face, "OPTIONS", path, "nobody", "", "").await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert!(reply.header("access-control-allow-headers").contains("Authorization"));
        assert!(reply.header("access-control-allow-methods").contains("OPTIONS"));
        let accepts = match path {
            SESSIONS => "application/sdp",
            "/v1/rooms" | TOKENS => "application/json",
            _ => "",
        };
        assert_eq!(reply.header("accept-post"), accepts, "{path}");
    }
}

#[tokio::test]
async fn health_is_always_ok_and_readiness_waits_for_the_models() {
    let face = Face::new();
    assert_eq!(ask(&face, "GET", "/readyz", "nobody", "", "").await.status, 200);
    face.house.loading.store(true, Ordering::Relaxed);
    assert_eq!(ask(&face, "GET", "/healthz", "nobody", "", "").await.status, 200);
    for (method, path, who, kind, body) in
        [("GET", "/readyz", "nobody", "", ""), ("POST", SESSIONS, "ana", SDP, OFFER)]
    {
        let reply = ask(&face, method, path, who, kind, body).await;
        assert_eq!(reply.status, 503);
        assert_eq!(reply.problem().detail, "whisper-base is still loading");
        assert_eq!(reply.header("retry-after"), "5");
    }
}

#[tokio::test]
async fn languages_are_public() {
    let face = Face::new();
    let reply = ask(&face, "GET", "/v1/languages", "nobody", "", "").await;
    assert_eq!(reply.json::<Vec<LanguageInfo>>()[0].targets, ["es"]);
}
