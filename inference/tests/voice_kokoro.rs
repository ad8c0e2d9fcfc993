//! The Kokoro voice with its real weights. Fails, rather than skips, where they are missing.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use inference::kept::Kept;
use inference::voice::{Kokoro, SpeakRequest, Voice, VoiceError};
use inference::{CancelToken, Language};
use proptest::prelude::*;

static KOKORO: LazyLock<Kokoro> = LazyLock::new(|| {
    Kokoro::load(&model_folder(), 2)
        .expect("the weights of kokoro-82m are usable: fetch the models first")
});

fn model_folder() -> PathBuf {
    let models = std::env::var_os("DRAGOMAN_MODELS").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
                PathBuf::from,
            );
            cache.join("dragoman/models")
        },
        PathBuf::from,
    );
    models.join("kokoro-82m")
}

fn language(code: &str) -> Language {
    code.parse().expect("a language")
}

fn request(code: &str, text: &str) -> SpeakRequest {
    SpeakRequest::new(text, language(code))
}

fn speak(request: &SpeakRequest) -> Vec<Vec<f32>> {
    let mut chunks = Vec::new();
    KOKORO
        .speak(request, &mut |chunk| {
            chunks.push(chunk.to_vec());
            ControlFlow::Continue(())
        })
        .expect("spoken");
    chunks
}

#[derive(serde::Deserialize)]
struct Utterance {
    name: String,
    voice: String,
    phonemes: String,
    tokens: Vec<i32>,
    samples: usize,
}

fn utterances() -> Vec<(Utterance, Vec<f32>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/voice");
    let listing = std::fs::read_to_string(folder.join("utterances.json")).expect("the listing");
    let listing: Vec<Utterance> = serde_json::from_str(&listing).expect("well formed");
    listing
        .into_iter()
        .map(|utterance| {
            let path = folder.join(format!("{}.wav", utterance.name));
            let samples = hound::WavReader::open(path)
                .expect("the recording")
                .into_samples::<i16>()
                .map(|sample| f32::from(sample.expect("a sample")) / 32_767.0)
                .collect();
            (utterance, samples)
        })
        .collect()
}

fn correlation(left: &[f32], right: &[f32]) -> f64 {
    let product = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    product(left, right) / (product(left, left) * product(right, right)).sqrt()
}

fn level(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// The phase of the excitation integrates the pitch, so that rounding in the pitch shows in the
/// waveform after a second; measured are correlations of 0.988 and 0.997.
fn the_samples_agree_with_the_reference_runtime() {
    for (utterance, reference) in utterances() {
        let samples =
            KOKORO.synthesise(&utterance.tokens, &utterance.voice, 1.0).expect("synthesised");
        assert_eq!(samples.len(), utterance.samples, "{}", utterance.name);
        assert_eq!(samples.len(), reference.len(), "{}", utterance.name);
        let similarity = correlation(&samples, &reference);
        assert!(similarity > 0.97, "{}: {similarity}", utterance.name);
        let loudness = level(&samples) / level(&reference);
        assert!((0.9..1.1).contains(&loudness), "{}: {loudness}", utterance.name);
    }
}

fn the_tokens_of_a_phrase_are_those_of_the_reference() {
    let texts = [("es", "Buenos días a todos,"), ("en", "Yes, of course.")];
    for ((code, text), (utterance, _)) in texts.into_iter().zip(utterances()) {
        let tokens = KOKORO.tokens(language(code), text).expect("tokens");
        assert_eq!(tokens, utterance.tokens, "{text}: {}", utterance.phonemes);
    }
}

fn the_same_words_give_the_same_samples_from_any_thread() {
    let (utterance, _) = utterances().remove(1);
    let run = || KOKORO.synthesise(&utterance.tokens, &utterance.voice, 1.0).expect("synthesised");
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().expect("no panic"))
    });
    assert!(one == two);
}

fn every_language_is_spoken_at_a_plausible_pace_without_clipping() {
    let texts = [
        ("en", "The meeting starts tomorrow at three."),
        ("es", "La reunión empieza mañana a las tres."),
        ("fr", "La réunion commence demain à trois heures."),
        ("it", "La riunione comincia domani alle tre."),
        ("pt", "A reunião começa amanhã às três."),
        ("hi", "बैठक कल तीन बजे शुरू होगी।"),
    ];
    for (code, text) in texts {
        assert!(KOKORO.supports(language(code)));
        let samples = speak(&request(code, text)).concat();
        let seconds = samples.len() as f32 / KOKORO.sample_rate_hz() as f32;
        assert!((1.2..5.0).contains(&seconds), "{code}: {seconds} s");
        assert!(level(&samples) > 0.01, "{code} is too quiet");
        assert!(samples.iter().all(|sample| sample.abs() < 0.98), "{code} clips");
    }
    assert!(!KOKORO.supports(language("de")));
}

