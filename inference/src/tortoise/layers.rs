//! Layers that several networks of Tortoise are made of. Everything is `[batch, channels, time]`.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::{Module, VarBuilder, ops};

const NORM_EPSILON: f32 = 1e-5;
/// Queries that are looked at together: a long sequence's scores need not all be held at a time.
const QUERIES: usize = 512;

/// How many groups the reference normalises so many channels in.
fn groups_of(channels: usize) -> usize {
    let mut groups = match channels {
        ..=16 => 8,
        17..=64 => 16,
        _ => 32,
    };
    while !channels.is_multiple_of(groups) {
        groups /= 2;
    }
    groups
}

/// The scale of one and the shift of nought that candle's kernel of a layer norm asks for.
#[derive(Clone, Debug)]
pub struct Plain {
    ones: Tensor,
    zeros: Tensor,
}

impl Plain {
    /// For groups of up to `count` numbers.
    fn new(count: usize, kind: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            ones: Tensor::ones(count, kind, device)?,
            zeros: Tensor::zeros(count, kind, device)?,
        })
    }

    /// For sequences like `x`.
    ///
    /// # Errors
    /// `x` has not three dimensions, or the device is out of memory.
    pub fn like(x: &Tensor) -> Result<Self> {
        let (_, channels, time) = x.dims3()?;
        Self::new(channels / groups_of(channels) * time, x.dtype(), x.device())
    }

    /// Each group of channels of `x`, over all moments, less its mean and over its deviation.
    ///
    /// # Errors
    /// The groups are larger than those that this was made for, or the device is out of memory.
    pub fn standardised(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, time) = x.dims3()?;
        let groups = groups_of(channels);
        let rows = x.reshape((batch, groups, channels / groups * time))?;
        let rows = if x.device().is_cpu() { textbook(&rows)? } else { self.kernel(&rows)? };
        rows.reshape((batch, channels, time))
    }

    /// One kernel where the steps of the textbook would be nine.
    fn kernel(&self, rows: &Tensor) -> Result<Tensor> {
        let count = rows.dim(D::Minus1)?;
        let (ones, zeros) = (self.ones.narrow(0, 0, count)?, self.zeros.narrow(0, 0, count)?);
        ops::layer_norm(rows, &ones, &zeros, NORM_EPSILON)
    }
}

/// Rows less their mean and over their deviation, step by step: candle's kernel for processors adds up
/// tens of thousands of numbers one after the other, and rounds each time.
fn textbook(rows: &Tensor) -> Result<Tensor> {
    let kind = rows.dtype();
    let rows = rows.to_dtype(DType::F32)?;
    let rows = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
    let variance = rows.sqr()?.mean_keepdim(D::Minus1)?;
    let deviation = (variance + f64::from(NORM_EPSILON))?.sqrt()?;
    rows.broadcast_div(&deviation)?.to_dtype(kind)
}

/// Group normalisation (Wu and He, "Group Normalization", 2018) with as many groups as the reference
/// takes for so many channels.
#[derive(Debug)]
pub struct Normalisation {
    weight: Tensor,
    bias: Tensor,
}

/// Loads what `channels` channels are normalised with.
///
/// # Errors
/// A tensor is missing or has another shape.
pub fn normalisation(channels: usize, vb: &VarBuilder<'_>) -> Result<Normalisation> {
    Ok(Normalisation { weight: vb.get(channels, "weight")?, bias: vb.get(channels, "bias")? })
}

impl Normalisation {
    /// The scale of each channel.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The shift of each channel.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// As [`forward`](Module::forward), for sequences that `plain` is known for.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn forward_with(&self, x: &Tensor, plain: &Plain) -> Result<Tensor> {
        plain
            .standardised(x)?
            .broadcast_mul(&self.weight.unsqueeze(1)?)?
            .broadcast_add(&self.bias.unsqueeze(1)?)
    }
}

impl Module for Normalisation {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, &Plain::like(x)?)
    }
}

