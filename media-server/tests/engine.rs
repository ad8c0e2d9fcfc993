//! The engine over models that do what they are told: who goes first, what a panic costs, and what
//! is left out under load.
#![allow(clippy::unwrap_used)]

mod spoken;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inference::translate::{
    Ladder, LadderConfig, TranslateError, TranslateRequest, Translation, Translator, apertium,
    language_model,
};
use inference::voice::{SpeakRequest, Voice, VoiceError, VoiceInfo, VoiceSet};
use inference::whisper::{Recogniser, TranscribeOptions, Transcript, WhisperError};
use inference::{CancelToken, Language};
use media_server::engine::{
    DropReason, Engine, EngineConfig, Job, Models, ModelsInUse, Observer, OverloadConfig, Target,
    Tier, UtteranceId,
};
use media_server::media::MediaConfig;
use media_server::rooms::{HouseConfig, Rooms, RoomsConfig};
use media_server::segmenter::SegmenterConfig;
use media_server::trace::Times;
use parking_lot::Mutex;
use signaling::house::{Caller, House, HouseError, Role};
use signaling::wire::{CreateRoom, Grants};

const EN: Language = Language::EN;
const ES: Language = Language::ES;
/// A sample of this value makes the recogniser panic, whatever else is in the segment.
const POISON: f32 = 666.0;

/// Hears as many words as there are samples, after a time; panics as often as it is told.
#[derive(Default)]
struct Ears {
    takes: Duration,
    panics: AtomicUsize,
}

impl Recogniser for Ears {
    fn transcribe(
        &self,
        samples_16k: &[f32],
        _: &TranscribeOptions,
        _: &CancelToken,
    ) -> Result<Transcript, WhisperError> {
        let left =
            self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        assert!(left.is_err(), "told to");
        assert!(!samples_16k.contains(&POISON), "poison");
        std::thread::sleep(self.takes);
        Ok(Transcript::certain("Word, word, word, word.", EN))
    }
}

/// Translates into clauses at once.
struct Interpreter(&'static str);

impl Translator for Interpreter {
    fn name(&self) -> &str {
        self.0
    }

    fn supports(&self, _: Language, _: Language) -> bool {
        true
    }

    fn translate(
        &self,
        _: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        let text = "Esta es la primera parte, esta es la segunda parte, esta es la tercera parte.";
        on_text(text);
        Ok(Translation { text: text.to_owned(), translator: self.0.to_owned() })
    }
}

/// Says a clause in a time.
struct Mouth(&'static str, Duration);

impl Voice for Mouth {
    fn name(&self) -> &str {
        self.0
    }

    fn supports(&self, _: Language) -> bool {
        true
    }

    fn sample_rate_hz(&self) -> u32 {
        48_000
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        Vec::new()
    }

    fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        std::thread::sleep(self.1);
        if request.cancel.is_cancelled() {
            return Err(VoiceError::Cancelled);
        }
        let _ = on_chunk(&[0.1; 4800]);
        Ok(())
    }
}

/// What the engine told, in order.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Transcribed(u64),
    Translated(u64, String),
    Speech(u64),
    Spoken(u64),
    Dropped(u64, DropReason),
    Tier(Tier),
}

#[derive(Default)]
struct Notes(Mutex<Vec<Told>>);

impl Notes {
    fn told(&self) -> Vec<Told> {
        self.0.lock().clone()
    }

