//! The decoder: tokens in, scores of the next token out, with every key and value kept.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::{FeedForward, Loader, Norm};
use crate::whisper::config::Dimensions;
use crate::whisper::linear::Linear;
use crate::whisper::ops::{self, Attend};
use crate::whisper::weights::Weights;
use crate::whisper::{Precision, WhisperError};

/// The text half of the network.
pub struct Decoder {
    /// (vocabulary, width).
    embeddings: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    /// The embeddings again, as the projection to scores.
    head: Linear,
}

struct Layer {
    norm: Norm,
    qkv: Linear,
    out: Linear,
    cross_norm: Norm,
    cross_query: Linear,
    cross_kv: Linear,
    cross_out: Linear,
    heads: usize,
    feed_forward: FeedForward,
}

/// Keys and values of one request: the audio's, and those of the tokens so far.
pub struct DecoderState {
    layers: Vec<LayerState>,
    length: usize,
    capacity: usize,
}

/// Each (heads, positions, head width); the text's are preallocated to the request's capacity.
struct LayerState {
    keys: Tensor,
    values: Tensor,
    cross_keys: Tensor,
    cross_values: Tensor,
}

impl DecoderState {
    /// Tokens that the caches hold.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.length
    }

    /// Forgets all tokens after the first `length`.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl Decoder {
    /// Reads the decoder's weights.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`], [`WhisperError::Io`], [`WhisperError::Compute`].
    pub fn load(
        weights: &mut Weights,
        dimensions: &Dimensions,
        precision: Precision,
    ) -> std::result::Result<Self, WhisperError> {
        let Dimensions { width, decoder_heads: heads, vocabulary, .. } = *dimensions;
        let mut loader = Loader { weights, dimensions, precision };
        let mut layers = Vec::with_capacity(dimensions.decoder_layers);
        for index in 0..dimensions.decoder_layers {
            let layer = format!("decoder/layer_{index}");
            let (norm, qkv, out) = loader.self_attention(&layer, heads)?;
            layers.push(Layer {
                norm,
                qkv,
                out,
                cross_norm: loader.norm(&format!("{layer}/attention/layer_norm"))?,
                cross_query: loader.queries(
                    &format!("{layer}/attention/linear_0"),
                    width,
                    heads,
                )?,
                cross_kv: loader.linear(
                    &format!("{layer}/attention/linear_1"),
                    2 * width,
                    width,
                )?,
                cross_out: loader.linear(&format!("{layer}/attention/linear_2"), width, width)?,
                heads,
                feed_forward: loader.feed_forward(&layer)?,
            });
        }
        let table =
            loader.weights.read_shaped("decoder/embeddings/weight", &[vocabulary, width])?;
        let embeddings = match precision {
            Precision::F32 => Tensor::from_slice(&table, (vocabulary, width), &Device::Cpu)?,
            // Published weights are f16, so half the memory loses nothing.
            Precision::Int8 => Tensor::from_slice(&table, (vocabulary, width), &Device::Cpu)?
                .to_dtype(DType::F16)?,
        };
        let positions = loader.positions("decoder", dimensions.text_positions)?;
        let head = Linear::new(table, vec![0.0; vocabulary], width, precision)?;
        Ok(Self {
            embeddings,
            positions: Tensor::from_vec(
                positions,
                (dimensions.text_positions, width),
                &Device::Cpu,
            )?,
            norm: loader.norm("decoder/layer_norm")?,
            layers,
            head,
        })
    }

    /// All matrices, in the order of their use: those of the audio, then those of each token.
    pub fn linears(&mut self) -> Vec<&mut Linear> {
        let (mut audio, mut token) = (Vec::new(), Vec::new());
        for layer in &mut self.layers {
            let FeedForward { rise, fall, .. } = &mut layer.feed_forward;
            audio.push(&mut layer.cross_kv);
            token.extend([&mut layer.qkv, &mut layer.out]);
            token.extend([&mut layer.cross_query, &mut layer.cross_out, rise, fall]);
        }
        audio.extend(token);
        audio.push(&mut self.head);
        audio
    }

    /// Caches for a request of up to `capacity` tokens over the encoder's output (positions, width).
    pub fn begin(&self, audio: &Tensor, capacity: usize) -> Result<DecoderState> {
        let capacity = capacity.min(self.positions.dim(0)?);
        let (positions, width) = audio.dims2()?;
        let mut inputs = self.head.room();
        ops::read(audio, |audio| inputs.set(audio, width))?;
        let mut kv = vec![0.0; positions * 2 * width];
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let head_width = width / layer.heads;
            layer.cross_kv.apply(&inputs, &mut kv)?;
            let audio = (layer.heads, positions, head_width);
            let part = |kind: usize| {
                let values = by_head(&kv, kind * width..(kind + 1) * width, head_width);
                Tensor::from_vec(values, audio, &Device::Cpu)
            };
            let text = (layer.heads, capacity, head_width);
            layers.push(LayerState {
                keys: Tensor::zeros(text, DType::F32, &Device::Cpu)?,
                values: Tensor::zeros(text, DType::F32, &Device::Cpu)?,
                cross_keys: part(0)?,
                cross_values: part(1)?,
            });
        }
        Ok(DecoderState { layers, length: 0, capacity })
    }

    /// Appends tokens to the caches; returns their last hidden states (tokens, width).
    pub fn forward(&self, tokens: &[u32], state: &mut DecoderState) -> Result<Tensor> {
        if tokens.len() > state.room() {
            candle_core::bail!("{} tokens exceed the room of {}", tokens.len(), state.room());
        }
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        let x = self.embeddings.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        let x = (x + self.positions.narrow(0, state.length, tokens.len())?)?;
        for (layer, cache) in self.layers.iter().zip(&state.layers) {
            layer.add_to(&x, cache, state.length)?;
        }
        state.length += tokens.len();
        self.norm.forward(&x)
    }

    /// Scores of the token that follows row `row` of [`forward`](Self::forward)'s result, one per
    /// token id.
    pub fn scores(&self, hidden: &Tensor, row: usize) -> Result<Vec<f32>> {
        self.head.forward(&hidden.narrow(0, row, 1)?)?.flatten_all()?.to_vec1()
    }
}