/// A convolution over one place: a linear layer for each moment.
#[derive(Debug)]
pub struct Pointwise {
    /// `[outputs, inputs]`.
    weight: Tensor,
    /// `[outputs, 1]`.
    bias: Tensor,
}

impl Pointwise {
    /// `weight` is `[outputs, inputs, 1]`, `bias` `[outputs]`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get((outputs, inputs, 1), "weight")?.squeeze(2)?;
        let bias = vb.get(outputs, "bias")?.reshape((outputs, 1))?;
        Ok(Self { weight, bias })
    }

    /// This layer after the scale and the shift of `norm`, with each output times its one of
    /// `factors`: one layer with other weights.
    fn after(&self, norm: &Normalisation, factors: Vec<f32>) -> Result<Self> {
        let kind = self.weight.dtype();
        let (outputs, inputs) = self.weight.dims2()?;
        let factors = Tensor::from_vec(factors, (outputs, 1), self.weight.device())?;
        let weight = self.weight.to_dtype(DType::F32)?;
        let shift = norm.bias.to_dtype(DType::F32)?.reshape((inputs, 1))?;
        let bias = (weight.matmul(&shift)? + self.bias.to_dtype(DType::F32)?)?;
        let scale = norm.weight.to_dtype(DType::F32)?.reshape((1, inputs))?;
        let weight = weight.broadcast_mul(&scale)?.broadcast_mul(&factors)?;
        Ok(Self { weight: weight.to_dtype(kind)?, bias: (bias * factors)?.to_dtype(kind)? })
    }

    /// Two layers whose sum is this one: one for the first `inputs` inputs, and one without a bias for
    /// the rest.
    ///
    /// # Errors
    /// There are not so many inputs.
    pub fn split(self, inputs: usize) -> Result<(Self, Self)> {
        let (outputs, all) = self.weight.dims2()?;
        let first = self.weight.narrow(1, 0, inputs)?.contiguous()?;
        let rest = self.weight.narrow(1, inputs, all - inputs)?.contiguous()?;
        let none = Tensor::zeros((outputs, 1), rest.dtype(), rest.device())?;
        Ok((Self { weight: first, bias: self.bias }, Self { weight: rest, bias: none }))
    }
}

impl Module for Pointwise {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        // The sequences of a batch share the weights: they are not copied for each.
        let weight = self.weight.broadcast_as((x.dim(0)?, outputs, inputs))?;
        weight.matmul(x)?.broadcast_add(&self.bias)
    }
}

/// What the blocks of a network share for all sequences of one length: which bucket of distances each
/// pair of a query and a key falls into.
#[derive(Debug)]
pub struct Distances {
    /// `[length, length]`, queries first.
    buckets: Tensor,
    plain: Plain,
}

impl Distances {
    /// There is a table with an entry for each pair of moments: longer sequences are refused.
    pub const LONGEST: usize = 8192;
    /// Buckets on each side.
    const BUCKETS: i64 = 16;
    /// Distances from here on share the last one.
    const FARTHEST: f64 = 64.0;

    /// For sequences of `length` moments with `channels` numbers of `kind` each.
    ///
    /// # Errors
    /// The length is nought or more than [`LONGEST`](Self::LONGEST), or the device is out of memory.
    pub fn new(length: usize, channels: usize, kind: DType, device: &Device) -> Result<Self> {
        if length == 0 || length > Self::LONGEST {
            bail!("a sequence of {length} moments is not between 1 and {}", Self::LONGEST)
        }
        let last = length as i64 - 1;
        let buckets: Vec<u32> = (-last..=last).map(Self::bucket).collect();
        let buckets = Tensor::from_vec(buckets, 2 * length - 1, device)?;
        let keys = Tensor::arange(0, length as u32, device)?.unsqueeze(0)?;
        let queries = Tensor::from_vec((0..length as u32).rev().collect(), (length, 1), device)?;
        let places = queries.broadcast_add(&keys)?.flatten_all()?;
        Ok(Self {
            buckets: buckets.index_select(&places, 0)?.reshape((length, length))?,
            plain: Plain::new(channels / groups_of(channels) * length, kind, device)?,
        })
    }

