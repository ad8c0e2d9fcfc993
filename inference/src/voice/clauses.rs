//! Cuts text into clauses while it is still being written, so that speech can start before the
//! sentence is complete: the first clause as short as sounds natural, the following ones longer.
//!
//! A pure state machine over characters; it knows no clock. What it emits is the input, cut: no
//! character but white space is added, lost or reordered.

use crate::Language;

/// Words that a clause needs before a comma, semicolon, colon or dash ends it.
const MIN_WORDS_FIRST: usize = 2;
const MIN_WORDS_LATER: usize = 5;
/// Words before a conjunction that let it begin a new clause, when no punctuation came by.
const CONJUNCTION_WORDS_FIRST: usize = 4;
const CONJUNCTION_WORDS_LATER: usize = 12;
/// Words that must follow the place of a cut without punctuation, or the rest would be a stump.
const WORDS_AFTER_CUT: usize = 3;
/// From here on any preposition will do.
const PREPOSITION_WORDS_FIRST: usize = 4;
const PREPOSITION_WORDS_LATER: usize = 20;
/// A clause never grows beyond this.
const MAX_WORDS: usize = 30;
const MAX_CHARS: usize = 220;
/// Two characters of a script without spaces count as a word.
const WIDE_CHARS_PER_WORD: usize = 2;
/// A sentence shorter than this many letters, such as `Sí.`, is spoken with the next one.
const MIN_LETTERS: usize = 4;
/// The same for a part of a sentence: `No, no,` is too little.
const MIN_LETTERS_SOFT: usize = 6;

/// Words that begin a clause of their own, in the languages with a natural voice.
const CONJUNCTIONS: &[&str] = &[
    // English
    "and",
    "but",
    "or",
    "because",
    "so",
    "that",
    "which",
    "who",
    "when",
    "while",
    "where",
    "if",
    "although",
    "unless",
    "until",
    "then",
    // Spanish and Portuguese
    "y",
    "pero",
    "porque",
    "que",
    "cuando",
    "donde",
    "aunque",
    "mientras",
    "si",
    "sino",
    "pues",
    "mas",
    "quando",
    "onde",
    "embora",
    "enquanto",
    "se",
    "ou",
    // French
    "et",
    "mais",
    "parce",
    "qui",
    "quand",
    "lorsque",
    "puisque",
    "où",
    "donc",
    "car",
    // Italian
    "ma",
    "perché",
    "che",
    "dove",
    "mentre",
    "oppure",
    "quindi",
    "però",
    // German
    "und",
    "aber",
    "oder",
    "weil",
    "dass",
    "wenn",
    "als",
    "denn",
    "während",
    // Hindi
    "और",
    "लेकिन",
    "क्योंकि",
    "कि",
    "जब",
    "या",
    "तो",
];

/// Words before which a long clause may be cut.
const PREPOSITIONS: &[&str] = &[
    "in", "on", "at", "to", "for", "from", "with", "by", "of", "about", "after", "before",
    "through", "en", "con", "para", "por", "de", "desde", "hasta", "sobre", "sin", "entre", "a",
    "al", "del", "em", "com", "no", "na", "do", "da", "até", "sem", "dans", "avec", "pour", "sur",
    "par", "sans", "depuis", "au", "aux", "du", "des", "chez", "nel", "nella", "per", "di", "su",
    "alla", "dalla", "della", "tra", "fra", "senza", "mit", "für", "auf", "aus", "nach", "bei",
    "von", "zu", "im", "vor",
];

