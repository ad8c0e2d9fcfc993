//! The two mel spectrograms that Tortoise hears reference clips as.
//!
//! That of the autoregressive model ([`ConditioningMel`]) is of powers at 22.05 kHz on the mel scale
//! of HTK (Young et al., "The HTK Book"), that of the diffusion model ([`DiffusionMel`]) of magnitudes
//! at 24 kHz on the one of Slaney's Auditory Toolbox (1998), as in librosa. Both weight triangles to
//! equal areas and take logarithms, of frames of 1024 samples under a Hann window, 256 apart, centred
//! with mirrored edges.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Rate that [`ConditioningMel`] takes.
pub const CONDITIONING_RATE_HZ: u32 = 22_050;
/// Rate that [`DiffusionMel`] takes.
pub const DIFFUSION_RATE_HZ: u32 = 24_000;
/// Bands of [`ConditioningMel`].
pub const CONDITIONING_BANDS: usize = 80;
/// Bands of [`DiffusionMel`].
pub const DIFFUSION_BANDS: usize = 100;

const FRAME_SAMPLES: usize = 1024;
const HOP_SAMPLES: usize = 256;
const BINS: usize = FRAME_SAMPLES / 2 + 1;
const CONDITIONING_TOP_HZ: f64 = 8_000.0;
const DIFFUSION_TOP_HZ: f64 = 12_000.0;
/// Less than this counts as this much.
const FLOOR: f32 = 1e-5;

/// What the published model divides each band's logarithms by: the package tortoise-tts 3.0.0 (James
/// Betker, licensed under Apache-2.0) comes with these numbers as `mel_norms.pth`.
#[rustfmt::skip]
pub const MEL_NORMS: [f32; CONDITIONING_BANDS] = [
    -7.0094604, -6.0832334, -4.643991, -3.3562171, -2.4547813, -2.0096862, -1.6035903, -1.8640903,
    -2.3727996, -2.3455493, -2.5947032, -2.6695044, -2.712865, -2.8554766, -3.0250936, -3.088925,
    -3.4261477, -3.6758707, -4.0779943, -4.462376, -4.7811594, -5.0074525, -5.128354, -5.2716646,
    -5.40056, -5.499322, -5.5310407, -5.5878043, -5.672626, -5.7015767, -5.794292, -5.883075,
    -5.953696, -5.998858, -6.0305257, -6.053944, -6.0747695, -6.116334, -6.148137, -6.247625,
    -6.31952, -6.4457083, -6.537699, -6.6109824, -6.648107, -6.6671314, -6.6539483, -6.6499467,
    -6.6793838, -6.783321, -6.9306965, -7.081806, -7.189355, -7.2439027, -7.316775, -7.3778706,
    -7.4491, -7.52332, -7.6223617, -7.7473035, -7.8994164, -8.060431, -8.218083, -8.399795,
    -8.555578, -8.716107, -8.848075, -8.95816, -9.037121, -9.086742, -9.1545925, -9.203839,
    -9.233387, -9.229236, -9.230441, -9.26798, -9.315551, -9.371553, -9.416545, -9.482238,
];

/// Why there is no spectrogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MelError {
    /// The edges cannot be mirrored: give more samples.
    #[error("a spectrogram needs more than {least} samples, not {0}", least = FRAME_SAMPLES / 2)]
    TooShort(usize),
}

/// A mel spectrogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Mel {
    bands: usize,
    frames: usize,
    values: Vec<f32>,
}

impl Mel {
    /// Number of bands, the lowest one first.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Band by band, each with one value for every frame.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// As `[1, bands, frames]`.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_slice(&self.values, (1, self.bands, self.frames), device)
    }
}

/// Computes the spectrogram that the autoregressive model hears.
#[derive(Clone)]
pub struct ConditioningMel {
    frames: Frames,
    norms: [f32; CONDITIONING_BANDS],
}

impl Default for ConditioningMel {
    /// That of the published model.
    fn default() -> Self {
        Self::new(MEL_NORMS)
    }
}