    /// The normalisation of these sequences.
    pub fn plain(&self) -> &Plain {
        &self.plain
    }

    /// Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    /// Transformer", 2020: exact up to half of the buckets, logarithmic from there on. A distance is
    /// that from the query to the key.
    pub fn bucket(distance: i64) -> u32 {
        let exact = Self::BUCKETS / 2;
        let side = if distance > 0 { Self::BUCKETS } else { 0 };
        let far = distance.saturating_abs();
        let within = if far < exact {
            far
        } else {
            let scale = (Self::FARTHEST / exact as f64).ln();
            // In single precision as where the tables were trained: the borders depend on it.
            let ratio = ((far as f32 / exact as f32).ln() / scale as f32) * exact as f32;
            (exact + ratio as i64).min(Self::BUCKETS - 1)
        };
        (side + within) as u32
    }
}

/// What a layer adds to the scores for each bucket of distances.
#[derive(Debug)]
struct DistanceBias {
    /// `[heads, buckets]`.
    table: Tensor,
}

impl DistanceBias {
    fn load(heads: usize, scale: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        let buckets = 2 * Distances::BUCKETS as usize;
        let table = vb.get((buckets, heads), "relative_attention_bias.weight")?;
        Ok(Self { table: (table.t()? * scale)?.contiguous()? })
    }

    /// `[heads, count, length]` for the queries from `first` on.
    fn of(&self, distances: &Distances, first: usize, count: usize) -> Result<Tensor> {
        let buckets = distances.buckets.narrow(0, first, count)?;
        let shape = (self.table.dim(0)?, count, buckets.dim(1)?);
        self.table.index_select(&buckets.flatten_all()?, 1)?.reshape(shape)
    }
}

/// Self-attention over all moments, added to what comes in.
#[derive(Debug)]
pub struct AttentionBlock {
    /// With the scale and the shift of the normalisation before it, and with the root of the factor
    /// that scores have on queries and on keys.
    qkv: Pointwise,
    out: Pointwise,
    bias: Option<DistanceBias>,
    heads: usize,
}

impl AttentionBlock {
    /// With `relative`, scores depend on the distance too.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(
        channels: usize,
        heads: usize,
        relative: bool,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        if heads == 0 || channels == 0 || !channels.is_multiple_of(heads) {
            bail!("{channels} channels cannot be shared among {heads} heads");
        }
        let width = channels / heads;
        let bias = relative
            .then(|| {
                let scale = (width as f64).sqrt();
                DistanceBias::load(heads, scale, &vb.pp("relative_pos_embeddings"))
            })
            .transpose()?;
        let norm = normalisation(channels, &vb.pp("norm"))?;
        // A head's queries, keys and values lie beside each other.
        let scale = (width as f32).powf(-0.25);
        let is_value = |row: usize| row % (3 * width) >= 2 * width;
        let factors = (0..3 * channels).map(|row| if is_value(row) { 1.0 } else { scale });
        Ok(Self {
            qkv: Pointwise::load(channels, 3 * channels, &vb.pp("qkv"))?
                .after(&norm, factors.collect())?,
            out: Pointwise::load(channels, channels, &vb.pp("proj_out"))?,
            bias,
            heads,
        })
    }

    /// `x` is `[batch, channels, time]`; `distances` are those of its length, for blocks whose scores
    /// depend on them.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn forward(&self, x: &Tensor, distances: Option<&Distances>) -> Result<Tensor> {
        let (batch, channels, time) = x.dims3()?;
        if time == 0 {
            bail!("there is nothing to attend to");
        }
        let width = channels / self.heads;
        let standardised = match distances {
            Some(distances) => distances.plain.standardised(x)?,
            None => Plain::like(x)?.standardised(x)?,
        };
        let qkv = self.qkv.forward(&standardised)?;
        let qkv = qkv.reshape((batch, self.heads, 3 * width, time))?;
        let part = |index: usize| qkv.narrow(2, index * width, width);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let mut heard = Vec::with_capacity(time.div_ceil(QUERIES));
        for first in (0..time).step_by(QUERIES) {
            let count = QUERIES.min(time - first);
            // A product takes transposed matrices as they lie, and needs a copy of pieces only.
            let q =
                if count == time { q.clone() } else { q.narrow(3, first, count)?.contiguous()? };
            let mut scores = q.transpose(2, 3)?.matmul(&k)?;
            match (&self.bias, distances) {
                (None, _) => {}
                (Some(bias), Some(distances)) => {
                    scores = scores.broadcast_add(&bias.of(distances, first, count)?)?;
                }
                (Some(_), None) => bail!("this attention depends on distances"),
            }
            heard.push(v.matmul(&softmax(&scores)?.transpose(2, 3)?)?);
        }
        let heard = Tensor::cat(&heard, 3)?.reshape((batch, channels, time))?;
        x + self.out.forward(&heard)?
    }
}

