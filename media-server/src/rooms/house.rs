//! [`Rooms`] as the HTTP face sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use inference::voice::UNLISTED;
use signaling::house::{Caller, Feed, House, HouseError, IceUpdate, NewSession, NewVoice, Role};
use signaling::wire::{ChangeSession, CreateRoom, Event, LanguageInfo, Room, VoiceInfo, VoiceKind};
use tokio::sync::broadcast;

use super::{Rooms, Shared, learner};
use crate::catalogue;
use crate::media::PeerId;
use crate::transport::{self, IceFragment, TransportError};

impl House for Rooms {
    fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError> {
        self.shared.create_room(request)
    }

    fn rooms(&self) -> Vec<Room> {
        let state = self.shared.state.lock();
        let mut rooms: Vec<Room> = state.rooms.values().map(|room| room.show(state.tier)).collect();
        rooms.sort_by_key(|room| room.created_at_ms);
        rooms
    }

    fn room(&self, name: &str) -> Result<Room, HouseError> {
        let state = self.shared.state.lock();
        Ok(state.room(name)?.show(state.tier))
    }

    fn delete_room(&self, name: &str) -> Result<(), HouseError> {
        if self.shared.end_room(name, "deleted") {
            Ok(())
        } else {
            Err(HouseError::NoSuchRoom(name.to_owned()))
        }
    }

    async fn connect(&self, caller: Caller, offer_sdp: String) -> Result<NewSession, HouseError> {
        let shared = Arc::clone(&self.shared);
        // Judging the offer and making the answer takes a millisecond or two of computing, which
        // does not belong on the threads that move HTTP.
        tokio::task::spawn_blocking(move || shared.connect(&caller, offer_sdp))
            .await
            .map_err(|error| HouseError::Internal(format!("connecting panicked: {error}")))?
    }

    fn session_owner(&self, room: &str, session: &str) -> Result<String, HouseError> {
        let state = self.shared.state.lock();
        let mut members = state.room(room)?.members.iter();
        let member = members.find(|member| member.session == session);
        let gone = || HouseError::NoSuchSession(session.to_owned());
        Ok(member.ok_or_else(gone)?.identity.clone())
    }

    fn disconnect(&self, room: &str, session: &str) -> Result<(), HouseError> {
        let peer = {
            let state = self.shared.state.lock();
            let members = &state.room(room)?.members;
            members.iter().find(|member| member.session == session).map(|member| member.peer)
        };
        let peer = peer.ok_or_else(|| HouseError::NoSuchSession(session.to_owned()))?;
        self.shared.remove_peer(peer, "left");
        Ok(())
    }

    async fn update_ice(
        &self,
        room: &str,
        session: &str,
        expected: Option<String>,
        fragment: String,
    ) -> Result<IceUpdate, HouseError> {
        let (key, peer) = {
            let state = self.shared.state.lock();
            let known = state.room(room)?;
            let member = known.members.iter().find(|member| member.session == session);
            let gone = || HouseError::NoSuchSession(session.to_owned());
            (known.key, member.ok_or_else(gone)?.peer)
        };
        let fragment = IceFragment::read(&fragment).map_err(refusal)?;
        let update = self.shared.plane.update_ice(key, peer, expected, fragment).await;
        Ok(match update.map_err(refusal)? {
            transport::IceUpdate::Trickled => IceUpdate::Trickled,
            transport::IceUpdate::Restarted { fragment, ice_ufrag: etag } => {
                tracing::info!(room, peer = peer.0, "ice starts over");
                IceUpdate::Restarted { fragment, etag }
            }
        })
    }

    fn change_session(
        &self,
        room: &str,
        session: &str,
        change: ChangeSession,
    ) -> Result<(), HouseError> {
        let mut state = self.shared.state.lock();
        let room = state.room_mut(room)?;
        room.change_session(session, &change)?;
        self.shared.settle(room);
        Ok(())
    }

    fn mute(&self, room: &str, identity: &str, muted: bool) -> Result<(), HouseError> {
        let mut state = self.shared.state.lock();
        let room = state.room_mut(room)?;
        room.mute(identity, muted)?;
        self.shared.settle(room);
        Ok(())
    }

    fn remove_participant(&self, room: &str, identity: &str) -> Result<(), HouseError> {
        let peers: Vec<PeerId> = {
            let state = self.shared.state.lock();
            let members = &state.room(room)?.members;
            let theirs = members.iter().filter(|member| member.identity == identity);
            theirs.map(|member| member.peer).collect()
        };
        if peers.is_empty() {
            return Err(HouseError::NoSuchParticipant(identity.to_owned()));
        }
        for peer in peers {
            self.shared.stories.lock().cancel_of(peer);
            self.shared.remove_peer(peer, "removed");
        }
        Ok(())
    }

