//! Text translation: a ladder of translators from the best to the quickest.
//!
//! [`language_model`] is the better rung and [`apertium`] the quicker one, [`libretranslate`] asks a
//! server; the [`Ladder`] mends text
//! that comes from speech ([`mend`]), tries them in order and is what the rest of the house calls.

pub mod apertium;
mod ladder;
pub mod language_model;
pub mod libretranslate;
pub mod mend;
pub mod sentences;

use crate::batch::{BatchStats, Urgency};
use crate::{CancelToken, Language};

pub use ladder::{Direction, Ladder, LadderConfig, LadderError, PASS_THROUGH};

/// One utterance to translate.
#[derive(Clone, Debug)]
pub struct TranslateRequest {
    /// The text, as the recogniser wrote it.
    pub text: String,
    /// Language of `text`.
    pub from: Language,
    /// Language wanted.
    pub to: Language,
    /// Stops the translation between two tokens.
    pub cancel: CancelToken,
    /// Its place among the requests that wait for the same translator.
    pub urgency: Urgency,
}

impl TranslateRequest {
    /// A request that nobody cancels and that has no deadline.
    pub fn new(text: impl Into<String>, from: Language, to: Language) -> Self {
        let (cancel, urgency) = (CancelToken::new(), Urgency::default());
        Self { text: text.into(), from, to, cancel, urgency }
    }
}

/// A finished translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The whole text: what was streamed, concatenated and trimmed.
    pub text: String,
    /// Name of the translator that made it.
    pub translator: String,
}

/// Why there is no translation.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// No translator of the ladder knows the pair: configure one, or choose other languages.
    #[error("no translator for {from} to {to}")]
    UnsupportedPair {
        /// Language of the text.
        from: Language,
        /// Language wanted.
        to: Language,
    },
    /// A guard rejected the output before anything of it was released: try the next rung.
    #[error("{translator} produced an unusable translation: {reason}")]
    Rejected {
        /// Which translator.
        translator: String,
        /// Which guard and why.
        reason: String,
    },
    /// The request was cancelled.
    #[error("translation was cancelled")]
    Cancelled,
    /// The translator failed: its process died, its weights are unusable.
    #[error("{translator} failed")]
    Failed {
        /// Which translator.
        translator: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Turns text of one language into another. Implementations are shared between threads.
pub trait Translator: Send + Sync {
    /// Short name for traces and metrics, such as `apertium`.
    fn name(&self) -> &str;

    /// Whether this translator knows the pair.
    fn supports(&self, from: Language, to: Language) -> bool;

    /// Translates. `on_text` receives the translation in pieces as it is made, in order, each
    /// already past the guards: whatever was released may be spoken at once.
    ///
    /// # Errors
    /// See [`TranslateError`]; after an error, text already released stands.
    fn translate(
        &self,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError>;

    /// What its batcher has done so far, if it has one.
    fn batch_stats(&self) -> Option<BatchStats> {
        None
    }
}