/// Over the last dimension, in single precision whatever comes in.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let kind = scores.dtype();
    // The kernel on an accelerator sums in single precision by itself.
    if kind == DType::F32 || !scores.device().is_cpu() {
        return ops::softmax_last_dim(scores);
    }
    ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?.to_dtype(kind)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::tortoise::random::Random;

    const CPU: &Device = &Device::Cpu;

    fn drawn(shape: &[usize], seed: u64) -> Tensor {
        let count = shape.iter().product();
        Tensor::from_vec(Random::new(seed).normals(count), shape, CPU).expect("a tensor")
    }

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().and_then(|x| x.to_vec1()).expect("numbers")
    }

    #[track_caller]
    fn assert_near(actual: &Tensor, expected: &[f64]) {
        let actual = numbers(actual);
        assert_eq!(actual.len(), expected.len());
        let largest = expected.iter().fold(1.0f64, |most, value| most.max(value.abs()));
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let apart = (f64::from(*actual) - expected).abs();
            assert!(apart < 1e-5 * largest, "{actual} is not {expected} at {index}");
        }
    }

    #[test]
    fn groups_divide_the_channels() {
        let groups: Vec<usize> =
            [1, 8, 12, 16, 20, 64, 96, 100, 1024].into_iter().map(groups_of).collect();
        assert_eq!(groups, [1, 8, 4, 8, 4, 16, 32, 4, 32]);
    }

    #[test]
    fn distances_fall_into_buckets_that_grow() {
        let near: Vec<u32> = (-8..=8).map(Distances::bucket).collect();
        assert_eq!(near, [8, 7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23, 24]);
        let far: Vec<u32> =
            [10, 11, 13, 14, 22, 23, 63, 64].into_iter().map(Distances::bucket).collect();
        assert_eq!(far, [24, 25, 25, 26, 27, 28, 31, 31]);
        assert_eq!([i64::MIN, i64::MAX].map(Distances::bucket), [15, 31]);
    }

    #[test]
    fn every_pair_of_moments_has_its_bucket() {
        let distances = Distances::new(70, 8, DType::F32, CPU).expect("distances");
        let buckets: Vec<Vec<u32>> = distances.buckets.to_vec2().expect("buckets");
        for (query, buckets) in buckets.iter().enumerate() {
            for (key, bucket) in buckets.iter().enumerate() {
                assert_eq!(*bucket, Distances::bucket(key as i64 - query as i64));
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for length in [0, Distances::LONGEST + 1, usize::MAX] {
            assert!(Distances::new(length, 8, DType::F32, CPU).is_err());
        }
    }

    /// By the textbook, in double precision.
    fn normalised(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Vec<f64> {
        let (_, channels, time) = x.dims3().expect("three dimensions");
        let count = channels / groups_of(channels) * time;
        let (weight, bias) = (numbers(weight), numbers(bias));
        let mut out = Vec::new();
        for group in numbers(x).chunks(count) {
            let group: Vec<f64> = group.iter().copied().map(f64::from).collect();
            let mean = group.iter().sum::<f64>() / count as f64;
            let variance = group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
            out.extend(group.iter().map(|v| (v - mean) / (variance + 1e-5).sqrt()));
        }
        for (index, value) in out.iter_mut().enumerate() {
            let channel = index / time % channels;
            *value = *value * f64::from(weight[channel]) + f64::from(bias[channel]);
        }
        out
    }

    #[test]
    fn normalisation_is_that_of_the_textbook_for_long_groups_far_from_nought_too() {
        let (weight, bias) = (drawn(&[64], 2), drawn(&[64], 3));
        let norm = Normalisation { weight, bias };
        for (time, offset) in [(3, 0.0), (17_000, 3.0)] {
            let x = (drawn(&[2, 64, time], 1) + offset).expect("a tensor");
            let actual = norm.forward(&x).expect("normalised");
            assert_near(&actual, &normalised(&x, norm.weight(), norm.bias()));
        }
    }

    #[test]
    fn the_kernel_and_the_textbook_agree() {
        let rows = (drawn(&[2, 4, 100], 1) + 2.0).expect("rows");
        let kernel = Plain::new(120, DType::F32, CPU).and_then(|plain| plain.kernel(&rows));
        let textbook: Vec<f64> =
            numbers(&textbook(&rows).expect("the textbook")).into_iter().map(f64::from).collect();
        assert_near(&kernel.expect("the kernel"), &textbook);
    }

    #[test]
    fn a_layer_split_in_two_is_the_sum_of_both() {
        let weights = HashMap::from([
            ("weight".to_owned(), drawn(&[6, 8, 1], 1)),
            ("bias".to_owned(), drawn(&[6], 2)),
        ]);
        let vb = VarBuilder::from_tensors(weights, DType::F32, CPU);
        let load = || Pointwise::load(8, 6, &vb).expect("a layer");
        let x = drawn(&[2, 8, 5], 3);
        let whole = load().forward(&x).expect("whole");
        let (first, rest) = load().split(3).expect("two layers");
        let part = |layer: &Pointwise, from: usize, count: usize| {
            layer.forward(&x.narrow(1, from, count)?.contiguous()?)
        };
        let sum = part(&first, 0, 3).and_then(|sum| sum + part(&rest, 3, 5)?).expect("sum");
        let whole: Vec<f64> = numbers(&whole).into_iter().map(f64::from).collect();
        assert_near(&sum, &whole);
        assert!(load().split(9).is_err());
    }

    const CHANNELS: usize = 8;
    const HEADS: usize = 2;
    const WIDTH: usize = CHANNELS / HEADS;

    fn block(relative: bool) -> (AttentionBlock, HashMap<String, Tensor>) {
        let shapes: [(&str, &[usize]); 7] = [
            ("norm.weight", &[CHANNELS]),
            ("norm.bias", &[CHANNELS]),
            ("qkv.weight", &[3 * CHANNELS, CHANNELS, 1]),
            ("qkv.bias", &[3 * CHANNELS]),
            ("proj_out.weight", &[CHANNELS, CHANNELS, 1]),
            ("proj_out.bias", &[CHANNELS]),
            ("relative_pos_embeddings.relative_attention_bias.weight", &[32, HEADS]),
        ];
        let weights: HashMap<String, Tensor> = (10..)
            .zip(shapes)
            .map(|(seed, (name, shape))| (name.to_owned(), drawn(shape, seed)))
            .collect();
        let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, CPU);
        (AttentionBlock::load(CHANNELS, HEADS, relative, &vb).expect("a block"), weights)
    }

    /// By the textbook, in double precision, of one sequence.
    fn attended(x: &Tensor, weights: &HashMap<String, Tensor>, relative: bool) -> Vec<f64> {
        let time = x.dim(2).expect("a length");
        let of = |name: &str| -> Vec<f64> {
            numbers(&weights[name]).into_iter().map(f64::from).collect()
        };
        let product = |x: &[f64], name: &str, rows: usize| -> Vec<f64> {
            let (weight, bias) = (of(&format!("{name}.weight")), of(&format!("{name}.bias")));
            let mut out = Vec::new();
            for row in 0..rows {
                for at in 0..time {
                    let sum = (0..CHANNELS).map(|c| weight[row * CHANNELS + c] * x[c * time + at]);
                    out.push(bias[row] + sum.sum::<f64>());
                }
            }
            out
        };
        let qkv = normalised(x, &weights["norm.weight"], &weights["norm.bias"]);
        let qkv = product(&qkv, "qkv", 3 * CHANNELS);
        let table = of("relative_pos_embeddings.relative_attention_bias.weight");
        let mut heard = vec![0.0; CHANNELS * time];
        for head in 0..HEADS {
            let row = |part: usize, index: usize, at: usize| {
                qkv[((head * 3 + part) * WIDTH + index) * time + at]
            };
            for query in 0..time {
                let scores: Vec<f64> = (0..time)
                    .map(|key| {
                        let dot: f64 = (0..WIDTH).map(|c| row(0, c, query) * row(1, c, key)).sum();
                        let bucket = Distances::bucket(key as i64 - query as i64) as usize;
                        let bias = table[bucket * HEADS + head] * (WIDTH as f64).sqrt();
                        (dot / (WIDTH as f64).sqrt() + if relative { bias } else { 0.0 }).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for index in 0..WIDTH {
                    let sum = (0..time).map(|key| scores[key] * row(2, index, key)).sum::<f64>();
                    heard[(head * WIDTH + index) * time + query] = sum / total;
                }
            }
        }
        let out = product(&heard, "proj_out", CHANNELS);
        numbers(x).into_iter().zip(out).map(|(x, out)| f64::from(x) + out).collect()
    }

    #[test]
    fn attention_is_that_of_the_textbook_whether_in_one_piece_or_in_several() {
        for (time, relative) in [(1, true), (9, true), (9, false), (2 * QUERIES + 10, true)] {
            let (block, weights) = block(relative);
            let x = drawn(&[2, CHANNELS, time], 1);
            let distances = Distances::new(time, CHANNELS, DType::F32, CPU).expect("distances");
            let actual = block.forward(&x, relative.then_some(&distances)).expect("attention");
            for row in 0..2 {
                let (x, actual) = (x.narrow(0, row, 1), actual.narrow(0, row, 1));
                let expected = attended(&x.expect("a row"), &weights, relative);
                assert_near(&actual.expect("a row"), &expected);
            }
        }
    }

    #[test]
    fn attention_refuses_what_does_not_fit() {
        let (block, weights) = block(true);
        let distances = Distances::new(5, CHANNELS, DType::F32, CPU).expect("distances");
        let x =
            |channels, time| Tensor::zeros((1, channels, time), DType::F32, CPU).expect("zeros");
        assert!(block.forward(&x(CHANNELS, 5), Some(&distances)).is_ok());
        assert!(block.forward(&x(CHANNELS, 5), None).is_err());
        assert!(block.forward(&x(CHANNELS, 0), Some(&distances)).is_err());
        assert!(block.forward(&x(CHANNELS, 4), Some(&distances)).is_err());
        assert!(block.forward(&x(CHANNELS, 6), Some(&distances)).is_err());
        assert!(block.forward(&x(CHANNELS + 1, 5), Some(&distances)).is_err());
        let vb = VarBuilder::from_tensors(weights, DType::F32, CPU);
        for heads in [0, 3] {
            assert!(AttentionBlock::load(CHANNELS, heads, true, &vb).is_err());
        }
        assert!(AttentionBlock::load(0, HEADS, true, &vb).is_err());
    }
}
