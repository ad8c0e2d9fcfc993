//! UnivNet: a mel spectrogram to sound (Jang et al., "UnivNet: A Neural Vocoder with
//! Multi-Resolution Spectrogram Discriminators for High-Fidelity Waveform Generation", 2021). Noise
//! is stretched to samples in a few blocks; each convolves it with kernels that a predictor makes
//! of the spectrogram, other ones for each of its frames (Zeng et al., "LVCNet: Efficient
//! Condition-Dependent Modeling Network for Waveform Generation", 2021).

use candle_core::{Result, Tensor, bail};
use candle_nn::{Linear, Module, VarBuilder, ops};
use serde::{Deserialize, Serialize};

use super::convolution::{Convolution, Upsampling, leaky};

const SLOPE: f64 = 0.2;
/// Taps of the first and the last convolution.
const OUTER_TAPS: usize = 7;
/// Taps of the other convolutions, predicted ones too.
const TAPS: usize = 3;
/// Taps of the predictor's first convolution.
const PREDICTOR_TAPS: usize = 5;
/// Residual steps of the predictor.
const PREDICTOR_STEPS: usize = 3;
/// Frames of silence that follow a spectrogram, so that its end sounds right.
pub const SILENT_FRAMES: usize = 10;
/// What a band of those holds: the logarithm of the smallest magnitude.
const SILENCE: f64 = -11.5129;

/// Sizes of a UnivNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnivnetConfig {
    /// Bands of the spectrogram.
    pub bands: usize,
    /// Channels of the noise.
    pub noise: usize,
    /// Channels of the sound on its way.
    pub channels: usize,
    /// Channels of the kernel predictors.
    pub predictor: usize,
    /// How many moments each block makes of one: multiplied they are the samples of a frame.
    pub strides: Vec<usize>,
    /// Dilations of a block's convolutions, each of which a predicted one follows.
    pub dilations: Vec<usize>,
}

impl Default for UnivnetConfig {
    fn default() -> Self {
        Self {
            bands: 100,
            noise: 64,
            channels: 32,
            predictor: 64,
            strides: vec![8, 8, 4],
            dilations: vec![1, 3, 9, 27],
        }
    }
}

impl UnivnetConfig {
    /// Samples of a frame.
    pub fn hop(&self) -> usize {
        self.strides.iter().product()
    }
}

/// The network.
#[derive(Debug)]
pub struct Univnet {
    first: Convolution,
    blocks: Vec<UnivnetBlock>,
    last: Convolution,
    bands: usize,
    noise: usize,
    hop: usize,
}

impl Univnet {
    /// Of the tensors of its checkpoint.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or the sizes make no network.
    pub fn load(config: &UnivnetConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let sizes = [config.bands, config.noise, config.channels, config.predictor];
        let steps = config.strides.iter().chain(&config.dilations);
        if sizes.contains(&0) || steps.clone().any(|step| *step == 0) || config.dilations.is_empty()
        {
            bail!("no network has the sizes of {config:?}")
        }
        let channels = config.channels;
        let mut hop = 1;
        let mut blocks = Vec::with_capacity(config.strides.len());
        for (index, stride) in config.strides.iter().enumerate() {
            hop *= stride;
            let vb = vb.pp("res_stack").pp(index);
            blocks.push(UnivnetBlock::load(config, *stride, hop, &vb)?);
        }
        Ok(Self {
            first: Convolution::load_unpadded(
                config.noise,
                channels,
                OUTER_TAPS,
                &vb.pp("conv_pre"),
            )?,
            blocks,
            last: Convolution::load_unpadded(channels, 1, OUTER_TAPS, &vb.pp("conv_post.1"))?,
            bands: config.bands,
            noise: config.noise,
            hop,
        })
    }