/// Abbreviations, without their last full stop, that do not end a sentence. Those that are words
/// too (`no.`) are left out.
const ABBREVIATIONS: &[&str] = &[
    "sr", "sra", "srta", "sres", "dr", "dra", "d", "dña", "prof", "profa", "ud", "uds", "vd",
    "núm", "pág", "av", "avda", "ej", "p.ej", "aprox", "mr", "mrs", "ms", "st", "jr", "vs", "nr",
    "inc", "ltd", "gen", "rep", "sen", "gov", "capt", "lt", "col", "sgt", "e.g", "i.e", "eg", "ie",
    "m", "mm", "mme", "mlle", "env", "sig", "sigg", "dott", "ing", "avv", "ecc", "exmo", "exma",
    "z.b", "d.h", "bzw", "usw", "hr", "fr", "approx", "dept", "a.m", "p.m", "ee.uu", "u.s", "u.k",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Boundary {
    /// Ends a sentence.
    Strong,
    /// Ends a part of one.
    Soft,
}

/// Cuts streamed text into clauses.
///
/// ```
/// use inference::Language;
/// use inference::voice::ClauseSplitter;
///
/// let mut splitter = ClauseSplitter::new(Language::EN);
/// assert!(splitter.push("Good morn").is_empty());
/// assert_eq!(splitter.push("ing, the meeting starts at 3.5"), ["Good morning,"]);
/// assert_eq!(splitter.finish(), ["the meeting starts at 3.5"]);
/// ```
#[derive(Debug)]
pub struct ClauseSplitter {
    language: Language,
    pending: String,
    emitted: usize,
}

impl ClauseSplitter {
    /// A splitter for text in `language`.
    pub fn new(language: Language) -> Self {
        Self { language, pending: String::new(), emitted: 0 }
    }

    /// Adds text and returns the clauses that are complete now, trimmed.
    pub fn push(&mut self, text: &str) -> Vec<String> {
        self.pending.push_str(text);
        let mut clauses = Vec::new();
        while let Some(end) = self.find_cut() {
            let rest = self.pending.split_off(end);
            let clause = std::mem::replace(&mut self.pending, rest);
            self.emit(&clause, &mut clauses);
        }
        clauses
    }

    /// Ends the text, returns what is left, and makes the splitter ready for the next one.
    pub fn finish(&mut self) -> Vec<String> {
        // The end of the text decides what waited for the next character.
        let mut clauses = self.push("\n");
        let rest = std::mem::take(&mut self.pending);
        let is_stump = letters(&rest) < MIN_LETTERS;
        match clauses.last_mut() {
            // Not after another sentence: `Sí.` alone is heard better than run into the one before.
            Some(last) if is_stump && !rest.trim().is_empty() && !ends_sentence(last) => {
                last.push(' ');
                last.push_str(rest.trim());
            }
            _ => self.emit(&rest, &mut clauses),
        }
        self.emitted = 0;
        clauses
    }

    fn emit(&mut self, clause: &str, clauses: &mut Vec<String>) {
        let clause = clause.trim();
        if !clause.is_empty() {
            self.emitted += 1;
            clauses.push(clause.to_owned());
        }
    }

    /// Byte offset at which the pending text can be cut, if it can.
    fn find_cut(&self) -> Option<usize> {
        let is_first = self.emitted == 0;
        let min_words = if is_first { MIN_WORDS_FIRST } else { MIN_WORDS_LATER };
        let mut words = WordCounter::default();
        let mut characters = self.pending.char_indices().peekable();
        let mut count = 0;
        while let Some((start, character)) = characters.next() {
            words.push(character);
            count += 1;
            let Some(kind) = boundary(character) else {
                if count >= MAX_CHARS || words.count >= MAX_WORDS {
                    return self.forced_cut(start);
                }
                continue;
            };
            // Closing quotes and further marks belong to the clause.
            let mut end = start + character.len_utf8();
            let mut kind = kind;
            while let Some((next, closing)) =
                characters.next_if(|(_, next)| boundary(*next).is_some() || is_closing(*next))
            {
                end = next + closing.len_utf8();
                count += 1;
                if boundary(closing) == Some(Boundary::Strong) {
                    kind = Boundary::Strong;
                }
            }
            let Some((_, next)) = characters.peek() else {
                // `3.` may become `3.5`: wait.
                return self.cut_before_word();
            };
            if !next.is_whitespace() && !is_wide(character) {
                continue;
            }
            if character == '.' && kind == Boundary::Strong && self.continues(start, end) {
                continue;
            }
            let clause = &self.pending[..end];
            let long_enough = match kind {
                Boundary::Strong => letters(clause) >= MIN_LETTERS,
                Boundary::Soft => words.count >= min_words && letters(clause) >= MIN_LETTERS_SOFT,
            };
            if long_enough {
                // A comma far away is no reason to start late.
                return self.cut_before_word().filter(|cut| *cut < end).or(Some(end));
            }
        }
        self.cut_before_word()
    }

    /// A cut without punctuation: before a conjunction, or in a longer clause before a preposition.
    fn cut_before_word(&self) -> Option<usize> {
        let is_first = self.emitted == 0;
        let (conjunction_words, preposition_words) = if is_first {
            (CONJUNCTION_WORDS_FIRST, PREPOSITION_WORDS_FIRST)
        } else {
            (CONJUNCTION_WORDS_LATER, PREPOSITION_WORDS_LATER)
        };
        // Only words that are complete: the last one may still grow.
        let words: Vec<(usize, &str)> = word_starts(&self.pending).collect();
        let complete = words.len().saturating_sub(1);
        for (index, (start, word)) in words[..complete].iter().enumerate() {
            let follows = complete - index > WORDS_AFTER_CUT;
            if !follows {
                break;
            }
            let word = word.to_lowercase();
            let splits = (index >= conjunction_words && CONJUNCTIONS.contains(&word.as_str()))
                || (index >= preposition_words && PREPOSITIONS.contains(&word.as_str()));
            // Nothing but white space may precede: not a hyphen, not an opening bracket.
            let after_space = self.pending[..*start].ends_with(char::is_whitespace);
            // A pair of such words (`de que`, `and then`) stays together.
            let previous = index.checked_sub(1).map(|index| words[index].1.to_lowercase());
            let pair = previous.is_some_and(|previous| {
                CONJUNCTIONS.contains(&previous.as_str())
                    || PREPOSITIONS.contains(&previous.as_str())
            });
            if splits && after_space && !pair {
                return Some(*start);
            }
        }
        None
    }

    /// The clause is too long at `limit`: cut it at the last space, or right there.
    fn forced_cut(&self, limit: usize) -> Option<usize> {
        self.cut_before_word().filter(|cut| *cut <= limit).or_else(|| {
            let head = &self.pending[..limit];
            let space =
                head.rfind(char::is_whitespace).filter(|space| !head[..*space].trim().is_empty());
            Some(space.unwrap_or(limit)).filter(|cut| *cut > 0)
        })
    }

    /// Whether the full stop at `start` (marks up to `end`) belongs to an abbreviation, an initial
    /// or an ordinal rather than ending a sentence.
    fn continues(&self, start: usize, end: usize) -> bool {
        if end - start > 1 {
            return false;
        }
        let word = last_word(&self.pending[..start]);
        let next = self.pending[end..].trim_start().chars().next();
        // The next word is not there yet, or goes on in lower case.
        if next.is_some_and(char::is_lowercase) {
            return true;
        }
        // `Am 3. Mai`: only some languages write ordinals so.
        let is_ordinal =
            matches!(self.language.code(), "de" | "da" | "no" | "fi" | "cs" | "pl" | "hu")
                && !word.is_empty()
                && word.chars().all(|character| character.is_ascii_digit());
        is_ordinal || is_abbreviation(&self.pending[..start])
    }
}

fn last_word(text: &str) -> &str {
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    word.trim_start_matches(|character: char| !character.is_alphanumeric())
}

/// Whether a full stop after `text` marks an abbreviation or an initial.
pub(crate) fn is_abbreviation(text: &str) -> bool {
    let word = last_word(text);
    let mut characters = word.chars();
    let is_initial =
        characters.next().is_some_and(char::is_uppercase) && characters.next().is_none();
    is_initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

fn boundary(character: char) -> Option<Boundary> {
    match character {
        '.' | '!' | '?' | '…' | '。' | '！' | '？' | '؟' | '।' | '॥' | '։' | '።' => {
            Some(Boundary::Strong)
        }
        ',' | ';' | ':' | '—' | '–' | '、' | '，' | '；' | '：' | '،' | '؛' => {
            Some(Boundary::Soft)
        }
        _ => None,
    }
}

fn is_closing(character: char) -> bool {
    matches!(character, '"' | '\'' | ')' | ']' | '»' | '”' | '’' | '」' | '』' | '）')
}

/// Scripts that put no space between words, and their punctuation.
fn is_wide(character: char) -> bool {
    matches!(u32::from(character), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3000..=0x9fff | 0xf900..=0xfaff | 0xff00..=0xff65)
}

fn letters(text: &str) -> usize {
    text.chars()
        .filter(|character| character.is_alphanumeric())
        .map(|character| 1 + usize::from(is_wide(character)))
        .sum()
}

fn ends_sentence(clause: &str) -> bool {
    clause.trim_end_matches(is_closing).chars().next_back().and_then(boundary)
        == Some(Boundary::Strong)
}

/// The words of a text with their offsets, without the marks around them.
fn word_starts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(|word| {
        let offset = word.as_ptr() as usize - text.as_ptr() as usize;
        (offset, word.trim_matches(|character: char| !character.is_alphanumeric()))
    })
}

/// Counts words character by character.
#[derive(Default)]
struct WordCounter {
    count: usize,
    in_word: bool,
    wide: usize,
}

impl WordCounter {
    fn push(&mut self, character: char) {
        if is_wide(character) && character.is_alphanumeric() {
            self.wide += 1;
            self.in_word = false;
            if self.wide.is_multiple_of(WIDE_CHARS_PER_WORD) {
                self.count += 1;
            }
        } else if character.is_whitespace() {
            self.in_word = false;
        } else if character.is_alphanumeric() && !self.in_word {
            self.in_word = true;
            self.count += 1;
        }
    }
}

/// Cuts a text that is complete already.
pub fn split(language: Language, text: &str) -> Vec<String> {
    let mut splitter = ClauseSplitter::new(language);
    let mut clauses = splitter.push(text);
    clauses.extend(splitter.finish());
    clauses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn english(text: &str) -> Vec<String> {
        split(Language::EN, text)
    }

    fn spanish(text: &str) -> Vec<String> {
        split(Language::ES, text)
    }

    #[test]
    fn the_first_clause_is_short_and_the_next_ones_longer() {
        assert_eq!(
            spanish("Buenos días, señora, la reunión empieza mañana, a las tres, en la oficina."),
            ["Buenos días,", "señora, la reunión empieza mañana,", "a las tres, en la oficina."]
        );
    }

    #[test]
    fn numbers_times_and_ellipses_are_not_cut() {
        assert_eq!(
            english("It costs 3.5 euros. Or 1,000 yen…"),
            ["It costs 3.5 euros.", "Or 1,000 yen…"]
        );
        assert_eq!(english("At 10:30 we leave. Good."), ["At 10:30 we leave.", "Good."]);
        assert_eq!(english("Well... I do not know."), ["Well...", "I do not know."]);
    }

    #[test]
    fn abbreviations_and_initials_do_not_end_a_sentence() {
        assert_eq!(
            spanish("El Sr. García llegó. Hola a todos."),
            ["El Sr. García llegó.", "Hola a todos."]
        );
        assert_eq!(
            english("Mr. J. Smith arrived. Welcome!"),
            ["Mr. J. Smith arrived.", "Welcome!"]
        );
        assert_eq!(english("They met at 5 p.m. on Monday."), ["They met at 5 p.m. on Monday."]);
    }

    #[test]
    fn a_conjunction_begins_a_clause_when_there_is_no_comma() {
        assert_eq!(
            english("The train leaves at nine and we must not be late for it."),
            ["The train leaves at nine", "and we must not be late for it."]
        );
        assert_eq!(
            spanish("El tren sale a las nueve y no podemos llegar tarde."),
            ["El tren sale a las nueve", "y no podemos llegar tarde."]
        );
        // The rest would be a stump.
        assert_eq!(english("They like the tea and coffee."), ["They like the tea and coffee."]);
    }

    #[test]
    fn a_comma_far_away_does_not_delay_the_start() {
        let mut splitter = ClauseSplitter::new(Language::EN);
        let text = "The train leaves at nine and we must not be late for it, so hurry.";
        let mut clauses = Vec::new();
        let mut first_at = None;
        for (index, character) in text.char_indices() {
            clauses.extend(splitter.push(&character.to_string()));
            if !clauses.is_empty() {
                first_at.get_or_insert(index);
            }
        }
        clauses.extend(splitter.finish());
        assert_eq!(clauses[0], "The train leaves at nine");
        assert!(first_at.is_some_and(|at| at < text.find("late").expect("it is there")));
        assert_eq!(clauses, english(text));
    }

    #[test]
    fn a_stump_is_spoken_with_its_neighbour() {
        assert_eq!(spanish("Sí. Claro que sí."), ["Sí. Claro que sí."]);
        assert_eq!(spanish("No, no, no. Gracias."), ["No, no, no.", "Gracias."]);
        assert_eq!(spanish("Sí."), ["Sí."]);
    }

    #[test]
    fn marks_and_quotes_stay_with_their_clause() {
        assert_eq!(
            english("\"Is it really true?\" she asked. (Yes, it is!) Fine."),
            ["\"Is it really true?\"", "she asked.", "(Yes, it is!)", "Fine."]
        );
    }

    #[test]
    fn scripts_without_spaces_are_cut_too() {
        let chinese: Language = "zh".parse().expect("a language");
        assert_eq!(
            split(chinese, "大家早上好，会议现在开始。请坐下。"),
            ["大家早上好，", "会议现在开始。", "请坐下。"]
        );
    }

    #[test]
    fn a_text_without_any_mark_is_cut_at_a_word() {
        let text = "palabra ".repeat(120);
        let clauses = spanish(&text);
        assert!(
            clauses.iter().all(|clause| clause.split_whitespace().count() <= MAX_WORDS),
            "{clauses:?}"
        );
        let unbroken = "x".repeat(1000);
        assert!(spanish(&unbroken).iter().all(|clause| clause.chars().count() <= MAX_CHARS));
    }

    #[test]
    fn the_splitter_can_be_used_again_after_the_end() {
        let mut splitter = ClauseSplitter::new(Language::EN);
        splitter.push("One sentence here. Another one");
        assert_eq!(splitter.finish(), ["Another one"]);
        assert_eq!(splitter.push("Good day, madam. "), ["Good day,", "madam."]);
    }

    fn squeezed(text: &str) -> String {
        text.chars().filter(|character| !character.is_whitespace()).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_pieces_do_not_matter(
            text in "([a-zA-Zñé0-9¿¡。，\u{1F600}]{1,9}[ .,;:!?…\"'()-]{1,3}){0,40}|\\PC{0,200}",
            size in 1usize..20,
        ) {
            let mut splitter = ClauseSplitter::new(Language::ES);
            let characters: Vec<char> = text.chars().collect();
            let mut clauses = Vec::new();
            for piece in characters.chunks(size) {
                clauses.extend(splitter.push(&piece.iter().collect::<String>()));
            }
            clauses.extend(splitter.finish());
            prop_assert_eq!(squeezed(&clauses.concat()), squeezed(&text));
            prop_assert!(clauses.iter().all(|clause| !clause.trim().is_empty()));
            prop_assert!(clauses.iter().all(|clause| clause.chars().count() <= MAX_CHARS + 64));
        }
    }
}
