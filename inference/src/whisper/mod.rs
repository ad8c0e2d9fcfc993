//! Speech recognition: Whisper on candle.
//!
//! ```no_run
//! use inference::CancelToken;
//! use inference::whisper::{Precision, TranscribeOptions, Whisper};
//!
//! # fn main() -> Result<(), inference::whisper::WhisperError> {
//! let whisper = Whisper::load("models/whisper-base".as_ref(), Precision::Int8)?;
//! let samples_16k = vec![0.0; 16_000];
//! let options = TranscribeOptions::default();
//! let transcript = whisper.transcribe(&samples_16k, &options, &CancelToken::new())?;
//! assert_eq!(transcript.text, "");
//! # Ok(())
//! # }
//! ```
//!
//! One [`Whisper`] is shared by all workers: weights are read-only, and each call owns its caches.
//! A call computes on the calling thread, so run one worker per core. candle spreads matrix
//! products over threads that spin while they wait; a process that runs several workers sets
//! `RAYON_NUM_THREADS=1` before its first candle call, or they fight over the cores.

mod attention;
mod config;
mod decode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod linear;
mod mel;
mod model;
mod ops;
mod rules;
mod tokens;
mod transcribe;
mod transcript;
mod weights;

use std::path::Path;

pub use config::Dimensions;
pub use error::WhisperError;
pub use guard::compression_ratio;
pub use transcribe::{StageTimes, TranscribeOptions, Window};
pub use transcript::{TimedText, Transcript};

use config::ModelConfig;
use linear::Linear;
use mel::MelSpectrogram;
use model::{Decoder, Encoder};
use tokens::Tokens;
use weights::Weights;

use crate::CancelToken;

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

/// A loaded model, shared between threads.
pub struct Whisper {
    dimensions: Dimensions,
    mel: MelSpectrogram,
    tokens: Tokens,
    encoder: Encoder,
    decoder: Decoder,
}

impl Whisper {
    /// Loads a model folder: `config.json`, `tokenizer.json`, and either CTranslate2's `model.bin`
    /// or safetensors with Hugging Face's names. Any size, multilingual or English only.
    ///
    /// # Errors
    /// [`WhisperError::Io`], [`WhisperError::NoWeights`], and [`WhisperError::Malformed`] for
    /// truncated, foreign or inconsistent files.
    pub fn load(dir: &Path, precision: Precision) -> Result<Self, WhisperError> {
        if candle_core::utils::get_num_threads() > 1 {
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
        let mut encoder = Encoder::load(&mut weights, &dimensions, precision)?;
        let mut decoder = Decoder::load(&mut weights, &dimensions, precision)?;
        Linear::gather(encoder.linears().into_iter().chain(decoder.linears()).collect());
        let mel = MelSpectrogram::new(dimensions.mel_bands);
        let whisper = Self { dimensions, mel, tokens, encoder, decoder };
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
