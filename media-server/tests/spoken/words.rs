//! Whether the first and the last word of a sentence survive being cut out of a stream.

use std::ops::Range;

use inference::CancelToken;
use inference::whisper::{Precision, TranscribeOptions, Whisper, Window};

use super::judge::Heard;
use super::models;

/// How far from its end of the transcript a word may stand: a recogniser that hears an article more
/// or less has not lost the word beside it.
const REACH: usize = 3;

pub struct Recogniser {
    whisper: Whisper,
    options: TranscribeOptions,
}

impl Recogniser {
    pub fn load() -> Self {
        let folder = models().join("whisper-base");
        let whisper = Whisper::load(&folder, &Precision::Int8.into()).unwrap_or_else(|error| {
            panic!("{error} ({}): fetch the models or set DRAGOMAN_MODELS", folder.display())
        });
        Self { whisper, options: TranscribeOptions::default() }
    }

    /// The words heard in some samples, lower case and without punctuation.
    pub fn words(&mut self, samples: &[f32], language: &str) -> Vec<String> {
        self.words_in(Window::Short, samples, language)
    }

    /// As [`words`](Self::words), heard in another window. One window may bring out what another does
    /// not; a word that is not there comes out in none.
    pub fn words_in(&mut self, window: Window, samples: &[f32], language: &str) -> Vec<String> {
        self.options.window = window;
        self.options.language = Some(language.parse().expect("a known language"));
        let cancel = CancelToken::new();
        let transcript =
            self.whisper.transcribe(samples, &self.options, &cancel).expect("recognised");
        let letters = |c: char| if c.is_alphanumeric() { c } else { ' ' };
        let text: String = transcript.text.to_lowercase().chars().map(letters).collect();
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// The places of the segments that hold a sentence.
pub fn segments_of(span: &Range<u64>, heard: &[Heard]) -> Vec<Range<u64>> {
    let segments = heard.iter().map(|one| &one.segment);
    segments
        .filter(|segment| segment.first_voiced < span.end && span.start < segment.last_voiced)
        .map(|segment| segment.start..segment.end())
        .collect()
}

/// Whether the first and the last word of `whole` are at their ends of `cut`.
pub fn ends_survive(whole: &[String], cut: &[String]) -> (bool, bool) {
    let (Some(first), Some(last)) = (whole.first(), whole.last()) else { return (true, true) };
    let first_survives = cut.iter().take(REACH).any(|word| is_alike(word, first));
    let last_survives = cut.iter().rev().take(REACH).any(|word| is_alike(word, last));
    (first_survives, last_survives)
}

/// The same word, or its spelling differs in a third of the letters at most ("log" and "logs").
fn is_alike(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    3 * edits(&a, &b) <= a.len().max(b.len())
}

fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
