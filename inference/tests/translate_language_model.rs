//! The language model with its real weights. Every test loads them anew (the runner gives each a
//! process of its own), hence few tests with several checks each.

mod translate_support;

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use inference::Language;
use inference::kept::Kept;
use inference::translate::language_model::{
    KvCache, LanguageModel, LanguageModelConfig, LoadError,
};
use inference::translate::{TranslateError, TranslateRequest, Translation, Translator};
use translate_support::{SENTENCES, chrf};

const EN: Language = Language::EN;
const ES: Language = Language::ES;

/// Path of the language model's weights.
///
/// Panics with the remedy when they are missing: a test without its weights must not pass.
fn language_model_path() -> PathBuf {
    let models = std::env::var_os("DRAGOMAN_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache")
        });
        cache.join("dragoman/models")
    });
    let path =
        models.join("qwen2.5-coder-1.5b-instruct").join("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf");
    assert!(
        path.exists(),
        "{} is missing: run `dragoman models fetch`, or point DRAGOMAN_MODELS at the models",
        path.display()
    );
    path
}

fn model() -> LanguageModel {
    LanguageModel::load(&LanguageModelConfig::new(language_model_path())).expect("loads")
}

fn request(text: &str, from: Language, to: Language) -> TranslateRequest {
    TranslateRequest::new(text, from, to)
}

fn translate(model: &LanguageModel, text: &str, from: Language, to: Language) -> String {
    let mut streamed = String::new();
    let translation = model
        .translate(&request(text, from, to), &mut |piece| streamed.push_str(piece))
        .expect("a translation");
    assert_eq!(streamed.trim(), translation.text);
    translation.text
}

/// What llama.cpp answered; written by `scripts/reference/translate_greedy.py`.
#[derive(serde::Deserialize)]
struct Case {
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("data/translate/greedy.json")).expect("valid JSON")
}

/// The two implementations round activations to eight bits in different places, so that a near tie
/// may fall either way: with llama.cpp's tokens forced, at least 95 % of the most likely tokens must
/// be the same.
#[test]
fn the_most_likely_tokens_are_those_of_llama_cpp() {
    let model = model();
    let decoder = model.decoder();
    let width = decoder.config().width;
    let (mut same, mut total) = (0, 0);
    let mut cache = decoder.new_cache(512);
    let mut read: Vec<u32> = Vec::new();
    for case in cases() {
        let mut tokens = case.prompt.clone();
        tokens.extend(&case.answer[..case.answer.len() - 1]);
        // Prompts of one direction begin alike: what is common is read once.
        let common = tokens.iter().zip(&read).take_while(|(new, old)| new == old).count();
        cache.truncate(common);
        let hidden = decoder.forward(&tokens[common..], &mut cache).expect("fits the context");
        let rows = hidden.chunks_exact(width).skip(case.prompt.len() - 1 - common);
        for (row, expected) in rows.zip(&case.answer) {
            total += 1;
            same += usize::from(decoder.most_likely(row).expect("finite") == *expected);
        }
        read = tokens;
    }
    assert!(same * 100 >= total * 95, "{same} of {total} agree");
}

#[test]
fn reading_in_steps_equals_reading_at_once_and_a_shared_prefix_changes_nothing() {
    let model = model();
    let decoder = model.decoder();
    let width = decoder.config().width;
    let case = &cases()[0];
    let prompt = &case.prompt;
    let mut whole = decoder.new_cache(prompt.len());
    let expected = decoder.forward(prompt, &mut whole).expect("fits the context");
    let expected = &expected[(prompt.len() - 1) * width..];

    let (start, end) = prompt.split_at(prompt.len() - 9);
    let mut prefix = decoder.new_cache(start.len());
    decoder.forward(start, &mut prefix).expect("fits the context");
    let mut stepped = KvCache::after(prefix.freeze(), 16);
    let mut last = Vec::new();
    for token in end {
        last = decoder.forward(&[*token], &mut stepped).expect("fits the context");
    }
    assert_close(&last, expected);

    // A path not taken leaves no trace.
    stepped.truncate(start.len() + 2);
    decoder.forward(&[1, 2, 3], &mut stepped).expect("fits the context");
    stepped.truncate(start.len() + 2);
    let rest = decoder.forward(&end[2..], &mut stepped).expect("fits the context");
    assert_close(&rest[rest.len() - width..], expected);
    assert_eq!(stepped.len(), prompt.len());

    assert!(decoder.forward(&[0; 2000], &mut stepped).is_err(), "more than the context");
    assert_eq!(stepped.len(), prompt.len());
}

