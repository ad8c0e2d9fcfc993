//! What the tests of the recogniser share: where weights and recordings lie, decoding through
//! ffmpeg, and word error rates.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use inference::whisper::{Precision, Whisper};

/// `$XDG_CACHE_HOME/dragoman`, by default `~/.cache/dragoman`.
fn cache_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or XDG_CACHE_HOME must be set");
        PathBuf::from(home).join(".cache")
    });
    cache.join("dragoman")
}

/// The folder of all models.
fn models() -> PathBuf {
    std::env::var_os("DRAGOMAN_MODELS").map_or_else(|| cache_folder().join("models"), PathBuf::from)
}

/// The model folder; fails with the remedy when it is missing.
pub fn model_folder() -> PathBuf {
    let folder = models().join("whisper-base");
    let weights = folder.join("model.bin");
    assert!(weights.exists(), "{} is missing: run `dragoman models fetch`", weights.display());
    folder
}

pub fn load(precision: Precision) -> Whisper {
    Whisper::load(&model_folder(), &precision.into()).expect("the model loads")
}

/// Decodes a recording to 16 kHz mono with the command that the reference scripts use.
pub fn recording(clip: &str) -> Vec<f32> {
    let path = if clip.starts_with("sample-jfk/") {
        models().join(clip)
    } else {
        Path::new("/usr/share/asterisk/sounds").join(clip)
    };
    assert!(
        path.exists(),
        "{} is missing: run `dragoman models fetch` and install asterisk-core-sounds-XX-g722",
        path.display()
    );
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]);
    if clip.ends_with(".g722") {
        command.args(["-f", "g722"]);
    }
    command.arg("-i").arg(&path).args(["-ac", "1", "-ar", "16000", "-f", "f32le", "-"]);
    let output = command.output().expect("ffmpeg must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let samples = output.stdout.as_chunks::<4>().0;
    samples.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Lower case words without punctuation.
pub fn words(text: &str) -> Vec<String> {
    let kept: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '\'' { c } else { ' ' })
        .collect();
    kept.split_whitespace().map(str::to_owned).collect()
}

/// Word insertions, deletions and substitutions that turn `heard` into `expected`.
pub fn word_errors(expected: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in expected.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in heard.iter().enumerate() {
            let substitution = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[heard.len()]
}
