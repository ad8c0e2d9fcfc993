//! Speech recognition: Whisper on candle.
//!
//! ```no_run
//! use inference::CancelToken;
//! use inference::whisper::{TranscribeOptions, Whisper, WhisperConfig};
//!
//! # fn main() -> Result<(), inference::whisper::WhisperError> {
//! let whisper = Whisper::load("models/whisper-base".as_ref(), &WhisperConfig::default())?;
//! let samples_16k = vec![0.0; 16_000];
//! let options = TranscribeOptions::default();
//! let transcript = whisper.transcribe(&samples_16k, &options, &CancelToken::new())?;
//! assert_eq!(transcript.text, "");
//! # Ok(())
//! # }
//! ```
//!
//! One [`Whisper`] is shared by all workers. A call encodes on the calling thread, as many calls at a
//! time as [`WhisperConfig::encoders`] allows; the texts of all calls are then decoded together, on
//! the [batcher](crate::batch)'s thread. In 32-bit floats candle spreads matrix products over
//! threads that spin while they wait; a process that has several threads compute then sets
//! `RAYON_NUM_THREADS=1` before its first candle call, or they fight over the cores.

mod attention;
mod config;
mod decode;
mod dictation;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod linear;
#[doc(hidden)]
pub mod measuring;
mod mel;
mod model;
mod ops;
mod rules;
mod slots;
mod tokens;
mod transcribe;
mod transcript;
mod weights;

use std::path::Path;
use std::sync::Arc;

pub use config::Dimensions;
pub use error::WhisperError;
pub use guard::compression_ratio;
pub use transcribe::{StageTimes, TranscribeOptions, Window};
pub use transcript::{TimedText, Transcript};

use config::ModelConfig;
use dictation::Dictation;
use mel::MelSpectrogram;
use model::{Decoder, Encoder};
use slots::Slots;
use tokens::Tokens;
use weights::Weights;

use crate::CancelToken;
use crate::batch::{BatchConfig, BatchStats, Batcher, Gate};

/// Sample rate of everything the recogniser reads, in Hz (mono).
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// Turns speech into text. Implementations are shared between threads.
pub trait Recogniser: Send + Sync {
    /// Recognises one segment of at most 30 s; `samples_16k` is 16 kHz mono, nominally within -1
    /// to 1.
    ///
    /// # Errors
    /// See [`WhisperError`].
    fn transcribe(
        &self,
        samples_16k: &[f32],
        options: &TranscribeOptions,
        cancel: &CancelToken,
    ) -> Result<Transcript, WhisperError>;

    /// What its batcher has done so far, if it has one.
    fn batch_stats(&self) -> Option<BatchStats> {
        None
    }
}

impl Recogniser for Whisper {
    fn transcribe(
        &self,
        samples_16k: &[f32],
        options: &TranscribeOptions,
        cancel: &CancelToken,
    ) -> Result<Transcript, WhisperError> {
        Self::transcribe(self, samples_16k, options, cancel)
    }

    fn batch_stats(&self) -> Option<BatchStats> {
        Some(self.batcher.stats())
    }
}

/// How the matrices are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats, as the reference computes.
    F32,
    /// 8-bit integers, rounded while loading, with a scale for each row; inputs are rounded alike.
    /// Four times smaller and three times quicker, and as accurate to a fraction of a percent of
    /// words.
    Int8,
}

/// How a model is loaded and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhisperConfig {
    /// How the matrices are kept in memory.
    pub precision: Precision,
    /// Windows that are encoded at a time, each on its caller's thread.
    pub encoders: usize,
    /// Texts that are decoded at a time, all on one thread, each with one token a step.
    pub slots: usize,
}

impl Default for WhisperConfig {
    /// Quantised; one encoder for every two cores, eight slots.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { precision: Precision::Int8, encoders: cores.div_ceil(2), slots: 8 }
    }
}

impl From<Precision> for WhisperConfig {
    fn from(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }
}

/// A loaded model, shared between threads.
pub struct Whisper {
    dimensions: Dimensions,
    mel: MelSpectrogram,
    tokens: Arc<Tokens>,
    encoder: Encoder,
    encoders: Gate,
    decoder: Arc<Decoder>,
    batcher: Batcher<Dictation>,
}

/// Tokens before the text: start, language, task, and whether there are timestamps.
const LONGEST_PROMPT: usize = 4;

impl Whisper {
    /// Loads a model folder: `config.json`, `tokenizer.json`, and either CTranslate2's `model.bin`
    /// or safetensors with Hugging Face's names. Any size, multilingual or English only.
    ///
    /// # Errors
    /// [`WhisperError::Io`], [`WhisperError::NoWeights`], and [`WhisperError::Malformed`] for
    /// truncated, foreign or inconsistent files.
    pub fn load(dir: &Path, config: &WhisperConfig) -> Result<Self, WhisperError> {
        let WhisperConfig { precision, encoders, slots } = *config;
        if precision == Precision::F32 && candle_core::utils::get_num_threads() > 1 {
            tracing::warn!(
                threads = candle_core::utils::get_num_threads(),
                "matrix products spread over threads that spin: set RAYON_NUM_THREADS=1 and run \
                 one worker per core"
            );
        }
        let config = ModelConfig::read(dir)?;
        let mut weights = Weights::open(dir)?;
        let dimensions = Dimensions::of(&mut weights, &config)?;
        let tokens = Tokens::read(dir, dimensions.vocabulary, &config)?;
        let encoder = Encoder::load(&mut weights, &dimensions, precision)?;
        let decoder = Decoder::load(&mut weights, &dimensions, precision)?;
        let mel = MelSpectrogram::new(dimensions.mel_bands);
        let (tokens, decoder) = (Arc::new(tokens), Arc::new(decoder));
        // Half of the decoder's positions are for text; the other half was the past's in training.
        let capacity = dimensions.text_positions / 2 + LONGEST_PROMPT;
        let mut made = Some(Slots::new(Arc::clone(&decoder), slots, capacity)?);
        let weights = Arc::clone(&decoder);
        let make = move || {
            made.take().unwrap_or_else(|| {
                let again = Slots::new(Arc::clone(&weights), slots, capacity);
                again.expect("there was memory for the slots before")
            })
        };
        let batcher = Batcher::start("transcribe-batch", make, &BatchConfig::default())
            .map_err(WhisperError::Thread)?;
        let encoders = Gate::new(encoders);
        let whisper = Self { dimensions, mel, tokens, encoder, encoders, decoder, batcher };
        whisper.warm_up()?;
        Ok(whisper)
    }

    /// Whether the model knows more than English.
    pub fn is_multilingual(&self) -> bool {
        !self.tokens.languages.is_empty()
    }

    /// The sizes of the network.
    pub fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }
}
