//! Translation by an instruction-tuned language model, read from a GGUF file.
//!
//! Per direction an instruction and four example turns are read once and kept; a sentence then
//! costs its own tokens alone. The output is released clause by clause, each clause after it has
//! passed the [`guard`], because what is released may be spoken at once and cannot be taken back.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cache;
mod decoder;
mod draft;
mod examples;
mod gguf;
mod guard;
mod kernel;
mod linear;
mod math;
mod numbers;
mod release;
mod slots;
mod tiles;
mod vocabulary;
mod workers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::Language;
use crate::batch::{BatchConfig, BatchError, BatchStats, Batcher};
use crate::kept::{Kept, Origin};
use crate::mapped::MappedFile;

use super::{TranslateError, TranslateRequest, Translation, Translator};

pub use cache::{KvCache, KvSegment};
pub use decoder::{CachedSpan, Decoder, DecoderConfig, SharedPrefix};
use draft::Hint;
use gguf::GgufFile;
use guard::Guard;
use release::Releaser;
use slots::{End, Limits, Reading, Slots};
use vocabulary::Vocabulary;

/// Name in traces, metrics and configuration.
pub const NAME: &str = "language-model";

/// Languages that Qwen2.5's authors name. How well each is translated differs widely: a ladder's
/// configuration may take a pair away.
const LANGUAGES: &[&str] =
    &["en", "es", "fr", "pt", "de", "it", "zh", "ru", "ja", "ko", "vi", "th", "ar"];

/// Where the model lies and what it may use.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelConfig {
    /// The GGUF file: architecture `qwen2`, a chat model with ChatML turns.
    pub path: PathBuf,
    /// Positions of the longest prompt with its answer; sizes the rotary tables.
    #[serde(default = "default_max_context")]
    pub max_context: usize,
    /// Threads that multiply, the calling one included. More than the cores that are free slow it
    /// down.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Sentences that are translated at a time, each with one token a step. More wait their turn.
    #[serde(default = "default_slots")]
    pub slots: usize,
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8)
}

const fn default_max_context() -> usize {
    1024
}

const fn default_slots() -> usize {
    8
}

impl LanguageModelConfig {
    /// The defaults for a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_context: default_max_context(),
            threads: default_threads(),
            slots: default_slots(),
        }
    }
}

/// The model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing or unreadable: fetch the models, or correct the path.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is damaged, cut short, or another kind of model: verify its hash, fetch it anew.
    #[error("{path} is not a usable GGUF of a Qwen2 chat model: verify the file")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: candle_core::Error,
    },
}

type Direction = (Language, Language);
type PrefixSlot = Arc<Mutex<Option<SharedPrefix>>>;

/// The language model. Calls from several threads share its steps, one token for each.
pub struct LanguageModel {
    decoder: Arc<Decoder>,
    vocabulary: Arc<Vocabulary>,
    prefixes: Mutex<HashMap<Direction, PrefixSlot>>,
    batcher: Batcher<Reading>,
    kept: Option<KeptPrefixes>,
    /// Translates quickly what is then drafted.
    drafter: Option<Arc<dyn Translator>>,
}

/// Prefixes of directions that were warmed up, on disk.
struct KeptPrefixes {
    kept: Kept,
    /// The program and the model's file.
    origin: Origin,
    /// Name of the model's file.
    model: String,
}