    fn events(&self, room: &str, after: Option<u64>) -> Result<Feed, HouseError> {
        Ok(self.shared.state.lock().room(room)?.events.feed(after))
    }

    fn all_events(&self) -> broadcast::Receiver<Event> {
        self.shared.state.lock().subscribe_all()
    }

    fn languages(&self) -> Vec<LanguageInfo> {
        let models = self.shared.models.get();
        let spoken = |language| models.voices.supports(language);
        catalogue::languages(&models, spoken).into_iter().map(|(_, info)| info).collect()
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        catalogue::voices(&self.shared.models.get())
    }

    fn can_learn(&self) -> bool {
        self.shared.models.get().voices.can_learn()
    }

    async fn learn_voice(&self, voice: NewVoice) -> Result<VoiceInfo, HouseError> {
        self.shared.refuse_when_draining()?;
        let models = self.shared.models.get();
        let speak = |language| models.voices.learned_speak(language);
        learner::check(&voice, models.voices.can_learn(), speak)?;
        self.shared.learner.uploaded(voice).await
    }

    fn forget_voice(&self, name: &str) -> Result<(), HouseError> {
        let listed = self.voices();
        let built_in = |voice: &VoiceInfo| voice.name == name && voice.kind == VoiceKind::BuiltIn;
        if listed.iter().any(built_in) {
            return Err(HouseError::BuiltInVoice(name.to_owned()));
        }
        // An own voice has no name that anybody could know; it is forgotten with its session.
        if name.starts_with(UNLISTED) || !self.shared.shelf.forget(&self.shared.models, name) {
            return Err(HouseError::NoSuchVoice(name.to_owned()));
        }
        for room in self.shared.state.lock().rooms.values_mut() {
            if let Some(conference) = &mut room.conference {
                conference.forget_voice(name);
            }
        }
        Ok(())
    }

    fn keep_voice(&self, room: &str, identity: &str, name: &str) -> Result<VoiceInfo, HouseError> {
        let voice = self.shared.state.lock().room(room)?.learned_voice(identity)?;
        let kept = self.shared.shelf.keep_as(&self.shared.models, &voice, name);
        kept.map_err(|error| learner::refusal(error, name))?;
        self.shared.learned(name)
    }

    fn ready(&self) -> Result<(), String> {
        // The house opens only after every model is loaded and warm.
        Ok(())
    }

    fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        let somebody_speaks =
            self.shared.state.lock().rooms.values().any(|room| !room.speaking.is_empty());
        !somebody_speaks && self.shared.speaker.is_quiet()
    }

    fn end_all(&self, reason: &str) {
        let rooms: Vec<String> = self.shared.state.lock().rooms.keys().cloned().collect();
        for room in rooms {
            self.shared.end_room(&room, reason);
        }
    }
}

impl Shared {
    /// Nothing new is begun by a server that is about to end.
    pub(super) fn refuse_when_draining(&self) -> Result<(), HouseError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(HouseError::Draining);
        }
        Ok(())
    }
}

impl Shared {
    /// Somebody who would speak is not let in while those who speak already are not kept up with.
    pub(super) fn refuse_when_overloaded(&self, caller: &Caller) -> Result<(), HouseError> {
        let would_speak = caller.grants.speak && !matches!(caller.role, Role::Listen { .. });
        let refuses_for = self.engine().and_then(|engine| engine.refuses_for());
        match refuses_for {
            Some(time) if would_speak => {
                let retry_after_s = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
                Err(HouseError::Overloaded { retry_after_s })
            }
            _ => Ok(()),
        }
    }
}

/// What the media plane refused, as the HTTP face tells it.
pub(super) fn refusal(error: TransportError) -> HouseError {
    match error {
        TransportError::BadSdp(detail) => HouseError::BadSdp(detail),
        TransportError::Unacceptable(detail) => HouseError::UnacceptableSdp(detail),
        TransportError::BadFragment(detail) => HouseError::BadFragment(detail),
        TransportError::StaleIce => HouseError::StaleTag,
        TransportError::NoSuchPeer => HouseError::NoSuchSession("it has just ended".to_owned()),
        TransportError::WorkerBusy => HouseError::Overloaded { retry_after_s: 1 },
        other => HouseError::Internal(other.to_string()),
    }
}
