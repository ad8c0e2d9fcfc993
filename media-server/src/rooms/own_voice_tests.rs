//! The own voices of participants, with a voice engine that learns in no time, the real detector of
//! speech, and sentences that espeak-ng says. Nobody is connected: who comes and what they say is
//! told by hand.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::Language;
use inference::voice::{Espeak, SpeakRequest, Voice as _};
use signaling::house::{Caller, House as _, HouseError, NewVoice};
use signaling::wire::{CreateRoom, Event, EventKind, Grants, OwnVoice, RoomKind, VoiceKind};
use tokio::sync::broadcast;

use super::Rooms;
use super::sink::ListenerSink;
use super::testing::{caller, house_on_loopback, listener, speaker};
use crate::audio_file::write_wav;
use crate::engine::ModelsInUse;
use crate::learning::collect::NEEDED_MS;
use crate::learning::testing::{Parrot, models};
use crate::listener::{Heard, Mark, SpeechSink as _};
use crate::media::PeerId;
use crate::resample::Resampler;

const PATIENCE: Duration = Duration::from_secs(30);

struct Meeting {
    rooms: Rooms,
    parrot: Arc<Parrot>,
    sink: ListenerSink,
    events: broadcast::Receiver<Event>,
    speech_16k: Vec<f32>,
    next: u64,
}

impl Meeting {
    fn open(kind: RoomKind, learns: bool) -> Self {
        let parrot = Arc::new(Parrot::new(learns));
        let in_use = Arc::new(ModelsInUse::new(models(&parrot)));
        let config = house_on_loopback();
        let rooms = Rooms::open(&in_use, &config).expect("the house opens");
        let events = rooms.all_events();
        let channels =
            if kind == RoomKind::Conference { vec!["en".to_owned()] } else { Vec::new() };
        rooms
            .create_room(CreateRoom {
                name: Some("r".to_owned()),
                kind,
                languages: channels,
                ..CreateRoom::default()
            })
            .expect("a room");
        let sink = ListenerSink(Arc::clone(&rooms.shared));
        Self { rooms, parrot, sink, events, speech_16k: sentence(), next: 1_000 }
    }

    fn reserve(&mut self, caller: &Caller) -> Result<PeerId, HouseError> {
        self.next += 1;
        let (peer, session) = (PeerId(self.next), self.next.to_string());
        self.rooms.shared.state.lock().reserve(caller, peer, session).map(|_| peer)
    }

    fn join(&mut self, caller: &Caller) -> PeerId {
        let peer = self.reserve(caller).expect("a place");
        self.rooms.shared.peer_connected(peer, Duration::ZERO);
        peer
    }

    /// Somebody says the sentence; waits until it was spoken, and gives the voice that it was spoken
    /// in.
    fn say(&mut self, peer: PeerId) -> Option<String> {
        let before = self.parrot.spoke.lock().len();
        let ended = Instant::now();
        let mark = |seconds_ago: u64| Mark {
            rtp_timestamp: 0,
            arrived: ended - Duration::from_secs(seconds_ago),
        };
        assert!(self.sink.wanted(peer));
        let utterance = self.sink.started(peer);
        let samples_16k = self.speech_16k.clone();
        let heard = Heard { samples_16k, first_voiced: mark(3), last_voiced: mark(1), ended };
        self.sink.heard(peer, utterance, heard);
        await_that("it was spoken", || self.parrot.spoke.lock().len() > before);
        self.parrot.spoke.lock()[before].clone()
    }

    /// Waits until a voice is in a state, and gives what was collected on the way.
    fn until(&mut self, wanted: OwnVoice) -> Vec<u64> {
        let mut collected = Vec::new();
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < PATIENCE, "never {wanted:?}, {collected:?}");
            let Ok(event) = self.events.try_recv() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            if let EventKind::ParticipantVoice { identity, state, collected_ms, needed_ms } =
                event.kind
            {
                assert_eq!((identity.as_str(), needed_ms), ("ana", NEEDED_MS));
                collected.push(collected_ms);
                if state == wanted {
                    return collected;
                }
            }
        }
    }

    /// Says the sentence until the voice is in a state.
    fn say_until(&mut self, peer: PeerId, wanted: OwnVoice) {
        let since = Instant::now();
        while self.state_of("ana") == Some(OwnVoice::Collecting) {
            assert!(since.elapsed() < PATIENCE, "still collecting");
            self.say(peer);
            // The sentence that completes the voice is followed by its learning.
            std::thread::sleep(Duration::from_millis(30));
        }
        assert_eq!(self.state_of("ana"), Some(wanted));
    }

    fn state_of(&self, identity: &str) -> Option<OwnVoice> {
        let room = self.rooms.room("r").expect("it is there");
        let found = room.participants.into_iter().find(|one| one.identity == identity);
        found.expect("they are there").own_voice
    }
}

fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A sentence between two pauses, 16 kHz.
fn sentence() -> Vec<f32> {
    let espeak = Espeak::new().expect("espeak-ng is there");
    let request = SpeakRequest::new(
        "La reunión empieza mañana a las diez, y esta vez vienen todos los vecinos.",
        Language::ES,
    );
    let mut samples = Vec::new();
    espeak
        .speak(&request, &mut |chunk| {
            samples.extend_from_slice(chunk);
            ControlFlow::Continue(())
        })
        .expect("it speaks");
    let mut resampled = vec![0.0; 8_000];
    let mut resampler = Resampler::new(espeak.sample_rate_hz(), 16_000).expect("a usual rate");
    resampler.process(&samples, &mut resampled);
    resampler.flush(&mut resampled);
    resampled.extend([0.0; 8_000]);
    resampled
}

/// Somebody who asks to be heard in their own voice.
fn with_own_voice(caller: Caller) -> Caller {
    let grants = Grants { own_voice: true, ..caller.grants.clone() };
    Caller { voice: Some("own".to_owned()), grants, ..caller }
}

#[test]
fn what_one_says_in_a_call_is_spoken_in_ones_own_voice_once_enough_was_heard() {
    let mut meeting = Meeting::open(RoomKind::Call, true);
    let ana = meeting.join(&with_own_voice(caller("ana", "es")));
    let ben = meeting.join(&Caller { voice: Some("polly".to_owned()), ..caller("ben", "en") });
    assert_eq!(meeting.until(OwnVoice::Collecting), [0]);
    assert_eq!(meeting.state_of("ben"), None);
    // What the listener asked for, until it is known.
    assert_eq!(meeting.say(ana).as_deref(), Some("polly"));
    meeting.say_until(ana, OwnVoice::Learned);
    let collected = meeting.until(OwnVoice::Learned);
    assert!(collected.is_sorted() && collected.len() > 4, "{collected:?}");
    assert_eq!(collected.last(), Some(&NEEDED_MS));
    assert_eq!(*meeting.parrot.heard.lock(), [[96_000; 3]], "learned once, from three clips");
    let own = meeting.say(ana).expect("a voice of her own");
    assert!(own.starts_with('~') && own.len() > 32, "{own}");
    let listed = meeting.rooms.voices();
    assert!(listed.iter().all(|voice| voice.name != own), "{listed:?}");
    assert!(matches!(meeting.rooms.forget_voice(&own), Err(HouseError::NoSuchVoice(_))));

    let kept = meeting.rooms.keep_voice("r", "ana", "ana").expect("it is kept");
    assert_eq!((kept.name.as_str(), kept.kind), ("ana", VoiceKind::Learned));
    let again = meeting.rooms.keep_voice("r", "ana", "ana");
    assert!(matches!(again, Err(HouseError::VoiceExists(_))));
    let not_agreed = meeting.rooms.keep_voice("r", "ben", "ben");
    assert!(matches!(not_agreed, Err(HouseError::NotLearned(_))));
    let nobody = meeting.rooms.keep_voice("r", "eve", "eve");
    assert!(matches!(nobody, Err(HouseError::NoSuchParticipant(_))));

    meeting.rooms.shared.remove_peer(ana, "left");
    meeting.until(OwnVoice::Forgotten);
    assert_eq!(meeting.parrot.known(), ["ana"], "what was not kept under a name is forgotten");
    meeting.rooms.shared.remove_peer(ben, "left");
    assert_eq!(meeting.parrot.known(), ["ana"]);
}

#[test]
fn a_voice_is_forgotten_with_its_room_and_in_the_middle_of_being_collected() {
    let mut meeting = Meeting::open(RoomKind::Call, true);
    let ana = meeting.join(&with_own_voice(caller("ana", "es")));
    meeting.join(&caller("ben", "en"));
    meeting.say(ana);
    meeting.rooms.shared.remove_peer(ana, "left");
    assert_eq!(meeting.until(OwnVoice::Forgotten).last(), Some(&0));
    let ana = meeting.join(&with_own_voice(caller("ana", "es")));
    meeting.say_until(ana, OwnVoice::Learned);
    assert_eq!(meeting.parrot.known().len(), 1);
    meeting.rooms.delete_room("r").expect("it is there");
    assert!(meeting.parrot.known().is_empty());
    meeting.until(OwnVoice::Learned);
    meeting.until(OwnVoice::Forgotten);
}

#[test]
fn on_a_channel_the_speaker_is_heard_in_their_own_voice_too() {
    let mut meeting = Meeting::open(RoomKind::Conference, true);
    meeting.join(&listener("ben", "en"));
    let ana = meeting.join(&with_own_voice(speaker("ana", "es")));
    assert_eq!(meeting.say(ana).as_deref(), Some("polly"), "her turn among the channel's voices");
    meeting.say_until(ana, OwnVoice::Learned);
    assert!(meeting.say(ana).expect("a voice of her own").starts_with('~'));
}