    /// The sound of a spectrogram, `[batch, bands, frames]`: samples within ±1, as many as the frames
    /// have, `[batch, samples]`. `noise` is drawn from the normal distribution, `[batch, channels,
    /// frames]`, for [`SILENT_FRAMES`] more than the spectrogram has.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn speak(&self, mel: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let (batch, bands, frames) = mel.dims3()?;
        if frames == 0 {
            bail!("a spectrogram without frames")
        }
        let silence = Tensor::full(SILENCE as f32, (batch, bands, SILENT_FRAMES), mel.device())?;
        let mel = Tensor::cat(&[mel, &silence.to_dtype(mel.dtype())?], 2)?;
        self.forward(&mel, noise)?.narrow(1, 0, frames * self.hop)?.clamp(-1.0, 1.0)
    }

    /// All samples of a spectrogram that is taken as it is: its end is not right. `noise` has as
    /// many frames.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn forward(&self, mel: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let (batch, bands, frames) = mel.dims3()?;
        if bands != self.bands || noise.dims() != [batch, self.noise, frames] {
            bail!("{:?} is no spectrogram for noise {:?}", mel.dims(), noise.dims())
        }
        let mut x = self.start(noise)?;
        for block in &self.blocks {
            x = block.forward(&x, mel)?;
        }
        let x = self.last.of_leaky(&reflected(&x, OUTER_TAPS / 2)?, SLOPE)?;
        x.squeeze(1)?.tanh()
    }

    /// What noise is before the first block, `[batch, channels, frames]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn start(&self, noise: &Tensor) -> Result<Tensor> {
        self.first.forward(&reflected(noise, OUTER_TAPS / 2)?)
    }

    /// The blocks, from the coarsest to that of single samples.
    pub fn blocks(&self) -> &[UnivnetBlock] {
        &self.blocks
    }
}

/// `x`, `[batch, channels, time]`, with `count` more moments at each end, mirrored in the outermost
/// one.
fn reflected(x: &Tensor, count: usize) -> Result<Tensor> {
    let time = x.dim(2)?;
    if time <= count {
        bail!("{time} moments are too few to mirror {count} of them")
    }
    let before = (1..=count).rev();
    let after = (time - 1 - count..time - 1).rev();
    let indices = before.chain(0..time).chain(after).map(|index| index as u32);
    x.contiguous()?.index_select(&Tensor::from_iter(indices, x.device())?, 2)
}

/// Makes a few moments of each, and shapes them by the spectrogram.
#[derive(Debug)]
pub struct UnivnetBlock {
    upsampling: Upsampling,
    predictor: Predictor,
    convolutions: Vec<Convolution>,
    hop: usize,
}

impl UnivnetBlock {
    fn load(
        config: &UnivnetConfig,
        stride: usize,
        hop: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let channels = config.channels;
        let convolution = |(index, dilation): (usize, &usize)| {
            let vb = vb.pp("conv_blocks").pp(index).pp(1);
            Convolution::load(channels, channels, TAPS, *dilation, &vb)
        };
        Ok(Self {
            upsampling: Upsampling::load(
                channels,
                channels,
                2 * stride,
                stride,
                stride.div_ceil(2),
                &vb.pp("convt_pre.1"),
            )?,
            predictor: Predictor::load(config, &vb.pp("kernel_predictor"))?,
            convolutions: config
                .dilations
                .iter()
                .enumerate()
                .map(convolution)
                .collect::<Result<_>>()?,
            hop,
        })
    }

    /// `x` is `[batch, channels, time]`, and `stride` times as long afterwards; `mel` `[batch,
    /// bands, frames]`.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn forward(&self, x: &Tensor, mel: &Tensor) -> Result<Tensor> {
        let mut x = self.upsampled(x)?;
        let (batch, channels, time) = x.dims3()?;
        let kernels = self.predict(mel)?;
        for (layer, convolution) in self.convolutions.iter().enumerate() {
            let y = leaky(&convolution.of_leaky(&x, SLOPE)?, SLOPE)?;
            let y = kernels.convolve(layer, &y, self.hop)?;
            let gate = ops::sigmoid(&y.narrow(2, 0, channels)?)?;
            let y = (gate * y.narrow(2, channels, channels)?.tanh()?)?;
            x = (x + y.transpose(1, 2)?.reshape((batch, channels, time))?)?;
        }
        Ok(x)
    }

    /// The first step: `x`, stretched.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn upsampled(&self, x: &Tensor) -> Result<Tensor> {
        self.upsampling.of_leaky(x, SLOPE)
    }

    /// The kernels for a spectrogram, `[batch, bands, frames]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn predict(&self, mel: &Tensor) -> Result<Kernels> {
        self.predictor.forward(mel)
    }

    /// Moments of a frame after this block.
    pub fn hop(&self) -> usize {
        self.hop
    }
}

/// Makes kernels of a spectrogram.
#[derive(Debug)]
struct Predictor {
    first: Convolution,
    steps: Vec<(Convolution, Convolution)>,
    kernels: Linear,
    bias: Linear,
    layers: usize,
    channels: usize,
}

