//! The streaming decoder: latents of the codes to sound, without the diffusion between. A HiFi-GAN
//! (Kong et al., "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech
//! Synthesis", 2020) that is conditioned on the voice. [`HifiganStream`] decodes while codes still
//! come.

mod grid;
mod stream;

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};
use serde::{Deserialize, Serialize};

use super::convolution::{Convolution, Upsampling};
use super::layers::Pointwise;
pub use grid::Grid;
pub use stream::{HifiganStream, Margins, Window};

const SLOPE: f64 = 0.1;
/// The last activation has another slope.
const LAST_SLOPE: f64 = 0.01;
/// Taps of the first and the last convolution.
const OUTER_TAPS: usize = 7;

/// Sizes of a decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HifiganConfig {
    /// Width of a code's latent.
    pub latent: usize,
    /// Width of a voice's latent.
    pub voice: usize,
    /// Channels of a frame; each stage halves them.
    pub channels: usize,
    /// How many moments each stage makes of one: multiplied they are the samples of a frame.
    pub strides: Vec<usize>,
    /// Taps of the stages' upsampling.
    pub taps: Vec<usize>,
    /// Taps of the residual blocks that each stage averages.
    pub block_taps: Vec<usize>,
    /// Dilations of the steps of a block.
    pub dilations: Vec<usize>,
    /// Frames of a code, at the rate of the codes.
    pub frames_per_code: usize,
    /// The rate that the codes were made at, in samples per second.
    pub code_rate: u32,
    /// The rate of the sound, in samples per second.
    pub sample_rate: u32,
}

impl Default for HifiganConfig {
    fn default() -> Self {
        Self {
            latent: 1024,
            voice: 1024,
            channels: 512,
            strides: vec![8, 8, 2, 2],
            taps: vec![16, 16, 4, 4],
            block_taps: vec![3, 7, 11],
            dilations: vec![1, 3, 5],
            frames_per_code: 4,
            code_rate: 22_050,
            sample_rate: 24_000,
        }
    }
}

impl HifiganConfig {
    /// Samples of a frame.
    pub fn hop(&self) -> usize {
        self.strides.iter().product()
    }

    /// How many frames before and after it a frame's samples depend on.
    pub fn reach(&self) -> usize {
        let half = OUTER_TAPS as f64 / 2.0 - 0.5;
        let widest = self.block_taps.iter().max().map_or(0, |taps| taps / 2);
        let steps: usize = self.dilations.iter().map(|dilation| widest * (dilation + 1)).sum();
        let stages = self.strides.iter().zip(&self.taps).rev();
        let samples = stages.fold(half, |reach, (stride, taps)| {
            let cut = taps.saturating_sub(*stride) / 2;
            let far = cut.max(taps.saturating_sub(1 + cut));
            (reach + (steps + far) as f64) / *stride as f64
        });
        (samples + half).ceil() as usize
    }

    fn check(&self) -> Result<()> {
        let sizes = [self.latent, self.voice, self.channels >> self.strides.len().min(63)];
        let counts = [self.strides.len(), self.block_taps.len(), self.dilations.len()];
        let fits = self.strides.len() == self.taps.len()
            && self.strides.iter().zip(&self.taps).all(|(stride, taps)| {
                *stride > 0 && taps >= stride && (taps - stride).is_multiple_of(2)
            })
            && self.block_taps.iter().all(|taps| taps % 2 == 1)
            && self.dilations.iter().all(|dilation| *dilation > 0);
        let rates = self.frames_per_code > 0 && self.code_rate > 0 && self.sample_rate > 0;
        if !fits || !rates || sizes.contains(&0) || counts.contains(&0) {
            bail!("no decoder has the sizes of {self:?}")
        }
        Ok(())
    }
}

/// The decoder.
#[derive(Debug)]
pub struct Hifigan {
    first: Convolution,
    condition: Pointwise,
    stages: Vec<Stage>,
    last: Convolution,
    grid: Grid,
    latent: usize,
    voice: usize,
    hop: usize,
}

