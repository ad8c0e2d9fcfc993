//! Text to the phoneme alphabet that Kokoro was trained on: espeak-ng's IPA, cut at punctuation,
//! with diphthongs and affricates as single letters. The recipe follows the `misaki` library that
//! prepared the training data.

use std::collections::HashMap;

use crate::Language;
use crate::voice::clauses;
use crate::voice::espeak::EspeakError;
use crate::voice::espeak::phonemizer::Phonemizer;

/// Tokens that the model takes at most, without the two silent ones at the ends.
pub(super) const MAX_TOKENS: usize = 510;

/// Languages that Kokoro speaks well through espeak-ng's phonemes: code, espeak-ng's voice, and
/// the voice to take by default.
pub(super) struct Dialect {
    pub(super) code: &'static str,
    pub(super) espeak: &'static str,
    pub(super) default_voice: &'static str,
    /// Some seconds of plain speech, from which a voice's statistics are taken.
    pub(super) sample: &'static str,
}

const DIALECTS: &[Dialect] = &[
    Dialect {
        code: "en",
        espeak: "en-us",
        default_voice: "af_heart",
        sample: "Good afternoon, the meeting starts tomorrow at three, please stay on the line until somebody can take your call.",
    },
    Dialect {
        code: "es",
        espeak: "es",
        default_voice: "ef_dora",
        sample: "Buenas tardes, la reunión empieza mañana a las tres, por favor no cuelgue hasta que alguien pueda atender su llamada.",
    },
    Dialect {
        code: "fr",
        espeak: "fr-fr",
        default_voice: "ff_siwis",
        sample: "Bonjour, la réunion commence demain à trois heures, merci de rester en ligne jusqu'à ce que quelqu'un puisse vous répondre.",
    },
    Dialect {
        code: "it",
        espeak: "it",
        default_voice: "if_sara",
        sample: "Buongiorno, la riunione comincia domani alle tre, resti in linea finché qualcuno potrà rispondere alla sua chiamata.",
    },
    Dialect {
        code: "pt",
        espeak: "pt-br",
        default_voice: "pf_dora",
        sample: "Boa tarde, a reunião começa amanhã às três, por favor aguarde na linha até que alguém possa atender a sua chamada.",
    },
    Dialect {
        code: "hi",
        espeak: "hi",
        default_voice: "hf_alpha",
        sample: "नमस्ते, बैठक कल तीन बजे शुरू होगी, कृपया तब तक लाइन पर बने रहें जब तक कोई आपकी बात सुन सके।",
    },
];

/// How to speak `language`; `None` if Kokoro cannot.
pub(super) fn dialect(language: Language) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|dialect| dialect.code == language.code())
}

