//! Models for tests, with a voice that learns in no time.

use std::ops::ControlFlow;
use std::sync::Arc;

use inference::store::Store;
use inference::translate::{
    Ladder, LadderConfig, TranslateError, TranslateRequest, Translation, Translator,
};
use inference::vad::Vad;
use inference::voice::{Recording, SpeakRequest, Voice, VoiceError, VoiceInfo, VoiceSet};
use inference::whisper::{Recogniser, TranscribeOptions, Transcript, WhisperError};
use inference::{CancelToken, Language};
use parking_lot::Mutex;

use crate::engine::Models;

/// Speaks English; gives a voice's length in samples as its bytes.
#[derive(Default)]
pub(crate) struct Parrot {
    learns: bool,
    known: Mutex<Vec<String>>,
    /// In which voices it spoke, in order.
    pub(crate) spoke: Mutex<Vec<Option<String>>>,
    /// What it learned from, in samples.
    pub(crate) heard: Mutex<Vec<Vec<usize>>>,
}

impl Parrot {
    pub(crate) fn new(learns: bool) -> Self {
        Self { learns, ..Self::default() }
    }

    pub(crate) fn known(&self) -> Vec<String> {
        self.known.lock().clone()
    }
}

impl Voice for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn supports(&self, language: Language) -> bool {
        language == Language::EN
    }

    fn sample_rate_hz(&self) -> u32 {
        48_000
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        let info = |name: &str, learned| VoiceInfo {
            engine: "parrot".to_owned(),
            name: name.to_owned(),
            language: Language::EN,
            learned,
        };
        let learned = self.known().into_iter().map(|name| info(&name, true));
        std::iter::once(info("polly", false)).chain(learned).collect()
    }

    fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        self.spoke.lock().push(request.voice.clone());
        let _ = on_chunk(&[0.1; 4_800]);
        Ok(())
    }

    fn can_learn(&self) -> bool {
        self.learns
    }

    fn learn(&self, name: &str, recordings: &[Recording]) -> Result<Vec<u8>, VoiceError> {
        let mut samples = recordings.iter().flat_map(|recording| &recording.samples);
        assert!(!samples.any(|sample| sample.is_nan()), "told to");
        self.heard.lock().push(recordings.iter().map(|one| one.samples.len()).collect());
        self.recall(name, b"voice")?;
        Ok(b"voice".to_vec())
    }

    fn recall(&self, name: &str, bytes: &[u8]) -> Result<(), VoiceError> {
        assert_eq!(bytes, b"voice");
        let mut known = self.known.lock();
        if known.iter().any(|known| known == name) {
            return Err(VoiceError::NameTaken { voice: name.to_owned() });
        }
        known.push(name.to_owned());
        Ok(())
    }

    fn forget(&self, name: &str) -> bool {
        let mut known = self.known.lock();
        let before = known.len();
        known.retain(|known| known != name);
        known.len() < before
    }
}

struct Ears;

impl Recogniser for Ears {
    fn transcribe(
        &self,
        _: &[f32],
        options: &TranscribeOptions,
        _: &CancelToken,
    ) -> Result<Transcript, WhisperError> {
        Ok(Transcript::certain("Words.", options.language.unwrap_or(Language::ES)))
    }
}

struct Echo;

impl Translator for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn supports(&self, from: Language, to: Language) -> bool {
        from != to
    }

    fn translate(
        &self,
        _: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        on_text("The same words.");
        Ok(Translation { text: "The same words.".to_owned(), translator: "echo".to_owned() })
    }
}

/// Models that take no time, with the real detector of speech.
pub(crate) fn models(parrot: &Arc<Parrot>) -> Models {
    let store = Store::open_default().expect("a place for the models");
    let vad = store.require("silero-vad").expect("fetch the models with `make models`");
    let echo: Arc<dyn Translator> = Arc::new(Echo);
    let order = LadderConfig { order: vec!["echo".to_owned()], pairs: Default::default() };
    Models {
        recogniser_name: "ears".to_owned(),
        vad: Vad::load(&vad).expect("it is the detector"),
        recogniser: Arc::new(Ears),
        translator: Ladder::new(&order, &[echo]).expect("it exists"),
        voices: VoiceSet::new(vec![Arc::clone(parrot) as Arc<dyn Voice>]),
    }
}
