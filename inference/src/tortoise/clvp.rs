//! How well codes fit a text: two transformers, one that reads and one that listens, whose results
//! lie close to each other where both say the same (Radford et al., "Learning Transferable Visual
//! Models From Natural Language Supervision", 2021, for speech).
//!
//! Their layers are normalised by the root mean square before (Zhang and Sennrich, "Root Mean
//! Square Layer Normalization", 2019), turn half of each head by its place (Su et al., "RoFormer:
//! Enhanced Transformer with Rotary Position Embedding", 2021), the values too, and have gated
//! feed-forward parts (Shazeer, "GLU Variants Improve Transformer", 2020).

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::{
    Embedding, LayerNorm, Linear, Module, VarBuilder, embedding, layer_norm, linear,
    linear_no_bias, ops, rotary_emb,
};
use serde::{Deserialize, Serialize};

/// Width of a head, whatever the width of the network.
const HEAD: usize = 64;
/// How much of a head is turned.
const TURNED: usize = 32;
const TURN_BASE: f64 = 10_000.0;
/// How much wider the feed-forward parts are than the network.
const FEED_FORWARD: usize = 2;
const LAYER_NORM_EPSILON: f64 = 1e-5;
/// Of a mean square: the root is at least 1e-8.
const MEAN_SQUARE_EPSILON: f32 = 1e-16;
const SHORTEST: f64 = 1e-12;
/// Candidates that are listened to at a time: the scores of attention are large.
const CANDIDATES: usize = 32;

/// Sizes of the pair of transformers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClvpConfig {
    /// Width of both.
    pub width: usize,
    /// Layers of each.
    pub depth: usize,
    /// Heads of a layer, each 64 wide.
    pub heads: usize,
    /// Width of what is compared.
    pub latent: usize,
    /// Different ids of a text.
    pub text_ids: usize,
    /// Different codes.
    pub codes: usize,
}

impl Default for ClvpConfig {
    fn default() -> Self {
        Self { width: 768, depth: 20, heads: 12, latent: 768, text_ids: 256, codes: 8192 }
    }
}

/// The pair.
#[derive(Debug)]
pub struct Clvp {
    text: Encoder,
    speech: Encoder,
    scale: Tensor,
}

impl Clvp {
    /// Of the tensors of their checkpoint.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or the sizes make no network.
    pub fn load(config: &ClvpConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            text: Encoder::load(config, "text", config.text_ids, vb)?,
            speech: Encoder::load(config, "speech", config.codes, vb)?,
            scale: vb.get((), "temperature")?.exp()?,
        })
    }

    /// How well each candidate fits, `[candidates]`: the larger the better, in single precision.
    /// `text` holds the ids of one text for all or one for each, ended by a zero, `[1 or candidates,
    /// ids]`; `codes` are `[candidates, codes]`, all of one length: the reference pads them to the
    /// longest there can be. Ids and codes are less than the config's numbers of them.
    ///
    /// # Errors
    /// The shapes do not fit, there is no text or no code, or the device is out of memory.
    pub fn scores(&self, text: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let (texts, candidates) = (text.dims2()?.0, codes.dims2()?.0);
        if candidates == 0 || (texts != 1 && texts != candidates) {
            bail!("{texts} texts cannot be compared with {candidates} candidates")
        }
        let text = self.text.latents(text)?;
        let mut scores = Vec::with_capacity(candidates.div_ceil(CANDIDATES));
        for first in (0..candidates).step_by(CANDIDATES) {
            let count = CANDIDATES.min(candidates - first);
            let speech = self.speech.latents(&codes.narrow(0, first, count)?)?;
            let text = if texts == 1 { text.clone() } else { text.narrow(0, first, count)? };
            scores.push(speech.broadcast_mul(&text)?.sum(D::Minus1)?);
        }
        let scores = Tensor::cat(&scores, 0)?.broadcast_mul(&self.scale)?;
        scores.to_dtype(DType::F32)
    }

    /// What reads.
    pub fn text(&self) -> &Encoder {
        &self.text
    }

    /// What listens.
    pub fn speech(&self) -> &Encoder {
        &self.speech
    }
}

