//! Draws the next code, for all slots at once and on the device: a penalty for codes that were there
//! before (Keskar et al., "CTRL", 2019), temperature, the likeliest `k` (Fan et al., 2018) and of those
//! the likeliest that make up a share `p` (Holtzman et al., 2020), in this order. Shares are counted
//! anew after each cut, as the reference counts them.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::ops;
use serde::{Deserialize, Serialize};

/// Codes of one sort, which a graphics card does in the memory that a block of threads shares.
const SORTED_AT_A_TIME: usize = 4096;
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
    /// 1 for a code that was there, else 0: `[slots, codes]`.
    seen: Tensor,
    start: u32,
    codes: usize,
    device: Device,
}

impl Sampler {
    /// For `slots` streams of `codes`, each of which begins with `start`.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn new(slots: usize, codes: usize, start: u32, device: &Device) -> Result<Self> {
        let seen = Tensor::zeros((slots, codes), DType::U8, device)?;
        Ok(Self { seen, start, codes, device: device.clone() })
    }

    /// A slot begins anew.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn restart(&self, slot: usize) -> Result<()> {
        let mut fresh = vec![0u8; self.codes];
        for id in [PROMPT_FILLER, self.start] {
            if let Some(seen) = fresh.get_mut(id as usize) {
                *seen = 1;
            }
        }
        let fresh = Tensor::from_vec(fresh, (1, self.codes), &self.device)?;
        self.seen.slice_set(&fresh, 0, slot)
    }

    /// A code was read in each of these slots.
    ///
    /// # Errors
    /// There is no such slot or code.
    pub fn note(&self, read: &[(usize, u32)]) -> Result<()> {
        if read.is_empty() {
            return Ok(());
        }
        let places: Vec<u32> =
            read.iter().map(|(slot, code)| *slot as u32 * self.codes as u32 + code).collect();
        let count = places.len();
        let places = Tensor::from_vec(places, count, &self.device)?;
        let ones = Tensor::ones(count, DType::U8, &self.device)?;
        self.seen.flatten_all()?.scatter_set(&places, &ones, 0)
    }

    /// Draws a code for each row of `scores`, `[rows, codes]` in single precision. `None` where no
    /// score is finite.
    ///
    /// # Errors
    /// The shapes do not fit, or a row's numbers cannot be used.
    pub fn draw(&self, scores: &Tensor, rows: &[Row]) -> Result<Vec<Option<u32>>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let drawn = self.kept(scores, rows)?.draw()?;
        let drawn = drawn.to_vec2::<f32>()?;
        Ok(drawn
            .iter()
            .map(|row| (row[1].is_finite() && row[1] > 0.0).then_some(row[0] as u32))
            .collect())
    }

    /// What is left to draw from, `[rows, codes]` and 0 where nothing is: for tests.
    #[doc(hidden)]
    pub fn shares(&self, scores: &Tensor, rows: &[Row]) -> Result<Tensor> {
        let kept = self.kept(scores, rows)?;
        scores.zeros_like()?.scatter(&kept.ids, &kept.shares, 1)
    }

    fn kept(&self, scores: &Tensor, rows: &[Row]) -> Result<Kept> {
        let (count, codes) = scores.dims2()?;
        if count != rows.len() || codes != self.codes {
            bail!(
                "scores of {codes} codes for {count} rows, not {} for {}",
                self.codes,
                rows.len()
            );
        }
        rows.iter().try_for_each(|row| row.sampling.check())?;
        let column = |value: &dyn Fn(&Row) -> f64| {
            let values: Vec<f32> = rows.iter().map(|row| value(row) as f32).collect();
            Tensor::from_vec(values, (count, 1), &self.device)
        };
        let slots: Vec<u32> = rows.iter().map(|row| row.slot as u32).collect();
        let seen = self.seen.index_select(&Tensor::from_vec(slots, count, &self.device)?, 0)?;
        let penalty = column(&|row| row.sampling.repetition_penalty)?;
        let is_positive = scores.gt(0.0)?;
        let penalised = is_positive
            .where_cond(&scores.broadcast_div(&penalty)?, &scores.broadcast_mul(&penalty)?)?;
        let scores = seen.where_cond(&penalised, scores)?;
        // At temperature 0 one code is left, whose score does not matter.
        let is_greedy = |row: &Row| row.sampling.temperature == 0.0;
        let temperature =
            column(&|row| if is_greedy(row) { 1.0 } else { row.sampling.temperature })?;
        let scores = scores.broadcast_div(&temperature)?;

        let most = rows.iter().map(|row| row.sampling.top_k).max().unwrap_or(1).min(codes);
        let (scores, ids) = largest(&scores, most)?;
        let top_k = column(&|row| if is_greedy(row) { 1.0 } else { row.sampling.top_k as f64 })?;
        let ranks = Tensor::arange(0.0f32, most as f32, &self.device)?.reshape((1, most))?;
        let is_within = ranks.broadcast_lt(&top_k)?;
        let nothing = Tensor::full(f32::NEG_INFINITY, (count, most), &self.device)?;
        let shares = ops::softmax(&is_within.where_cond(&scores, &nothing)?, D::Minus1)?;
        // A code stays while those before it do not make up the share yet: the first one always.
        let before = (shares.cumsum(1)? - &shares)?;
        let top_p = column(&|row| row.sampling.top_p)?;
        let is_kept = before.broadcast_lt(&top_p)?;
        let kept = is_kept.where_cond(&shares, &shares.zeros_like()?)?;
        let shares = kept.broadcast_div(&kept.sum_keepdim(1)?)?;
        Ok(Kept { shares, ids, units: column(&|row| row.unit)? })
    }
}

