//! Log-mel spectrogram as OpenAI's Whisper computes it: Hann window of 400 samples, hop of 160,
//! centred with reflected edges, Slaney mel bands, `log10` floored at 1e-10 and at 8 below the
//! maximum, scaled by `(x + 4) / 4`. Frames of 10 ms, stored frame by frame.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Samples of one Fourier transform (25 ms).
const FFT_SAMPLES: usize = 400;
/// Samples between frames (10 ms).
pub const HOP_SAMPLES: usize = 160;
const BINS: usize = FFT_SAMPLES / 2 + 1;
const SAMPLE_RATE_HZ: f64 = super::SAMPLE_RATE_HZ as f64;
/// Power below this counts as silence.
const POWER_FLOOR: f32 = 1e-10;

/// Computes spectrograms with a fixed number of mel bands.
pub struct MelSpectrogram {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    bands: Vec<Band>,
}

/// One triangular filter: its first bin and its weights from there on.
struct Band {
    first_bin: usize,
    weights: Vec<f32>,
}

impl MelSpectrogram {
    /// `bands` is 80, or 128 from large-v3 on.
    pub fn new(bands: usize) -> Self {
        let window = (0..FFT_SAMPLES)
            .map(|n| {
                let phase = std::f64::consts::TAU * n as f64 / FFT_SAMPLES as f64;
                (0.5 - 0.5 * phase.cos()) as f32
            })
            .collect();
        let fft = RealFftPlanner::new().plan_fft_forward(FFT_SAMPLES);
        Self { fft, window, bands: slaney_bands(bands) }
    }

    /// Spectrogram of `samples` (16 kHz mono) continued by silence to `frames` frames: `frames` rows
    /// of one value per band. Samples beyond the last frame are not read; samples that are no finite
    /// number count as silence.
    pub fn compute(&self, samples: &[f32], frames: usize) -> Vec<f32> {
        let bands = self.bands.len();
        let mut spectrogram = vec![POWER_FLOOR.log10(); frames * bands];
        let samples = &samples[..samples.len().min(frames * HOP_SAMPLES)];
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut block = vec![0.0; FFT_SAMPLES];
        let mut power = [0.0f32; BINS];
        let mut maximum = POWER_FLOOR.log10();

        let reach = FFT_SAMPLES / 2;
        for (frame, row) in spectrogram.chunks_exact_mut(bands).enumerate() {
            let centre = frame * HOP_SAMPLES;
            if centre >= samples.len() + reach {
                break;
            }
            for (offset, (value, window)) in block.iter_mut().zip(&self.window).enumerate() {
                // Before the beginning the signal is mirrored; after its end there is the pad.
                let index = (centre + offset).abs_diff(reach);
                let sample = samples.get(index).copied().unwrap_or(0.0);
                *value = if sample.is_finite() { sample * window } else { 0.0 };
            }
            self.fft
                .process_with_scratch(&mut block, &mut spectrum, &mut scratch)
                .expect("buffers come from the plan");
            for (power, bin) in power.iter_mut().zip(&spectrum) {
                *power = bin.norm_sqr();
            }
            for (value, band) in row.iter_mut().zip(&self.bands) {
                let bins = &power[band.first_bin..];
                let sum: f32 = bins.iter().zip(&band.weights).map(|(a, b)| a * b).sum();
                *value = sum.max(POWER_FLOOR).log10();
                maximum = maximum.max(*value);
            }
        }
        let floor = maximum - 8.0;
        for value in &mut spectrogram {
            *value = (value.max(floor) + 4.0) / 4.0;
        }
        spectrogram
    }
}

/// Slaney's mel scale: linear below 1 kHz, logarithmic above; bands of equal area
/// (Auditory Toolbox, 1998, as in librosa's default).
fn slaney_bands(count: usize) -> Vec<Band> {
    const HZ_PER_MEL: f64 = 200.0 / 3.0;
    const BREAK_MEL: f64 = 1000.0 / HZ_PER_MEL;
    let log_step = 6.4f64.ln() / 27.0;
    let to_hz = |mel: f64| {
        if mel < BREAK_MEL {
            mel * HZ_PER_MEL
        } else {
            1000.0 * (log_step * (mel - BREAK_MEL)).exp()
        }
    };
    let top_mel = BREAK_MEL + (SAMPLE_RATE_HZ / 2.0 / 1000.0).ln() / log_step;
    let edge = |index: usize| to_hz(top_mel * index as f64 / (count + 1) as f64);
    (0..count)
        .map(|band| {
            let (low, centre, high) = (edge(band), edge(band + 1), edge(band + 2));
            let weight = |bin: usize| {
                let hz = bin as f64 * SAMPLE_RATE_HZ / FFT_SAMPLES as f64;
                let slope = ((hz - low) / (centre - low)).min((high - hz) / (high - centre));
                (slope.max(0.0) * 2.0 / (high - low)) as f32
            };
            let first_bin = (0..BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
            let weights = (first_bin..BINS).map(weight).take_while(|&w| w > 0.0).collect();
            Band { first_bin, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| (std::f32::consts::TAU * hz * n as f32 / 16_000.0).sin() * 0.5)
            .collect()
    }

    #[test]
    fn silence_is_flat() {
        let mel = MelSpectrogram::new(80).compute(&[0.0; 1600], 20);
        assert_eq!(mel.len(), 20 * 80);
        assert!(mel.iter().all(|&value| (value - (-10.0 + 4.0) / 4.0).abs() < 1e-6));
    }

    #[test]
    fn a_tone_of_1_khz_peaks_in_its_band_and_the_floor_is_two_below() {
        let mel = MelSpectrogram::new(80).compute(&tone(1000.0, 16_000), 100);
        let row = &mel[50 * 80..51 * 80];
        let peak = (0..80).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("80 bands");
        // Band centres lie 45.245 / 81 mel apart, 1 kHz is 15 mel.
        assert_eq!(peak, 26);
        let (low, high) = row.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        assert!((high - low - 2.0).abs() < 1e-3, "{low} to {high}");
    }

    #[test]
    fn samples_that_are_no_numbers_count_as_silence() {
        let mel = MelSpectrogram::new(128).compute(&[f32::NAN, f32::INFINITY, 0.0], 4);
        assert!(mel.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn bands_have_the_area_of_slaneys() {
        for count in [80, 128] {
            let bands = slaney_bands(count);
            assert_eq!(bands.len(), count);
            // The widest band is well sampled: its area in Hz is one.
            let area: f32 = bands[count - 1].weights.iter().sum::<f32>() * 40.0;
            assert!((area - 1.0).abs() < 0.02, "{area}");
        }
    }
}
