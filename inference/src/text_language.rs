//! Which language a text is in, by its letters and their trigrams (crate `whatlang`).
//!
//! A few hundred kilobytes of profiles and some microseconds per text; a sentence is enough, a word
//! often is not, and the fewer languages it may choose from the better it chooses.

use std::str::FromStr;

use whatlang::{Detector, Lang};

use crate::Language;

/// Most candidates that are given.
const MOST: usize = 3;

/// The languages that `text` may be in, at most three of `among`, likeliest first, each with a
/// confidence of 0 to 1. None when the text has no letters of any of them.
pub fn detect(text: &str, among: &[Language]) -> Vec<(Language, f32)> {
    let mut choices: Vec<(Lang, Language)> = Lang::all()
        .iter()
        .filter_map(|lang| Some((*lang, language_of(*lang)?)))
        .filter(|(_, language)| among.contains(language))
        .collect();
    let mut found: Vec<(Language, f32)> = Vec::new();
    let mut left = 1.0_f32;
    // The detector names one language: what is second is found by leaving out the first.
    while found.len() < MOST && !choices.is_empty() {
        let names = choices.iter().map(|(lang, _)| *lang).collect();
        let Some(info) = Detector::with_allowlist(names).detect(text) else { break };
        // A script of one language alone names it whether it is allowed or not.
        let language = language_of(info.lang()).filter(|language| among.contains(language));
        let Some(language) = language else { break };
        let confidence = info.confidence() as f32 * left;
        if confidence <= 0.01 {
            if found.is_empty() {
                found.push((language, confidence));
            }
            break;
        }
        found.push((language, confidence));
        left -= confidence;
        choices.retain(|(_, other)| *other != language);
    }
    found
}

/// The detector speaks ISO 639-3.
fn language_of(lang: Lang) -> Option<Language> {
    let code = match lang.code() {
        "eng" => "en",
        "rus" => "ru",
        "cmn" => "zh",
        "spa" => "es",
        "por" => "pt",
        "ita" => "it",
        "ben" => "bn",
        "fra" => "fr",
        "deu" => "de",
        "ukr" => "uk",
        "kat" => "ka",
        "ara" => "ar",
        "hin" => "hi",
        "jpn" => "ja",
        "heb" => "he",
        "yid" => "yi",
        "pol" => "pl",
        "amh" => "am",
        "jav" => "jw",
        "kor" => "ko",
        "nob" => "no",
        "dan" => "da",
        "swe" => "sv",
        "fin" => "fi",
        "tur" => "tr",
        "nld" => "nl",
        "hun" => "hu",
        "ces" => "cs",
        "ell" => "el",
        "bul" => "bg",
        "bel" => "be",
        "mar" => "mr",
        "kan" => "kn",
        "ron" => "ro",
        "slv" => "sl",
        "hrv" => "hr",
        "srp" => "sr",
        "mkd" => "mk",
        "lit" => "lt",
        "lav" => "lv",
        "est" => "et",
        "tam" => "ta",
        "vie" => "vi",
        "urd" => "ur",
        "tha" => "th",
        "guj" => "gu",
        "uzb" => "uz",
        "pan" => "pa",
        "aze" => "az",
        "ind" => "id",
        "tel" => "te",
        "pes" => "fa",
        "mal" => "ml",
        "mya" => "my",
        "nep" => "ne",
        "sin" => "si",
        "khm" => "km",
        "tuk" => "tk",
        "sna" => "sn",
        "afr" => "af",
        "lat" => "la",
        "slk" => "sk",
        "cat" => "ca",
        "tgl" => "tl",
        "hye" => "hy",
        "cym" => "cy",
        _ => return None,
    };
    Language::from_str(code).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn languages(codes: &[&str]) -> Vec<Language> {
        codes.iter().map(|code| code.parse().expect("a language")).collect()
    }

    fn best(text: &str, among: &[&str]) -> String {
        let found = detect(text, &languages(among));
        found.first().map_or_else(String::new, |(language, _)| language.to_string())
    }

    #[test]
    fn a_sentence_is_enough_to_tell_the_languages_that_are_translated() {
        let among = ["en", "es", "fr", "de", "it", "pt"];
        for (text, code) in [
            ("The meeting has been moved to Thursday afternoon.", "en"),
            ("La reunión se ha aplazado hasta el jueves por la tarde.", "es"),
            ("La réunion a été reportée à jeudi après-midi.", "fr"),
            ("Die Besprechung wurde auf Donnerstagnachmittag verlegt.", "de"),
            ("La riunione è stata spostata a giovedì pomeriggio.", "it"),
            ("A reunião foi adiada para quinta-feira à tarde.", "pt"),
        ] {
            assert_eq!(best(text, &among), code, "{text}");
        }
    }

    #[test]
    fn a_script_that_none_of_the_languages_writes_is_no_language() {
        assert_eq!(detect("встреча перенесена", &languages(&["en", "es"])), []);
        assert_eq!(detect("স্বাগতম", &languages(&["en", "es"])), []);
        assert_eq!(detect("12 34 !", &languages(&["en", "es"])), []);
        assert_eq!(detect("hello", &[]), []);
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_candidates_are_allowed_ones_in_order(text in "\\PC{0,80}") {
            let among = languages(&["en", "es", "fr", "ru", "zh"]);
            let found = detect(&text, &among);
            prop_assert!(found.len() <= MOST);
            prop_assert!(found.iter().all(|(language, _)| among.contains(language)));
            prop_assert!(found.iter().all(|(_, confidence)| (0.0..=1.0).contains(confidence)));
            prop_assert!(found.iter().map(|found| found.1).sum::<f32>() <= 1.0 + 1e-3);
        }
    }
}
