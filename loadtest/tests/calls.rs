//! Callers against a small house: real HTTP, real WebRTC on loopback, tones in place of models.
#![allow(clippy::unwrap_used)]

mod house;

use std::time::{Duration, Instant};

use house::{API_KEY, Behaviour, serve};
use loadtest::SAMPLE_RATE;
use loadtest::api::{Api, ApiError};
use loadtest::call::{self, CallError, CallOptions};
use loadtest::caller::{Caller, CallerError, JoinOptions};
use loadtest::events::{EventError, EventStream};
use signaling::wire::{CreateRoom, CreateToken, EventKind, Grants};

fn tone(milliseconds: usize) -> Vec<f32> {
    let step = std::f32::consts::TAU * 300.0 / SAMPLE_RATE as f32;
    (0..milliseconds * 48).map(|n| 0.3 * (n as f32 * step).sin()).collect()
}

/// A second of tone, and a pause that belongs to the recording.
fn speech() -> Vec<f32> {
    let mut samples = tone(1000);
    samples.resize(SAMPLE_RATE as usize * 3 / 2, 0.0);
    samples
}

async fn room_and_token(server: &str, identity: &str) -> (String, String) {
    let office = Api::new(server, API_KEY);
    let request = CreateRoom { name: Some("lobby".to_owned()), ..CreateRoom::default() };
    let room = office.create_room(&request).await.unwrap().name;
    let request = CreateToken {
        identity: identity.to_owned(),
        name: None,
        language: "en".to_owned(),
        hear: None,
        voice: None,
        grants: Grants::default(),
        ttl_s: None,
    };
    let token = office.mint_token(&room, &request).await.unwrap().token;
    (room, token)
}

