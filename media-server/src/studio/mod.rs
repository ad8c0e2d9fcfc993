//! The models without a room: what the compatible faces ask for.
//!
//! Text, recordings and speech have a [`lane`] each: a nice thread and a short queue, beside the
//! engine's threads. A call shares the processor with at most one request of each kind and never
//! waits in a queue behind them; a full queue refuses.

mod encode;
mod lane;
mod manners;
mod speech;
mod text;
mod transcribe;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{CancelToken, Language, text_language};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use signaling::studio::{
    DetectedLanguage, ModelKind, SpeakText, Speech, Studio, StudioError, StudioModel,
    TranscribeFile, Transcription, TranslateTexts, TranslatedText,
};
use signaling::wire::{LanguageInfo, VoiceInfo};
use tokio::sync::oneshot;

use crate::catalogue;
use crate::engine::{Models, ModelsInUse};
use crate::segmenter::SegmenterConfig;
use lane::Lane;

/// How long the list of languages stands: a translator on another machine may come and go.
const LANGUAGES_STAND: Duration = Duration::from_secs(10);

/// Characters by which a language is told; more would take time and tell no more.
const ENOUGH_TEXT: usize = 1_000;

/// Bounds of the studio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudioConfig {
    /// Requests of each kind that may wait before new ones are refused.
    pub queue: usize,
    /// Longest recording, in seconds of sound: a small file may hold hours of silence.
    pub max_recording_s: u64,
}

impl Default for StudioConfig {
    fn default() -> Self {
        Self { queue: 16, max_recording_s: 7_200 }
    }
}

type Languages = Vec<(Language, LanguageInfo)>;

/// The studio over the models of the process. Dropping it lets what is being computed finish.
pub struct House {
    models: Arc<ModelsInUse>,
    config: StudioConfig,
    segmenter: SegmenterConfig,
    languages: Mutex<(Instant, Arc<Languages>)>,
    text: Lane,
    recordings: Lane,
    speech: Lane,
}

impl House {
    /// Starts the lanes.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn open(
        models: Arc<ModelsInUse>,
        config: &StudioConfig,
        segmenter: &SegmenterConfig,
    ) -> std::io::Result<Self> {
        let lane = |name| Lane::start(name, config.queue);
        Ok(Self {
            languages: Mutex::new((Instant::now(), translatable(&models.get()))),
            config: config.clone(),
            segmenter: segmenter.clone(),
            text: lane("studio-text")?,
            recordings: lane("studio-hear")?,
            speech: lane("studio-speak")?,
            models,
        })
    }

    /// The languages that text is translated from.
    fn languages(&self) -> Arc<Languages> {
        let mut known = self.languages.lock();
        if known.0.elapsed() >= LANGUAGES_STAND {
            *known = (Instant::now(), translatable(&self.models.get()));
        }
        Arc::clone(&known.1)
    }

    /// Has `work` done in a lane. Dropping the future cancels it.
    async fn ask<T: Send + 'static>(
        &self,
        lane: &Lane,
        work: impl FnOnce(&Models, &CancelToken) -> Result<T, StudioError> + Send + 'static,
    ) -> Result<T, StudioError> {
        let called_off = CancelOnDrop(CancelToken::new());
        let (models, cancel) = (self.models.get(), called_off.0.clone());
        let (reply, answer) = oneshot::channel();
        lane.submit(move || {
            if !cancel.is_cancelled() {
                // Nobody waits for an answer any more when the request is gone.
                let _ = reply.send(work(&models, &cancel));
            }
        })?;
        answer.await.map_err(|_| StudioError::Internal("the work was given up".to_owned()))?
    }
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Text need not be spoken.
fn translatable(models: &Models) -> Arc<Languages> {
    Arc::new(catalogue::languages(models, |_| true))
}

fn language(field: &'static str, code: &str) -> Result<Language, StudioError> {
    Language::from_str(code)
        .map_err(|error| StudioError::Invalid { field, detail: error.to_string() })
}

impl Studio for House {
    fn text_languages(&self) -> Vec<LanguageInfo> {
        self.languages().iter().map(|(_, info)| info.clone()).collect()
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        catalogue::voices(&self.models.get())
    }

    fn models(&self) -> Vec<StudioModel> {
        let models = self.models.get();
        let mut engines: Vec<String> =
            models.voices.voices().into_iter().map(|voice| voice.engine).collect();
        engines.dedup();
        let name = models.recogniser_name.clone();
        let recogniser = StudioModel { name, kind: ModelKind::Recogniser };
        let engines = engines.into_iter().map(|name| StudioModel { name, kind: ModelKind::Voice });
        std::iter::once(recogniser).chain(engines).collect()
    }

    fn detect_text(&self, text: &str) -> Vec<DetectedLanguage> {
        let languages = self.languages();
        let among: Vec<Language> = languages.iter().map(|(language, _)| *language).collect();
        let enough = text.char_indices().nth(ENOUGH_TEXT).map_or(text.len(), |(end, _)| end);
        let found = text_language::detect(&text[..enough], &among).into_iter();
        found
            .map(|(language, confidence)| DetectedLanguage {
                code: language.to_string(),
                confidence,
            })
            .collect()
    }

    async fn translate(&self, request: TranslateTexts) -> Result<Vec<TranslatedText>, StudioError> {
        let (from, to) = (language("source", &request.from)?, language("target", &request.to)?);
        self.ask(&self.text, move |models, cancel| {
            let translate = |text: &String| {
                text::translate(&models.translator, text, from, to, request.alternatives, cancel)
            };
            request.texts.iter().map(translate).collect()
        })
        .await
    }

    async fn transcribe(&self, request: TranscribeFile) -> Result<Transcription, StudioError> {
        let spoken = request.language.as_deref().map(|code| language("language", code));
        let wanted = request.translate_to.as_deref().map(|code| language("language", code));
        let job = transcribe::Job {
            path: request.path,
            spoken: spoken.transpose()?,
            wanted: wanted.transpose()?,
            temperature: request.temperature,
            segmenter: self.segmenter.clone(),
            max_s: self.config.max_recording_s,
        };
        self.ask(&self.recordings, move |models, cancel| job.run(models, cancel)).await
    }

    async fn speak(&self, request: SpeakText) -> Result<Speech, StudioError> {
        let asked = request.language.as_deref().map(|code| language("language", code));
        let asked = asked.transpose()?;
        let models = self.models.get();
        let language = speech::language(&models.voices, &request, asked)?;
        let (chunks, speech) = speech::channel();
        self.speech.submit(move || speech::speak(&models.voices, &request, language, &chunks))?;
        Ok(speech)
    }
}
