//! The JSON types of the API, as they stand on the wire. Times are milliseconds.

mod events;
mod object;
mod transcripts;
mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
use crate::openapi::shapes::{
    Channel, Channels, DisplayName, Gain, Identity, LanguageTag, Languages, LearnedVoiceName,
    Lifetime, Places, Relays, RoomName, Timeout, VoiceName,
};

pub use self::events::{Event, EventKind, Lagged, PartialStage, Trace, UtteranceRef};
pub(crate) use self::object::object;
pub use self::transcripts::{Meeting, Transcript, TranscriptLine};
use self::whole::whole;

/// What kind of conversation a room holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum RoomKind {
    /// Two participants, each hears the other's interpretation.
    #[default]
    Call,
    /// Speakers and listeners. The original sound is the *floor*; each of the room's languages is
    /// a channel that one can listen to.
    Conference,
}

/// A word and nothing else: what serde derives takes an object with the word as its key too.
impl TryFrom<String> for RoomKind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "call" => Ok(Self::Call),
            "conference" => Ok(Self::Conference),
            _ => Err(format!("a room's kind is call or conference, not {word:?}")),
        }
    }
}

/// Body of `POST /v1/rooms`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CreateRoom {
    /// Name of the room, `[A-Za-z0-9_-]{1,64}`; the server invents one when it is missing.
    #[cfg_attr(feature = "server", schema(value_type = Option<RoomName>))]
    pub name: Option<String>,
    /// Kind of the room.
    pub kind: RoomKind,
    /// Languages of the room. In a call: those that may be spoken; empty allows every supported
    /// one. In a conference: its channels, at least one.
    #[cfg_attr(feature = "server", schema(value_type = Languages))]
    pub languages: Vec<String>,
    /// Gain of the original speech under its interpretation, 0 to 1; the server's default when
    /// missing.
    #[cfg_attr(feature = "server", schema(value_type = Option<Gain>))]
    pub original_gain: Option<f32>,
    /// Most participants at a time; 2 for a call.
    #[cfg_attr(feature = "server", schema(value_type = Option<Places>))]
    #[serde(deserialize_with = "whole")]
    pub max_participants: Option<usize>,
    /// Seconds after which a room that nobody has ever joined ends; 0 keeps it. The server's
    /// default when missing.
    #[cfg_attr(feature = "server", schema(value_type = Option<Timeout>))]
    #[serde(deserialize_with = "whole")]
    pub empty_timeout_s: Option<u64>,
    /// Seconds after which a room ends that everybody has left; 0 keeps it. The server's default
    /// when missing.
    #[cfg_attr(feature = "server", schema(value_type = Option<Timeout>))]
    #[serde(deserialize_with = "whole")]
    pub departure_timeout_s: Option<u64>,
    /// Whether what is said is kept (`GET /v1/rooms/{room}/transcript`); the server's default when
    /// missing.
    pub keep_transcript: Option<bool>,
    /// Channels of a conference whose text is made although nobody listens: they are recorded.
    #[cfg_attr(feature = "server", schema(value_type = Languages))]
    pub record: Vec<String>,
    /// Channels of a conference, and from which other channel the machine interprets each while a
    /// human interprets into that one: `{"es": "en"}` takes Spanish from the interpreter's English.
    #[cfg_attr(feature = "server", schema(value_type = Relays))]
    pub relay: BTreeMap<String, String>,
}

/// A room as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Room {
    /// Name, unique on the server.
    #[cfg_attr(feature = "server", schema(value_type = RoomName))]
    pub name: String,
    /// Kind of the room.
    pub kind: RoomKind,
    /// Languages of the room; see [`CreateRoom::languages`].
    pub languages: Vec<String>,
    /// Gain of the original speech under its interpretation, 0 to 1.
    #[cfg_attr(feature = "server", schema(value_type = Gain))]
    pub original_gain: f32,
    /// Most participants at a time.
    pub max_participants: usize,
    /// Seconds after which it ends when nobody ever joins; 0 keeps it.
    pub empty_timeout_s: u64,
    /// Seconds after which it ends when everybody has left; 0 keeps it.
    pub departure_timeout_s: u64,
    /// Whether what is said is kept.
    pub keep_transcript: bool,
    /// Channels that are recorded; see [`CreateRoom::record`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub record: Vec<String>,
    /// Channels that take relay from another; see [`CreateRoom::relay`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relay: BTreeMap<String, String>,
    /// What the whole server leaves out under load; the event `server.tier` tells when it changes.
    pub tier: String,
    /// Creation time, milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Who is in it.
    pub participants: Vec<Participant>,
}

