//! Numbers in a sentence, as digits and as words: a wrong time or price is the most expensive slip
//! an interpreter can make, and the easiest to notice.

use std::collections::BTreeSet;

use crate::Language;

/// Numbers written with digits, without separators of thousands and leading zeros. Decimal parts,
/// minutes and the like count as numbers of their own, so that `8:30` agrees with `8.30`.
pub(super) fn digits(text: &str) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    let characters: Vec<char> = text.chars().collect();
    let run_at = |start: usize| {
        characters[start..].iter().take_while(|character| character.is_ascii_digit()).count()
    };
    let mut index = 0;
    while index < characters.len() {
        let length = run_at(index);
        if length == 0 {
            index += 1;
            continue;
        }
        let mut number: String = characters[index..index + length].iter().collect();
        index += length;
        let separates = |character: char| matches!(character, '.' | ',' | '\u{a0}' | '\u{202f}');
        while length <= 3
            && characters.get(index).copied().is_some_and(separates)
            && run_at(index + 1) == 3
        {
            number.extend(&characters[index + 1..index + 4]);
            index += 4;
        }
        let trimmed = number.trim_start_matches('0');
        numbers.insert(if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() });
    }
    numbers
}

/// Everything that a number with digits on the other side may stand for: the digits themselves and
/// the values of number words. `None` for words of a language whose number words are unknown here.
pub(super) fn meant(text: &str, language: Language) -> Option<BTreeSet<String>> {
    let words = words_of(language)?;
    let mut meant = digits(text);
    let mut spoken = SpokenNumber::default();
    let lower = text.to_lowercase();
    for word in lower.split(|character: char| !character.is_alphabetic()) {
        match value(word, words) {
            Some(value) => spoken.push(value),
            None if matches!(word, "" | "and" | "y" | "e" | "et" | "und") => {}
            None => {
                spoken.flush(&mut meant);
                if let Some((_, values)) = FRACTIONS.iter().find(|(part, _)| *part == word) {
                    meant.extend(values.iter().map(|value| (*value).to_owned()));
                }
            }
        }
    }
    spoken.flush(&mut meant);
    if lower.contains("halb") {
        // German `halb zehn` is half past nine.
        let hours: Vec<u64> = meant.iter().filter_map(|number| number.parse().ok()).collect();
        let before = hours.into_iter().filter(|hour| (1..=13).contains(hour));
        meant.extend(before.map(|hour| (hour - 1).to_string()));
    }
    if DAY_PARTS.iter().any(|part| lower.contains(part)) {
        // Three in the afternoon is three or fifteen.
        let hours: Vec<u64> = meant.iter().filter_map(|number| number.parse().ok()).collect();
        let on_the_dial = hours.into_iter().filter(|hour| *hour <= 24);
        meant
            .extend(on_the_dial.flat_map(|hour| {
                [hour + 12, hour.saturating_sub(12)].map(|hour| hour.to_string())
            }));
    }
    Some(meant)
}

/// Words that make a number an hour, which may count to twelve or to twenty-four.
const DAY_PARTS: &[&str] = &[
    " am",
    " pm",
    "a.m",
    "p.m",
    "o'clock",
    "morning",
    "afternoon",
    "evening",
    "tonight",
    "night",
    "mañana",
    "tarde",
    "noche",
    "matin",
    "après-midi",
    "soir",
    "heures",
    "mattina",
    "pomeriggio",
    "sera",
    "uhr",
    "nachmittag",
    "abend",
    "manhã",
    "noite",
    "horas",
];

/// A run of number words such as `two hundred and five`: the parts and the total all count, since
/// `twenty five` may be one number or two.
#[derive(Default)]
struct SpokenNumber {
    parts: Vec<u64>,
}

impl SpokenNumber {
    fn push(&mut self, value: u64) {
        self.parts.push(value);
    }

    fn flush(&mut self, numbers: &mut BTreeSet<String>) {
        let (mut total, mut current) = (0u64, 0u64);
        for &part in &self.parts {
            numbers.insert(part.to_string());
            match part {
                100 => current = current.max(1).saturating_mul(100),
                1000 => {
                    total = total.saturating_add(current.max(1).saturating_mul(1000));
                    current = 0;
                }
                20 if current % 100 == 4 => current = current - 4 + 80,
                _ => current = current.saturating_add(part),
            }
            numbers.insert(current.to_string());
            numbers.insert(total.saturating_add(current).to_string());
        }
        self.parts.clear();
    }
}

