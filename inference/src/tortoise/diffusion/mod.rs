//! The diffusion decoder: latents of the codes and a voice to a mel spectrogram at 24 kHz, by taking
//! away noise step by step (Ho et al., "Denoising Diffusion Probabilistic Models", 2020).
//!
//! A voice is known by what [`ContextualEmbedder`] makes of recordings of it. For an utterance,
//! [`DiffusionDecoder::conditioning`] computes once what does not depend on the noise;
//! [`sample`] begins with noise and takes the steps of a [`Schedule`], with or without going further in
//! the direction that the conditioning points in (Ho and Salimans, "Classifier-Free Diffusion
//! Guidance", 2022).

mod conditioning;
mod modulation;
mod network;
mod process;
mod schedule;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

pub use conditioning::{ContextualEmbedder, LatentConditioner};
pub use modulation::{Modulation, Modulations, TimeEmbedding, sinusoids};
pub use network::{Conditioning, DiffusionDecoder, Layer};
pub use process::{Noise, Process, Sampler, SamplingConfig, sample};
pub use schedule::{Schedule, Step, TRAINED_STEPS};

use super::layers::Distances;

/// Sample rate of the codes: one for every 1024 samples, four frames of a mel spectrogram.
const CODE_RATE: usize = 22_050;
/// Frames that a code would be at its own rate.
const FRAMES_PER_CODE: usize = 4;
/// Sample rate of the mel spectrogram, of which a frame has as many samples as one at the codes'.
const MEL_RATE: usize = 24_000;
/// Natural logarithms of magnitudes that the network's -1 and 1 stand for.
const MEL_RANGE: (f64, f64) = (-11.512_925_15, 2.314_338_68);

/// Sizes of the diffusion decoder and of its contextual embedder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionConfig {
    /// Width of every layer.
    pub channels: usize,
    /// Layers with attention after the input.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Bands of the mel spectrogram.
    pub mel_bands: usize,
    /// Width of a code's latent.
    pub latent_channels: usize,
}

impl Default for DiffusionConfig {
    /// The published sizes.
    fn default() -> Self {
        Self { channels: 1024, layers: 10, heads: 16, mel_bands: 100, latent_channels: 1024 }
    }
}

impl DiffusionConfig {
    /// Whether a network can have these sizes.
    fn check(&self) -> Result<()> {
        let Self { channels, layers, heads, mel_bands, latent_channels } = *self;
        if [channels, layers, heads, mel_bands, latent_channels].contains(&0) {
            bail!("a size of the diffusion decoder is nought: {self:?}")
        }
        if !channels.is_multiple_of(2) {
            bail!("{channels} channels are not pairs of a sine and a cosine")
        }
        Ok(())
    }
}

/// Frames of 256 samples at 24 kHz that so many codes sound for.
///
/// # Errors
/// There are no codes, or more than the decoder takes.
pub fn frames(codes: usize) -> Result<usize> {
    if codes == 0 || codes > Distances::LONGEST {
        bail!("{codes} codes make no spectrogram")
    }
    let frames = codes * FRAMES_PER_CODE * MEL_RATE / CODE_RATE;
    if frames > Distances::LONGEST {
        bail!("{codes} codes make {frames} frames, more than {}", Distances::LONGEST)
    }
    Ok(frames)
}

/// The network's values, from -1 to 1, as natural logarithms of magnitudes, what a vocoder takes.
///
/// # Errors
/// The device is out of memory.
pub fn denormalised(mel: &Tensor) -> Result<Tensor> {
    let (lowest, highest) = MEL_RANGE;
    let scale = (highest - lowest) / 2.0;
    mel.affine(scale, lowest + scale)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};

    use super::*;

    #[test]
    fn a_code_is_a_little_more_than_four_frames() {
        let counted: Vec<usize> =
            [1, 2, 12, 90, 500].into_iter().map(|codes| frames(codes).expect("frames")).collect();
        assert_eq!(counted, [4, 8, 52, 391, 2176]);
    }

    #[test]
    fn numbers_of_codes_that_cannot_be_are_refused() {
        for codes in [0, 2000, 8192, usize::MAX] {
            assert!(frames(codes).is_err());
        }
    }

    #[test]
    fn the_normalised_range_is_the_range_of_logarithms() {
        let mel = Tensor::new(&[-1.0f32, 0.0, 1.0], &Device::Cpu).expect("a tensor");
        let mel: Vec<f32> =
            denormalised(&mel).and_then(|mel| mel.to_vec1()).expect("three numbers");
        for (actual, expected) in mel.into_iter().zip([-11.512_925, -4.599_293, 2.314_338_7]) {
            assert!((actual - expected).abs() < 1e-5, "{actual} is not {expected}");
        }
    }

    #[test]
    fn the_published_sizes_are_the_default_and_unknown_ones_are_refused() {
        let read = |text: &str| serde_json::from_str::<DiffusionConfig>(text);
        let text = serde_json::to_string(&DiffusionConfig::default()).expect("JSON");
        assert_eq!(read(&text).expect("sizes"), DiffusionConfig::default());
        assert!(read(&text.replace('{', "{\"tokens\":8193,")).is_err());
    }

    #[test]
    fn sizes_that_no_network_can_have_are_refused() {
        let tiny =
            DiffusionConfig { channels: 16, layers: 1, heads: 2, mel_bands: 4, latent_channels: 8 };
        let load = |config: &DiffusionConfig| {
            let vars = VarMap::new();
            let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
            DiffusionDecoder::load(config, &vb.pp("decoder"))
                .and_then(|_| ContextualEmbedder::load(config, &vb.pp("embedder")))
        };
        assert!(load(&tiny).is_ok());
        for config in [
            DiffusionConfig { channels: 0, ..tiny.clone() },
            DiffusionConfig { channels: 15, heads: 3, ..tiny.clone() },
            DiffusionConfig { layers: 0, ..tiny.clone() },
            DiffusionConfig { heads: 0, ..tiny.clone() },
            DiffusionConfig { heads: 3, ..tiny.clone() },
            DiffusionConfig { mel_bands: 0, ..tiny.clone() },
            DiffusionConfig { latent_channels: 0, ..tiny.clone() },
        ] {
            assert!(load(&config).is_err(), "{config:?}");
        }
    }
}
