//! The way from noise to a spectrogram: ancestral sampling with a learned variance (Nichol and
//! Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021), or without fresh noise (Song
//! et al., "Denoising Diffusion Implicit Models", 2021), which takes fewer steps.

use std::ops::ControlFlow;

use candle_core::{DType, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::modulation::Modulations;
use super::network::{Conditioning, DiffusionDecoder};
use super::schedule::{Schedule, Step};
use crate::tortoise::random::Random;

/// How a step goes from more noise to less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Takes away more noise than the step has and adds fresh noise.
    Ancestral,
    /// Takes away as much noise as the step has.
    Ddim,
}

/// How a spectrogram is sampled.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Steps from noise to the spectrogram, of which there are 4000 at most.
    pub steps: usize,
    /// How each of them is taken.
    pub sampler: Sampler,
    /// How far to go beyond what the network gives with the conditioning, away from what it gives
    /// without, at the end: towards the noise less and less far. Nothing if it is not asked without.
    pub guidance: Option<f64>,
    /// Deviation of the noise at the beginning.
    pub temperature: f64,
}

/// Where the noise of a sampling comes from.
pub trait Noise {
    /// Numbers of mean 0 and variance 1, in single precision, for `[batch, mel_bands, frames]`.
    ///
    /// # Errors
    /// The device is out of memory.
    fn draw(&mut self, shape: (usize, usize, usize), device: &Device) -> Result<Tensor>;
}

impl Noise for Random {
    fn draw(&mut self, shape: (usize, usize, usize), device: &Device) -> Result<Tensor> {
        let (batch, bands, frames) = shape;
        Tensor::from_vec(self.normals(batch * bands * frames), shape, device)
    }
}

/// Samples the spectrograms `[batch, mel_bands, frames]`, from -1 to 1 and in single precision.
/// `progress` is told before each step, when all before it are done, how many those are and how many
/// there are; nothing comes back if it breaks off.
///
/// # Errors
/// The configuration cannot be or does not fit the conditioning, the result is not numbers, or the
/// device is out of memory.
pub fn sample(
    decoder: &DiffusionDecoder,
    conditioning: &Conditioning,
    config: &SamplingConfig,
    noise: &mut dyn Noise,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<Tensor>> {
    let process = Process::new(decoder, conditioning, config)?;
    let mut x = process.start(noise)?;
    for step in (0..config.steps).rev() {
        x.device().synchronize()?;
        if progress(config.steps - 1 - step, config.steps).is_break() {
            return Ok(None);
        }
        x = process.step(step, &x, noise)?;
    }
    if !x.abs()?.mean_all()?.to_scalar::<f32>()?.is_finite() {
        bail!("the spectrogram is not numbers")
    }
    Ok(Some(x))
}

/// A sampling, step by step.
#[derive(Debug)]
pub struct Process<'a> {
    decoder: &'a DiffusionDecoder,
    conditioning: &'a Conditioning,
    config: &'a SamplingConfig,
    schedule: Schedule,
    modulations: Modulations,
    /// The least and the largest value of a spectrogram, `[1]` each.
    range: (Tensor, Tensor),
}

impl<'a> Process<'a> {
    /// Prepares what is the same for all steps.
    ///
    /// # Errors
    /// The configuration cannot be or does not fit the conditioning, or the device is out of memory.
    pub fn new(
        decoder: &'a DiffusionDecoder,
        conditioning: &'a Conditioning,
        config: &'a SamplingConfig,
    ) -> Result<Self> {
        let positive = |number: f64| number.is_finite() && number >= 0.0;
        if !positive(config.temperature) || !config.guidance.is_none_or(positive) {
            bail!("neither the temperature nor the guidance is less than nought: {config:?}")
        }
        if conditioning.guided() != config.guidance.is_some() {
            bail!("the conditioning is not for this guidance")
        }
        let schedule = Schedule::new(config.steps)?;
        let times: Vec<u32> = schedule.steps().iter().map(|step| step.time).collect();
        let modulations = decoder.modulations(&times)?;
        let device = conditioning.device();
        let range = (Tensor::new(&[-1.0f32], device)?, Tensor::new(&[1.0f32], device)?);
        Ok(Self { decoder, conditioning, config, schedule, modulations, range })
    }

    /// What the first step begins with.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn start(&self, noise: &mut dyn Noise) -> Result<Tensor> {
        self.noise(noise)? * self.config.temperature
    }

    /// `x`, `[batch, mel_bands, frames]`, with the noise of the step `index` taken away: the last of
    /// [`SamplingConfig::steps`] is taken first, 0 last.
    ///
    /// # Errors
    /// There is no such step, the shapes do not fit, or the device is out of memory.
    pub fn step(&self, index: usize, x: &Tensor, noise: &mut dyn Noise) -> Result<Tensor> {
        let Some(step) = self.schedule.steps().get(index) else {
            bail!("there is no step {index}")
        };
        let modulation = self.modulations.at(index)?;
        let given = self.decoder.forward(x, self.conditioning, &modulation)?;
        let bands = self.decoder.config().mel_bands;
        let batch = self.conditioning.batch();
        let conditional = given.narrow(0, 0, batch)?;
        let mut found = conditional.narrow(1, 0, bands)?;
        if let Some(guidance) = self.config.guidance {
            let beyond = guidance * (1.0 - index as f64 / self.config.steps as f64);
            let without = given.narrow(0, batch, batch)?.narrow(1, 0, bands)?;
            found = ((found * (1.0 + beyond))? - (without * beyond)?)?;
        }
        let (noisy, noises) = step.signal();
        let signal = ((x * noisy)? - (found * noises)?)?
            .broadcast_maximum(&self.range.0)?
            .broadcast_minimum(&self.range.1)?;
        let (signals, noisy) = match self.config.sampler {
            Sampler::Ancestral => step.posterior_mean(),
            Sampler::Ddim => step.implicit(),
        };
        let mean = ((signal * signals)? + (x * noisy)?)?;
        if self.config.sampler == Sampler::Ddim || index == 0 {
            return Ok(mean);
        }
        let deviation = deviation(step, &conditional.narrow(1, bands, bands)?)?;
        mean + (deviation * self.noise(noise)?)?
    }

    fn noise(&self, noise: &mut dyn Noise) -> Result<Tensor> {
        let bands = self.decoder.config().mel_bands;
        let shape = (self.conditioning.batch(), bands, self.conditioning.frames());
        let drawn = noise.draw(shape, self.conditioning.device())?;
        if drawn.dims3()? != shape || drawn.dtype() != DType::F32 {
            bail!("noise {:?} of {:?} is not what was asked for", drawn.dims(), drawn.dtype())
        }
        Ok(drawn)
    }
}

/// Of the fresh noise, where `learned` goes from -1 for the least variance to 1 for the largest, with
/// logarithms in between.
fn deviation(step: &Step, learned: &Tensor) -> Result<Tensor> {
    let (least, largest) = step.log_variances;
    // Half of the logarithm of the variance.
    learned.affine((largest - least) / 4.0, (largest + least) / 4.0)?.exp()
}
