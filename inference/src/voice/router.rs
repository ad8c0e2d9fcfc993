//! Picks the voice for a language: the engines are tried in the configured order, and when one
//! fails before it made a sound the next one speaks instead.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{SpeakRequest, Voice, VoiceError, VoiceInfo};
use crate::Language;

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

    /// All voices that can be named, the preferred engine's first.
    pub fn voices(&self) -> Vec<VoiceInfo> {
        self.engines.iter().flat_map(|engine| engine.voices()).collect()
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

    /// As [`speak`](Self::speak) without the first `tier` engines that speak the language, the last
    /// of them excepted: later engines are cheaper. A voice of one that is left out is replaced by the
    /// language's own of the next.
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
                Err(
                    error @ (VoiceError::Failed { .. } | VoiceError::UnsupportedLanguage { .. }),
                ) if !released => {
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
        let has_it =
            |engine: &&Arc<dyn Voice>| engine.voices().iter().any(|voice| &voice.name == wanted);
        match self.engines.iter().find(has_it) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CancelToken;

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
            vec![VoiceInfo { engine: self.0.to_owned(), name, language: Language::ES }]
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

    fn request(language: Language, voice: Option<&str>) -> SpeakRequest {
        SpeakRequest {
            text: "hola".to_owned(),
            language,
            voice: voice.map(str::to_owned),
            speed: 1.0,
            cancel: CancelToken::new(),
        }
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
