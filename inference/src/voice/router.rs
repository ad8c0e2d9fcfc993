//! Picks the voice for a language: the engines are tried in the configured order, and when one
//! fails before it made a sound the next one speaks instead.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Recording, SpeakRequest, UNLISTED, Voice, VoiceError, VoiceInfo};
use crate::Language;
use crate::batch::BatchStats;

/// A piece of speech and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct SpokenChunk<'a> {
    /// Mono samples, nominally within -1 to 1.
    pub samples: &'a [f32],
    /// Their rate in Hz; it is the same for all chunks of a request.
    pub sample_rate_hz: u32,
    /// The engine that made them.
    pub engine: &'a str,
}

/// The engines, best first.
#[derive(Clone)]
pub struct VoiceSet {
    engines: Vec<Arc<dyn Voice>>,
}

impl VoiceSet {
    /// A set of `engines` in the order in which they are preferred.
    pub fn new(engines: Vec<Arc<dyn Voice>>) -> Self {
        Self { engines }
    }

    /// Picks and orders `engines` by their names, as a configuration such as
    /// `["kokoro", "espeak-ng"]` says. Engines that are not named are left out.
    ///
    /// # Errors
    /// [`VoiceError::UnknownVoice`] if a name is not an engine's.
    pub fn ordered(order: &[String], engines: &[Arc<dyn Voice>]) -> Result<Self, VoiceError> {
        let find = |name: &String| {
            engines.iter().find(|engine| engine.name() == name).cloned().ok_or_else(|| {
                let known: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
                VoiceError::UnknownVoice { voice: name.clone(), known: known.join(", ") }
            })
        };
        order.iter().map(find).collect::<Result<_, _>>().map(Self::new)
    }

    /// Whether any engine speaks the language.
    pub fn supports(&self, language: Language) -> bool {
        self.engines.iter().any(|engine| engine.supports(language))
    }

    /// All voices that can be named, the preferred engine's first, without those that are
    /// [unlisted](UNLISTED).
    pub fn voices(&self) -> Vec<VoiceInfo> {
        let all = self.engines.iter().flat_map(|engine| engine.voices());
        all.filter(|voice| !voice.name.starts_with(UNLISTED)).collect()
    }

    /// Whether any engine has learned a voice of that name, be it unlisted.
    pub fn has_learned(&self, name: &str) -> bool {
        let mut all = self.engines.iter().flat_map(|engine| engine.voices());
        all.any(|voice| voice.learned && voice.name == name)
    }

    /// Whether voices can be learned.
    pub fn can_learn(&self) -> bool {
        self.learner().is_some()
    }

    /// Whether a learned voice speaks the language.
    pub fn learned_speak(&self, language: Language) -> bool {
        self.learner().is_some_and(|engine| engine.supports(language))
    }

    /// Learns a voice with the first engine that can; see [`Voice::learn`].
    ///
    /// # Errors
    /// As [`Voice::learn`]; [`VoiceError::NameTaken`] whichever engine has a voice of that name.
    pub fn learn(&self, name: &str, recordings: &[Recording]) -> Result<Vec<u8>, VoiceError> {
        self.learner_for(name)?.learn(name, recordings)
    }

    /// Has a voice again that was learned before; see [`Voice::recall`].
    ///
    /// # Errors
    /// As [`Voice::recall`]; [`VoiceError::NameTaken`] whichever engine has a voice of that name.
    pub fn recall(&self, name: &str, bytes: &[u8]) -> Result<(), VoiceError> {
        self.learner_for(name)?.recall(name, bytes)
    }

    /// Forgets a learned voice. Whether there was one of that name.
    pub fn forget(&self, name: &str) -> bool {
        self.engines.iter().any(|engine| engine.forget(name))
    }

    fn learner(&self) -> Option<&Arc<dyn Voice>> {
        self.engines.iter().find(|engine| engine.can_learn())
    }

    /// The engine that may learn a voice of that name.
    fn learner_for(&self, name: &str) -> Result<&Arc<dyn Voice>, VoiceError> {
        let learner = self.learner().ok_or_else(|| VoiceError::CannotLearn {
            engine: "none of the configured engines".to_owned(),
        })?;
        if self.engines.iter().any(|engine| has(&**engine, name)) {
            return Err(VoiceError::NameTaken { voice: name.to_owned() });
        }
        Ok(learner)
    }

    /// What the batchers of engines that have one have done so far, with the engine's name.
    pub fn batch_stats(&self) -> Vec<(String, BatchStats)> {
        let stats =
            |engine: &Arc<dyn Voice>| Some((engine.name().to_owned(), engine.batch_stats()?));
        self.engines.iter().filter_map(stats).collect()
    }

