//! The models of one process: loaded once, warmed up, shared by every thread.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use inference::CancelToken;
use inference::store::{Store, StoreError};
use inference::translate::apertium::{self, Apertium, ApertiumConfig};
use inference::translate::language_model::{self, LanguageModel, LanguageModelConfig, LoadError};
use inference::translate::libretranslate::{self, LibreTranslate, LibreTranslateConfig, NoAddress};
use inference::translate::{
    Direction, Ladder, LadderConfig, LadderError, TranslateError, Translator,
};
use inference::vad::{Vad, VadError};
use inference::voice::{Espeak, Kokoro, SpeakRequest, Voice, VoiceError, VoiceSet};
use inference::whisper::{Precision, Recogniser, Whisper, WhisperError};
use serde::{Deserialize, Serialize};

/// Which models, in which order, with how many threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// Folder of the models; the user's cache when missing.
    pub folder: Option<PathBuf>,
    /// Recogniser: a model of the store, or a folder with a Whisper model of any size.
    pub whisper: String,
    /// Translators, best first; one that does not know a pair is skipped for it.
    pub translators: Vec<TranslatorName>,
    /// Language model of the translator `language-model`.
    pub language_model: String,
    /// Server of the translator `libretranslate`.
    pub libretranslate: LibreTranslateConfig,
    /// Voice engines, best first; one that does not speak a language is skipped for it.
    pub voices: Vec<VoiceName>,
    /// Threads of one synthesis by Kokoro.
    pub kokoro_threads: usize,
    /// Pairs such as `en-de` with an order of their own, instead of `translators`.
    pub pairs: BTreeMap<String, Vec<TranslatorName>>,
    /// Pairs that are warmed up before the server is ready, such as `en-es`.
    pub warm_up: Vec<String>,
}

/// The translators there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TranslatorName {
    /// The embedded language model.
    LanguageModel,
    /// Apertium's pipelines.
    Apertium,
    /// A LibreTranslate server.
    #[serde(rename = "libretranslate")]
    #[value(name = "libretranslate")]
    LibreTranslate,
}

/// The voice engines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoiceName {
    /// Kokoro-82M.
    Kokoro,
    /// espeak-ng.
    EspeakNg,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            folder: None,
            whisper: "whisper-base".to_owned(),
            translators: vec![TranslatorName::LanguageModel, TranslatorName::Apertium],
            language_model: "qwen2.5-coder-1.5b-instruct".to_owned(),
            libretranslate: LibreTranslateConfig::default(),
            voices: vec![VoiceName::Kokoro, VoiceName::EspeakNg],
            kokoro_threads: 2,
            pairs: BTreeMap::new(),
            warm_up: vec!["en-es".to_owned(), "es-en".to_owned()],
        }
    }
}

