//! What a language model may do wrong and an interpreter must not: loop, answer, refuse, explain,
//! change numbers, leave the language. The guard sees the growing translation and says stop before
//! the offending part is spoken. All checks are pure functions of source and output.

use std::collections::BTreeSet;

use crate::Language;

use super::numbers;

/// Output may be this many times as long as the source, in weighted characters.
const LONGEST_RATIO: f32 = 3.0;
/// And must be at least this part of it.
const SHORTEST_RATIO: f32 = 0.3;
/// Sources shorter than this say nothing about the length of their translation.
const SHORT_SOURCE: usize = 12;
/// Slack for the longest ratio, so that `Yes` may become a few words.
const LENGTH_SLACK: usize = 24;
/// Words that an output may repeat in place beyond what the source repeats.
const TOLERATED_REPEATS: usize = 2;

/// Marks of chat formats and of explanations instead of a translation.
const ARTEFACTS: &[&str] =
    &["<|", "|>", "```", "translation:", "traducción:", "traduction :", "(note", "(nota"];

/// Phrases of an assistant that refuses or answers, with the words in a source that make them a
/// fair translation after all.
const REFUSALS: &[(&[&str], &[&str])] = &[
    (
        &[
            "i'm sorry, but i",
            "i am sorry, but i",
            "i'm sorry, i can",
            "i apologize, but",
            "lo siento, pero no puedo",
            "lo siento, no puedo",
            "je suis désolé, mais je",
            "désolé, mais je ne peux",
            "es tut mir leid, aber ich",
            "mi dispiace, ma non posso",
            "desculpe, mas não posso",
            "sinto muito, mas não",
        ],
        &[
            "sorry",
            "apolog",
            "afraid",
            "regret",
            "siento",
            "perd",
            "disculp",
            "lament",
            "désolé",
            "pardon",
            "excus",
            "leid",
            "entschuldig",
            "verzeih",
            "dispiac",
            "scus",
            "spiac",
            "desculp",
            "sinto",
        ],
    ),
    (
        &[
            "can't translate",
            "cannot translate",
            "unable to translate",
            "puedo traducir",
            "peux pas traduire",
            "nicht übersetzen",
            "posso tradurre",
            "posso traduzir",
        ],
        &["transl", "tradu", "übersetz"],
    ),
    (
        &[
            "as an ai",
            "language model",
            "can't assist",
            "cannot assist",
            "modelo de lenguaje",
            "como asistente",
            "modèle de langage",
            "sprachmodell",
            "modello linguistico",
            "modelo de linguagem",
            "inteligencia artificial",
        ],
        &[" ai", "model", "assist", "asist", "künstlich", "artificial", "modèle", "modell"],
    ),
];

/// Languages written in the Latin script among those whose output is checked for other scripts.
const LATIN: &[&str] = &[
    "en", "es", "fr", "it", "de", "pt", "nl", "ca", "gl", "ro", "pl", "cs", "sk", "sv", "da", "no",
    "nn", "fi", "et", "lv", "lt", "hu", "hr", "sl", "bs", "tr", "id", "ms", "vi", "eu", "oc", "is",
];

/// Watches one translation.
pub(super) struct Guard {
    source: String,
    source_lower: String,
    source_length: usize,
    source_repeats: usize,
    source_digits: BTreeSet<String>,
    /// Numbers the source may stand for; `None` where its number words are unknown.
    source_numbers: Option<BTreeSet<String>>,
    to: Language,
}

impl Guard {
    pub(super) fn new(source: &str, from: Language, to: Language) -> Self {
        Self {
            source: source.to_owned(),
            source_lower: source.to_lowercase(),
            source_length: weighted_length(source),
            source_repeats: repeated_words(source),
            source_digits: numbers::digits(source),
            source_numbers: numbers::meant(source, from),
            to,
        }
    }

    /// Checks that hold for every beginning of a translation.
    ///
    /// # Errors
    /// What is wrong, for the log.
    pub(super) fn check_growth(&self, text: &str) -> Result<(), String> {
        if text.contains(['\n', '\r']) {
            return Err("more than one line".to_owned());
        }
        let lower = text.to_lowercase();
        let artefact =
            ARTEFACTS.iter().find(|mark| lower.contains(**mark) && !self.says(&[**mark]));
        if let Some(artefact) = artefact {
            return Err(format!("contains {artefact:?}"));
        }
        if let Some(phrase) = self.refusal(&lower) {
            return Err(format!("answers instead of translating: {phrase:?}"));
        }
        if let Some(stranger) = self.foreign_letter(text) {
            return Err(format!("leaves the script of {}: {stranger:?}", self.to));
        }
        let longest = (self.source_length as f32 * LONGEST_RATIO) as usize + LENGTH_SLACK;
        if weighted_length(text) > longest {
            return Err(format!("longer than {longest} characters"));
        }
        if repeated_words(text) > self.source_repeats + TOLERATED_REPEATS {
            return Err("repeats itself".to_owned());
        }
        Ok(())
    }

