//! Keys, tokens, and who may do what with them: rotation, LiveKit's claims, removal, moderation.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{API_KEY, Face, Lines};
use signaling::house::House;
use signaling::wire::{CreateToken, Grants, Participant, Room, RoomKind, Token};
use signaling::{ApiConfig, ApiKey, NamedKey, mint_admin_token, mint_livekit_token, mint_token};

const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
const SDP: (&str, &str) = ("content-type", "application/sdp");
const JSON: (&str, &str) = ("content-type", "application/json");
const ROOM: &str = "/v1/rooms/lobby";
const TOKENS: &str = "/v1/rooms/lobby/tokens";
const PEOPLE: &str = "/v1/rooms/lobby/participants";
const OLD_KEY: &str = "fedcba9876543210fedcba9876543210";

fn bearer(credential: &str) -> String {
    format!("Bearer {credential}")
}

fn key(name: &str, key: &str) -> NamedKey {
    NamedKey::new(name, ApiKey::parse(key, false).unwrap()).unwrap()
}

fn request(identity: &str, grants: Grants) -> CreateToken {
    CreateToken {
        identity: identity.to_owned(),
        name: None,
        language: "es".to_owned(),
        hear: None,
        voice: None,
        grants,
        ttl_s: Some(60),
    }
}

fn moderator() -> Grants {
    Grants { moderate: true, ..Grants::default() }
}

async fn status(face: &Face, method: &str, path: &str, credential: &str) -> (u16, String) {
    let bearer = bearer(credential);
    let reply = face.ask(method, path, &[("authorization", &bearer)], "").await;
    let slug = if reply.status.is_success() { String::new() } else { reply.problem().kind };
    (reply.status.as_u16(), slug.trim_start_matches("/problems/").to_owned())
}

/// Joins the lobby and gives the session's address.
async fn join(face: &Face, token: &str) -> String {
    let bearer = bearer(token);
    let path = "/v1/rooms/lobby/sessions";
    let reply = face.ask("POST", path, &[SDP, ("authorization", &bearer)], OFFER).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.header("location").to_owned()
}

#[tokio::test]
async fn every_key_administers_and_its_tokens_are_taken_while_the_first_signs() {
    let keys = vec![key("new", API_KEY), key("old", OLD_KEY)];
    let face = Face::with_config(ApiConfig::with_keys(keys, false).unwrap());
    let third = "0".repeat(32);
    for (credential, expected) in [(API_KEY, 200), (OLD_KEY, 200), (third.as_str(), 401)] {
        assert_eq!(status(&face, "GET", "/v1/rooms", credential).await.0, expected);
    }
    let bearer = bearer(OLD_KEY);
    let body = serde_json::to_string(&request("ana", Grants::default())).unwrap();
    let reply = face.ask("POST", TOKENS, &[JSON, ("authorization", &bearer)], body).await;
    let minted = reply.json::<Token>().token;
    let elsewhere = |ring: Vec<NamedKey>| {
        let config = ApiConfig::with_keys(ring, false).unwrap();
        mint_token(config.token_key(), "lobby", &request("ana", Grants::default())).unwrap().token
    };
    let old = elsewhere(vec![key("old", OLD_KEY)]);
    let foreign = elsewhere(vec![key("old", &third)]);
    for (token, expected) in [(&minted, 200), (&old, 200), (&foreign, 401)] {
        assert_eq!(status(&face, "GET", ROOM, token).await.0, expected);
    }
    // Once the old key is gone, only what the new one signed is good.
    let face = Face::with_config(ApiConfig::with_keys(vec![key("new", API_KEY)], false).unwrap());
    assert_eq!(status(&face, "GET", ROOM, &minted).await.0, 200);
    assert_eq!(status(&face, "GET", ROOM, &old).await, (401, "invalid-token".to_owned()));
}