impl ModelsConfig {
    /// The recogniser's name, without the folder that it may lie in.
    pub fn recogniser(&self) -> String {
        let name = Path::new(&self.whisper).file_name();
        name.map_or_else(|| self.whisper.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether any pair may be translated by it.
    fn uses(&self, translator: TranslatorName) -> bool {
        self.pairs.values().chain([&self.translators]).any(|order| order.contains(&translator))
    }
}

fn names_of(order: &[TranslatorName]) -> Vec<String> {
    order.iter().map(|name| name.as_str().to_owned()).collect()
}

/// The models of one process. Shared by every stage; each call keeps its own state.
pub struct Models {
    /// Voice activity detection.
    pub vad: Vad,
    /// Speech recognition.
    pub recogniser: Arc<dyn Recogniser>,
    /// Translation, best translator first.
    pub translator: Ladder,
    /// Synthesis, best engine first.
    pub voices: VoiceSet,
}

/// Why the models could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The store lacks a model or holds a damaged one; the message says which command mends it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The VAD's weights are unusable.
    #[error("cannot load the voice activity detector")]
    Vad(#[from] VadError),
    /// The recogniser's weights are unusable.
    #[error("cannot load the recogniser")]
    Whisper(#[from] WhisperError),
    /// The language model's file is unusable.
    #[error("cannot load the language model")]
    LanguageModel(#[from] LoadError),
    /// The language model does not compute.
    #[error("cannot warm up the language model")]
    Translate(#[from] TranslateError),
    /// `models.translators` or `models.warm_up` names something that does not exist.
    #[error("cannot set up the translators")]
    Ladder(#[from] LadderError),
    /// `models.translators` names `libretranslate` without an address.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    /// A model's folder cannot be listed.
    #[error("cannot list {folder}")]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `models.language_model` names a model without a GGUF file.
    #[error("{0} holds no .gguf file: name another language model")]
    NoGguf(PathBuf),
    /// A voice engine cannot be set up.
    #[error("cannot set up the voices")]
    Voice(#[from] VoiceError),
}

impl Models {
    /// Loads what the configuration names and warms it up. Takes some seconds; says what it does in
    /// the log.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(config: &ModelsConfig) -> Result<Self, ModelError> {
        // Threads and programs that the models start inherit the niceness of who loads them.
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| {
                crate::priority::give_way();
                Self::load_here(config)
            });
            loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn load_here(config: &ModelsConfig) -> Result<Self, ModelError> {
        let started = Instant::now();
        let store = match &config.folder {
            Some(folder) => Store::open(folder),
            None => Store::open_default()?,
        };
        // What is missing or damaged is said before anything is loaded.
        let vad_folder = store.require("silero-vad")?;
        let whisper_folder = whisper_folder(&store, &config.whisper)?;
        let language_model_folder = config
            .uses(TranslatorName::LanguageModel)
            .then(|| store.require(&config.language_model))
            .transpose()?;
        let kokoro_folder = config
            .voices
            .contains(&VoiceName::Kokoro)
            .then(|| store.require("kokoro-82m"))
            .transpose()?;

        let vad = Vad::load(&vad_folder)?;
        let recogniser = Arc::new(Whisper::load(&whisper_folder, Precision::Int8)?);
        tracing::info!(folder = %whisper_folder.display(), "loaded the recogniser");

        let directions = config
            .warm_up
            .iter()
            .map(|pair| pair.parse())
            .collect::<Result<Vec<Direction>, LadderError>>()?;
        let mut translators: Vec<Arc<dyn Translator>> = Vec::new();
        if let Some(folder) = language_model_folder {
            translators.push(load_language_model(&folder, &directions)?);
        }
        if config.uses(TranslatorName::Apertium) {
            translators.extend(discover_apertium(&directions));
        }
        if config.uses(TranslatorName::LibreTranslate) {
            translators.push(Arc::new(LibreTranslate::new(&config.libretranslate)?));
        }
        let order = names_of(&config.translators);
        let pairs = config.pairs.iter();
        let pairs = pairs
            .map(|(pair, list)| Ok((pair.parse()?, names_of(list))))
            .collect::<Result<_, LadderError>>()?;
        let translator = Ladder::new(&LadderConfig { order, pairs }, &translators)?;

        let mut engines: Vec<Arc<dyn Voice>> = Vec::new();
        for name in &config.voices {
            match (name, &kokoro_folder) {
                (VoiceName::Kokoro, Some(folder)) => {
                    engines.push(Arc::new(Kokoro::load(folder, config.kokoro_threads)?));
                }
                (VoiceName::Kokoro, None) => {}
                (VoiceName::EspeakNg, _) => engines.push(Arc::new(Espeak::new()?)),
            }
        }
        let voices = VoiceSet::new(engines);
        warm_up_voices(&voices, &directions);
        tracing::info!(seconds = started.elapsed().as_secs_f32(), "all models are loaded and warm");
        Ok(Self { vad, recogniser, translator, voices })
    }
}

impl TranslatorName {
    /// The name in traces, metrics and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LanguageModel => language_model::NAME,
            Self::Apertium => apertium::NAME,
            Self::LibreTranslate => libretranslate::NAME,
        }
    }
}

/// A model of the store, or a folder that the operator brought.
fn whisper_folder(store: &Store, name: &str) -> Result<PathBuf, ModelError> {
    let folder = Path::new(name);
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    Ok(store.require(name)?)
}

fn load_language_model(
    folder: &Path,
    directions: &[Direction],
) -> Result<Arc<dyn Translator>, ModelError> {
    let path = gguf_in(folder)?;
    let model = LanguageModel::load(&LanguageModelConfig::new(&path))?;
    for direction in directions {
        model.warm_up(direction.from, direction.to)?;
    }
    tracing::info!(file = %path.display(), "loaded the language model");
    Ok(Arc::new(model))
}

/// The one GGUF file of a model's folder.
fn gguf_in(folder: &Path) -> Result<PathBuf, ModelError> {
    let entries = std::fs::read_dir(folder)
        .map_err(|source| ModelError::Folder { folder: folder.to_owned(), source })?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .ok_or_else(|| ModelError::NoGguf(folder.to_owned()))
}

/// Apertium is a program of its own: without it the other translators still work.
fn discover_apertium(directions: &[Direction]) -> Option<Arc<dyn Translator>> {
    let apertium = match Apertium::discover(&ApertiumConfig::default()) {
        Ok(apertium) => apertium,
        Err(error) => {
            tracing::warn!(%error, "apertium is left out");
            return None;
        }
    };
    for direction in directions {
        if apertium.supports(direction.from, direction.to)
            && let Err(error) = apertium.warm_up(direction.from, direction.to)
        {
            tracing::warn!(%error, %direction, "apertium did not start");
        }
    }
    Some(Arc::new(apertium))
}

/// The first synthesis of a language lays out buffers and starts the phoneme program.
fn warm_up_voices(voices: &VoiceSet, directions: &[Direction]) {
    for direction in directions {
        let request = SpeakRequest {
            text: "1, 2, 3.".to_owned(),
            language: direction.to,
            voice: None,
            speed: 1.0,
            cancel: CancelToken::new(),
        };
        if let Err(error) = voices.speak(&request, &mut |_| ControlFlow::Continue(())) {
            tracing::warn!(%error, language = %direction.to, "the voice did not speak");
        }
        voices.prepare(direction.to, None);
    }
}