impl Predictor {
    fn load(config: &UnivnetConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (channels, hidden, layers) =
            (config.channels, config.predictor, config.dilations.len());
        let step = |index: usize| {
            let vb = vb.pp("residual_convs").pp(index);
            let first = Convolution::load(hidden, hidden, TAPS, 1, &vb.pp(1))?;
            Ok((first, Convolution::load(hidden, hidden, TAPS, 1, &vb.pp(3))?))
        };
        // Stored as [layer, input, output, tap], wanted frame after frame as [layer, output, tap,
        // input].
        let size = layers * channels * 2 * channels * TAPS;
        let shape = (layers, channels, 2 * channels, TAPS, hidden * TAPS);
        let weight = by_tap(&vb.get((size, hidden, TAPS), "kernel_conv.weight")?)?;
        let weight = weight.reshape(shape)?.permute((0, 2, 3, 1, 4))?.reshape((size, ()))?;
        let bias =
            vb.get(size, "kernel_conv.bias")?.reshape((layers, channels, 2 * channels, TAPS))?;
        let bias = bias.permute((0, 2, 3, 1))?.flatten_all()?;
        let biases = layers * 2 * channels;
        let bias_weight = by_tap(&vb.get((biases, hidden, TAPS), "bias_conv.weight")?)?;
        Ok(Self {
            first: Convolution::load(
                config.bands,
                hidden,
                PREDICTOR_TAPS,
                1,
                &vb.pp("input_conv.0"),
            )?,
            steps: (0..PREDICTOR_STEPS).map(step).collect::<Result<_>>()?,
            kernels: Linear::new(weight, Some(bias)),
            bias: Linear::new(bias_weight, Some(vb.get(biases, "bias_conv.bias")?)),
            layers,
            channels,
        })
    }

    fn forward(&self, mel: &Tensor) -> Result<Kernels> {
        let (batch, _, frames) = mel.dims3()?;
        let mut x = leaky(&self.first.forward(mel)?, SLOPE)?;
        for (first, second) in &self.steps {
            let y = leaky(&second.of_leaky(&first.forward(&x)?, SLOPE)?, SLOPE)?;
            x = (x + y)?;
        }
        let x = with_neighbours(&x)?.transpose(1, 2)?.contiguous()?;
        let (layers, outputs) = (self.layers, 2 * self.channels);
        let kernels = self.kernels.forward(&x)?;
        let kernels = kernels.reshape((batch, frames, layers, outputs, TAPS * self.channels))?;
        let bias = self.bias.forward(&x)?.reshape((batch, frames, layers, outputs, 1))?;
        Ok(Kernels { kernels, bias })
    }
}

/// `[outputs, inputs, taps]` as the matrix `[outputs, taps * inputs]`.
fn by_tap(weight: &Tensor) -> Result<Tensor> {
    let (outputs, inputs, taps) = weight.dims3()?;
    weight.transpose(1, 2)?.reshape((outputs, taps * inputs))
}

/// The moment before, the moment and the moment after: `[batch, TAPS * channels, time]`.
fn with_neighbours(x: &Tensor) -> Result<Tensor> {
    let time = x.dim(2)?;
    let padded = x.pad_with_zeros(2, TAPS / 2, TAPS / 2)?;
    let shifted = (0..TAPS).map(|tap| padded.narrow(2, tap, time));
    Tensor::cat(&shifted.collect::<Result<Vec<_>>>()?, 1)
}

/// Predicted kernels: a convolution of its own for each layer of a block and each frame.
#[derive(Debug)]
pub struct Kernels {
    /// `[batch, frames, layers, outputs, taps * inputs]`: inputs lie together.
    pub kernels: Tensor,
    /// `[batch, frames, layers, outputs, 1]`.
    pub bias: Tensor,
}

impl Kernels {
    /// Of `x`, `[batch, inputs, frames * hop]`: `[batch, frames, outputs, hop]`.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn convolve(&self, layer: usize, x: &Tensor, hop: usize) -> Result<Tensor> {
        let (batch, inputs, time) = x.dims3()?;
        let frames = self.kernels.dim(1)?;
        if time != frames * hop {
            bail!("{time} moments are not {frames} frames of {hop}")
        }
        let x = with_neighbours(x)?.reshape((batch, TAPS * inputs, frames, hop))?;
        let x = x.transpose(1, 2)?.contiguous()?;
        let kernels = self.kernels.narrow(2, layer, 1)?.squeeze(2)?;
        let bias = self.bias.narrow(2, layer, 1)?.squeeze(2)?;
        kernels.matmul(&x)?.broadcast_add(&bias)
    }
}
