//! Apertium as installed on this machine (`apertium`, `apertium-eng-spa`).

mod translate_support;

use std::process::Command;

use inference::Language;
use inference::translate::apertium::{Apertium, ApertiumConfig};
use inference::translate::{TranslateError, TranslateRequest, Translator};
use translate_support::{SENTENCES, chrf};

const EN: Language = Language::EN;
const ES: Language = Language::ES;

fn apertium() -> Apertium {
    let apertium = Apertium::discover(&ApertiumConfig::default())
        .expect("apertium is missing: install apertium and apertium-eng-spa");
    assert!(apertium.supports(EN, ES), "the pair is missing: install apertium-eng-spa");
    apertium
}

fn translate(apertium: &Apertium, text: &str, from: Language, to: Language) -> String {
    let request = TranslateRequest::new(text, from, to);
    let mut streamed = String::new();
    let translation =
        apertium.translate(&request, &mut |piece| streamed.push_str(piece)).expect("a translation");
    assert_eq!(streamed.trim(), translation.text);
    translation.text
}

#[test]
fn everyday_sentences_reach_a_chrf_of_35_both_ways() {
    let apertium = apertium();
    let to_spanish: Vec<_> =
        SENTENCES.iter().map(|(en, es)| (translate(&apertium, en, EN, ES), *es)).collect();
    let to_english: Vec<_> =
        SENTENCES.iter().map(|(en, es)| (translate(&apertium, es, ES, EN), *en)).collect();
    for outputs in [&to_spanish, &to_english] {
        let score = chrf(outputs);
        assert!(score >= 35.0, "chrF {score:.1}: {outputs:#?}");
    }
}

#[test]
fn spanish_questions_and_exclamations_are_opened() {
    let apertium = apertium();
    let translation = translate(&apertium, "Where is the house?", EN, ES);
    assert!(translation.starts_with('¿') && translation.ends_with('?'), "{translation}");
}

#[test]
fn text_that_looks_like_the_stream_format_does_not_break_it() {
    let apertium = apertium();
    for text in ["a [b] ^c/d$ <e> @f {g} \\", "one\0two", "][", "\n\n[\n]", "^$", ".[]", "😀 ¿?"]
    {
        let request = TranslateRequest::new(text, EN, ES);
        // Some of these hold no word, and may come back empty; none may shift the next answer.
        let _ = apertium.translate(&request, &mut |_| {});
        assert_eq!(translate(&apertium, "The house.", EN, ES), "La casa.", "after {text:?}");
    }
}

#[test]
fn a_killed_program_is_replaced_and_the_request_answered() {
    let apertium = apertium();
    apertium.warm_up(EN, ES).expect("apertium starts");
    let processes = apertium.idle_process_ids(EN, ES);
    let victim = processes[processes.len() / 2];
    let killed = Command::new("kill").args(["-9", &victim.to_string()]).status();
    assert!(killed.expect("kill runs").success());
    assert_eq!(translate(&apertium, "The house.", EN, ES), "La casa.");
    assert!(!apertium.idle_process_ids(EN, ES).contains(&victim));
}

#[test]
fn requests_from_many_threads_get_their_own_answers() {
    let apertium = apertium();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (english, spanish) in
                    [("The house.", "La casa."), ("The water.", "El agua."), ("Two.", "Dos.")]
                {
                    assert_eq!(translate(&apertium, english, EN, ES), spanish);
                }
            });
        }
    });
}

#[test]
fn a_pair_that_is_not_installed_is_unsupported() {
    let apertium = apertium();
    let japanese: Language = "ja".parse().expect("a known code");
    let request = TranslateRequest::new("Hello.", EN, japanese);
    assert!(!apertium.supports(EN, japanese));
    let outcome = apertium.translate(&request, &mut |_| {});
    assert!(matches!(outcome, Err(TranslateError::UnsupportedPair { .. })));
}

#[test]
fn a_missing_installation_is_named_with_its_remedy() {
    let config = ApertiumConfig { modes: "/no/such/folder".into(), pipelines: 1 };
    let error = Apertium::discover(&config).expect_err("no such folder");
    assert!(error.to_string().contains("install apertium"), "{error}");
}
