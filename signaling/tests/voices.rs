//! Voices that are learned: from recordings, and from what participants say who have agreed to it.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::Ordering;

use common::{API_KEY, Face, Reply};
use signaling::mint_admin_token;
use signaling::wire::{Grants, Participant, VoiceInfo, VoiceKind};

const FORM: &str = "multipart/form-data; boundary=b";
const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";

/// A form; the parts called `clip` are files.
fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        let file = if *name == "clip" { "; filename=\"a.wav\"" } else { "" };
        format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
    };
    parts.iter().map(part).collect::<String>() + "--b--\r\n"
}

fn learning() -> Face {
    let face = Face::new();
    face.house.learns.store(true, Ordering::Relaxed);
    face
}

async fn ask(face: &Face, method: &str, path: &str, bearer: &str, kind: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {bearer}");
    let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
    face.ask(method, path, &headers, body.to_owned()).await
}

async fn learn(face: &Face, parts: &[(&str, &str)]) -> Reply {
    ask(face, "POST", "/v1/voices", API_KEY, FORM, &form(parts)).await
}

const GOOD: [(&str, &str); 4] =
    [("name", "ana"), ("consent", "true"), ("clip", "one"), ("clip", "two")];

#[tokio::test]
async fn a_voice_is_learned_from_recordings_listed_and_forgotten() {
    let face = learning();
    let reply = learn(&face, &GOOD).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (201, "/v1/voices/ana"));
    let learned: VoiceInfo = reply.json();
    assert_eq!((learned.name.as_str(), learned.kind), ("ana", VoiceKind::Learned));
    assert_eq!(face.house.learned.lock().unwrap()["ana"], [b"one".to_vec(), b"two".to_vec()]);
    let listed: Vec<VoiceInfo> = ask(&face, "GET", "/v1/voices", API_KEY, "", "").await.json();
    assert!(listed.contains(&learned), "{listed:?}");
    assert_eq!(learn(&face, &GOOD).await.problem().kind, "/problems/voice-exists");

    let forget = async |name: &str| {
        ask(&face, "DELETE", &format!("/v1/voices/{name}"), API_KEY, "", "").await
    };
    assert_eq!(forget("ana").await.status, 204);
    assert_eq!(forget("ana").await.problem().kind, "/problems/no-such-voice");
    assert_eq!(forget("a%20b").await.problem().kind, "/problems/no-such-voice");
    assert_eq!(forget("ef_dora").await.problem().kind, "/problems/built-in-voice");
}

#[tokio::test]
async fn an_admin_token_does_as_well_as_the_key_and_a_participants_does_not() {
    let face = learning();
    let admin = mint_admin_token(&face.token_key, "office", None).unwrap().token;
    let ana = face.token("lobby", "ana", Grants { moderate: true, ..Grants::default() }).token;
    let learn = async |bearer: &str| {
        ask(&face, "POST", "/v1/voices", bearer, FORM, &form(&GOOD)).await.status.as_u16()
    };
    assert_eq!((learn(&ana).await, learn(&admin).await, learn("x").await), (403, 201, 401));
    let forget =
        async |bearer: &str| ask(&face, "DELETE", "/v1/voices/ana", bearer, "", "").await.status;
    assert_eq!((forget(&ana).await.as_u16(), forget(&admin).await.as_u16()), (403, 204));
}

#[tokio::test]
async fn a_form_that_cannot_be_used_is_told_why() {
    let face = learning();
    let without = |missing: &str| {
        let kept = GOOD.iter().filter(|(name, _)| *name != missing);
        kept.copied().collect::<Vec<_>>()
    };
    let with = |name: &'static str, value: &'static str| {
        without(name).into_iter().chain([(name, value)]).collect::<Vec<_>>()
    };
    let cases = [
        (without("consent"), 422, "missing-consent"),
        (with("consent", "false"), 422, "missing-consent"),
        (with("consent", ""), 422, "missing-consent"),
        (without("name"), 422, "invalid-field"),
        (with("name", "a/b"), 422, "invalid-field"),
        (with("name", "own"), 422, "invalid-field"),
        (without("clip"), 422, "invalid-field"),
        (with("clip", ""), 422, "bad-recording"),
        (with("clip", "noise"), 422, "bad-recording"),
        (with("language", "?"), 422, "invalid-field"),
        (with("language", "es"), 422, "invalid-field"),
        (with("name", "ef_dora"), 409, "voice-exists"),
    ];
    for (parts, status, slug) in cases {
        let reply = learn(&face, &parts).await;
        let problem = reply.problem();
        assert_eq!(
            (reply.status.as_u16(), problem.kind.as_str()),
            (status, format!("/problems/{slug}").as_str()),
            "{parts:?}: {}",
            problem.detail
        );
    }
    let consent = learn(&face, &without("consent")).await.problem();
    assert!(consent.detail.contains("agreed") && consent.detail.contains("consent=true"));
    for (kind, body, status) in
        [("application/json", "{}", 415), ("", "", 415), (FORM, "--b\r\nbroken", 400)]
    {
        let reply = ask(&face, "POST", "/v1/voices", API_KEY, kind, body).await;
        assert_eq!(reply.status.as_u16(), status, "{kind} {body}");
        reply.problem();
    }
    assert!(face.house.learned.lock().unwrap().is_empty());
}

