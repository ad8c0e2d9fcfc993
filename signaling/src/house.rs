//! The one trait through which the HTTP face speaks to the house: rooms and peers live behind it.

use std::future::Future;
use std::path::PathBuf;

use tokio::sync::broadcast;

use crate::wire::{ChangeSession, CreateRoom, Event, Grants, LanguageInfo, Room, VoiceInfo};

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// One peer that both speaks and listens.
    Both {
        /// The conference channel that it listens to: a language or `floor`. `None` takes the
        /// participant's language.
        channel: Option<String>,
    },
    /// It only speaks (WHIP).
    Publish {
        /// The conference channel that its sound goes into: a human interpreter. `None` is the
        /// floor.
        channel: Option<String>,
        /// The conference channel that they interpret from; `None` is the floor.
        relay: Option<String>,
    },
    /// It only listens (WHEP).
    Listen {
        /// The conference channel: a language or `floor`. `None` takes the participant's language.
        channel: Option<String>,
    },
}

/// A participant as their token names them, and what they ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// What the session is for.
    pub role: Role,
    /// Gain of the original under the interpretation, 0 to 1; the room's when missing.
    pub original_gain: Option<f32>,
    /// Room the token is for.
    pub room: String,
    /// Identity, unique in the room.
    pub identity: String,
    /// Display name.
    pub name: String,
    /// Language spoken (BCP 47), not checked yet.
    pub language: String,
    /// Language heard (BCP 47), not checked yet.
    pub hear: String,
    /// Voice in which interpretations are spoken to them.
    pub voice: Option<String>,
    /// What they may do.
    pub grants: Grants,
}

/// A session that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Id in the session's URL: unguessable.
    pub id: String,
    /// The SDP answer, with every candidate in it.
    pub answer_sdp: String,
    /// Entity tag of the ICE session, without quotes.
    pub etag: String,
}

/// The events of a room, or of all of them: what had happened, and what happens from now on.
#[derive(Debug)]
pub struct Feed {
    /// Events after the one that was asked for that are kept no more.
    pub lost: u64,
    /// Events that happened since, oldest first.
    pub past: Vec<Event>,
    /// Events from now on. A receiver that lags is told how many it missed.
    pub live: broadcast::Receiver<Event>,
}

/// What a fragment about ICE came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IceUpdate {
    /// Its candidates were taken, or not needed.
    Trickled,
    /// ICE starts over.
    Restarted {
        /// Our side of it, as `application/trickle-ice-sdpfrag`, with every candidate in it.
        fragment: String,
        /// The session's new entity tag, without quotes.
        etag: String,
    },
}

/// A voice to be learned from recordings of somebody who has agreed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVoice {
    /// What it is to be called, of a shape that was checked.
    pub name: String,
    /// The language that it is to speak (BCP 47), not checked yet; `None` takes what it can.
    pub language: Option<String>,
    /// Files with that person's speech and nobody else's.
    pub clips: Vec<PathBuf>,
}

/// Why the house refused.
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// No such room: 404.
    #[error("there is no room {0:?}: create it with POST /v1/rooms")]
    NoSuchRoom(String),
    /// No such participant: 404.
    #[error("{0:?} is not in this room")]
    NoSuchParticipant(String),
    /// No such channel: 404.
    #[error("there is no channel {channel:?} here; there are {known}")]
    NoSuchChannel {
        /// What was asked for.
        channel: String,
        /// What there is, readable.
        known: String,
    },
    /// Another interpreter has the channel: 409.
    #[error("{by:?} interprets into {channel:?} already")]
    ChannelTaken {
        /// Which channel.
        channel: String,
        /// Who has it.
        by: String,
    },
    /// No such session: 404.
    #[error("there is no session {0:?} in this room; it may have ended")]
    NoSuchSession(String),
    /// The name is taken: 409.
    #[error("a room named {0:?} exists already")]
    RoomExists(String),
    /// The identity is in the room already: 409.
    #[error("{0:?} is in the room already: end that session first")]
    IdentityTaken(String),
    /// The room has its most participants: 409.
    #[error("the room is full ({0} participants)")]
    RoomFull(usize),
    /// The token has no grant for it: 403.
    #[error("{0}")]
    Forbidden(String),
    /// No voice engine can learn voices: 409.
    #[error(
        "no voice engine of this server can learn voices: its operator names one that can in \
         models.voices"
    )]
    CannotLearn,
    /// No such voice: 404.
    #[error("there is no voice {0:?}: see GET /v1/voices")]
    NoSuchVoice(String),
    /// The name is taken: 409.
    #[error("a voice named {0:?} exists already: take another name, or delete that one first")]
    VoiceExists(String),
    /// The voice was not learned: 409.
    #[error("the voice {0:?} is built in: only learned voices can be deleted")]
    BuiltInVoice(String),
    /// No voice can be learned from the recordings: 422.
    #[error("no voice can be learned from the recordings: {0}")]
    BadRecording(String),
    /// The participant has no learned voice: 409.
    #[error("{0}")]
    NotLearned(String),
    /// A field's value cannot be used: 422.
    #[error("{0}")]
    Invalid(String),
    /// The body is no SDP: 400.
    #[error("the offer is not valid SDP: {0}")]
    BadSdp(String),
    /// The offer is SDP but cannot be answered: 422.
    #[error("the offer cannot be accepted: {0}")]
    UnacceptableSdp(String),
    /// The fragment cannot be used: 400.
    #[error("the fragment cannot be used: {0}")]
    BadFragment(String),
    /// The request goes by another entity tag than the session's: 412.
    #[error("If-Match is not the session's ETag of now: it belongs to an earlier answer")]
    StaleTag,
    /// No capacity: 503 with `Retry-After`.
    #[error("the server is at capacity: try again in {retry_after_s} s")]
    Overloaded {
        /// Seconds to wait.
        retry_after_s: u32,
    },
    /// The server is about to end: 503 with `Retry-After`.
    #[error("the server is shutting down: connect again in a moment")]
    Draining,
    /// A defect of ours: 500; the detail goes to the log, not to the client.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What the HTTP face needs of the house.