/// English: espeak-ng's symbols on the left, longest first.
const ENGLISH: &[(&str, &str)] = &[
    ("ʔˌn\u{329}", "tᵊn"),
    ("ʔn\u{329}", "tᵊn"),
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("o^ʊ", "O"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
    ("ə^l", "ᵊl"),
    ("ɜːɹ", "ɜɹ"),
    ("ʔn", "tᵊn"),
    ("ʲo", "jo"),
    ("ʲə", "jə"),
    ("ɜː", "ɜɹ"),
    ("ɪə", "iə"),
    ("ʲ", ""),
    ("ʔ", "t"),
    ("e", "A"),
    ("ɚ", "əɹ"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɬ", "l"),
    // As this generation of espeak-ng writes the vowel of `four` and the consonant of `water`.
    ("o", "ɔ"),
    ("ɾ", "T"),
    ("\u{303}", ""),
    ("ː", ""),
    ("^", ""),
];

/// All other languages.
const OTHERS: &[(&str, &str)] = &[
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^z", "ʣ"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("o^ʊ", "O"),
    ("ə^ʊ", "Q"),
    ("s^s", "S"),
    ("t^s", "ʦ"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
    ("^", ""),
    ("-", ""),
];

/// Words that espeak-ng takes for words of another language, spelled so that it does not.
const RESPELLED: &[(&str, &str, &str)] = &[("fr", "'aujourd'hui", "'aujourdhui")];

/// The phonemes of `text`, punctuation kept.
///
/// # Errors
/// If espeak-ng fails.
pub(super) fn phonemes(
    phonemizer: &Phonemizer,
    dialect: &Dialect,
    text: &str,
) -> Result<String, EspeakError> {
    let mut text = text.to_owned();
    for (code, from, to) in RESPELLED {
        if *code == dialect.code {
            text = text.replace(from, to);
        }
    }
    let pieces = pieces(&text);
    let spoken: Vec<&str> =
        pieces.iter().filter(|piece| !piece.is_mark).map(|piece| piece.text).collect();
    let mut answers = phonemizer.phonemes(dialect.espeak, &spoken)?.into_iter();

    let mut result = String::new();
    for piece in &pieces {
        if piece.is_mark {
            let mark = piece.text.chars().next().map(plain_mark).unwrap_or_default();
            // A row of marks counts once, or the model dwells on it.
            if !mark.is_empty() && !result.ends_with(mark) {
                if mark.starts_with(opens) && !result.is_empty() {
                    result.push(' ');
                }
                result.push_str(mark);
            }
            continue;
        }
        let raw = without_flags(&answers.next().unwrap_or_default());
        let phonemes = map(dialect, &raw);
        if phonemes.is_empty() {
            continue;
        }
        if !result.is_empty() && !result.ends_with(opens) {
            result.push(' ');
        }
        result.push_str(&phonemes);
    }
    Ok(result)
}

fn opens(mark: char) -> bool {
    matches!(mark, '(' | '“')
}

/// The mark that the vocabulary has for this one.
fn plain_mark(mark: char) -> &'static str {
    match mark {
        ',' | '、' | '，' | '،' => ",",
        ';' | '；' => ";",
        ':' | '：' => ":",
        '.' | '。' | '।' | '॥' => ".",
        '!' | '！' => "!",
        '?' | '？' | '؟' => "?",
        '…' => "…",
        '—' | '–' => "—",
        '(' => "(",
        ')' => ")",
        '"' => "\"",
        '«' | '“' => "“",
        '»' | '”' => "”",
        // Spanish opening marks have no sound and no token.
        _ => "",
    }
}

#[derive(Debug, PartialEq)]
struct Piece<'a> {
    text: &'a str,
    is_mark: bool,
}

/// Cuts at punctuation. Marks inside a number, a time or an abbreviation are left to espeak-ng.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let words = |from: usize, to: usize| {
        let words = text[from..to].trim();
        (!words.is_empty()).then_some(Piece { text: words, is_mark: false })
    };
    for (index, character) in text.char_indices() {
        if !is_mark(character) {
            continue;
        }
        let end = index + character.len_utf8();
        let inner = matches!(character, '.' | ',' | ':')
            && text[..index].ends_with(char::is_alphanumeric)
            && text[end..].starts_with(char::is_alphanumeric);
        let abbreviation = character == '.' && clauses::is_abbreviation(&text[..index]);
        if inner || abbreviation {
            continue;
        }
        pieces.extend(words(start, index));
        pieces.push(Piece { text: &text[index..end], is_mark: true });
        start = end;
    }
    pieces.extend(words(start, text.len()));
    pieces
}

fn is_mark(character: char) -> bool {
    matches!(character, '¡' | '¿') || !plain_mark(character).is_empty()
}

/// Removes the flags around words of another language, such as `(e^n)`.
fn without_flags(phonemes: &str) -> String {
    let mut clean = String::with_capacity(phonemes.len());
    let mut rest = phonemes;
    while let Some(open) = rest.find('(') {
        clean.push_str(&rest[..open]);
        let inside = &rest[open + 1..];
        let is_flag =
            |character: char| character.is_ascii_lowercase() || matches!(character, '^' | '-');
        match inside.find(|character| !is_flag(character)) {
            Some(close) if close > 0 && inside[close..].starts_with(')') => {
                rest = &inside[close + 1..];
            }
            _ => rest = inside,
        }
    }
    clean.push_str(rest);
    clean
}

