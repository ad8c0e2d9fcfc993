//! Normalisation and activation in one pass: the affine map that a normalisation comes down to, then
//! the snake activation `x + sin²(f x) / f` (Ziyin et al., 2020). Each channel has numbers of its own.

use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// Pi in two parts; products of the first with small integers are exact.
const PI_HIGH: f32 = 3.140_625;
const PI_LOW: f32 = 9.676_536e-4;
/// No angle that is left is larger than this, squared.
const QUARTER_TURN_SQUARED: f32 = 2.467_401;
/// `sin(x) / x` within a quarter turn as a polynomial in `x²`, fitted such that the largest error of
/// the sine is least: 4e-9.
const SINE: [f32; 5] = [0.999_999_98, -0.166_666_48, 8.332_9e-3, -1.980_089_8e-4, 2.590_488_5e-6];

/// Rows of channels, and the numbers of each channel. There is a multiple of 16 channels.
pub(super) struct Snake<'a> {
    pub(super) input: &'a [f32],
    pub(super) scales: &'a [f32],
    pub(super) shifts: &'a [f32],
    pub(super) frequencies: &'a [f32],
    /// One over the frequencies.
    pub(super) amplitudes: &'a [f32],
    pub(super) output: &'a mut [f32],
}

impl SimdOp for Snake<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let channels = self.scales.len();
        let mut sine = [ops.zero(); SINE.len()];
        for (splat, coefficient) in sine.iter_mut().zip(SINE) {
            *splat = ops.splat(coefficient);
        }
        let per_turn = ops.splat(std::f32::consts::FRAC_1_PI);
        let (high, low) = (ops.splat(PI_HIGH), ops.splat(PI_LOW));
        let most = ops.splat(QUARTER_TURN_SQUARED);
        for lane in (0..channels).step_by(ops.len()) {
            let scale = ops.load(&self.scales[lane..]);
            let shift = ops.load(&self.shifts[lane..]);
            let frequency = ops.load(&self.frequencies[lane..]);
            let amplitude = ops.load(&self.amplitudes[lane..]);
            let rows = self.output.chunks_exact_mut(channels);
            for (output, input) in rows.zip(self.input.chunks_exact(channels)) {
                let x = ops.mul_add(ops.load(&input[lane..]), scale, shift);
                let angle = ops.mul(x, frequency);
                // The square of a sine repeats every half turn and has no sign.
                let halves = ops.round_ties_even(ops.mul(angle, per_turn));
                let rest = ops.mul_sub_from(halves, high, angle);
                let rest = ops.mul_sub_from(halves, low, rest);
                let square = ops.min(ops.mul(rest, rest), most);
                let ratio = ops.mul_add(sine[4], square, sine[3]);
                let ratio = ops.mul_add(ratio, square, sine[2]);
                let ratio = ops.mul_add(ratio, square, sine[1]);
                let ratio = ops.mul_add(ratio, square, sine[0]);
                let squared_sine = ops.mul(ops.mul(ratio, ratio), square);
                ops.store(ops.mul_add(squared_sine, amplitude, x), &mut output[lane..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_is_scaled_shifted_and_bent_by_its_own_numbers() {
        let channels = 32;
        let numbers = |factor: f32, offset: f32| -> Vec<f32> {
            (0..channels).map(|channel| factor * channel as f32 + offset).collect()
        };
        let (scales, shifts) = (numbers(0.1, 0.5), numbers(-0.3, 2.0));
        let frequencies = numbers(0.25, -4.1);
        let amplitudes: Vec<f32> = frequencies.iter().map(|frequency| frequency.recip()).collect();
        let input: Vec<f32> = (0..2000 * channels)
            .map(|index| (index as f32 * 0.37).sin() * (index as f32 / 2000.0))
            .collect();
        let mut output = vec![0.0; input.len()];
        Snake {
            input: &input,
            scales: &scales,
            shifts: &shifts,
            frequencies: &frequencies,
            amplitudes: &amplitudes,
            output: &mut output,
        }
        .dispatch();
        for (index, (value, x)) in output.iter().zip(&input).enumerate() {
            let channel = index % channels;
            let x = f64::from(x * scales[channel] + shifts[channel]);
            let frequency = f64::from(frequencies[channel]);
            let wanted = x + (frequency * x).sin().powi(2) / frequency;
            // The angle is rounded: that much of it the sine cannot know.
            let bound = 1e-6 * (1.0 + x.abs() + 1.0 / frequency.abs());
            assert!((f64::from(*value) - wanted).abs() < bound, "{x} {frequency}: {value}");
        }
    }

    #[test]
    fn angles_beyond_all_measure_are_bent_no_further_than_a_sine_bends() {
        let ones = [1.0; 16];
        for wild in [1e9, -1e30, f32::MAX, f32::INFINITY, f32::NAN] {
            let mut output = [0.0; 16];
            Snake {
                input: &[wild; 16],
                scales: &ones,
                shifts: &[0.0; 16],
                frequencies: &ones,
                amplitudes: &ones,
                output: &mut output,
            }
            .dispatch();
            let apart = (output[0] - wild).abs();
            assert!(!wild.is_finite() || apart <= 1.0 + wild.abs() * 1e-6, "{wild}: {apart}");
        }
    }
}
