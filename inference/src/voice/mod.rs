//! Synthetic voices: text in, mono PCM out, in chunks as it is made.

pub mod clauses;
pub mod espeak;
pub mod kokoro;
mod router;
mod text;

use std::ops::ControlFlow;

use crate::{CancelToken, Language};

pub use clauses::ClauseSplitter;
pub use espeak::Espeak;
pub use kokoro::Kokoro;
pub use router::{SpokenChunk, VoiceSet};

/// Slowest and fastest speech that still sounds natural.
const SPEED_RANGE: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// Brings a requested speed into the range of the engines; nonsense counts as natural speed.
fn clamped_speed(speed: f32) -> f32 {
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
    fn voices(&self) -> Vec<VoiceInfo>;

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
}
