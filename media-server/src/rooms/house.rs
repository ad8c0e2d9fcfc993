//! [`Rooms`] as the HTTP face sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use inference::Language;
use inference::translate::Translator;
use signaling::house::{Caller, Feed, House, HouseError, IceUpdate, NewSession};
use signaling::wire::{ChangeSession, CreateRoom, Event, LanguageInfo, Room, RoomKind, VoiceInfo};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::state::RoomSpec;
use super::{Rooms, Shared};
use crate::media::{ConnectPeer, PeerId};
use crate::transport::{self, IceFragment, TransportError};

impl House for Rooms {
    fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError> {
        let config = &self.shared.config;
        let languages = request
            .languages
            .iter()
            .map(|tag| tag.parse())
            .collect::<Result<Vec<Language>, _>>()
            .map_err(|error| HouseError::Invalid(error.to_string()))?;
        let original_gain = request.original_gain.unwrap_or(config.original_gain);
        if !(0.0..=1.0).contains(&original_gain) {
            return Err(HouseError::Invalid("original_gain lies between 0 and 1".to_owned()));
        }
        let most = match request.kind {
            RoomKind::Call => 2,
            RoomKind::Conference => config.max_participants,
        };
        let max_participants = request.max_participants.unwrap_or(most);
        if max_participants == 0 || max_participants > most {
            let detail = format!("max_participants lies between 1 and {most} for this kind");
            return Err(HouseError::Invalid(detail));
        }
        self.shared.refuse_when_draining()?;
        let mut state = self.shared.state.lock();
        if state.rooms.len() >= config.max_rooms {
            return Err(HouseError::Overloaded { retry_after_s: 30 });
        }
        let name = request.name.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
        let kind = request.kind;
        state.create_room(RoomSpec {
            name,
            kind,
            languages,
            original_gain,
            max_participants,
            empty_timeout_s: request.empty_timeout_s.unwrap_or(config.empty_timeout_s),
            departure_timeout_s: request.departure_timeout_s.unwrap_or(config.departure_timeout_s),
            keep_transcript: request.keep_transcript.unwrap_or(config.keep_transcripts),
        })
    }

    fn rooms(&self) -> Vec<Room> {
        let mut rooms: Vec<Room> =
            self.shared.state.lock().rooms.values().map(|room| room.show()).collect();
        rooms.sort_by_key(|room| room.created_at_ms);
        rooms
    }

    fn room(&self, name: &str) -> Result<Room, HouseError> {
        Ok(self.shared.state.lock().room(name)?.show())
    }

    fn delete_room(&self, name: &str) -> Result<(), HouseError> {
        self.shared.end_room(name, "deleted")
    }

    async fn connect(&self, caller: Caller, offer_sdp: String) -> Result<NewSession, HouseError> {
        let shared = Arc::clone(&self.shared);
        let (hear, voice) = (caller.hear.parse::<Language>(), caller.voice.clone());
        // Judging the offer and making the answer takes a millisecond or two of computing, which
        // does not belong on the threads that move HTTP.
        let session = tokio::task::spawn_blocking(move || shared.connect(&caller, offer_sdp))
            .await
            .map_err(|error| HouseError::Internal(format!("connecting panicked: {error}")))??;
        if let Ok(hear) = hear {
            let models = Arc::clone(&self.shared.models);
            // Nobody waits for it: it is done before anything can have been said.
            tokio::task::spawn_blocking(move || models.voices.prepare(hear, voice.as_deref()));
        }
        Ok(session)
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
        _change: ChangeSession,
    ) -> Result<(), HouseError> {
        let state = self.shared.state.lock();
        let members = &state.room(room)?.members;
        if !members.iter().any(|member| member.session == session) {
            return Err(HouseError::NoSuchSession(session.to_owned()));
        }
        Err(HouseError::Invalid("this room has no channels".to_owned()))
    }

    fn mute(&self, room: &str, identity: &str, _muted: bool) -> Result<(), HouseError> {
        self.shared.state.lock().room(room)?;
        Err(HouseError::NoSuchParticipant(identity.to_owned()))
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
            self.shared.remove_peer(peer, "removed");
        }
        Ok(())
    }

    fn events(&self, room: &str, after: Option<u64>) -> Result<Feed, HouseError> {
        Ok(self.shared.state.lock().room(room)?.feed(after))
    }

    fn all_events(&self) -> broadcast::Receiver<Event> {
        self.shared.state.lock().subscribe_all()
    }

    fn languages(&self) -> Vec<LanguageInfo> {
        let models = &self.shared.models;
        let spoken: Vec<Language> =
            Language::all().filter(|language| models.voices.supports(*language)).collect();
        Language::all()
            .map(|from| LanguageInfo {
                code: from.to_string(),
                name: from.english_name().to_owned(),
                targets: spoken
                    .iter()
                    .filter(|to| **to != from && models.translator.supports(from, **to))
                    .map(ToString::to_string)
                    .collect(),
            })
            .filter(|language| !language.targets.is_empty())
            .collect()
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        let voices = self.shared.models.voices.voices().into_iter();
        voices
            .map(|voice| VoiceInfo {
                name: voice.name,
                language: voice.language.to_string(),
                engine: voice.engine,
            })
            .collect()
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
            self.shared.state.lock().rooms.values().any(|room| room.is_anybody_speaking());
        !somebody_speaks && self.shared.speaker.is_quiet()
    }

    fn end_all(&self, reason: &str) {
        let rooms: Vec<String> = self.shared.state.lock().rooms.keys().cloned().collect();
        for room in rooms {
            // One that has ended meanwhile is over.
            let _ = self.shared.end_room(&room, reason);
        }
    }
}

impl Shared {
    /// Ends a room and every session in it.
    fn end_room(&self, name: &str, reason: &str) -> Result<(), HouseError> {
        let peers: Vec<PeerId> = {
            let state = self.state.lock();
            state.room(name)?.members.iter().map(|member| member.peer).collect()
        };
        for peer in peers {
            self.remove_peer(peer, "room_ended");
        }
        self.state.lock().end_room(name, reason);
        Ok(())
    }

    fn refuse_when_draining(&self) -> Result<(), HouseError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(HouseError::Draining);
        }
        Ok(())
    }

    fn connect(&self, caller: &Caller, offer_sdp: String) -> Result<NewSession, HouseError> {
        self.refuse_when_draining()?;
        let peer = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        let session = Uuid::new_v4().simple().to_string();
        let room = self.state.lock().reserve(caller, peer, session.clone())?;
        let request = ConnectPeer {
            peer,
            room,
            offer_sdp,
            speak: caller.grants.speak,
            listen: caller.grants.listen,
        };
        let connected = match self.plane.connect(request) {
            Ok(connected) => connected,
            Err(error) => {
                self.state.lock().remove_peer(peer, "failed");
                return Err(refusal(error));
            }
        };
        self.speaker.attach(peer, connected.playout);
        if let Some(listener) = self.listener.get() {
            listener.attach(peer, connected.heard);
        }
        match self.state.lock().room_of_mut(peer) {
            Some(room) => {
                room.answered(peer, connected.track_mid);
            }
            // The room ended while the offer was being answered.
            None => {
                self.plane.disconnect(peer);
                self.speaker.detach(peer);
                if let Some(listener) = self.listener.get() {
                    listener.detach(peer);
                }
                return Err(HouseError::NoSuchRoom(caller.room.clone()));
            }
        }
        Ok(NewSession { id: session, answer_sdp: connected.answer_sdp, etag: connected.ice_ufrag })
    }
}

/// What the media plane refused, as the HTTP face tells it.
fn refusal(error: TransportError) -> HouseError {
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
