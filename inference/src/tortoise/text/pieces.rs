//! A text that is too long for the model, in pieces: cut at the end of a sentence if there is one, or
//! else of a clause, or at a space, each time where it is nearest to the middle.

use super::{TextError, Tokenizer};
use crate::Language;
use crate::voice::ClauseSplitter;

/// Least limit for the ids of a piece: one character has fewer, however it is spelled.
pub const LEAST_IDS: usize = 64;
/// Bytes that the splitter is given at a time: it looks at all of them whenever it cuts.
const AT_A_TIME: usize = 64;

/// A part of a text that the model says in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// As it was given, without white space around it.
    pub text: &'a str,
    /// Its ids, at least one.
    pub ids: Vec<u32>,
}

/// What ends at a place where a text can be cut, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Character,
    Word,
    /// What the splitter ends without a mark: the next word is a conjunction or the like.
    Phrase,
    Clause,
    Sentence,
}

impl Tokenizer {
    /// `text`, which is in `language`, in pieces of at most `limit` ids. Nothing is lost but white
    /// space and parts without a sound; a word is cut only if it is over the limit by itself.
    ///
    /// # Errors
    /// [`TextError::LimitTooSmall`] below [`LEAST_IDS`], and those of [`encode`](Self::encode).
    pub fn pieces<'a>(
        &self,
        text: &'a str,
        language: Language,
        limit: usize,
    ) -> Result<Vec<Piece<'a>>, TextError> {
        if limit < LEAST_IDS {
            return Err(TextError::LimitTooSmall { limit });
        }
        let mut pieces = Vec::new();
        self.cut(text, language, limit, &mut pieces)?;
        Ok(pieces)
    }

    fn cut<'a>(
        &self,
        text: &'a str,
        language: Language,
        limit: usize,
        pieces: &mut Vec<Piece<'a>>,
    ) -> Result<(), TextError> {
        let text = text.trim();
        let ids = self.encode(text)?;
        if ids.is_empty() {
            return Ok(());
        }
        if ids.len() <= limit {
            pieces.push(Piece { text, ids });
            return Ok(());
        }
        let at = best_cut(text, language).ok_or(TextError::LimitTooSmall { limit })?;
        let (before, after) = text.split_at(at);
        self.cut(before, language, limit, pieces)?;
        self.cut(after, language, limit, pieces)
    }
}

/// Where to cut `text`, which has no white space around it; `None` if it is one character.
fn best_cut(text: &str, language: Language) -> Option<usize> {
    let words = text.char_indices().filter(|&(at, character)| {
        at > 0 && !character.is_whitespace() && text[..at].ends_with(char::is_whitespace)
    });
    // The splitter passes over a comma where the clause would be short. What only it knows is whether
    // a full stop ends a sentence.
    let words = words.map(|(at, _)| match ending(&text[..at]) {
        Ending::Clause => (at, Ending::Clause),
        _ => (at, Ending::Word),
    });
    let clauses = clause_ends(text, language);
    let best = clauses
        .into_iter()
        .chain(words)
        .max_by_key(|&(at, ending)| (ending, std::cmp::Reverse(at.abs_diff(text.len() / 2))));
    let best = best.or_else(|| {
        let middle = text.ceil_char_boundary(text.len() / 2);
        Some((middle, Ending::Character)).filter(|_| (1..text.len()).contains(&middle))
    });
    best.map(|(at, _)| at)
}

/// Where the clauses of `text` end and the next ones begin.
fn clause_ends(text: &str, language: Language) -> Vec<(usize, Ending)> {
    let mut splitter = ClauseSplitter::new(language);
    let mut clauses = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.ceil_char_boundary(AT_A_TIME));
        clauses.extend(splitter.push(head));
        rest = tail;
    }
    clauses.extend(splitter.finish());
    // The splitter changes white space, and nothing else.
    let mut characters = text.char_indices().filter(|(_, character)| !character.is_whitespace());
    let mut ends = Vec::with_capacity(clauses.len());
    let mut next = characters.next();
    for clause in clauses {
        for _ in clause.chars().filter(|character| !character.is_whitespace()) {
            next = characters.next();
        }
        let Some((at, _)) = next else { break };
        let before = text[..at].chars().next_back();
        // It cuts words that are long for it; scripts without spaces have marks of their own.
        let is_between = before.is_some_and(|before| {
            before.is_whitespace() || !(before.is_ascii() || before.is_alphanumeric())
        });
        if is_between {
            ends.push((at, ending(&text[..at])));
        }
    }
    ends
}

