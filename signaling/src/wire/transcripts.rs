//! What is kept of a meeting, as the API gives it out.

use serde::{Deserialize, Serialize};

use super::RoomKind;

/// A meeting: one life of a room, of which something is kept. Entry of the answer of
/// `GET /v1/rooms/{room}/meetings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Meeting {
    /// Id, unique on the server.
    pub id: i64,
    /// Name of the room, which may have been used by other meetings too.
    pub room: String,
    /// Kind of the room.
    pub kind: RoomKind,
    /// Languages of the room; see [`super::CreateRoom::languages`].
    pub languages: Vec<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// When it ended; missing while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// Utterances that are kept.
    pub utterances: u64,
}

/// Answer of `GET /v1/rooms/{room}/transcript` as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Transcript {
    /// Which meeting.
    pub meeting: Meeting,
    /// The language asked for; without one, each text is in the language that was spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// What was said, in the order in which it began.
    pub lines: Vec<TranscriptLine>,
}

/// One utterance of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TranscriptLine {
    /// Name of the utterance, as its events carry it; unique in the meeting.
    pub utterance: String,
    /// Identity of the speaker.
    pub speaker: String,
    /// Display name of the speaker.
    pub name: String,
    /// First voiced sample, milliseconds since the meeting began.
    pub start_ms: u64,
    /// Last voiced sample, milliseconds since the meeting began; always after `start_ms`.
    pub end_ms: u64,
    /// Language that was spoken.
    pub spoken_language: String,
    /// Language of the text: the one asked for, or the one spoken where there is no translation.
    pub language: String,
    /// The text.
    pub text: String,
    /// Who translated it; missing when the text is what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translator: Option<String>,
}
