//! WHIP, WHEP and the sessions for both ways: what each takes, and every status that it answers.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::Ordering;

use common::{API_KEY, ETAG, Face, Reply};
use signaling::house::{House, Role};
use signaling::wire::{CreateRoom, Grants, IceServers, RoomKind};
use signaling::{ApiConfig, TurnConfig};

const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
const SDP: (&str, &str) = ("content-type", "application/sdp");
const JSON: (&str, &str) = ("content-type", "application/json");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");
const CANDIDATE: &str = "a=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";
const RESTART: &str = "a=ice-ufrag:new1\r\na=ice-pwd:0123456789012345678901\r\n";
const WHIP: &str = "/v1/rooms/hall/whip";
const WHEP: &str = "/v1/rooms/hall/whep";
const SESSIONS: &str = "/v1/rooms/hall/sessions";

/// A face whose `hall` is a conference in English, Spanish and French for four.
fn face() -> Face {
    with_config(ApiConfig::new(API_KEY, None, false).unwrap())
}

fn with_config(config: ApiConfig) -> Face {
    let face = Face::with_config(config);
    let hall = CreateRoom {
        name: Some("hall".to_owned()),
        kind: RoomKind::Conference,
        languages: ["en", "es", "fr"].map(ToOwned::to_owned).to_vec(),
        max_participants: Some(4),
        ..CreateRoom::default()
    };
    face.house.create_room(hall).unwrap();
    face
}

fn grants(speak: bool, listen: bool) -> Grants {
    Grants { speak, listen, ..Grants::default() }
}

/// The value of `Authorization` by name. Each is an identity of the hall, who speaks Spanish.
fn credential(face: &Face, who: &str) -> String {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (room, grants) = match who {
        "key" => return format!("Bearer {API_KEY}"),
        "nonsense" => return "Bearer nonsense".to_owned(),
        "ana" | "ben" | "zoe" | "tom" => ("hall", grants(true, true)),
        "speaker" => ("hall", grants(true, false)),
        "listener" => ("hall", grants(false, true)),
        "french" => {
            ("hall", Grants { channels: Some(list(&["fr-CA", "floor"])), ..grants(false, true) })
        }
        "choosy" => ("hall", Grants { channels: Some(list(&["fr"])), ..grants(true, false) }),
        "interpreter" | "other" => {
            ("hall", Grants { interpret: list(&["fr", "xx"]), ..grants(false, false) })
        }
        "moderator" => ("hall", Grants { moderate: true, ..grants(false, false) }),
        "stranger" => ("lobby", Grants { moderate: true, ..grants(true, true) }),
        other => panic!("nobody is called {other}"),
    };
    format!("Bearer {}", face.token(room, who, grants).token)
}

async fn ask(
    face: &Face,
    method: &str,
    path: &str,
    who: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let credential = if who.is_empty() { String::new() } else { credential(face, who) };
    let mut headers = headers.to_vec();
    if !credential.is_empty() {
        headers.push(("authorization", &credential));
    }
    face.ask(method, path, &headers, body.to_owned()).await
}

fn assert_problem(reply: &Reply, status: u16, slug: &str, case: &str) {
    assert_eq!(reply.status.as_u16(), status, "{case}: {}", reply.text());
    assert_eq!(reply.problem().kind, format!("/problems/{slug}"), "{case}");
    assert_eq!(reply.header("www-authenticate").starts_with("Bearer"), status == 401, "{case}");
    assert_eq!(reply.header("allow").is_empty(), status != 405, "{case}");
    assert_eq!(reply.header("retry-after").is_empty(), status != 503, "{case}");
    assert_eq!(reply.header("access-control-allow-origin"), "*", "{case}");
}

