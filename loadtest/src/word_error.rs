//! How much of a text came back wrong (word error rate), and how near a translation is to a
//! reference (chrF).

use std::collections::HashMap;

/// Longest piece that chrF looks at, characters.
const CHRF_ORDER: usize = 6;
/// Recall counts this many times as much as precision: chrF2.
const CHRF_BETA: f64 = 2.0;

/// Substitutions, deletions and insertions per word of the reference, after both texts were reduced
/// to lowercase words without punctuation. 0 is word-perfect; more than 1 is possible. Two texts
/// without words agree (0); an empty reference against words is 1.
#[must_use]
pub fn word_error_rate(reference: &str, hypothesis: &str) -> f64 {
    let (wrong, words) = word_errors(reference, hypothesis);
    match (wrong, words) {
        (0, 0) => 0.0,
        (_, 0) => 1.0,
        _ => wrong as f64 / words as f64,
    }
}

/// The wrong words and the words of the reference, by the same measure.
#[must_use]
pub fn word_errors(reference: &str, hypothesis: &str) -> (usize, usize) {
    let (reference, hypothesis) = (words(reference), words(hypothesis));
    (strsim::generic_levenshtein(&reference, &hypothesis), reference.len())
}

/// chrF of Popović (2015): the F2 score of shared pieces of one to six characters, spaces left out;
/// the mean of the orders that both texts are long enough for. 100 is equal, 0 shares nothing.
#[must_use]
pub fn chrf(reference: &str, hypothesis: &str) -> f64 {
    let characters = |text: &str| -> Vec<char> {
        text.chars().filter(|character| !character.is_whitespace()).collect()
    };
    let (reference, hypothesis) = (characters(reference), characters(hypothesis));
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in 1..=CHRF_ORDER.min(reference.len()).min(hypothesis.len()) {
        let (wanted, had) = (pieces(&reference, order), pieces(&hypothesis, order));
        let shared: usize = wanted
            .iter()
            .map(|(piece, &count)| count.min(had.get(piece).copied().unwrap_or_default()))
            .sum();
        precision += shared as f64 / (hypothesis.len() + 1 - order) as f64;
        recall += shared as f64 / (reference.len() + 1 - order) as f64;
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    let weight = CHRF_BETA * CHRF_BETA;
    100.0 * (1.0 + weight) * precision * recall / (weight * precision + recall)
}

fn pieces(text: &[char], order: usize) -> HashMap<&[char], usize> {
    let mut counts = HashMap::new();
    for piece in text.windows(order) {
        *counts.entry(piece).or_default() += 1;
    }
    counts
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_count() {
        assert_eq!(word_error_rate("¿Dónde está la estación?", "dónde está, la estación"), 0.0);
    }

    #[test]
    fn one_wrong_word_of_four_is_a_quarter() {
        assert_eq!(word_error_rate("one two three four", "one too three four"), 0.25);
        assert_eq!(word_error_rate("one two three four", "one two three"), 0.25);
        assert_eq!(word_error_rate("one two three four", "one two three four five"), 0.25);
    }

    #[test]
    fn nothing_heard_is_all_wrong() {
        assert_eq!(word_error_rate("one two", ""), 1.0);
        assert_eq!(word_error_rate("", "noise"), 1.0);
        assert_eq!(word_error_rate("", ""), 0.0);
    }

    #[test]
    fn chrf_agrees_with_the_reference_implementation() {
        // By sacrebleu's `sentence_chrf`.
        for (reference, hypothesis, expected) in CHRF {
            let score = chrf(reference, hypothesis);
            assert!((score - expected).abs() < 0.01, "{hypothesis:?}: {score} for {expected}");
        }
        assert_eq!(chrf("", ""), 0.0);
        assert_eq!(chrf("a", ""), 0.0);
    }

    const CHRF: [(&str, &str, f64); 6] = [
        ("the cat sat on the mat", "the cat sat on a mat", 65.9797),
        ("Usted es el siguiente en la fila.", "Eres el siguiente en la cola.", 64.3571),
        ("Bienvenido al sistema de correo de voz", "welcome to voice mail", 10.9679),
        ("hola", "hola", 100.0),
        ("Ваш звонок очень важен для нас", "Ваш вызов важен", 18.5801),
        ("ab", "a", 55.5556),
    ];
}