    /// Whether the end of a beginning is settled enough to be spoken: not in the middle of what may
    /// turn out to be a loop.
    pub(super) fn is_settled(&self, text: &str) -> bool {
        repeated_words(text) <= self.source_repeats
    }

    /// Numbers of a finished clause must come from the source.
    ///
    /// # Errors
    /// The number that does not.
    pub(super) fn check_numbers(&self, text: &str) -> Result<(), String> {
        let Some(meant) = &self.source_numbers else { return Ok(()) };
        let invented = numbers::digits(text)
            .into_iter()
            .find(|number| !meant.contains(number) && !self.joins_digits(text));
        match invented {
            Some(number) => Err(format!("number {number} is not in the source")),
            None => Ok(()),
        }
    }

    /// Checks of the finished translation.
    ///
    /// # Errors
    /// What is wrong, for the log.
    pub(super) fn check_whole(&self, text: &str) -> Result<(), String> {
        self.check_growth(text)?;
        self.check_numbers(text)?;
        if text.trim().is_empty() {
            return Err("empty".to_owned());
        }
        let shortest = self.source_length as f32 * SHORTEST_RATIO;
        if self.source_length >= SHORT_SOURCE && (weighted_length(text) as f32) < shortest {
            return Err(format!("shorter than {shortest:.0} characters"));
        }
        if let Some(meant) = numbers::meant(text, self.to) {
            let lost = self
                .source_digits
                .iter()
                .find(|number| !meant.contains(*number) && !self.joins_digits(text));
            if let Some(number) = lost {
                return Err(format!("number {number} of the source is missing"));
            }
        }
        let source_words = words(&self.source);
        if source_words.len() >= 4 && source_words == words(text) {
            return Err("repeats the source untranslated".to_owned());
        }
        Ok(())
    }

    /// Whether both sides hold the same digits in the same order: a telephone number may be
    /// grouped anew.
    fn joins_digits(&self, text: &str) -> bool {
        let all = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        all(text) == all(&self.source)
    }

    fn says(&self, any_of: &[&str]) -> bool {
        any_of.iter().any(|word| self.source_lower.contains(word))
    }

    fn refusal(&self, lower: &str) -> Option<&'static str> {
        REFUSALS.iter().find_map(|(phrases, excuses)| {
            let phrase = phrases.iter().find(|phrase| lower.contains(**phrase))?;
            (!self.says(excuses)).then_some(*phrase)
        })
    }

    fn foreign_letter(&self, text: &str) -> Option<char> {
        if !LATIN.contains(&self.to.code()) {
            return None;
        }
        let is_latin =
            |letter: char| letter <= '\u{24f}' || ('\u{1e00}'..='\u{1eff}').contains(&letter);
        text.chars().find(|letter| {
            letter.is_alphabetic()
                && !is_latin(*letter)
                && *letter != char::REPLACEMENT_CHARACTER
                && !self.source.contains(*letter)
        })
    }
}

/// Characters, an ideograph or syllable counting as three: it says about as much as three letters.
fn weighted_length(text: &str) -> usize {
    text.trim()
        .chars()
        .map(|letter| if letter >= '\u{1100}' && letter.is_alphabetic() { 3 } else { 1 })
        .sum()
}

