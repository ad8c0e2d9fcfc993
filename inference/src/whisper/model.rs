//! The network: what encoder and decoder share, and the loading of both.
//!
//! Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. Activations
//! are (time, width) throughout, so that neither convolutions nor projections transpose anything.

mod decoder;
mod encoder;

use candle_core::{Device, Result, Tensor};

pub use decoder::{Audio, Decoder, DecoderState, StatefulSpan};
pub use encoder::Encoder;

use super::config::Dimensions;
use super::linear::{Inputs, Linear};
use super::weights::Weights;
use super::{Precision, WhisperError, ops};
use crate::arena::Arena;

/// Layer normalisation with its learned scale and shift.
struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut normed = vec![0.0; x.elem_count()];
        let width = self.gamma.len();
        ops::read(x, |x| {
            for (x, normed) in x.chunks_exact(width).zip(normed.chunks_exact_mut(width)) {
                self.row(x, normed);
            }
        })?;
        Tensor::from_vec(normed, x.shape(), &Device::Cpu)
    }

    /// Normalises the rows of `x` into `inputs`.
    fn prepare(&self, x: &[f32], inputs: &mut Inputs) {
        let width = self.gamma.len();
        inputs.compute(x.len() / width, width, |row, out| {
            self.row(&x[row * width..(row + 1) * width], out);
        });
    }

    fn row(&self, x: &[f32], out: &mut [f32]) {
        ops::layer_norm(x, &self.gamma, &self.beta, out);
    }
}

/// The two-layer perceptron at the end of each block; adds itself to `x`.
struct FeedForward {
    norm: Norm,
    rise: Linear,
    fall: Linear,
}

impl FeedForward {
    fn add_to(&self, x: &Tensor) -> Result<()> {
        let mut inputs = self.rise.room();
        let mut inner = Vec::new();
        ops::update(x, |x| self.add(x, &mut inputs, &mut inner))
    }

    /// As [`add_to`](Self::add_to), with room for inputs and what lies between the layers.
    fn add(&self, x: &mut [f32], inputs: &mut Inputs, inner: &mut Vec<f32>) -> Result<()> {
        let (rows, width) = (x.len() / self.fall.outputs(), self.fall.inputs());
        inner.resize(rows * width, 0.0);
        self.norm.prepare(x, inputs);
        self.rise.apply(inputs, inner)?;
        inputs.compute(rows, width, |row, out| {
            out.copy_from_slice(&inner[row * width..(row + 1) * width]);
            ops::gelu(out);
        });
        self.fall.add(inputs, x)
    }
}

/// Reads one side's tensors with the shapes that the dimensions demand.
struct Loader<'a> {
    weights: &'a mut Weights,
    dimensions: &'a Dimensions,
    precision: Precision,
    arena: Arena,
}

impl Loader<'_> {
    fn linear(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> std::result::Result<Linear, WhisperError> {
        let weight = self.weights.read_shaped(&format!("{name}/weight"), &[outputs, inputs])?;
        let bias = self.weights.read_shaped(&format!("{name}/bias"), &[outputs])?;
        Ok(Linear::new(weight, bias, inputs, self.precision, &mut self.arena)?)
    }

    /// A projection whose first `width` outputs are queries: they take the scale of the attention,
    /// a power of two for every published model, so that no step has to apply it.
    fn queries(
        &mut self,
        name: &str,
        outputs: usize,
        heads: usize,
    ) -> std::result::Result<Linear, WhisperError> {
        let width = self.dimensions.width;
        let scale = ((width / heads) as f32).powf(-0.5);
        let mut weight = self.weights.read_shaped(&format!("{name}/weight"), &[outputs, width])?;
        let mut bias = self.weights.read_shaped(&format!("{name}/bias"), &[outputs])?;
        weight[..width * width].iter_mut().for_each(|value| *value *= scale);
        bias[..width].iter_mut().for_each(|value| *value *= scale);
        Ok(Linear::new(weight, bias, width, self.precision, &mut self.arena)?)
    }

    /// What comes before a layer's self-attention (norm, then queries, keys and values at once) and
    /// the projection after it.
    fn self_attention(
        &mut self,
        layer: &str,
        heads: usize,
    ) -> std::result::Result<(Norm, Linear, Linear), WhisperError> {
        let width = self.dimensions.width;
        Ok((
            self.norm(&format!("{layer}/self_attention/layer_norm"))?,
            self.queries(&format!("{layer}/self_attention/linear_0"), 3 * width, heads)?,
            self.linear(&format!("{layer}/self_attention/linear_1"), width, width)?,
        ))
    }

    fn norm(&mut self, name: &str) -> std::result::Result<Norm, WhisperError> {
        let width = self.dimensions.width;
        let gamma = self.weights.read_shaped(&format!("{name}/gamma"), &[width])?;
        let beta = self.weights.read_shaped(&format!("{name}/beta"), &[width])?;
        Ok(Norm { gamma, beta })
    }

    fn feed_forward(&mut self, layer: &str) -> std::result::Result<FeedForward, WhisperError> {
        let Dimensions { width, inner_width, .. } = *self.dimensions;
        Ok(FeedForward {
            norm: self.norm(&format!("{layer}/ffn/layer_norm"))?,
            rise: self.linear(&format!("{layer}/ffn/linear_0"), inner_width, width)?,
            fall: self.linear(&format!("{layer}/ffn/linear_1"), width, inner_width)?,
        })
    }

    /// (count, width).
    fn positions(
        &mut self,
        side: &str,
        count: usize,
    ) -> std::result::Result<Vec<f32>, WhisperError> {
        let shape = [count, self.dimensions.width];
        self.weights.read_shaped(&format!("{side}/position_encodings/encodings"), &shape)
    }
}
