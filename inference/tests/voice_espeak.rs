//! The espeak-ng voice with the installed program.

use std::ops::ControlFlow;

use inference::Language;
use inference::voice::{Espeak, SpeakRequest, Voice, VoiceError};
use proptest::prelude::*;

fn request(language: Language, text: &str) -> SpeakRequest {
    SpeakRequest::new(text, language)
}

fn espeak() -> Espeak {
    Espeak::new().expect("espeak-ng is installed")
}

#[test]
fn it_speaks_the_languages_that_nobody_else_does() {
    let espeak = espeak();
    let spoken = Language::all().filter(|language| espeak.supports(*language)).count();
    assert!(spoken > 70, "{spoken} languages");
    for (code, text) in
        [("de", "Guten Morgen."), ("ru", "Доброе утро."), ("zh", "早上好"), ("no", "God morgen")]
    {
        let language = code.parse().expect("a language");
        let mut samples = Vec::new();
        espeak
            .speak(&request(language, text), &mut |chunk| {
                samples.extend_from_slice(chunk);
                ControlFlow::Continue(())
            })
            .expect("spoken");
        let seconds = samples.len() as f32 / espeak.sample_rate_hz() as f32;
        assert!((0.3..3.0).contains(&seconds), "{code}: {seconds} s");
        assert!(samples.iter().any(|sample| sample.abs() > 0.05), "{code} is silent");
    }
}

#[test]
fn long_text_comes_in_chunks_and_can_be_stopped() {
    let espeak = espeak();
    let text = "one two three four five six seven eight nine ten. ".repeat(40);
    let long = request(Language::EN, &text);
    let mut chunks = 0;
    let outcome = espeak.speak(&long, &mut |_| {
        chunks += 1;
        if chunks == 3 {
            long.cancel.cancel();
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(VoiceError::Cancelled)));
    assert_eq!(chunks, 3);
    assert!(espeak.speak(&request(Language::EN, &text), &mut |_| ControlFlow::Break(())).is_ok());
}

#[test]
fn text_is_never_taken_for_an_option() {
    let mut samples = 0;
    espeak()
        .speak(&request(Language::EN, "--version -w /nowhere"), &mut |chunk| {
            samples += chunk.len();
            ControlFlow::Continue(())
        })
        .expect("spoken");
    assert!(samples > 10_000);
}

#[test]
fn an_unknown_language_or_voice_is_an_error() {
    let espeak = espeak();
    let tibetan: Language = "bo".parse().expect("a language");
    let outcome = espeak.speak(&request(tibetan, "text"), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(outcome, Err(VoiceError::UnsupportedLanguage { .. })));
    let mut named = request(Language::ES, "hola");
    named.voice = Some("ef_dora".to_owned());
    let outcome = espeak.speak(&named, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(outcome, Err(VoiceError::UnknownVoice { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_it(text in "\\PC{0,40}") {
        let outcome = espeak().speak(&request(Language::ES, &text), &mut |_| ControlFlow::Continue(()));
        prop_assert!(outcome.is_ok());
    }
}