impl LanguageModel {
    /// Reads the model.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(config: &LanguageModelConfig) -> Result<Self, LoadError> {
        let path = &config.path;
        let file = MappedFile::open(path)
            .map_err(|source| LoadError::Open { path: path.clone(), source })?;
        GgufFile::mapped(&file)
            .and_then(|file| Self::of_file(&file, config))
            .map_err(|source| LoadError::Unusable { path: path.clone(), source })
    }

    /// Reads the model from a file's bytes; the configuration's path is not looked at.
    ///
    /// # Errors
    /// What makes the file unusable.
    #[doc(hidden)]
    pub fn read(bytes: &[u8], config: &LanguageModelConfig) -> candle_core::Result<Self> {
        Self::of_file(&GgufFile::read(bytes)?, config)
    }

    fn of_file(file: &GgufFile<'_>, config: &LanguageModelConfig) -> candle_core::Result<Self> {
        let vocabulary = Arc::new(Vocabulary::from_gguf(file.content())?);
        let decoder = Decoder::read(file, config.max_context, config.threads)?;
        let decoder = Arc::new(decoder);
        let (weights, slots) = (Arc::clone(&decoder), config.slots);
        let make = move || Slots::new(Arc::clone(&weights), slots);
        let batcher = Batcher::start("translate-batch", make, &BatchConfig::default())?;
        let prefixes = Mutex::new(HashMap::new());
        Ok(Self { decoder, vocabulary, prefixes, batcher, kept: None, drafter: None })
    }

    /// Keeps what [`warm_up`](Self::warm_up) reads of the model's file `path`, for the next start.
    #[must_use]
    pub fn keeping(mut self, path: &Path, kept: Kept) -> Self {
        let model = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin::of_model(path).ok();
        self.kept = origin.map(|origin| KeptPrefixes { kept, origin, model });
        self
    }

    /// Drafts what a quick translator says: the words that both choose come sooner, and what is
    /// written stays the same.
    #[must_use]
    pub fn drafting(mut self, quick: Arc<dyn Translator>) -> Self {
        self.drafter = Some(quick);
        self
    }

    /// Reads the instruction and the examples of a direction, and runs every kernel once. Without it
    /// the first sentence pays for that.
    ///
    /// # Errors
    /// The model fails to compute.
    pub fn warm_up(&self, from: Language, to: Language) -> Result<(), TranslateError> {
        let recalled = self.kept.as_ref().map_or(Ok(()), |kept| self.recall(kept, from, to));
        match recalled {
            // Told again to whoever translates.
            Ok(()) | Err(Stop::Rejected(_)) => {}
            Err(stop) => return Err(stop.into_error()),
        }
        match self.translate(&TranslateRequest::new("1.", from, to), &mut |_| {}) {
            Ok(_) | Err(TranslateError::Rejected { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The decoder, for tests and measurements.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Tokens of a whole prompt as the model reads it, for tests and measurements.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn prompt(
        &self,
        text: &str,
        from: Language,
        to: Language,
    ) -> candle_core::Result<Vec<u32>> {
        let mut tokens = self.vocabulary.prefix(from, to)?;
        tokens.extend(self.vocabulary.question(text)?);
        Ok(tokens)
    }

    /// Continues a prompt greedily without any guard, for tests and measurements.
    ///
    /// # Errors
    /// The prompt does not fit the context.
    pub fn continue_prompt(&self, prompt: &[u32], limit: usize) -> candle_core::Result<Vec<u32>> {
        let mut cache = self.decoder.new_cache(prompt.len() + limit);
        let ends = self.vocabulary.turn_ends();
        let width = self.decoder.config().width;
        let (mut tokens, mut read) = (Vec::new(), prompt.to_vec());
        loop {
            let hidden = self.decoder.forward(&read, &mut cache)?;
            let next = self.decoder.most_likely(&hidden[hidden.len() - width..])?;
            if tokens.len() == limit || ends.contains(&next) {
                return Ok(tokens);
            }
            tokens.push(next);
            read = vec![next];
        }
    }

    /// Takes a direction's prefix from disk, or leaves it there for the next time.
    fn recall(&self, kept: &KeptPrefixes, from: Language, to: Language) -> Result<(), Stop> {
        let tokens = self.vocabulary.prefix(from, to)?;
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let (name, origin) =
            (format!("{}-{from}-{to}", kept.model), kept.origin.clone().with(&bytes));
        let DecoderConfig { layers, kv_heads, head_dim, .. } = *self.decoder.config();
        let segment = kept.kept.read(&name, &origin).and_then(|numbers| {
            KvSegment::from_numbers(layers, kv_heads * head_dim, tokens.len(), &numbers)
        });
        if let Some(segment) = segment {
            *self.slot_of(from, to).lock() = Some(Arc::new(segment));
        } else {
            let prefix = self.shared_prefix(&TranslateRequest::new("", from, to))?;
            kept.kept.write(&name, &origin, &prefix.to_numbers());
        }
        Ok(())
    }

    fn slot_of(&self, from: Language, to: Language) -> PrefixSlot {
        Arc::clone(self.prefixes.lock().entry((from, to)).or_default())
    }

    fn shared_prefix(&self, request: &TranslateRequest) -> Result<SharedPrefix, Stop> {
        let (from, to) = (request.from, request.to);
        let slot = self.slot_of(from, to);
        let mut prefix = slot.lock();
        if let Some(prefix) = &*prefix {
            return Ok(Arc::clone(prefix));
        }
        let tokens = self.vocabulary.prefix(from, to)?;
        let context = self.decoder.config().max_context;
        if tokens.len() > context {
            return Err(Stop::Rejected(format!("too long for a context of {context} tokens")));
        }
        // Others of this direction wait for it too: it is as urgent as the first of them.
        let read = self.batcher.decode(Reading::keep(tokens), request.urgency, &request.cancel)?;
        match read.prefix {
            Some(read) => Ok(prefix.insert(read).clone()),
            None => Err(Stop::Failed("the prefix was not kept".into())),
        }
    }

    /// What the quick translator says, as soon as it has said it.
    fn hint(&self, request: &TranslateRequest) -> Hint {
        let hint = Hint::default();
        let (from, to) = (request.from, request.to);
        let Some(drafter) = self.drafter.clone().filter(|drafter| drafter.supports(from, to))
        else {
            return hint;
        };
        let (vocabulary, request) = (Arc::clone(&self.vocabulary), request.clone());
        let (filled, name) = (Arc::clone(&hint), "translate-draft".to_owned());
        // On a thread of its own: a quick translator that has become slow keeps nobody waiting.
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let Ok(quick) = drafter.translate(&request, &mut |_| {}) else { return };
            let Ok(mut tokens) = vocabulary.encode(&quick.text) else { return };
            tokens.extend(vocabulary.turn_ends().first());
            let _ = filled.set(tokens);
        });
        if let Err(error) = spawned {
            tracing::debug!(%error, "nothing is drafted");
        }
        hint
    }

    /// Decodes until the turn ends, the cap is reached or a guard objects.
    fn generate(
        &self,
        request: &TranslateRequest,
        releaser: &mut Releaser<'_>,
    ) -> Result<(), Stop> {
        let source_tokens = self.vocabulary.encode(&request.text)?.len();
        let cap = 2 * source_tokens + 16;
        let question = self.vocabulary.question(&request.text)?;
        let prefix = self.shared_prefix(request)?;
        let context = self.decoder.config().max_context;
        if prefix.positions() + question.len() + cap > context {
            return Err(Stop::Rejected(format!("too long for a context of {context} tokens")));
        }
        let (out, chosen) = bounded(cap);
        let limits = Limits { ends: self.vocabulary.turn_ends(), cap };
        let reading = Reading::answer(prefix, question, limits, self.hint(request), out);
        let pending = self.batcher.submit(reading, request.urgency, &request.cancel)?;
        let mut tokens = Vec::with_capacity(cap);
        for token in chosen {
            tokens.push(token);
            // An objection drops the receiver, and with it the reading.
            releaser.update(&self.vocabulary.decode(&tokens)?).map_err(Stop::Rejected)?;
        }
        match pending.wait()?.end {
            End::Natural => releaser.finish().map_err(Stop::Rejected),
            End::Cap => Err(Stop::Rejected(format!("no end after {cap} tokens"))),
            End::Abandoned => Err(Stop::Cancelled),
            End::NotFinite => Err(Stop::Failed("the model's output is not finite".into())),
        }
    }
}

/// Why decoding ended early.
enum Stop {
    Cancelled,
    Rejected(String),
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Stop {
    /// The failure of a request of which nothing was released.
    fn into_error(self) -> TranslateError {
        let translator = NAME.to_owned();
        match self {
            Self::Cancelled => TranslateError::Cancelled,
            Self::Rejected(reason) => TranslateError::Rejected { translator, reason },
            Self::Failed(source) => TranslateError::Failed { translator, source },
        }
    }
}

impl From<candle_core::Error> for Stop {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl From<BatchError> for Stop {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Cancelled => Self::Cancelled,
            BatchError::Full => Self::Rejected(error.to_string()),
            BatchError::Failed(_) | BatchError::Ended => Self::Failed(Box::new(error)),
        }
    }
}

impl Translator for LanguageModel {
    fn name(&self) -> &str {
        NAME
    }

    fn supports(&self, from: Language, to: Language) -> bool {
        let knows = |language: Language| LANGUAGES.contains(&language.code());
        from != to && knows(from) && knows(to)
    }

    fn batch_stats(&self) -> Option<BatchStats> {
        Some(self.batcher.stats())
    }

    fn translate(
        &self,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        let guard = Guard::new(&request.text, request.from, request.to);
        let mut releaser = Releaser::new(guard, on_text);
        let outcome = self.generate(request, &mut releaser);
        let released = releaser.released().trim().to_owned();
        match outcome {
            Ok(()) => {}
            Err(Stop::Rejected(reason)) if !released.is_empty() => {
                tracing::warn!(translator = NAME, reason, "translation cut short by a guard");
            }
            Err(stop) => return Err(stop.into_error()),
        }
        Ok(Translation { text: released, translator: NAME.to_owned() })
    }
}
