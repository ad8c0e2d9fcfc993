//! What happens in a room, as it is told.

use serde::{Deserialize, Serialize};

use super::{OwnVoice, Participant, RoomKind};

/// One message of `GET /v1/rooms/{room}/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Event {
    /// Position in the room's stream, counted from 1 without gaps.
    pub seq: u64,
    /// When it happened, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Room it happened in.
    pub room: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// As it stands on the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("events hold only strings and finite or null numbers")
    }
}

/// The message of `GET /v1/rooms/{room}/events` that is no event: `{"type":"lagged","missed":3}`.
/// It comes first when events after the one that was asked for are kept no more. Server-sent, it is
/// an event of the name `lagged`, and also the last before the server lets go of a client that fell
/// behind; a WebSocket is then closed with code 1013.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Lagged {
    /// Always `lagged`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Events that the client misses for good, or has to come back for.
    pub missed: u64,
}

impl Lagged {
    /// Of so many events.
    #[must_use]
    pub fn new(missed: u64) -> Self {
        Self { kind: "lagged".to_owned(), missed }
    }

    /// As it stands on the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a word and a number are JSON")
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(tag = "type")]
pub enum EventKind {
    /// The room was made.
    #[serde(rename = "room.started")]
    RoomStarted {
        /// Its kind.
        kind: RoomKind,
        /// Its languages.
        languages: Vec<String>,
    },
    /// The room is over. The last event of a stream.
    #[serde(rename = "room.ended")]
    RoomEnded {
        /// Why: `deleted`, `empty`, `departed`, `shutdown`.
        reason: String,
    },
    /// A moderator silenced somebody, or lets them speak again.
    #[serde(rename = "participant.muted")]
    ParticipantMuted {
        /// Whom.
        identity: String,
        /// Whether they are silenced now.
        muted: bool,
    },
    /// More is known of the own voice of somebody who has agreed to its being learned, or nothing
    /// any more.
    #[serde(rename = "participant.voice")]
    ParticipantVoice {
        /// Whose.
        identity: String,
        /// What is known of it.
        state: OwnVoice,
        /// Milliseconds of clean speech that were collected so far.
        collected_ms: u64,
        /// Milliseconds that are needed.
        needed_ms: u64,
    },
    /// A human takes a conference channel over from the machine, or gives it back.
    #[serde(rename = "channel.interpreter")]
    ChannelInterpreter {
        /// Which channel.
        channel: String,
        /// Who interprets into it now; missing when it is the machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interpreter: Option<String>,
    },
    /// Somebody's media is connected.
    #[serde(rename = "participant.joined")]
    ParticipantJoined {
        /// Who.
        participant: Participant,
        /// Milliseconds from their offer to their media.
        connect_ms: f64,
    },
    /// Somebody left, or their connection was lost.
    #[serde(rename = "participant.left")]
    ParticipantLeft {
        /// Who.
        participant: Participant,
        /// Why: `left`, `connection_lost`, `removed`, `room_ended`.
        reason: String,
    },
    /// Somebody began to speak.
    #[serde(rename = "utterance.started")]
    UtteranceStarted {
        /// Which utterance and whose.
        #[serde(flatten)]
        utterance: UtteranceRef,
    },
    /// Text that is not final: it is replaced by the `utterance.transcript` or
    /// `utterance.translation` of the same language, or dropped with its utterance.
    #[serde(rename = "utterance.partial")]
    UtterancePartial {
        /// Which utterance and whose.
        #[serde(flatten)]
        utterance: UtteranceRef,
        /// Language of the text.
        language: String,
        /// The text so far.
        text: String,
        /// Which of the two texts of an utterance it is.
        stage: PartialStage,
    },
    /// What they said.
    #[serde(rename = "utterance.transcript")]
    UtteranceTranscript {
        /// Which utterance and whose.
        #[serde(flatten)]
        utterance: UtteranceRef,
        /// Language of the text.
        language: String,
        /// The text.
        text: String,
        /// RTP timestamp, on the speaker's own clock, of the first voiced sample.
        first_voiced_rtp: u32,
        /// RTP timestamp, on the speaker's own clock, of the last voiced sample.
        last_voiced_rtp: u32,
        /// Stage times so far.
        trace: Trace,
    },
    /// What it became.
    #[serde(rename = "utterance.translation")]
    UtteranceTranslation {
        /// Which utterance and whose.
        #[serde(flatten)]
        utterance: UtteranceRef,
        /// Language of the text.
        language: String,
        /// The text.
        text: String,
        /// Name of the translator.
        translator: String,
        /// Stage times so far.
        trace: Trace,
    },
    /// The first translated packet left for a listener.
    #[serde(rename = "utterance.spoken")]
    UtteranceSpoken {
        /// Which utterance and whose.
        #[serde(flatten)]
        utterance: UtteranceRef,
        /// Language spoken.
        language: String,
        /// Identity of the listener.
        listener: String,
        /// `mid` of the audio section that carries it.
        track: String,
        /// RTP timestamp (48 kHz) of the first translated packet on that track.
        rtp_timestamp: u32,
        /// All stage times.
        trace: Trace,
    },
    /// The utterance ended before it was spoken.
    #[serde(rename = "utterance.dropped")]
    UtteranceDropped {
        /// Which utterance and whose.
        #[serde(flatten)]
        utterance: UtteranceRef,
        /// Why: `no_speech`, `too_late`, `overlapped`, `overloaded`, `failed`, and a sentence about it.
        reason: String,
        /// The sentence.
        detail: String,
    },
    /// The server has more to do than it can do in time and leaves something out, or has caught up
    /// and takes something up again.
    #[serde(rename = "server.tier")]
    ServerTier {
        /// What is left out now, each with those before it: `full` (nothing), `no_speculation`
        /// (recognition before the end of an utterance), `cheaper_voice`, `cheaper_translator`,
        /// `captions_only` (speech).
        tier: String,
    },
}

/// Which text of an utterance is not final yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PartialStage {
    /// What was said.
    Transcript,
    /// What it became.
    Translation,
}

/// Which utterance, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct UtteranceRef {
    /// Id, unique on the server.
    pub utterance: String,
    /// Identity of the speaker.
    pub speaker: String,
}

/// Where the time of an utterance went, in milliseconds. The stages from `endpoint_ms` to
/// `playout_ms` follow each other without gaps, so their sum is `lag_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Trace {
    /// First to last voiced sample.
    pub speech_ms: f64,
    /// Last voiced sample to the segmenter's decision that the utterance ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_ms: Option<f64>,
    /// Recognition in the pause, before the decision: it is within `endpoint_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_ms: Option<f64>,
    /// Decision to the start of recognition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    /// Recognition, or what of it was left after the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcribe_ms: Option<f64>,
    /// Transcript to the first translated clause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translate_ms: Option<f64>,
    /// First translated clause to its first synthesised samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speak_ms: Option<f64>,
    /// First samples to the first translated packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playout_ms: Option<f64>,
    /// Last voiced sample in to first translated packet out: the headline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<f64>,
    /// Transcript to the whole translation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translate_total_ms: Option<f64>,
    /// First clause to the last synthesised sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speak_total_ms: Option<f64>,
}

impl Trace {
    /// The stages that follow each other without gaps, by name: milliseconds, as far as they happened.
    #[must_use]
    pub fn stages(&self) -> [(&'static str, Option<f64>); 6] {
        [
            ("endpoint", self.endpoint_ms),
            ("queue", self.queue_ms),
            ("transcribe", self.transcribe_ms),
            ("translate", self.translate_ms),
            ("speak", self.speak_ms),
            ("playout", self.playout_ms),
        ]
    }
}