/// One of the transformers.
#[derive(Debug)]
pub struct Encoder {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: LayerNorm,
    latent: Linear,
    /// Turns for each step, in double precision.
    frequencies: Vec<f64>,
}

impl Encoder {
    fn load(config: &ClvpConfig, name: &str, ids: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        if [config.width, config.heads, config.latent, ids].contains(&0) {
            bail!("no network has the sizes of {config:?}")
        }
        let transformer = vb.pp(format!("{name}_transformer.transformer"));
        let layers = transformer.pp("attn_layers.layers");
        let layer = |index: usize| Layer::load(config, &layers, index);
        let turns = transformer.pp("attn_layers.rotary_pos_emb");
        let frequencies = if turns.contains_tensor("inv_freq") {
            let stored = turns.get(TURNED / 2, "inv_freq")?;
            stored.to_dtype(DType::F64)?.to_vec1()?
        } else {
            (0..TURNED / 2)
                .map(|index| TURN_BASE.powf(-((2 * index) as f64) / TURNED as f64))
                .collect()
        };
        Ok(Self {
            embedding: embedding(ids, config.width, vb.pp(format!("{name}_emb")))?,
            layers: (0..config.depth).map(layer).collect::<Result<_>>()?,
            norm: layer_norm(config.width, LAYER_NORM_EPSILON, transformer.pp("norm"))?,
            latent: linear_no_bias(
                config.width,
                config.latent,
                vb.pp(format!("to_{name}_latent")),
            )?,
            frequencies,
        })
    }

    /// What is compared, of length one: `[batch, latent]` of ids, `[batch, length]`.
    ///
    /// # Errors
    /// There are no ids, or the device is out of memory.
    pub fn latents(&self, ids: &Tensor) -> Result<Tensor> {
        let latents = self.latent.forward(&self.encode(ids)?.mean(1)?)?;
        let length = latents.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(SHORTEST)?;
        latents.broadcast_div(&length)
    }

    /// `[batch, length, width]` of ids, `[batch, length]`.
    ///
    /// # Errors
    /// There are no ids, or the device is out of memory.
    pub fn encode(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        if batch == 0 || length == 0 {
            bail!("{:?} ids cannot be encoded", ids.dims())
        }
        let mut x = self.embed(ids)?;
        let turns = self.turns(length, x.dtype(), x.device())?;
        for layer in &self.layers {
            x = layer.forward(&x, &turns)?;
        }
        self.norm.forward(&x)
    }

