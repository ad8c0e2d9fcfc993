//! Any script in ASCII, so that a vocabulary of English can spell it.
//!
//! Tortoise was trained on text that Python's `Unidecode` had written in ASCII. Its tables and those
//! of the crate `deunicode` go back to the same source (Burke, `Text::Unidecode`, 2001); what is
//! common and differs stands here. Letters that `Unidecode` drops, such as those of scripts encoded
//! later, are read.

use deunicode::deunicode_char;

/// `text` in ASCII: `£` is `PS`, `€` is `EUR`, pictures are nothing.
pub(super) fn transliterated(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            ascii.push_str(spelled(character));
        }
    }
    ascii
}

fn spelled(character: char) -> &'static str {
    match character {
        '¼' => " 1/4",
        '½' => " 1/2",
        '¾' => " 3/4",
        '⅐' => " 1/7 ",
        '⅑' => " 1/9 ",
        '⅒' => " 1/10 ",
        '⁒' => "%",
        '⁊' => "&",
        '₴' => "UAH",
        '₵' => "C|",
        '₺' => "L",
        '₼' => "m",
        '₽' => "R",
        '₾' => "l",
        '℀' => " a/c ",
        '℁' => " a/s ",
        '℃' => "degC",
        '℅' => " c/o ",
        '℆' => " c/u ",
        '℉' => "degF",
        '№' => "No. ",
        '℠' => "(sm)",
        '™' => "(tm)",
        'ℹ' => "i",
        'Є' => "Ie",
        '׃' => ".",
        'א' => "A",
        'ח' => "H",
        'ך' | 'כ' => "KH",
        'ק' => "k",
        'ײ' => "EY",
        '〈' | '⟨' => "<",
        '〉' | '⟩' => "> ",
        'し' | 'シ' => "shi",
        'ち' | 'チ' => "chi",
        'っ' | 'つ' | 'ッ' | 'ツ' => "tsu",
        '・' => "*",
        'ー' => "-",
        '−' => "-",
        '∕' => "/",
        '∖' => "\\",
        '∗' | '✱' => "*",
        '∣' | '❘' => "|",
        '∶' => ":",
        '∼' => "~",
        '≤' | '≦' => "<=",
        '≥' | '≧' => ">=",
        '♠' | '♤' => "spades",
        '♡' | '♥' => "hearts",
        '♢' | '♦' => "diamonds",
        '♣' | '♧' => "clubs",
        '♯' => "#",
        '❛' | '❜' => "'",
        '❝' | '❞' => "\"",
        char::REPLACEMENT_CHARACTER => "",
        character if is_picture(character) => "",
        character => deunicode_char(character).unwrap_or_default(),
    }
}

/// Mathematics, technical signs, dingbats, pieces of games, and emoji: `deunicode` names them, which
/// would be heard.
fn is_picture(character: char) -> bool {
    matches!(
        u32::from(character),
        0x2200..=0x23ff
            | 0x2600..=0x27bf
            | 0x2900..=0x2bff
            | 0x1f000..=0x1f0ff
            | 0x1f1e6..=0x1faff
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_of_other_scripts_are_spelled() {
        assert_eq!(transliterated("Straße, œuvre, Łódź, Ελλάδα"), "Strasse, oeuvre, Lodz, Ellada");
        assert_eq!(transliterated("Москва, Київ"), "Moskva, Kiyiv");
        assert_eq!(transliterated("東京"), "Dong Jing ");
    }

    #[test]
    fn marks_and_currencies_are_written_out_and_pictures_are_not() {
        assert_eq!(transliterated("“a” – ‘b’ — c…"), "\"a\" - 'b' -- c...");
        assert_eq!(transliterated("£5 €6 ¥7 ₹8 ½"), "PS5 EUR6 Y=7 Rs8  1/2");
        assert_eq!(transliterated("ok 😀👍🏽☀️∞"), "ok ");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_ascii_afterwards(text in any::<String>()) {
            prop_assert!(transliterated(&text).is_ascii());
        }
    }
}