#[tokio::test]
async fn recordings_that_are_too_large_together_are_refused() {
    let face = learning();
    let large = "x".repeat(13 << 20);
    let parts = [("name", "ana"), ("consent", "true"), ("clip", &large), ("clip", &large)];
    assert_eq!(learn(&face, &parts).await.problem().kind, "/problems/body-too-large");
}

#[tokio::test]
async fn a_server_that_cannot_learn_says_so_wherever_it_is_asked() {
    let face = Face::new();
    let reply = learn(&face, &GOOD).await;
    let problem = reply.problem();
    assert_eq!(
        (reply.status.as_u16(), problem.kind.as_str()),
        (409, "/problems/cannot-learn"),
        "{}",
        problem.detail
    );
    let wish = r#"{"identity":"ben","language":"es","voice":"own","grants":{"own_voice":true}}"#;
    let tokens = "/v1/rooms/lobby/tokens";
    let refused = ask(&face, "POST", tokens, API_KEY, "application/json", wish).await;
    assert_eq!(refused.problem().kind, "/problems/cannot-learn");
}

#[tokio::test]
async fn the_own_voice_is_given_to_whoever_has_agreed_and_to_nobody_else() {
    let face = learning();
    let tokens = "/v1/rooms/lobby/tokens";
    let token = async |grants: &str| {
        let wish =
            format!(r#"{{"identity":"ben","language":"es","voice":"own","grants":{grants}}}"#);
        ask(&face, "POST", tokens, API_KEY, "application/json", &wish).await
    };
    let refused = token("{}").await.problem();
    assert_eq!(refused.kind, "/problems/invalid-field");
    assert!(refused.detail.contains("own_voice"), "{}", refused.detail);

    let granted = token(r#"{"own_voice":true}"#).await;
    assert_eq!(granted.status, 201);
    let granted: signaling::wire::Token = granted.json();
    let sessions = "/v1/rooms/lobby/sessions";
    let opened = ask(&face, "POST", sessions, &granted.token, "application/sdp", OFFER).await;
    assert_eq!(opened.status, 201);
    let caller = face.house.caller("lobby", "session-of-ben").unwrap();
    assert_eq!((caller.voice.as_deref(), caller.grants.own_voice), (Some("own"), true));
    let path = "/v1/rooms/lobby/participants/ben";
    let shown: Participant = ask(&face, "GET", path, API_KEY, "", "").await.json();
    assert!(shown.own_voice.is_some());

    let keep = async |bearer: &str, body: &str| {
        ask(&face, "POST", &format!("{path}/voice"), bearer, "application/json", body).await
    };
    let kept = keep(API_KEY, r#"{"name":"ben"}"#).await;
    assert_eq!((kept.status.as_u16(), kept.header("location")), (201, "/v1/voices/ben"));
    assert_eq!(keep(API_KEY, r#"{"name":"own"}"#).await.status, 422);
    assert_eq!(keep(&granted.token, r#"{"name":"ben"}"#).await.status, 403);
    let nobody = "/v1/rooms/lobby/participants/eve/voice";
    let reply = ask(&face, "POST", nobody, API_KEY, "application/json", r#"{"name":"e"}"#).await;
    assert_eq!(reply.problem().kind, "/problems/no-such-participant");

    // A token that was minted while the server could learn, or elsewhere.
    face.house.learns.store(false, Ordering::Relaxed);
    let opened = ask(&face, "POST", sessions, &granted.token, "application/sdp", OFFER).await;
    assert_eq!(opened.problem().kind, "/problems/cannot-learn");
}