pub trait House: Send + Sync + 'static {
    /// Makes a room.
    fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError>;

    /// All rooms, oldest first.
    fn rooms(&self) -> Vec<Room>;

    /// One room.
    fn room(&self, name: &str) -> Result<Room, HouseError>;

    /// Ends a room and every session in it.
    fn delete_room(&self, name: &str) -> Result<(), HouseError>;

    /// Answers an offer: one peer that speaks, listens, or both, as [`Caller::role`] says.
    fn connect(
        &self,
        caller: Caller,
        offer_sdp: String,
    ) -> impl Future<Output = Result<NewSession, HouseError>> + Send;

    /// Tells a session what its peer says about its side of ICE: candidates, or new credentials,
    /// which ask for a restart. `expected` is the entity tag that the request goes by, without
    /// quotes; `None` goes by any.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`], [`HouseError::NoSuchSession`], [`HouseError::StaleTag`] when
    /// `expected` is not the tag of now, [`HouseError::BadFragment`].
    fn update_ice(
        &self,
        room: &str,
        session: &str,
        expected: Option<String>,
        fragment: String,
    ) -> impl Future<Output = Result<IceUpdate, HouseError>> + Send;

    /// Whose session it is: the identity of its participant.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`], [`HouseError::NoSuchSession`].
    fn session_owner(&self, room: &str, session: &str) -> Result<String, HouseError>;

    /// Ends a session.
    fn disconnect(&self, room: &str, session: &str) -> Result<(), HouseError>;

    /// Changes what a session listens to, without negotiating anew.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`], [`HouseError::NoSuchSession`], [`HouseError::NoSuchChannel`],
    /// [`HouseError::Invalid`] in a room that has no channels.
    fn change_session(
        &self,
        room: &str,
        session: &str,
        change: ChangeSession,
    ) -> Result<(), HouseError>;

    /// Silences a participant, or lets them speak again.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`], [`HouseError::NoSuchParticipant`].
    fn mute(&self, room: &str, identity: &str, muted: bool) -> Result<(), HouseError>;

    /// Ends every session of a participant.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`], [`HouseError::NoSuchParticipant`].
    fn remove_participant(&self, room: &str, identity: &str) -> Result<(), HouseError>;

    /// The room's events: those after number `after` that are kept, or none of the past without
    /// it, and all that follow.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`].
    fn events(&self, room: &str, after: Option<u64>) -> Result<Feed, HouseError>;

    /// The events of every room from now on.
    fn all_events(&self) -> broadcast::Receiver<Event>;

    /// Languages and where they can be interpreted into.
    fn languages(&self) -> Vec<LanguageInfo>;

    /// Voices that can be asked for, the preferred engine's first.
    fn voices(&self) -> Vec<VoiceInfo>;

    /// Whether voices can be learned.
    fn can_learn(&self) -> bool;

    /// Learns a voice, has it under its name from then on, and stores it.
    ///
    /// # Errors
    /// [`HouseError::CannotLearn`], [`HouseError::VoiceExists`], [`HouseError::BadRecording`],
    /// [`HouseError::Invalid`] for a language that it cannot speak, [`HouseError::Overloaded`].
    fn learn_voice(
        &self,
        voice: NewVoice,
    ) -> impl Future<Output = Result<VoiceInfo, HouseError>> + Send;

    /// Forgets a learned voice, also where it is stored.
    ///
    /// # Errors
    /// [`HouseError::NoSuchVoice`], [`HouseError::BuiltInVoice`].
    fn forget_voice(&self, name: &str) -> Result<(), HouseError>;

    /// Keeps the voice that was learned of a participant under a name, and stores it.
    ///
    /// # Errors
    /// [`HouseError::NoSuchRoom`], [`HouseError::NoSuchParticipant`], [`HouseError::NotLearned`],
    /// [`HouseError::VoiceExists`].
    fn keep_voice(&self, room: &str, identity: &str, name: &str) -> Result<VoiceInfo, HouseError>;

    /// `Ok` once every model is loaded and warm; otherwise what is still missing.
    fn ready(&self) -> Result<(), String>;

    /// From now on no room is made and no session taken ([`HouseError::Draining`]), and nothing
    /// that is said is begun: what was being said goes on to its end.
    fn drain(&self);

    /// Whether [`drain`](Self::drain) was called.
    fn is_draining(&self) -> bool;

    /// Whether nothing that was said is still on its way. May wait some milliseconds for an answer.
    fn is_idle(&self) -> bool;

    /// Ends every room and every session, for a reason of `room.ended`.
    fn end_all(&self, reason: &str);
}
