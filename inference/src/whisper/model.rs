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
use super::linear::Linear;
use super::weights::Weights;
use super::{Precision, WhisperError, ops};

/// Layer normalisation with its learned scale and shift.
struct Norm {
    gamma: Tensor,
    beta: Tensor,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.gamma, &self.beta)
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
        let inner = self.rise.product(&self.norm.forward(x)?)?;
        ops::bias_gelu(&inner, self.rise.bias())?;
        let y = self.fall.product(&inner)?;
        ops::add_residual(x, &y, self.fall.bias())
    }
}

/// Reads one side's tensors with the shapes that the dimensions demand.
struct Loader<'a> {
    weights: &'a mut Weights,
    dimensions: &'a Dimensions,
    precision: Precision,
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
        Ok(Linear::new(weight, bias, inputs, self.precision)?)
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
        Ok(Linear::new(weight, bias, width, self.precision)?)
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
        Ok(Norm {
            gamma: Tensor::from_vec(gamma, width, &Device::Cpu)?,
            beta: Tensor::from_vec(beta, width, &Device::Cpu)?,
        })
    }

    fn feed_forward(&mut self, layer: &str) -> std::result::Result<FeedForward, WhisperError> {
        let Dimensions { width, inner_width, .. } = *self.dimensions;
        Ok(FeedForward {
            norm: self.norm(&format!("{layer}/ffn/layer_norm"))?,
            rise: self.linear(&format!("{layer}/ffn/linear_0"), inner_width, width)?,
            fall: self.linear(&format!("{layer}/ffn/linear_1"), width, inner_width)?,
        })
    }

    fn positions(&mut self, side: &str, count: usize) -> std::result::Result<Tensor, WhisperError> {
        let shape = [count, self.dimensions.width];
        let name = format!("{side}/position_encodings/encodings");
        let values = self.weights.read_shaped(&name, &shape)?;
        Ok(Tensor::from_vec(values, &shape, &Device::Cpu)?)
    }
}
