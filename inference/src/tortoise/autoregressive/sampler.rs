//! Draws the next code: a penalty for codes that were there before (Keskar et al., "CTRL", 2019),
//! temperature, the likeliest `k` (Fan et al., 2018) and of those the likeliest that make up a share
//! `p` (Holtzman et al., 2020), in this order. Shares are counted anew after each cut, as the reference
//! counts them.
//!
//! The scores of all slots come from the device in one piece. A code has to come from there in any
//! case, and to draw it there would take dozens of small operations, each of which takes as long as
//! the copy.

use std::cmp::Ordering;

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The id that the reference fills the prompt with, and so always penalises.
const PROMPT_FILLER: u32 = 1;

/// How a code is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// What a code's score is divided by when the code was there before (multiplied with where the
    /// score is negative); 1 changes nothing.
    pub repetition_penalty: f64,
    /// Scores are divided by it; at 0 the likeliest code is taken.
    pub temperature: f64,
    /// So many codes are drawn from at most.
    pub top_k: usize,
    /// And only the likeliest of them that make up this share.
    pub top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { repetition_penalty: 2.0, temperature: 0.8, top_k: 50, top_p: 0.8 }
    }
}

impl Sampling {
    /// Always the likeliest code.
    pub fn greedy() -> Self {
        Self { repetition_penalty: 1.0, temperature: 0.0, top_k: 1, top_p: 1.0 }
    }

    /// # Errors
    /// A number is not finite or lies outside of its range.
    pub fn check(&self) -> Result<()> {
        let Self { repetition_penalty, temperature, top_k, top_p } = *self;
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            bail!("a repetition penalty of {repetition_penalty}: it is above 0, 1 changes nothing");
        }
        if !(temperature.is_finite() && temperature >= 0.0) {
            bail!("a temperature of {temperature}: it is 0 or above");
        }
        if top_k == 0 || !(top_p > 0.0 && top_p <= 1.0) {
            bail!("top_k {top_k} and top_p {top_p}: nothing is left to draw from");
        }
        Ok(())
    }
}

/// What one row of scores is drawn with.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose codes it continues.
    pub slot: usize,
    /// How.
    pub sampling: Sampling,
    /// A number in 0 to 1, 1 excluded: the code is the first, in the order of codes, up to which the
    /// shares sum to more.
    pub unit: f64,
}

/// Knows which codes were there before, in each slot.
#[derive(Debug)]
pub struct Sampler {
    seen: Vec<Vec<bool>>,
    start: u32,
    codes: usize,
}

impl Sampler {
    /// For `slots` streams of `codes`, each of which begins with `start`.
    pub fn new(slots: usize, codes: usize, start: u32) -> Self {
        Self { seen: vec![vec![false; codes]; slots], start, codes }
    }

    /// A slot begins anew.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn restart(&mut self, slot: usize) -> Result<()> {
        let Some(seen) = self.seen.get_mut(slot) else { bail!("there is no slot {slot}") };
        seen.fill(false);
        for id in [PROMPT_FILLER, self.start] {
            if let Some(seen) = seen.get_mut(id as usize) {
                *seen = true;
            }
        }
        Ok(())
    }

    /// A code was read in a slot.
    ///
    /// # Errors
    /// There is no such slot or code.
    pub fn note(&mut self, slot: usize, code: u32) -> Result<()> {
        match self.seen.get_mut(slot).and_then(|seen| seen.get_mut(code as usize)) {
            Some(seen) => *seen = true,
            None => bail!("the code {code} cannot be read in slot {slot}"),
        }
        Ok(())
    }

    /// Draws a code for each row of `scores`, `[rows, codes]`. `None` where no score is finite.
    ///
    /// # Errors
    /// The shapes do not fit, a row's numbers cannot be used, or the device fails.
    pub fn draw(&self, scores: &Tensor, rows: &[Row]) -> Result<Vec<Option<u32>>> {
        let kept = self.kept(scores, rows)?;
        Ok(kept.iter().zip(rows).map(|(kept, row)| drawn(kept, row.unit)).collect())
    }

    /// What is left to draw from, `[rows, codes]` and 0 where nothing is: for tests.
    #[doc(hidden)]
    pub fn shares(&self, scores: &Tensor, rows: &[Row]) -> Result<Tensor> {
        let mut shares = vec![0.0f32; rows.len() * self.codes];
        for (kept, shares) in
            self.kept(scores, rows)?.iter().zip(shares.chunks_exact_mut(self.codes))
        {
            for (code, share) in kept {
                shares[*code] = *share as f32;
            }
        }
        Tensor::from_vec(shares, (rows.len(), self.codes), &Device::Cpu)
    }

    /// The codes to draw from and their shares, in the order of codes, for each row.
    fn kept(&self, scores: &Tensor, rows: &[Row]) -> Result<Vec<Vec<(usize, f64)>>> {
        let (count, codes) = scores.dims2()?;
        if count != rows.len() || codes != self.codes {
            bail!(
                "scores of {codes} codes for {count} rows, not {} for {}",
                self.codes,
                rows.len()
            );
        }
        for row in rows {
            row.sampling.check()?;
            if row.slot >= self.seen.len() {
                bail!("there is no slot {}", row.slot);
            }
        }
        let scores = scores.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let kept =
            |(scores, row): (&Vec<f32>, &Row)| row.sampling.kept(scores, &self.seen[row.slot]);
        Ok(scores.par_iter().zip(rows).map(kept).collect())
    }
}

