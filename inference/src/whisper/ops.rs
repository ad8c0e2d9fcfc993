//! The element-wise work between the matrix products, as operations on candle's CPU tensors.
//!
//! candle's own versions call `exp` and `erf` value by value, allocate each result and, with more
//! than one thread, wait on a shared pool. On a short window that costs as much as a third of the
//! encoder, so these work in place and are written for the compiler to vectorise: no branches, no
//! library calls, sums in lanes.

use candle_core::{
    CpuStorage, CustomOp3, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result, Shape,
};
use candle_core::{Tensor, bail};

/// Whisper's epsilon in layer normalisation.
const NORM_EPSILON: f32 = 1e-5;
const LANES: usize = 16;

/// `x += bias` for every row of `x`.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<()> {
    x.inplace_op2(bias, &AddBias)
}

/// `x = gelu(x + bias)` for every row of `x`, with the exact (erf) GELU.
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<()> {
    x.inplace_op2(bias, &BiasGelu)
}

/// `x += y + bias`, `y` of `x`'s shape and `bias` for every row.
pub fn add_residual(x: &Tensor, y: &Tensor, bias: &Tensor) -> Result<()> {
    x.inplace_op3(y, bias, &AddResidual)
}

/// Softmax over the last dimension, in place.
pub fn softmax(x: &Tensor) -> Result<()> {
    x.inplace_op1(&Softmax)
}

/// Layer normalisation over the last dimension.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
    x.apply_op3_no_bwd(gamma, beta, &LayerNorm)
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

fn contiguous_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (layout.contiguous_offsets(), storage) {
        (Some((start, end)), CpuStorage::F32(values)) => Ok(&mut values[start..end]),
        _ => bail!("operand must be contiguous f32: {layout:?}"),
    }
}

struct AddBias;
struct BiasGelu;
struct AddResidual;
struct Softmax;
struct LayerNorm;

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, b: &CpuStorage, bl: &Layout) -> Result<()> {
        let bias = contiguous(b, bl)?;
        for row in contiguous_mut(x, xl)?.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
        Ok(())
    }
}

impl InplaceOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, b: &CpuStorage, bl: &Layout) -> Result<()> {
        let bias = contiguous(b, bl)?;
        for row in contiguous_mut(x, xl)?.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x = gelu(*x + b));
        }
        Ok(())
    }
}

impl InplaceOp3 for AddResidual {
    fn name(&self) -> &'static str {
        "add-residual"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        xl: &Layout,
        y: &CpuStorage,
        yl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<()> {
        let bias = contiguous(b, bl)?;
        let added = contiguous(y, yl)?.chunks_exact(bias.len());
        for (row, added) in contiguous_mut(x, xl)?.chunks_exact_mut(bias.len()).zip(added) {
            row.iter_mut().zip(added).zip(bias).for_each(|((x, y), b)| *x += y + b);
        }
        Ok(())
    }
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = layout.dims().last().copied().unwrap_or(1).max(1);
        contiguous_mut(x, layout)?.chunks_exact_mut(width).for_each(softmax_row);
        Ok(())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        gamma: &CpuStorage,
        gl: &Layout,
        beta: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gamma = contiguous(gamma, gl)?;
        let beta = contiguous(beta, bl)?;
        let x = contiguous(x, xl)?;
        let mut normed = vec![0.0; x.len()];
        let width = gamma.len();
        for (row, out) in x.chunks_exact(width).zip(normed.chunks_exact_mut(width)) {
            let mean = sum(row, |value| value) / width as f32;
            let variance = sum(row, |value| (value - mean) * (value - mean)) / width as f32;
            let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
            for (((out, x), gamma), beta) in out.iter_mut().zip(row).zip(gamma).zip(beta) {
                *out = (x - mean) * scale * gamma + beta;
            }
        }
        Ok((CpuStorage::F32(normed), xl.shape().clone()))
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
                for (weight, key) in weights.iter_mut().zip(keys.chunks_exact(head_width)) {
                    *weight = dot(query, key);
                }
                softmax_row(weights);
                let out = &mut attended[columns];
                for (weight, value) in weights.iter().zip(values.chunks_exact(head_width)) {
                    out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
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
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| term(*value)).sum::<f32>()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The highest value; minus infinity for none.
pub fn maximum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

fn softmax_row(row: &mut [f32]) {
    let highest = maximum(row);
    row.iter_mut().for_each(|value| *value = exp(*value - highest));
    let scale = 1.0 / sum(row, |value| value);
    row.iter_mut().for_each(|value| *value *= scale);
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
fn gelu(x: f32) -> f32 {
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
            assert!((f64::from(gelu(x)) - y).abs() < 5e-7, "gelu({x}) = {}, not {y}", gelu(x));
        }
    }

    #[test]
    fn softmax_rows_sum_to_one_and_keep_their_order() -> Result<()> {
        let x = Tensor::new(&[[1.0f32, 2.0, 3.0], [1000.0, 0.0, 1000.0]], &Device::Cpu)?;
        softmax(&x)?;
        let rows = x.to_vec2::<f32>()?;
        for (value, expected) in rows[0].iter().zip([0.090_030_57, 0.244_728_48, 0.665_240_94]) {
            assert!((value - expected).abs() < 1e-6);
        }
        assert_eq!(rows[1][0], 0.5);
        Ok(())
    }

    #[test]
    fn layer_norm_has_zero_mean_and_unit_variance() -> Result<()> {
        let x = Tensor::new(&[[1.0f32, 2.0, 3.0, 4.0]], &Device::Cpu)?;
        let gamma = Tensor::new(&[2.0f32; 4], &Device::Cpu)?;
        let beta = Tensor::new(&[1.0f32; 4], &Device::Cpu)?;
        let rows = layer_norm(&x, &gamma, &beta)?.to_vec2::<f32>()?;
        for (value, expected) in rows[0].iter().zip([-1.683_27, 0.105_57, 1.894_43, 3.683_27]) {
            assert!((value - expected).abs() < 1e-4, "{value} {expected}");
        }
        Ok(())
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