/// Some columns of `kv`, rows of keys and values, as (heads, rows, head width).
fn by_head(kv: &[f32], columns: Range<usize>, head_width: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(kv.len() / 2);
    for start in columns.clone().step_by(head_width) {
        for row in kv.chunks_exact(2 * columns.len()) {
            values.extend_from_slice(&row[start..start + head_width]);
        }
    }
    values
}

impl Layer {
    fn add_to(&self, x: &Tensor, cache: &LayerState, past: usize) -> Result<()> {
        let (rows, width) = x.dims2()?;
        let split = |qkv: &Tensor, kind: usize| {
            let part = qkv.narrow(1, kind * width, width)?.contiguous()?;
            part.reshape((rows, self.heads, width / self.heads))?.transpose(0, 1)?.contiguous()
        };
        let qkv = self.qkv.forward(&self.norm.forward(x)?)?;
        cache.keys.slice_set(&split(&qkv, 1)?, 1, past)?;
        cache.values.slice_set(&split(&qkv, 2)?, 1, past)?;
        let queries = qkv.narrow(1, 0, width)?.contiguous()?;
        let visible = Attend { first_row_sees: past + 1, causal: true };
        let attended = ops::attend(&queries, &cache.keys, &cache.values, visible)?;
        self.out.add_to(x, &attended)?;

        let queries = self.cross_query.forward(&self.cross_norm.forward(x)?)?;
        let all = Attend { first_row_sees: cache.cross_keys.dim(1)?, causal: false };
        let attended = ops::attend(&queries, &cache.cross_keys, &cache.cross_values, all)?;
        self.cross_out.add_to(x, &attended)?;
        self.feed_forward.add_to(x)
    }
}
