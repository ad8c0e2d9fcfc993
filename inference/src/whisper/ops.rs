//! The element-wise work between the matrix products, as operations on candle's CPU tensors.
//!
//! candle's own versions call `exp` and `erf` value by value, allocate each result and, with more
//! than one thread, wait on a shared pool. On a short window that costs as much as a third of the
//! encoder, so these work in place and are written for the compiler to vectorise: no branches, no
//! library calls, sums in lanes.

use std::cell::RefCell;

use candle_core::{
    CpuStorage, CustomOp3, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail,
};

/// Whisper's epsilon in layer normalisation.
const NORM_EPSILON: f32 = 1e-5;
const LANES: usize = 16;

/// What `read` makes of the values of `x`, which are contiguous.
pub fn read<T>(x: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(contiguous(storage, layout)?)),
        _ => bail!("operand must be in memory"),
    }
}

/// Has `update` change the values of `x`, which are contiguous, in place.
pub fn update(x: &Tensor, update: impl FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
    x.inplace_op1(&Update(RefCell::new(update)))
}

/// `x = x Φ(x)` for each, the exact (erf) GELU.
pub fn gelu(values: &mut [f32]) {
    for value in values {
        *value = gelu_value(*value);
    }
}

/// Layer normalisation of one row.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
    let width = x.len();
    let (gamma, beta, out) = (&gamma[..width], &beta[..width], &mut out[..width]);
    let mean = sum(x, |value| value) / width as f32;
    let variance = sum(x, |value| (value - mean) * (value - mean)) / width as f32;
    let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
    for index in 0..width {
        out[index] = (x[index] - mean) * scale * gamma[index] + beta[index];
    }
}

/// Attention of a few new rows to cached keys and values.
///
/// `queries` is (rows, heads × head width), already scaled; `keys` and `values` are
/// (heads, capacity, head width), of which `Attend::first_row_sees` positions are visible to the
/// first row. Returns (rows, heads × head width).
pub fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor, attend: Attend) -> Result<Tensor> {
    queries.apply_op3_no_bwd(keys, values, &attend)
}

/// What the rows of [`attend`] may see.
#[derive(Clone, Copy)]
pub struct Attend {
    /// Positions that the first row sees.
    pub first_row_sees: usize,
    /// Whether each further row sees one position more.
    pub causal: bool,
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("operand must be contiguous: {layout:?}"),
    }
}

struct Update<F>(RefCell<F>);

impl<F: FnMut(&mut [f32]) -> Result<()>> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (layout.contiguous_offsets(), x) {
            (Some((start, end)), CpuStorage::F32(values)) => {
                (self.0.borrow_mut())(&mut values[start..end])
            }
            _ => bail!("operand must be contiguous f32: {layout:?}"),
        }
    }
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = ql.shape().dims2()?;
        let (heads, capacity, head_width) = kl.shape().dims3()?;
        let last_row_sees = self.first_row_sees + if self.causal { rows - 1 } else { 0 };
        if heads * head_width != width || kl.shape() != vl.shape() || last_row_sees > capacity {
            bail!("attention of {:?} to {:?} and {:?}", ql.shape(), kl.shape(), vl.shape());
        }
        let queries = contiguous(q, ql)?;
        let keys = contiguous(k, kl)?;
        let values = contiguous(v, vl)?;
        let mut attended = vec![0.0; rows * width];
        let mut weights = vec![0.0; last_row_sees];
        for head in 0..heads {
            let cached = head * capacity * head_width..(head + 1) * capacity * head_width;
            let (keys, values) = (&keys[cached.clone()], &values[cached]);
            for row in 0..rows {
                let sees = self.first_row_sees + if self.causal { row } else { 0 };
                let columns =
                    row * width + head * head_width..row * width + (head + 1) * head_width;
                let weights = &mut weights[..sees];
                let query = &queries[columns.clone()];
                for (index, weight) in weights.iter_mut().enumerate() {
                    *weight = dot(query, &keys[index * head_width..(index + 1) * head_width]);
                }
                softmax_row(weights);
                let out = &mut attended[columns][..head_width];
                for (index, weight) in weights.iter().enumerate() {
                    let value = &values[index * head_width..(index + 1) * head_width];
                    for column in 0..head_width {
                        out[column] += weight * value[column];
                    }
                }
            }
        }
        Ok((CpuStorage::F32(attended), ql.shape().clone()))
    }
}

