//! How the recogniser behaves on speech, on none, and on files that are no model.

// What was heard is the first thing to look at when a bound fails.
#![allow(clippy::print_stderr)]

mod whisper_support;

use std::time::Duration;

use inference::whisper::{
    Precision, Recogniser, TranscribeOptions, Whisper, WhisperConfig, WhisperError, Window,
};
use inference::{CancelToken, Language};
use whisper_support::{load, model_folder, recording, word_errors, words};

/// White noise that does not change between runs.
fn noise(samples: usize, amplitude: f32) -> Vec<f32> {
    let mut state = 1u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 * amplitude - amplitude
        })
        .collect()
}

fn english() -> TranscribeOptions {
    TranscribeOptions { language: Some(Language::EN), ..Default::default() }
}

/// Passages of jfk.wav from and to seconds, and what is said in them.
const PASSAGES: [(f32, f32, &str); 4] = [
    (0.0, 2.2, "and so my fellow americans"),
    (3.2, 7.7, "ask not what your country can do for you"),
    (7.9, 10.6, "ask what you can do for your country"),
    (0.0, 7.7, "and so my fellow americans ask not what your country can do for you"),
];

/// Asserts one copy of each passage; returns the windows that all of them took together.
fn hear_passages_once(window: Window, timestamps: bool) -> usize {
    let whisper = load(Precision::Int8);
    let samples = recording("sample-jfk/jfk.wav");
    let options = TranscribeOptions { window, timestamps, ..english() };
    let mut windows = 0;
    for (from, to, expected) in PASSAGES {
        let range = (from * 16_000.0) as usize..(to * 16_000.0) as usize;
        let (transcript, times) = whisper
            .transcribe_timed(&samples[range], &options, &CancelToken::new())
            .expect("recognised");
        eprintln!("{from} to {to} s: {:?}, {} windows", transcript.text, times.windows);
        windows += times.windows;
        let (expected, heard) = (words(expected), words(&transcript.text));
        assert!(
            word_errors(&expected, &heard) <= 2 && heard.len() <= expected.len() + 2,
            "{from} to {to} s became {:?}",
            transcript.text
        );
    }
    windows
}

#[test]
fn the_short_window_gives_one_copy_of_speech_that_is_cut_off() {
    assert_eq!(hear_passages_once(Window::Short, true), PASSAGES.len());
    hear_passages_once(Window::Short, false);
}

#[test]
fn a_loop_in_a_window_with_little_silence_is_cut_and_heard_again() {
    // From 100 ms on, 32-bit floats and 8-bit weights alike now and then end a text after a second
    // copy, which is no loop yet.
    let little = Window::Padded(Duration::from_millis(50));
    let timed = hear_passages_once(little, true);
    let plain = hear_passages_once(little, false);
    assert!(timed + plain > 2 * PASSAGES.len(), "none of the passages looped");
}

#[test]
fn silence_and_noise_give_no_text() {
    let whisper = load(Precision::Int8);
    for (name, samples) in [
        ("digital silence", vec![0.0; 32_000]),
        ("quiet noise", noise(32_000, 0.001)),
        ("loud noise", noise(48_000, 0.2)),
        ("half a second of noise", noise(8_000, 0.05)),
    ] {
        let transcript =
            whisper.transcribe(&samples, &english(), &CancelToken::new()).expect("recognised");
        eprintln!(
            "{name}: {:?}, no speech {:.2}, log probability {:.2}",
            transcript.text, transcript.no_speech_probability, transcript.average_log_probability
        );
        assert_eq!(transcript.text, "", "{name}");
        assert!(transcript.tokens.is_empty() && transcript.pieces.is_empty(), "{name}");
        assert!(transcript.no_speech_probability > 0.5, "{name}");
    }
}

#[test]
fn the_language_is_detected_with_one_encoding() {
    let whisper = load(Precision::Int8);
    for (clip, language) in [
        ("sample-jfk/jfk.wav", "en"),
        ("es_MX_f_Allison/agent-alreadyon.g722", "es"),
        ("fr_CA_f_June/agent-alreadyon.g722", "fr"),
        ("it_IT_m_Carlo/agent-alreadyon.g722", "it"),
        ("ru_RU_f_IvrvoiceRU/agent-alreadyon.g722", "ru"),
    ] {
        let samples = recording(clip);
        let (transcript, times) = whisper
            .transcribe_timed(&samples, &TranscribeOptions::default(), &CancelToken::new())
            .expect("recognised");
        assert_eq!(transcript.language.code(), language, "{clip}");
        assert!(transcript.language_probability > 0.5, "{clip}");
        assert_eq!(times.windows, 1, "{clip}");
        let guesses = whisper.detect_language(&samples, &CancelToken::new()).expect("detected");
        assert_eq!(guesses[0].0.code(), language, "{clip}");
        let total: f32 = guesses.iter().map(|guess| guess.1).sum();
        assert!((total - 1.0).abs() < 1e-3, "probabilities sum to {total}");
    }
}

