//! Voice activity detection: Silero v6 in plain Rust.
//!
//! [`Vad`] holds the weights, shared by all streams of a process; a [`VadStream`] holds what the
//! network remembers of one speaker. A step costs some ten microseconds, so one thread listens to
//! thousands of peers, and nothing is allocated after the stream was made.

mod kernels;
mod network;
mod onnx;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use network::{Network, State};
pub use onnx::OnnxError;

/// Samples of 16 kHz mono in one VAD step (32 ms).
pub const CHUNK_SAMPLES: usize = 512;

/// Name of the weights within the model's folder.
pub const WEIGHTS_FILE: &str = "silero_vad_16k_op15.onnx";

/// Why the VAD cannot be loaded.
#[derive(Debug, Error)]
pub enum VadError {
    /// The file cannot be read; fetch the models first.
    #[error("cannot read {path}: fetch the models first")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is damaged or holds another model; fetch it again.
    #[error("the voice activity model is damaged: fetch it again")]
    Weights(#[from] OnnxError),
    /// The model's spectrum is not the one this code computes: another version of Silero.
    #[error(
        "the voice activity model is of another version: its spectrum is not a Hann-windowed fourier transform"
    )]
    UnknownBasis,
}

/// The weights of the detector. Cheap to clone: clones share them.
#[derive(Clone)]
pub struct Vad {
    network: Arc<Network>,
}

impl Vad {
    /// Loads [`WEIGHTS_FILE`] from the model's folder.
    ///
    /// # Errors
    /// [`VadError::Read`] when the file is missing, the other variants when it is not the model.
    pub fn load(folder: &Path) -> Result<Self, VadError> {
        let path = folder.join(WEIGHTS_FILE);
        let bytes = std::fs::read(&path).map_err(|source| VadError::Read { path, source })?;
        Self::from_onnx(&bytes)
    }

    /// Loads the weights from the bytes of [`WEIGHTS_FILE`].
    ///
    /// # Errors
    /// [`VadError::Weights`] or [`VadError::UnknownBasis`] when they are not the model.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, VadError> {
        let tensors = onnx::Tensors::parse(bytes)?;
        Ok(Self { network: Arc::new(Network::from_tensors(&tensors)?) })
    }

    /// A detector for one speaker, who has been silent so far.
    pub fn stream(&self) -> VadStream {
        VadStream {
            network: Arc::clone(&self.network),
            state: self.network.state(),
            pending: [0.0; CHUNK_SAMPLES],
            filled: 0,
        }
    }
}

/// The detector's memory of one speaker.
pub struct VadStream {
    network: Arc<Network>,
    state: State,
    pending: [f32; CHUNK_SAMPLES],
    /// How many of the pending samples are there.
    filled: usize,
}

impl VadStream {
    /// Hears `samples_16k` (mono, -1 to 1, any number) and calls `on_probability` with the
    /// probability of speech, 0 to 1, for each chunk of [`CHUNK_SAMPLES`] that is complete. The
    /// rest waits for the next call.
    pub fn push(&mut self, samples_16k: &[f32], mut on_probability: impl FnMut(f32)) {
        let mut rest = samples_16k;
        while !rest.is_empty() {
            let missing = CHUNK_SAMPLES - self.filled;
            let (head, tail) = rest.split_at(missing.min(rest.len()));
            self.pending[self.filled..][..head.len()].copy_from_slice(head);
            self.filled += head.len();
            rest = tail;
            if self.filled == CHUNK_SAMPLES {
                self.filled = 0;
                on_probability(self.network.step(&mut self.state, &self.pending));
            }
        }
    }

    /// The probability of speech, 0 to 1, in the next chunk, for callers that cut the stream into
    /// chunks themselves. Samples that [`push`](Self::push) holds back are not part of it: a stream
    /// is fed in one way or the other.
    pub fn step(&mut self, chunk: &[f32; CHUNK_SAMPLES]) -> f32 {
        self.network.step(&mut self.state, chunk)
    }

    /// Samples that wait for their chunk to be complete.
    pub fn pending_samples(&self) -> usize {
        self.filled
    }

    /// Forgets the speaker: as a new stream.
    pub fn reset(&mut self) {
        self.state.reset();
        self.filled = 0;
    }
}
