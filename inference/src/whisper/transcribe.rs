//! One segment from samples to transcript: window, language, decoding with its fallbacks.

use std::time::{Duration, Instant};

use super::decode::{Ending, Limits, Pass, decode};
use super::guard::compression_ratio;
use super::mel::HOP_SAMPLES;
use super::model::DecoderState;
use super::rules::{Rules, log_sum_exp};
use super::tokens::TIMESTAMP_STEP;
use super::transcript::{Transcript, pieces};
use super::{SAMPLE_RATE_HZ, Whisper, WhisperError, ops};
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
/// A text that compresses better than this repeats itself.
const MAX_COMPRESSION_RATIO: f32 = 2.4;
/// A text less likely than this is a guess.
const MIN_AVERAGE_LOG_PROBABILITY: f32 = -1.0;
/// With more, and an unlikely text, there was no speech.
const MAX_NO_SPEECH_PROBABILITY: f32 = 0.6;
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
}

impl Default for TranscribeOptions {
    /// Detects the language, in a short window, with timestamps, greedy first, then 0.2 to 1.
    fn default() -> Self {
        Self {
            language: None,
            window: Window::Short,
            timestamps: true,
            temperatures: TEMPERATURES.to_vec(),
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

/// A window whose audio the decoder can attend to.
struct Heard {
    state: DecoderState,
    /// Encoder positions of the window.
    positions: usize,
}

/// What precedes the text.
struct Prompted {
    language: Language,
    language_probability: f32,
    no_speech_probability: f32,
    /// Tokens in the caches.
    length: usize,
    /// Scores of the first token of text.
    scores: Vec<f32>,
}

/// The best pass so far with what decides between passes.
struct Candidate {
    pass: Pass,
    temperature: f32,
    is_repetitive: bool,
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
        let mut heard = self.hear(samples_16k, window, 1, cancel, &mut StageTimes::default())?;
        let hidden = self.decoder.forward(&[self.tokens.start], &mut heard.state)?;
        Ok(self.languages(&self.decoder.scores(&hidden, 0)?))
    }

    /// Packs what candle packs at first use, so that the first speaker does not wait for it.
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
        let given = options.language.map(|language| self.tokens.language(language)).transpose()?;
        let mut heard = self.hear(samples, window, cap + 4, cancel, times)?;

        let began = Instant::now();
        let prompted = self.prompt(&mut heard.state, options, given)?;
        times.prompt += began.elapsed();

        let spoken = duration.as_secs_f32() / TIMESTAMP_STEP.as_secs_f32();
        let rules = Rules {
            suppressed: &self.tokens.suppressed,
            suppressed_at_begin: &self.tokens.suppressed_at_begin,
            end: self.tokens.end,
            first_timestamp: self.tokens.first_timestamp(),
            timestamps: options.timestamps,
            last_timestamp: heard.positions as u32,
        };
        let is_short = heard.positions < self.dimensions.audio_positions;
        let temperatures: &[f32] =
            if options.temperatures.is_empty() { &[0.0] } else { &options.temperatures };
        let stop_at_timestamp = is_short.then_some(spoken as u32);
        let limits = Limits { cap, stop_at_timestamp, temperatures };
        let began = Instant::now();
        let candidate =
            self.decode_with_fallback(&mut heard.state, &prompted, &rules, &limits, cancel, times)?;
        times.decode += began.elapsed();

        let Candidate { pass, temperature, .. } = candidate;
        let is_speech = prompted.no_speech_probability <= MAX_NO_SPEECH_PROBABILITY
            || pass.average_log_probability > MIN_AVERAGE_LOG_PROBABILITY;
        let ids: &[u32] = if is_speech { &pass.tokens } else { &[] };
        let tokens: Vec<u32> = ids.iter().copied().filter(|&id| id < self.tokens.end).collect();
        let transcript = Transcript {
            text: self.tokens.text(&tokens)?.trim().to_owned(),
            language: prompted.language,
            language_probability: prompted.language_probability,
            no_speech_probability: prompted.no_speech_probability,
            average_log_probability: pass.average_log_probability,
            temperature,
            pieces: pieces(&self.tokens, ids, duration)?,
            tokens,
        };
        Ok((transcript, pass.ending))
    }

    /// Encodes `samples` followed by silence up to `window` samples.
    fn hear(
        &self,
        samples: &[f32],
        window: usize,
        capacity: usize,
        cancel: &CancelToken,
        times: &mut StageTimes,
    ) -> Result<Heard, WhisperError> {
        let limit = self.window_samples();
        if samples.len() > limit {
            return Err(WhisperError::TooLong { samples: samples.len(), limit });
        }
        let positions = window.min(limit).div_ceil(POSITION_SAMPLES);
        let began = Instant::now();
        let mel = self.mel.compute(samples, 2 * positions);
        times.mel += began.elapsed();

        let began = Instant::now();
        let audio = self.encoder.forward(&mel, positions, cancel)?;
        times.encode += began.elapsed();

        let began = Instant::now();
        let state = self.decoder.begin(&audio, capacity)?;
        times.cross += began.elapsed();
        times.windows += 1;
        Ok(Heard { state, positions })
    }

    /// Feeds the prompt; detects the language unless `given` is one (`Some(None)`: a model that
    /// has no choice).
    fn prompt(
        &self,
        state: &mut DecoderState,
        options: &TranscribeOptions,
        given: Option<Option<u32>>,
    ) -> Result<Prompted, WhisperError> {
        let start = self.tokens.start;
        let asked = if self.is_multilingual() { given.flatten() } else { None };
        let (language, language_probability, first, hidden) = if self.is_multilingual()
            && asked.is_none()
        {
            let hidden = self.decoder.forward(&[start], state)?;
            let first = self.decoder.scores(&hidden, 0)?;
            let languages = self.languages(&first);
            let (language, probability) = languages.first().copied().unwrap_or((Language::EN, 0.0));
            let prompt = self.tokens.prompt(self.tokens.language(language)?, options.timestamps);
            (language, probability, first, self.decoder.forward(&prompt, state)?)
        } else {
            let mut prompt = vec![start];
            prompt.extend(self.tokens.prompt(asked, options.timestamps));
            let hidden = self.decoder.forward(&prompt, state)?;
            let first = self.decoder.scores(&hidden, 0)?;
            (options.language.unwrap_or(Language::EN), 1.0, first, hidden)
        };
        let no_speech = first[self.tokens.no_speech as usize] - log_sum_exp(&first);
        let scores = self.decoder.scores(&hidden, hidden.dim(0)? - 1)?;
        Ok(Prompted {
            language,
            language_probability,
            no_speech_probability: ops::exp(no_speech),
            length: state.length(),
            scores,
        })
    }

    /// Probabilities of the languages among themselves, the likeliest first.
    fn languages(&self, scores: &[f32]) -> Vec<(Language, f32)> {
        let known = &self.tokens.languages;
        let own: Vec<f32> = known.iter().map(|&(_, id)| scores[id as usize]).collect();
        let total = log_sum_exp(&own);
        let mut languages: Vec<(Language, f32)> = known
            .iter()
            .zip(&own)
            .map(|(&(language, _), score)| (language, ops::exp(score - total)))
            .collect();
        languages.sort_by(|a, b| b.1.total_cmp(&a.1));
        languages
    }

    /// Greedy first; a text that repeats itself or is unlikely is drawn again, each time with more
    /// freedom (section 4.5 of the paper). When none passes, the likeliest that does not repeat
    /// itself stands.
    fn decode_with_fallback(
        &self,
        state: &mut DecoderState,
        prompted: &Prompted,
        rules: &Rules<'_>,
        limits: &Limits<'_>,
        cancel: &CancelToken,
        times: &mut StageTimes,
    ) -> Result<Candidate, WhisperError> {
        let mut best: Option<Candidate> = None;
        for &temperature in limits.temperatures {
            state.truncate(prompted.length);
            let scores = prompted.scores.clone();
            let pass = decode(&self.decoder, state, scores, rules, limits, temperature, cancel)?;
            times.steps += pass.tokens.len() + 1;
            let text = self.tokens.text(&pass.tokens)?;
            let is_repetitive = compression_ratio(text.trim()) > MAX_COMPRESSION_RATIO;
            let is_unlikely = pass.average_log_probability < MIN_AVERAGE_LOG_PROBABILITY;
            let is_silence =
                is_unlikely && prompted.no_speech_probability > MAX_NO_SPEECH_PROBABILITY;
            let is_settled = is_silence || !(is_repetitive || is_unlikely);
            let candidate = Candidate { pass, temperature, is_repetitive };
            if is_settled {
                return Ok(candidate);
            }
            let is_better = best.as_ref().is_none_or(|best| {
                (best.is_repetitive, candidate.pass.average_log_probability)
                    > (candidate.is_repetitive, best.pass.average_log_probability)
            });
            if is_better {
                best = Some(candidate);
            }
        }
        Ok(best.expect("there is at least one temperature"))
    }
}