#[tokio::test]
async fn tokens_are_made_with_a_key_or_an_admin_token_and_by_no_participant() {
    let face = Face::new();
    let admin = mint_admin_token(&face.token_key, "office", None).unwrap().token;
    let all = Grants { interpret: vec!["fr".to_owned()], ..moderator() };
    let participant = face.token("lobby", "ana", all.clone()).token;
    let livekit = mint_livekit_token(&key("default", API_KEY), "lobby", &request("ana", all));
    let body = serde_json::to_string(&request("ben", Grants::default())).unwrap();
    for (credential, expected) in [
        (API_KEY, 201),
        (admin.as_str(), 201),
        (participant.as_str(), 403),
        (livekit.unwrap().token.as_str(), 403),
    ] {
        let bearer = bearer(credential);
        let headers = [JSON, ("authorization", bearer.as_str())];
        let reply = face.ask("POST", TOKENS, &headers, body.clone()).await;
        assert_eq!(reply.status, expected, "{}", reply.text());
    }
    // What an admin token opens beside.
    assert_eq!(status(&face, "GET", "/v1/rooms", &admin).await.0, 200);
    assert_eq!(status(&face, "GET", PEOPLE, &admin).await.0, 200);
    assert_eq!(status(&face, "DELETE", ROOM, &admin).await.0, 204);
}

