//! Layers that several networks of Tortoise are made of. Everything is `[batch, channels, time]`.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::{GroupNorm, Module, VarBuilder, group_norm, ops};

const NORM_EPSILON: f64 = 1e-5;
/// Queries that are looked at together: a long sequence's scores need not all be held at a time.
const QUERIES: usize = 512;

/// Group normalisation with as many groups as the reference takes for so many channels.
///
/// # Errors
/// A tensor is missing or has another shape.
pub fn normalisation(channels: usize, vb: VarBuilder<'_>) -> Result<GroupNorm> {
    let mut groups = match channels {
        ..=16 => 8,
        17..=64 => 16,
        _ => 32,
    };
    while channels % groups != 0 {
        groups /= 2;
    }
    group_norm(groups, channels, NORM_EPSILON, vb)
}

/// A convolution over one place: a linear layer for each moment.
#[derive(Debug)]
pub struct Pointwise {
    weight: Tensor,
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
}

impl Module for Pointwise {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.weight.broadcast_matmul(x)?.broadcast_add(&self.bias)
    }
}

/// Which bucket of distances each pair of a query and a key falls into: equal for all layers of a
/// network, and for all sequences of one length.
#[derive(Debug)]
pub struct Distances {
    /// `[length, length]`, queries first.
    buckets: Tensor,
}

impl Distances {
    /// Buckets on each side.
    const BUCKETS: i64 = 16;
    /// Distances from here on share the last one.
    const FARTHEST: f64 = 64.0;

    /// For sequences of `length` moments.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn new(length: usize, device: &Device) -> Result<Self> {
        let steps = length as i64;
        let buckets: Vec<u32> = (0..steps)
            .flat_map(|query| (0..steps).map(move |key| Self::bucket(key - query)))
            .collect();
        Ok(Self { buckets: Tensor::from_vec(buckets, (length, length), device)? })
    }

    /// Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    /// Transformer", 2020: exact up to half of the buckets, logarithmic from there on.
    pub fn bucket(distance: i64) -> u32 {
        let exact = Self::BUCKETS / 2;
        let side = if distance > 0 { Self::BUCKETS } else { 0 };
        let far = distance.abs();
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
    norm: GroupNorm,
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
        if heads == 0 || channels % heads != 0 {
            bail!("{channels} channels cannot be shared among {heads} heads");
        }
        let scale = ((channels / heads) as f64).sqrt();
        let bias = relative
            .then(|| DistanceBias::load(heads, scale, &vb.pp("relative_pos_embeddings")))
            .transpose()?;
        Ok(Self {
            norm: normalisation(channels, vb.pp("norm"))?,
            qkv: Pointwise::load(channels, 3 * channels, &vb.pp("qkv"))?,
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
        let width = channels / self.heads;
        let qkv = self.qkv.forward(&self.norm.forward(x)?)?;
        // A head's queries, keys and values lie beside each other.
        let qkv = qkv.reshape((batch, self.heads, 3 * width, time))?;
        let scale = (width as f64).powf(-0.25);
        let q = (qkv.narrow(2, 0, width)? * scale)?.transpose(2, 3)?.contiguous()?;
        let k = (qkv.narrow(2, width, width)? * scale)?;
        let v = qkv.narrow(2, 2 * width, width)?.transpose(2, 3)?.contiguous()?;
        let mut heard = Vec::with_capacity(time.div_ceil(QUERIES));
        for first in (0..time).step_by(QUERIES) {
            let count = QUERIES.min(time - first);
            let mut scores = q.narrow(2, first, count)?.contiguous()?.matmul(&k)?;
            match (&self.bias, distances) {
                (None, _) => {}
                (Some(bias), Some(distances)) => {
                    scores = scores.broadcast_add(&bias.of(distances, first, count)?)?;
                }
                (Some(_), None) => bail!("this attention depends on distances"),
            }
            heard.push(softmax(&scores)?.matmul(&v)?);
        }
        let heard = Tensor::cat(&heard, 2)?.transpose(2, 3)?.reshape((batch, channels, time))?;
        x + self.out.forward(&heard)?
    }
}

/// Over the last dimension, in single precision whatever comes in.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let kind = scores.dtype();
    if kind == DType::F32 {
        return ops::softmax_last_dim(scores);
    }
    ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?.to_dtype(kind)
}