impl ConditioningMel {
    /// For a model that was trained with other norms than [`MEL_NORMS`]; none of them is nought.
    pub fn new(norms: [f32; CONDITIONING_BANDS]) -> Self {
        let filters = filters(CONDITIONING_BANDS, CONDITIONING_RATE_HZ, CONDITIONING_TOP_HZ, &Htk);
        Self { frames: Frames::new(filters), norms }
    }

    /// Spectrogram of `samples` (mono, [`CONDITIONING_RATE_HZ`]): [`CONDITIONING_BANDS`] bands and a
    /// frame for every 256 samples, and one. Samples that are no finite number count as silence.
    ///
    /// # Errors
    /// [`MelError::TooShort`] up to 512 samples.
    pub fn compute(&self, samples: &[f32]) -> Result<Mel, MelError> {
        let mut mel = self.frames.compute(samples, |sample| sample, |bin| bin.norm_sqr())?;
        for (band, norm) in mel.values.chunks_exact_mut(mel.frames).zip(self.norms) {
            for value in band {
                *value /= norm;
            }
        }
        Ok(mel)
    }
}

/// Computes the spectrogram that the diffusion model hears.
#[derive(Clone)]
pub struct DiffusionMel {
    frames: Frames,
}

impl Default for DiffusionMel {
    fn default() -> Self {
        let filters = filters(DIFFUSION_BANDS, DIFFUSION_RATE_HZ, DIFFUSION_TOP_HZ, &Slaney);
        Self { frames: Frames::new(filters) }
    }
}

impl DiffusionMel {
    /// Spectrogram of `samples` (mono, [`DIFFUSION_RATE_HZ`], limited to -1 to 1):
    /// [`DIFFUSION_BANDS`] bands and a frame for every 256 samples, and one. Samples that are no finite
    /// number count as silence.
    ///
    /// # Errors
    /// [`MelError::TooShort`] up to 512 samples.
    pub fn compute(&self, samples: &[f32]) -> Result<Mel, MelError> {
        self.frames.compute(samples, |sample| sample.clamp(-1.0, 1.0), |bin| bin.norm())
    }
}

/// What both have in common.
#[derive(Clone)]
struct Frames {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    filters: Vec<Filter>,
}

/// One triangle: its first bin and its weights from there on.
#[derive(Clone)]
struct Filter {
    first_bin: usize,
    weights: Vec<f32>,
}

impl Frames {
    fn new(filters: Vec<Filter>) -> Self {
        let window = (0..FRAME_SAMPLES)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / FRAME_SAMPLES as f64;
                (0.5 - 0.5 * phase.cos()) as f32
            })
            .collect();
        let fft = RealFftPlanner::new().plan_fft_forward(FRAME_SAMPLES);
        Self { fft, window, filters }
    }

    /// Logarithms of what the filters let through of each bin's `measure`.
    fn compute(
        &self,
        samples: &[f32],
        limited: impl Fn(f32) -> f32,
        measure: impl Fn(Complex<f32>) -> f32,
    ) -> Result<Mel, MelError> {
        let reach = FRAME_SAMPLES / 2;
        if samples.len() <= reach {
            return Err(MelError::TooShort(samples.len()));
        }
        let frames = 1 + samples.len() / HOP_SAMPLES;
        let mut values = vec![0.0; self.filters.len() * frames];
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut block = vec![0.0; FRAME_SAMPLES];
        let mut measured = [0.0f32; BINS];
        let last = samples.len() - 1;
        for frame in 0..frames {
            for (offset, (value, window)) in block.iter_mut().zip(&self.window).enumerate() {
                // What lies before the beginning or after the end is mirrored there.
                let index = (frame * HOP_SAMPLES + offset).abs_diff(reach);
                let sample = samples[last - last.abs_diff(index)];
                *value = if sample.is_finite() { limited(sample) * window } else { 0.0 };
            }
            self.fft
                .process_with_scratch(&mut block, &mut spectrum, &mut scratch)
                .expect("buffers come from the plan");
            for (measured, bin) in measured.iter_mut().zip(&spectrum) {
                *measured = measure(*bin);
            }
            for (band, filter) in self.filters.iter().enumerate() {
                let bins = &measured[filter.first_bin..];
                let sum: f32 = bins.iter().zip(&filter.weights).map(|(a, b)| a * b).sum();
                values[band * frames + frame] = sum.max(FLOOR).ln();
            }
        }
        Ok(Mel { bands: self.filters.len(), frames, values })
    }
}