/// Shares and the codes that have them, likeliest first: `[rows, kept]`.
struct Kept {
    shares: Tensor,
    ids: Tensor,
    units: Tensor,
}

impl Kept {
    /// `[rows, 2]`: the code drawn and its share.
    fn draw(&self) -> Result<Tensor> {
        // In the order of codes, so that nearly equal shares do not depend on who computes.
        let by_id = self.ids.arg_sort_last_dim(true)?;
        let ids = self.ids.gather(&by_id, 1)?.to_dtype(DType::F32)?;
        let shares = self.shares.gather(&by_id, 1)?;
        let sums = shares.cumsum(1)?;
        let last = sums.dim(1)? - 1;
        // The sum may fall short of 1 by a rounding.
        let reach = sums.narrow(1, last, 1)?.mul(&self.units)?;
        let index = sums.broadcast_le(&reach)?.to_dtype(DType::F32)?.sum_keepdim(1)?;
        let index = index.clamp(0.0, last as f64)?.to_dtype(DType::U32)?;
        Tensor::cat(&[ids.gather(&index, 1)?, shares.gather(&index, 1)?], 1)
    }
}

/// The largest `most` of each row and where they are, largest first.
fn largest(scores: &Tensor, most: usize) -> Result<(Tensor, Tensor)> {
    let (rows, columns) = scores.dims2()?;
    let pieces = columns.div_ceil(SORTED_AT_A_TIME);
    if pieces == 1 {
        let order = scores.contiguous()?.arg_sort_last_dim(false)?;
        let ids = order.narrow(1, 0, most)?.contiguous()?;
        return Ok((scores.gather(&ids, 1)?, ids));
    }
    // The largest of all are among the largest of each piece.
    let width = columns.div_ceil(pieces);
    let best = (0..pieces).map(|piece| {
        let first = piece * width;
        let part = scores.narrow(1, first, width.min(columns - first))?.contiguous()?;
        let order = part.arg_sort_last_dim(false)?;
        let ids = order.narrow(1, 0, most.min(part.dim(1)?))?.contiguous()?;
        Ok((part.gather(&ids, 1)?, (ids.to_dtype(DType::F32)? + first as f64)?))
    });
    let (values, ids): (Vec<_>, Vec<_>) = best.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let (values, ids) = (Tensor::cat(&values, 1)?, Tensor::cat(&ids, 1)?.to_dtype(DType::U32)?);
    debug_assert_eq!(values.dim(0)?, rows);
    let order = values.arg_sort_last_dim(false)?.narrow(1, 0, most)?.contiguous()?;
    Ok((values.gather(&order, 1)?, ids.gather(&order, 1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: usize = 9000;

    fn row(slot: usize, sampling: Sampling, unit: f64) -> Row {
        Row { slot, sampling, unit }
    }

    fn sampler(slots: usize) -> Sampler {
        let sampler = Sampler::new(slots, CODES, 8192, &Device::Cpu).expect("a sampler");
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
        // Shares of 1/4, 1/2 and 1/4, across the pieces that are sorted.
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
        let sampler = sampler(2);
        sampler.note(&[(1, 40)]).expect("noted");
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