#[tokio::test]
async fn an_offer_gets_the_status_that_it_deserves_at_every_door() {
    // Who may knock at which door, then what is wrong with the rest of the request.
    let doors = [(WHIP, "speaker"), (WHEP, "listener"), (SESSIONS, "ana")];
    let html = ("accept", "text/html, application/sdp;q=0");
    let large = "x".repeat(64 * 1024 + 1);
    for (door, who) in doors {
        let face = face();
        let nowhere = door.replace("hall", "nowhere");
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
        let cases: &[Case<'_>] = &[
            (door, who, &[SDP], "hello", 400, "bad-sdp"),
            (door, who, &[SDP], "", 400, "bad-sdp"),
            (door, "", &[SDP], OFFER, 401, "missing-credentials"),
            (door, "nonsense", &[SDP], OFFER, 401, "invalid-token"),
            (door, "stranger", &[SDP], OFFER, 403, "forbidden"),
            (door, "key", &[SDP], OFFER, 403, "forbidden"),
            (door, "moderator", &[SDP], OFFER, 403, "forbidden"),
            (&nowhere, who, &[SDP], OFFER, 403, "forbidden"),
            (door, who, &[SDP, html], OFFER, 406, "not-acceptable"),
            (door, who, &[SDP], &large, 413, "body-too-large"),
            (door, who, &[JSON], OFFER, 415, "unsupported-media-type"),
            (door, who, &[], OFFER, 415, "unsupported-media-type"),
            (door, who, &[SDP], "v=0\r\nm=video 9\r\n", 422, "unacceptable-sdp"),
            (door, who, &[SDP], "v=0\r\ns=overload\r\nm=audio 9\r\n", 503, "overloaded"),
        ];
        for (path, who, headers, body, status, slug) in cases {
            let reply = ask(&face, "POST", path, who, headers, body).await;
            let case = format!("{path} as {who:?} with {headers:?}");
            assert_problem(&reply, *status, slug, &case);
            let suggested = if *status == 415 { "application/sdp" } else { "" };
            assert_eq!(reply.header("accept-post"), suggested, "{case}");
        }
        for method in ["PUT", "PATCH", "DELETE"] {
            let reply = ask(&face, method, door, who, &[SDP], OFFER).await;
            assert_problem(&reply, 405, "method-not-allowed", method);
            assert!(reply.header("allow").contains("POST"), "{}", reply.header("allow"));
        }

        face.house.loading.store(true, Ordering::Relaxed);
        let reply = ask(&face, "POST", door, who, &[SDP], OFFER).await;
        assert_problem(&reply, 503, "not-ready", door);
        face.house.loading.store(false, Ordering::Relaxed);

        assert_eq!(ask(&face, "POST", door, who, &[SDP], OFFER).await.status, 201);
        let reply = ask(&face, "POST", door, who, &[SDP], OFFER).await;
        assert_problem(&reply, 409, "identity-taken", door);
        face.house.delete_room("hall").unwrap();
        let reply = ask(&face, "POST", door, who, &[SDP], OFFER).await;
        assert_problem(&reply, 404, "no-such-room", door);
    }
}

#[tokio::test]
async fn a_parameter_that_cannot_be_used_is_named() {
    let face = face();
    let cases = [
        (WHIP, "ana", "chanel=fr", "chanel"),
        (WHIP, "ana", "original_gain=0.2", "original_gain"),
        (WHIP, "ana", "channel=?", "channel"),
        (WHIP, "ana", "channel=", "channel"),
        (WHIP, "interpreter", "channel=fr&channel=fr", "channel"),
        (WHIP, "ana", "relay=fr", "relay"),
        (WHIP, "interpreter", "channel=fr&relay=fr", "relay"),
        (WHIP, "interpreter", "channel=fr&relay=%ff", "relay"),
        (WHEP, "ana", "relay=fr", "relay"),
        (WHEP, "ana", "channel=e", "channel"),
        (WHEP, "ana", "original_gain=1.1", "original_gain"),
        (WHEP, "ana", "original_gain=nan", "original_gain"),
        (WHEP, "ana", "original_gain=loud", "original_gain"),
        (SESSIONS, "ana", "original_gain=-0.1", "original_gain"),
        (SESSIONS, "ana", "channel=all%20of%20them", "channel"),
    ];
    for (door, who, query, parameter) in cases {
        let reply = ask(&face, "POST", &format!("{door}?{query}"), who, &[SDP], OFFER).await;
        assert_problem(&reply, 400, "invalid-parameter", query);
        let detail = reply.problem().detail;
        assert!(detail.starts_with(&format!("{parameter}: ")), "{query}: {detail}");
    }
    assert!(face.house.room("hall").unwrap().participants.is_empty());
}