fn the_first_chunk_is_a_short_clause() {
    let text = "Good morning, everyone, we are glad that so many of you could come today.";
    let chunks = speak(&request("en", text));
    assert!(chunks.len() >= 2, "{} chunks", chunks.len());
    let seconds = chunks[0].len() as f32 / KOKORO.sample_rate_hz() as f32;
    assert!((0.3..1.5).contains(&seconds), "{seconds} s");
}

/// Only the statistics differ: with those of the utterance itself the two are equal.
fn what_is_spoken_in_pieces_sounds_like_the_whole() {
    let texts = [
        ("es", "ef_dora", "Por favor espere mientras intento localizar a la persona que llama."),
        ("en", "af_heart", "I will put you through to somebody who knows about these machines."),
    ];
    for (code, voice, text) in texts {
        let tokens = KOKORO.tokens(language(code), text).expect("tokens");
        let whole = KOKORO.synthesise(&tokens, voice, 1.0).expect("synthesised");
        let mut pieces: Vec<Vec<f32>> = Vec::new();
        let flow =
            KOKORO.synthesise_streaming(&tokens, voice, 1.0, &CancelToken::new(), &mut |piece| {
                pieces.push(piece);
                ControlFlow::Continue(())
            });
        assert!(flow.expect("synthesised").is_continue());
        assert!(pieces.len() >= 3, "{} pieces", pieces.len());
        assert!(pieces[0].len() <= 24_000, "the first piece is short");
        let joined = pieces.concat();
        assert_eq!(joined.len(), whole.len());
        let similarity = correlation(&joined, &whole);
        assert!(similarity > 0.85, "{text}: {similarity}");
        // All pieces are equally louder or softer than the whole: 3 dB are no step that is heard.
        let mut at = 0;
        for piece in &pieces {
            let loudness = level(piece) / level(&whole[at..][..piece.len()]);
            assert!((0.7..1.41).contains(&loudness), "{text}: {loudness} from {at}");
            at += piece.len();
        }
    }
}

fn a_single_syllable_and_no_syllable_are_fine() {
    for text in ["Sí.", "A", "Ya", "¡No!"] {
        let samples = speak(&request("es", text)).concat();
        assert!(level(&samples) > 0.01, "{text}");
        assert!(samples.len() < 24_000 * 2, "{text} takes {} samples", samples.len());
    }
    for text in ["", " \n", "...", "👍", "¿?"] {
        assert!(speak(&request("es", text)).concat().is_empty(), "{text:?}");
    }
}

fn speed_shortens_and_cancelling_ends() {
    let slow = speak(&request("en", "Where is the station?")).concat().len();
    let mut fast = request("en", "Where is the station?");
    fast.speed = 1.5;
    let fast = speak(&fast).concat().len();
    assert!(fast < slow * 4 / 5, "{fast} against {slow}");

    let long = request("en", "This is one sentence. This is another one. And this is the third.");
    let mut chunks = 0;
    let outcome = KOKORO.speak(&long, &mut |_| {
        chunks += 1;
        long.cancel.cancel();
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(VoiceError::Cancelled)));
    assert_eq!(chunks, 1);

    let mut chunks = 0;
    let outcome = KOKORO.speak(&request("en", &long.text), &mut |_| {
        chunks += 1;
        ControlFlow::Break(())
    });
    assert!(outcome.is_ok());
    assert_eq!(chunks, 1);
}

fn all_voices_are_there_by_name_and_an_unknown_one_is_an_error() {
    let voices = KOKORO.voices();
    assert_eq!(voices.len(), 41);
    let (utterance, _) = utterances().remove(1);
    let first = voices.iter().find(|voice| voice.language == Language::ES).expect("one");
    assert_eq!(first.name, "ef_dora", "a language's own voice is its first");
    let english = voices.iter().filter(|voice| voice.language == Language::EN).count();
    assert_eq!(english, 28);
    let bella = KOKORO.synthesise(&utterance.tokens, "af_bella", 1.0).expect("another voice");
    assert!(level(&bella) > 0.01);

    KOKORO.prepare(Language::EN, Some("af_bella")).expect("prepared");
    assert!(KOKORO.prepare(Language::EN, Some("nobody")).is_err());
    let mut wrong = request("en", "Hello");
    wrong.voice = Some("nobody".to_owned());
    let error =
        KOKORO.speak(&wrong, &mut |_| ControlFlow::Continue(())).expect_err("no such voice");
    assert!(error.to_string().contains("af_heart"), "{error}");
    let german = KOKORO.speak(&request("de", "Hallo"), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(german, Err(VoiceError::UnsupportedLanguage { .. })));
}

