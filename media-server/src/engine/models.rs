//! The models of one process: loaded once, warmed up, shared by every thread.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Instant, SystemTime};

use inference::kept::Kept;
use inference::store::{Store, StoreError};
use inference::tortoise::{self, Tortoise, TortoiseConfig};
use inference::translate::apertium::{self, Apertium, ApertiumConfig};
use inference::translate::language_model::{self, LanguageModel, LanguageModelConfig, LoadError};
use inference::translate::libretranslate::{self, LibreTranslate, LibreTranslateConfig, NoAddress};
use inference::translate::{
    Direction, Ladder, LadderConfig, LadderError, TranslateError, Translator,
};
use inference::vad::{Vad, VadError};
use inference::voice::{Espeak, Kokoro, SpeakRequest, Voice, VoiceError, VoiceSet};
use inference::whisper::{Recogniser, Whisper, WhisperConfig, WhisperError};
use serde::{Deserialize, Serialize};

/// In the models' folder.
const KEPT_FOLDER: &str = ".kept";

/// Which models, in which order, with how many threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// Folder of the models; the user's cache when missing.
    pub folder: Option<PathBuf>,
    /// Folder for what is computed from the models once and read at the next start; `.kept` in the
    /// models' folder when missing.
    pub kept: Option<PathBuf>,
    /// Recogniser: a model of the store, or a folder with a Whisper model of any size.
    pub whisper: String,
    /// Segments that it encodes at a time, each on one thread; 0: one for every two cores.
    pub whisper_encoders: usize,
    /// Segments whose text it writes at a time, all on one thread.
    pub whisper_slots: usize,
    /// Translators, best first; one that does not know a pair is skipped for it.
    pub translators: Vec<TranslatorName>,
    /// Language model of the translator `language-model`.
    pub language_model: String,
    /// Threads that it multiplies on; 0: the cores, at most eight.
    pub language_model_threads: usize,
    /// Sentences that it translates at a time.
    pub language_model_slots: usize,
    /// Server of the translator `libretranslate`.
    pub libretranslate: LibreTranslateConfig,
    /// Voice engines, best first; one that does not speak a language is skipped for it.
    pub voices: Vec<VoiceName>,
    /// Threads of one synthesis by Kokoro.
    pub kokoro_threads: usize,
    /// The voice engine `tortoise`.
    pub tortoise: TortoiseConfig,
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
    /// Tortoise, for languages that the imported model speaks.
    Tortoise,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            folder: None,
            kept: None,
            whisper: "whisper-base".to_owned(),
            whisper_encoders: 0,
            whisper_slots: 8,
            translators: vec![TranslatorName::LanguageModel, TranslatorName::Apertium],
            language_model: "qwen2.5-coder-1.5b-instruct".to_owned(),
            language_model_threads: 0,
            language_model_slots: 8,
            libretranslate: LibreTranslateConfig::default(),
            voices: vec![VoiceName::Kokoro, VoiceName::EspeakNg],
            kokoro_threads: 2,
            tortoise: TortoiseConfig::default(),
            pairs: BTreeMap::new(),
            warm_up: vec!["en-es".to_owned(), "es-en".to_owned()],
        }
    }
}

impl ModelsConfig {
    /// The recogniser's name, without the folder that it may lie in.
    fn recogniser(&self) -> String {
        let name = Path::new(&self.whisper).file_name();
        name.map_or_else(|| self.whisper.clone(), |name| name.to_string_lossy().into_owned())
    }

    fn whisper_config(&self) -> WhisperConfig {
        let mut config = WhisperConfig { slots: self.whisper_slots, ..WhisperConfig::default() };
        if self.whisper_encoders > 0 {
            config.encoders = self.whisper_encoders;
        }
        config
    }

    fn language_model_config(&self, path: &Path) -> LanguageModelConfig {
        let mut config = LanguageModelConfig::new(path);
        config.slots = self.language_model_slots;
        if self.language_model_threads > 0 {
            config.threads = self.language_model_threads;
        }
        config
    }

