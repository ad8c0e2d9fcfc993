//! What the layers of the diffusion decoder are told of the step: a scale and a shift for every
//! channel of every residual block (Perez et al., "FiLM: Visual Reasoning with a General Conditioning
//! Layer", 2018). They depend on the step alone, so those of all steps are computed together.

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::{Linear, Module, VarBuilder, linear};

use super::DiffusionConfig;
use crate::tortoise::layers::normalisation;

/// The slowest sinusoid takes so many times as many steps as the fastest.
const SLOWEST: f32 = 10_000.0;

/// `channels` numbers for each of the trained steps `times`, cosines before sines (Vaswani et al.,
/// "Attention Is All You Need", 2017).
pub fn sinusoids(times: &[u32], channels: usize) -> Vec<f32> {
    let half = channels / 2;
    // In single precision as where the network was trained, since angles go round hundreds of times;
    // only the exponential is exact.
    let exponent = |index: usize| -SLOWEST.ln() * index as f32 / half as f32;
    let frequencies: Vec<f32> =
        (0..half).map(|index| f64::from(exponent(index)).exp() as f32).collect();
    let mut values = Vec::with_capacity(times.len() * channels);
    for &time in times {
        let angle = |frequency: &f32| time as f32 * frequency;
        values.extend(frequencies.iter().map(|frequency| angle(frequency).cos()));
        values.extend(frequencies.iter().map(|frequency| angle(frequency).sin()));
    }
    values
}

/// Makes of a step what each residual block's second normalisation is scaled and shifted by.
#[derive(Debug)]
pub struct TimeEmbedding {
    first: Linear,
    second: Linear,
    /// The projections of all blocks, one after the other, scales before shifts.
    blocks: Linear,
    /// The scales and the shifts of the normalisations themselves, `[blocks, channels]`.
    weights: Tensor,
    biases: Tensor,
    channels: usize,
}

impl TimeEmbedding {
    /// Loads what the decoder's residual blocks, whose tensors are at `blocks`, need of the step.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(
        config: &DiffusionConfig,
        vb: &VarBuilder<'_>,
        blocks: &[VarBuilder<'_>],
    ) -> Result<Self> {
        let channels = config.channels;
        let (mut projections, mut shifts) = (Vec::new(), Vec::new());
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for block in blocks {
            let projection = block.pp("emb_layers").pp(1);
            projections.push(projection.get((2 * channels, channels), "weight")?);
            shifts.push(projection.get(2 * channels, "bias")?);
            let norm = normalisation(channels, &block.pp("out_layers").pp(0))?;
            weights.push(norm.weight().clone());
            biases.push(norm.bias().clone());
        }
        let vb = vb.pp("time_embed");
        Ok(Self {
            first: linear(channels, channels, vb.pp(0))?,
            second: linear(channels, channels, vb.pp(2))?,
            blocks: Linear::new(Tensor::cat(&projections, 0)?, Some(Tensor::cat(&shifts, 0)?)),
            weights: Tensor::stack(&weights, 0)?,
            biases: Tensor::stack(&biases, 0)?,
            channels,
        })
    }

    /// `[times, channels]` of the trained steps `times`.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn embedded(&self, times: &[u32]) -> Result<Tensor> {
        let shape = (times.len(), self.channels);
        let kind = self.weights.dtype();
        let sinusoids = Tensor::from_vec(sinusoids(times, self.channels), shape, &Device::Cpu)?
            .to_dtype(kind)?
            .to_device(self.weights.device())?;
        self.second.forward(&self.first.forward(&sinusoids)?.silu()?)
    }

    /// What all blocks need at the trained steps `times`.
    ///
    /// # Errors
    /// There are no steps, or the device is out of memory.
    pub fn modulations(&self, times: &[u32]) -> Result<Modulations> {
        if times.is_empty() {
            bail!("there are no steps to tell the network of")
        }
        let (blocks, channels) = self.weights.dims2()?;
        let projected = self.blocks.forward(&self.embedded(times)?.silu()?)?;
        let projected = projected.reshape((times.len(), blocks, 2, channels))?;
        let scale = (projected.narrow(2, 0, 1)?.squeeze(2)? + 1.0)?;
        let shift = projected.narrow(2, 1, 1)?.squeeze(2)?;
        // Scaled and shifted twice is scaled and shifted once.
        let shift = (scale.broadcast_mul(&self.biases)? + shift)?;
        let scale = scale.broadcast_mul(&self.weights)?;
        Ok(Modulations { scale: scale.unsqueeze(3)?, shift: shift.unsqueeze(3)? })
    }
}

/// Scales and shifts of all residual blocks at some steps.
#[derive(Debug)]
pub struct Modulations {
    /// `[times, blocks, channels, 1]`.
    scale: Tensor,
    shift: Tensor,
}

impl Modulations {
    /// Those at one of the steps, in the order in which they were asked for.
    ///
    /// # Errors
    /// There were not so many steps.
    pub fn at(&self, step: usize) -> Result<Modulation> {
        Ok(Modulation { scale: self.scale.get(step)?, shift: self.shift.get(step)? })
    }
}

/// Scales and shifts of all residual blocks at one step.
#[derive(Debug)]
pub struct Modulation {
    /// `[blocks, channels, 1]`.
    scale: Tensor,
    shift: Tensor,
}

impl Modulation {
    /// `x` as a block of the network scales and shifts it, after a normalisation that does neither.
    pub(super) fn of(&self, block: usize, x: &Tensor) -> Result<Tensor> {
        x.broadcast_mul(&self.scale.get(block)?)?.broadcast_add(&self.shift.get(block)?)
    }
}
