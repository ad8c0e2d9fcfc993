//! Synthetic voices: text in, mono PCM out, in chunks as it is made.

use std::ops::ControlFlow;

use crate::{CancelToken, Language};

/// What to say and how.
#[derive(Clone, Debug)]
pub struct SpeakRequest {
    /// The text, in `language`; usually a clause or a sentence.
    pub text: String,
    /// Language of the text.
    pub language: Language,
    /// Name of the voice, such as `ef_dora`; `None` takes the language's default.
    pub voice: Option<String>,
    /// Speaking rate, 1 is natural, at most 2.
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
