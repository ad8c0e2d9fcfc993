//! Webhooks against a real receiver, which checks the signature by its own means.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::FakeHouse;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use signaling::Stats;
use signaling::house::House;
use signaling::webhooks::{Webhooks, WebhooksConfig, WebhooksError};
use signaling::wire::{CreateRoom, EventKind, RoomKind};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

const SECRET_BYTES: &[u8] = b"thirty-two bytes that are secret";

/// What the receiver got, in the order of arrival.
#[derive(Clone, Debug)]
struct Got {
    id: String,
    body: Value,
    refused: bool,
}

#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<Got>>,
    /// Messages that it refuses before it takes any.
    refusals: AtomicUsize,
}

impl Receiver {
    async fn start(refusals: usize) -> (Arc<Self>, String) {
        let receiver = Arc::new(Self::default());
        receiver.refusals.store(refusals, Ordering::Relaxed);
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}/hook?key=x", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&receiver));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    async fn until(&self, messages: usize) -> Vec<Got> {
        let wait = async {
            while self.got.lock().unwrap().len() < messages {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("the messages never came");
        self.got.lock().unwrap().clone()
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET_BYTES).unwrap();
    mac.update([&id, ".", &timestamp, ".", &body].concat().as_bytes());
    let signature = header("webhook-signature");
    let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    mac.verify_slice(&signature).expect("the signature is another one");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(timestamp.parse().unwrap()) <= 5);
    assert_eq!(header("content-type"), "application/json");

    let refused = receiver
        .refusals
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok();
    let body = serde_json::from_str(&body).unwrap();
    receiver.got.lock().unwrap().push(Got { id, body, refused });
    if refused { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
}

fn config(urls: &[&str]) -> WebhooksConfig {
    WebhooksConfig {
        urls: urls.iter().map(ToString::to_string).collect(),
        secret: Some(format!("whsec_{}", STANDARD.encode(SECRET_BYTES))),
        timeout_s: 2,
        retry_ms: 40,
        ..WebhooksConfig::default()
    }
}

fn open_room(house: &FakeHouse, name: &str) {
    let room = CreateRoom { name: Some(name.to_owned()), ..CreateRoom::default() };
    house.create_room(room).unwrap();
    house.emit(name, EventKind::RoomStarted { kind: RoomKind::Call, languages: Vec::new() });
}

fn types(got: &[Got]) -> Vec<&str> {
    got.iter().map(|one| one.body["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_rooms_life_is_told_in_order_although_the_receiver_fails_twice() {
    let (receiver, url) = Receiver::start(2).await;
    let house = Arc::new(FakeHouse::default());
    house.keeps_transcripts.store(true, Ordering::Relaxed);
    let stats = Arc::new(Stats::default());
    let webhooks = Webhooks::start(&house, &config(&[&url]), &stats).unwrap();
    let started = Instant::now();
    open_room(&house, "desk");
    // Whether it keeps a transcript is asked while it is open.
    receiver.until(1).await;
    house.publish("desk");
    house.emit("desk", EventKind::ParticipantMuted { identity: "ana".into(), muted: true });
    house.delete_room("desk").unwrap();

    let got = receiver.until(6).await;
    let expected = [
        "room.started",
        "room.started",
        "room.started",
        "participant.joined",
        "room.ended",
        "transcript.ready",
    ];
    assert_eq!(types(&got), expected, "what is not for webhooks is left out");
    assert_eq!(got.iter().filter(|one| one.refused).count(), 2);
    assert!(got[0].id == got[1].id && got[1].id == got[2].id, "one message has one id");
    assert!(got[2].id != got[3].id);
    // Two pauses of 40 and 80 ms, less up to half of each.
    assert!(started.elapsed() >= Duration::from_millis(60));
    assert_eq!(got[3].body["participant"]["identity"], "ana");
    assert_eq!(got[3].body["room"], "desk");
    assert_eq!(got[5].body["transcript"], "/v1/rooms/desk/transcript");
    webhooks.finish(Duration::from_secs(2)).await;
    assert_eq!((stats.webhooks_delivered.get(), stats.webhooks_failed.get()), (4, 2));
}

#[tokio::test]
async fn what_happened_before_the_end_is_still_told_and_no_transcript_that_was_not_kept() {
    let (receiver, url) = Receiver::start(0).await;
    let house = Arc::new(FakeHouse::default());
    let webhooks = Webhooks::start(&house, &config(&[&url]), &Arc::default()).unwrap();
    open_room(&house, "desk");
    house.end_all("shutdown");
    webhooks.finish(Duration::from_secs(5)).await;
    let got = receiver.until(0).await;
    assert_eq!(types(&got), ["room.started", "room.ended"]);
    assert_eq!(got[1].body["reason"], "shutdown");
}

#[tokio::test]
async fn a_receiver_that_is_not_there_holds_up_neither_the_house_nor_another_one() {
    let (receiver, url) = Receiver::start(0).await;
    let house = Arc::new(FakeHouse::default());
    let stats = Arc::new(Stats::default());
    // Nobody listens on the port of a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = format!("http://{gone}/");
    let config = WebhooksConfig { queue: 3, attempts: 2, ..config(&[&gone, &url]) };
    let _webhooks = Webhooks::start(&house, &config, &stats).unwrap();
    open_room(&house, "desk");
    for told in 2..=12 {
        house.publish("desk");
        receiver.until(told).await;
    }
    assert!(stats.webhooks_lost.get() >= 1, "the oldest made room, or was given up");
    assert_eq!(stats.webhooks_delivered.get(), 12);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let house = Arc::new(FakeHouse::default());
    let start = |config: &WebhooksConfig| Webhooks::start(&house, config, &Arc::default());
    let good = config(&["http://127.0.0.1:1/"]);
    let error = start(&WebhooksConfig { secret: None, ..good.clone() }).unwrap_err();
    assert!(matches!(error, WebhooksError::NoSecret));
    let error = start(&WebhooksConfig { secret: Some("whsec_x".into()), ..good.clone() });
    assert!(matches!(error.unwrap_err(), WebhooksError::BadSecret));
    for url in ["", "127.0.0.1/x", "ftp://127.0.0.1/"] {
        let error = start(&WebhooksConfig { urls: vec![url.into()], ..good.clone() });
        assert!(matches!(error.unwrap_err(), WebhooksError::BadUrl(_)), "{url:?}");
    }
    assert!(start(&WebhooksConfig::default()).is_ok(), "nobody to tell is no mistake");
}
