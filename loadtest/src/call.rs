//! One whole two-party call against a running server: one side speaks a recording, the other
//! records what it hears, and the report says what became of the sentence and how late it came.
//!
//! The lag is measured twice. The server's trace says it from the inside; the packets say it from
//! the outside, on this machine's clock: from the departure of the packet that holds the last
//! voiced sample to the arrival of the packet whose RTP timestamp `utterance.spoken` names.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use signaling::wire::{CreateRoom, RoomKind, Trace};

use crate::FRAME;
use crate::api::{Api, ApiError};
use crate::caller::{Caller, CallerError, JoinOptions, SpokenSpan};
use crate::events::{EventError, EventStream};
use crate::level::{dbfs, duration_of, end_of_sound};
use crate::outcome::signed_ms;
use crate::recording::{Recording, SOUND_DBFS};
use crate::utterances::{Ledger, Utterance};
use crate::wav::{self, WavError};

/// Identity of the side that speaks.
const SPEAKER: &str = "speaker";
/// Identity of the side that listens.
const LISTENER: &str = "listener";
/// Silence before the speech: nobody speaks with the first packet of a call.
const LEAD_IN: Duration = Duration::from_millis(500);
/// How often the end of the call is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to say, to whom, and how long to wait.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// Address of the server, such as `http://127.0.0.1:8080`.
    pub server: String,
    /// The server's API key, or an admin token.
    pub api_key: String,
    /// What is said: 48 kHz mono.
    pub samples_48k: Vec<f32>,
    /// Language that is spoken (BCP 47).
    pub from: String,
    /// Language that is heard (BCP 47).
    pub to: String,
    /// Gain of the original under its interpretation, 0 to 1. At 0 the recording holds the
    /// interpretation alone.
    pub original_gain: f32,
    /// Where in the speech the last voiced sample is. When missing, the events say where the server
    /// found it, and the energy of the recording if they do not.
    pub last_voiced: Option<Duration>,
    /// Time after the end of the speech in which everything has to come.
    pub timeout: Duration,
    /// Quiet after which the interpretation counts as finished.
    pub settle: Duration,
    /// Where to write what was heard, as WAV.
    pub record: Option<PathBuf>,
}

impl CallOptions {
    /// No original in the recording, 30 s of patience, 2 s of quiet at the end.
    #[must_use]
    pub fn new(server: &str, api_key: &str, samples_48k: Vec<f32>, from: &str, to: &str) -> Self {
        Self {
            server: server.to_owned(),
            api_key: api_key.to_owned(),
            samples_48k,
            from: from.to_owned(),
            to: to.to_owned(),
            original_gain: 0.0,
            last_voiced: None,
            timeout: Duration::from_secs(30),
            settle: Duration::from_secs(2),
            record: None,
        }
    }
}

/// Why a call gave no interpretation.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The room or the tokens could not be made.
    #[error("the room could not be set up")]
    Setup(#[from] ApiError),
    /// A side could not join, or lost its connection.
    #[error("the call could not be held")]
    Caller(#[from] CallerError),
    /// The events stopped.
    #[error("the events of the call stopped")]
    Events(#[from] EventError),
    /// The recording could not be written.
    #[error("the recording could not be kept")]
    Recording(#[from] WavError),
    /// The call was held, and no interpretation was heard.
    #[error("{why}")]
    NothingHeard {
        /// How far it came.
        why: String,
        /// What did happen.
        report: Box<CallReport>,
    },
}

/// How the end of speech is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndOfSpeech {
    /// It was given.
    Given,
    /// By the RTP timestamp that `utterance.transcript` names.
    Event,
    /// It was estimated by energy.
    Energy,
}

/// What happened in a call. Times are milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct CallReport {
    /// Name of the room.
    pub room: String,
    /// Language spoken.
    pub from: String,
    /// Language heard.
    pub to: String,
    /// Length of the speech.
    pub speech_ms: f64,
    /// Where in the speech the last voiced sample is.
    pub last_voiced_ms: f64,
    /// How that is known.
    pub last_voiced_by: EndOfSpeech,
    /// The utterances that the server heard, in order.
    pub utterances: Vec<UtteranceReport>,
    /// Lag of the last utterance that was spoken, as the server traced it.
    pub lag_by_event_ms: Option<f64>,
    /// The same lag by the packets: from the departure of the packet with the last voiced sample
    /// to the arrival of the first translated packet.
    pub lag_by_arrival_ms: Option<f64>,
    /// What the listener received.
    pub heard: HeardReport,
    /// Where the recording lies, when one was asked for.
    pub recording: Option<PathBuf>,
    /// What the listener received: 48 kHz mono, from its first packet on.
    #[serde(skip)]
    pub heard_samples_48k: Vec<f32>,
}

/// One utterance, as its events told it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UtteranceReport {
    /// Id of the utterance.
    pub id: String,
    /// What was said.
    pub transcript: Option<String>,
    /// What it became.
    pub translation: Option<String>,
    /// Name of the translator.
    pub translator: Option<String>,
    /// RTP timestamp, on the speaker's clock, of the last voiced sample.
    pub last_voiced_rtp: Option<u32>,
    /// RTP timestamp of the first translated packet.
    pub rtp_timestamp: Option<u32>,
    /// Where the time went, as the last event about it knew.
    pub trace: Option<Trace>,
    /// Why it was not spoken, when it was dropped.
    pub dropped: Option<String>,
}