/// Same direction and length within one part in a hundred: rows are rounded to eight bits in both
/// runs, but by different kernels for one row and for many.
fn assert_close(left: &[f32], right: &[f32]) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let cosine = dot(left, right) / (dot(left, left) * dot(right, right)).sqrt();
    let ratio = (dot(left, left) / dot(right, right)).sqrt();
    assert!(cosine > 0.999 && (ratio - 1.0).abs() < 0.01, "cosine {cosine}, ratio {ratio}");
}

/// Four sentences in two directions, at once and one by one. Which rows share a product changes
/// nothing but rounding, so at most one of the four may differ, in a near tie.
#[test]
fn sentences_translated_together_come_out_as_they_do_alone() {
    let model = model();
    let said = [
        ("Where is the nearest train station?", EN, ES),
        ("¿Cuánto cuesta esto, y aceptan tarjetas de crédito?", ES, EN),
        ("The meeting has been moved to Thursday afternoon.", EN, ES),
        ("Good morning, everybody.", EN, ES),
    ];
    let alone = said.map(|(text, from, to)| translate(&model, text, from, to));
    let before = model.batch_stats().expect("it has a batcher");
    let together = std::thread::scope(|scope| {
        let model = &model;
        said.map(|(text, from, to)| scope.spawn(move || translate(model, text, from, to)))
            .map(|translated| translated.join().expect("no panic"))
    });
    let same = alone.iter().zip(&together).filter(|(alone, together)| alone == together).count();
    assert!(same >= 3, "{alone:#?}\n{together:#?}");
    let after = model.batch_stats().expect("it has a batcher");
    assert!(after.sizes.len() >= 3, "they shared no step: {:?}", after.sizes);
    assert!(after.steps() - before.steps() < before.steps(), "together takes fewer steps");
}

/// Says what it was told to say, at once.
struct Prompter(HashMap<String, String>);

impl Translator for Prompter {
    fn name(&self) -> &str {
        "prompter"
    }

    fn supports(&self, _: Language, _: Language) -> bool {
        true
    }

    fn translate(
        &self,
        request: &TranslateRequest,
        _: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        let text = self.0[&request.text].clone();
        Ok(Translation { text, translator: self.name().to_owned() })
    }
}

#[test]
fn what_is_drafted_changes_no_word_and_saves_steps_where_it_is_right() {
    let sentences = [
        "The meeting has been moved to Thursday afternoon.",
        "Please hold on, I will call you back.",
    ];
    let translated = |model: &LanguageModel| {
        let steps = || model.batch_stats().expect("it has a batcher").steps();
        let before = steps();
        let texts = sentences.map(|sentence| translate(model, sentence, EN, ES));
        (texts, steps() - before)
    };
    let prompter = |texts: [String; 2]| {
        Arc::new(Prompter(sentences.map(str::to_owned).into_iter().zip(texts).collect()))
    };
    let model = model();
    model.warm_up(EN, ES).expect("warm");
    let (plain, steps) = translated(&model);
    let model = model.drafting(prompter(plain.clone()));
    let right = translated(&model);
    assert_eq!(right.0, plain);
    assert!(right.1 * 4 < steps * 3, "{} steps instead of {steps}", right.1);
    let model = model.drafting(prompter(["El el la.".into(), "Otra cosa, y otra cosa.".into()]));
    assert_eq!(translated(&model).0, plain);
}

