//! The networks of one model, loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Result, bail};
use candle_nn::VarBuilder;

use super::autoregressive::{Autoregressive, AutoregressiveConfig};
use super::clvp::{Clvp, ClvpConfig};
use super::diffusion::{ContextualEmbedder, DiffusionConfig, DiffusionDecoder};
use super::hifigan::{Hifigan, HifiganConfig};
use super::import::{Sizes, Weights};
use super::random_voice::RandomVoice;
use super::univnet::{Univnet, UnivnetConfig};

/// Sizes of all networks of a model; those that are missing were not imported.
#[derive(Clone, Debug, PartialEq)]
pub struct TortoiseSizes {
    /// Of the autoregressive model.
    pub autoregressive: AutoregressiveConfig,
    /// Of the decoder of the streaming path.
    pub hifigan: Option<HifiganConfig>,
    /// Of the decoder of the other path.
    pub diffusion: Option<DiffusionConfig>,
    /// Of what makes sound of its spectrograms.
    pub univnet: Option<UnivnetConfig>,
    /// Of what ranks readings.
    pub clvp: Option<ClvpConfig>,
    /// Whether there is a network that makes voices out of nothing.
    pub random_voices: bool,
    /// And one that makes what the diffusion decoder needs of them.
    pub random_voices_of_diffusion: bool,
}

impl TortoiseSizes {
    /// The published ones, of all networks.
    pub fn published() -> Self {
        Self {
            autoregressive: AutoregressiveConfig::default(),
            hifigan: Some(HifiganConfig::default()),
            diffusion: Some(DiffusionConfig::default()),
            univnet: Some(UnivnetConfig::default()),
            clvp: Some(ClvpConfig::default()),
            random_voices: true,
            random_voices_of_diffusion: true,
        }
    }
}

impl TryFrom<&Sizes> for TortoiseSizes {
    type Error = candle_core::Error;

    /// Of an import; networks that are made otherwise than the published ones are refused.
    fn try_from(sizes: &Sizes) -> Result<Self> {
        let from = &sizes.autoregressive;
        let autoregressive = AutoregressiveConfig {
            layers: from.layers,
            width: from.width,
            heads: from.heads,
            conditioning_blocks: from.voice_layers,
            mel_bands: from.mel_bands,
            text_tokens: from.text_tokens,
            start_text: from.start_text_token as u32,
            stop_text: from.stop_text_token as u32,
            text_positions: from.text_positions,
            mel_codes: from.mel_codes,
            start_mel: from.start_mel_code as u32,
            stop_mel: from.stop_mel_code as u32,
            mel_positions: from.mel_positions,
            ..AutoregressiveConfig::default()
        };
        let hifigan = sizes.hifigan.as_ref().map(|from| HifiganConfig {
            latent: from.latent_width,
            voice: from.voice_width,
            channels: from.channels,
            strides: from.strides.clone(),
            taps: from.stride_kernels.clone(),
            block_taps: from.kernels.clone(),
            dilations: from.dilations.clone(),
            ..HifiganConfig::default()
        });
        let diffusion = sizes.diffusion.as_ref().map(|from| {
            let others =
                [from.last_layers, from.time_layers, from.latent_layers, from.voice_layers];
            if others != [3, 3, 4, 5] || from.outputs != 2 * from.mel_bands {
                bail!("a diffusion decoder with {from:?} is none that is known");
            }
            Ok(DiffusionConfig {
                channels: from.width,
                layers: from.layers,
                heads: from.heads,
                mel_bands: from.mel_bands,
                latent_channels: from.latent_width,
            })
        });
        let univnet = sizes.univnet.as_ref().map(|from| UnivnetConfig {
            bands: from.mel_bands,
            noise: from.noise,
            channels: from.channels,
            predictor: from.hidden,
            strides: from.strides.clone(),
            dilations: from.dilations.clone(),
        });
        let clvp = sizes.clvp.as_ref().map(|from| {
            let text = (from.text_width, from.text_layers, from.text_heads, from.text_inner);
            let speech =
                (from.speech_width, from.speech_layers, from.speech_heads, from.speech_inner);
            if text != speech || from.text_inner != 2 * from.text_width || from.rotary_angles != 16
            {
                bail!("a CLVP with {from:?} is none that is known");
            }
            Ok(ClvpConfig {
                width: from.text_width,
                depth: from.text_layers,
                heads: from.text_heads,
                latent: from.latent_width,
                text_ids: from.text_tokens,
                codes: from.speech_codes,
            })
        });
        Ok(Self {
            autoregressive,
            hifigan,
            diffusion: diffusion.transpose()?,
            univnet,
            clvp: clvp.transpose()?,
            random_voices: sizes.random_voice_autoregressive.is_some(),
            random_voices_of_diffusion: sizes.random_voice_diffusion.is_some(),
        })
    }
}

