//! The recogniser chooses the same tokens as faster-whisper does with the same weights.
//!
//! `data/whisper/tokens.json` is written by `scripts/reference/whisper_tokens.py`: faster-whisper
//! 1.2.1, float32, beam 1, temperature 0, no conditioning on previous text, over a window that is
//! filled with silence to 30 s.

mod whisper_support;

use inference::CancelToken;
use inference::whisper::{Precision, TranscribeOptions, Window};
use serde::Deserialize;
use whisper_support::{load, recording};

#[derive(Deserialize)]
struct Reference {
    clips: Vec<Clip>,
}

#[derive(Deserialize)]
struct Clip {
    clip: String,
    language: String,
    samples: usize,
    tokens: Vec<u32>,
    timed_tokens: Vec<u32>,
}

/// Ids of timestamps and other special tokens of the multilingual vocabulary begin here.
const FIRST_SPECIAL: u32 = 50_257;

fn reference() -> Vec<Clip> {
    let json = include_str!("data/whisper/tokens.json");
    serde_json::from_str::<Reference>(json).expect("valid reference").clips
}

fn compare(timestamps: bool, expected: impl Fn(&Clip) -> Vec<u32>) {
    let whisper = load(Precision::F32);
    let mut differing = Vec::new();
    for clip in reference() {
        let samples = recording(&clip.clip);
        assert_eq!(samples.len(), clip.samples, "{} decodes to another length", clip.clip);
        let options = TranscribeOptions {
            language: Some(clip.language.parse().expect("a known language")),
            window: Window::Full,
            timestamps,
            temperatures: vec![0.0],
            ..TranscribeOptions::default()
        };
        let transcript =
            whisper.transcribe(&samples, &options, &CancelToken::new()).expect("recognised");
        if transcript.tokens != expected(&clip) {
            differing
                .push(format!("{}: {:?}\n  {}", clip.clip, transcript.tokens, transcript.text));
        }
    }
    assert!(differing.is_empty(), "tokens differ from the reference:\n{}", differing.join("\n"));
}

#[test]
fn greedy_tokens_equal_faster_whispers_in_five_languages() {
    compare(false, |clip| clip.tokens.clone());
}

#[test]
fn greedy_tokens_with_timestamps_equal_faster_whispers_in_five_languages() {
    compare(true, |clip| {
        clip.timed_tokens.iter().copied().filter(|&id| id < FIRST_SPECIAL).collect()
    });
}