    /// Waits until something was told.
    fn await_that(&self, what: impl Fn(&Told) -> bool) {
        let began = Instant::now();
        while !self.0.lock().iter().any(&what) {
            assert!(began.elapsed() < Duration::from_secs(20), "never told: {:?}", self.told());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn note(&self, told: Told) {
        self.0.lock().push(told);
    }
}

impl Observer for Notes {
    fn transcribed(&self, utterance: UtteranceId, _: &Transcript, _: &Times) {
        self.note(Told::Transcribed(utterance.0));
    }

    fn translated(
        &self,
        utterance: UtteranceId,
        _: Language,
        translation: &Translation,
        _: &Times,
    ) {
        self.note(Told::Translated(utterance.0, translation.translator.clone()));
    }

    fn speech(&self, utterance: UtteranceId, _: Language, _: u64, _: &[f32], _: &Times) {
        self.note(Told::Speech(utterance.0));
    }

    fn spoken(&self, utterance: UtteranceId, _: Language, _: &Times) {
        self.note(Told::Spoken(utterance.0));
    }

    fn dropped(&self, utterance: UtteranceId, _: Option<Language>, reason: DropReason, _: &str) {
        self.note(Told::Dropped(utterance.0, reason));
    }

    fn tier(&self, tier: Tier) {
        self.note(Told::Tier(tier));
    }
}

fn models(ears: Ears, mouths: Vec<Mouth>) -> Models {
    let better: Arc<dyn Translator> = Arc::new(Interpreter(language_model::NAME));
    let cheaper: Arc<dyn Translator> = Arc::new(Interpreter(apertium::NAME));
    let order = LadderConfig {
        order: vec![language_model::NAME.to_owned(), apertium::NAME.to_owned()],
        pairs: BTreeMap::new(),
    };
    let voices = mouths.into_iter().map(|mouth| Arc::new(mouth) as Arc<dyn Voice>).collect();
    Models {
        recogniser_name: "ears".to_owned(),
        vad: spoken::vad(),
        recogniser: Arc::new(ears),
        translator: Ladder::new(&order, &[better, cheaper]).unwrap(),
        voices: VoiceSet::new(voices),
    }
}

fn start(ears: Ears, mouths: Vec<Mouth>, config: &EngineConfig) -> (Engine, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let models = Arc::new(ModelsInUse::new(models(ears, mouths)));
    let engine = Engine::start(models, config, Arc::clone(&notes) as _).unwrap();
    (engine, notes)
}

/// An utterance that ended so long ago.
fn job(utterance: u64, ago: Duration) -> Job {
    let said = Instant::now().checked_sub(ago).unwrap();
    Job {
        utterance: UtteranceId(utterance),
        samples_16k: vec![0.0; 1600],
        from: Some(EN),
        targets: vec![Target::spoken(ES)],
        times: Times::new(said, said, said),
        voiced: true,
        deadline: Duration::from_secs(6),
        cancel: CancelToken::new(),
    }
}

const NOW: Duration = Duration::ZERO;

fn quick() -> Vec<Mouth> {
    vec![Mouth("mouth", Duration::from_millis(1))]
}

fn one_at_a_time() -> EngineConfig {
    EngineConfig { transcribe_workers: 1, translate_workers: 1, ..EngineConfig::default() }
}

#[test]
fn the_nearest_deadline_goes_first_and_guesses_go_last() {
    let ears = Ears { takes: Duration::from_millis(300), ..Ears::default() };
    let (engine, notes) = start(ears, quick(), &one_at_a_time());
    engine.submit(job(1, NOW)).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(engine.speculate(UtteranceId(9), &[0.0; 1600], Some(EN)));
    engine.submit(job(2, Duration::from_millis(100))).unwrap();
    engine.submit(job(3, Duration::from_secs(2))).unwrap();
    notes.await_that(|told| matches!(told, Told::Spoken(2)));
    let heard: Vec<Told> =
        notes.told().into_iter().filter(|told| matches!(told, Told::Transcribed(_))).collect();
    assert_eq!(heard, [Told::Transcribed(1), Told::Transcribed(3), Told::Transcribed(2)]);
}

#[test]
fn a_panic_of_a_model_is_tried_again_and_costs_the_others_nothing() {
    let ears = Ears { panics: AtomicUsize::new(1), ..Ears::default() };
    let (engine, notes) = start(ears, quick(), &one_at_a_time());
    engine.submit(job(1, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Spoken(1));
    let poison = Job { samples_16k: vec![POISON], ..job(2, NOW) };
    engine.submit(poison).unwrap();
    engine.submit(job(3, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Spoken(3));
    assert!(notes.told().contains(&Told::Dropped(2, DropReason::Failed)));
    let stats = engine.stats();
    assert_eq!(stats.stages[0].panics, 3, "once by order, twice by poison");
    assert_eq!(stats.stages[0].begun, 3);
}

#[test]
fn a_long_sentence_does_not_keep_anothers_first_words_waiting() {
    let voice = vec![Mouth("mouth", Duration::from_millis(60))];
    let (engine, notes) = start(Ears::default(), voice, &one_at_a_time());
    engine.submit(job(1, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Speech(1));
    engine.submit(job(2, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Spoken(1));
    notes.await_that(|told| *told == Told::Spoken(2));
    let told = notes.told();
    let place = |wanted: &Told| told.iter().position(|told| told == wanted).unwrap();
    assert!(place(&Told::Speech(2)) < place(&Told::Spoken(1)), "{told:?}");
    let pieces = |id: u64| told.iter().filter(|told| **told == Told::Speech(id)).count();
    assert_eq!((pieces(1), pieces(2)), (3, 3), "nobody lost a clause");
}

#[test]
fn under_load_things_are_left_out_tier_by_tier_and_taken_up_again() {
    let config = EngineConfig {
        overload: OverloadConfig { high_ms: 100, low_ms: 300, ..OverloadConfig::default() },
        ..one_at_a_time()
    };
    // The better voice is far too slow for what is asked of it.
    let voices =
        vec![Mouth("slow", Duration::from_millis(700)), Mouth("quick", Duration::from_millis(700))];
    let (engine, notes) = start(Ears::default(), voices, &config);
    assert_eq!(engine.refuses_for(), None);
    // Already late by most of their deadline.
    let late = Duration::from_millis(4_500);
    for utterance in 1..=6 {
        engine.submit(job(utterance, late)).unwrap();
    }
    notes.await_that(|told| *told == Told::Tier(Tier::CaptionsOnly));
    assert!(engine.refuses_for().is_some(), "nobody new who would speak");
    assert!(!engine.speculate(UtteranceId(99), &[0.0; 160], Some(EN)));
    engine.submit(job(7, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Dropped(7, DropReason::Overloaded));
    assert!(
        notes.told().contains(&Told::Translated(7, apertium::NAME.to_owned())),
        "captioned, by the cheaper translator"
    );
    notes.await_that(|told| *told == Told::Tier(Tier::Full));
    let tiers: Vec<Tier> = notes
        .told()
        .iter()
        .filter_map(|told| if let Told::Tier(tier) = told { Some(*tier) } else { None })
        .collect();
    let down =
        [Tier::NoSpeculation, Tier::CheaperVoice, Tier::CheaperTranslator, Tier::CaptionsOnly];
    assert_eq!(tiers[..4], down);
    assert_eq!(tiers.last(), Some(&Tier::Full));
    assert_eq!(
        engine.stats().steps.iter().map(|(_, count)| count).sum::<u64>(),
        tiers.len() as u64
    );
    engine.submit(job(8, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Spoken(8));
    assert!(notes.told().contains(&Told::Translated(8, language_model::NAME.to_owned())));
}

#[test]
fn other_models_take_over_with_the_next_request_and_what_has_begun_ends_with_its_own() {
    let slow = Ears { takes: Duration::from_millis(400), ..Ears::default() };
    let in_use = Arc::new(ModelsInUse::new(models(slow, quick())));
    let notes = Arc::new(Notes::default());
    let config = EngineConfig::default();
    let engine = Engine::start(Arc::clone(&in_use), &config, Arc::clone(&notes) as _).unwrap();
    engine.submit(job(1, NOW)).unwrap();
    std::thread::sleep(Duration::from_millis(50));

    let other: Arc<dyn Translator> = Arc::new(Interpreter("other"));
    let order = LadderConfig { order: vec!["other".to_owned()], pairs: BTreeMap::new() };
    let before = in_use.replace(Models {
        translator: Ladder::new(&order, &[other]).unwrap(),
        ..models(Ears::default(), quick())
    });
    assert_eq!(Arc::strong_count(&before), 2, "the first sentence is being recognised by them");
    engine.submit(job(2, NOW)).unwrap();
    notes.await_that(|told| *told == Told::Spoken(1));
    let told = notes.told();
    let place = |wanted: &Told| told.iter().position(|told| told == wanted).unwrap();
    assert!(place(&Told::Spoken(2)) < place(&Told::Transcribed(1)), "{told:?}");
    for id in [1, 2] {
        assert!(told.contains(&Told::Translated(id, "other".to_owned())), "{told:?}");
    }
    assert_eq!(Arc::strong_count(&before), 1, "nobody holds them any more");
}

#[test]
fn what_is_queued_is_finished_when_the_engine_ends() {
    let ears = Ears { takes: Duration::from_millis(30), ..Ears::default() };
    let (engine, notes) = start(ears, quick(), &EngineConfig::default());
    for utterance in 1..=5 {
        engine.submit(job(utterance, NOW)).unwrap();
    }
    drop(engine);
    let told = notes.told();
    let spoken = told.iter().filter(|told| matches!(told, Told::Spoken(_))).count();
    assert_eq!(spoken, 5, "{told:?}");
}

#[tokio::test]
async fn without_headroom_who_would_speak_is_told_to_come_back_and_who_listens_is_let_in() {
    let config = HouseConfig {
        rooms: RoomsConfig::default(),
        media: MediaConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            announce: Vec::new(),
            workers: 1,
            peer_timeout: Duration::from_secs(15),
            real_time: false,
        },
        segmenter: SegmenterConfig::default(),
        engine: EngineConfig {
            // The first tier is enough: no load has to be made.
            overload: OverloadConfig { refuse_from: Tier::Full, ..OverloadConfig::default() },
            ..EngineConfig::default()
        },
        transcripts: None,
        voices: None,
    };
    let models = Arc::new(ModelsInUse::new(models(Ears::default(), quick())));
    let rooms = Rooms::open(&models, &config).unwrap();
    let room: CreateRoom =
        serde_json::from_str(r#"{"name":"hall","kind":"conference","languages":["en","es"]}"#)
            .unwrap();
    rooms.create_room(room).unwrap();
    let caller = |role, grants| Caller {
        role,
        original_gain: None,
        room: "hall".to_owned(),
        identity: "anna".to_owned(),
        name: "Anna".to_owned(),
        language: "en".to_owned(),
        hear: "es".to_owned(),
        voice: None,
        grants,
    };
    let ask = |caller| rooms.connect(caller, "no offer".to_owned());
    let speaker = ask(caller(Role::Both { channel: None }, Grants::default())).await;
    assert!(matches!(speaker.unwrap_err(), HouseError::Overloaded { retry_after_s: 10 }));
    let listener = ask(caller(Role::Listen { channel: None }, Grants::default())).await;
    assert!(matches!(listener.unwrap_err(), HouseError::BadSdp(_)), "it came as far as its offer");
    let silent = Grants { speak: false, ..Grants::default() };
    let silent = ask(caller(Role::Both { channel: None }, silent)).await;
    assert!(matches!(silent.unwrap_err(), HouseError::BadSdp(_)), "who may not speak only listens");
}