/// Spectrogram, and sound of it.
pub(super) struct Spectral {
    pub(super) diffusion: DiffusionDecoder,
    pub(super) embedder: ContextualEmbedder,
    pub(super) univnet: Univnet,
    pub(super) univnet_config: UnivnetConfig,
    pub(super) clvp: Option<Clvp>,
    pub(super) random: Option<RandomVoice>,
}

/// What is loaded. A path whose networks are not needed is left out.
pub(super) struct Networks {
    pub(super) autoregressive: Arc<Autoregressive>,
    pub(super) hifigan: Option<Arc<Hifigan>>,
    pub(super) spectral: Option<Spectral>,
    pub(super) random: Option<RandomVoice>,
    pub(super) device: Device,
}

/// Where the tensors of a network come from, in the format that they are wanted in.
pub type Source<'a> = &'a dyn Fn(Weights, DType) -> Result<VarBuilder<'static>>;

impl Networks {
    /// Loads what streaming needs, or what quality needs.
    pub(super) fn load(
        sizes: &TortoiseSizes,
        is_streaming: bool,
        device: &Device,
        weights: Source<'_>,
    ) -> Result<Self> {
        // Most of the time goes into reading the autoregressive model's weights; what makes sound
        // loses too much in half precision.
        let half = if device.is_cuda() { DType::BF16 } else { DType::F32 };
        let whole = |network| weights(network, DType::F32);
        let autoregressive = &sizes.autoregressive;
        let model = Autoregressive::load(autoregressive, &weights(Weights::Autoregressive, half)?)?;
        let (mut hifigan, mut spectral, mut random) = (None, None, None);
        if is_streaming {
            let Some(config) = &sizes.hifigan else {
                bail!(
                    "the model has no decoder that streams (hifidecoder.pth): import it, or choose another preset"
                )
            };
            hifigan = Some(Arc::new(Hifigan::load(config, &whole(Weights::Hifigan)?)?));
        } else {
            let (Some(config), Some(univnet_config)) = (&sizes.diffusion, &sizes.univnet) else {
                bail!(
                    "the model has no diffusion decoder or vocoder (diffusion_decoder.pth, vocoder.pth): import them, or choose the preset streaming"
                )
            };
            let diffusion = whole(Weights::Diffusion)?;
            let clvp = match &sizes.clvp {
                Some(config) => Some(Clvp::load(config, &whole(Weights::Clvp)?)?),
                None => None,
            };
            let random = match sizes.random_voices_of_diffusion {
                true => Some(RandomVoice::load(
                    2 * config.channels,
                    &whole(Weights::RandomVoiceDiffusion)?,
                )?),
                false => None,
            };
            spectral = Some(Spectral {
                embedder: ContextualEmbedder::load(config, &diffusion)?,
                diffusion: DiffusionDecoder::load(config, &diffusion)?,
                univnet: Univnet::load(univnet_config, &whole(Weights::Univnet)?)?,
                univnet_config: univnet_config.clone(),
                clvp,
                random,
            });
        }
        if sizes.random_voices {
            let weights = whole(Weights::RandomVoiceAutoregressive)?;
            random = Some(RandomVoice::load(autoregressive.width, &weights)?);
        }
        let autoregressive = Arc::new(model);
        Ok(Self { autoregressive, hifigan, spectral, random, device: device.clone() })
    }
}

/// Tensors of the files in a folder. They keep their precision until a network takes them.
pub(super) fn files(
    folder: &Path,
    device: &Device,
) -> impl Fn(Weights, DType) -> Result<VarBuilder<'static>> {
    let (folder, device): (PathBuf, _) = (folder.to_owned(), device.clone());
    move |network, kind| {
        let tensors = super::weights::read(&folder.join(network.file()), &device)?;
        Ok(VarBuilder::from_tensors(tensors, kind, &device))
    }
}
