//! How many words the recogniser gets wrong with 8-bit weights and with 32-bit floats, side by side
//! over the load test's corpus of spoken prompts (`scripts/loadtest-corpus.sh` makes it).
//!
//! ```text
//! cargo run --release -p inference --example word_errors -- MODEL_FOLDER CORPUS_FOLDER
//! ```
#![allow(clippy::print_stdout)]

// What the tests count words with.
#[path = "../tests/whisper_support/mod.rs"]
mod whisper_support;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use inference::CancelToken;
use inference::whisper::{Precision, SAMPLE_RATE_HZ, TranscribeOptions, Whisper};
use serde::Deserialize;
use whisper_support::{word_errors, words};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Int8];

/// `corpus.json`.
#[derive(Deserialize)]
struct Corpus {
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    path: String,
    language: String,
    transcript: String,
}

#[derive(Default)]
struct Tally {
    clips: usize,
    words: usize,
    /// By precision.
    errors: [usize; 2],
    /// Clips that the two precisions hear differently.
    differing: usize,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().context("name the model folder")?;
    let folder = arguments.next().context("name the corpus folder")?;
    let json = std::fs::read(Path::new(&folder).join("corpus.json"))?;
    let corpus: Corpus = serde_json::from_slice(&json)?;
    let mut heard = Vec::new();
    for precision in PRECISIONS {
        let whisper = Whisper::load(Path::new(&model), &precision.into())?;
        let hear = |sentence: &Sentence| -> anyhow::Result<Vec<String>> {
            let samples = read_wav(&Path::new(&folder).join(&sentence.path))?;
            let options = TranscribeOptions {
                language: Some(sentence.language.parse()?),
                ..Default::default()
            };
            Ok(words(&whisper.transcribe(&samples, &options, &CancelToken::new())?.text))
        };
        heard.push(corpus.sentences.iter().map(hear).collect::<anyhow::Result<Vec<_>>>()?);
    }
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for (index, sentence) in corpus.sentences.iter().enumerate() {
        let expected = words(&sentence.transcript);
        let [float, int8] = [&heard[0][index], &heard[1][index]];
        for key in [sentence.language.as_str(), "all"] {
            let tally = tallies.entry(key).or_default();
            tally.clips += 1;
            tally.words += expected.len();
            tally.errors[0] += word_errors(&expected, float);
            tally.errors[1] += word_errors(&expected, int8);
            tally.differing += usize::from(float != int8);
        }
    }
    println!("| language | clips | words | F32 | Int8 | heard differently |");
    println!("|---|---|---|---|---|---|");
    for (language, tally) in &tallies {
        let [float, int8] = tally.errors.map(|errors| 100.0 * errors as f64 / tally.words as f64);
        println!(
            "| {language} | {} | {} | {float:.2} % | {int8:.2} % | {} |",
            tally.clips, tally.words, tally.differing
        );
    }
    Ok(())
}

fn read_wav(path: &Path) -> anyhow::Result<Vec<f32>> {
    let mut reader = hound::WavReader::open(path).with_context(|| path.display().to_string())?;
    let spec = reader.spec();
    let is_readable = (spec.sample_rate, spec.channels, spec.bits_per_sample);
    ensure!(is_readable == (SAMPLE_RATE_HZ, 1, 16), "{} is of another format", path.display());
    let samples = reader.samples::<i16>();
    Ok(samples.map(|sample| sample.map(|s| f32::from(s) / 32_768.0)).collect::<Result<_, _>>()?)
}