fn value(word: &str, words: &[(&str, u64)]) -> Option<u64> {
    let plain = |word: &str| words.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    plain(word).or_else(|| {
        // German counts the unit first, in one word.
        let (unit, tens) = word.split_once("und")?;
        Some(plain(unit)? + plain(tens)?)
    })
}

fn words_of(language: Language) -> Option<&'static [(&'static str, u64)]> {
    match language.code() {
        "en" => Some(ENGLISH),
        "es" => Some(SPANISH),
        "fr" => Some(FRENCH),
        "it" => Some(ITALIAN),
        "de" => Some(GERMAN),
        "pt" => Some(PORTUGUESE),
        _ => None,
    }
}

/// Words that stand for minutes.
const FRACTIONS: &[(&str, &[&str])] = &[
    ("half", &["30", "2", "5"]),
    ("media", &["30", "2", "5"]),
    ("medio", &["30", "2", "5"]),
    ("demie", &["30", "2", "5"]),
    ("demi", &["30", "2", "5"]),
    ("mezza", &["30", "2", "5"]),
    ("mezzo", &["30", "2", "5"]),
    ("halb", &["30", "2", "5"]),
    ("meia", &["30", "6"]),
    ("quarter", &["15", "45"]),
    ("cuarto", &["15", "45", "4"]),
    ("quart", &["15", "45"]),
    ("quarts", &["15", "45"]),
    ("quarto", &["15", "45", "4"]),
    ("viertel", &["15", "45"]),
    ("noon", &["12"]),
    ("midday", &["12"]),
    ("midnight", &["12", "0", "24"]),
    ("mediodía", &["12"]),
    ("medianoche", &["12", "0", "24"]),
    ("midi", &["12"]),
    ("minuit", &["12", "0", "24"]),
    ("mezzogiorno", &["12"]),
    ("mezzanotte", &["12", "0", "24"]),
    ("mittag", &["12"]),
    ("mitternacht", &["12", "0", "24"]),
    ("dozen", &["12"]),
    ("docena", &["12"]),
    ("fortnight", &["14", "15", "2"]),
    ("quincena", &["15", "14", "2"]),
    ("couple", &["2"]),
    ("par", &["2"]),
    ("million", &["1000000"]),
    ("millón", &["1000000"]),
];

#[rustfmt::skip]
const ENGLISH: &[(&str, u64)] = &[
    ("zero", 0), ("oh", 0), ("one", 1), ("two", 2), ("three", 3), ("four", 4), ("five", 5),
    ("six", 6), ("seven", 7), ("eight", 8), ("nine", 9), ("ten", 10), ("eleven", 11),
    ("twelve", 12), ("thirteen", 13), ("fourteen", 14), ("fifteen", 15), ("sixteen", 16),
    ("seventeen", 17), ("eighteen", 18), ("nineteen", 19), ("twenty", 20), ("thirty", 30),
    ("forty", 40), ("fifty", 50), ("sixty", 60), ("seventy", 70), ("eighty", 80), ("ninety", 90),
    ("hundred", 100), ("thousand", 1000), ("first", 1), ("second", 2), ("third", 3),
    ("fourth", 4), ("fifth", 5), ("sixth", 6), ("seventh", 7), ("eighth", 8), ("ninth", 9),
    ("tenth", 10), ("once", 1), ("twice", 2), ("thirties", 30), ("forties", 40), ("fifties", 50),
    ("sixties", 60), ("seventies", 70), ("eighties", 80), ("nineties", 90),
];