fn too_many_tokens_are_an_error_and_too_long_a_text_is_cut() {
    assert!(matches!(
        KOKORO.synthesise(&[43; 511], "af_heart", 1.0),
        Err(VoiceError::Failed { .. })
    ));
    assert!(matches!(KOKORO.synthesise(&[], "af_heart", 1.0), Err(VoiceError::Failed { .. })));
    // Ninety digits are several hundred phonemes in one clause.
    let mut chunks = 0;
    let outcome = KOKORO.speak(&request("en", &"7".repeat(90)), &mut |chunk| {
        chunks += 1;
        assert!(!chunk.is_empty());
        ControlFlow::Continue(())
    });
    assert!(outcome.is_ok() && chunks >= 1);
}

// Loading takes longer than most checks, and every test may run in a process of its own: those that
// use the model are grouped.

#[test]
fn the_model_agrees_with_the_reference() {
    the_tokens_of_a_phrase_are_those_of_the_reference();
    the_samples_agree_with_the_reference_runtime();
    the_same_words_give_the_same_samples_from_any_thread();
}

#[test]
fn all_languages_and_lengths_are_spoken() {
    every_language_is_spoken_at_a_plausible_pace_without_clipping();
    the_first_chunk_is_a_short_clause();
    what_is_spoken_in_pieces_sounds_like_the_whole();
    a_single_syllable_and_no_syllable_are_fine();
}

#[test]
fn requests_are_honoured_or_refused_by_name() {
    speed_shortens_and_cancelling_ends();
    all_voices_are_there_by_name_and_an_unknown_one_is_an_error();
    too_many_tokens_are_an_error_and_too_long_a_text_is_cut();
}

#[test]
fn what_was_learnt_of_a_voice_and_kept_speaks_with_the_same_samples() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = || {
        let kokoro = Kokoro::load(&model_folder(), 2).expect("loads");
        kokoro.keeping(&model_folder(), Kept::new(folder.path()))
    };
    let speak = |kokoro: &Kokoro| {
        let mut samples = Vec::new();
        let request = request("es", "Gracias por esperar, enseguida le atiende un agente.");
        let spoken = kokoro.speak(&request, &mut |chunk| {
            samples.extend_from_slice(chunk);
            ControlFlow::Continue(())
        });
        spoken.expect("spoken");
        samples
    };
    let first = speak(&engine());
    let file = folder.path().join("kokoro-ef_dora.f32");
    let written = std::fs::metadata(&file).and_then(|about| about.modified()).expect("kept");
    assert!(speak(&engine()) == first, "other samples");
    let again = std::fs::metadata(&file).and_then(|about| about.modified()).expect("kept");
    assert_eq!(written, again, "it was computed again");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[test]
fn damaged_files_are_named_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path();
    std::fs::create_dir(copy.join("voices")).expect("created");
    let voice = std::fs::read(model_folder().join("voices/ef_dora.bin")).expect("a voice");
    let load_error = || match Kokoro::load(copy, 1) {
        Ok(_) => panic!("it must not load"),
        Err(error) => chain(&error),
    };

    std::fs::write(copy.join("voices/ef_dora.bin"), &voice[..1000]).expect("written");
    let error = load_error();
    assert!(error.contains("ef_dora.bin has 1000 bytes instead of 522240"), "{error}");

    std::fs::write(copy.join("voices/ef_dora.bin"), voice).expect("written");
    let error = load_error();
    assert!(error.contains("vocab.json: fetch the model"), "{error}");

    std::fs::copy(model_folder().join("vocab.json"), copy.join("vocab.json")).expect("copied");
    let model = std::fs::read(model_folder().join("kokoro-v1.0.int8.onnx")).expect("the model");
    for len in [0, 1000, model.len() / 2, model.len() - 100_000] {
        std::fs::write(copy.join("kokoro-v1.0.int8.onnx"), &model[..len]).expect("written");
        let error = load_error();
        assert!(error.contains("kokoro-v1.0.int8.onnx is not usable"), "{len}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic_or_speak_nonsense(text in "\\PC{0,12}", code in "en|es|hi") {
        let outcome = KOKORO.speak(&request(&code, &text), &mut |chunk| {
            assert!(chunk.iter().all(|sample| sample.is_finite() && sample.abs() <= 1.0));
            ControlFlow::Continue(())
        });
        prop_assert!(outcome.is_ok(), "{outcome:?}");
    }
}
