//! The quick settings hear as well as the slow reference: word error rates over 80 prompts in five
//! languages against their printed texts.
//!
//! `data/whisper/corpus.json` is written by `scripts/reference/whisper_corpus.py`, which documents
//! how clips are chosen and holds what faster-whisper (float32, 30 s window) hears in each.

// What was heard is the first thing to look at when a bound fails.
#![allow(clippy::print_stderr)]

mod whisper_support;

use std::collections::BTreeMap;

use inference::CancelToken;
use inference::whisper::{Precision, TranscribeOptions};
use serde::Deserialize;
use whisper_support::{load, recording, word_errors, words};

#[derive(Deserialize)]
struct Corpus {
    clips: Vec<Clip>,
}

#[derive(Deserialize)]
struct Clip {
    clip: String,
    language: String,
    printed: String,
    reference: String,
}

#[derive(Default)]
struct Tally {
    words: usize,
    ours: usize,
    reference: usize,
}

impl Tally {
    fn rate(&self, errors: usize) -> f64 {
        errors as f64 / self.words as f64
    }
}

#[test]
fn quantised_short_windows_are_within_a_point_of_the_float_reference() {
    let json = include_str!("data/whisper/corpus.json");
    let corpus: Corpus = serde_json::from_str(json).expect("valid corpus");
    assert!(corpus.clips.len() >= 60, "the corpus has only {} clips", corpus.clips.len());
    let whisper = load(Precision::Int8);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut total = Tally::default();
    for clip in &corpus.clips {
        let options = TranscribeOptions {
            language: Some(clip.language.parse().expect("a known language")),
            ..Default::default()
        };
        let samples = recording(&clip.clip);
        let transcript =
            whisper.transcribe(&samples, &options, &CancelToken::new()).expect("recognised");
        let printed = words(&clip.printed);
        let ours = word_errors(&printed, &words(&transcript.text));
        let reference = word_errors(&printed, &words(&clip.reference));
        if ours != reference {
            eprintln!("{}: {ours} errors, reference {reference}", clip.clip);
            eprintln!("  ours:      {}\n  reference: {}", transcript.text, clip.reference);
        }
        for tally in [tallies.entry(clip.language.clone()).or_default(), &mut total] {
            tally.words += printed.len();
            tally.ours += ours;
            tally.reference += reference;
        }
    }
    for (language, tally) in &tallies {
        let (ours, reference) = (tally.rate(tally.ours), tally.rate(tally.reference));
        eprintln!("{language}: {:.2} %, reference {:.2} %", 100.0 * ours, 100.0 * reference);
    }
    let (ours, reference) = (total.rate(total.ours), total.rate(total.reference));
    eprintln!("all: {:.2} %, reference {:.2} %", 100.0 * ours, 100.0 * reference);
    assert!(
        ours <= reference + 0.01,
        "word error rate {:.2} % against {:.2} %",
        100.0 * ours,
        100.0 * reference
    );
}
