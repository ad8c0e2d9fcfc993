//! The own voices of participants who have agreed to theirs being learned: what is known of each,
//! from the first word on the floor until they leave it.
//!
//! Clean speech is collected of what they say and is interpreted for somebody; when there is enough
//! the voice is learned once, from then on the languages that learned voices speak are spoken in it,
//! and the samples are gone. Its name is one that nobody can guess and no list shows.

use inference::voice::{Recording, UNLISTED};
use signaling::house::HouseError;
use signaling::wire::{EventKind, OwnVoice};
use uuid::Uuid;

use super::events::Events;
use super::orders::Order;
use super::room::RoomState;
use crate::learning::collect::{Collector, NEEDED_MS};
use crate::media::PeerId;

/// What is known of one voice.
pub(super) struct Own {
    /// The name that the engine is to know it by.
    voice: String,
    state: OwnVoice,
    collector: Collector,
}

/// What somebody's voice is good for when they have said something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnUse {
    /// What they said may be collected for it.
    Collect(String),
    /// What they said is to be spoken in it.
    Speak(String),
}

impl Own {
    pub(super) fn state(&self) -> OwnVoice {
        self.state
    }

    fn tell(&self, identity: &str, events: &mut Events) {
        let collected_ms = match self.state {
            OwnVoice::Collecting => self.collector.collected_ms(),
            OwnVoice::Learned | OwnVoice::Failed => NEEDED_MS,
            OwnVoice::Granted | OwnVoice::Forgotten => 0,
        };
        events.emit(EventKind::ParticipantVoice {
            identity: identity.to_owned(),
            state: self.state,
            collected_ms,
            needed_ms: NEEDED_MS,
        });
    }
}

impl RoomState {
    /// Somebody is on the floor: their voice is collected from now on, if they ask for that.
    pub(super) fn begin_own_voice(&mut self, peer: PeerId) {
        let Some(member) = self.member(peer) else { return };
        if !member.wants_own_voice || !member.is_on_floor() {
            return;
        }
        let identity = member.identity.clone();
        if self.own_voices.contains_key(&identity) {
            return;
        }
        let own = Own {
            voice: format!("{UNLISTED}{}", Uuid::new_v4().simple()),
            state: OwnVoice::Collecting,
            collector: Collector::default(),
        };
        own.tell(&identity, &mut self.events);
        self.own_voices.insert(identity, own);
    }

    /// Somebody is not on the floor any more, in none of their sessions: nothing of their voice stays.
    pub(super) fn end_own_voice(&mut self, identity: &str) {
        let is_there = |room: &Self| {
            let mut own = room.members.iter().filter(|member| member.identity == identity);
            own.any(|member| member.is_on_floor())
        };
        if is_there(self) {
            return;
        }
        let Some(mut own) = self.own_voices.remove(identity) else { return };
        if own.state != OwnVoice::Forgotten {
            own.state = OwnVoice::Forgotten;
            own.tell(identity, &mut self.events);
        }
        self.once.push(Order::Forget(own.voice));
    }

    /// What the voice of a peer is good for, if anything.
    pub(super) fn own_voice(&self, peer: PeerId) -> Option<OwnUse> {
        let member = self.member(peer).filter(|member| member.is_on_floor())?;
        let own = self.own_voices.get(&member.identity)?;
        match own.state {
            OwnVoice::Collecting if own.collector.is_complete() => None,
            OwnVoice::Collecting => Some(OwnUse::Collect(own.voice.clone())),
            OwnVoice::Learned => Some(OwnUse::Speak(own.voice.clone())),
            OwnVoice::Granted | OwnVoice::Failed | OwnVoice::Forgotten => None,
        }
    }

    /// Collects clean speech for a voice of this room. Gives what is to be learned from, once, when
    /// there is enough.
    pub(super) fn collect(&mut self, voice: &str, clean_16k: &[f32]) -> Option<Vec<Recording>> {
        let (identity, own) = self.own_voices.iter_mut().find(|(_, own)| own.voice == voice)?;
        if own.state != OwnVoice::Collecting || own.collector.is_complete() {
            return None;
        }
        own.collector.add(clean_16k);
        own.tell(identity, &mut self.events);
        own.collector.is_complete().then(|| own.collector.clips())
    }

    /// A voice of this room was learned, or could not be, or is lost. Whether the room still has it.
    pub(super) fn settle_own_voice(&mut self, voice: &str, state: OwnVoice) -> bool {
        let found = self.own_voices.iter_mut().find(|(_, own)| own.voice == voice);
        let Some((identity, own)) = found else { return false };
        own.state = state;
        own.collector = Collector::default();
        own.tell(identity, &mut self.events);
        true
    }

    /// The voice that was learned of somebody.
    pub(super) fn learned_voice(&self, identity: &str) -> Result<String, HouseError> {
        let participant = self.participant(identity);
        let participant =
            participant.ok_or_else(|| HouseError::NoSuchParticipant(identity.to_owned()))?;
        let not_learned = |detail: &str| Err(HouseError::NotLearned(detail.to_owned()));
        match (self.own_voices.get(identity), participant.own_voice) {
            (Some(own), _) if own.state == OwnVoice::Learned => Ok(own.voice.clone()),
            (Some(own), _) if own.state == OwnVoice::Collecting => {
                not_learned("their voice is still being collected: wait for participant.voice")
            }
            (Some(_), _) => not_learned("their voice could not be learned, or was forgotten"),
            (None, Some(_)) => not_learned("their token does not ask for the voice \"own\""),
            (None, None) => not_learned("their token has no grant own_voice: they have not agreed"),
        }
    }
}
