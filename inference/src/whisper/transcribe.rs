//! One segment from samples to transcript: window, language, decoding with its fallbacks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decode::{Ending, Limits};
use super::dictation::{
    Candidate, Dictation, MAX_NO_SPEECH_PROBABILITY, MIN_AVERAGE_LOG_PROBABILITY, Opening, Task,
};
use super::mel::HOP_SAMPLES;
use super::model::Audio;
use super::tokens::TIMESTAMP_STEP;
use super::transcript::{Transcript, pieces};
use super::{SAMPLE_RATE_HZ, Whisper, WhisperError};
use crate::batch::{BatchError, Urgency};
use crate::{CancelToken, Language};

/// Samples of one encoder position (20 ms).
const POSITION_SAMPLES: usize = 2 * HOP_SAMPLES;
/// Silence after the speech in a short window. With less, the model takes the cut for the middle
/// of speech and begins to repeat itself.
const SHORT_PAD: usize = 2 * SAMPLE_RATE_HZ as usize;
/// Silence in the window of the second attempt, after a loop.
const WIDE_PAD: usize = 6 * SAMPLE_RATE_HZ as usize;
/// Temperatures tried in turn unless the options name others.
const TEMPERATURES: [f32; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Tokens that any text may have, and how many more per second of speech: about twice what the
/// fastest speakers need in scripts of which a token is a single letter.
const BASE_TOKENS: usize = 16;
const TOKENS_PER_SECOND: usize = 14;

/// What to recognise and how.
#[derive(Clone, Debug)]
pub struct TranscribeOptions {
    /// The spoken language; `None` detects it (one more decoder step).
    pub language: Option<Language>,
    /// How much audio the encoder sees.
    pub window: Window,
    /// Whether the text is timed within the segment. Without, there is one piece.
    pub timestamps: bool,
    /// Temperatures tried in turn until a text is likely and does not repeat itself; 0 is greedy.
    /// None at all is greedy without a second try.
    pub temperatures: Vec<f32>,
    /// Its place among the requests that wait.
    pub urgency: Urgency,
}

impl Default for TranscribeOptions {
    /// Detects the language, in a short window, with timestamps, greedy first, then 0.2 to 1.
    fn default() -> Self {
        Self {
            language: None,
            window: Window::Short,
            timestamps: true,
            temperatures: TEMPERATURES.to_vec(),
            urgency: Urgency::default(),
        }
    }
}

/// The encoder's window. Whisper was trained on 30 s; a shorter one costs proportionally less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The speech and 2 s of silence after it, at most 30 s.
    Short,
    /// The speech and as much silence, at most 30 s. Less than 2 s provokes loops, which then cost a
    /// second, wider window.
    Padded(Duration),
    /// The full 30 s of the training.
    Full,
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageTimes {
    /// The spectrogram.
    pub mel: Duration,
    /// The encoder.
    pub encode: Duration,
    /// Keys and values of the audio for all decoder layers.
    pub cross: Duration,
    /// Prompt and language.
    pub prompt: Duration,
    /// All passes of the decoder.
    pub decode: Duration,
    /// Decoder steps in all passes.
    pub steps: usize,
    /// Windows encoded: 2 when a loop made a wider one necessary.
    pub windows: usize,
}

impl Whisper {
    /// Recognises one segment of at most 30 s; `samples_16k` is 16 kHz mono, nominally within -1
    /// to 1. No samples give an empty transcript.
    ///
    /// # Errors
    /// [`WhisperError::TooLong`], [`WhisperError::UnsupportedLanguage`],
    /// [`WhisperError::Cancelled`], [`WhisperError::Compute`].
    pub fn transcribe(
        &self,
        samples_16k: &[f32],
        options: &TranscribeOptions,
        cancel: &CancelToken,
    ) -> Result<Transcript, WhisperError> {
        self.transcribe_timed(samples_16k, options, cancel).map(|(transcript, _)| transcript)
    }

    /// As [`transcribe`](Self::transcribe), and tells where the time went.
    ///
    /// # Errors
    /// As [`transcribe`](Self::transcribe).
    pub fn transcribe_timed(
        &self,
        samples_16k: &[f32],
        options: &TranscribeOptions,
        cancel: &CancelToken,
    ) -> Result<(Transcript, StageTimes), WhisperError> {
        let mut times = StageTimes::default();
        let whole = self.window_samples();
        let window = match options.window {
            Window::Full => whole,
            Window::Short => samples_16k.len() + SHORT_PAD,
            Window::Padded(silence) => {
                let pad = silence.as_secs_f64() * f64::from(SAMPLE_RATE_HZ);
                samples_16k.len().saturating_add(pad as usize)
            }
        };
        let (first, ending) = self.attempt(samples_16k, window, options, cancel, &mut times)?;
        if window >= whole || matches!(ending, Ending::Natural | Ending::PastEnd) {
            return Ok((first, times));
        }
        let options = TranscribeOptions { language: Some(first.language), ..options.clone() };
        let window = samples_16k.len() + WIDE_PAD;
        let (second, _) = self.attempt(samples_16k, window, &options, cancel, &mut times)?;
        let language_probability = first.language_probability;
        Ok((Transcript { language_probability, ..second }, times))
    }

    /// The language of a segment: every language that the model knows with its probability, the
    /// likeliest first. English alone for an English-only model.
    ///
    /// # Errors
    /// As [`transcribe`](Self::transcribe).
    pub fn detect_language(
        &self,
        samples_16k: &[f32],
        cancel: &CancelToken,
    ) -> Result<Vec<(Language, f32)>, WhisperError> {
        if !self.is_multilingual() {
            return Ok(vec![(Language::EN, 1.0)]);
        }
        let window = samples_16k.len() + SHORT_PAD;
        let urgency = Urgency::default();
        let audio = self.hear(samples_16k, window, urgency, cancel, &mut StageTimes::default())?;
        let task = Task {
            given: None,
            language_only: true,
            timestamps: false,
            temperatures: vec![0.0],
            limits: Limits { cap: 0, stop_at_timestamp: None },
        };
        let dictation = Dictation::new(audio, Arc::clone(&self.tokens), task);
        let (opening, _) = self.batcher.decode(dictation, urgency, cancel)?.finish()?;
        Ok(opening.languages)
    }

    /// Runs everything once, so that the first speaker does not wait for the buffers to be made.
    pub(super) fn warm_up(&self) -> Result<(), WhisperError> {
        let options = TranscribeOptions { language: Some(Language::EN), ..Default::default() };
        self.transcribe(&[0.0; 1600], &options, &CancelToken::new()).map(drop)
    }

    fn window_samples(&self) -> usize {
        self.dimensions.audio_positions * POSITION_SAMPLES
    }

    fn attempt(
        &self,
        samples: &[f32],
        window: usize,
        options: &TranscribeOptions,
        cancel: &CancelToken,
        times: &mut StageTimes,
    ) -> Result<(Transcript, Ending), WhisperError> {
        let duration = Duration::from_secs_f64(samples.len() as f64 / f64::from(SAMPLE_RATE_HZ));
        let cap = BASE_TOKENS + (duration.as_secs_f32() * TOKENS_PER_SECOND as f32) as usize;
        // Half of the decoder's positions are for text; the other half was the past's in training.
        let cap = cap.min(self.dimensions.text_positions / 2);
        let given = match options.language {
            Some(language) => Some((language, self.tokens.language(language)?)),
            None if self.is_multilingual() => None,
            None => Some((Language::EN, None)),
        };
        let audio = self.hear(samples, window, options.urgency, cancel, times)?;

        let spoken = duration.as_secs_f32() / TIMESTAMP_STEP.as_secs_f32();
        let is_short = audio.positions() < self.dimensions.audio_positions;
        let stop_at_timestamp = is_short.then_some(spoken as u32);
        let temperatures = match options.temperatures.as_slice() {
            [] => vec![0.0],
            temperatures => temperatures.to_vec(),
        };
        let task = Task {
            given,
            language_only: false,
            timestamps: options.timestamps,
            temperatures,
            limits: Limits { cap, stop_at_timestamp },
        };
        let began = Instant::now();
        let dictation = Dictation::new(audio, Arc::clone(&self.tokens), task);
        let dictation = self.batcher.decode(dictation, options.urgency, cancel)?;
        let prompted = dictation.prompted.unwrap_or(began);
        times.prompt += prompted.saturating_duration_since(began);
        times.decode += prompted.elapsed();
        times.steps += dictation.steps;
        let (Opening { languages, no_speech_probability }, candidate) = dictation.finish()?;
        let (Some(&(language, language_probability)), Some(candidate)) =
            (languages.first(), candidate)
        else {
            return Err(BatchError::Ended.into());
        };
        let Candidate { pass, temperature, .. } = candidate;
        let is_speech = no_speech_probability <= MAX_NO_SPEECH_PROBABILITY
            || pass.average_log_probability > MIN_AVERAGE_LOG_PROBABILITY;
        let ids: &[u32] = if is_speech { &pass.tokens } else { &[] };
        let tokens: Vec<u32> = ids.iter().copied().filter(|&id| id < self.tokens.end).collect();
        let transcript = Transcript {
            text: self.tokens.text(&tokens)?.trim().to_owned(),
            language,
            language_probability,
            no_speech_probability,
            average_log_probability: pass.average_log_probability,
            temperature,
            pieces: pieces(&self.tokens, ids, duration)?,
            tokens,
        };
        Ok((transcript, pass.ending))
    }

    /// Encodes `samples` followed by silence up to `window` samples. Windows of several requests are
    /// not encoded as one batch: a window fills a core by itself.
    pub(super) fn hear(
        &self,
        samples: &[f32],
        window: usize,
        urgency: Urgency,
        cancel: &CancelToken,
        times: &mut StageTimes,
    ) -> Result<Audio, WhisperError> {
        let limit = self.window_samples();
        if samples.len() > limit {
            return Err(WhisperError::TooLong { samples: samples.len(), limit });
        }
        let positions = window.min(limit).div_ceil(POSITION_SAMPLES);
        let _permit = self.encoders.enter(urgency);
        if cancel.is_cancelled() || urgency.has_lapsed(Instant::now()) {
            return Err(WhisperError::Cancelled);
        }
        let began = Instant::now();
        let mel = self.mel.compute(samples, 2 * positions);
        times.mel += began.elapsed();

        let began = Instant::now();
        let encoded = self.encoder.forward(&mel, positions, cancel)?;
        times.encode += began.elapsed();

        let began = Instant::now();
        let audio = self.decoder.attend_to(&encoded)?;
        times.cross += began.elapsed();
        times.windows += 1;
        Ok(audio)
    }
}
