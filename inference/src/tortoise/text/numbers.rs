//! Numbers in English words, as in the texts that Tortoise was trained on: amounts of dollars, years
//! in pairs (`nineteen ninety-nine`), ordinals, decimals digit group by digit group.
//!
//! Works on lower-case ASCII. A number of four digits from 1001 to 2999 is taken for a year whatever
//! it is, and a comma within a number for a separator of thousands.

use std::sync::LazyLock;

use regex::{Captures, Regex};

static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| pattern("[0-9][0-9,]+[0-9]"));
static DOLLARS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\$([0-9.,]*[0-9]+)"));
static DECIMALS: LazyLock<Regex> = LazyLock::new(|| pattern(r"([0-9]+)\.([0-9]+)"));
static ORDINALS: LazyLock<Regex> = LazyLock::new(|| pattern("([0-9]+)(?:st|nd|rd|th)"));
static NUMBERS: LazyLock<Regex> = LazyLock::new(|| pattern("[0-9]+"));

const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
/// Names of the groups of three digits, from the last one on.
const SCALES: [&str; 12] = [
    "",
    " thousand",
    " million",
    " billion",
    " trillion",
    " quadrillion",
    " quintillion",
    " sextillion",
    " septillion",
    " octillion",
    " nonillion",
    " decillion",
];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are valid")
}