/// A participant as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Participant {
    /// Identity, unique in the room.
    pub identity: String,
    /// Display name.
    pub name: String,
    /// Language spoken (BCP 47).
    pub language: String,
    /// Language heard (BCP 47).
    pub hear: String,
    /// Voice in which interpretations are spoken to them; the language's default when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// What is known of their own voice, in which others may hear them; missing when they have not
    /// agreed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_voice: Option<OwnVoice>,
    /// A moderator has silenced them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
    /// The conference channel they interpret into, when they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interprets: Option<String>,
    /// The conference channel they interpret from; the floor when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The conference channel they listen to: a language or `floor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// What the server knows of the own voice of a participant who has agreed to its being learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OwnVoice {
    /// They have agreed, and did not ask for it: nothing is collected.
    Granted,
    /// Clean speech of theirs is collected; others hear them in the usual voice.
    Collecting,
    /// Others hear them in their own voice.
    Learned,
    /// It could not be learned; others hear them in the usual voice.
    Failed,
    /// It was known and is no more: they have left, or the server's voices were replaced by some
    /// that cannot learn.
    Forgotten,
}

/// The voice of a token that asks for interpretations of what the participant says to be spoken in
/// their own voice.
pub const OWN_VOICE: &str = "own";

/// The channel that carries the original sound of a conference.
pub const FLOOR: &str = "floor";

/// What a participant may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Grants {
    /// Send audio.
    pub speak: bool,
    /// Receive audio and events.
    pub listen: bool,
    /// Channels of a conference that may be listened to; every one when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<Channels>))]
    pub channels: Option<Vec<String>>,
    /// Channels of a conference that they may interpret into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "server", schema(value_type = Languages))]
    pub interpret: Vec<String>,
    /// Mute, remove, end the room.
    pub moderate: bool,
    /// The participant has agreed to their voice being learned from what they say, and to others
    /// hearing their interpretations in it. Only then may a token ask for the voice `own`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_voice: bool,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            speak: true,
            listen: true,
            channels: None,
            interpret: Vec::new(),
            moderate: false,
            own_voice: false,
        }
    }
}

/// Body of `PATCH /v1/rooms/{room}/sessions/{session}` as JSON: what is missing stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ChangeSession {
    /// The conference channel to listen to from now on: a language or `floor`.
    #[cfg_attr(feature = "server", schema(value_type = Option<Channel>))]
    pub channel: Option<String>,
    /// Gain of the original under the interpretation, 0 to 1. It is rounded to one of 0, 0.1, 0.2,
    /// 0.4 and 1, of which each is mixed once for all who share it.
    #[cfg_attr(feature = "server", schema(value_type = Option<Gain>))]
    pub original_gain: Option<f32>,
}

/// Body of `PATCH /v1/rooms/{room}/participants/{identity}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeParticipant {
    /// Whether the server takes no more sound from them.
    pub muted: bool,
}

/// Answer of `GET /v1/rooms/{room}/ice-servers`: an `RTCConfiguration` of the WebRTC API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct IceServers {
    /// STUN and TURN servers; none when the server names none.
    #[serde(rename = "iceServers")]
    pub ice_servers: Vec<IceServer>,
}

