//! One pass over a window's text: greedy choice or seeded sampling, token by token.

use super::guard::loop_start;
use super::ops::exp;
use super::rules::{Rules, log_sum_exp};

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
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most tokens, timestamps included.
    pub cap: usize,
    /// A piece that ends at or after this timestamp step is the last.
    pub stop_at_timestamp: Option<u32>,
}

/// A pass under way.
pub struct Drawing {
    temperature: f32,
    random: SplitMix64,
    tokens: Vec<u32>,
    text: Vec<u32>,
    log_probability: f32,
    choices: usize,
}

/// What a pass does with the scores of the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on with this token.
    Token(u32),
    /// It ends.
    End(Ending),
}

impl Drawing {
    /// A pass at a temperature; 0 always takes the likeliest.
    pub fn new(temperature: f32) -> Self {
        Self {
            temperature,
            random: SplitMix64::new(temperature),
            tokens: Vec::new(),
            text: Vec::new(),
            log_probability: 0.0,
            choices: 0,
        }
    }

    /// Ids chosen so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Its temperature.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// Tokens chosen so far, the end of the text included.
    pub fn choices(&self) -> usize {
        self.choices
    }

    /// Chooses the next token from its scores, which the rules then have changed.
    pub fn choose(&mut self, scores: &mut [f32], rules: &Rules<'_>, limits: &Limits) -> Next {
        rules.apply(&self.tokens, scores);
        let token = if self.temperature > 0.0 {
            sample(scores, self.temperature, self.random.next_unit())
        } else {
            likeliest(scores)
        };
        self.log_probability += scores[token as usize] - log_sum_exp(scores);
        self.choices += 1;
        if token == rules.end {
            return Next::End(Ending::Natural);
        }
        let zero = rules.first_timestamp;
        self.tokens.push(token);
        if token < zero {
            self.text.push(token);
            if let Some(kept) = loop_start(&self.text) {
                truncate_text(&mut self.tokens, kept, zero);
                return Next::End(Ending::Loop);
            }
        } else if let Some(stop) = limits.stop_at_timestamp
            && token - zero >= stop
            && !self.text.is_empty()
        {
            return Next::End(Ending::PastEnd);
        }
        if self.tokens.len() >= limits.cap {
            return Next::End(Ending::Cap);
        }
        Next::Token(token)
    }

    /// The pass, ended.
    pub fn finish(self, ending: Ending) -> Pass {
        let average_log_probability = self.log_probability / self.choices.max(1) as f32;
        Pass { tokens: self.tokens, average_log_probability, ending }
    }
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
