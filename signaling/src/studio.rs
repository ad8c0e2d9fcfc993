//! The one trait through which the compatible faces ([`crate::libretranslate`], [`crate::openai`])
//! speak to the models: text and sound without a room.
//!
//! Nothing here waits for a computation: each answer is a future, and dropping it calls the work
//! off. Whoever implements the trait keeps its queue bounded and refuses with
//! [`StudioError::Overloaded`] when it is full.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::wire::{LanguageInfo, VoiceInfo};

/// A language and how sure the detector is of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedLanguage {
    /// Code (BCP 47 primary subtag).
    pub code: String,
    /// 0 to 1.
    pub confidence: f32,
}

/// Texts to translate, all from one language into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslateTexts {
    /// Each with line ends, spaces and punctuation as they are to come back.
    pub texts: Vec<String>,
    /// Language of the texts, a code of [`Studio::text_languages`].
    pub from: String,
    /// Language wanted, one of its targets or the same.
    pub to: String,
    /// Most other translations of each text.
    pub alternatives: usize,
}

/// The translation of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TranslatedText {
    /// The best one.
    pub text: String,
    /// Others, best first, different from each other and from the best; possibly fewer than asked
    /// for.
    pub alternatives: Vec<String>,
}

/// A recording to write down.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscribeFile {
    /// The file: whatever container and codec the studio reads. Its extension is a hint.
    pub path: PathBuf,
    /// The spoken language; `None` detects it.
    pub language: Option<String>,
    /// Language that the text is wanted in; `None` keeps the spoken one.
    pub translate_to: Option<String>,
    /// 0 is greedy and tries again with more freedom where the result looks wrong; anything else is
    /// the only temperature tried.
    pub temperature: f32,
}

/// What was said in a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcription {
    /// Code of the spoken language; `None` when nothing was said.
    pub language: Option<String>,
    /// Its English name, such as `Spanish`; empty when nothing was said.
    pub language_name: String,
    /// Length of the recording.
    pub duration: Duration,
    /// What was said, in order.
    pub segments: Vec<TranscribedSegment>,
}

/// A stretch of speech between two pauses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TranscribedSegment {
    /// When its first voiced sound begins.
    pub start: Duration,
    /// When its last voiced sound ends.
    pub end: Duration,
    /// The words, trimmed, never empty.
    pub text: String,
    /// The recogniser's tokens; of the original where the text is translated.
    pub tokens: Vec<u32>,
    /// Temperature that the words were drawn at.
    pub temperature: f32,
    /// Mean log probability of the tokens.
    pub average_log_probability: f32,
    /// How well the recognised words compress; above 2.4 they repeat themselves.
    pub compression_ratio: f32,
    /// Probability that nothing was said.
    pub no_speech_probability: f32,
}

/// How synthetic speech is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeechFormat {
    /// RIFF WAVE of 24 kHz mono 16-bit samples. Its length fields are at their maximum, since the
    /// stream begins before its length is known.
    Wav,
    /// The bare samples: 24 kHz mono, 16 bits signed, little-endian.
    Pcm,
    /// Opus in Ogg (RFC 7845), 48 kHz mono.
    OggOpus,
}

/// A text to speak.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeakText {
    /// The text.
    pub text: String,
    /// Its language; `None` takes the named voice's, or else detects it.
    pub language: Option<String>,
    /// A name of [`Studio::voices`]; `None` takes the language's own.
    pub voice: Option<String>,
    /// Speaking rate, 1 is natural.
    pub speed: f32,
    /// How it is wrapped.
    pub format: SpeechFormat,
}

/// The bytes of a [`SpeechFormat`], in order, as they are made. An error is the last item. When the
/// receiver falls behind the maker waits a while and then gives it up.
pub type Speech = mpsc::Receiver<Result<Vec<u8>, StudioError>>;

/// A model that may be named in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StudioModel {
    /// Its name, such as `whisper-base`.
    pub name: String,
    /// What it does.
    pub kind: ModelKind,
}

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// It recognises speech.
    Recogniser,
    /// It speaks.
    Voice,
}

/// Why the studio refused.
#[derive(Debug, thiserror::Error)]
pub enum StudioError {
    /// The queue is full: try again later.
    #[error("too many requests are waiting: try again in {retry_after_s} s")]
    Overloaded {
        /// Seconds to wait.
        retry_after_s: u32,
    },
    /// A field's value cannot be used; the message says what would do.
    #[error("{detail}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// No translator knows the pair: choose another.
    #[error("nobody here translates from {from} to {to}")]
    UnsupportedPair {
        /// Language of the text.
        from: String,
        /// Language wanted.
        to: String,
    },
    /// The recording cannot be read; the message says what would do.
    #[error("{0}")]
    BadRecording(String),
    /// A defect of ours, or a model that failed; the detail goes to the log, not to the client.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What the compatible faces need of the models.
pub trait Studio: Send + Sync + 'static {
    /// Languages that text is translated from, each with those it is translated into.
    fn text_languages(&self) -> Vec<LanguageInfo>;

    /// Voices that can be named, the preferred engine's first.
    fn voices(&self) -> Vec<VoiceInfo>;

    /// Models that can be named.
    fn models(&self) -> Vec<StudioModel>;

    /// The languages that a text may be in, likeliest first: some of [`Studio::text_languages`], or
    /// none where the text gives no hold. Quick enough to be asked on the runtime.
    fn detect_text(&self, text: &str) -> Vec<DetectedLanguage>;

    /// Translates; one result for each text, in order.
    ///
    /// # Errors
    /// [`StudioError::Overloaded`], [`StudioError::Invalid`] for an unknown language,
    /// [`StudioError::UnsupportedPair`], [`StudioError::Internal`].
    fn translate(
        &self,
        request: TranslateTexts,
    ) -> impl Future<Output = Result<Vec<TranslatedText>, StudioError>> + Send;

    /// Writes down what is said in a recording.
    ///
    /// # Errors
    /// [`StudioError::Overloaded`], [`StudioError::Invalid`], [`StudioError::UnsupportedPair`],
    /// [`StudioError::BadRecording`], [`StudioError::Internal`].
    fn transcribe(
        &self,
        request: TranscribeFile,
    ) -> impl Future<Output = Result<Transcription, StudioError>> + Send;

    /// Speaks a text. What can be refused before a sound is made is refused here, the rest in the
    /// stream.
    ///
    /// # Errors
    /// [`StudioError::Overloaded`], [`StudioError::Invalid`].
    fn speak(&self, request: SpeakText)
    -> impl Future<Output = Result<Speech, StudioError>> + Send;
}
