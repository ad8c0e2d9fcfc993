//! Mends text that comes from speech before it is translated. Translators are made for written
//! text: a missing full stop, a small `i` or a stray `um` costs a rule-based one whole words and a
//! language model some of its certainty. Applied once, in the [`Ladder`](super::Ladder), so that
//! every rung reads the same text. Nothing here changes a word that carries meaning.

use crate::Language;

/// Sounds of hesitation; nothing that is a word in the language.
const FILLERS: &[(&str, &[&str])] =
    &[("en", &["um", "umm", "uh", "uhh", "uhm", "erm", "hmm"]), ("es", &["mmm", "ehm", "emm"])];

const DAYS_AND_MONTHS: &[&str] = &[
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "january",
    "february",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// Months that are also words, capitalised only after a word of time.
const DOUBTFUL_MONTHS: &[&str] = &["march", "may"];
const BEFORE_MONTHS: &[&str] = &["in", "of", "since", "until", "by", "during", "last"];

/// Words that open an English question when the verb follows.
const ENGLISH_ASKERS: &[&str] = &["what", "where", "when", "why", "who", "how", "which"];
const ENGLISH_VERBS: &[&str] = &[
    "am", "is", "are", "was", "were", "do", "does", "did", "can", "could", "will", "would",
    "should", "have", "has", "may", "shall",
];
const ENGLISH_SUBJECTS: &[&str] =
    &["i", "you", "he", "she", "it", "we", "they", "there", "this", "that"];
/// Spanish words whose accent says that they ask.
const SPANISH_ASKERS: &[&str] = &[
    "dónde", "adónde", "cuándo", "cuánto", "cuánta", "cuántos", "cuántas", "cuál", "cuáles",
    "quién", "quiénes",
];

/// Text as it would have been written: single spaces, no hesitation sounds, capitals where sentences
/// and English names of days begin, punctuation at the end. Mending twice changes nothing more.
pub fn mend(text: &str, language: Language) -> String {
    let words = without_fillers(text, language);
    if words.is_empty() {
        return String::new();
    }
    let words = if language == Language::EN { english_capitals(&words) } else { words };
    let mut mended = with_end(words.join(" "), language);
    capitalise_sentences(&mut mended);
    mended
}

/// Words of a text, punctuation attached to the word before it, fillers left out.
fn without_fillers(text: &str, language: Language) -> Vec<String> {
    let fillers = FILLERS.iter().find(|(code, _)| *code == language.code());
    let fillers = fillers.map_or(&[][..], |(_, fillers)| fillers);
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()) {
        let bare = word.trim_matches([',', '.', '…']).to_lowercase();
        if word.is_empty() || fillers.contains(&bare.as_str()) {
            // The sentence that a filler closed is still closed.
            if let Some(previous) = words.last_mut()
                && word.ends_with('.')
                && previous.ends_with(char::is_alphanumeric)
            {
                previous.push('.');
            }
            continue;
        }
        match words.last_mut() {
            Some(previous)
                if word
                    .chars()
                    .all(|letter| matches!(letter, ',' | '.' | ';' | ':' | '!' | '?' | '…')) =>
            {
                previous.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

fn english_capitals(words: &[String]) -> Vec<String> {
    let mut capitals = Vec::with_capacity(words.len());
    let mut previous = String::new();
    for word in words {
        let bare: String = word.chars().take_while(|letter| letter.is_alphabetic()).collect();
        let names_time = DAYS_AND_MONTHS.contains(&bare.trim_end_matches('s'))
            || DAYS_AND_MONTHS.contains(&bare.as_str())
            || DOUBTFUL_MONTHS.contains(&bare.as_str())
                && BEFORE_MONTHS.contains(&previous.as_str());
        capitals.push(if bare == "i" && is_pronoun(word) || names_time {
            capitalised(word)
        } else {
            word.clone()
        });
        previous = word.to_lowercase();
    }
    capitals
}

/// `i`, `i'm`, `i'd,` but not `i.e.` or `i-beam`.
fn is_pronoun(word: &str) -> bool {
    let rest = &word[1..];
    rest.starts_with(['\'', '’'])
        || rest.chars().all(|letter| matches!(letter, ',' | '.' | '!' | '?' | ';' | ':' | '…'))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn with_end(text: String, language: Language) -> String {
    let mut text = text;
    if text.ends_with(['.', '!', '?', '…', '。', '！', '？', '।', '؟', '"', '»', ')', '”'])
    {
        return text;
    }
    let shortened = text.trim_end_matches([',', ';', ':', '-', '–', '—', ' ']).len();
    if shortened == 0 {
        return text;
    }
    text.truncate(shortened);
    if text.ends_with(['.', '!', '?', '…']) {
        return text;
    }
    match language.code() {
        "en" if asks_in_english(&text) => text.push('?'),
        "es" if asks_in_spanish(&text) => {
            if !text.contains('¿') {
                text.insert(0, '¿');
            }
            text.push('?');
        }
        "zh" | "ja" | "yue" => text.push('。'),
        "th" | "lo" | "km" | "my" => {}
        _ => text.push('.'),
    }
    text
}

/// Whether the last sentence has the word order of a question: `where is …`, `do you …`.
fn asks_in_english(text: &str) -> bool {
    let sentence = text.rsplit(['.', '!', '?']).next().unwrap_or_default().to_lowercase();
    let mut words = sentence.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    (ENGLISH_ASKERS.contains(&first) && ENGLISH_VERBS.contains(&second))
        || (ENGLISH_VERBS.contains(&first) && ENGLISH_SUBJECTS.contains(&second))
        || (first == "how" && matches!(second, "much" | "many" | "long" | "far" | "often"))
}

/// Whether the text, a single sentence, opens with a word that only asks.
fn asks_in_spanish(text: &str) -> bool {
    if text.contains(['.', '!', '?']) {
        return false;
    }
    let lower = text.to_lowercase();
    let mut words = lower.split_whitespace().map(|word| word.trim_start_matches('¿'));
    match words.next() {
        Some("por") => words.next() == Some("qué"),
        Some(first) => SPANISH_ASKERS.contains(&first),
        None => false,
    }
}

/// A capital at the start and after every full stop, question or exclamation mark.
fn capitalise_sentences(text: &mut String) {
    let mut capitals = String::with_capacity(text.len());
    let mut starts = true;
    let mut ended = false;
    for letter in text.chars() {
        if letter.is_whitespace() && ended {
            starts = true;
        }
        if starts && letter.is_alphanumeric() {
            capitals.extend(letter.to_uppercase());
            starts = false;
        } else {
            capitals.push(letter);
        }
        ended = matches!(letter, '.' | '!' | '?');
    }
    *text = capitals;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn english(text: &str) -> String {
        mend(text, Language::EN)
    }

    fn spanish(text: &str) -> String {
        mend(text, Language::ES)
    }

    #[test]
    fn raw_speech_gets_capitals_and_a_full_stop() {
        assert_eq!(
            english("i think i'm late for monday's meeting"),
            "I think I'm late for Monday's meeting."
        );
        assert_eq!(spanish("  hola   buenos días "), "Hola buenos días.");
    }

    #[test]
    fn finished_text_stays_as_it_is() {
        for text in ["Hello, how are you?", "It works. Doesn't it?", "Wait…", "He said \"no\""] {
            assert_eq!(english(text), text);
        }
    }

    #[test]
    fn hesitation_is_left_out_and_words_are_not() {
        assert_eq!(english("um, so, uh, we need umbrellas"), "So, we need umbrellas.");
        assert_eq!(english("we stay, um."), "We stay.");
        assert_eq!(spanish("ehm quiero un café"), "Quiero un café.");
        assert_eq!(english("um"), "");
    }

    #[test]
    fn word_order_makes_a_question_and_nothing_else_does() {
        assert_eq!(english("where is the station"), "Where is the station?");
        assert_eq!(english("fine. do you have time"), "Fine. Do you have time?");
        assert_eq!(english("what a day"), "What a day.");
        assert_eq!(english("when it rains we stay"), "When it rains we stay.");
        assert_eq!(spanish("dónde está la estación"), "¿Dónde está la estación?");
        assert_eq!(spanish("por qué no vienes"), "¿Por qué no vienes?");
        assert_eq!(spanish("cuando llueve nos quedamos"), "Cuando llueve nos quedamos.");
        assert_eq!(spanish("qué bonito"), "Qué bonito.");
    }

    #[test]
    fn doubtful_months_need_a_word_of_time() {
        assert_eq!(english("we may march in may"), "We may march in May.");
        assert_eq!(english("i.e. on tuesdays in june"), "I.e. On Tuesdays in June.");
    }

    #[test]
    fn an_open_end_is_closed() {
        assert_eq!(english("and then we left,"), "And then we left.");
        assert_eq!(english("hello , world !"), "Hello, world!");
        assert_eq!(mend("今日は", "ja".parse().expect("a known code")), "今日は。");
    }

    proptest! {
        #[test]
        fn mending_twice_changes_nothing_more(text in "\\PC{0,60}") {
            for language in [Language::EN, Language::ES] {
                let once = mend(&text, language);
                prop_assert_eq!(mend(&once, language), once);
            }
        }

        #[test]
        fn letters_and_digits_of_spanish_survive(text in "[a-zñáéíóú0-9 ]{0,60}") {
            prop_assume!(!text.contains("mm"));
            let letters = |text: &str| {
                text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>()
            };
            if !text.contains("ehm") {
                prop_assert_eq!(letters(&mend(&text, Language::ES)), letters(&text));
            }
        }
    }
}
