//! What the diffusion decoder knows of the voice and of the codes before it sees any noise.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Conv1d, Conv1dConfig, Module, VarBuilder, conv1d};

use super::DiffusionConfig;
use crate::tortoise::layers::{AttentionBlock, Distances, Normalisation, normalisation};

/// Blocks of attention over a recording of the voice.
const VOICE_BLOCKS: usize = 5;
/// Blocks of attention over the latents.
const LATENT_BLOCKS: usize = 4;

/// Makes of recordings of a voice what the decoder is conditioned on.
#[derive(Debug)]
pub struct ContextualEmbedder {
    first: Conv1d,
    second: Conv1d,
    blocks: Vec<AttentionBlock>,
}

impl ContextualEmbedder {
    /// Loads `contextual_embedder` of the decoder's tensors.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or no network can have such sizes.
    pub fn load(config: &DiffusionConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.check()?;
        let vb = vb.pp("contextual_embedder");
        let halving = Conv1dConfig { padding: 1, stride: 2, ..Default::default() };
        let (narrow, wide) = (config.channels, 2 * config.channels);
        Ok(Self {
            first: conv1d(config.mel_bands, narrow, 3, halving, vb.pp(0))?,
            second: conv1d(narrow, wide, 3, halving, vb.pp(1))?,
            blocks: (0..VOICE_BLOCKS)
                .map(|index| AttentionBlock::load(wide, config.heads, true, &vb.pp(2 + index)))
                .collect::<Result<_>>()?,
        })
    }

    /// `[clips, 2 * channels, frames / 4]` of the mel spectrograms `[clips, mel_bands, frames]`, natural
    /// logarithms of magnitudes at 24 kHz.
    ///
    /// # Errors
    /// The shapes do not fit, there is no frame, or the device is out of memory.
    pub fn embedded(&self, clips: &Tensor) -> Result<Tensor> {
        let (count, _, frames) = clips.dims3()?;
        if count == 0 || frames == 0 {
            bail!("there is no recording of the voice")
        }
        let mut x = self.second.forward(&self.first.forward(clips)?)?;
        let (_, channels, time) = x.dims3()?;
        let distances = Distances::new(time, channels, x.dtype(), x.device())?;
        for block in &self.blocks {
            x = block.forward(&x, Some(&distances))?;
        }
        Ok(x)
    }

    /// The voice, `[2 * channels]`: the mean of [`embedded`](Self::embedded) over all moments of all
    /// clips.
    ///
    /// # Errors
    /// The shapes do not fit, there is no frame, or the device is out of memory.
    pub fn forward(&self, clips: &Tensor) -> Result<Tensor> {
        self.embedded(clips)?.mean((0, 2))
    }
}

/// Looks at the latents of all codes together, and gives them the voice.
#[derive(Debug)]
pub struct LatentConditioner {
    input: Conv1d,
    blocks: Vec<AttentionBlock>,
    norm: Normalisation,
}

impl LatentConditioner {
    /// Loads `latent_conditioner` and `code_norm` of the decoder's tensors.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(config: &DiffusionConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let channels = config.channels;
        let latents = vb.pp("latent_conditioner");
        let same = Conv1dConfig { padding: 1, ..Default::default() };
        Ok(Self {
            input: conv1d(config.latent_channels, channels, 3, same, latents.pp(0))?,
            blocks: (0..LATENT_BLOCKS)
                .map(|index| {
                    AttentionBlock::load(channels, config.heads, true, &latents.pp(1 + index))
                })
                .collect::<Result<_>>()?,
            norm: normalisation(channels, &vb.pp("code_norm"))?,
        })
    }

    /// `[batch, channels, codes]` of the latents `[batch, codes, latent_channels]`.
    ///
    /// # Errors
    /// The shapes do not fit, there is no code, or the device is out of memory.
    pub fn related(&self, latents: &Tensor) -> Result<Tensor> {
        let (batch, codes, _) = latents.dims3()?;
        if batch == 0 || codes == 0 {
            bail!("there are no latents to decode")
        }
        let mut x = self.input.forward(&latents.transpose(1, 2)?.contiguous()?)?;
        let (_, channels, _) = x.dims3()?;
        let distances = Distances::new(codes, channels, x.dtype(), x.device())?;
        for block in &self.blocks {
            x = block.forward(&x, Some(&distances))?;
        }
        Ok(x)
    }

    /// As [`related`](Self::related), in the voice `[batch, 2 * channels]`: a scale and a shift of every
    /// channel.
    ///
    /// # Errors
    /// The shapes do not fit, there is no code, or the device is out of memory.
    pub fn voiced(&self, latents: &Tensor, voice: &Tensor) -> Result<Tensor> {
        let x = self.norm.forward(&self.related(latents)?)?;
        let (batch, channels, _) = x.dims3()?;
        let voice = voice.to_dtype(x.dtype())?.reshape((batch, 2 * channels, 1))?;
        let scale = (voice.narrow(1, 0, channels)? + 1.0)?;
        x.broadcast_mul(&scale)?.broadcast_add(&voice.narrow(1, channels, channels)?)
    }
}

/// Each of `codes` moments for as long as it lasts among `frames`: `x` is `[batch, channels, codes]`.
pub(super) fn stretched(x: &Tensor, frames: usize) -> Result<Tensor> {
    let codes = x.dim(2)?;
    let places = Tensor::from_vec(nearest(codes, frames), frames, x.device())?;
    x.contiguous()?.index_select(&places, 2)
}

/// Which of `codes` each of `frames` is nearest to.
fn nearest(codes: usize, frames: usize) -> Vec<u32> {
    // In single precision as where the network was trained: the borders depend on it.
    let scale = codes as f32 / frames as f32;
    (0..frames).map(|frame| ((frame as f32 * scale) as usize).min(codes - 1) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spread_over_the_codes_in_order() {
        assert_eq!(nearest(3, 7), [0, 0, 0, 1, 1, 2, 2]);
        assert_eq!(nearest(1, 4), [0; 4]);
        for codes in [2, 90, 500, 1000] {
            let frames = codes * 4 * 24_000 / 22_050;
            let places = nearest(codes, frames);
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 1));
            assert_eq!((places[0], places[frames - 1]), (0, codes as u32 - 1));
        }
    }
}