impl Hifigan {
    /// Of the tensors of its checkpoint.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or the sizes make no network.
    pub fn load(config: &HifiganConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.check()?;
        let mut channels = config.channels;
        let mut stages = Vec::with_capacity(config.strides.len());
        for index in 0..config.strides.len() {
            stages.push(Stage::load(config, index, channels, vb)?);
            channels /= 2;
        }
        let first = vb.pp("conv_pre");
        Ok(Self {
            first: Convolution::load(config.latent, config.channels, OUTER_TAPS, 1, &first)?,
            condition: Pointwise::load(config.voice, config.channels, &vb.pp("cond_layer"))?,
            stages,
            last: Convolution::load(channels, 1, OUTER_TAPS, 1, &vb.pp("conv_post"))?,
            grid: Grid::new(config),
            latent: config.latent,
            voice: config.voice,
            hop: config.hop(),
        })
    }

    /// A whole utterance at once: `latents` of its codes, `[batch, codes, width]`, in voices
    /// `[batch, width]`, as samples within ±1, `[batch, samples]`.
    ///
    /// # Errors
    /// There are no codes, the shapes do not fit, or the device is out of memory.
    pub fn decode(&self, latents: &Tensor, voices: &Tensor) -> Result<Tensor> {
        let conditions = self.condition(voices)?;
        self.decode_frames(&self.frames(latents)?, &conditions)
    }

    /// The frames of a whole utterance, `[batch, frames, width]`, of the `latents` of its codes,
    /// `[batch, codes, width]`.
    ///
    /// # Errors
    /// There are no codes, or the device is out of memory.
    pub fn frames(&self, latents: &Tensor) -> Result<Tensor> {
        let codes = latents.dims3()?.1;
        self.grid.interpolate(latents, 0, codes, 0..self.grid.frames(codes))
    }

    /// What voices, `[batch, width]`, add to every frame: `[batch, channels, 1]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn condition(&self, voices: &Tensor) -> Result<Tensor> {
        if voices.dims2()?.1 != self.voice {
            bail!("{:?} are no voices of width {}", voices.dims(), self.voice)
        }
        self.condition.forward(&voices.unsqueeze(2)?)
    }

    /// Frames, `[batch, frames, width]`, with silence around them, as samples `[batch, frames *
    /// hop]`. `conditions` are those of the voices.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn decode_frames(&self, frames: &Tensor, conditions: &Tensor) -> Result<Tensor> {
        let mut x = self.start(frames, conditions)?;
        for stage in &self.stages {
            x = stage.forward(&x)?;
        }
        self.last.of_leaky(&x, LAST_SLOPE)?.squeeze(1)?.tanh()
    }

    /// The sound of windows of several utterances, each `[samples]`, in main memory. Those of the same
    /// length are decoded together.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn decode_windows(&self, windows: &[Window]) -> Result<Vec<Tensor>> {
        let mut alike: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, window) in windows.iter().enumerate() {
            alike.entry(window.frames()).or_default().push(index);
        }
        let mut sounds = vec![None; windows.len()];
        for indices in alike.values() {
            let of = |pick: fn(&Window) -> &Tensor| {
                let picked: Vec<&Tensor> =
                    indices.iter().map(|index| pick(&windows[*index])).collect();
                if let [one] = picked[..] { Ok(one.clone()) } else { Tensor::cat(&picked, 0) }
            };
            let samples = self
                .decode_frames(&of(|window| &window.frames)?, &of(|window| &window.condition)?)?;
            // All in one piece: the copy of a part of a tensor is one of all that it is a part of.
            let samples = samples.to_device(&Device::Cpu)?;
            for (row, index) in indices.iter().enumerate() {
                let kept = &windows[*index].kept;
                let (start, count) = (kept.start * self.hop, kept.len() * self.hop);
                sounds[*index] = Some(samples.get(row)?.narrow(0, start, count)?);
            }
        }
        Ok(sounds.into_iter().flatten().collect())
    }

    /// What the first stage hears: `frames`, `[batch, frames, width]`, as `[batch, channels,
    /// frames]`.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn start(&self, frames: &Tensor, conditions: &Tensor) -> Result<Tensor> {
        let (batch, _, width) = frames.dims3()?;
        if width != self.latent || conditions.dims3()?.0 != batch {
            bail!("{:?} are no frames for {:?}", frames.dims(), conditions.dims())
        }
        self.first.forward(&frames.transpose(1, 2)?)?.broadcast_add(conditions)
    }

    /// The stages, from the coarsest to that of single samples.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Where the frames lie between the codes.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Samples of a frame.
    pub fn hop(&self) -> usize {
        self.hop
    }
}