fn ending(before: &str) -> Ending {
    let is_closing = |character: char| {
        character.is_whitespace() || matches!(character, '"' | '\'' | '”' | '’' | '»' | ')' | ']')
    };
    match before.trim_end_matches(is_closing).chars().next_back() {
        Some('.' | '!' | '?' | '…' | '。' | '！' | '？' | '؟' | '।') => Ending::Sentence,
        Some(',' | ';' | ':' | '–' | '—' | '、' | '，' | '；' | '：' | '،') => {
            Ending::Clause
        }
        _ => Ending::Phrase,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str, limit: usize) -> Vec<String> {
        let pieces = Tokenizer::english().pieces(text, Language::EN, limit).expect("pieces");
        assert!(pieces.iter().all(|piece| (1..=limit).contains(&piece.ids.len())));
        pieces.into_iter().map(|piece| piece.text.to_owned()).collect()
    }

    #[test]
    fn a_text_within_the_limit_is_one_piece() {
        assert_eq!(pieces("  Good morning, everyone. \n", 400), ["Good morning, everyone."]);
        assert!(pieces(" \n ", 400).is_empty());
        assert!(pieces("🎉🎉", 400).is_empty());
    }

    #[test]
    fn a_long_text_is_cut_at_the_sentence_nearest_to_the_middle() {
        let text = "We met Dr. Brown in the harbour at six o'clock. He had brought two friends, a map \
                    and a lamp. Nobody asked him why.";
        assert_eq!(
            pieces(text, 64),
            [
                "We met Dr. Brown in the harbour at six o'clock.",
                "He had brought two friends, a map and a lamp. Nobody asked him why.",
            ]
        );
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_clause_and_a_long_clause_at_a_word() {
        let sentence = "When the evening train had left the station of the northern town, everybody \
                        who had been waiting for it went back home again";
        let cut = pieces(sentence, 64);
        assert_eq!(cut[0], "When the evening train had left the station of the northern town,");
        let clause = "red ".repeat(100);
        let cut = pieces(&clause, 64);
        assert!(cut.len() > 2);
        assert!(cut.iter().all(|piece| piece.split(' ').all(|word| word == "red")), "{cut:?}");
        assert_eq!(cut.iter().flat_map(|piece| piece.split(' ')).count(), 100);
    }

    #[test]
    fn a_word_is_cut_only_if_it_is_over_the_limit_itself() {
        // Longer than a clause of the splitter, and within the limit.
        let word = "ab".repeat(130);
        let limit = Tokenizer::english().encode(&word).expect("ids").len();
        assert_eq!(pieces(&format!("Say {word}. Now."), limit).concat(), format!("Say{word}.Now."));
        assert_eq!(pieces(&format!("{word} {word}"), limit), [word.as_str(), &word]);
        assert_eq!(pieces(&word, limit - 1).concat(), word);
        let digits = "123456789".repeat(50);
        assert_eq!(pieces(&digits, 64).concat(), digits);
    }

    #[test]
    fn scripts_without_spaces_are_cut_at_their_marks() {
        let text = "今日は天気がいいですね。明日も晴れるといいですね。".repeat(4);
        let cut = pieces(&text, 100);
        assert!(cut.iter().all(|piece| piece.ends_with('。')), "{cut:?}");
        assert_eq!(cut.concat(), text);
    }

    #[test]
    fn a_limit_below_what_a_character_takes_is_refused() {
        let refused = Tokenizer::english().pieces("a", Language::EN, LEAST_IDS - 1);
        assert!(matches!(refused, Err(TextError::LimitTooSmall { limit: 63 })));
    }

    #[test]
    fn no_character_is_over_the_least_limit() {
        let tokenizer = Tokenizer::english();
        for character in ('\u{80}'..='\u{1ffff}').filter(|character| !character.is_ascii()) {
            let ids = tokenizer.encode(character.encode_utf8(&mut [0; 4])).expect("ids");
            assert!(ids.len() <= LEAST_IDS, "{character}");
        }
    }

    fn squeezed(text: &str) -> String {
        text.chars().filter(|character| !character.is_whitespace()).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_but_space_and_what_has_no_sound(
            text in "([a-zA-Z0-9éß.,;!?$£'\"() \n-]|🎉|東|。|[a-z]{1,90}){0,300}",
            limit in LEAST_IDS..200,
        ) {
            let tokenizer = Tokenizer::english();
            let mut rest = text.as_str();
            for piece in tokenizer.pieces(&text, Language::EN, limit).expect("pieces") {
                let at = rest.find(piece.text).expect("pieces are parts of the text, in order");
                prop_assert!(tokenizer.encode(rest[..at].trim()).expect("ids").is_empty());
                prop_assert_eq!(&piece.ids, &tokenizer.encode(piece.text).expect("ids"));
                prop_assert!((1..=limit).contains(&piece.ids.len()));
                rest = &rest[at + piece.text.len()..];
            }
            prop_assert!(tokenizer.encode(rest.trim()).expect("ids").is_empty());
        }

        #[test]
        fn words_within_the_limit_are_whole(words in prop::collection::vec("[a-z]{1,40}[.,]?", 1..200)) {
            let text = words.join(" ");
            let cut = Tokenizer::english().pieces(&text, Language::EN, 100).expect("pieces");
            let joined: Vec<&str> = cut.iter().map(|piece| piece.text).collect();
            prop_assert_eq!(joined.join(" "), text);
        }

        #[test]
        fn any_text_is_cut(text in any::<String>()) {
            let text = text.repeat(20);
            let cut = Tokenizer::english().pieces(&text, Language::EN, LEAST_IDS).expect("pieces");
            let kept: usize = cut.iter().map(|piece| squeezed(piece.text).len()).sum();
            prop_assert!(kept <= squeezed(&text).len());
        }
    }
}
