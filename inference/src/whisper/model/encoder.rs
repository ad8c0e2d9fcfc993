//! The encoder: a log-mel spectrogram in, one vector per 20 ms out.

use candle_core::{D, Device, Result, Tensor};

use super::{FeedForward, Loader, Norm};
use crate::CancelToken;
use crate::whisper::config::Dimensions;
use crate::whisper::linear::Linear;
use crate::whisper::weights::Weights;
use crate::whisper::{Precision, WhisperError, ops};

/// Frames that each convolution spans.
const KERNEL: usize = 3;
/// Inputs of a quantised convolution are padded to whole K-quant blocks.
const BLOCK: usize = 256;

/// The audio half of the network.
pub struct Encoder {
    conv1: Convolution,
    conv2: Convolution,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
}

struct Layer {
    norm: Norm,
    qkv: Linear,
    out: Linear,
    heads: usize,
    feed_forward: FeedForward,
}

/// A convolution over time as one matrix product: row `t` of its input is the three frames around
/// `t × stride`, which lie side by side in a frame-by-frame layout.
struct Convolution {
    linear: Linear,
    channels: usize,
    stride: usize,
    row: usize,
}

impl Encoder {
    /// Reads the encoder's weights.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`], [`WhisperError::Io`], [`WhisperError::Compute`].
    pub fn load(
        weights: &mut Weights,
        dimensions: &Dimensions,
        precision: Precision,
    ) -> std::result::Result<Self, WhisperError> {
        let mut loader = Loader { weights, dimensions, precision };
        let Dimensions { width, encoder_heads: heads, .. } = *dimensions;
        let mut layers = Vec::with_capacity(dimensions.encoder_layers);
        for index in 0..dimensions.encoder_layers {
            let layer = format!("encoder/layer_{index}");
            let (norm, qkv, out) = loader.self_attention(&layer, heads)?;
            layers.push(Layer {
                norm,
                qkv,
                out,
                heads,
                feed_forward: loader.feed_forward(&layer)?,
            });
        }
        Ok(Self {
            conv1: Convolution::load(&mut loader, "encoder/conv1", dimensions.mel_bands, 1)?,
            conv2: Convolution::load(&mut loader, "encoder/conv2", width, 2)?,
            positions: loader.positions("encoder", dimensions.audio_positions)?,
            norm: loader.norm("encoder/layer_norm")?,
            layers,
        })
    }

    /// Encodes `mel`, 2 × `positions` frames of one value per mel band, to (positions, width).
    ///
    /// # Errors
    /// [`WhisperError::Cancelled`] between layers, [`WhisperError::Compute`].
    pub fn forward(
        &self,
        mel: Vec<f32>,
        positions: usize,
        cancel: &CancelToken,
    ) -> std::result::Result<Tensor, WhisperError> {
        let mel = Tensor::from_vec(mel, (2 * positions, self.conv1.channels), &Device::Cpu)?;
        let x = self.conv2.forward(&self.conv1.forward(&mel)?)?;
        let x = (x + self.positions.narrow(0, 0, positions)?)?;
        for layer in &self.layers {
            if cancel.is_cancelled() {
                return Err(WhisperError::Cancelled);
            }
            layer.add_to(&x)?;
        }
        Ok(self.norm.forward(&x)?)
    }
}

impl Layer {
    fn add_to(&self, x: &Tensor) -> Result<()> {
        let (time, width) = x.dims2()?;
        let head_width = width / self.heads;
        let qkv = self.qkv.forward(&self.norm.forward(x)?)?;
        // One head at a time: its scores stay in the cache between the two products.
        let mut attended = Vec::with_capacity(self.heads);
        for head in 0..self.heads {
            let part = |kind: usize| qkv.narrow(1, kind * width + head * head_width, head_width);
            let scores = part(0)?.matmul(&part(1)?.t()?)?;
            ops::softmax(&scores)?;
            attended.push(scores.matmul(&part(2)?)?);
        }
        let attended = Tensor::cat(&attended, D::Minus1)?;
        debug_assert_eq!(attended.dims(), [time, width]);
        ops::add_residual(x, &self.out.product(&attended)?, self.out.bias())?;
        self.feed_forward.add_to(x)
    }
}

impl Convolution {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        channels: usize,
        stride: usize,
    ) -> std::result::Result<Self, WhisperError> {
        let outputs = loader.dimensions.width;
        let shape = [outputs, channels, KERNEL];
        let stored = loader.weights.read_shaped(&format!("{name}/weight"), &shape)?;
        let bias = loader.weights.read_shaped(&format!("{name}/bias"), &[outputs])?;
        let row = match loader.precision {
            Precision::F32 => KERNEL * channels,
            Precision::Q6K => (KERNEL * channels).next_multiple_of(BLOCK),
        };
        let mut weight = vec![0.0; outputs * row];
        for (out, kernel) in
            weight.chunks_exact_mut(row).zip(stored.chunks_exact(KERNEL * channels))
        {
            for channel in 0..channels {
                for frame in 0..KERNEL {
                    out[frame * channels + channel] = kernel[channel * KERNEL + frame];
                }
            }
        }
        let linear = Linear::new(weight, bias, row, loader.precision)?;
        Ok(Self { linear, channels, stride, row })
    }

    /// Convolves (time, channels) with one frame of zeros on either side, then GELU.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let time = x.dim(0)?;
        let frames = x.flatten_all()?.to_vec1::<f32>()?;
        let rows = time / self.stride;
        let mut columns = vec![0.0; rows * self.row];
        for (index, column) in columns.chunks_exact_mut(self.row).enumerate() {
            let centre = index * self.stride;
            let first = centre.saturating_sub(1);
            let last = (centre + 1).min(time - 1);
            let skipped = (first + 1 - centre) * self.channels;
            let source = &frames[first * self.channels..(last + 1) * self.channels];
            column[skipped..skipped + source.len()].copy_from_slice(source);
        }
        let columns = Tensor::from_vec(columns, (rows, self.row), &Device::Cpu)?;
        let y = self.linear.product(&columns)?;
        ops::bias_gelu(&y, self.linear.bias())?;
        Ok(y)
    }
}
