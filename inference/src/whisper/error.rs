//! What can go wrong between a folder of weights and a transcript.

use std::path::PathBuf;

use crate::Language;
use crate::batch::BatchError;

/// Why a model could not be loaded or a segment not be transcribed.
#[derive(Debug, thiserror::Error)]
pub enum WhisperError {
    /// A file of the model is missing or unreadable: fetch the model again.
    #[error("cannot read {path}: fetch the model again")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder holds neither `model.bin` nor safetensors: point to a model folder.
    #[error("no weights in {0}: expected model.bin or model.safetensors")]
    NoWeights(PathBuf),
    /// A file is truncated, garbage, or no Whisper model: fetch the model again.
    #[error("{path} is not a usable Whisper model: {reason}; fetch the model again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The segment does not fit the encoder: cut speech into segments of at most 28 s.
    #[error(
        "segment of {samples} samples exceeds {limit}: cut speech into segments of at most 28 s"
    )]
    TooLong {
        /// Samples given (16 kHz).
        samples: usize,
        /// Most samples that fit.
        limit: usize,
    },
    /// The model does not know the language: choose another language or a multilingual model.
    #[error("the model does not know {0}: choose another language or a multilingual model")]
    UnsupportedLanguage(Language),
    /// The request was cancelled.
    #[error("recognition was cancelled")]
    Cancelled,
    /// A tensor computation failed: the shapes of the weights disagree, or memory ran out.
    #[error("recognition failed in the tensor library")]
    Compute(#[from] candle_core::Error),
    /// The decoder's queue is full, or the decoder failed.
    #[error("recognition failed in the batch")]
    Batch(#[source] BatchError),
    /// The system refused a thread.
    #[error("cannot start the recogniser's thread")]
    Thread(#[source] std::io::Error),
    /// The tokenizer could not turn token ids into text.
    #[error("the tokenizer failed")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<BatchError> for WhisperError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Cancelled => Self::Cancelled,
            error => Self::Batch(error),
        }
    }
}
