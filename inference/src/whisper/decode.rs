//! From an encoded window to tokens: one pass of greedy choice or seeded sampling.

use super::WhisperError;
use super::guard::loop_start;
use super::model::{Decoder, DecoderState};
use super::ops::exp;
use super::rules::{Rules, log_sum_exp};
use crate::CancelToken;

/// Why a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended the text.
    Natural,
    /// The model wrote past the end of the speech.
    PastEnd,
    /// The text repeated itself and was cut to one copy.
    Loop,
    /// The cap was reached.
    Cap,
}

/// What one pass chose.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Ids after the prompt, timestamps included, end of text not.
    pub tokens: Vec<u32>,
    /// Mean log probability of the choices, end of text included.
    pub average_log_probability: f32,
    /// Why it ended.
    pub ending: Ending,
}

/// Bounds of the passes over one window.
pub struct Limits<'a> {
    /// Temperatures of the passes, in order.
    pub temperatures: &'a [f32],
    /// Most tokens, timestamps included.
    pub cap: usize,
    /// A piece that ends at or after this timestamp step is the last.
    pub stop_at_timestamp: Option<u32>,
}

/// Chooses tokens until the text ends. `scores` are those of the first token after the prompt,
/// which `state` already holds.
///
/// # Errors
/// [`WhisperError::Cancelled`] between tokens, [`WhisperError::Compute`].
pub fn decode(
    decoder: &Decoder,
    state: &mut DecoderState,
    mut scores: Vec<f32>,
    rules: &Rules<'_>,
    limits: &Limits<'_>,
    temperature: f32,
    cancel: &CancelToken,
) -> Result<Pass, WhisperError> {
    let zero = rules.first_timestamp;
    let mut random = SplitMix64::new(temperature);
    let mut tokens: Vec<u32> = Vec::new();
    let mut text: Vec<u32> = Vec::new();
    let mut log_probability = 0.0;
    let mut choices = 0;
    let ending = loop {
        if cancel.is_cancelled() {
            return Err(WhisperError::Cancelled);
        }
        rules.apply(&tokens, &mut scores);
        let token = if temperature > 0.0 {
            sample(&scores, temperature, random.next_unit())
        } else {
            likeliest(&scores)
        };
        log_probability += scores[token as usize] - log_sum_exp(&scores);
        choices += 1;
        if token == rules.end {
            break Ending::Natural;
        }
        tokens.push(token);
        if token < zero {
            text.push(token);
            if let Some(kept) = loop_start(&text) {
                truncate_text(&mut tokens, kept, zero);
                break Ending::Loop;
            }
        } else if let Some(stop) = limits.stop_at_timestamp
            && token - zero >= stop
            && !text.is_empty()
        {
            break Ending::PastEnd;
        }
        if tokens.len() >= limits.cap || state.room() == 0 {
            break Ending::Cap;
        }
        let hidden = decoder.forward(&[token], state)?;
        scores = decoder.scores(&hidden, 0)?;
    };
    Ok(Pass { tokens, average_log_probability: log_probability / choices as f32, ending })
}

/// Keeps the first `kept` text ids and the timestamps up to the one that follows them.
fn truncate_text(tokens: &mut Vec<u32>, kept: usize, zero: u32) {
    let mut seen = 0;
    let end = tokens.iter().position(|&token| {
        seen += usize::from(token < zero);
        seen > kept
    });
    let mut end = end.unwrap_or(tokens.len());
    // Of the pair between two copies, the second belongs to the one that goes.
    if end >= 2 && tokens[end - 1] >= zero && tokens[end - 2] >= zero {
        end -= 1;
    }
    tokens.truncate(end);
}

fn likeliest(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (id, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = id;
        }
    }
    best as u32
}

/// Draws from the softmax of `scores / temperature`; `unit` lies in 0 to 1.
fn sample(scores: &[f32], temperature: f32, unit: f32) -> u32 {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |score: f32| {
        if score == f32::NEG_INFINITY { 0.0 } else { exp((score - highest) / temperature) }
    };
    let total: f32 = scores.iter().map(|&score| weight(score)).sum();
    let mut left = unit * total;
    for (id, &score) in scores.iter().enumerate() {
        left -= weight(score);
        if left < 0.0 {
            return id as u32;
        }
    }
    likeliest(scores)
}

/// Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    /// The same temperature gives the same choices, so a transcript can be reproduced.
    fn new(temperature: f32) -> Self {
        Self(u64::from(temperature.to_bits()))
    }

    /// A number in 0 to 1, 1 excluded.
    fn next_unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_follows_the_probabilities_and_never_takes_the_forbidden() {
        let scores = [0.0, f32::NEG_INFINITY, 3.0f32.ln()];
        let mut random = SplitMix64::new(1.0);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[sample(&scores, 1.0, random.next_unit()) as usize] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_cut_loop_keeps_one_copy_and_its_closing_timestamp() {
        let zero = 1000;
        let mut tokens = vec![1000, 1, 2, 1050, 1050, 1, 2, 1100, 1100, 1, 2];
        truncate_text(&mut tokens, 2, zero);
        assert_eq!(tokens, [1000, 1, 2, 1050]);
        let mut tokens = vec![1, 2, 1, 2];
        truncate_text(&mut tokens, 2, zero);
        assert_eq!(tokens, [1, 2]);
    }

    #[test]
    fn the_likeliest_is_the_first_of_equals() {
        assert_eq!(likeliest(&[1.0, 3.0, 3.0, 2.0]), 1);
    }
}