/// What arrived at the listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HeardReport {
    /// Length of the recording.
    pub duration_ms: f64,
    /// How much of it is not silent.
    pub sounding_ms: f64,
    /// Packets received.
    pub packets: usize,
    /// Packets lost on the way.
    pub lost: u64,
}

/// Holds one call and reports.
///
/// # Errors
/// [`CallError`]; with [`CallError::NothingHeard`] when the call was held but no interpretation
/// arrived, which carries the report of what did.
pub async fn run(options: CallOptions) -> Result<CallReport, CallError> {
    let office = Api::new(&options.server, &options.api_key);
    let request = CreateRoom {
        kind: RoomKind::Call,
        languages: vec![options.from.clone(), options.to.clone()],
        original_gain: Some(options.original_gain),
        // A measurement is nobody's meeting.
        keep_transcript: Some(false),
        ..CreateRoom::default()
    };
    let room = office.create_room(&request).await?.name;
    let outcome = hold(&office, &room, options).await;
    if let Err(error) = office.delete_room(&room).await {
        tracing::warn!(%error, room, "the room was left behind");
    }
    outcome
}

async fn hold(office: &Api, room: &str, options: CallOptions) -> Result<CallReport, CallError> {
    let speaker_token = office.admit(room, SPEAKER, &options.from).await?;
    let listener_token = office.admit(room, LISTENER, &options.to).await?;
    let mut events = EventStream::open(office.server(), room, &listener_token).await?;
    let join = |token: &str| Caller::join(JoinOptions::new(office.server(), room, token));
    let (speaker, listener) =
        futures::future::try_join(join(&speaker_token), join(&listener_token)).await?;
    tokio::time::sleep(LEAD_IN).await;

    let mut ledger = Ledger::default();
    let span = converse(&speaker, &listener, &mut events, &mut ledger, &options).await?;
    let heard = listener.recording();
    for caller in [speaker, listener] {
        if let Err(error) = caller.leave().await {
            tracing::debug!(%error, "a caller left without a goodbye");
        }
    }
    if let Some(path) = &options.record {
        wav::write_48k(path, &heard.samples)?;
    }
    let utterances: Vec<UtteranceReport> =
        ledger.of(SPEAKER).map(|utterance| UtteranceReport::of(utterance, &options.to)).collect();
    let why = why_nothing(&utterances, &heard, options.timeout);
    let report = report(room, options, &span, utterances, heard);
    match why {
        None => Ok(report),
        Some(why) => Err(CallError::NothingHeard { why, report: Box::new(report) }),
    }
}

/// Speaks and collects events until the interpretation is over or the time is up.
async fn converse(
    speaker: &Caller,
    listener: &Caller,
    events: &mut EventStream,
    ledger: &mut Ledger,
    options: &CallOptions,
) -> Result<SpokenSpan, CallError> {
    let mut speaking = std::pin::pin!(speaker.speak(&options.samples_48k));
    let mut span: Option<SpokenSpan> = None;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            said = &mut speaking, if span.is_none() => span = Some(said?),
            arrived = events.next() => {
                let arrived = arrived?;
                ledger.note(&arrived.event, arrived.at);
            }
            () = listener.disconnected() => return Err(CallerError::ConnectionLost.into()),
            _ = look.tick() => {}
        }
        let Some(said) = &span else { continue };
        let last_sound = listener.with_recording(|recording| recording.last_sound_at);
        let moved =
            [Some(said.last_packet_at), ledger.last_at(), last_sound].into_iter().flatten().max();
        let is_quiet = moved.is_some_and(|moved| moved.elapsed() > options.settle);
        let is_over = said.last_packet_at.elapsed() > options.timeout;
        if is_over || (is_quiet && is_settled(ledger)) {
            return Ok(said.clone());
        }
    }
}

