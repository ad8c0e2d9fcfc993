//! Which tokens may come next, by the rules that Whisper was evaluated with.
//!
//! Timestamps come in pairs around text, never run backwards, and outrank text when together they
//! are likelier than any single text token (OpenAI's `ApplyTimestampRules`).

use super::ops;

const NEVER: f32 = f32::NEG_INFINITY;
/// A text begins within its first second.
const LAST_INITIAL_TIMESTAMP: u32 = 50;

/// The rules of one request.
pub struct Rules<'a> {
    /// Ids that never occur in a text.
    pub suppressed: &'a [u32],
    /// Ids that never begin a text.
    pub suppressed_at_begin: &'a [u32],
    /// The id that ends a text; those below it are words.
    pub end: u32,
    /// The id of the timestamp 0 s; those from it on are timestamps.
    pub first_timestamp: u32,
    /// Whether timestamps are asked for.
    pub timestamps: bool,
    /// The last timestamp that lies in the window, in steps of 20 ms.
    pub last_timestamp: u32,
}

impl Rules<'_> {
    /// Sets the scores of all forbidden tokens to minus infinity. `so_far` is what was chosen
    /// after the prompt.
    pub fn apply(&self, so_far: &[u32], scores: &mut [f32]) {
        forbid(scores, self.suppressed);
        if so_far.is_empty() {
            forbid(scores, self.suppressed_at_begin);
        }
        let zero = self.first_timestamp as usize;
        if zero >= scores.len() {
            return;
        }
        if !self.timestamps {
            scores[zero..].fill(NEVER);
            return;
        }
        let is_timestamp = |token: &u32| *token as usize >= zero;
        let last_is = so_far.last().is_some_and(is_timestamp);
        let one_before_is = so_far.len() < 2 || is_timestamp(&so_far[so_far.len() - 2]);
        let text = self.end as usize;
        if last_is && one_before_is {
            scores[zero..].fill(NEVER);
        } else if last_is {
            scores[..text].fill(NEVER);
        }
        if let Some(&latest) = so_far.iter().rev().find(|token| is_timestamp(token)) {
            // A piece may begin where the last one ended, but must not end where it began.
            let earliest = latest as usize + usize::from(!last_is || one_before_is);
            let earliest = earliest.min(scores.len());
            scores[zero..earliest].fill(NEVER);
        }
        let last = if so_far.is_empty() {
            scores[..zero].fill(NEVER);
            self.last_timestamp.min(LAST_INITIAL_TIMESTAMP)
        } else {
            self.last_timestamp
        };
        let beyond = (zero + last as usize + 1).min(scores.len());
        scores[beyond..].fill(NEVER);

        let (words, times) = scores.split_at(zero);
        let likeliest = ops::maximum(words);
        if log_sum_exp(times) > likeliest {
            scores[..zero].fill(NEVER);
        }
    }
}

fn forbid(scores: &mut [f32], ids: &[u32]) {
    for &id in ids {
        scores[id as usize] = NEVER;
    }
}

/// `ln Σ e^x`; minus infinity for no or only impossible values.
pub fn log_sum_exp(scores: &[f32]) -> f32 {
    let highest = ops::maximum(scores);
    if highest == NEVER {
        return NEVER;
    }
    highest + ops::sum(scores, |score| ops::exp(score - highest)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words 0 to 3, end 4, one steering token, timestamps from 6 on.
    const RULES: Rules<'_> = Rules {
        suppressed: &[3, 5],
        suppressed_at_begin: &[0, 4],
        end: 4,
        first_timestamp: 6,
        timestamps: true,
        last_timestamp: 4,
    };

    fn allowed(rules: &Rules<'_>, so_far: &[u32], likely: u32) -> Vec<usize> {
        let mut scores = vec![0.0; 14];
        scores[likely as usize] = 9.0;
        rules.apply(so_far, &mut scores);
        (0..scores.len()).filter(|&id| scores[id] != NEVER).collect()
    }

    #[test]
    fn a_timed_text_begins_with_a_timestamp_in_the_window() {
        assert_eq!(allowed(&RULES, &[], 1), [6, 7, 8, 9, 10]);
    }

    #[test]
    fn words_follow_an_opening_timestamp() {
        assert_eq!(allowed(&RULES, &[6], 1), [0, 1, 2, 4]);
        assert_eq!(allowed(&RULES, &[6, 1, 8, 8], 1), [0, 1, 2, 4]);
    }

    #[test]
    fn after_a_closing_timestamp_comes_the_next_opening_or_the_end() {
        assert_eq!(allowed(&RULES, &[6, 1, 8], 4), [4, 8, 9, 10]);
    }

    #[test]
    fn a_piece_cannot_end_where_it_began_nor_before() {
        assert_eq!(allowed(&RULES, &[7, 1], 2), [0, 1, 2, 4, 8, 9, 10]);
    }

    #[test]
    fn timestamps_that_are_together_likelier_than_any_word_exclude_words() {
        assert_eq!(allowed(&RULES, &[7, 1], 9), [8, 9, 10]);
    }

    #[test]
    fn without_timestamps_there_are_only_words() {
        let rules = Rules { timestamps: false, ..RULES };
        assert_eq!(allowed(&rules, &[], 9), [1, 2]);
        assert_eq!(allowed(&rules, &[1], 9), [0, 1, 2, 4]);
    }

    #[test]
    fn log_sum_exp_of_impossible_scores_is_impossible() {
        assert_eq!(log_sum_exp(&[]), NEVER);
        assert_eq!(log_sum_exp(&[NEVER, NEVER]), NEVER);
        assert!((log_sum_exp(&[1000.0, NEVER, 1000.0]) - 1000.0 - 2f32.ln()).abs() < 1e-4);
    }
}