#[rustfmt::skip]
const SPANISH: &[(&str, u64)] = &[
    ("cero", 0), ("un", 1), ("uno", 1), ("una", 1), ("dos", 2), ("tres", 3), ("cuatro", 4),
    ("cinco", 5), ("seis", 6), ("siete", 7), ("ocho", 8), ("nueve", 9), ("diez", 10),
    ("once", 11), ("doce", 12), ("trece", 13), ("catorce", 14), ("quince", 15),
    ("dieciséis", 16), ("diecisiete", 17), ("dieciocho", 18), ("diecinueve", 19), ("veinte", 20),
    ("veintiuno", 21), ("veintiún", 21), ("veintiuna", 21), ("veintidós", 22),
    ("veintitrés", 23), ("veinticuatro", 24), ("veinticinco", 25), ("veintiséis", 26),
    ("veintisiete", 27), ("veintiocho", 28), ("veintinueve", 29), ("treinta", 30),
    ("cuarenta", 40), ("cincuenta", 50), ("sesenta", 60), ("setenta", 70), ("ochenta", 80),
    ("noventa", 90), ("cien", 100), ("ciento", 100), ("doscientos", 200), ("doscientas", 200),
    ("trescientos", 300), ("trescientas", 300), ("cuatrocientos", 400), ("cuatrocientas", 400),
    ("quinientos", 500), ("quinientas", 500), ("seiscientos", 600), ("seiscientas", 600),
    ("setecientos", 700), ("setecientas", 700), ("ochocientos", 800), ("ochocientas", 800),
    ("novecientos", 900), ("novecientas", 900), ("mil", 1000), ("primer", 1), ("primero", 1),
    ("primera", 1), ("segundo", 2), ("segunda", 2), ("tercer", 3), ("tercero", 3), ("tercera", 3),
    ("cuarta", 4), ("quinto", 5), ("quinta", 5), ("sexto", 6), ("sexta", 6), ("séptimo", 7),
    ("séptima", 7), ("octavo", 8), ("octava", 8), ("noveno", 9), ("novena", 9), ("décimo", 10),
    ("décima", 10),
];

#[rustfmt::skip]
const FRENCH: &[(&str, u64)] = &[
    ("zéro", 0), ("un", 1), ("une", 1), ("deux", 2), ("trois", 3), ("quatre", 4), ("cinq", 5),
    ("six", 6), ("sept", 7), ("huit", 8), ("neuf", 9), ("dix", 10), ("onze", 11), ("douze", 12),
    ("treize", 13), ("quatorze", 14), ("quinze", 15), ("seize", 16), ("vingt", 20),
    ("vingts", 20), ("trente", 30), ("quarante", 40), ("cinquante", 50), ("soixante", 60),
    ("septante", 70), ("huitante", 80), ("nonante", 90), ("cent", 100), ("cents", 100),
    ("mille", 1000), ("premier", 1), ("première", 1), ("deuxième", 2), ("second", 2),
    ("seconde", 2), ("troisième", 3), ("quatrième", 4), ("cinquième", 5),
];

#[rustfmt::skip]
const ITALIAN: &[(&str, u64)] = &[
    ("zero", 0), ("un", 1), ("uno", 1), ("una", 1), ("due", 2), ("tre", 3), ("quattro", 4),
    ("cinque", 5), ("sei", 6), ("sette", 7), ("otto", 8), ("nove", 9), ("dieci", 10),
    ("undici", 11), ("dodici", 12), ("tredici", 13), ("quattordici", 14), ("quindici", 15),
    ("sedici", 16), ("diciassette", 17), ("diciotto", 18), ("diciannove", 19), ("venti", 20),
    ("venticinque", 25), ("trenta", 30), ("trentacinque", 35), ("quaranta", 40),
    ("quarantacinque", 45), ("cinquanta", 50), ("sessanta", 60), ("settanta", 70),
    ("ottanta", 80), ("novanta", 90), ("cento", 100), ("duecento", 200), ("mille", 1000),
    ("mila", 1000), ("duemila", 2000), ("primo", 1), ("prima", 1), ("secondo", 2),
    ("seconda", 2), ("terzo", 3), ("terza", 3),
];