impl Sampling {
    fn kept(&self, scores: &[f32], seen: &[bool]) -> Vec<(usize, f64)> {
        let penalty = self.repetition_penalty as f32;
        // At temperature 0 one code is left, whose score does not matter.
        let is_greedy = self.temperature == 0.0;
        let temperature = if is_greedy { 1.0 } else { self.temperature as f32 };
        let score = |(code, (score, seen)): (usize, (&f32, &bool))| {
            let score = match (*seen, *score > 0.0) {
                (false, _) => *score,
                (true, true) => score / penalty,
                (true, false) => score * penalty,
            };
            (code, score / temperature)
        };
        let mut scores: Vec<(usize, f32)> =
            scores.iter().zip(seen).enumerate().map(score).collect();
        let most = if is_greedy { 1 } else { self.top_k.min(scores.len()) };
        if most < scores.len() {
            scores.select_nth_unstable_by(most, likelier);
            scores.truncate(most);
        }
        scores.sort_unstable_by(likelier);

        let best = scores.first().map_or(0.0, |(_, score)| f64::from(*score));
        let mut shares: Vec<(usize, f64)> =
            scores.iter().map(|(code, score)| (*code, (f64::from(*score) - best).exp())).collect();
        to_shares(&mut shares);
        // A code stays while those before it do not make up the share yet: the first one always.
        let mut before = 0.0;
        let is_cut = |(_, share): &(usize, f64)| {
            let is_cut = before >= self.top_p;
            before += share;
            is_cut
        };
        let count = shares.iter().position(is_cut).unwrap_or(shares.len());
        shares.truncate(count);
        to_shares(&mut shares);
        shares.sort_unstable_by_key(|(code, _)| *code);
        shares
    }
}