/// An `RTCIceServer` of the WebRTC API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct IceServer {
    /// Where it is, such as `turn:turn.example.org?transport=udp`.
    pub urls: Vec<String>,
    /// User name for TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password for TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Body of `POST /v1/rooms/{room}/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Identity, unique in the room, `[A-Za-z0-9_.@-]{1,64}`.
    #[cfg_attr(feature = "server", schema(value_type = Identity))]
    pub identity: String,
    /// Display name; the identity when missing.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<DisplayName>))]
    pub name: Option<String>,
    /// Language spoken (BCP 47).
    #[cfg_attr(feature = "server", schema(value_type = LanguageTag))]
    pub language: String,
    /// Language heard (BCP 47); the one spoken when missing.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<LanguageTag>))]
    pub hear: Option<String>,
    /// Voice in which interpretations are spoken to the participant, one of `GET /v1/voices` for
    /// the language heard; the language's default when missing. In a conference, where a channel
    /// sounds the same for all, the voice in which the participant is interpreted on the channel of
    /// that language.
    ///
    /// `own` is about the other direction in a call too: others hear what the participant says in
    /// the participant's own voice, whatever voice they asked for, as soon as enough clean speech
    /// was heard, and in the usual voice until then and in languages that learned voices do not
    /// speak. It needs the grant `own_voice`, and is forgotten when the participant leaves.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<VoiceName>))]
    pub voice: Option<String>,
    /// What the participant may do.
    #[serde(default, deserialize_with = "object")]
    pub grants: Grants,
    /// Lifetime in seconds; 6 hours when missing.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "server", schema(value_type = Option<Lifetime>))]
    pub ttl_s: Option<u64>,
}

/// Body of `POST /v1/development/tokens`, which a server in development mode answers to anybody:
/// a token, and the room for it when there is none of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateDevelopmentToken {
    /// Name of the room, `[A-Za-z0-9_-]{1,64}`.
    #[cfg_attr(feature = "server", schema(value_type = RoomName))]
    pub room: String,
    /// As in [`CreateToken`]; the server invents one when it is missing.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<Identity>))]
    pub identity: Option<String>,
    /// As in [`CreateToken`].
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<DisplayName>))]
    pub name: Option<String>,
    /// As in [`CreateToken`].
    #[cfg_attr(feature = "server", schema(value_type = LanguageTag))]
    pub language: String,
    /// As in [`CreateToken`].
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<LanguageTag>))]
    pub hear: Option<String>,
    /// As in [`CreateToken`].
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<VoiceName>))]
    pub voice: Option<String>,
    /// As in [`CreateToken`].
    #[serde(default, deserialize_with = "object")]
    pub grants: Grants,
    /// Kind of the room, when it is made.
    #[serde(default)]
    pub kind: RoomKind,
    /// Languages of the room, when it is made; see [`CreateRoom::languages`].
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Languages))]
    pub languages: Vec<String>,
}

/// Answer of `GET /v1/development`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Development {
    /// Whether `POST /v1/development/tokens` makes tokens without a key.
    pub tokens: bool,
}

/// Answer of `POST /v1/rooms/{room}/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Token {
    /// The JWT.
    pub token: String,
    /// Whom it names.
    pub identity: String,
    /// Expiry, seconds since the Unix epoch.
    pub expires_at_s: u64,
}

/// An error body, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URI reference that names the kind of problem, such as `/problems/no-opus`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "server", schema(schema_with = crate::openapi::problem_type))]
    pub kind: String,
    /// Short summary, the same for every problem of the kind.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened here and what to do.
    pub detail: String,
}

/// Answer of `GET /v1/languages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LanguageInfo {
    /// BCP 47 code.
    pub code: String,
    /// English name.
    pub name: String,
    /// Codes of the languages it can be interpreted into.
    pub targets: Vec<String>,
    /// Those of them that can be spoken in the speaker's own voice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_voice: Vec<String>,
}

/// One entry of the answer of `GET /v1/voices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct VoiceInfo {
    /// Name, as a token may carry it.
    pub name: String,
    /// The language it speaks (BCP 47).
    pub language: String,
    /// The engine that has it.
    pub engine: String,
    /// Where it comes from.
    #[serde(default)]
    pub kind: VoiceKind,
}

/// Where a voice comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VoiceKind {
    /// The engine came with it.
    #[default]
    BuiltIn,
    /// It was learned from recordings, and can be deleted.
    Learned,
}

/// Body of `POST /v1/rooms/{room}/participants/{identity}/voice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KeepVoice {
    /// What the participant's voice is to be called.
    #[cfg_attr(feature = "server", schema(value_type = LearnedVoiceName))]
    pub name: String,
}

/// Answer of `GET /healthz` and `GET /readyz` when all is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Status {
    /// `ok` or `ready`.
    pub status: String,
}