/// What is heard as equally far apart.
trait Scale {
    fn mel_of(&self, hz: f64) -> f64;
    fn hz_of(&self, mel: f64) -> f64;
}

/// Logarithmic from about 700 Hz on.
struct Htk;

impl Scale for Htk {
    fn mel_of(&self, hz: f64) -> f64 {
        2595.0 * (1.0 + hz / 700.0).log10()
    }

    fn hz_of(&self, mel: f64) -> f64 {
        700.0 * (10f64.powf(mel / 2595.0) - 1.0)
    }
}

/// Linear up to 1 kHz, 15 mel, and logarithmic above.
struct Slaney;

impl Slaney {
    const BREAK_HZ: f64 = 1000.0;
    const BREAK_MEL: f64 = 15.0;

    fn step() -> f64 {
        6.4f64.ln() / 27.0
    }
}

impl Scale for Slaney {
    fn mel_of(&self, hz: f64) -> f64 {
        if hz < Self::BREAK_HZ {
            return hz / Self::BREAK_HZ * Self::BREAK_MEL;
        }
        Self::BREAK_MEL + (hz / Self::BREAK_HZ).ln() / Self::step()
    }

    fn hz_of(&self, mel: f64) -> f64 {
        if mel < Self::BREAK_MEL {
            return mel / Self::BREAK_MEL * Self::BREAK_HZ;
        }
        Self::BREAK_HZ * (Self::step() * (mel - Self::BREAK_MEL)).exp()
    }
}