/// Makes a few moments of each, and shapes them with blocks of several widths.
#[derive(Debug)]
pub struct Stage {
    upsampling: Upsampling,
    blocks: Vec<Block>,
}

impl Stage {
    fn load(
        config: &HifiganConfig,
        index: usize,
        channels: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (stride, taps) = (config.strides[index], config.taps[index]);
        let (vb_up, outputs) = (vb.pp("ups").pp(index), channels / 2);
        let first = index * config.block_taps.len();
        let block = |(block, taps): (usize, &usize)| {
            let vb = vb.pp("resblocks").pp(first + block);
            Block::load(outputs, *taps, &config.dilations, &vb)
        };
        Ok(Self {
            upsampling: Upsampling::load(
                channels,
                outputs,
                taps,
                stride,
                (taps - stride) / 2,
                &vb_up,
            )?,
            blocks: config.block_taps.iter().enumerate().map(block).collect::<Result<_>>()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.upsampled(x)?;
        let mut sum: Option<Tensor> = None;
        for block in &self.blocks {
            let heard = block.forward(&x)?;
            sum = Some(match sum {
                None => heard,
                Some(sum) => (sum + heard)?,
            });
        }
        sum.unwrap_or(x) / self.blocks.len().max(1) as f64
    }

    /// The first step: `x`, `[batch, channels, time]`, stretched, with half as many channels.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn upsampled(&self, x: &Tensor) -> Result<Tensor> {
        self.upsampling.of_leaky(x, SLOPE)
    }

    /// The blocks, which all hear the same.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }
}

/// A residual block: each of its steps adds two convolutions.
#[derive(Debug)]
pub struct Block {
    steps: Vec<(Convolution, Convolution)>,
}

impl Block {
    fn load(
        channels: usize,
        taps: usize,
        dilations: &[usize],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let step = |(index, dilation): (usize, &usize)| {
            let load = |name: &str, dilation| {
                Convolution::load(channels, channels, taps, dilation, &vb.pp(name).pp(index))
            };
            Ok((load("convs1", *dilation)?, load("convs2", 1)?))
        };
        Ok(Self { steps: dilations.iter().enumerate().map(step).collect::<Result<_>>()? })
    }

    /// `x` is `[batch, channels, time]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (first, second) in &self.steps {
            x = second.add_of_leaky(&first.of_leaky(&x, SLOPE)?, SLOPE, &x)?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_decoder_hears_three_codes_far() {
        assert_eq!(HifiganConfig::default().hop(), 256);
        // Backwards: 3 samples, (3 + 62) / 2 = 32.5, (32.5 + 62) / 2 = 47.25, (47.25 + 71) / 8 =
        // 14.78, (14.78 + 71) / 8 = 10.72 frames, and 3 more.
        assert_eq!(HifiganConfig::default().reach(), 14);
        let margins = Margins::exact(&HifiganConfig::default());
        assert_eq!((margins.context, margins.lookahead), (4, 5));
    }

    #[test]
    fn sizes_that_make_no_decoder_are_an_error() {
        let good = HifiganConfig::default;
        assert!(good().check().is_ok());
        let bad = [
            HifiganConfig { channels: 8, ..good() },
            HifiganConfig { strides: vec![], taps: vec![], ..good() },
            HifiganConfig { strides: vec![8, 8], ..good() },
            HifiganConfig { taps: vec![16, 16, 4, 5], ..good() },
            HifiganConfig { taps: vec![16, 4, 4, 4], ..good() },
            HifiganConfig { block_taps: vec![4], ..good() },
            HifiganConfig { dilations: vec![0], ..good() },
            HifiganConfig { code_rate: 0, ..good() },
            HifiganConfig { frames_per_code: 0, ..good() },
        ];
        for config in bad {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
