//! What is said in rooms that keep it goes into the transcripts, before the event that announces it
//! is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use inference::Language;
use inference::translate::Translation;
use inference::whisper::Transcript;
use parking_lot::Mutex;
use signaling::transcripts::{Meeting, NewMeeting, NewTranslation, NewUtterance, Stats, Store};
use signaling::wire::{Room, UtteranceRef};

use super::Shared;
use super::events::now_ms;
use crate::listener::Mark;

/// The meetings that are going on, by room. Without a store, or in a room that keeps nothing, every
/// call is nothing.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    store: Option<Arc<Store>>,
    open: Mutex<HashMap<String, Open>>,
}

/// A meeting, and its beginning on both clocks: times within it follow the one that never jumps.
#[derive(Clone, Debug)]
struct Open {
    meeting: Meeting,
    started: Instant,
    started_at_ms: u64,
}

impl Minutes {
    pub(super) fn new(store: Option<Arc<Store>>) -> Self {
        Self { store, open: Mutex::default() }
    }

    /// A room was made. Nothing is written before somebody spoke.
    pub(super) fn started(&self, room: &Room) {
        if self.store.is_none() || !room.keep_transcript {
            return;
        }
        let started_at_ms = room.created_at_ms;
        let meeting = Meeting::new(NewMeeting {
            room: room.name.clone(),
            kind: room.kind,
            languages: room.languages.clone(),
            started_at_ms,
        });
        let open = Open { meeting, started: Instant::now(), started_at_ms };
        self.open.lock().insert(room.name.clone(), open);
    }

    /// A room is over. Does not wait.
    pub(super) fn ended(&self, room: &str) {
        let Some(open) = self.open.lock().remove(room) else { return };
        if let Some(store) = &self.store {
            store.end_meeting(&open.meeting, now_ms().max(open.started_at_ms));
        }
    }

    /// Rows kept and lost so far.
    pub(super) fn stats(&self) -> Stats {
        self.store.as_ref().map(|store| store.stats()).unwrap_or_default()
    }

    fn going_on(&self, room: &str) -> Option<(&Store, Open)> {
        Some((self.store.as_deref()?, self.open.lock().get(room)?.clone()))
    }
}

impl Open {
    /// A moment, milliseconds since the Unix epoch; `None` when it was before the meeting.
    fn at_ms(&self, moment: Instant) -> Option<u64> {
        let since = moment.checked_duration_since(self.started)?;
        Some(self.started_at_ms + u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Shared {
    /// Keeps what somebody said. Returns when it is in the file, or lost, which the store tells.
    pub(super) fn keep_transcript(
        &self,
        room: &str,
        reference: &UtteranceRef,
        transcript: &Transcript,
        (first_voiced, last_voiced): (Mark, Mark),
    ) {
        let Some((store, open)) = self.minutes.going_on(room) else { return };
        // The name may belong to another meeting by now.
        let Some(started_at_ms) = open.at_ms(first_voiced.arrived) else { return };
        let said = NewUtterance {
            utterance: reference.utterance.clone(),
            speaker: reference.speaker.clone(),
            speaker_name: self.display_name(room, &reference.speaker),
            language: transcript.language.to_string(),
            text: transcript.text.clone(),
            started_at_ms,
            ended_at_ms: open.at_ms(last_voiced.arrived).unwrap_or(started_at_ms),
        };
        // The call goes on without it.
        let _ = store.keep_utterance(&open.meeting, said);
    }

    /// Keeps what an utterance became, likewise.
    pub(super) fn keep_translation(
        &self,
        room: &str,
        reference: &UtteranceRef,
        language: Language,
        translation: &Translation,
    ) {
        let Some((store, open)) = self.minutes.going_on(room) else { return };
        let became = NewTranslation {
            utterance: reference.utterance.clone(),
            language: language.to_string(),
            text: translation.text.clone(),
            translator: translation.translator.clone(),
        };
        let _ = store.keep_translation(&open.meeting, became);
    }

    /// The identity stands for the name of somebody who has just left.
    fn display_name(&self, room: &str, identity: &str) -> String {
        let state = self.state.lock();
        let participant = state.room(room).ok().and_then(|room| room.participant(identity));
        participant.map(|participant| participant.name).unwrap_or_else(|| identity.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use signaling::transcripts::StoreConfig;
    use signaling::wire::RoomKind;

    use super::*;

    fn room(name: &str, keep_transcript: bool) -> Room {
        Room {
            name: name.to_owned(),
            kind: RoomKind::Call,
            languages: Vec::new(),
            original_gain: 0.2,
            max_participants: 2,
            empty_timeout_s: 0,
            departure_timeout_s: 0,
            keep_transcript,
            tier: "full".to_owned(),
            record: Vec::new(),
            relay: std::collections::BTreeMap::new(),
            created_at_ms: 1_000,
            participants: Vec::new(),
        }
    }

    #[test]
    fn a_room_that_keeps_nothing_has_no_meeting() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&StoreConfig::new(folder.path().join("t.sqlite3"))).expect("opens");
        let minutes = Minutes::new(Some(Arc::new(store)));
        minutes.started(&room("quiet", false));
        minutes.started(&room("kept", true));
        assert!(minutes.going_on("quiet").is_none());
        assert!(minutes.going_on("kept").is_some());
        minutes.ended("kept");
        assert!(minutes.going_on("kept").is_none());
    }

    #[test]
    fn a_server_without_a_store_keeps_nothing() {
        let minutes = Minutes::default();
        minutes.started(&room("r", true));
        assert!(minutes.going_on("r").is_none());
    }

    #[test]
    fn what_was_said_before_a_meeting_is_not_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&StoreConfig::new(folder.path().join("t.sqlite3"))).expect("opens");
        let minutes = Minutes::new(Some(Arc::new(store)));
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        minutes.started(&room("r", true));
        let (_, open) = minutes.going_on("r").expect("going on");
        assert_eq!(open.at_ms(before), None);
        assert_eq!(open.at_ms(open.started + Duration::from_millis(1_500)), Some(2_500));
    }
}