    /// `[batch, length, width]` of ids, `[batch, length]`, before the first layer.
    ///
    /// # Errors
    /// An id is too large.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.embedding.forward(&ids.contiguous()?)
    }

    /// How the heads are turned at each of `length` places.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn turns(&self, length: usize, kind: DType, device: &Device) -> Result<Turns> {
        let still = HEAD / 2 - self.frequencies.len();
        let angles = || {
            (0..length).flat_map(|place| {
                let turned = self.frequencies.iter().map(move |turn| place as f64 * turn);
                turned.chain(std::iter::repeat_n(0.0, still))
            })
        };
        let table = |of: fn(f64) -> f64| {
            let values = angles().map(|angle| of(angle) as f32);
            Tensor::from_iter(values, device)?.reshape((length, HEAD / 2))?.to_dtype(kind)
        };
        Ok(Turns { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

/// How heads are turned at each place: `[length, HEAD / 2]`, nothing where they are not.
#[derive(Debug)]
pub struct Turns {
    cos: Tensor,
    sin: Tensor,
}

/// A layer: attention and the feed-forward part, each added to what comes in.
#[derive(Debug)]
pub struct Layer {
    norm: Tensor,
    qkv: Linear,
    out: Linear,
    heads: usize,
    feed_norm: Tensor,
    feed_in: Linear,
    feed_out: Linear,
}

impl Layer {
    fn load(config: &ClvpConfig, vb: &VarBuilder<'_>, index: usize) -> Result<Self> {
        let (width, heads) = (config.width, config.heads);
        let (attention, feed) = (vb.pp(2 * index), vb.pp(2 * index + 1));
        let part = attention.pp("1.wrap");
        let order = order(heads, vb.device())?;
        let shape = (heads * HEAD, width);
        let qkv = ["to_q", "to_k", "to_v"]
            .map(|name| part.pp(name).get(shape, "weight")?.index_select(&order, 0));
        let qkv = qkv.into_iter().collect::<Result<Vec<_>>>()?;
        let out = part.pp("to_out");
        let out_weight = out.get((width, heads * HEAD), "weight")?.index_select(&order, 1)?;
        let net = feed.pp("1.wrap.net");
        let inner = FEED_FORWARD * width;
        Ok(Self {
            norm: attention.get(width, "0.0.g")?,
            qkv: Linear::new(Tensor::cat(&qkv, 0)?, None),
            out: Linear::new(out_weight, Some(out.get(width, "bias")?)),
            heads,
            feed_norm: feed.get(width, "0.0.g")?,
            feed_in: linear(width, 2 * inner, net.pp("0.proj"))?,
            feed_out: linear(inner, width, net.pp(3))?,
        })
    }

    fn forward(&self, x: &Tensor, turns: &Turns) -> Result<Tensor> {
        let x = (x + self.attend(&self.normalised(x)?, turns)?)?;
        let normalised = ops::rms_norm(&x, &self.feed_norm, MEAN_SQUARE_EPSILON)?;
        &x + self.feed(&normalised)?
    }

    /// What attention hears of `x`, `[batch, length, width]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn normalised(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.norm, MEAN_SQUARE_EPSILON)
    }

    /// Attention over all places, of normalised `x`, `[batch, length, width]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn attend(&self, x: &Tensor, turns: &Turns) -> Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        let heads = self.heads;
        let qkv = self.qkv.forward(x)?.reshape((batch, length, 3 * heads, HEAD))?;
        let qkv = qkv.transpose(1, 2)?.contiguous()?;
        // All three are turned.
        let qkv = rotary_emb::rope(&qkv, &turns.cos, &turns.sin)?;
        let q = (qkv.narrow(1, 0, heads)? * (HEAD as f64).powf(-0.5))?;
        let k = qkv.narrow(1, heads, heads)?.contiguous()?;
        let v = qkv.narrow(1, 2 * heads, heads)?.contiguous()?;
        let scores = ops::softmax_last_dim(&q.matmul(&k.t()?)?)?;
        let heard = scores.matmul(&v)?.transpose(1, 2)?.reshape((batch, length, heads * HEAD))?;
        self.out.forward(&heard)
    }

    /// The feed-forward part, of normalised `x`, `[batch, length, width]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn feed(&self, x: &Tensor) -> Result<Tensor> {
        let wide = self.feed_in.forward(x)?;
        let inner = wide.dim(2)? / 2;
        let gate = wide.narrow(2, inner, inner)?.gelu_erf()?;
        self.feed_out.forward(&(wide.narrow(2, 0, inner)? * gate)?)
    }
}

/// Where the channels of each head come from, so that turning the whole of it, half against half,
/// turns what is to be turned, and leaves the rest.
fn order(heads: usize, device: &Device) -> Result<Tensor> {
    let (pairs, half) = (TURNED / 2, HEAD / 2);
    let still = half - pairs;
    let within =
        (0..pairs).chain(TURNED..TURNED + still).chain(pairs..TURNED).chain(TURNED + still..HEAD);
    let all = (0..heads)
        .flat_map(|head| within.clone().map(move |channel| (head * HEAD + channel) as u32));
    Tensor::from_iter(all, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turned_channels_of_a_head_stand_half_a_head_apart() {
        let order = order(2, &Device::Cpu).unwrap().to_vec1::<u32>().unwrap();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..128).collect::<Vec<_>>());
        for pair in 0..16 {
            assert_eq!((order[pair], order[pair + 32]), (pair as u32, pair as u32 + 16));
            assert_eq!((order[pair + 16], order[pair + 48]), (pair as u32 + 32, pair as u32 + 48));
            assert_eq!(order[64 + pair], 64 + pair as u32);
        }
    }
}