#[test]
fn pieces_are_timed_within_the_speech() {
    let whisper = load(Precision::Int8);
    let samples = recording("sample-jfk/jfk.wav");
    let transcript =
        whisper.transcribe(&samples, &english(), &CancelToken::new()).expect("recognised");
    let mut last = Duration::ZERO;
    for piece in &transcript.pieces {
        assert!(piece.start >= last && piece.end > piece.start, "{:?}", transcript.pieces);
        last = piece.end;
    }
    assert!(last > Duration::from_secs(9) && last <= Duration::from_secs(11), "{last:?}");
    let joined: Vec<&str> = transcript.pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(joined.join(" "), transcript.text);
}

#[test]
fn segments_recognised_together_come_out_as_they_do_alone() {
    // Encoded side by side, they come to the decoder at about the same time.
    let config = WhisperConfig { encoders: 4, ..WhisperConfig::default() };
    let whisper = Whisper::load(&model_folder(), &config).expect("the model loads");
    let clips = [
        "sample-jfk/jfk.wav",
        "es_MX_f_Allison/agent-alreadyon.g722",
        "fr_CA_f_June/agent-alreadyon.g722",
        "en_US_f_Allison/agent-alreadyon.g722",
    ];
    let samples = clips.map(recording);
    let hear = |samples: &[f32]| {
        let options = TranscribeOptions::default();
        let heard = whisper.transcribe(samples, &options, &CancelToken::new());
        heard.expect("recognised").text
    };
    let alone: Vec<String> = samples.iter().map(|samples| hear(samples)).collect();
    assert_eq!(whisper.batch_stats().expect("it has a batcher").sizes.len(), 1, "one at a time");
    let together: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = samples.iter().map(|samples| scope.spawn(|| hear(samples))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    assert_eq!(together, alone);
    assert!(alone.iter().all(|text| !text.is_empty()), "{alone:?}");
    let sizes = whisper.batch_stats().expect("it has a batcher").sizes;
    assert!(sizes.len() > 1, "they shared no step: {sizes:?}");
}

#[test]
fn a_cancelled_request_ends_at_once() {
    let whisper = load(Precision::Int8);
    let cancel = CancelToken::new();
    cancel.cancel();
    let result = whisper.transcribe(&[0.1; 16_000], &english(), &cancel);
    assert!(matches!(result, Err(WhisperError::Cancelled)));
}

#[test]
fn too_long_a_segment_is_refused_and_none_is_empty() {
    let whisper = load(Precision::Int8);
    let result = whisper.transcribe(&vec![0.0; 480_001], &english(), &CancelToken::new());
    assert!(matches!(result, Err(WhisperError::TooLong { samples: 480_001, limit: 480_000 })));
    let empty = whisper.transcribe(&[], &english(), &CancelToken::new()).expect("nothing said");
    assert_eq!(empty.text, "");
}

#[test]
fn a_truncated_model_is_named_in_the_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(model_folder().join(name), folder.path().join(name)).expect("copied");
    }
    let weights = std::fs::read(model_folder().join("model.bin")).expect("readable");
    for length in [0, 3, 100, weights.len() / 2, weights.len() - 1] {
        std::fs::write(folder.path().join("model.bin"), &weights[..length]).expect("written");
        let error = Whisper::load(folder.path(), &Precision::Int8.into()).err().expect("truncated");
        assert!(matches!(error, WhisperError::Malformed { .. }), "{length}: {error}");
        assert!(error.to_string().contains("model.bin"), "{length}: {error}");
    }
    std::fs::remove_file(folder.path().join("model.bin")).expect("removed");
    let error = Whisper::load(folder.path(), &Precision::Int8.into()).err().expect("no weights");
    assert!(matches!(error, WhisperError::NoWeights(_)), "{error}");
}