#[tokio::test]
async fn a_channel_takes_its_grant() {
    let cases = [
        // Publishing onto the floor takes `speak`, into a channel `interpret`.
        (WHIP, "ana", "", 201),
        (WHIP, "ana", "channel=floor", 201),
        (WHIP, "listener", "", 403),
        (WHIP, "interpreter", "", 403),
        (WHIP, "interpreter", "channel=floor", 403),
        (WHIP, "interpreter", "channel=FR", 404),
        (WHIP, "interpreter", "channel=fr", 201),
        (WHIP, "interpreter", "channel=fr&relay=es", 201),
        (WHIP, "interpreter", "channel=es", 403),
        (WHIP, "interpreter", "channel=xx", 404),
        (WHIP, "ana", "channel=fr", 403),
        // Listening takes `listen`, and the channel when the token names some.
        (WHEP, "listener", "", 201),
        (WHEP, "listener", "channel=fr&original_gain=0.2", 201),
        (WHEP, "listener", "channel=xx", 404),
        (WHEP, "speaker", "", 403),
        (WHEP, "french", "channel=fr", 201),
        (WHEP, "french", "channel=floor", 201),
        (WHEP, "french", "channel=es", 403),
        (SESSIONS, "french", "channel=fr", 201),
        (SESSIONS, "french", "channel=es", 403),
        (SESSIONS, "speaker", "", 201),
        // Whose token names channels and lets them hear none of them.
        (SESSIONS, "choosy", "", 201),
        (WHIP, "choosy", "", 201),
        (SESSIONS, "speaker", "channel=es", 403),
        (SESSIONS, "listener", "channel=xx", 404),
    ];
    for (door, who, query, status) in cases {
        let face = face();
        let reply = ask(&face, "POST", &format!("{door}?{query}"), who, &[SDP], OFFER).await;
        let case = format!("{door}?{query} as {who}");
        match status {
            201 => assert_eq!(reply.status, 201, "{case}: {}", reply.text()),
            403 => assert_problem(&reply, 403, "forbidden", &case),
            _ => assert_problem(&reply, status, "no-such-channel", &case),
        }
        let there = face.house.room("hall").unwrap().participants.len();
        assert_eq!(there, usize::from(status == 201), "{case}");
    }
}

#[tokio::test]
async fn the_house_is_told_what_a_session_is_for() {
    let face = face();
    let interpret = format!("{WHIP}?channel=fr&relay=es");
    ask(&face, "POST", &interpret, "interpreter", &[SDP], OFFER).await;
    let caller = face.house.caller("hall", "session-of-interpreter").unwrap();
    let (channel, relay) = (Some("fr".to_owned()), Some("es".to_owned()));
    assert_eq!(caller.role, Role::Publish { channel, relay });
    assert!(caller.grants.speak && !caller.grants.listen, "it sends, and that is all");

    ask(&face, "POST", &format!("{WHEP}?channel=floor&original_gain=0.4"), "ana", &[SDP], OFFER)
        .await;
    let caller = face.house.caller("hall", "session-of-ana").unwrap();
    assert_eq!(caller.role, Role::Listen { channel: Some("floor".to_owned()) });
    assert_eq!(caller.original_gain, Some(0.4));
    assert!(!caller.grants.speak && caller.grants.listen, "it receives, and that is all");

    let both = format!("{SESSIONS}?channel=fr&original_gain=1");
    ask(&face, "POST", &both, "ben", &[SDP], OFFER).await;
    let caller = face.house.caller("hall", "session-of-ben").unwrap();
    let role = Role::Both { channel: Some("fr".to_owned()) };
    assert_eq!((caller.role, caller.original_gain), (role, Some(1.0)));

    let reply = ask(&face, "POST", &format!("{WHIP}?channel=fr"), "other", &[SDP], OFFER).await;
    assert_problem(&reply, 409, "channel-taken", "a second interpreter");
    ask(&face, "POST", WHIP, "zoe", &[SDP], OFFER).await;
    let reply = ask(&face, "POST", WHIP, "tom", &[SDP], OFFER).await;
    assert_problem(&reply, 409, "room-full", "a fifth participant");
}

