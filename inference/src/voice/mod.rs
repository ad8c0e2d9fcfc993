//! Synthetic voices: text in, mono PCM out, in chunks as it is made.

pub mod clauses;
pub mod espeak;
pub mod kokoro;
mod router;
mod text;

use std::ops::ControlFlow;

use crate::batch::BatchStats;
use crate::{CancelToken, Language};

pub use clauses::ClauseSplitter;
pub use espeak::Espeak;
pub use kokoro::Kokoro;
pub use router::{SpokenChunk, VoiceSet};

/// Slowest and fastest speech that still sounds natural.
const SPEED_RANGE: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// Brings a requested speed into the range of the engines; nonsense counts as natural speed.
pub(crate) fn clamped_speed(speed: f32) -> f32 {
    if speed.is_finite() { speed.clamp(*SPEED_RANGE.start(), *SPEED_RANGE.end()) } else { 1.0 }
}

/// A voice that can be asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoiceInfo {
    /// The engine that has it.
    pub engine: String,
    /// Its name, such as `ef_dora`.
    pub name: String,
    /// The language it was made for.
    pub language: Language,
    /// Whether it was learned from recordings ([`Voice::learn`]).
    pub learned: bool,
}

/// What the names of voices begin with that are listed nowhere: whoever learned one hands its name
/// to those who may use it. [`VoiceSet::voices`] leaves them out; they speak as any other.
pub const UNLISTED: char = '~';

/// Speech of one person, for their voice to be learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Mono samples, nominally within -1 to 1.
    pub samples: Vec<f32>,
    /// Their rate in Hz.
    pub rate_hz: u32,
}

/// What to say and how.
#[derive(Clone, Debug)]
pub struct SpeakRequest {
    /// The text, in `language`; usually a clause or a sentence.
    pub text: String,
    /// Language of the text.
    pub language: Language,
    /// Name of the voice, such as `ef_dora`; `None` takes the language's default.
    pub voice: Option<String>,
    /// Speaking rate, 1 is natural; brought within 0.5 and 2.
    pub speed: f32,
    /// Stops the synthesis between two chunks.
    pub cancel: CancelToken,
}

impl SpeakRequest {
    /// A text in the language's own voice, at natural speed.
    pub fn new(text: impl Into<String>, language: Language) -> Self {
        Self { text: text.into(), language, voice: None, speed: 1.0, cancel: CancelToken::new() }
    }
}

/// Why nothing was spoken.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    /// This engine has no voice for the language: take another engine.
    #[error("{engine} has no voice for {language}")]
    UnsupportedLanguage {
        /// Which engine.
        engine: String,
        /// Language wanted.
        language: Language,
    },
    /// The named voice does not exist; the message lists those that do.
    #[error("no voice {voice:?}: expected one of {known}")]
    UnknownVoice {
        /// The name asked for.
        voice: String,
        /// Comma-separated names that exist.
        known: String,
    },
    /// The engine cannot learn voices: configure one that can.
    #[error("{engine} cannot learn voices")]
    CannotLearn {
        /// Which engine.
        engine: String,
    },
    /// No voice can be learned from the recordings: give others.
    #[error("no voice can be learned from the recordings: {reason}")]
    UnusableRecording {
        /// What is wrong with them, and what would do.
        reason: String,
    },
    /// A voice of that name exists: take another name, or forget that one.
    #[error("there is a voice {voice:?} already")]
    NameTaken {
        /// The name.
        voice: String,
    },
    /// The request was cancelled.
    #[error("synthesis was cancelled")]
    Cancelled,
    /// The engine failed: its process died, its weights are unusable.
    #[error("{engine} failed")]
    Failed {
        /// Which engine.
        engine: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A speech synthesiser. Implementations are shared between threads.
pub trait Voice: Send + Sync {
    /// Short name for traces and metrics, such as `kokoro`.
    fn name(&self) -> &str;

    /// Whether this engine can speak the language.
    fn supports(&self, language: Language) -> bool;

    /// Sample rate of the chunks in Hz; they are mono, nominally within -1 to 1.
    fn sample_rate_hz(&self) -> u32;

    /// The voices that can be named in a request; of one language its own (the default) first.
    /// Learned ones come last, those whose names begin with [`UNLISTED`] among them.
    fn voices(&self) -> Vec<VoiceInfo>;

    /// What its batcher has done so far, for engines that have one.
    fn batch_stats(&self) -> Option<BatchStats> {
        None
    }

    /// Does what the first request for a voice (`None`: the language's own) would have to wait for.
    /// May take some seconds, or nothing when it was done before.
    ///
    /// # Errors
    /// See [`VoiceError`].
    fn prepare(&self, language: Language, voice: Option<&str>) -> Result<(), VoiceError> {
        let _ = (language, voice);
        Ok(())
    }

    /// Speaks the text. `on_chunk` receives mono samples at [`sample_rate_hz`](Self::sample_rate_hz)
    /// in order, the first as early as the engine can; `Break` ends the synthesis without an error.
    ///
    /// # Errors
    /// See [`VoiceError`].
    fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError>;

    /// Whether this engine can learn voices. A learned voice speaks every language that the engine
    /// [supports](Self::supports).
    fn can_learn(&self) -> bool {
        false
    }

    /// Learns a person's voice and has it under `name` from then on, as a voice that is named in a
    /// [`SpeakRequest`]. Gives what [`recall`](Self::recall) takes to have the same voice again
    /// without the recordings. May take some seconds; others may speak meanwhile.
    ///
    /// # Errors
    /// [`VoiceError::CannotLearn`], [`VoiceError::UnusableRecording`], [`VoiceError::NameTaken`],
    /// [`VoiceError::Failed`].
    fn learn(&self, name: &str, recordings: &[Recording]) -> Result<Vec<u8>, VoiceError> {
        let _ = (name, recordings);
        Err(VoiceError::CannotLearn { engine: self.name().to_owned() })
    }

    /// Has a voice again that [`learn`](Self::learn) gave as `bytes`, be it in another process. Quick.
    ///
    /// # Errors
    /// [`VoiceError::CannotLearn`], [`VoiceError::NameTaken`], and [`VoiceError::Failed`] if the
    /// bytes are none that this engine gives.
    fn recall(&self, name: &str, bytes: &[u8]) -> Result<(), VoiceError> {
        let _ = (name, bytes);
        Err(VoiceError::CannotLearn { engine: self.name().to_owned() })
    }

    /// Forgets a learned voice; what is being said in it is said to its end. Whether there was one of
    /// that name: the engine's other voices stay.
    fn forget(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}
