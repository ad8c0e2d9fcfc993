//! Which tokens may come next, by the rules that Whisper was evaluated with.
//!
//! Timestamps come in pairs around text, never run backwards, and outrank text when together they
//! are likelier than any single text token (OpenAI's `ApplyTimestampRules`).

use super::ops::exp;
use super::tokens::Tokens;

const NEVER: f32 = f32::NEG_INFINITY;
/// A text begins within its first second.
const LAST_INITIAL_TIMESTAMP: u32 = 50;

/// The rules of one request.
pub struct Rules<'a> {
    /// The special ids.
    pub tokens: &'a Tokens,
    /// Whether timestamps are asked for.
    pub timestamps: bool,
    /// The last timestamp that lies in the window, in steps of 20 ms.
    pub last_timestamp: u32,
}

impl Rules<'_> {
    /// Sets the scores of all forbidden tokens to minus infinity. `so_far` is what was chosen
    /// after the prompt.
    pub fn apply(&self, so_far: &[u32], scores: &mut [f32]) {
        let tokens = self.tokens;
        forbid(scores, &tokens.suppressed);
        if so_far.is_empty() {
            forbid(scores, &tokens.suppressed_at_begin);
        }
        scores[tokens.no_timestamps as usize] = NEVER;
        let zero = tokens.first_timestamp() as usize;
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
        let text = tokens.end as usize;
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
        let likeliest = words.iter().copied().fold(NEVER, f32::max);
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
    let highest = scores.iter().copied().fold(NEVER, f32::max);
    if highest == NEVER {
        return NEVER;
    }
    let sum: f32 = scores.iter().map(|&score| exp(score - highest)).sum();
    highest + sum.ln()
}