/// The larger score first, of equal ones the smaller code.
fn likelier(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Makes the sum 1.
fn to_shares(parts: &mut [(usize, f64)]) {
    let sum: f64 = parts.iter().map(|(_, part)| part).sum();
    parts.iter_mut().for_each(|(_, part)| *part /= sum);
}

/// In the order of codes, so that nearly equal shares do not depend on who computes.
fn drawn(kept: &[(usize, f64)], unit: f64) -> Option<u32> {
    if kept.iter().any(|(_, share)| !share.is_finite()) {
        return None;
    }
    let mut sum = 0.0;
    let reached = kept.iter().find(|(_, share)| {
        sum += share;
        sum > unit
    });
    // The sum may fall short of 1 by a rounding.
    reached.or(kept.last()).map(|(code, _)| *code as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: usize = 9000;

    fn row(slot: usize, sampling: Sampling, unit: f64) -> Row {
        Row { slot, sampling, unit }
    }

    fn sampler(slots: usize) -> Sampler {
        let mut sampler = Sampler::new(slots, CODES, 8192);
        (0..slots).for_each(|slot| sampler.restart(slot).expect("a slot"));
        sampler
    }

    fn scores(rows: &[&[(usize, f32)]]) -> Tensor {
        let mut all = vec![-30.0f32; rows.len() * CODES];
        for (index, row) in rows.iter().enumerate() {
            for (code, score) in *row {
                all[index * CODES + code] = *score;
            }
        }
        Tensor::from_vec(all, (rows.len(), CODES), &Device::Cpu).expect("scores")
    }

    fn plain() -> Sampling {
        Sampling { repetition_penalty: 1.0, temperature: 1.0, top_k: 3, top_p: 1.0 }
    }

    #[test]
    fn a_code_is_drawn_by_its_share_in_the_order_of_codes() {
        let sampler = sampler(1);
        // Shares of 1/4, 1/2 and 1/4.
        let scores = scores(&[&[(7, 0.0), (5000, 2.0f32.ln()), (8999, 0.0)]]);
        let draw = |unit| sampler.draw(&scores, &[row(0, plain(), unit)]).expect("drawn")[0];
        assert_eq!(draw(0.0), Some(7));
        assert_eq!(draw(0.24), Some(7));
        assert_eq!(draw(0.26), Some(5000));
        assert_eq!(draw(0.74), Some(5000));
        assert_eq!(draw(0.76), Some(8999));
        assert_eq!(draw(1.0 - f64::EPSILON), Some(8999));
    }

    #[test]
    fn what_was_there_before_is_less_likely_in_its_own_slot_only() {
        let mut sampler = sampler(2);
        sampler.note(1, 40).expect("noted");
        let greedy = Sampling { repetition_penalty: 2.0, ..Sampling::greedy() };
        let rows = [row(0, greedy.clone(), 0.0), row(1, greedy, 0.0)];
        let both: &[(usize, f32)] = &[(40, 3.0), (50, 2.0)];
        let drawn = sampler.draw(&scores(&[both, both]), &rows).expect("drawn");
        assert_eq!(drawn, [Some(40), Some(50)]);
        sampler.restart(1).expect("a slot");
        let drawn = sampler.draw(&scores(&[both, both]), &rows).expect("drawn");
        assert_eq!(drawn, [Some(40), Some(40)]);
    }

    #[test]
    fn top_k_and_top_p_cut_one_after_the_other() {
        let sampler = sampler(1);
        let scores = scores(&[&[(10, 1.0), (11, 1.0), (12, 1.0), (13, 0.9)]]);
        let sampling = Sampling { top_k: 4, top_p: 0.5, ..plain() };
        let shares = sampler.shares(&scores, &[row(0, sampling, 0.0)]).expect("shares");
        let shares = shares.to_vec2::<f32>().expect("numbers");
        let left: Vec<_> = (10..14).filter(|code| shares[0][*code] > 0.0).collect();
        assert_eq!(left.len(), 2, "two of four make up a half");
    }

    #[test]
    fn rows_may_be_drawn_differently_and_do_not_change_each_other() {
        let sampler = sampler(3);
        let three: &[(usize, f32)] = &[(3, 1.0), (4, 0.5), (5, 0.2)];
        let rows = [
            row(0, Sampling::greedy(), 0.9),
            row(1, Sampling { temperature: 0.3, ..plain() }, 0.99),
            row(2, Sampling { top_k: 2, ..plain() }, 0.99),
        ];
        let together = sampler.draw(&scores(&[three, three, three]), &rows).expect("drawn");
        let alone: Vec<_> = rows
            .iter()
            .map(|row| {
                sampler.draw(&scores(&[three]), std::slice::from_ref(row)).expect("drawn")[0]
            })
            .collect();
        assert_eq!(together, alone);
        assert_eq!(together[0], Some(3));
    }

    #[test]
    fn scores_that_are_no_numbers_draw_nothing() {
        let sampler = sampler(1);
        let nan = Tensor::full(f32::NAN, (1, CODES), &Device::Cpu).expect("scores");
        assert_eq!(sampler.draw(&nan, &[row(0, plain(), 0.5)]).expect("drawn"), [None]);
    }

    #[test]
    fn numbers_that_leave_nothing_are_refused() {
        for sampling in [
            Sampling { top_k: 0, ..plain() },
            Sampling { top_p: 0.0, ..plain() },
            Sampling { temperature: f64::NAN, ..plain() },
            Sampling { repetition_penalty: 0.0, ..plain() },
        ] {
            assert!(sampling.check().is_err(), "{sampling:?}");
        }
    }
}