#[tokio::test]
async fn an_answer_names_its_session_its_tag_and_the_ice_servers() {
    let turn = TurnConfig {
        stun: vec!["stun:stun.example.org".to_owned()],
        urls: vec!["turn:turn.example.org?transport=udp".to_owned()],
        secret: Some("north".to_owned()),
        ..TurnConfig::default()
    };
    let config = ApiConfig::new(API_KEY, None, false).unwrap().with_turn(turn).unwrap();
    for (door, who) in [(WHIP, "speaker"), (WHEP, "listener"), (SESSIONS, "ana")] {
        let face = with_config(config.clone());
        let accept = ("accept", "application/sdp, */*;q=0.1");
        let reply = ask(&face, "POST", door, who, &[SDP, accept], OFFER).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(reply.header("content-type"), "application/sdp");
        assert_eq!(reply.header("location"), format!("{door}/session-of-{who}"));
        assert_eq!(reply.header("etag"), format!("\"{ETAG}\""));
        assert_eq!(reply.header("cache-control"), "no-store");
        let links: Vec<_> =
            reply.headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
        assert_eq!(links[0], "<stun:stun.example.org>; rel=\"ice-server\"");
        let turn = "<turn:turn.example.org?transport=udp>; rel=\"ice-server\"; username=\"";
        assert!(links[1].starts_with(turn), "{}", links[1]);
        assert!(links[1].contains(&format!(":{who}\"; credential=\"")), "{}", links[1]);
        assert!(links[1].ends_with("; credential-type=\"password\""), "{}", links[1]);
        assert_eq!(links.len(), 2);

        let reply = ask(&face, "GET", "/v1/rooms/hall/ice-servers", who, &[], "").await;
        assert_eq!(reply.header("cache-control"), "no-store");
        let servers = reply.json::<IceServers>().ice_servers;
        assert_eq!(servers[0].urls, ["stun:stun.example.org"]);
        assert!(servers[1].username.as_ref().unwrap().ends_with(&format!(":{who}")));
        assert!(links[1].contains(servers[1].credential.as_ref().unwrap()), "within one second");
    }
    let face = face();
    let path = "/v1/rooms/hall/ice-servers";
    assert_eq!(ask(&face, "GET", path, "ana", &[], "").await.text(), r#"{"iceServers":[]}"#);
    assert_problem(&ask(&face, "GET", path, "", &[], "").await, 401, "missing-credentials", path);
    assert_problem(&ask(&face, "GET", path, "stranger", &[], "").await, 403, "forbidden", path);
}

#[tokio::test]
async fn a_session_gets_the_status_that_it_deserves_at_every_door() {
    for (door, who) in [(WHIP, "speaker"), (WHEP, "listener"), (SESSIONS, "ana")] {
        let face = face();
        let reply = ask(&face, "POST", door, who, &[SDP], OFFER).await;
        let session = reply.header("location").to_owned();
        let gone = format!("{door}/session-of-nobody");
        let large = "a=x\r\n".repeat(14_000);
        let tag = ("if-match", "\"etag-1\"");
        let old = ("if-match", "\"old\"");
        let any = ("if-match", "*");
        type Case<'a> =
            (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
        let cases: &[Case<'_>] = &[
            ("PATCH", &session, who, &[FRAGMENT, tag], CANDIDATE, 204, ""),
            ("PATCH", &session, who, &[FRAGMENT, tag], RESTART, 200, ""),
            ("PATCH", &session, who, &[FRAGMENT, any], RESTART, 200, ""),
            ("PATCH", &session, "moderator", &[FRAGMENT, tag], CANDIDATE, 204, ""),
            ("PATCH", &session, "key", &[FRAGMENT, tag], CANDIDATE, 204, ""),
            ("PATCH", &session, who, &[FRAGMENT, tag], "hello", 400, "bad-fragment"),
            ("PATCH", &session, "", &[FRAGMENT, tag], CANDIDATE, 401, "missing-credentials"),
            ("PATCH", &session, "nonsense", &[FRAGMENT, tag], CANDIDATE, 401, "invalid-token"),
            ("PATCH", &session, "ben", &[FRAGMENT, tag], CANDIDATE, 403, "forbidden"),
            ("PATCH", &session, "stranger", &[FRAGMENT, tag], CANDIDATE, 403, "forbidden"),
            ("PATCH", &gone, who, &[FRAGMENT, tag], CANDIDATE, 404, "no-such-session"),
            ("PATCH", &session, who, &[FRAGMENT, old], CANDIDATE, 412, "precondition-failed"),
            ("PATCH", &session, who, &[FRAGMENT, tag], &large, 413, "body-too-large"),
            ("PATCH", &session, who, &[SDP, tag], CANDIDATE, 415, "unsupported-media-type"),
            ("PATCH", &session, who, &[tag], CANDIDATE, 415, "unsupported-media-type"),
            ("PATCH", &session, who, &[FRAGMENT, any], CANDIDATE, 422, "no-ice-credentials"),
            ("PATCH", &session, who, &[FRAGMENT], CANDIDATE, 428, "precondition-required"),
            ("GET", &session, who, &[], "", 204, ""),
            ("HEAD", &session, "moderator", &[], "", 204, ""),
            ("GET", &session, "", &[], "", 401, "missing-credentials"),
            ("GET", &session, "ben", &[], "", 403, "forbidden"),
            ("GET", &gone, who, &[], "", 404, "no-such-session"),
            ("POST", &session, who, &[SDP], OFFER, 405, "method-not-allowed"),
            ("PUT", &session, who, &[SDP], OFFER, 405, "method-not-allowed"),
            ("DELETE", &session, "", &[], "", 401, "missing-credentials"),
            ("DELETE", &session, "ben", &[], "", 403, "forbidden"),
            ("DELETE", &session, "stranger", &[], "", 403, "forbidden"),
            ("DELETE", &gone, who, &[], "", 404, "no-such-session"),
            ("DELETE", &session, who, &[], "", 200, ""),
            ("DELETE", &session, who, &[], "", 404, "no-such-session"),
        ];
        for (method, path, who, headers, body, status, slug) in cases {
            let reply = ask(&face, method, path, who, headers, body).await;
            let case = format!("{method} {path} as {who:?} with {headers:?}");
            if slug.is_empty() {
                assert_eq!(reply.status.as_u16(), *status, "{case}: {}", reply.text());
                assert_eq!(reply.text().is_empty(), !reply.text().contains("ice-ufrag"), "{case}");
            } else {
                assert_problem(&reply, *status, slug, &case);
            }
            assert_eq!(reply.header("etag").is_empty(), body != &RESTART, "{case}");
            assert_eq!(reply.header("accept-patch").is_empty(), *status != 415, "{case}");
        }
        // Who moderates the room ends any session in it, and so does the administrator.
        for ender in ["moderator", "key"] {
            assert_eq!(ask(&face, "POST", door, who, &[SDP], OFFER).await.status, 201);
            let reply = ask(&face, "DELETE", &session, ender, &[], "").await;
            assert_eq!(reply.status, 200, "{ender}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn what_a_session_hears_is_changed_by_patch() {
    let face = face();
    ask(&face, "POST", &format!("{WHEP}?channel=fr"), "french", &[SDP], OFFER).await;
    ask(&face, "POST", SESSIONS, "ana", &[SDP], OFFER).await;
    ask(&face, "POST", WHIP, "speaker", &[SDP], OFFER).await;
    let (french, ana) = (format!("{WHEP}/session-of-french"), format!("{SESSIONS}/session-of-ana"));
    let speaker = format!("{WHIP}/session-of-speaker");
    let utf8 = ("content-type", "application/json; charset=utf-8");
    let cases = [
        (&french, "french", JSON, r#"{"channel":"floor"}"#, 204, ""),
        (&french, "french", JSON, r#"{"original_gain":0.4}"#, 204, ""),
        (&french, "moderator", JSON, r#"{"channel":"es","original_gain":0}"#, 204, ""),
        (&ana, "ana", utf8, r#"{"channel":"es"}"#, 204, ""),
        (&ana, "ana", JSON, "{}", 204, ""),
        (&french, "french", JSON, r#"{"channel":"es"}"#, 403, "forbidden"),
        (&french, "ana", JSON, r#"{"channel":"fr"}"#, 403, "forbidden"),
        (&ana, "ana", JSON, r#"{"channel":"xx"}"#, 404, "no-such-channel"),
        (&ana, "ana", JSON, r#"{"channel":"?"}"#, 422, "invalid-field"),
        (&ana, "ana", JSON, r#"{"original_gain":1.1}"#, 422, "invalid-field"),
        (&ana, "ana", JSON, r#"{"volume":1}"#, 422, "invalid-field"),
        (&ana, "ana", JSON, "{", 400, "bad-json"),
        // Who publishes hears nothing.
        (&speaker, "speaker", JSON, r#"{"channel":"fr"}"#, 415, "unsupported-media-type"),
    ];
    for (path, who, kind, body, status, slug) in cases {
        let reply = ask(&face, "PATCH", path, who, &[kind], body).await;
        if slug.is_empty() {
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, ""), "{body}");
        } else {
            assert_problem(&reply, status, slug, body);
        }
    }
    let changes = face.house.changes("hall");
    assert_eq!(changes.len(), 5);
    assert_eq!(changes[2].original_gain, Some(0.0));
}

#[tokio::test]
async fn options_and_get_tell_what_a_door_is() {
    let face = face();
    for door in [WHIP, WHEP] {
        let reply = ask(&face, "OPTIONS", door, "", &[], "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("accept-post"), "application/sdp");
        assert_eq!(reply.header("allow"), "GET, HEAD, POST, OPTIONS");
        let exposed = reply.header("access-control-expose-headers");
        assert!(["Location", "Link", "ETag"].iter().all(|name| exposed.contains(name)));

        let reply = ask(&face, "GET", door, "ana", &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (204, ""));
        assert_eq!(ask(&face, "HEAD", door, "ana", &[], "").await.status, 204);
        assert_problem(
            &ask(&face, "GET", door, "", &[], "").await,
            401,
            "missing-credentials",
            door,
        );
        assert_problem(&ask(&face, "GET", door, "stranger", &[], "").await, 403, "forbidden", door);
    }
    for (door, accepted) in [
        (WHIP, "application/trickle-ice-sdpfrag"),
        (WHEP, "application/trickle-ice-sdpfrag, application/json"),
        (SESSIONS, "application/trickle-ice-sdpfrag, application/json"),
    ] {
        let reply = ask(&face, "OPTIONS", &format!("{door}/x"), "", &[], "").await;
        assert_eq!(reply.header("accept-patch"), accepted);
        assert_eq!(reply.header("allow"), "GET, HEAD, PATCH, DELETE, OPTIONS");
        assert!(reply.header("access-control-allow-headers").contains("If-Match"));
    }
}