fn words(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Words in the longest immediate repetition of a phrase, its first occurrence not counted:
/// `no no no` has two, `on the on the table` has two.
fn repeated_words(text: &str) -> usize {
    const LONGEST_PHRASE: usize = 12;
    let words = words(text);
    let mut most = 0;
    for length in 1..=LONGEST_PHRASE.min(words.len() / 2) {
        let mut matching = 0;
        for index in length..words.len() {
            matching = if words[index] == words[index - length] { matching + 1 } else { 0 };
            most = most.max(matching / length * length);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_spanish(source: &str) -> Guard {
        Guard::new(source, Language::EN, Language::ES)
    }

    fn to_english(source: &str) -> Guard {
        Guard::new(source, Language::ES, Language::EN)
    }

    #[test]
    fn a_plain_translation_passes() {
        let guard = to_spanish("The train leaves at 8:30 from platform 4.");
        assert_eq!(guard.check_whole("El tren sale a las 8:30 del andén 4."), Ok(()));
    }

    #[test]
    fn a_loop_is_stopped_before_it_grows_long() {
        let guard = to_spanish("Not at all, my dear fellow, not at all.");
        assert!(guard.is_settled("No, en absoluto,"));
        assert!(!guard.is_settled("No, no,"));
        assert!(guard.check_growth("No, no, no, no").is_err());
        assert!(guard.check_growth("de la casa de la casa de la casa").is_err());
    }

    #[test]
    fn repetition_that_the_speaker_made_is_translated() {
        let guard = to_spanish("No, no, no, no, wait.");
        assert_eq!(guard.check_whole("No, no, no, no, espera."), Ok(()));
        assert!(guard.is_settled("No, no, no, no,"));
    }

    #[test]
    fn a_refusal_is_rejected_unless_the_speaker_apologised() {
        let refusal = "Lo siento, pero no puedo ir.";
        assert!(to_spanish("Tell me how to go there today.").check_growth(refusal).is_err());
        assert_eq!(to_spanish("I'm sorry, but I can't go.").check_growth(refusal), Ok(()));
        let lecture = "As an AI, I have no opinion.";
        assert!(to_english("¿Qué opinas de la comida?").check_growth(lecture).is_err());
    }

    #[test]
    fn an_invented_number_is_rejected() {
        let guard = to_spanish("It costs 45 dollars.");
        assert!(guard.check_numbers("Cuesta 54 dólares.").is_err());
        assert_eq!(guard.check_numbers("Cuesta 45 dólares."), Ok(()));
    }

    #[test]
    fn a_lost_number_is_rejected_and_a_spelled_one_is_not() {
        let guard = to_spanish("We need 3 chairs.");
        assert!(guard.check_whole("Necesitamos unas sillas.").is_err());
        assert_eq!(guard.check_whole("Necesitamos tres sillas."), Ok(()));
    }

    #[test]
    fn spelled_numbers_of_the_source_may_become_digits() {
        let guard = to_spanish("Meet me at quarter past seven.");
        assert_eq!(guard.check_whole("Nos vemos a las 7:15."), Ok(()));
        assert!(guard.check_whole("Nos vemos a las 8:15.").is_err());
    }

    #[test]
    fn a_telephone_number_may_be_grouped_anew() {
        let guard = to_spanish("Call 555 12 34.");
        assert_eq!(guard.check_whole("Llama al 555-1234."), Ok(()));
    }

    #[test]
    fn length_is_checked_at_both_ends() {
        let guard = to_spanish("We should talk about the budget before the meeting.");
        assert!(guard.check_whole("Sí.").is_err());
        let lecture = "uno dos tres cuatro cinco seis siete ocho nueve diez ".repeat(5);
        assert!(guard.check_growth(&lecture).is_err());
        assert_eq!(to_spanish("Yes.").check_whole("Sí, claro."), Ok(()));
    }

    #[test]
    fn lines_marks_and_other_scripts_are_artefacts() {
        let guard = to_spanish("See you tomorrow morning.");
        for text in ["Hasta\nmañana", "Hasta <|im_end|>", "Translation: hasta", "明天早上见"]
        {
            assert!(guard.check_growth(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_untranslated_echo_is_rejected_but_a_name_is_not() {
        let guard = to_spanish("My name is Peter Parker");
        assert!(guard.check_whole("my name is Peter Parker.").is_err());
        assert_eq!(to_spanish("Peter Parker.").check_whole("Peter Parker."), Ok(()));
    }

    #[test]
    fn repeated_words_are_counted_without_the_first_occurrence() {
        assert_eq!(repeated_words("no no no"), 2);
        assert_eq!(repeated_words("on the on the table"), 2);
        assert_eq!(repeated_words("a b c a b d"), 0);
        assert_eq!(repeated_words(""), 0);
    }

    proptest! {
        #[test]
        fn the_guard_never_panics(source in "\\PC{0,60}", text in ".{0,80}") {
            let guard = to_spanish(&source);
            let _ = guard.check_growth(&text);
            let _ = guard.check_whole(&text);
        }
    }
}
