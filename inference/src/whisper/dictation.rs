//! The text of one encoded window as a sequence of the [batcher](crate::batch): language, prompt, and
//! as many passes as it takes.

use std::sync::Arc;
use std::time::Instant;

use super::decode::{Drawing, Ending, Limits, Next, Pass};
use super::guard::compression_ratio;
use super::model::Audio;
use super::rules::{Rules, log_sum_exp};
use super::tokens::Tokens;
use super::{WhisperError, ops};
use crate::Language;
use crate::batch::{Choice, Sequence};

/// A text that compresses better than this repeats itself.
const MAX_COMPRESSION_RATIO: f32 = 2.4;
/// A text less likely than this is a guess.
pub const MIN_AVERAGE_LOG_PROBABILITY: f32 = -1.0;
/// With more, and an unlikely text, there was no speech.
pub const MAX_NO_SPEECH_PROBABILITY: f32 = 0.6;

/// What is asked of a window.
#[derive(Clone, Debug)]
pub struct Task {
    /// The language with its token, `None` for an English-only model; without any, it is detected.
    pub given: Option<(Language, Option<u32>)>,
    /// Whether the language is all that is wanted.
    pub language_only: bool,
    /// Whether the text is timed.
    pub timestamps: bool,
    /// Temperatures of the passes, in order; at least one.
    pub temperatures: Vec<f32>,
    /// Bounds of each pass.
    pub limits: Limits,
}

/// The window and how far its text has come.
pub struct Dictation {
    /// What the decoder attends to.
    pub audio: Audio,
    vocabulary: Arc<Tokens>,
    task: Task,
    /// Tokens before the text, as far as they are known.
    prompt: Vec<u32>,
    /// What was learnt from the scores after the start token.
    opening: Option<Opening>,
    /// Scores of the first token of text.
    first_scores: Vec<f32>,
    /// The pass under way.
    drawing: Drawing,
    /// Temperatures that were tried.
    tried: usize,
    best: Option<Candidate>,
    /// Steps of all passes.
    pub steps: usize,
    /// When the prompt had been read.
    pub prompted: Option<Instant>,
    error: Option<WhisperError>,
}

/// What the first scores say.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Every language that the model knows with its probability, the likeliest first; the given one
    /// alone where it was given.
    pub languages: Vec<(Language, f32)>,
    /// Probability that there is no speech.
    pub no_speech_probability: f32,
}

/// A pass with what decides between passes.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it chose.
    pub pass: Pass,
    /// At which temperature.
    pub temperature: f32,
    is_repetitive: bool,
}

impl Dictation {
    /// A window whose text is to be written.
    pub fn new(audio: Audio, vocabulary: Arc<Tokens>, task: Task) -> Self {
        let first = task.temperatures.first().copied().unwrap_or_default();
        let mut prompt = vec![vocabulary.start];
        if let Some((_, token)) = task.given {
            prompt.extend(vocabulary.prompt(token, task.timestamps));
        }
        Self {
            audio,
            prompt,
            vocabulary,
            task,
            opening: None,
            first_scores: Vec::new(),
            drawing: Drawing::new(first),
            tried: 0,
            best: None,
            steps: 0,
            prompted: None,
            error: None,
        }
    }