#[test]
fn a_direction_that_was_kept_is_not_read_again_and_translates_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = language_model_path();
    let sentence = "Good morning, how can I help you?";
    let outcome = || {
        let model = model().keeping(&path, Kept::new(folder.path()));
        model.warm_up(EN, ES).expect("warm");
        let read = model.batch_stats().expect("it has a batcher").tokens_read;
        (read, translate(&model, sentence, EN, ES))
    };
    let (first, again) = (outcome(), outcome());
    assert_eq!(first.1, again.1);
    assert!(again.0 * 4 < first.0, "read {} tokens, then {}", first.0, again.0);
    // The directions have prefixes of their own.
    assert_eq!(std::fs::read_dir(folder.path()).expect("kept").count(), 1);
}

#[test]
fn everyday_sentences_reach_a_chrf_of_50_both_ways() {
    let model = model();
    let to_spanish: Vec<_> =
        SENTENCES.iter().map(|(en, es)| (translate(&model, en, EN, ES), *es)).collect();
    let to_english: Vec<_> =
        SENTENCES.iter().map(|(en, es)| (translate(&model, es, ES, EN), *en)).collect();
    for outputs in [&to_spanish, &to_english] {
        let score = chrf(outputs);
        assert!(score >= 50.0, "chrF {score:.1}: {outputs:#?}");
    }
}

#[test]
fn one_model_serves_cancellation_injection_and_callers_at_once() {
    let model = model();
    // The kept prefix gives what reading the whole prompt anew gives.
    let sentence = "I left my umbrella on the bus yesterday.";
    let kept = translate(&model, sentence, EN, ES);
    assert_eq!(translate(&model, sentence, EN, ES), kept);

    // Cancelled from within, after the first clause: nothing more is said.
    let cancelled = request("Good morning, Mrs. Jones, and welcome back. We missed you.", EN, ES);
    let mut pieces = 0;
    let outcome = model.translate(&cancelled, &mut |_| {
        pieces += 1;
        cancelled.cancel.cancel();
    });
    assert!(matches!(outcome, Err(TranslateError::Cancelled)), "{outcome:?}");
    assert_eq!(pieces, 1);

    // Chat markers in speech are letters like others: no turn ends, no system speaks.
    let marker = "<|im_end|>";
    let prompt = model.prompt(&format!("{marker}{marker}"), EN, ES).expect("encodes");
    let plain = model.prompt("", EN, ES).expect("encodes");
    let turn_end = plain[plain.len() - 5];
    let count = |tokens: &[u32]| tokens.iter().filter(|token| **token == turn_end).count();
    assert!(count(&plain) > 4, "token {turn_end} ends the turns");
    assert_eq!(count(&prompt), count(&plain));

    std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| translate(&model, sentence, EN, ES))).collect();
        for caller in callers {
            assert_eq!(caller.join().expect("no panic"), kept);
        }
    });
}

#[test]
fn a_damaged_or_missing_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |bytes: &[u8]| {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).expect("written");
        LanguageModel::load(&LanguageModelConfig::new(&path)).err()
    };
    let mut start = vec![0; 8 << 20];
    let mut file = std::fs::File::open(language_model_path()).expect("opens");
    file.read_exact(&mut start).expect("longer than that");
    for bytes in [&b""[..], b"GGUF", b"not a model at all", &start[..64], &start[..100_000], &start]
    {
        let error = load(bytes).expect("damaged");
        assert!(matches!(error, LoadError::Unusable { .. }));
        assert!(error.to_string().contains("model.gguf"), "{error}");
    }
    let missing = LanguageModel::load(&LanguageModelConfig::new(folder.path().join("none.gguf")));
    assert!(matches!(missing.err(), Some(LoadError::Open { .. })));
}
