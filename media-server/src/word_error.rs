//! Word error rate: how much of a text came back wrong.

/// Substitutions, deletions and insertions per word of the reference, after both texts were reduced
/// to lowercase words without punctuation. 0 is word-perfect; more than 1 is possible. Two texts
/// without words agree (0); an empty reference against words is 1.
pub fn word_error_rate(reference: &str, hypothesis: &str) -> f64 {
    let (reference, hypothesis) = (words(reference), words(hypothesis));
    if reference.is_empty() {
        return if hypothesis.is_empty() { 0.0 } else { 1.0 };
    }
    strsim::generic_levenshtein(&reference, &hypothesis) as f64 / reference.len() as f64
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
}
