//! A voice, out of mel spectrograms of it.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};

use super::AutoregressiveConfig;
use crate::tortoise::layers::{AttentionBlock, Pointwise};

/// Attention over a clip, of which the first moment then knows everything.
#[derive(Debug)]
pub struct ConditioningEncoder {
    init: Pointwise,
    blocks: Vec<AttentionBlock>,
}

impl ConditioningEncoder {
    /// `vb` is that of `conditioning_encoder`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(config: &AutoregressiveConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let init = Pointwise::load(config.mel_bands, config.width, &vb.pp("init"))?;
        let block = |index| {
            AttentionBlock::load(config.width, config.heads, false, &vb.pp("attn").pp(index))
        };
        let blocks = (0..config.conditioning_blocks).map(block).collect::<Result<_>>()?;
        Ok(Self { init, blocks })
    }

    /// The latent of a voice, `[1, width]`: the mean over its clips, each a mel spectrogram of its own
    /// length, `[1, bands, frames]`.
    ///
    /// # Errors
    /// There is no clip, or one has another number of bands or no frame.
    pub fn voice(&self, clips: &[Tensor]) -> Result<Tensor> {
        if clips.is_empty() {
            bail!("a voice needs a clip");
        }
        let encoded: Vec<Tensor> =
            clips.iter().map(|clip| self.encode(clip)).collect::<Result<_>>()?;
        Tensor::cat(&encoded, 0)?.mean_keepdim(0)
    }

    /// One clip, `[batch, bands, frames]` to `[batch, width]`.
    ///
    /// # Errors
    /// The clip has another number of bands or no frame.
    pub fn encode(&self, mel: &Tensor) -> Result<Tensor> {
        if mel.dim(2)? == 0 {
            bail!("a clip without a frame");
        }
        let mut x = self.init.forward(mel)?;
        for block in &self.blocks {
            x = block.forward(&x, None)?;
        }
        x.narrow(2, 0, 1)?.squeeze(2)
    }
}
