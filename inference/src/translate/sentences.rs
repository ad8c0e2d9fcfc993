//! Cuts written text into sentences, the size that the translators were made for.
//!
//! Nothing is lost: the pieces, put together, are the text, so that line ends, blank lines and runs
//! of spaces come back where they were.

use crate::voice::clauses::is_abbreviation;

/// A sentence longer than this many characters is cut at a space; it must fit a translator's context.
const LONGEST: usize = 400;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Words to translate, without white space around them.
    Sentence(&'a str),
    /// White space between sentences, and sentences without a letter or digit: to be kept.
    Between(&'a str),
}

impl<'a> Piece<'a> {
    /// The text of it.
    pub fn text(self) -> &'a str {
        match self {
            Self::Sentence(text) | Self::Between(text) => text,
        }
    }
}

/// The pieces of a text, in order.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (sentence, after) = rest.split_at(sentence_end(rest));
        push(sentence, &mut pieces);
        rest = after;
    }
    pieces
}

fn push<'a>(sentence: &'a str, pieces: &mut Vec<Piece<'a>>) {
    if !sentence.contains(char::is_alphanumeric) {
        pieces.push(Piece::Between(sentence));
        return;
    }
    let words = sentence.trim();
    let before = sentence.len() - sentence.trim_start().len();
    let after = before + words.len();
    for piece in [
        Piece::Between(&sentence[..before]),
        Piece::Sentence(words),
        Piece::Between(&sentence[after..]),
    ] {
        if !piece.text().is_empty() {
            pieces.push(piece);
        }
    }
}

/// Length in bytes of the first sentence with the white space after it; more than none.
fn sentence_end(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    let mut count = 0;
    let mut last_space = None;
    while let Some((start, character)) = characters.next() {
        count += 1;
        let mut end = start + character.len_utf8();
        if character == '\n' {
            return end;
        }
        if character.is_whitespace() {
            last_space = Some(end);
        } else if ends_sentence(character) {
            while let Some((at, closing)) = characters
                .next_if(|(_, next)| ends_sentence(*next) || "\"')]»”’」』）".contains(*next))
            {
                end = at + closing.len_utf8();
                count += 1;
            }
            let next = characters.peek().map(|(_, next)| *next);
            let is_end = next.is_none_or(char::is_whitespace) || is_wide(character);
            if is_end && !(character == '.' && continues(&text[..start], &text[end..])) {
                return end;
            }
        }
        if count >= LONGEST {
            return last_space.unwrap_or(end);
        }
    }
    text.len()
}

/// Whether a full stop between the two belongs to an abbreviation, or the sentence goes on in lower
/// case.
fn continues(before: &str, after: &str) -> bool {
    let goes_on = after.trim_start_matches(' ').chars().next().is_some_and(char::is_lowercase);
    goes_on || (!after.trim().is_empty() && is_abbreviation(before))
}

fn ends_sentence(character: char) -> bool {
    matches!(character, '.' | '!' | '?' | '…' | '؟' | '।') || is_wide(character)
}

/// Marks that end a sentence without a space after them.
fn is_wide(character: char) -> bool {
    matches!(character, '。' | '！' | '？')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        pieces(text)
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Sentence(words) => Some(words),
                Piece::Between(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_paragraph_is_cut_at_its_sentences() {
        assert_eq!(
            sentences("Mr. Smith pays 3.5 euros. \"Really?\" Yes!  See example.com now."),
            ["Mr. Smith pays 3.5 euros.", "\"Really?\"", "Yes!", "See example.com now."]
        );
        assert_eq!(sentences("大家好。请坐下。"), ["大家好。", "请坐下。"]);
    }

    #[test]
    fn lines_and_white_space_are_pieces_of_their_own() {
        assert_eq!(
            pieces("\n One.\n\n- \nTwo"),
            [
                Piece::Between("\n"),
                Piece::Between(" "),
                Piece::Sentence("One."),
                Piece::Between("\n"),
                Piece::Between("\n"),
                Piece::Between("- \n"),
                Piece::Sentence("Two"),
            ]
        );
    }

    #[test]
    fn an_endless_sentence_is_cut_at_a_space() {
        let text = "word ".repeat(1000);
        assert!(sentences(&text).iter().all(|words| words.chars().count() <= LONGEST));
        let unbroken = "x".repeat(1000);
        assert!(sentences(&unbroken).iter().all(|words| words.chars().count() <= LONGEST));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "([a-zA-Zñ0-9。😀]{0,9}[ .!?\n\")\t]{0,3}){0,60}|\\PC{0,600}") {
            let found = pieces(&text);
            let together: String = found.iter().map(|piece| piece.text()).collect();
            prop_assert_eq!(&together, &text);
            for piece in found {
                prop_assert!(!piece.text().is_empty());
                if let Piece::Sentence(words) = piece {
                    prop_assert_eq!(words.trim(), words);
                }
            }
        }
    }
}
