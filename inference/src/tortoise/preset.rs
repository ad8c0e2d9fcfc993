//! How much is computed for a sentence.

use serde::{Deserialize, Serialize};

use super::diffusion::{Sampler, SamplingConfig};

/// Guidance of the diffusion where it has any.
const GUIDANCE: f64 = 2.0;

/// From sound as early as possible to sound as good as possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// One reading, made into sound while it goes on.
    #[default]
    Streaming,
    /// The best of 16 readings, 30 steps of diffusion without guidance.
    UltraFast,
    /// The best of 96, 80 steps.
    Fast,
    /// The best of 256, 200 steps.
    Standard,
    /// The best of 256, 400 steps.
    HighQuality,
}

/// What the presets that are no streaming do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Readings of a sentence, of which the one is spoken that fits the text best.
    pub candidates: usize,
    /// How its spectrogram is made.
    pub diffusion: SamplingConfig,
}

impl Preset {
    /// What it does beside reading once, with that sampler for its diffusion; `None` where it streams.
    pub fn quality(self, sampler: Sampler) -> Option<Quality> {
        let (candidates, steps, guidance) = match self {
            Self::Streaming => return None,
            Self::UltraFast => (16, 30, None),
            Self::Fast => (96, 80, Some(GUIDANCE)),
            Self::Standard => (256, 200, Some(GUIDANCE)),
            Self::HighQuality => (256, 400, Some(GUIDANCE)),
        };
        let diffusion = SamplingConfig { steps, sampler, guidance, temperature: 1.0 };
        Some(Quality { candidates, diffusion })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_written_as_they_are_known() {
        let named = |name: &str| serde_json::from_value::<Preset>(name.into()).expect("a preset");
        assert_eq!(named("ultra_fast"), Preset::UltraFast);
        let readings =
            |preset: Preset| preset.quality(Sampler::Ddim).map(|quality| quality.candidates);
        assert_eq!(readings(named("high_quality")), Some(256));
        assert_eq!(readings(named("streaming")), None);
    }
}