#[test]
fn nothing_is_collected_of_whom_does_not_ask_and_nobody_asks_who_has_not_agreed() {
    let mut meeting = Meeting::open(RoomKind::Call, true);
    let own = Some("own".to_owned());
    let refused = meeting.reserve(&Caller { voice: own, ..caller("ana", "es") });
    assert!(matches!(refused, Err(HouseError::Forbidden(_))));
    let agreed = Grants { own_voice: true, ..Grants::default() };
    let ana = meeting.join(&Caller { grants: agreed, ..caller("ana", "es") });
    meeting.join(&caller("ben", "en"));
    assert_eq!(meeting.state_of("ana"), Some(OwnVoice::Granted));
    for _ in 0..3 {
        assert_eq!(meeting.say(ana), None);
    }
    let told = std::iter::from_fn(|| meeting.events.try_recv().ok());
    assert!(
        !told.into_iter().any(|event| matches!(event.kind, EventKind::ParticipantVoice { .. }))
    );
}

#[test]
fn a_voice_that_cannot_be_learned_leaves_the_usual_one() {
    let mut meeting = Meeting::open(RoomKind::Call, false);
    let ana = meeting.join(&with_own_voice(caller("ana", "es")));
    meeting.join(&caller("ben", "en"));
    assert_eq!(meeting.say(ana), None);
    meeting.say_until(ana, OwnVoice::Failed);
    assert_eq!(meeting.say(ana), None);
}

#[test]
fn own_voices_survive_other_models_that_can_learn_and_are_forgotten_with_the_last_that_can() {
    let mut meeting = Meeting::open(RoomKind::Call, true);
    let ana = meeting.join(&with_own_voice(caller("ana", "es")));
    meeting.join(&caller("ben", "en"));
    meeting.say_until(ana, OwnVoice::Learned);
    let other = Arc::new(Parrot::new(true));
    let before = std::mem::replace(&mut meeting.parrot, Arc::clone(&other)).known();
    meeting.rooms.replace_models(models(&other));
    assert_eq!((other.known(), before.len()), (before.clone(), 1));
    assert_eq!(meeting.say(ana).as_ref(), before.first());

    let dumb = Arc::new(Parrot::new(false));
    meeting.parrot = Arc::clone(&dumb);
    meeting.rooms.replace_models(models(&dumb));
    meeting.until(OwnVoice::Forgotten);
    assert_eq!(meeting.state_of("ana"), Some(OwnVoice::Forgotten));
    assert_eq!(meeting.say(ana), None);
}

#[tokio::test]
async fn a_voice_is_learned_from_files_and_may_be_asked_for_in_a_meeting_that_goes_on() {
    let mut meeting = Meeting::open(RoomKind::Conference, true);
    let folder = tempfile::tempdir().expect("a folder");
    let clip = folder.path().join("ana.wav");
    write_wav(&clip, &meeting.speech_16k, 16_000).expect("written");
    let new = |name: &str, language: Option<&str>| NewVoice {
        name: name.to_owned(),
        language: language.map(str::to_owned),
        clips: vec![clip.clone(), clip.clone()],
    };
    let learned = meeting.rooms.learn_voice(new("ana", Some("en"))).await.expect("learned");
    assert_eq!((learned.name.as_str(), learned.kind), ("ana", VoiceKind::Learned));
    let lengths = meeting.parrot.heard.lock()[0].clone();
    let expected = meeting.speech_16k.len() * 3 / 2;
    assert!(lengths.iter().all(|length| length.abs_diff(expected) < 480), "{lengths:?}");
    let taken = meeting.rooms.learn_voice(new("polly", None)).await;
    assert!(matches!(taken, Err(HouseError::VoiceExists(_))));
    let spanish = meeting.rooms.learn_voice(new("eva", Some("es"))).await;
    assert!(matches!(spanish, Err(HouseError::Invalid(detail)) if detail.contains("speak en")));
    let text = folder.path().join("text.wav");
    std::fs::write(&text, "no sound").expect("written");
    let silent = NewVoice { clips: vec![text], ..new("eva", None) };
    let unreadable = meeting.rooms.learn_voice(silent).await;
    assert!(matches!(unreadable, Err(HouseError::BadRecording(detail)) if !detail.contains('/')));

    meeting.join(&listener("ben", "en"));
    let ana = meeting.join(&Caller { voice: Some("ana".to_owned()), ..speaker("ana", "es") });
    assert_eq!(meeting.say(ana).as_deref(), Some("ana"));
    assert!(matches!(meeting.rooms.forget_voice("polly"), Err(HouseError::BuiltInVoice(_))));
    meeting.rooms.forget_voice("ana").expect("it was learned");
    assert!(matches!(meeting.rooms.forget_voice("ana"), Err(HouseError::NoSuchVoice(_))));
    assert_eq!(meeting.say(ana).as_deref(), Some("polly"), "her turn");
}