fn map(dialect: &Dialect, phonemes: &str) -> String {
    let table = if dialect.code == "en" { ENGLISH } else { OTHERS };
    let mut mapped = String::with_capacity(phonemes.len());
    let mut rest = phonemes;
    while let Some(character) = rest.chars().next() {
        if let Some((from, to)) = table.iter().find(|(from, _)| rest.starts_with(from)) {
            mapped.push_str(to);
            rest = &rest[from.len()..];
        } else {
            mapped.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    if dialect.code == "en" { syllabic_consonants(&mapped) } else { mapped }
}

/// A syllabic consonant (`n̩`) is written with a reduced vowel before it.
fn syllabic_consonants(phonemes: &str) -> String {
    let mut result = String::with_capacity(phonemes.len());
    let mut characters = phonemes.chars().peekable();
    while let Some(character) = characters.next() {
        let is_syllabic = characters.next_if_eq(&'\u{329}').is_some();
        if is_syllabic && !character.is_whitespace() {
            result.push('ᵊ');
        }
        if character != '\u{329}' {
            result.push(character);
        }
    }
    result
}

/// The tokens of the model.
pub(super) struct Vocabulary(HashMap<char, i32>);

/// The vocabulary file is not usable.
#[derive(Debug, thiserror::Error)]
#[error("the vocabulary is not a json table of single characters: fetch the model again")]
pub struct VocabularyError(#[source] Option<serde_json::Error>);

impl Vocabulary {
    /// Reads `{"vocab": {"a": 43, …}}`.
    pub(super) fn parse(json: &[u8]) -> Result<Self, VocabularyError> {
        #[derive(serde::Deserialize)]
        struct File {
            vocab: HashMap<char, i32>,
        }
        let file: File =
            serde_json::from_slice(json).map_err(|error| VocabularyError(Some(error)))?;
        // 177 is the last row of the model's embedding.
        if file.vocab.is_empty() || file.vocab.values().any(|id| !(1..178).contains(id)) {
            return Err(VocabularyError(None));
        }
        Ok(Self(file.vocab))
    }

    /// The tokens of a phoneme string; unknown symbols are dropped.
    pub(super) fn tokens(&self, phonemes: &str) -> Vec<i32> {
        phonemes.chars().filter_map(|symbol| self.0.get(&symbol).copied()).collect()
    }
}

/// Phonemes that sound: letters, not marks, stress or spaces.
pub(super) fn sounding(phonemes: &str) -> usize {
    phonemes
        .chars()
        .filter(|symbol| symbol.is_alphabetic() && !matches!(symbol, 'ˈ' | 'ˌ' | 'ː'))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(code: &str, text: &str) -> String {
        let dialect = dialect(code.parse().expect("a language")).expect("kokoro speaks it");
        phonemes(&Phonemizer::new(), dialect, text).expect("espeak-ng is installed")
    }

    #[test]
    fn marks_within_numbers_and_abbreviations_stay_with_their_words() {
        let texts = |text| pieces(text).into_iter().map(|piece| piece.text).collect::<Vec<_>>();
        assert_eq!(texts("A 3.5 km, a las 10:30."), ["A 3.5 km", ",", "a las 10:30", "."]);
        assert_eq!(texts("El Sr. García (sí)."), ["El Sr. García", "(", "sí", ")", "."]);
        assert_eq!(texts("¿Qué?!"), ["¿", "Qué", "?", "!"]);
        assert_eq!(texts(" ... "), [".", ".", "."]);
    }

    #[test]
    fn language_flags_are_removed_and_other_brackets_vanish() {
        assert_eq!(without_flags("lə (e^n)mˈi^ːtɪŋ(f^r) də"), "lə mˈi^ːtɪŋ də");
        assert_eq!(without_flags("(^e^n)a(^h^i-x)b"), "ab");
        assert_eq!(without_flags("a(b c"), "ab c");
    }

    #[test]
    fn english_uses_its_own_letters() {
        assert_eq!(
            spoken("en", "Hello, how are you today? The meeting starts at three."),
            "həlˈO, hˌW ɑːɹ juː tədˈA? ðə mˈiːTɪŋ stˈɑːɹts æt θɹˈiː.".replace('ː', "")
        );
        assert_eq!(
            spoken("en", "The judge enjoyed nine boys and the button."),
            "ðə ʤˈʌʤ ɛnʤˈYd nˈIn bˈYz ænd ðə bˈʌtᵊn."
        );
    }

    #[test]
    fn spanish_keeps_its_lengths_and_drops_its_opening_marks() {
        assert_eq!(
            spoken("es", "¿Dónde está la estación de tren? Gracias."),
            "dˈonde estˈa la ˌestaθjˈon de tɾˈen? ɡɾˈaθjas."
        );
        assert_eq!(
            spoken("es", "El Sr. García tiene 3.5 euros…"),
            "el seɲˈoɾ ɡaɾθˈia tjˈene tɾˈes punto θˈinko ˈeʊɾos…"
        );
    }

    #[test]
    fn french_says_today_in_french() {
        let today = spoken("fr", "La réunion d'aujourd'hui, à midi.");
        assert!(today.contains("oʒuʁd"), "{today}");
        assert!(!today.contains('('), "{today}");
    }

    #[test]
    fn unknown_symbols_are_dropped() {
        let vocabulary = Vocabulary::parse(br#"{"vocab": {"a": 43, " ": 16}}"#).expect("a table");
        assert_eq!(vocabulary.tokens("a☺ aß"), [43, 16, 43]);
        assert!(Vocabulary::parse(br#"{"vocab": {"ab": 1}}"#).is_err());
        assert!(Vocabulary::parse(br#"{"vocab": {"a": 900}}"#).is_err());
        assert!(Vocabulary::parse(b"").is_err());
    }
}
