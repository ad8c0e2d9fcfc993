//! A house where nobody lives, for the HTTP face's target: every request gets as far as its parser.

use signaling::house::{Caller, Feed, House, HouseError, IceUpdate, NewSession, NewVoice};
use signaling::wire::{ChangeSession, CreateRoom, Event, LanguageInfo, Room, VoiceInfo};
use tokio::sync::broadcast;

/// Takes every room and every session, and remembers none.
pub struct EmptyHouse;

impl House for EmptyHouse {
    fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError> {
        Ok(Room {
            name: request.name.unwrap_or_else(|| "room".to_owned()),
            kind: request.kind,
            languages: request.languages,
            original_gain: request.original_gain.unwrap_or(0.2),
            max_participants: request.max_participants.unwrap_or(2),
            empty_timeout_s: 300,
            departure_timeout_s: 20,
            keep_transcript: false,
            tier: "full".to_owned(),
            record: request.record,
            relay: request.relay,
            created_at_ms: 1,
            participants: Vec::new(),
        })
    }

    fn rooms(&self) -> Vec<Room> {
        Vec::new()
    }

    fn room(&self, name: &str) -> Result<Room, HouseError> {
        Err(HouseError::NoSuchRoom(name.to_owned()))
    }

    fn delete_room(&self, _: &str) -> Result<(), HouseError> {
        Ok(())
    }

    async fn connect(&self, caller: Caller, _: String) -> Result<NewSession, HouseError> {
        Ok(NewSession {
            id: caller.identity,
            answer_sdp: "v=0\r\n".to_owned(),
            etag: "etag".to_owned(),
        })
    }

    async fn update_ice(
        &self,
        _: &str,
        session: &str,
        _: Option<String>,
        _: String,
    ) -> Result<IceUpdate, HouseError> {
        Err(HouseError::NoSuchSession(session.to_owned()))
    }

    fn session_owner(&self, _: &str, session: &str) -> Result<String, HouseError> {
        Ok(session.to_owned())
    }

    fn disconnect(&self, _: &str, _: &str) -> Result<(), HouseError> {
        Ok(())
    }

    fn change_session(&self, _: &str, _: &str, _: ChangeSession) -> Result<(), HouseError> {
        Ok(())
    }

    fn mute(&self, _: &str, _: &str, _: bool) -> Result<(), HouseError> {
        Ok(())
    }

    fn remove_participant(&self, _: &str, _: &str) -> Result<(), HouseError> {
        Ok(())
    }

    fn all_events(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }

    fn events(&self, room: &str, _: Option<u64>) -> Result<Feed, HouseError> {
        Err(HouseError::NoSuchRoom(room.to_owned()))
    }

    fn languages(&self) -> Vec<LanguageInfo> {
        Vec::new()
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        Vec::new()
    }

    fn can_learn(&self) -> bool {
        true
    }

    async fn learn_voice(&self, _: NewVoice) -> Result<VoiceInfo, HouseError> {
        Err(HouseError::BadRecording("nobody listens to it".to_owned()))
    }

    fn forget_voice(&self, _: &str) -> Result<(), HouseError> {
        Ok(())
    }

    fn keep_voice(&self, _: &str, identity: &str, _: &str) -> Result<VoiceInfo, HouseError> {
        Err(HouseError::NoSuchParticipant(identity.to_owned()))
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn drain(&self) {}

    fn is_draining(&self) -> bool {
        false
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn end_all(&self, _: &str) {}
}
