//! From one sample rate to another, as the voices that Tortoise was trained on were converted: by a
//! sinc under a Hann window, six zero crossings to each side, whose cut-off lies at 99 % of the lower
//! Nyquist frequency (Smith, "Digital Audio Resampling", 2002; the defaults of torchaudio). Spectrograms
//! of the same clip are then the same up to the last band.

use std::f64::consts::PI;

/// Zero crossings to each side.
const CROSSINGS: f64 = 6.0;
/// Cut-off, as a share of the lower Nyquist frequency.
const ROLLOFF: f64 = 0.99;

/// A fixed conversion.
pub(super) struct Resampler {
    /// The rates, without their common divisor.
    from: usize,
    to: usize,
    /// The taps of one output sample for each place between input samples that comes up.
    phases: Vec<Phase>,
}

struct Phase {
    /// Of the first tap, from the input sample on or before which the output sample lies.
    first: isize,
    taps: Vec<f32>,
}

impl Resampler {
    /// Neither rate is nought. Holds up to `to_hz` sets of taps, if the rates have no common divisor.
    pub fn new(from_hz: u32, to_hz: u32) -> Self {
        let divisor = common_divisor(from_hz, to_hz);
        let (from, to) = ((from_hz / divisor) as usize, (to_hz / divisor) as usize);
        // Of the lower Nyquist frequency to that of the input.
        let cutoff = ROLLOFF * (to as f64 / from as f64).min(1.0);
        let reach = CROSSINGS / cutoff;
        let phase = |index: usize| {
            let place = index as f64 * from as f64 / to as f64;
            let first = (place - reach).ceil();
            let count = ((place + reach).floor() - first) as usize + 1;
            let tap = |tap: usize| {
                let crossings = cutoff * (first + tap as f64 - place);
                let window = (crossings * PI / CROSSINGS / 2.0).cos().powi(2);
                (cutoff * sinc(crossings) * window) as f32
            };
            Phase { first: first as isize, taps: (0..count).map(tap).collect() }
        };
        let phases = if from == to { Vec::new() } else { (0..to).map(phase).collect() };
        Self { from, to, phases }
    }

    /// Converts a whole recording, before and after which is silence. The result lasts as long, rounded
    /// up to a sample.
    pub fn convert(&self, samples: &[f32]) -> Vec<f32> {
        if self.from == self.to {
            return samples.to_vec();
        }
        let length = (samples.len() * self.to).div_ceil(self.from);
        let value = |index: usize| {
            let phase = &self.phases[index % self.to];
            let start = (index / self.to * self.from) as isize + phase.first;
            let before = start.min(0).unsigned_abs().min(phase.taps.len());
            let heard = samples.get(start.max(0).unsigned_abs()..).unwrap_or_default();
            heard.iter().zip(&phase.taps[before..]).map(|(sample, tap)| sample * tap).sum()
        };
        (0..length).map(value).collect()
    }
}

fn sinc(crossings: f64) -> f64 {
    if crossings == 0.0 { 1.0 } else { (PI * crossings).sin() / (PI * crossings) }
}

fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::super::mel::tests::{numbers, reference};
    use super::*;

    const RATES: [(u32, u32); 6] = [
        (22_050, 24_000),
        (48_000, 22_050),
        (44_100, 22_050),
        (16_000, 22_050),
        (8_000, 22_050),
        (44_101, 22_050),
    ];

    fn tone(hz: f64, rate_hz: u32, samples: usize) -> Vec<f32> {
        let step = hz / f64::from(rate_hz);
        (0..samples).map(|n| (0.5 * (TAU * step * n as f64).sin()) as f32).collect()
    }

    /// How far below the power of `expected` that of the difference lies, in dB.
    fn signal_to_noise(actual: &[f32], expected: &[f32]) -> f64 {
        let power = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
        let pairs = actual.iter().zip(expected);
        let noise = power(&mut pairs.map(|(a, b)| f64::from(a - b)));
        10.0 * (power(&mut expected.iter().copied().map(f64::from)) / noise).log10()
    }

    #[test]
    fn a_clip_is_converted_as_in_the_reference() {
        let samples = numbers(&reference("wav"));
        let expected = numbers(&reference("resample_22k_24k"));
        let actual = Resampler::new(22_050, 24_000).convert(&samples);
        assert_eq!(actual.len(), expected.len());
        let ratio = signal_to_noise(&actual, &expected);
        assert!(ratio > 100.0, "{ratio} dB");
    }

    #[test]
    fn a_tone_stays_the_tone_it_was() {
        for (from, to) in RATES {
            let actual = Resampler::new(from, to).convert(&tone(1_000.0, from, from as usize));
            assert_eq!(actual.len(), to as usize);
            let ends = actual.len() / 10;
            let inner = ends..actual.len() - ends;
            let expected = tone(1_000.0, to, actual.len());
            let ratio = signal_to_noise(&actual[inner.clone()], &expected[inner]);
            assert!(ratio > 50.0, "{from} to {to}: {ratio} dB");
        }
    }

    #[test]
    fn equal_rates_change_nothing() {
        let samples = tone(440.0, 22_050, 1_000);
        assert_eq!(Resampler::new(22_050, 22_050).convert(&samples), samples);
    }

    proptest! {
        #[test]
        fn the_length_is_exact_for_any_length(pair in 0..RATES.len(), length in 0usize..600) {
            let (from, to) = RATES[pair];
            let converted = Resampler::new(from, to).convert(&vec![0.25; length]);
            prop_assert_eq!(converted.len(), (length * to as usize).div_ceil(from as usize));
            prop_assert!(converted.iter().all(|sample| sample.abs() < 0.5));
        }
    }
}