/// `text` with its numbers in words.
pub(super) fn spoken(text: &str) -> String {
    if !text.contains(|character: char| character.is_ascii_digit()) {
        return text.to_owned();
    }
    let text = THOUSANDS.replace_all(text, |found: &Captures<'_>| found[0].replace(',', ""));
    let text = DOLLARS.replace_all(&text, |found: &Captures<'_>| dollars(&found[1]));
    let text = DECIMALS.replace_all(&text, "$1 point $2");
    let text = ORDINALS.replace_all(&text, |found: &Captures<'_>| ordinal(&found[1]));
    NUMBERS.replace_all(&text, |found: &Captures<'_>| number(&found[0])).into_owned()
}

/// `3.50` is `3 dollars, 50 cents`. So is `3.5` three dollars and five cents: that is how the texts
/// were read.
fn dollars(amount: &str) -> String {
    let mut parts = amount.split('.');
    let (dollars, cents) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if parts.next().is_some() {
        return format!("{amount} dollars");
    }
    let counted = |part: &str, unit: &str| {
        let count = part.replace(',', "");
        match count.trim_start_matches('0') {
            "" => None,
            "1" => Some(format!("1 {unit}")),
            count => Some(format!("{count} {unit}s")),
        }
    };
    match (counted(dollars, "dollar"), counted(cents, "cent")) {
        (Some(dollars), Some(cents)) => format!("{dollars}, {cents}"),
        (Some(amount), None) | (None, Some(amount)) => amount,
        (None, None) => "zero dollars".to_owned(),
    }
}

/// A number by itself, be it a year.
fn number(digits: &str) -> String {
    let digits = digits.trim_start_matches('0');
    let value = if digits.len() <= 4 { value_of(digits) } else { 0 };
    match (value / 100, value % 100) {
        _ if !(1001..3000).contains(&value) || (2000..2010).contains(&value) => {
            cardinal(digits, "")
        }
        (century, 0) => below_hundred(century) + " hundred",
        (century, year @ 1..10) => format!("{} oh {}", below_hundred(century), UNITS[year]),
        (century, year) => format!("{} {}", below_hundred(century), below_hundred(year)),
    }
}

/// `digits` with an ending that tells their place: `first`, `one hundred and twenty-first`.
fn ordinal(digits: &str) -> String {
    let words = cardinal(digits, "and ");
    let start = words.rfind([' ', '-']).map_or(0, |before| before + 1);
    let (before, last) = words.split_at(start);
    let last = match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        last => match last.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{last}th"),
        },
    };
    format!("{before}{last}")
}

/// How many, with `and` before what is less than a hundred. Numbers without a name are read digit by
/// digit.
fn cardinal(digits: &str, and: &str) -> String {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return UNITS[0].to_owned();
    }
    if digits.len() > 3 * SCALES.len() {
        let each: Vec<&str> =
            digits.bytes().map(|digit| UNITS[usize::from(digit - b'0')]).collect();
        return each.join(" ");
    }
    let mut words = String::new();
    let mut rest = digits;
    for group in (0..digits.len().div_ceil(3)).rev() {
        let (head, tail) = rest.split_at(rest.len() - 3 * group);
        rest = tail;
        let value = value_of(head);
        if value == 0 {
            continue;
        }
        if !words.is_empty() {
            let is_end = group == 0 && value < 100;
            words.push_str(if is_end { " " } else { ", " });
            words.push_str(if is_end { and } else { "" });
        }
        words.push_str(&below_thousand(value, and));
        words.push_str(SCALES[group]);
    }
    words
}

fn below_thousand(value: usize, and: &str) -> String {
    match (value / 100, value % 100) {
        (0, rest) => below_hundred(rest),
        (hundreds, 0) => format!("{} hundred", UNITS[hundreds]),
        (hundreds, rest) => format!("{} hundred {and}{}", UNITS[hundreds], below_hundred(rest)),
    }
}

fn below_hundred(value: usize) -> String {
    match (value / 10, value % 10) {
        (0 | 1, _) => UNITS[value].to_owned(),
        (tens, 0) => TENS[tens].to_owned(),
        (tens, units) => format!("{}-{}", TENS[tens], UNITS[units]),
    }
}

/// The value of a few decimal digits.
fn value_of(digits: &str) -> usize {
    digits.bytes().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_become_words() {
        for (text, words) in [
            ("0 007 10 21 100 101", "zero seven ten twenty-one one hundred one hundred one"),
            ("1000 3000 3001", "one thousand three thousand three thousand one"),
            ("12345", "twelve thousand, three hundred forty-five"),
            ("1,000,001", "one million one"),
            ("1,001,000", "one million, one thousand"),
            ("3.14", "three point fourteen"),
        ] {
            assert_eq!(spoken(text), words);
        }
    }

    #[test]
    fn years_are_read_in_pairs() {
        for (year, words) in [
            ("1001", "ten oh one"),
            ("1066", "ten sixty-six"),
            ("1900", "nineteen hundred"),
            ("1999", "nineteen ninety-nine"),
            ("2000", "two thousand"),
            ("2009", "two thousand nine"),
            ("2010", "twenty ten"),
            ("2999", "twenty-nine ninety-nine"),
        ] {
            assert_eq!(spoken(year), words);
        }
    }

    #[test]
    fn ordinals_tell_their_place() {
        for (text, words) in [
            ("1st 2nd 3rd 4th 5th", "first second third fourth fifth"),
            ("8th 9th 12th 20th 0th", "eighth ninth twelfth twentieth zeroth"),
            ("101st", "one hundred and first"),
            ("1001st", "one thousand and first"),
            ("1234th", "one thousand, two hundred and thirty-fourth"),
            ("1000000th", "one millionth"),
        ] {
            assert_eq!(spoken(text), words);
        }
    }

    #[test]
    fn amounts_are_in_dollars_and_cents() {
        for (text, words) in [
            ("$1", "one dollar"),
            ("$2.01", "two dollars, one cent"),
            ("$0.50", "fifty cents"),
            ("$.07", "seven cents"),
            ("$0", "zero dollars"),
            ("$1,234.56", "twelve thirty-four dollars, fifty-six cents"),
            ("$1.2.3", "one point two.three dollars"),
            ("$,5", "five dollars"),
        ] {
            assert_eq!(spoken(text), words);
        }
    }

    #[test]
    fn a_number_without_a_name_is_read_digit_by_digit() {
        assert!(spoken(&"9".repeat(36)).starts_with("nine hundred ninety-nine decillion, "));
        assert_eq!(spoken(&format!("7{}", "0".repeat(36))), format!("seven{}", " zero".repeat(36)));
        assert!(spoken(&format!("{}th", "4".repeat(40))).ends_with("four fourth"));
    }

    proptest! {
        #[test]
        fn no_digit_is_left(text in "[0-9$.,stndrh -]{0,80}") {
            prop_assert!(!spoken(&text).contains(|character: char| character.is_ascii_digit()));
        }
    }
}