    /// The files that the models would be read from now, in order.
    ///
    /// # Errors
    /// A model is missing, or its folder cannot be read.
    pub fn files(&self) -> Result<Vec<FileStamp>, ModelError> {
        let folders = Folders::of(self)?;
        let all = [
            Some(folders.vad),
            Some(folders.whisper),
            folders.language_model,
            folders.kokoro,
            folders.tortoise,
        ];
        let mut files = Vec::new();
        for folder in all.into_iter().flatten() {
            let failed = |source| ModelError::Folder { folder: folder.clone(), source };
            add_files(&folder, &mut files).map_err(failed)?;
        }
        files.sort();
        Ok(files)
    }

    fn store(&self) -> Result<Store, StoreError> {
        match &self.folder {
            Some(folder) => Ok(Store::open(folder)),
            None => Store::open_default(),
        }
    }

    /// Where that is kept which is computed from the models.
    fn kept(&self) -> Result<Kept, StoreError> {
        Ok(Kept::new(match &self.kept {
            Some(folder) => folder.clone(),
            None => self.store()?.root().join(KEPT_FOLDER),
        }))
    }

    /// Whether any pair may be translated by it.
    fn uses(&self, translator: TranslatorName) -> bool {
        self.pairs.values().chain([&self.translators]).any(|order| order.contains(&translator))
    }
}

fn names_of(order: &[TranslatorName]) -> Vec<String> {
    order.iter().map(|name| name.as_str().to_owned()).collect()
}

/// A file that models are read from, its length and when it was changed.
pub type FileStamp = (PathBuf, u64, SystemTime);

