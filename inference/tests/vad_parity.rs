//! Silero in Rust says what ONNX Runtime says, over whole recordings.
//!
//! The reference values come from `scripts/reference/vad_probabilities.py`.
#![allow(clippy::print_stderr, reason = "measured differences and costs are worth reading")]

use std::path::{Path, PathBuf};
use std::process::Command;

use inference::vad::{CHUNK_SAMPLES, Vad, VadError, WEIGHTS_FILE};
use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Reference {
    pcm_sha256: String,
    recordings: Vec<String>,
    probabilities: Vec<f32>,
}

fn models() -> PathBuf {
    if let Some(folder) = std::env::var_os("DRAGOMAN_MODELS") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache")
    });
    cache.join("dragoman/models")
}

fn vad() -> Vad {
    let folder = models().join("silero-vad");
    Vad::load(&folder).unwrap_or_else(|error| {
        panic!("{error} ({}): fetch the models or set DRAGOMAN_MODELS", folder.display())
    })
}

fn reference(name: &str) -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vad").join(name);
    let bytes = std::fs::read(path).expect("the reference values are in the repository");
    serde_json::from_slice(&bytes).expect("the script wrote valid json")
}

/// 16-bit samples of a recording, decoded by ffmpeg.
fn pcm(path: &Path) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]);
    if path.extension().is_some_and(|extension| extension == "g722") {
        command.args(["-f", "g722"]);
    }
    command.arg("-i").arg(path).args(["-f", "s16le", "-ac", "1", "-ar", "16000", "-"]);
    let output = command.output().expect("ffmpeg runs: install it");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", path.display());
    output.stdout
}

fn floats(pcm: &[u8]) -> Vec<f32> {
    pcm.chunks_exact(2)
        .map(|bytes| f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32768.0)
        .collect()
}

fn assert_parity(name: &str, folder: &Path) {
    let reference = reference(name);
    let bytes: Vec<u8> =
        reference.recordings.iter().flat_map(|recording| pcm(&folder.join(recording))).collect();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, reference.pcm_sha256, "the recordings are not those of the reference");

    let mut stream = vad().stream();
    let mut probabilities = Vec::new();
    // 20 ms, as speech arrives.
    for frame in floats(&bytes).chunks(320) {
        stream.push(frame, |probability| probabilities.push(probability));
    }
    assert_eq!(probabilities.len(), reference.probabilities.len());
    let worst = probabilities
        .iter()
        .zip(&reference.probabilities)
        .map(|(got, want)| (got - want).abs())
        .fold(0.0, f32::max);
    eprintln!("{name}: {} chunks, largest difference {worst:.1e}", probabilities.len());
    assert!(worst < 1e-4, "{name}: probabilities differ by {worst}");
}

#[test]
fn english_speech_has_the_probabilities_of_onnx_runtime() {
    assert_parity("jfk.json", &models());
}

#[test]
fn spanish_prompts_and_tones_have_the_probabilities_of_onnx_runtime() {
    assert_parity("es_prompts.json", Path::new("/usr/share/asterisk/sounds"));
}

#[test]
fn a_stream_that_is_reset_hears_as_a_new_one() {
    let noise: Vec<f32> = (0..8_000).map(|n| ((n * n) as f32 * 0.37).sin() * 0.3).collect();
    let vad = vad();
    let mut stream = vad.stream();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    stream.push(&noise, |probability| first.push(probability));
    assert_eq!(stream.pending_samples(), 8_000 % CHUNK_SAMPLES);
    stream.reset();
    stream.push(&noise, |probability| second.push(probability));
    assert_eq!(first.len(), 8_000 / CHUNK_SAMPLES);
    assert_eq!(first, second);
}

#[test]
fn a_missing_model_is_named() {
    let error = Vad::load(Path::new("/nowhere")).err().expect("there is no such folder");
    assert!(matches!(error, VadError::Read { .. }));
    assert!(error.to_string().contains(WEIGHTS_FILE), "{error}");
}

#[test]
fn a_truncated_model_is_refused() {
    let bytes = std::fs::read(models().join("silero-vad").join(WEIGHTS_FILE))
        .expect("the weights are there: fetch the models or set DRAGOMAN_MODELS");
    for length in [0, 1, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(Vad::from_onnx(&bytes[..length]).is_err(), "{length} bytes were accepted");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn how_a_stream_is_cut_does_not_matter(cuts in prop::collection::vec(0usize..1_500, 1..10)) {
        let total: usize = cuts.iter().sum();
        let signal: Vec<f32> = (0..total).map(|n| ((n * n) as f32 * 0.01).sin() * 0.5).collect();
        let vad = vad();
        let (mut pieces, mut whole) = (Vec::new(), Vec::new());
        let mut stream = vad.stream();
        let mut rest = signal.as_slice();
        for cut in cuts {
            stream.push(&rest[..cut], |probability| pieces.push(probability));
            rest = &rest[cut..];
        }
        vad.stream().push(&signal, |probability| whole.push(probability));
        prop_assert_eq!(pieces, whole);
    }
}