#[rustfmt::skip]
const GERMAN: &[(&str, u64)] = &[
    ("null", 0), ("ein", 1), ("eins", 1), ("eine", 1), ("einen", 1), ("einem", 1), ("einer", 1),
    ("zwei", 2), ("zwo", 2), ("drei", 3), ("vier", 4), ("fünf", 5), ("sechs", 6), ("sieben", 7),
    ("acht", 8), ("neun", 9), ("zehn", 10), ("elf", 11), ("zwölf", 12), ("dreizehn", 13),
    ("vierzehn", 14), ("fünfzehn", 15), ("sechzehn", 16), ("siebzehn", 17), ("achtzehn", 18),
    ("neunzehn", 19), ("zwanzig", 20), ("dreißig", 30), ("vierzig", 40), ("fünfzig", 50),
    ("sechzig", 60), ("siebzig", 70), ("achtzig", 80), ("neunzig", 90), ("hundert", 100),
    ("einhundert", 100), ("zweihundert", 200), ("dreihundert", 300), ("fünfhundert", 500),
    ("tausend", 1000), ("eintausend", 1000), ("zweitausend", 2000), ("erste", 1), ("ersten", 1),
    ("zweite", 2), ("zweiten", 2), ("dritte", 3), ("dritten", 3),
];

#[rustfmt::skip]
const PORTUGUESE: &[(&str, u64)] = &[
    ("zero", 0), ("um", 1), ("uma", 1), ("dois", 2), ("duas", 2), ("três", 3), ("quatro", 4),
    ("cinco", 5), ("seis", 6), ("sete", 7), ("oito", 8), ("nove", 9), ("dez", 10), ("onze", 11),
    ("doze", 12), ("treze", 13), ("catorze", 14), ("quatorze", 14), ("quinze", 15),
    ("dezesseis", 16), ("dezasseis", 16), ("dezessete", 17), ("dezassete", 17), ("dezoito", 18),
    ("dezenove", 19), ("dezanove", 19), ("vinte", 20), ("trinta", 30), ("quarenta", 40),
    ("cinquenta", 50), ("sessenta", 60), ("setenta", 70), ("oitenta", 80), ("noventa", 90),
    ("cem", 100), ("cento", 100), ("duzentos", 200), ("duzentas", 200), ("trezentos", 300),
    ("quinhentos", 500), ("mil", 1000), ("primeiro", 1), ("primeira", 1), ("segundo", 2),
    ("segunda", 2), ("terceiro", 3), ("terceira", 3),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn language(code: &str) -> Language {
        code.parse().expect("a known code")
    }

    fn set(numbers: &[&str]) -> BTreeSet<String> {
        numbers.iter().map(|number| (*number).to_owned()).collect()
    }

    #[test]
    fn separators_of_thousands_do_not_matter_and_minutes_are_numbers_of_their_own() {
        assert_eq!(digits("1,250 people"), set(&["1250"]));
        assert_eq!(digits("1.250 personas"), set(&["1250"]));
        assert_eq!(digits("at 8:30"), set(&["8", "30"]));
        assert_eq!(digits("3.5 or 3,5"), set(&["3", "5"]));
        assert_eq!(digits("room 007"), set(&["7"]));
        assert_eq!(digits("none"), set(&[]));
    }

    #[test]
    fn number_words_count_alone_and_together() {
        let meant = meant("two hundred and twenty-five people", Language::EN).expect("a table");
        for number in ["2", "200", "225", "5"] {
            assert!(meant.contains(number), "{number} in {meant:?}");
        }
    }

    #[test]
    fn each_language_counts_in_its_own_way() {
        for (code, text, number) in [
            ("es", "treinta y cinco", "35"),
            ("es", "dos mil veintiséis", "2026"),
            ("fr", "quatre-vingt-dix", "90"),
            ("fr", "soixante-quinze", "75"),
            ("de", "fünfundzwanzig", "25"),
            ("pt", "vinte e um", "21"),
            ("it", "duecento dieci", "210"),
        ] {
            let meant = meant(text, language(code)).expect("a table");
            assert!(meant.contains(number), "{text}: {meant:?}");
        }
    }

    #[test]
    fn hours_count_to_twelve_or_to_twenty_four() {
        let meant = meant("at 3 pm", Language::EN).expect("a table");
        assert!(meant.contains("15"));
        assert!(!meant.contains("5"));
    }

    #[test]
    fn half_hours_are_understood_both_ways() {
        assert!(meant("halb zehn", language("de")).expect("a table").contains("9"));
        assert!(meant("las nueve y media", Language::ES).expect("a table").contains("30"));
    }

    #[test]
    fn a_language_without_a_table_is_told_apart() {
        assert_eq!(meant("八時", language("ja")), None);
    }
}