/// Triangles between `count + 2` edges, from 0 Hz on, equally far apart on the scale; their area in Hz
/// is one.
fn filters(count: usize, rate_hz: u32, top_hz: f64, scale: &dyn Scale) -> Vec<Filter> {
    let top_mel = scale.mel_of(top_hz);
    let edge = |index: usize| scale.hz_of(top_mel * index as f64 / (count + 1) as f64);
    (0..count)
        .map(|band| {
            let (low, centre, high) = (edge(band), edge(band + 1), edge(band + 2));
            let weight = |bin: usize| {
                let hz = bin as f64 * f64::from(rate_hz) / FRAME_SAMPLES as f64;
                let slope = ((hz - low) / (centre - low)).min((high - hz) / (high - centre));
                (slope.max(0.0) * 2.0 / (high - low)) as f32
            };
            let first_bin = (0..BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
            let weights = (first_bin..BINS).map(weight).take_while(|&w| w > 0.0).collect();
            Filter { first_bin, weights }
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// What the reference implementation gave.
    pub fn reference(name: &str) -> Tensor {
        let path = "tests/fixtures/tortoise/tortoise_mel.safetensors";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut all = candle_core::safetensors::load(path, &Device::Cpu).expect("the values");
        all.remove(&format!("io.{name}")).unwrap_or_else(|| panic!("there is no value {name}"))
    }

    pub fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("numbers")
    }

    /// Largest difference, as a share of the largest value.
    pub fn apart(ours: &[f32], reference: &[f32]) -> f32 {
        assert_eq!(ours.len(), reference.len());
        let largest = reference.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let apart = ours.iter().zip(reference).map(|(a, b)| (a - b).abs());
        apart.fold(0.0, |most: f32, apart| if apart.is_nan() { apart } else { most.max(apart) })
            / largest
    }

    /// `[bands, bins]`.
    fn dense(filters: &[Filter]) -> Vec<f32> {
        let mut dense = vec![0.0; filters.len() * BINS];
        for (row, filter) in dense.chunks_exact_mut(BINS).zip(filters) {
            row[filter.first_bin..][..filter.weights.len()].copy_from_slice(&filter.weights);
        }
        dense
    }

    #[test]
    fn the_filters_are_those_of_the_reference() {
        let filters = dense(&ConditioningMel::default().frames.filters);
        let expected = reference("fb80").t().expect("a matrix");
        assert!(apart(&filters, &numbers(&expected)) < 1e-4);
        let filters = dense(&DiffusionMel::default().frames.filters);
        assert!(apart(&filters, &numbers(&reference("fb100"))) < 1e-4);
    }

    #[test]
    fn the_spectrograms_are_those_of_the_reference() {
        let samples = numbers(&reference("wav"));
        assert_eq!(numbers(&reference("mel_norms")), MEL_NORMS);
        let mel = ConditioningMel::default().compute(&samples).expect("long enough");
        let expected = reference("mel80");
        assert_eq!(mel.tensor(&Device::Cpu).expect("a tensor").dims(), expected.dims());
        assert!(apart(mel.values(), &numbers(&expected)) < 1e-4);
        let mel = DiffusionMel::default().compute(&samples).expect("long enough");
        let expected = reference("mel100");
        assert_eq!(mel.tensor(&Device::Cpu).expect("a tensor").dims(), expected.dims());
        assert!(apart(mel.values(), &numbers(&expected)) < 1e-4);
    }

    #[test]
    fn silence_is_at_the_floor() {
        let mel = DiffusionMel::default().compute(&[0.0; 1024]).expect("long enough");
        assert_eq!((mel.bands(), mel.frames()), (100, 5));
        assert!(mel.values().iter().all(|&value| value == FLOOR.ln()));
        let mel = ConditioningMel::default().compute(&[0.0; 1023]).expect("long enough");
        assert_eq!((mel.bands(), mel.frames()), (80, 4));
        assert_eq!(mel.values()[0], FLOOR.ln() / MEL_NORMS[0]);
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        let tone = |rate_hz: u32| -> Vec<f32> {
            let step = std::f32::consts::TAU * 1000.0 / rate_hz as f32;
            (0..8192).map(|n| (step * n as f32).sin() * 0.5).collect()
        };
        let peak = |mel: &Mel| {
            let value = |band: usize| mel.values()[band * mel.frames() + 16];
            (0..mel.bands()).max_by(|&a, &b| value(a).total_cmp(&value(b))).expect("bands")
        };
        // 1 kHz is 15 of 51.14 mel of Slaney's, and the centres lie 51.14 / 101 apart.
        let mel = DiffusionMel::default().compute(&tone(DIFFUSION_RATE_HZ)).expect("long enough");
        assert_eq!(peak(&mel), 29);
        // It is 1000 of 2840 mel of HTK's, whose centres lie 2840 / 81 apart.
        let even = ConditioningMel::new([1.0; CONDITIONING_BANDS]);
        let mel = even.compute(&tone(CONDITIONING_RATE_HZ)).expect("long enough");
        assert_eq!(peak(&mel), 28);
    }

    #[test]
    fn what_cannot_be_mirrored_is_refused() {
        for samples in [0, 1, 512] {
            let refused = Err(MelError::TooShort(samples));
            assert_eq!(DiffusionMel::default().compute(&vec![0.1; samples]), refused);
            assert_eq!(ConditioningMel::default().compute(&vec![0.1; samples]), refused);
        }
        assert_eq!(DiffusionMel::default().compute(&[0.1; 513]).map(|mel| mel.frames()), Ok(3));
    }

    proptest! {
        #[test]
        fn every_value_is_a_number(
            samples in prop::collection::vec(
                prop_oneof![any::<f32>(), -1.0f32..1.0, Just(f32::NAN), Just(f32::INFINITY)],
                513..2000,
            ),
        ) {
            let mel = DiffusionMel::default().compute(&samples).expect("long enough");
            prop_assert!(mel.values().iter().all(|value| value.is_finite()));
            let mel = ConditioningMel::default().compute(&samples).expect("long enough");
            prop_assert!(mel.values().iter().all(|value| !value.is_nan()));
        }
    }
}
