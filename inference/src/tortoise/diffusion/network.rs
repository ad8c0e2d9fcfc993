//! The network of the diffusion decoder: of a noisy spectrogram, what noise there is in it and how
//! much of it may be made up again.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::{Conv1d, Conv1dConfig, Module, VarBuilder, conv1d};

use super::conditioning::{LatentConditioner, stretched};
use super::modulation::{Modulation, Modulations, TimeEmbedding};
use super::{DiffusionConfig, frames};
use crate::device;
use crate::tortoise::layers::{
    AttentionBlock, Distances, Normalisation, Plain, Pointwise, normalisation,
};

/// Layers that the conditioning goes through at each step, before it meets the noise.
const INTEGRATOR_LAYERS: usize = 3;
/// Residual blocks without attention at the end.
const LAST_BLOCKS: usize = 3;

/// Two convolutions, with what the step says between them, added to what comes in.
#[derive(Debug)]
struct ResidualBlock {
    norm: Normalisation,
    input: Pointwise,
    output: Conv1d,
    /// Which of the network's residual blocks this is.
    index: usize,
}

impl ResidualBlock {
    fn load(channels: usize, index: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let same = Conv1dConfig { padding: 1, ..Default::default() };
        Ok(Self {
            norm: normalisation(channels, &vb.pp("in_layers").pp(0))?,
            input: Pointwise::load(channels, channels, &vb.pp("in_layers").pp(2))?,
            output: conv1d(channels, channels, 3, same, vb.pp("out_layers").pp(3))?,
            index,
        })
    }

    fn forward(&self, x: &Tensor, step: &Modulation, plain: &Plain) -> Result<Tensor> {
        let inner = self.input.forward(&self.norm.forward_with(x, plain)?.silu()?)?;
        let inner = step.of(self.index, &plain.standardised(&inner)?)?.silu()?;
        x + self.output.forward(&inner)?
    }
}

/// A residual block and, in all but the last layers, attention.
#[derive(Debug)]
pub struct Layer {
    residual: ResidualBlock,
    attention: Option<AttentionBlock>,
}

impl Layer {
    /// `x` is `[batch, channels, time]`; `distances` are those of its length.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn forward(&self, x: &Tensor, step: &Modulation, distances: &Distances) -> Result<Tensor> {
        let x = self.residual.forward(x, step, distances.plain())?;
        match &self.attention {
            Some(attention) => attention.forward(&x, Some(distances)),
            None => Ok(x),
        }
    }
}

/// What is the same for an utterance at all steps.
#[derive(Debug)]
pub struct Conditioning {
    /// `[batch, channels, frames]`, or twice the batch with the unconditional rows after the others.
    aligned: Tensor,
    guided: bool,
    distances: Distances,
}

impl Conditioning {
    /// Utterances that are decoded together.
    pub fn batch(&self) -> usize {
        let rows = self.aligned.dims()[0];
        if self.guided { rows / 2 } else { rows }
    }

    /// Frames of 256 samples at 24 kHz.
    pub fn frames(&self) -> usize {
        self.aligned.dims()[2]
    }

    /// Whether what the network gives without the conditioning is wanted too.
    pub fn guided(&self) -> bool {
        self.guided
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        self.aligned.device()
    }

    /// The distances between its frames.
    pub fn distances(&self) -> &Distances {
        &self.distances
    }
}

/// The diffusion decoder.
#[derive(Debug)]
pub struct DiffusionDecoder {
    config: DiffusionConfig,
    conditioner: LatentConditioner,
    /// In place of the conditioning, `[1, channels, 1]`.
    unconditioned: Tensor,
    times: TimeEmbedding,
    integrator: Vec<Layer>,
    input: Conv1d,
    /// The two halves of one layer: for the noisy spectrogram and for the conditioning.
    noisy: Pointwise,
    aligned: Pointwise,
    layers: Vec<Layer>,
    norm: Normalisation,
    output: Conv1d,
}

