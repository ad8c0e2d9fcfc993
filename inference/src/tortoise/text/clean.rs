//! Text as a vocabulary knows it.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{latin, numbers};

/// Written with a full stop.
static ABBREVIATIONS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let words = [
        ("mrs", "misess"),
        ("mr", "mister"),
        ("dr", "doctor"),
        ("st", "saint"),
        ("co", "company"),
        ("jr", "junior"),
        ("maj", "major"),
        ("gen", "general"),
        ("drs", "doctors"),
        ("rev", "reverend"),
        ("lt", "lieutenant"),
        ("hon", "honorable"),
        ("sgt", "sergeant"),
        ("capt", "captain"),
        ("esq", "esquire"),
        ("ltd", "limited"),
        ("col", "colonel"),
        ("ft", "fort"),
    ];
    let compiled = |(short, long): (&str, &'static str)| {
        let pattern = Regex::new(&format!(r"\b{short}\.")).expect("the patterns are valid");
        (pattern, long)
    };
    words.into_iter().map(compiled).collect()
});

/// How text is made ready for a vocabulary. It has to be what the model was trained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleaning {
    /// In ASCII and lower case, numbers and abbreviations in English words, without double quotes:
    /// that of the published model.
    #[default]
    English,
    /// In lower case, white space folded: that of models trained on other languages.
    Basic,
}

impl Cleaning {
    /// `text` made ready.
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::English => {
                let text = latin::transliterated(text).to_ascii_lowercase();
                let text = written_out(numbers::spoken(&text));
                folded(&text).replace('"', "")
            }
            Self::Basic => folded(&text.to_lowercase()),
        }
    }
}

/// With abbreviations as the words they stand for.
fn written_out(mut text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    for (pattern, word) in ABBREVIATIONS.iter() {
        if pattern.is_match(&text) {
            text = pattern.replace_all(&text, *word).into_owned();
        }
    }
    text
}

/// With one space for each run of white space, of which the separators of files and records are too.
fn folded(text: &str) -> String {
    let is_blank =
        |character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character);
    let mut folded = String::with_capacity(text.len());
    let mut blank_before = false;
    for character in text.chars() {
        let blank = is_blank(character);
        if !blank {
            folded.push(character);
        } else if !blank_before {
            folded.push(' ');
        }
        blank_before = blank;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_text_is_written_out() {
        for (text, clean) in [
            ("Dr. No met Mrs. Smith, Jr.", "doctor no met misess smith, junior"),
            ("The  “Drs.”\tand\r\nLt. Col. Ft.", "the doctors and lieutenant colonel fort"),
            ("First. Almost. Coco.", "first. almost. coco."),
            ("£20 Café…", "pstwenty cafe..."),
            (" \u{1d} ", " "),
            ("\"\"", ""),
        ] {
            assert_eq!(Cleaning::English.apply(text), clean);
        }
    }

    #[test]
    fn basic_cleaning_keeps_letters_numbers_and_quotes() {
        let clean = Cleaning::Basic.apply("Dr. ÄRZTE\u{a0} \n 42 \"so\"");
        assert_eq!(clean, "dr. ärzte 42 \"so\"");
    }
}
