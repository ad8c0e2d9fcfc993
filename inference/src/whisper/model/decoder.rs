//! The decoder: tokens in, scores of the next token out, with every key and value kept.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::{FeedForward, Loader, Norm};
use crate::arena::Arena;
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

/// Keys and values of one window's audio for every layer, each (heads, positions, head width).
/// Cheap to clone: the values are shared.
#[derive(Clone, Debug)]
pub struct Audio {
    layers: Vec<(Tensor, Tensor)>,
    positions: usize,
}

impl Audio {
    /// Encoder positions of the window, 20 ms each.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// Keys and values of the tokens of one request, beside those of its audio. Storage for the most
/// tokens that fit is there from the beginning and is used again by the next request.
pub struct DecoderState {
    layers: Vec<LayerState>,
    audio: Option<Audio>,
    length: usize,
    capacity: usize,
}

/// Each (heads, capacity, head width).
struct LayerState {
    keys: Tensor,
    values: Tensor,
}

impl DecoderState {
    /// Forgets all tokens, and goes on over another window.
    pub fn restart(&mut self, audio: Audio) {
        self.audio = Some(audio);
        self.length = 0;
    }

    /// Forgets all tokens after the first `length`.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

/// Tokens of one request and the state that they go on from.
pub struct StatefulSpan<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// What the request has read before.
    pub state: &'a mut DecoderState,
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
        let mut loader = Loader { weights, dimensions, precision, arena: Arena::default() };
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
        let head = Linear::new(table, vec![0.0; vocabulary], width, precision, &mut loader.arena)?;
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

    /// Keys and values of the encoder's output (positions, width), for all requests over it.
    pub fn attend_to(&self, encoded: &Tensor) -> Result<Audio> {
        let (positions, width) = encoded.dims2()?;
        let mut inputs = self.head.room();
        ops::read(encoded, |encoded| inputs.set(encoded, width))?;
        let mut kv = vec![0.0; positions * 2 * width];
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let head_width = width / layer.heads;
            layer.cross_kv.apply(&inputs, &mut kv)?;
            let shape = (layer.heads, positions, head_width);
            let part = |kind: usize| {
                let values = by_head(&kv, kind * width..(kind + 1) * width, head_width);
                Tensor::from_vec(values, shape, &Device::Cpu)
            };
            layers.push((part(0)?, part(1)?));
        }
        Ok(Audio { layers, positions })
    }

    /// Storage for requests of up to `capacity` tokens.
    pub fn new_state(&self, capacity: usize) -> Result<DecoderState> {
        let (most, width) = self.positions.dims2()?;
        let capacity = capacity.min(most);
        let empty = |layer: &Layer| {
            let text = (layer.heads, capacity, width / layer.heads);
            Ok(LayerState {
                keys: Tensor::zeros(text, DType::F32, &Device::Cpu)?,
                values: Tensor::zeros(text, DType::F32, &Device::Cpu)?,
            })
        };
        let layers = self.layers.iter().map(empty).collect::<Result<_>>()?;
        Ok(DecoderState { layers, audio: None, length: 0, capacity })
    }

    /// Appends each span's tokens to its state; every weight is read once for all of them. Returns
    /// the hidden states of all tokens, one span after the other, (tokens, width).
    pub fn forward(&self, spans: &mut [StatefulSpan<'_>]) -> Result<Tensor> {
        let mut ids: Vec<u32> = Vec::new();
        let mut places: Vec<u32> = Vec::new();
        for StatefulSpan { tokens, state } in spans.iter() {
            let end = state.length + tokens.len();
            if end > state.capacity {
                candle_core::bail!("{end} tokens exceed the room of {}", state.capacity);
            }
            ids.extend_from_slice(tokens);
            places.extend(state.length as u32..end as u32);
        }
        let count = ids.len();
        let ids = Tensor::from_vec(ids, count, &Device::Cpu)?;
        let places = Tensor::from_vec(places, count, &Device::Cpu)?;
        let x = self.embeddings.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        let x = (x + self.positions.index_select(&places, 0)?)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.add_to(&x, index, spans)?;
        }
        for StatefulSpan { tokens, state } in spans {
            state.length += tokens.len();
        }
        self.norm.forward(&x)
    }

    /// Scores of the tokens that follow some rows of [`forward`](Self::forward)'s result: one row
    /// each, one score per token id.
    pub fn scores(&self, hidden: &Tensor, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let rows = Tensor::new(rows, &Device::Cpu)?;
        self.head.forward(&hidden.index_select(&rows, 0)?)?.to_vec2()
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
    fn add_to(&self, x: &Tensor, index: usize, spans: &[StatefulSpan<'_>]) -> Result<()> {
        let width = x.dim(1)?;
        let qkv = self.qkv.forward(&self.norm.forward(x)?)?;
        let attended = each_span(spans, |rows, state| {
            let past = state.length;
            let cache = &state.layers[index];
            let part = |kind: usize| {
                let part = qkv.narrow(0, rows.start, rows.len())?;
                part.narrow(1, kind * width, width)?.contiguous()
            };
            let split = |kind: usize| {
                let shape = (rows.len(), self.heads, width / self.heads);
                part(kind)?.reshape(shape)?.transpose(0, 1)?.contiguous()
            };
            cache.keys.slice_set(&split(1)?, 1, past)?;
            cache.values.slice_set(&split(2)?, 1, past)?;
            let visible = Attend { first_row_sees: past + 1, causal: true };
            ops::attend(&part(0)?, &cache.keys, &cache.values, visible)
        })?;
        self.out.add_to(x, &attended)?;

        let queries = self.cross_query.forward(&self.cross_norm.forward(x)?)?;
        let attended = each_span(spans, |rows, state| {
            let Some(audio) = &state.audio else { candle_core::bail!("there is no audio") };
            let (keys, values) = &audio.layers[index];
            let all = Attend { first_row_sees: audio.positions, causal: false };
            let queries = queries.narrow(0, rows.start, rows.len())?.contiguous()?;
            ops::attend(&queries, keys, values, all)
        })?;
        self.cross_out.add_to(x, &attended)?;
        self.feed_forward.add_to(x)
    }
}

/// Attention, which is each span's own affair: gives `attend` the rows of each span, and joins what it
/// returns.
fn each_span(
    spans: &[StatefulSpan<'_>],
    attend: impl Fn(Range<usize>, &DecoderState) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut attended = Vec::with_capacity(spans.len());
    let mut first = 0;
    for StatefulSpan { tokens, state } in spans {
        attended.push(attend(first..first + tokens.len(), state)?);
        first += tokens.len();
    }
    match attended.as_slice() {
        [alone] => Ok(alone.clone()),
        several => Tensor::cat(several, 0),
    }
}
