//! Speech recognition: Whisper on candle.

use std::time::Duration;

use crate::Language;

/// Sample rate of everything the recogniser reads, in Hz (mono).
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// What to recognise and how.
#[derive(Clone, Debug)]
pub struct TranscribeOptions {
    /// The spoken language; `None` detects it (one more decoder step).
    pub language: Option<Language>,
    /// How much audio the encoder sees.
    pub window: Window,
}

/// The encoder's window. Whisper was trained on 30 s; a shorter one costs proportionally less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The speech and a pad of silence after it, at most 30 s.
    Short,
    /// The full 30 s of the training.
    Full,
}

/// What was said.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The recognised text, trimmed; empty when there was no speech.
    pub text: String,
    /// The language it is in: the one asked for, or the detected one.
    pub language: Language,
    /// Probability of `language` (1 when it was given).
    pub language_probability: f32,
    /// Probability that the segment holds no speech.
    pub no_speech_probability: f32,
    /// Mean log probability of the text tokens.
    pub average_log_probability: f32,
    /// Temperature the text was decoded at (0 is greedy).
    pub temperature: f32,
    /// Text token ids without prompt, timestamps and end of text.
    pub tokens: Vec<u32>,
    /// Timed pieces, offsets from the first sample.
    pub pieces: Vec<TimedText>,
}

/// A stretch of text with its offsets from the first sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedText {
    /// Start offset.
    pub start: Duration,
    /// End offset.
    pub end: Duration,
    /// The text.
    pub text: String,
}