    /// Does what the first request for a voice (`None`: the language's own) would have to wait for.
    /// What fails here is told by the request itself.
    pub fn prepare(&self, language: Language, voice: Option<&str>) {
        for engine in self.engines.iter().filter(|engine| engine.supports(language)) {
            if let Err(error) = engine.prepare(language, voice) {
                tracing::debug!(engine = engine.name(), %error, %language, "not prepared");
            }
        }
    }

    /// Speaks with the first engine that can; a voice that is named puts its engine first. Returns
    /// the name of the engine that spoke.
    ///
    /// # Errors
    /// [`VoiceError::UnknownVoice`] if no engine has the named voice,
    /// [`VoiceError::UnsupportedLanguage`] if none speaks the language, and otherwise the error of
    /// the last engine that was tried. Once sound has been released an error is final: starting
    /// over would say the beginning twice.
    pub fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(SpokenChunk<'_>) -> ControlFlow<()>,
    ) -> Result<&str, VoiceError> {
        self.speak_from(0, request, on_chunk)
    }

    /// As [`speak`](Self::speak) without the first `tier` engines that speak the language, and
    /// without those that learn voices, the last of all excepted: later engines are cheaper, and none
    /// costs more than a learned voice. A voice of one that is left out is replaced by the language's
    /// own of the next.
    ///
    /// # Errors
    /// As [`speak`](Self::speak).
    pub fn speak_from(
        &self,
        tier: usize,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(SpokenChunk<'_>) -> ControlFlow<()>,
    ) -> Result<&str, VoiceError> {
        let owner = self.owner(request)?;
        let mut candidates: Vec<&Arc<dyn Voice>> =
            self.engines.iter().filter(|engine| engine.supports(request.language)).collect();
        candidates.drain(..tier.min(candidates.len().saturating_sub(1)));
        if tier > 0 && !candidates.iter().all(|engine| engine.can_learn()) {
            candidates.retain(|engine| !engine.can_learn());
        }
        if let Some(owner) = owner {
            candidates.sort_by_key(|engine| engine.name() != owner);
        }
        let mut last_error = VoiceError::UnsupportedLanguage {
            engine: "the configured set of engines".to_owned(),
            language: request.language,
        };
        for engine in candidates {
            let mut request = request.clone();
            if owner.is_some_and(|owner| owner != engine.name()) {
                request.voice = None;
            }
            let mut released = false;
            let outcome = engine.speak(&request, &mut |samples| {
                released = true;
                on_chunk(SpokenChunk {
                    samples,
                    sample_rate_hz: engine.sample_rate_hz(),
                    engine: engine.name(),
                })
            });
            match outcome {
                Ok(()) => return Ok(engine.name()),
                // It speaks the language, but only in voices that are named.
                Err(error @ VoiceError::UnsupportedLanguage { .. }) if !released => {
                    last_error = error;
                }
                Err(error @ VoiceError::Failed { .. }) if !released => {
                    tracing::warn!(engine = engine.name(), %error, "voice engine failed, trying the next");
                    last_error = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last_error)
    }

    /// The engine that has the voice named in the request.
    fn owner(&self, request: &SpeakRequest) -> Result<Option<&str>, VoiceError> {
        let Some(wanted) = &request.voice else { return Ok(None) };
        match self.engines.iter().find(|engine| has(&***engine, wanted)) {
            Some(engine) => Ok(Some(engine.name())),
            None => {
                let known: Vec<String> = self
                    .voices()
                    .into_iter()
                    .filter(|voice| voice.language == request.language)
                    .map(|voice| voice.name)
                    .collect();
                Err(VoiceError::UnknownVoice { voice: wanted.clone(), known: known.join(", ") })
            }
        }
    }
}

fn has(engine: &dyn Voice, name: &str) -> bool {
    engine.voices().iter().any(|voice| voice.name == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    enum Behaviour {
        Speaks,
        FailsFirst,
        FailsAfterAChunk,
    }

    struct Fake(&'static str, Behaviour);

    impl Voice for Fake {
        fn name(&self) -> &str {
            self.0
        }

        fn supports(&self, language: Language) -> bool {
            language == Language::ES
        }

        fn sample_rate_hz(&self) -> u32 {
            16_000
        }

        fn voices(&self) -> Vec<VoiceInfo> {
            let name = format!("{}_voice", self.0);
            let engine = self.0.to_owned();
            vec![VoiceInfo { engine, name, language: Language::ES, learned: false }]
        }

        fn speak(
            &self,
            _request: &SpeakRequest,
            on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
        ) -> Result<(), VoiceError> {
            let failed =
                || VoiceError::Failed { engine: self.0.to_owned(), source: "broken".into() };
            if matches!(self.1, Behaviour::FailsFirst) {
                return Err(failed());
            }
            let _ = on_chunk(&[0.1, 0.2]);
            if matches!(self.1, Behaviour::Speaks) { Ok(()) } else { Err(failed()) }
        }
    }

    /// Learns a name from any recording, and gives the name as bytes.
    #[derive(Default)]
    struct Learner(Mutex<Vec<String>>);

    impl Voice for Learner {
        fn name(&self) -> &str {
            "learner"
        }

        fn supports(&self, language: Language) -> bool {
            language == Language::ES
        }

        fn sample_rate_hz(&self) -> u32 {
            16_000
        }

        fn voices(&self) -> Vec<VoiceInfo> {
            let known = self.0.lock().expect("no test panics with it");
            let info = |name: &String| VoiceInfo {
                engine: "learner".to_owned(),
                name: name.clone(),
                language: Language::ES,
                learned: true,
            };
            known.iter().map(info).collect()
        }

        fn speak(
            &self,
            _request: &SpeakRequest,
            on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
        ) -> Result<(), VoiceError> {
            let _ = on_chunk(&[0.3, 0.4]);
            Ok(())
        }

        fn can_learn(&self) -> bool {
            true
        }

        fn learn(&self, name: &str, _recordings: &[Recording]) -> Result<Vec<u8>, VoiceError> {
            self.recall(name, name.as_bytes())?;
            Ok(name.as_bytes().to_vec())
        }

        fn recall(&self, name: &str, bytes: &[u8]) -> Result<(), VoiceError> {
            assert_eq!(name.as_bytes(), bytes);
            self.0.lock().expect("no test panics with it").push(name.to_owned());
            Ok(())
        }

        fn forget(&self, name: &str) -> bool {
            let mut known = self.0.lock().expect("no test panics with it");
            let before = known.len();
            known.retain(|known| known != name);
            known.len() < before
        }
    }

    fn request(language: Language, voice: Option<&str>) -> SpeakRequest {
        SpeakRequest { voice: voice.map(str::to_owned), ..SpeakRequest::new("hola", language) }
    }

    fn set(engines: Vec<Fake>) -> VoiceSet {
        VoiceSet::new(
            engines.into_iter().map(|engine| Arc::new(engine) as Arc<dyn Voice>).collect(),
        )
    }

    fn speak(set: &VoiceSet, request: &SpeakRequest) -> (Result<String, VoiceError>, usize) {
        let mut chunks = 0;
        let outcome = set.speak(request, &mut |chunk| {
            assert_eq!((chunk.sample_rate_hz, chunk.samples.len()), (16_000, 2));
            chunks += 1;
            ControlFlow::Continue(())
        });
        (outcome.map(str::to_owned), chunks)
    }

    #[test]
    fn the_next_engine_speaks_when_the_first_fails_in_silence() {
        let set = set(vec![Fake("one", Behaviour::FailsFirst), Fake("two", Behaviour::Speaks)]);
        let (outcome, chunks) = speak(&set, &request(Language::ES, None));
        assert_eq!((outcome.expect("the second speaks").as_str(), chunks), ("two", 1));
    }

    #[test]
    fn an_engine_that_fails_in_mid_speech_is_not_replaced() {
        let set =
            set(vec![Fake("one", Behaviour::FailsAfterAChunk), Fake("two", Behaviour::Speaks)]);
        let (outcome, chunks) = speak(&set, &request(Language::ES, None));
        assert!(matches!(outcome, Err(VoiceError::Failed { .. })));
        assert_eq!(chunks, 1);
    }

    #[test]
    fn a_named_voice_puts_its_engine_first_and_an_unknown_one_is_an_error() {
        let set = set(vec![Fake("one", Behaviour::Speaks), Fake("two", Behaviour::Speaks)]);
        let (outcome, _) = speak(&set, &request(Language::ES, Some("two_voice")));
        assert_eq!(outcome.expect("spoken"), "two");
        let (outcome, _) = speak(&set, &request(Language::ES, Some("nobody")));
        let error = outcome.expect_err("there is no such voice").to_string();
        assert!(error.contains("one_voice, two_voice"), "{error}");
    }

    #[test]
    fn a_cheaper_tier_leaves_the_better_engines_out_but_never_all() {
        let set = set(vec![Fake("one", Behaviour::Speaks), Fake("two", Behaviour::Speaks)]);
        let spoken_by = |tier| {
            let request = request(Language::ES, Some("one_voice"));
            let outcome = set.speak_from(tier, &request, &mut |_| ControlFlow::Continue(()));
            outcome.expect("spoken").to_owned()
        };
        assert_eq!([0, 1, 2].map(spoken_by), ["one", "two", "two"]);
    }

    fn with_learner() -> VoiceSet {
        VoiceSet::new(vec![
            Arc::new(Fake("one", Behaviour::Speaks)),
            Arc::<Learner>::default(),
            Arc::new(Fake("two", Behaviour::Speaks)),
        ])
    }

    #[test]
    fn a_learned_voice_speaks_until_it_is_forgotten_and_can_be_recalled() {
        let set = with_learner();
        assert!(set.can_learn() && set.learned_speak(Language::ES));
        assert!(!set.learned_speak(Language::EN));
        let bytes = set.learn("ana", &[]).expect("it learns");
        let spoken_by = |voice| speak(&set, &request(Language::ES, voice)).0;
        assert_eq!(spoken_by(Some("ana")).expect("spoken"), "learner");
        assert_eq!(spoken_by(None).expect("spoken"), "one", "the usual voice stays the usual one");
        assert!(set.voices().iter().any(|voice| voice.name == "ana" && voice.learned));
        for taken in ["ana", "one_voice"] {
            assert!(matches!(set.learn(taken, &[]), Err(VoiceError::NameTaken { .. })), "{taken}");
        }
        assert!(set.forget("ana") && !set.forget("ana") && !set.forget("one_voice"));
        assert!(matches!(spoken_by(Some("ana")), Err(VoiceError::UnknownVoice { .. })));
        set.recall("ana", &bytes).expect("recalled");
        assert_eq!(spoken_by(Some("ana")).expect("spoken"), "learner");
    }

    #[test]
    fn a_voice_without_a_listing_speaks_and_is_not_listed() {
        let set = with_learner();
        set.learn("~secret", &[]).expect("it learns");
        assert!(set.has_learned("~secret") && !set.has_learned("one_voice"));
        assert!(set.voices().iter().all(|voice| voice.name != "~secret"));
        let (outcome, _) = speak(&set, &request(Language::ES, Some("~secret")));
        assert_eq!(outcome.expect("spoken"), "learner");
        let (outcome, _) = speak(&set, &request(Language::ES, Some("nobody")));
        let error = outcome.expect_err("there is no such voice").to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_cheaper_tier_leaves_learned_voices_out_wherever_their_engine_stands() {
        let set = with_learner();
        set.learn("ana", &[]).expect("it learns");
        for voice in [None, Some("ana")] {
            let request = request(Language::ES, voice);
            let outcome = set.speak_from(1, &request, &mut |_| ControlFlow::Continue(()));
            assert_eq!(outcome.expect("spoken"), "two");
        }
        let alone = VoiceSet::new(vec![Arc::<Learner>::default()]);
        let request = request(Language::ES, None);
        let outcome = alone.speak_from(1, &request, &mut |_| ControlFlow::Continue(()));
        assert_eq!(outcome.expect("spoken"), "learner");
    }

    #[test]
    fn a_set_in_which_no_engine_learns_says_so() {
        let set = set(vec![Fake("one", Behaviour::Speaks)]);
        assert!(!set.can_learn() && !set.forget("one_voice"));
        assert!(matches!(set.learn("ana", &[]), Err(VoiceError::CannotLearn { .. })));
        assert!(matches!(set.recall("ana", &[]), Err(VoiceError::CannotLearn { .. })));
    }

    #[test]
    fn a_language_that_nobody_speaks_is_an_error() {
        let set = set(vec![Fake("one", Behaviour::Speaks)]);
        assert!(!set.supports(Language::EN));
        let (outcome, _) = speak(&set, &request(Language::EN, None));
        assert!(matches!(outcome, Err(VoiceError::UnsupportedLanguage { .. })));
    }

    #[test]
    fn the_configured_order_decides_and_unknown_engines_are_named() {
        let engines: Vec<Arc<dyn Voice>> = vec![
            Arc::new(Fake("one", Behaviour::Speaks)),
            Arc::new(Fake("two", Behaviour::Speaks)),
        ];
        let order = ["two".to_owned(), "one".to_owned()];
        let set = VoiceSet::ordered(&order, &engines).expect("both exist");
        assert_eq!(speak(&set, &request(Language::ES, None)).0.expect("spoken"), "two");
        assert!(VoiceSet::ordered(&["three".to_owned()], &engines).is_err());
    }
}
