//! A random voice, as it comes out of a small network that noise goes into: what the autoregressive
//! model or the diffusion is conditioned on in place of somebody's voice. Five equalised layers
//! (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks",
//! 2019) and a linear one.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Linear, Module, VarBuilder, linear};

use super::convolution::leaky;

const LAYERS: usize = 5;
/// How much slower the equalised layers learn: what their weights and biases are multiplied by.
const RATE: f64 = 0.1;
const SLOPE: f64 = 0.2;

/// The network of random voices.
#[derive(Debug)]
pub struct RandomVoice {
    layers: Vec<Linear>,
    last: Linear,
    channels: usize,
}

impl RandomVoice {
    /// `channels` are those of the network that the voice is for: 1024 published for the
    /// autoregressive model, 2048 for the diffusion.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        if channels == 0 {
            bail!("a voice without channels")
        }
        let vb = vb.pp("layers");
        let scale = RATE / (channels as f64).sqrt();
        let equalised = |layer: usize| {
            let vb = vb.pp(layer);
            let weight = (vb.get((channels, channels), "weight")? * scale)?;
            let bias = (vb.get(channels, "bias")? * RATE)?;
            Ok(Linear::new(weight, Some(bias)))
        };
        Ok(Self {
            layers: (0..LAYERS).map(equalised).collect::<Result<_>>()?,
            last: linear(channels, channels, vb.pp(LAYERS))?,
            channels,
        })
    }

    /// The voice that lies at `noise`, `[batch, channels]`, drawn from the normal distribution.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn latent(&self, noise: &Tensor) -> Result<Tensor> {
        if noise.dims2()?.1 != self.channels {
            bail!("{:?} is no noise for {} channels", noise.dims(), self.channels)
        }
        let mut x = noise.clone();
        for layer in &self.layers {
            x = (leaky(&layer.forward(&x)?, SLOPE)? * std::f64::consts::SQRT_2)?;
        }
        self.last.forward(&x)
    }
}