/// Every utterance that began was spoken or dropped.
fn is_settled(ledger: &Ledger) -> bool {
    let mut utterances = ledger.of(SPEAKER).peekable();
    utterances.peek().is_some() && utterances.all(|utterance| utterance.is_over_for(LISTENER))
}

impl UtteranceReport {
    fn of(utterance: &Utterance, to: &str) -> Self {
        let translation = utterance.translations.get(to);
        let transcript = utterance.transcript.as_ref();
        Self {
            id: utterance.id.clone(),
            transcript: transcript.map(|transcript| transcript.text.clone()),
            translation: translation.map(|(text, _)| text.clone()),
            translator: translation.map(|(_, translator)| translator.clone()),
            last_voiced_rtp: transcript.map(|transcript| transcript.last_voiced_rtp),
            rtp_timestamp: utterance.spoken.get(LISTENER).map(|spoken| spoken.rtp_timestamp),
            trace: utterance.trace,
            dropped: utterance.dropped.as_ref().map(|(reason, text)| format!("{reason}: {text}")),
        }
    }
}

fn last_spoken(utterances: &[UtteranceReport]) -> Option<&UtteranceReport> {
    utterances.iter().rev().find(|utterance| utterance.rtp_timestamp.is_some())
}

/// How far the call came, when no interpretation was heard.
fn why_nothing(
    utterances: &[UtteranceReport],
    heard: &Recording,
    timeout: Duration,
) -> Option<String> {
    let within = format!("within {} s of the end of the speech", timeout.as_secs());
    let Some(last) = utterances.last() else {
        return Some(format!("the server heard no utterance {within}"));
    };
    let Some(rtp_timestamp) = last_spoken(utterances).and_then(|spoken| spoken.rtp_timestamp)
    else {
        return Some(match last {
            UtteranceReport { dropped: Some(reason), .. } => {
                format!("the utterance was dropped ({reason})")
            }
            UtteranceReport { transcript: None, .. } => {
                format!("an utterance began, but was not transcribed {within}")
            }
            UtteranceReport { translation: None, .. } => {
                format!("the utterance was transcribed, but not translated {within}")
            }
            _ => format!("the utterance was translated, but not spoken {within}"),
        });
    };
    let Some(interpretation) = heard.from_timestamp(rtp_timestamp) else {
        return Some(format!(
            "the server announced a translated packet with RTP timestamp {rtp_timestamp}, but \
             none of the {} packets that arrived is it",
            heard.packets.len()
        ));
    };
    let has_sound = interpretation.chunks(FRAME).any(|frame| dbfs(frame) > SOUND_DBFS);
    (!has_sound).then(|| "the translated packets arrived, but they are silent".to_owned())
}

fn report(
    room: &str,
    options: CallOptions,
    span: &SpokenSpan,
    utterances: Vec<UtteranceReport>,
    heard: Recording,
) -> CallReport {
    let speech = duration_of(options.samples_48k.len());
    let last_spoken = last_spoken(&utterances);
    let told = last_spoken
        .and_then(|utterance| utterance.last_voiced_rtp)
        .and_then(|rtp_timestamp| span.offset_of(rtp_timestamp));
    let (last_voiced, last_voiced_by) = match (options.last_voiced, told) {
        (Some(given), _) => (given.min(speech), EndOfSpeech::Given),
        (None, Some(told)) => (told.min(speech), EndOfSpeech::Event),
        (None, None) => (end_of_sound(&options.samples_48k).unwrap_or(speech), EndOfSpeech::Energy),
    };
    let arrival = last_spoken
        .and_then(|utterance| utterance.rtp_timestamp)
        .and_then(|rtp_timestamp| heard.arrival_of(rtp_timestamp));
    let lag_by_arrival_ms = arrival.map(|arrival| signed_ms(span.sent_by(last_voiced), arrival));
    let lag_by_event_ms = last_spoken.and_then(|utterance| utterance.trace?.lag_ms);
    CallReport {
        room: room.to_owned(),
        from: options.from,
        to: options.to,
        speech_ms: ms(speech),
        last_voiced_ms: ms(last_voiced),
        last_voiced_by,
        lag_by_event_ms,
        lag_by_arrival_ms,
        utterances,
        heard: HeardReport {
            duration_ms: ms(heard.duration()),
            sounding_ms: ms(heard.sounding()),
            packets: heard.packets.len(),
            lost: heard.lost,
        },
        recording: options.record,
        heard_samples_48k: heard.samples,
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