/// The models of one process. Shared by every stage; each call keeps its own state.
pub struct Models {
    /// Name of the recogniser, for those who ask.
    pub recogniser_name: String,
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
    /// The voice engine `tortoise` has no usable model: import one, or leave it out of
    /// `models.voices`.
    #[error("cannot load the voice engine tortoise")]
    Tortoise(#[from] tortoise::LoadError),
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
        // What is missing or damaged is said before anything is loaded.
        let folders = Folders::of(config)?;
        let kept = &config.kept()?;
        let directions = config
            .warm_up
            .iter()
            .map(|pair| pair.parse())
            .collect::<Result<Vec<Direction>, LadderError>>()?;
        let vad = Vad::load(&folders.vad)?;
        // Side by side: each of them reads a file and rearranges it for a second or two.
        let (recogniser, translator, voices) = std::thread::scope(|scope| {
            let recogniser =
                scope.spawn(|| load_recogniser(&folders.whisper, &config.whisper_config()));
            let voices = scope.spawn(|| load_voices(config, &folders, kept, &directions));
            let folder = folders.language_model.as_deref();
            let translator = load_translator(config, folder, kept, &directions);
            (joined(recogniser), translator, joined(voices))
        });
        let (recogniser, translator, voices) = (recogniser?, translator?, voices?);
        tracing::info!(seconds = started.elapsed().as_secs_f32(), "all models are loaded and warm");
        Ok(Self { recogniser_name: config.recogniser(), vad, recogniser, translator, voices })
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

/// Where the models of a configuration lie.
struct Folders {
    vad: PathBuf,
    whisper: PathBuf,
    language_model: Option<PathBuf>,
    kokoro: Option<PathBuf>,
    tortoise: Option<PathBuf>,
}

impl Folders {
    /// Those of models that are there as a whole.
    fn of(config: &ModelsConfig) -> Result<Self, ModelError> {
        let store = config.store()?;
        let uses_language_model = config.uses(TranslatorName::LanguageModel);
        let uses_kokoro = config.voices.contains(&VoiceName::Kokoro);
        Ok(Self {
            vad: store.require("silero-vad")?,
            whisper: whisper_folder(&store, &config.whisper)?,
            language_model: uses_language_model
                .then(|| store.require(&config.language_model))
                .transpose()?,
            kokoro: uses_kokoro.then(|| store.require("kokoro-82m")).transpose()?,
            tortoise: config.voices.contains(&VoiceName::Tortoise).then(|| {
                let folder = Path::new(&config.tortoise.model);
                if folder.is_dir() { folder.to_owned() } else { store.root().join(folder) }
            }),
        })
    }
}

/// Adds the files of a folder and of the folders in it.
fn add_files(folder: &Path, files: &mut Vec<FileStamp>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let about = std::fs::metadata(&path)?;
        if about.is_dir() {
            add_files(&path, files)?;
        } else {
            files.push((path, about.len(), about.modified()?));
        }
    }
    Ok(())
}

/// A model of the store, or a folder that the operator brought.
fn whisper_folder(store: &Store, name: &str) -> Result<PathBuf, ModelError> {
    let folder = Path::new(name);
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    Ok(store.require(name)?)
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn load_recogniser(folder: &Path, config: &WhisperConfig) -> Result<Arc<Whisper>, ModelError> {
    let recogniser = Arc::new(Whisper::load(folder, config)?);
    tracing::info!(folder = %folder.display(), "loaded the recogniser");
    Ok(recogniser)
}

fn load_translator(
    config: &ModelsConfig,
    language_model_folder: Option<&Path>,
    kept: &Kept,
    directions: &[Direction],
) -> Result<Ladder, ModelError> {
    let mut translators: Vec<Arc<dyn Translator>> = Vec::new();
    let apertium =
        config.uses(TranslatorName::Apertium).then(|| discover_apertium(directions)).flatten();
    if let Some(folder) = language_model_folder {
        let mut model = load_language_model(folder, config, kept)?;
        if let Some(apertium) = &apertium {
            model = model.drafting(Arc::clone(apertium));
        }
        for direction in directions {
            model.warm_up(direction.from, direction.to)?;
        }
        translators.push(Arc::new(model));
    }
    translators.extend(apertium);
    if config.uses(TranslatorName::LibreTranslate) {
        translators.push(Arc::new(LibreTranslate::new(&config.libretranslate)?));
    }
    let order = names_of(&config.translators);
    let pairs = config.pairs.iter();
    let pairs = pairs
        .map(|(pair, list)| Ok((pair.parse()?, names_of(list))))
        .collect::<Result<_, LadderError>>()?;
    Ok(Ladder::new(&LadderConfig { order, pairs }, &translators)?)
}

fn load_voices(
    config: &ModelsConfig,
    folders: &Folders,
    kept: &Kept,
    directions: &[Direction],
) -> Result<VoiceSet, ModelError> {
    let mut engines: Vec<Arc<dyn Voice>> = Vec::new();
    for name in &config.voices {
        match (name, &folders.kokoro, &folders.tortoise) {
            (VoiceName::Kokoro, Some(folder), _) => {
                let kokoro = Kokoro::load(folder, config.kokoro_threads)?;
                engines.push(Arc::new(kokoro.keeping(folder, kept.clone())));
            }
            (VoiceName::Tortoise, _, Some(folder)) => {
                engines.push(Arc::new(Tortoise::load(folder, &config.tortoise)?));
            }
            (VoiceName::EspeakNg, ..) => engines.push(Arc::new(Espeak::new()?)),
            (VoiceName::Kokoro | VoiceName::Tortoise, ..) => {}
        }
    }
    let voices = VoiceSet::new(engines);
    warm_up_voices(&voices, directions);
    tracing::info!("loaded the voices");
    Ok(voices)
}

fn load_language_model(
    folder: &Path,
    config: &ModelsConfig,
    kept: &Kept,
) -> Result<LanguageModel, ModelError> {
    let path = gguf_in(folder)?;
    let model = LanguageModel::load(&config.language_model_config(&path))?;
    tracing::info!(file = %path.display(), "loaded the language model");
    Ok(model.keeping(&path, kept.clone()))
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
        let request = SpeakRequest::new("1, 2, 3.", direction.to);
        if let Err(error) = voices.speak(&request, &mut |_| ControlFlow::Continue(())) {
            tracing::warn!(%error, language = %direction.to, "the voice did not speak");
        }
        voices.prepare(direction.to, None);
    }
}
