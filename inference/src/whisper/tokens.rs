//! The tokenizer and the special tokens: languages, tasks, timestamps.

use std::path::Path;
use std::time::Duration;

use tokenizers::Tokenizer;

use super::config::ModelConfig;
use super::rules::log_sum_exp;
use super::{WhisperError, ops};
use crate::Language;

/// Token ids below this many belong to an English-only model (their tokens lie one lower, and
/// there are no languages to choose from).
const MULTILINGUAL_VOCABULARY: usize = 51_865;

/// What timestamp tokens count in.
pub const TIMESTAMP_STEP: Duration = Duration::from_millis(20);

/// The tokenizer with the ids that steer the decoder.
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Begins every prompt.
    pub start: u32,
    /// Ends every text; all ids below it are text.
    pub end: u32,
    /// Its probability after `start` is that of no speech.
    pub no_speech: u32,
    /// Asks for text without timestamps.
    no_timestamps: u32,
    transcribe: u32,
    /// Languages and their ids; empty for an English-only model.
    pub languages: Vec<(Language, u32)>,
    /// Ids that never occur in a text.
    pub suppressed: Vec<u32>,
    /// Ids that never begin a text.
    pub suppressed_at_begin: Vec<u32>,
}

impl Tokens {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`WhisperError::Io`], or [`WhisperError::Malformed`] when it is no tokenizer of Whisper's.
    pub fn read(dir: &Path, vocabulary: usize, config: &ModelConfig) -> Result<Self, WhisperError> {
        let path = dir.join("tokenizer.json");
        let malformed = |reason: String| WhisperError::Malformed { path: path.clone(), reason };
        let bytes = std::fs::read(&path)
            .map_err(|source| WhisperError::Io { path: path.clone(), source })?;
        let tokenizer =
            Tokenizer::from_bytes(&bytes).map_err(|error| malformed(error.to_string()))?;
        let find = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| tokenizer.token_to_id(name))
                .filter(|&id| (id as usize) < vocabulary)
                .ok_or_else(|| malformed(format!("it has no {}", names[0])))
        };
        let start = find(&["<|startoftranscript|>"])?;
        let end = find(&["<|endoftext|>"])?;
        let transcribe = find(&["<|transcribe|>"])?;
        let no_timestamps = find(&["<|notimestamps|>"])?;
        // The token has had two names; converters write either.
        let no_speech = find(&["<|nospeech|>", "<|nocaptions|>"])?;
        let mut languages = Vec::new();
        if vocabulary >= MULTILINGUAL_VOCABULARY {
            for language in Language::all() {
                if let Some(id) = tokenizer.token_to_id(&format!("<|{}|>", language.code())) {
                    languages.push((language, id));
                }
            }
        }
        let mut suppressed = config.suppressed();
        let steering = ["<|transcribe|>", "<|translate|>", "<|startofprev|>", "<|startoflm|>"];
        suppressed.extend(steering.iter().filter_map(|name| tokenizer.token_to_id(name)));
        suppressed.extend([start, no_speech, no_timestamps]);
        let mut suppressed_at_begin = config.suppressed_at_begin();
        if suppressed_at_begin.is_empty() {
            suppressed_at_begin.extend(tokenizer.token_to_id("\u{120}"));
            suppressed_at_begin.push(end);
        }
        for list in [&mut suppressed, &mut suppressed_at_begin] {
            list.retain(|&id| (id as usize) < vocabulary);
            list.sort_unstable();
            list.dedup();
        }
        Ok(Self {
            start,
            end,
            no_speech,
            no_timestamps,
            transcribe,
            languages,
            suppressed,
            suppressed_at_begin,
            tokenizer,
        })
    }

    /// Id of the timestamp 0 s; id + n stands for n × 20 ms.
    pub fn first_timestamp(&self) -> u32 {
        self.no_timestamps + 1
    }

    /// Id of a language.
    ///
    /// # Errors
    /// [`WhisperError::UnsupportedLanguage`]; an English-only model knows English, without an id.
    pub fn language(&self, language: Language) -> Result<Option<u32>, WhisperError> {
        if self.languages.is_empty() && language == Language::EN {
            return Ok(None);
        }
        self.languages
            .iter()
            .find(|(known, _)| *known == language)
            .map(|&(_, id)| Some(id))
            .ok_or(WhisperError::UnsupportedLanguage(language))
    }

    /// Probabilities of the languages among themselves, the likeliest first, from the scores that
    /// follow the start token.
    pub fn languages(&self, scores: &[f32]) -> Vec<(Language, f32)> {
        let own: Vec<f32> = self.languages.iter().map(|&(_, id)| scores[id as usize]).collect();
        let total = log_sum_exp(&own);
        let mut languages: Vec<(Language, f32)> = self
            .languages
            .iter()
            .zip(&own)
            .map(|(&(language, _), score)| (language, ops::exp(score - total)))
            .collect();
        languages.sort_by(|a, b| b.1.total_cmp(&a.1));
        languages
    }

    /// What follows the start token: language and task of a multilingual model, and whether there
    /// shall be timestamps.
    pub fn prompt(&self, language: Option<u32>, timestamps: bool) -> Vec<u32> {
        let mut prompt = Vec::new();
        if let Some(language) = language {
            prompt.extend([language, self.transcribe]);
        }
        if !timestamps {
            prompt.push(self.no_timestamps);
        }
        prompt
    }

    /// The text of ids; special tokens and timestamps are left out.
    ///
    /// # Errors
    /// [`WhisperError::Tokenizer`].
    pub fn text(&self, ids: &[u32]) -> Result<String, WhisperError> {
        let text_ids: Vec<u32> = ids.iter().copied().filter(|&id| id < self.end).collect();
        self.tokenizer.decode(&text_ids, true).map_err(WhisperError::Tokenizer)
    }
}