#[tokio::test]
async fn channels_in_a_token_are_checked() {
    let face = Face::new();
    let bearer = bearer(API_KEY);
    for (grants, expected) in [
        (r#"{"channels":["es","floor"],"interpret":["fr","pt-BR"]}"#, 201),
        (r#"{"channels":[]}"#, 201),
        (r#"{"channels":["?"]}"#, 422),
        (r#"{"interpret":["floor"]}"#, 422),
        (r#"{"interpret":["e"]}"#, 422),
    ] {
        let body = format!(r#"{{"identity":"ana","language":"es","grants":{grants}}}"#);
        let reply = face.ask("POST", TOKENS, &[JSON, ("authorization", &bearer)], body).await;
        assert_eq!(reply.status, expected, "{grants}: {}", reply.text());
        if expected == 422 {
            assert!(reply.problem().detail.starts_with("grants."), "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn livekits_claims_open_what_ours_do() {
    let face = Face::new();
    let bearer_key = bearer(API_KEY);
    let body = serde_json::to_string(&request("ana", moderator())).unwrap();
    let path = format!("{TOKENS}?claims=livekit");
    let reply =
        face.ask("POST", &path, &[JSON, ("authorization", &bearer_key)], body.clone()).await;
    let token = reply.json::<Token>().token;
    join(&face, &token).await;
    assert_eq!(status(&face, "GET", PEOPLE, &token).await.0, 200);
    assert_eq!(status(&face, "GET", "/v1/rooms", &token).await.0, 403);
    assert_eq!(status(&face, "DELETE", ROOM, &token).await.0, 204);

    let path = format!("{TOKENS}?claims=saml");
    let reply = face.ask("POST", &path, &[JSON, ("authorization", &bearer_key)], body).await;
    assert_eq!(reply.problem().kind, "/problems/invalid-parameter");
}

#[tokio::test]
async fn whoever_is_removed_is_out_until_they_get_a_new_token() {
    let face = Face::new();
    let chair = face.token("lobby", "chair", moderator()).token;
    let ana = face.token("lobby", "ana", Grants::default()).token;
    let livekit =
        mint_livekit_token(&key("default", API_KEY), "lobby", &request("ana", Grants::default()));
    let livekit = livekit.unwrap().token;
    let elsewhere = face.token("other", "ana", Grants::default()).token;
    let session = join(&face, &ana).await;
    let ana_there = format!("{PEOPLE}/ana");

    assert_eq!(status(&face, "DELETE", &ana_there, &ana).await, (403, "forbidden".to_owned()));
    assert_eq!(status(&face, "DELETE", &ana_there, &chair).await.0, 204);
    let revoked = (401, "token-revoked".to_owned());
    for token in [&ana, &livekit] {
        assert_eq!(status(&face, "GET", ROOM, token).await, revoked);
        assert_eq!(status(&face, "DELETE", &session, token).await, revoked);
        let events = format!("{ROOM}/events?access_token={token}");
        let reply = face.ask("GET", &events, &[], "").await;
        assert_eq!(reply.problem().kind, "/problems/token-revoked");
        assert!(reply.header("www-authenticate").contains("invalid_token"));
    }
    // Other rooms and other people are not concerned.
    assert_eq!(status(&face, "GET", "/v1/rooms/other", &elsewhere).await.0, 404);
    assert_eq!(status(&face, "GET", ROOM, &chair).await.0, 200);

    // A new token lets them in again, made in the same second or not.
    let bearer = bearer(API_KEY);
    let body = serde_json::to_string(&request("ana", Grants::default())).unwrap();
    for claims in ["dragoman", "livekit"] {
        let path = format!("{TOKENS}?claims={claims}");
        let headers = [JSON, ("authorization", bearer.as_str())];
        let again = face.ask("POST", &path, &headers, body.clone()).await.json::<Token>().token;
        assert_eq!(status(&face, "GET", ROOM, &again).await.0, 200, "{claims}");
    }
    // Who is not there is not removed, and keeps their token.
    let ben = face.token("lobby", "ben", Grants::default()).token;
    let missing = status(&face, "DELETE", &format!("{PEOPLE}/ben"), &chair).await;
    assert_eq!(missing, (404, "no-such-participant".to_owned()));
    assert_eq!(status(&face, "GET", ROOM, &ben).await.0, 200);
}

#[tokio::test]
async fn moderators_see_silence_and_remove_and_nobody_else_does() {
    let face = Face::new();
    let chair = face.token("lobby", "chair", moderator()).token;
    let ana = face.token("lobby", "ana", Grants::default()).token;
    let stranger = face.token("other", "eve", moderator()).token;
    join(&face, &ana).await;
    let there = format!("{PEOPLE}/ana");
    let patch = async |path: &str, credential: &str, kind: &str, body: &str| {
        let bearer = bearer(credential);
        let headers = [("content-type", kind), ("authorization", &bearer)];
        face.ask("PATCH", path, &headers, body.to_owned()).await
    };

    for credential in [&chair, &ana] {
        let bearer = bearer(credential);
        let headers = [("authorization", bearer.as_str())];
        let people = face.ask("GET", PEOPLE, &headers, "").await.json::<Vec<Participant>>();
        assert_eq!(people[0].identity, "ana");
        let one = face.ask("GET", &there, &headers, "").await.json::<Participant>();
        assert_eq!(one, people[0]);
        let room = face.ask("GET", ROOM, &headers, "").await.json::<Room>();
        assert_eq!(room.participants, people);
    }
    let json = "application/json";
    for (muted, credential) in [(true, chair.as_str()), (false, API_KEY)] {
        let reply = patch(&there, credential, json, &format!(r#"{{"muted":{muted}}}"#)).await;
        assert_eq!(reply.json::<Participant>().muted, muted, "{}", reply.text());
    }
    let nobody = format!("{PEOPLE}/nobody");
    for (path, credential, kind, body, status) in [
        (&there, ana.as_str(), json, r#"{"muted":true}"#, 403),
        (&there, stranger.as_str(), json, r#"{"muted":true}"#, 403),
        (&there, "nonsense", json, r#"{"muted":true}"#, 401),
        (&nobody, chair.as_str(), json, r#"{"muted":true}"#, 404),
        (&there, chair.as_str(), json, "{}", 422),
        (&there, chair.as_str(), json, r#"{"muted":true,"deaf":true}"#, 422),
        (&there, chair.as_str(), "text/plain", r#"{"muted":true}"#, 415),
    ] {
        let reply = patch(path, credential, kind, body).await;
        assert_eq!(reply.problem().status, status, "{body}: {}", reply.text());
    }
    for (method, path, credential, expected) in [
        ("GET", PEOPLE, stranger.as_str(), 403),
        ("GET", there.as_str(), stranger.as_str(), 403),
        ("GET", nobody.as_str(), ana.as_str(), 404),
        ("GET", "/v1/rooms/lobby/participants/a%20b", ana.as_str(), 404),
        ("DELETE", there.as_str(), stranger.as_str(), 403),
        ("POST", there.as_str(), chair.as_str(), 405),
        ("GET", "/v1/rooms/nowhere/participants", API_KEY, 404),
        ("DELETE", ROOM, stranger.as_str(), 403),
        ("DELETE", ROOM, chair.as_str(), 204),
        ("DELETE", ROOM, chair.as_str(), 404),
    ] {
        assert_eq!(status(&face, method, path, credential).await.0, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_development_server_makes_no_token_for_a_page_whose_name_was_rebound() {
    let config = ApiConfig::new(API_KEY, None, true).unwrap();
    let face = Face::with_config(config.with_hosts(vec!["desk.example.org".to_owned()]));
    let body = r#"{"room":"desk","language":"en"}"#;
    for (host, origin, expected) in [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", 201),
        ("localhost:8080", "http://localhost:8080", 201),
        ("[::1]:8080", "http://[::1]:8080", 201),
        ("desk.example.org", "https://desk.example.org", 201),
        ("desk.example.org", "", 201),
        // The page and the address agree, since its name points here now.
        ("rebound.example:8080", "http://rebound.example:8080", 403),
        ("rebound.example:8080", "", 403),
        ("desk.example.org", "https://rebound.example", 403),
        ("", "", 403),
    ] {
        let headers = [JSON, ("host", host), ("origin", origin)];
        let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let reply = face.ask("POST", "/v1/development/tokens", &headers, body).await;
        assert_eq!(reply.status, expected, "{host} {origin}: {}", reply.text());
    }
    // Over HTTP/2 the name stands in the address.
    let address = "http://rebound.example/v1/development/tokens";
    assert_eq!(face.ask("POST", address, &[JSON], body).await.status, 403);
    let address = "http://127.0.0.1/v1/development/tokens";
    assert_eq!(face.ask("POST", address, &[JSON], body).await.status, 201);
}

#[tokio::test]
async fn a_development_token_has_the_grants_and_the_room_that_were_asked_for() {
    let face = Face::with_config(ApiConfig::new(API_KEY, None, true).unwrap());
    let body = r#"{"room":"hall","language":"en","kind":"conference","languages":["en","fr"],
        "grants":{"speak":false,"channels":["fr"]}}"#;
    let headers = [JSON, ("host", "127.0.0.1")];
    let reply = face.ask("POST", "/v1/development/tokens", &headers, body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(face.house.room("hall").unwrap().kind, RoomKind::Conference);
    let bearer = bearer(&reply.json::<Token>().token);
    for (path, expected) in [
        ("/v1/rooms/hall/whip", 403),
        ("/v1/rooms/hall/whep?channel=en", 403),
        ("/v1/rooms/hall/whep?channel=fr", 201),
    ] {
        let reply = face.ask("POST", path, &[SDP, ("authorization", &bearer)], OFFER).await;
        assert_eq!(reply.status, expected, "{path}: {}", reply.text());
    }
}

#[tokio::test]
async fn no_log_line_shows_a_token_or_a_key() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .finish();
    // For this thread, which the test's runtime does not leave.
    let _guard = tracing::subscriber::set_default(subscriber);
    let face = Face::new();
    let token = face.token("lobby", "ana", Grants::default()).token;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(signaling::serve(listener, face.router.clone(), std::future::pending()));

    // A WebSocket and server-sent events, with a good token and with bad ones.
    for token in [token.as_str(), &format!("{token}x"), "eyJub3Rva2Vu"] {
        let query = format!("/v1/rooms/lobby/events?access_token={token}");
        let connect = tokio_tungstenite::connect_async(format!("ws://{address}{query}"));
        let _ = tokio::time::timeout(Duration::from_secs(5), connect).await.unwrap();
        face.ask("GET", &format!("/v1/nothing?access_token={token}"), &[], "").await;
    }
    let bearer = bearer(API_KEY);
    let body = r#"{"name":"broken"}"#;
    let reply = face.ask("POST", "/v1/rooms", &[JSON, ("authorization", &bearer)], body).await;
    assert_eq!(reply.status, 500);

    let log = lines.text();
    let ours: Vec<_> = log.lines().filter(|line| line.contains("access")).collect();
    assert!(ours.iter().any(|line| line.contains("/v1/rooms/{room}/events")), "{ours:?}");
    assert!(log.contains("the house failed a request"), "{log}");
    let signature = token.rsplit('.').next().unwrap();
    for secret in [signature, "eyJub3Rva2Vu", API_KEY] {
        let shown: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(shown.is_empty(), "{shown:?}");
    }
}
