//! One message: its id, its body and its signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::wire::Event;

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What is posted, the same to every receiver and in every attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// By which a receiver knows what it has had already.
    pub(super) id: String,
    pub(super) room: String,
    pub(super) body: String,
}

/// Where the transcript of a room that has ended is.
#[derive(Serialize)]
struct TranscriptReady<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    time_ms: u64,
    room: &'a str,
    transcript: String,
}

impl Message {
    pub(super) fn event(event: &Event) -> Self {
        Self::new(&event.room, event.to_json())
    }

    /// For the event that ends a room.
    pub(super) fn transcript_ready(ended: &Event) -> Self {
        let ready = TranscriptReady {
            kind: "transcript.ready",
            time_ms: ended.time_ms,
            room: &ended.room,
            transcript: format!("/v1/rooms/{}/transcript", ended.room),
        };
        let body = serde_json::to_string(&ready).expect("strings and a number are JSON");
        Self::new(&ended.room, body)
    }

    fn new(room: &str, body: String) -> Self {
        Self { id: format!("msg_{:032x}", rand::random::<u128>()), room: room.to_owned(), body }
    }
}

/// What the server and the receivers share. `Debug` does not show it.
pub(super) struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The value of `Webhook-Signature`: HMAC-SHA-256 over id, seconds since the Unix epoch and
    /// body, joined by full stops.
    pub(super) fn sign(&self, message: &Message, timestamp_s: u64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        mac.update(format!("{}.{timestamp_s}.", message.id).as_bytes());
        mac.update(message.body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// From the tests of the specification's own libraries.
    #[test]
    fn the_signature_is_the_standards() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            room: String::new(),
            body: r#"{"test": 2432232314}"#.to_owned(),
        };
        let signature = secret.sign(&message, 1_614_265_330);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_none_is_shown() {
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_aGVsbG8=", "whsec_!"]
        {
            assert!(Secret::parse(wrong).is_none(), "{wrong:?}");
        }
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