impl DiffusionDecoder {
    /// Loads the network. Tensors of its variant that is conditioned on codes are left alone.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or no network can have such sizes.
    pub fn load<'a>(config: &DiffusionConfig, vb: &VarBuilder<'a>) -> Result<Self> {
        config.check()?;
        let DiffusionConfig { channels, layers, heads, mel_bands, .. } = *config;
        let same = Conv1dConfig { padding: 1, ..Default::default() };
        let mut blocks = Vec::new();
        let mut layer = |vb: VarBuilder<'a>, attends: bool| {
            let block = if attends { vb.pp("resblk") } else { vb.clone() };
            let residual = ResidualBlock::load(channels, blocks.len(), &block)?;
            blocks.push(block);
            let attention = attends
                .then(|| AttentionBlock::load(channels, heads, true, &vb.pp("attn")))
                .transpose()?;
            Ok(Layer { residual, attention })
        };
        let integrator = (0..INTEGRATOR_LAYERS)
            .map(|index| layer(vb.pp("conditioning_timestep_integrator").pp(index), true))
            .collect::<Result<_>>()?;
        let layers = (0..layers + LAST_BLOCKS)
            .map(|index| layer(vb.pp("layers").pp(index), index < layers))
            .collect::<Result<_>>()?;
        let (noisy, aligned) =
            Pointwise::load(2 * channels, channels, &vb.pp("integrating_conv"))?.split(channels)?;
        Ok(Self {
            config: config.clone(),
            conditioner: LatentConditioner::load(config, vb)?,
            unconditioned: vb.get((1, channels, 1), "unconditioned_embedding")?,
            times: TimeEmbedding::load(config, vb, &blocks)?,
            integrator,
            input: conv1d(mel_bands, channels, 3, same, vb.pp("inp_block"))?,
            noisy,
            aligned,
            layers,
            norm: normalisation(channels, &vb.pp("out").pp(0))?,
            output: conv1d(channels, 2 * mel_bands, 3, same, vb.pp("out").pp(2))?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &DiffusionConfig {
        &self.config
    }

    /// What it knows of the steps.
    pub fn times(&self) -> &TimeEmbedding {
        &self.times
    }

    /// The layers after the input, those without attention last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// `[batch, channels, frames]` of the latents `[batch, codes, latent_channels]` of all codes, in the
    /// voices `[batch, 2 * channels]`.
    ///
    /// # Errors
    /// The shapes do not fit, there is no code or no frame, or the device is out of memory.
    pub fn aligned(&self, latents: &Tensor, voices: &Tensor, frames: usize) -> Result<Tensor> {
        if frames == 0 || frames > Distances::LONGEST {
            bail!("{frames} frames cannot be decoded")
        }
        let latents = latents.to_dtype(self.kind())?;
        stretched(&self.conditioner.voiced(&latents, voices)?, frames)
    }

    /// What stands in place of [`aligned`](Self::aligned) where nothing is said of the utterance.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn unconditioned(&self, batch: usize, frames: usize) -> Result<Tensor> {
        self.unconditioned.broadcast_as((batch, self.config.channels, frames))?.contiguous()
    }

    /// All that does not depend on the noise, for utterances of so many frames as `latents`, `[batch,
    /// codes, latent_channels]`, have; the voices are `[batch, 2 * channels]`. If it is to be `guided`,
    /// the network gives for each utterance what it would without the conditioning too.
    ///
    /// # Errors
    /// The shapes do not fit, there are no codes or too many, something is not a number, or the device
    /// is out of memory.
    pub fn conditioning(
        &self,
        latents: &Tensor,
        voices: &Tensor,
        guided: bool,
    ) -> Result<Conditioning> {
        let (_, codes, _) = latents.dims3()?;
        let aligned = self.aligned(latents, voices, frames(codes)?)?;
        let sum = aligned.to_dtype(DType::F32)?.abs()?.mean_all()?.to_scalar::<f32>()?;
        if !sum.is_finite() {
            bail!("the latents or the voice are not numbers")
        }
        self.conditioned(&aligned, guided)
    }

    /// As [`conditioning`](Self::conditioning), of what [`aligned`](Self::aligned) gave.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn conditioned(&self, aligned: &Tensor, guided: bool) -> Result<Conditioning> {
        let (batch, channels, frames) = aligned.dims3()?;
        if batch == 0 || channels != self.config.channels {
            bail!("{:?} is no conditioning of this network", aligned.dims())
        }
        let distances = Distances::new(frames, channels, aligned.dtype(), aligned.device())?;
        let aligned = if guided {
            Tensor::cat(&[aligned, &self.unconditioned(batch, frames)?], 0)?
        } else {
            aligned.clone()
        };
        Ok(Conditioning { aligned, guided, distances })
    }

    /// What all layers are told at the trained steps `times`.
    ///
    /// # Errors
    /// There are no steps, or the device is out of memory.
    pub fn modulations(&self, times: &[u32]) -> Result<Modulations> {
        self.times.modulations(times)
    }

    /// The conditioning at a step.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn integrated(&self, conditioning: &Conditioning, step: &Modulation) -> Result<Tensor> {
        let mut x = conditioning.aligned.clone();
        for layer in &self.integrator {
            x = layer.forward(&x, step, &conditioning.distances)?;
        }
        Ok(x)
    }

    /// Of the noisy spectrograms `x`, `[batch, mel_bands, frames]`, the noise and then where its
    /// variance lies between the least and the largest that it may have, from -1 to 1: `[batch, 2 *
    /// mel_bands, frames]`, in single precision. With guidance, as many rows without the conditioning
    /// follow.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn forward(
        &self,
        x: &Tensor,
        conditioning: &Conditioning,
        step: &Modulation,
    ) -> Result<Tensor> {
        let (batch, frames) = (conditioning.batch(), conditioning.frames());
        if x.dims() != [batch, self.config.mel_bands, frames] {
            bail!("{:?} is no spectrogram of {batch} times {frames} frames", x.dims())
        }
        let distances = &conditioning.distances;
        // The same ones at each step.
        let _kept = device::keeping_layouts(x.device());
        let noisy = self.noisy.forward(&self.input.forward(&x.to_dtype(self.kind())?)?)?;
        let aligned = self.aligned.forward(&self.integrated(conditioning, step)?)?;
        // The same noise with the conditioning and without.
        let rows = aligned.dims3()?;
        let aligned = aligned.reshape(((), batch, rows.1, rows.2))?;
        let mut x = aligned.broadcast_add(&noisy)?.reshape(rows)?;
        for layer in &self.layers {
            x = layer.forward(&x, step, distances)?;
        }
        let x = self.norm.forward_with(&x, distances.plain())?.silu()?;
        self.output.forward(&x)?.to_dtype(DType::F32)
    }

    /// Of the numbers that it computes with.
    fn kind(&self) -> DType {
        self.unconditioned.dtype()
    }
}