fn options(server: &str) -> CallOptions {
    CallOptions {
        timeout: Duration::from_secs(10),
        settle: Duration::from_millis(1200),
        ..CallOptions::new(server, API_KEY, speech(), "en", "es")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_heard_reported_and_cleaned_up() {
    let (server, house) = serve(Behaviour::Interpret).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heard.wav");
    let report =
        call::run(CallOptions { record: Some(path.clone()), ..options(&server) }).await.unwrap();

    let utterance = &report.utterances[0];
    assert_eq!(report.utterances.len(), 1);
    assert_eq!(utterance.transcript.as_deref(), Some("hello"));
    assert_eq!(utterance.translation.as_deref(), Some("hola"));
    assert_eq!(utterance.translator.as_deref(), Some("tone"));
    // Whole packets are heard: the one in which the tone ends, and what the codec smears of it.
    assert!((report.last_voiced_ms - 1000.0).abs() <= 40.0, "{}", report.last_voiced_ms);
    // Half a second of tone in silence.
    assert!((400.0..=700.0).contains(&report.heard.sounding_ms), "{:?}", report.heard);
    assert_eq!(report.heard.lost, 0);

    // The packets tell the same lag as the events do, up to a packet on either side.
    let (event, arrival) = (report.lag_by_event_ms.unwrap(), report.lag_by_arrival_ms.unwrap());
    assert!(event > house::ENDPOINT_MS, "{event}");
    assert!((event - arrival).abs() < 100.0, "by event {event} ms, by arrival {arrival} ms");

    let written = loadtest::wav::read_48k(&path).unwrap();
    assert_eq!(written.len(), report.heard_samples_48k.len());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["last_voiced_by"], "event");
    assert!(json.get("heard_samples_48k").is_none());
    assert_eq!(house.rooms_open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_utterance_is_a_failure_with_its_reason() {
    let (server, house) = serve(Behaviour::Drop).await;
    let Err(CallError::NothingHeard { why, report }) = call::run(options(&server)).await else {
        panic!("a dropped utterance was taken for an interpretation");
    };
    assert_eq!(why, "the utterance was dropped (overloaded: there is no room for it)");
    assert_eq!(report.lag_by_arrival_ms, None);
    assert_eq!(house.rooms_open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_silence_is_no_interpretation() {
    let (server, _house) = serve(Behaviour::AnnounceSilence).await;
    let Err(CallError::NothingHeard { why, .. }) = call::run(options(&server)).await else {
        panic!("silence was taken for an interpretation");
    };
    assert_eq!(why, "the translated packets arrived, but they are silent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_server_is_given_up_after_the_timeout() {
    let (server, _house) = serve(Behaviour::Ignore).await;
    let options = CallOptions { timeout: Duration::from_secs(1), ..options(&server) };
    let Err(CallError::NothingHeard { why, .. }) = call::run(options).await else {
        panic!("something was heard of a deaf server");
    };
    assert_eq!(why, "the server heard no utterance within 1 s of the end of the speech");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_speaks_in_real_time_and_leaves() {
    let (server, house) = serve(Behaviour::Interpret).await;
    let (room, token) = room_and_token(&server, "ana").await;
    let mut events = EventStream::open(&server, &room, &token).await.unwrap();
    let caller = Caller::join(JoinOptions::new(&server, &room, &token)).await.unwrap();
    assert_eq!(house.peers(&room), 1);

    let before = Instant::now();
    let span = caller.speak(&tone(1000)).await.unwrap();
    assert_eq!(span.packets.len(), 50);
    let took = span.last_packet_at - span.first_packet_at;
    assert!((900..1400).contains(&took.as_millis()), "{took:?}");
    assert!(span.first_packet_at >= before);

    let mut kinds = Vec::new();
    while let Some(arrived) = events.next_within(Duration::from_secs(2)).await.unwrap() {
        assert!(arrived.at >= before);
        assert_eq!(arrived.event.seq as usize, kinds.len() + 1);
        kinds.push(arrived.event.kind);
    }
    assert!(matches!(kinds[0], EventKind::ParticipantJoined { .. }), "{kinds:?}");
    assert!(matches!(kinds[1], EventKind::UtteranceStarted { .. }), "{kinds:?}");

    assert!(caller.is_connected());
    let recording = caller.leave().await.unwrap();
    assert!(recording.duration() > Duration::from_secs(1));
    let first = recording.packets[0];
    assert_eq!(recording.arrival_of(first.rtp_timestamp), Some(first.arrival));
    assert_eq!(house.peers(&room), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_notices_that_it_was_removed_from_the_server() {
    let (server, house) = serve(Behaviour::Ignore).await;
    let (room, token) = room_and_token(&server, "ana").await;
    let caller = Caller::join(JoinOptions::new(&server, &room, &token)).await.unwrap();
    assert!(matches!(caller.speak(&[]).await, Err(CallerError::NothingToSay)));
    assert_eq!(house.peers(&room), 1);
    Api::new(&server, API_KEY).delete_room(&room).await.unwrap();
    let error = caller.leave().await.unwrap_err();
    assert!(matches!(error, CallerError::Session(ApiError::Refused(_))), "{error:?}");
}

#[tokio::test]
async fn refusals_say_what_the_server_said() {
    let (server, _house) = serve(Behaviour::Ignore).await;
    let stranger = Api::new(&server, "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0");
    let error = stranger.create_room(&CreateRoom::default()).await.unwrap_err();
    assert_eq!(error.slug(), Some("invalid-token"));
    assert!(error.to_string().starts_with("the server refused (401"), "{error}");

    let office = Api::new(&server, API_KEY);
    assert_eq!(office.room("nowhere").await.unwrap_err().slug(), Some("no-such-room"));
    office.ready().await.unwrap();

    let (room, token) = room_and_token(&server, "ana").await;
    let wrong_room = EventStream::open(&server, "elsewhere", &token).await.unwrap_err();
    assert!(matches!(wrong_room, EventError::Refused(403)), "{wrong_room:?}");
    let no_address = EventStream::open("localhost", &room, &token).await.unwrap_err();
    assert!(matches!(no_address, EventError::Address(_)), "{no_address:?}");
    let refused = Caller::join(JoinOptions::new(&server, &room, "nonsense")).await.unwrap_err();
    assert!(matches!(refused, CallerError::Session(_)), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // The port was free a moment ago, and nobody listens on it now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let office = Api::new(&format!("http://{free}/"), API_KEY);
    let error = office.create_room(&CreateRoom::default()).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }));
    assert!(error.to_string().contains(&format!("http://{free}/v1/rooms")), "{error}");
}