/// Sum of `term(value)`, in lanes so that it vectorises.
#[inline]
pub fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += term(chunk[lane]);
        }
    }
    total(lanes) + rest.iter().map(|value| term(*value)).sum::<f32>()
}

/// The sum of all lanes, by halves.
#[inline]
fn total(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    total(lanes) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The highest value; minus infinity for none.
pub fn maximum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            let value = chunk[lane];
            lanes[lane] = if value > lanes[lane] { value } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

fn softmax_row(row: &mut [f32]) {
    let highest = maximum(row);
    for value in row.iter_mut() {
        *value = exp(*value - highest);
    }
    let scale = 1.0 / sum(row, |value| value);
    for value in row.iter_mut() {
        *value *= scale;
    }
}

/// `e^x` within 3e-7 relative for -87 ≤ x ≤ 88; beyond, the value at the bound.
///
/// Cephes' `expf`: x = n ln 2 + r, a polynomial for e^r, and 2^n through the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding and taking away 1.5 × 2^23 rounds to the nearest integer.
    const ROUNDER: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let power = (p * r) * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) << 23;
    f32::from_bits(power.to_bits().wrapping_add(exponent))
}

/// `x Φ(x)` within 5e-7, with erf by Abramowitz and Stegun, 7.1.26.
#[inline(always)]
fn gelu_value(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_8;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let tail = p * t * exp(-z * z);
    // erf(-z) = -erf(z)
    let erf = (1.0 - tail).copysign(x);
    0.5 * x * (1.0 + erf)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn exp_is_within_3e_7_of_the_library() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn gelu_has_the_values_of_the_error_function() {
        // x Φ(x) to ten digits.
        let expected = [
            (-3.0, -0.004_049_694_1),
            (-1.0, -0.158_655_253_9),
            (-0.1, -0.046_017_216_3),
            (0.0, 0.0),
            (0.5, 0.345_731_230_6),
            (1.0, 0.841_344_746_1),
            (2.0, 1.954_499_736_1),
            (10.0, 10.0),
        ];
        for (x, y) in expected {
            assert!(
                (f64::from(gelu_value(x)) - y).abs() < 5e-7,
                "gelu({x}) = {}, not {y}",
                gelu_value(x)
            );
        }
    }

    #[test]
    fn softmax_rows_sum_to_one_and_keep_their_order() {
        let mut row = [1.0, 2.0, 3.0];
        softmax_row(&mut row);
        for (value, expected) in row.iter().zip([0.090_030_57, 0.244_728_48, 0.665_240_94]) {
            assert!((value - expected).abs() < 1e-6);
        }
        let mut row = [1000.0, 0.0, 1000.0];
        softmax_row(&mut row);
        assert_eq!(row[0], 0.5);
    }

    #[test]
    fn layer_norm_has_zero_mean_and_unit_variance() {
        let mut out = [0.0; 4];
        layer_norm(&[1.0, 2.0, 3.0, 4.0], &[2.0; 4], &[1.0; 4], &mut out);
        for (value, expected) in out.iter().zip([-1.683_27, 0.105_57, 1.894_43, 3.683_27]) {
            assert!((value - expected).abs() < 1e-4, "{value} {expected}");
        }
    }

    #[test]
    fn attention_sees_no_position_after_its_own() -> Result<()> {
        let cpu = &Device::Cpu;
        let queries = Tensor::new(&[[0.0f32, 0.0], [0.0, 0.0]], cpu)?;
        let keys = Tensor::zeros((1, 4, 2), candle_core::DType::F32, cpu)?;
        let values = Tensor::new(&[[[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0], [9.0, 9.0]]], cpu)?;
        let causal = Attend { first_row_sees: 1, causal: true };
        let rows = attend(&queries, &keys, &values, causal)?.to_vec2::<f32>()?;
        assert_eq!(rows, [[1.0, 2.0], [2.0, 3.0]]);
        let all = Attend { first_row_sees: 3, causal: false };
        let rows = attend(&queries, &keys, &values, all)?.to_vec2::<f32>()?;
        assert!((rows[1][0] - 3.0).abs() < 1e-6);
        Ok(())
    }
}