    /// What came of it: the opening, and the best pass unless the language alone was wanted.
    ///
    /// # Errors
    /// [`WhisperError::UnsupportedLanguage`], [`WhisperError::Tokenizer`].
    pub fn finish(self) -> Result<(Opening, Option<Candidate>), WhisperError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let nothing = Opening { languages: Vec::new(), no_speech_probability: 0.0 };
        Ok((self.opening.unwrap_or(nothing), self.best))
    }

    /// What the scores after the start token say. A detected language completes the prompt.
    fn open(&mut self, scores: &[f32]) -> Result<(), WhisperError> {
        let no_speech = scores[self.vocabulary.no_speech as usize] - log_sum_exp(scores);
        let no_speech_probability = ops::exp(no_speech);
        let languages = match self.task.given {
            Some((language, _)) => vec![(language, 1.0)],
            None => {
                let languages = self.vocabulary.languages(scores);
                let likeliest = languages.first().map_or(Language::EN, |(language, _)| *language);
                let token = self.vocabulary.language(likeliest)?;
                self.prompt.extend(self.vocabulary.prompt(token, self.task.timestamps));
                languages
            }
        };
        self.opening = Some(Opening { languages, no_speech_probability });
        Ok(())
    }

    /// Chooses until a token has to be read: passes that end at once are followed by the next.
    fn go_on(&mut self, scores: &mut [f32]) -> Result<Choice, WhisperError> {
        let vocabulary = Arc::clone(&self.vocabulary);
        let rules = Rules {
            suppressed: &vocabulary.suppressed,
            suppressed_at_begin: &vocabulary.suppressed_at_begin,
            end: vocabulary.end,
            first_timestamp: vocabulary.first_timestamp(),
            timestamps: self.task.timestamps,
            last_timestamp: self.audio.positions() as u32,
        };
        let mut ending = match self.drawing.choose(scores, &rules, &self.task.limits) {
            Next::Token(token) => return Ok(Choice::Read(vec![token])),
            Next::End(ending) => ending,
        };
        loop {
            if self.is_settled_by(ending)? {
                return Ok(Choice::Done);
            }
            let mut scores = self.first_scores.clone();
            match self.drawing.choose(&mut scores, &rules, &self.task.limits) {
                Next::Token(token) => {
                    return Ok(Choice::Again { keep: self.prompt.len(), read: vec![token] });
                }
                Next::End(at_once) => ending = at_once,
            }
        }
    }

    /// The pass has ended. One that repeats itself or is unlikely is drawn again, each time with more
    /// freedom (Radford et al., 2022, section 4.5); when none passes, the likeliest that does not
    /// repeat itself stands. Says whether that was the last one; else the next has begun.
    fn is_settled_by(&mut self, ending: Ending) -> Result<bool, WhisperError> {
        self.tried += 1;
        let next = self.task.temperatures.get(self.tried).copied();
        let next_drawing = Drawing::new(next.unwrap_or_default());
        let drawing = std::mem::replace(&mut self.drawing, next_drawing);
        self.steps += drawing.choices();
        let temperature = drawing.temperature();
        let pass = drawing.finish(ending);
        let text = self.vocabulary.text(&pass.tokens)?;
        let is_repetitive = compression_ratio(text.trim()) > MAX_COMPRESSION_RATIO;
        let is_unlikely = pass.average_log_probability < MIN_AVERAGE_LOG_PROBABILITY;
        let no_speech = self.opening.as_ref().map_or(0.0, |opening| opening.no_speech_probability);
        let is_silence = is_unlikely && no_speech > MAX_NO_SPEECH_PROBABILITY;
        let is_settled = is_silence || !(is_repetitive || is_unlikely);
        let is_better = self.best.as_ref().is_none_or(|best| {
            (best.is_repetitive, pass.average_log_probability)
                > (is_repetitive, best.pass.average_log_probability)
        });
        if is_settled || is_better {
            self.best = Some(Candidate { pass, temperature, is_repetitive });
        }
        Ok(is_settled || next.is_none())
    }

    fn next(&mut self, scores: &mut [f32]) -> Result<Choice, WhisperError> {
        if self.opening.is_none() {
            // There was nothing but the start token yet: the language was to be detected.
            self.open(scores)?;
            if self.task.language_only {
                return Ok(Choice::Done);
            }
            let rest = self.prompt[1..].to_vec();
            if !rest.is_empty() {
                return Ok(Choice::Read(rest));
            }
        }
        if self.first_scores.is_empty() {
            self.first_scores = scores.to_vec();
            self.prompted = Some(Instant::now());
        }
        self.go_on(scores)
    }

    fn noting<T>(&mut self, outcome: Result<T, WhisperError>) -> Option<T> {
        outcome.map_err(|error| self.error = Some(error)).ok()
    }
}

impl Sequence for Dictation {
    type Prediction = Vec<f32>;

    fn tokens(&self) -> Vec<u32> {
        [self.prompt.as_slice(), self.drawing.tokens()].concat()
    }

    fn wants_first(&self) -> bool {
        self.task.given.is_some() && self.opening.is_none()
    }

    fn see_first(&mut self, scores: &Vec<f32>) {
        let opened = self.open(scores);
        self.noting(opened);
    }

    fn choose(&mut self, scores: &mut Vec<f32>) -> Choice {
        let next = self.next(scores);
        self.noting(next).unwrap_or(Choice::Done)
    }
}
