//! The result of recognition, and its assembly from tokens.

use std::time::Duration;

use super::WhisperError;
use super::tokens::{TIMESTAMP_STEP, Tokens};
use crate::Language;

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

impl Transcript {
    /// Words that nobody doubts, without tokens or times: what a recogniser says that is no model.
    pub fn certain(text: impl Into<String>, language: Language) -> Self {
        Self {
            text: text.into(),
            language,
            language_probability: 1.0,
            no_speech_probability: 0.0,
            average_log_probability: 0.0,
            temperature: 0.0,
            tokens: Vec::new(),
            pieces: Vec::new(),
        }
    }
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

/// Splits `ids` at their timestamps; `duration` is that of the speech and bounds all offsets.
pub fn pieces(
    tokens: &Tokens,
    ids: &[u32],
    duration: Duration,
) -> Result<Vec<TimedText>, WhisperError> {
    let mut pieces = Vec::new();
    let zero = tokens.first_timestamp();
    let mut push = |text: &[u32], start: Duration, end: Duration| {
        let text = tokens.text(text)?.trim().to_owned();
        if !text.is_empty() {
            pieces.push(TimedText { start, end: end.max(start), text });
        }
        Ok::<_, WhisperError>(())
    };
    let mut start = Duration::ZERO;
    let mut begin = 0;
    for (index, &id) in ids.iter().enumerate() {
        if id >= zero {
            let time = (TIMESTAMP_STEP * (id - zero)).min(duration);
            push(&ids[begin..index], start, time)?;
            start = time;
            begin = index + 1;
        }
    }
    push(&ids[begin..], start, duration)?;
    Ok(pieces)
}
