//! The encoder: a log-mel spectrogram in, one vector per 20 ms out.

use candle_core::{Device, Result, Tensor};
use parking_lot::Mutex;

use super::{FeedForward, Loader, Norm};
use crate::CancelToken;
use crate::arena::Arena;
use crate::whisper::attention::{self, attend};
use crate::whisper::config::Dimensions;
use crate::whisper::linear::{Inputs, Linear};
use crate::whisper::weights::Weights;
use crate::whisper::{Precision, WhisperError, ops};

/// Frames that each convolution spans.
const KERNEL: usize = 3;

/// The audio half of the network.
pub struct Encoder {
    conv1: Convolution,
    conv2: Convolution,
    /// (positions, width).
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    /// Rooms of earlier calls: memory fresh from the system costs as much as a layer.
    rooms: Mutex<Vec<Room>>,
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
}

/// What the layers need room for, one after the other.
struct Room {
    inputs: Inputs,
    qkv: Vec<f32>,
    attention: attention::Room,
    attended: Vec<f32>,
    inner: Vec<f32>,
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
        let mut loader = Loader { weights, dimensions, precision, arena: Arena::default() };
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
            rooms: Mutex::default(),
        })
    }

    /// Encodes `mel`, 2 × `positions` frames of one value per mel band, to (positions, width).
    ///
    /// # Errors
    /// [`WhisperError::Cancelled`] between layers, [`WhisperError::Compute`].
    pub fn forward(
        &self,
        mel: &[f32],
        positions: usize,
        cancel: &CancelToken,
    ) -> std::result::Result<Tensor, WhisperError> {
        let mut room = self.rooms.lock().pop().unwrap_or_else(|| Room {
            inputs: self.conv1.linear.room(),
            qkv: Vec::new(),
            attention: attention::Room::default(),
            attended: Vec::new(),
            inner: Vec::new(),
        });
        let x = self.encode(mel, &mut room, cancel);
        self.rooms.lock().push(room);
        let width = self.conv2.linear.outputs();
        Ok(self.norm.forward(&Tensor::from_vec(x?, (positions, width), &Device::Cpu)?)?)
    }

    fn encode(
        &self,
        mel: &[f32],
        room: &mut Room,
        cancel: &CancelToken,
    ) -> std::result::Result<Vec<f32>, WhisperError> {
        let mut x = Vec::new();
        self.conv1.forward(mel, &mut room.inputs, &mut room.inner)?;
        self.conv2.forward(&room.inner, &mut room.inputs, &mut x)?;
        x.iter_mut().zip(&self.positions).for_each(|(x, position)| *x += position);
        for layer in &self.layers {
            if cancel.is_cancelled() {
                return Err(WhisperError::Cancelled);
            }
            layer.add_to(&mut x, room)?;
        }
        Ok(x)
    }
}

impl Layer {
    fn add_to(&self, x: &mut [f32], room: &mut Room) -> Result<()> {
        let width = self.out.outputs();
        room.qkv.resize(3 * x.len(), 0.0);
        room.attended.resize(x.len(), 0.0);
        self.norm.prepare(x, &mut room.inputs);
        self.qkv.apply(&room.inputs, &mut room.qkv)?;
        attend(&room.qkv, width, self.heads, &mut room.attention, &mut room.attended);
        room.inputs.set(&room.attended, width);
        self.out.add(&room.inputs, x)?;
        self.feed_forward.add(x, &mut room.inputs, &mut room.inner)
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
        let row = KERNEL * channels;
        let mut weight = vec![0.0; outputs * row];
        for (out, kernel) in weight.chunks_exact_mut(row).zip(stored.chunks_exact(row)) {
            for channel in 0..channels {
                for frame in 0..KERNEL {
                    out[frame * channels + channel] = kernel[channel * KERNEL + frame];
                }
            }
        }
        let linear = Linear::new(weight, bias, row, loader.precision, &mut loader.arena)?;
        Ok(Self { linear, channels, stride })
    }

    /// Convolves `frames` of as many values as there are channels with one frame of zeros on either
    /// side, then GELU. Replaces `y` by (frames / stride, outputs).
    fn forward(&self, frames: &[f32], inputs: &mut Inputs, y: &mut Vec<f32>) -> Result<()> {
        let rows = frames.len() / self.channels / self.stride;
        inputs.compute(rows, KERNEL * self.channels, |row, out| {
            let before = (row * self.stride).checked_sub(1);
            let first = before.unwrap_or(0) * self.channels;
            let skipped = if before.is_none() { self.channels } else { 0 };
            let present = &frames[first..frames.len().min(first + out.len() - skipped)];
            out.fill(0.0);
            out[skipped..skipped + present.len()].copy_from_slice(present);
        });
        y.resize(rows * self.linear.outputs(), 0.0);
        self.linear.apply(inputs, y)?;
        ops::gelu(y);
        Ok(())
    }
}
