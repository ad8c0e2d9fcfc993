//! The two numeric kernels of the VAD: a matrix that is stored for fast products with a vector,
//! and the magnitude spectrum.
//!
//! Both are plain loops over arrays of a fixed size, which the compiler turns into vector code on
//! every target.

use std::f64::consts::TAU;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Outputs computed together: their sums stay in vector registers while the inputs stream by.
const TILE: usize = 32;

/// A matrix of `outputs × inputs`, stored in tiles of [`TILE`] outputs; within a tile the weights
/// of one input lie side by side.
pub struct Packed {
    weights: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Packed {
    /// Packs the matrix whose element (output, input) is `weight(output, input)`. The number of
    /// outputs is the length of `bias` and a multiple of [`TILE`].
    pub fn new(bias: Vec<f32>, inputs: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        assert!(bias.len().is_multiple_of(TILE), "outputs come in whole tiles");
        let mut weights = Vec::with_capacity(bias.len() * inputs);
        for first in (0..bias.len()).step_by(TILE) {
            for input in 0..inputs {
                weights.extend((first..first + TILE).map(|output| weight(output, input)));
            }
        }
        Self { weights, bias, inputs }
    }

    /// For each frame f: `output[f] = bias + matrix · input[f]`, where the input of a frame is the
    /// `inputs` values that begin at `frame_step * f`, so that overlapping windows (a convolution
    /// over frames laid end to end) need no copy. `output` is frame after frame.
    pub fn apply(&self, input: &[f32], frame_step: usize, output: &mut [f32]) {
        let outputs = self.bias.len();
        for (tile, weights) in self.weights.chunks_exact(TILE * self.inputs).enumerate() {
            let place = tile * TILE..(tile + 1) * TILE;
            for (frame, target) in output.chunks_exact_mut(outputs).enumerate() {
                let window = &input[frame * frame_step..][..self.inputs];
                let mut sums = [0.0f32; TILE];
                sums.copy_from_slice(&self.bias[place.clone()]);
                // Indexed loops: iterator adapters stay calls in an incremental build.
                for (input, row) in weights.as_chunks::<TILE>().0.iter().enumerate() {
                    let value = window[input];
                    for lane in 0..TILE {
                        sums[lane] += row[lane] * value;
                    }
                }
                target[place.clone()].copy_from_slice(&sums);
            }
        }
    }
}

/// Samples in one spectrum.
pub const WINDOW: usize = 256;
/// Values in one spectrum.
pub const BINS: usize = WINDOW / 2 + 1;

/// The plan of the magnitude spectrum: a periodic Hann window, then a real FFT.
pub struct Spectrum {
    window: [f32; WINDOW],
    fft: Arc<dyn RealToComplex<f32>>,
}

/// What one spectrum writes on the way.
pub struct SpectrumScratch {
    windowed: Vec<f32>,
    bins: Vec<Complex<f32>>,
    fft: Vec<Complex<f32>>,
}

impl Spectrum {
    /// Plans the transform.
    pub fn new() -> Self {
        let window = std::array::from_fn(|n| hann(n) as f32);
        Self { window, fft: RealFftPlanner::new().plan_fft_forward(WINDOW) }
    }

    /// Buffers for [`magnitudes`](Self::magnitudes); one set per thread of use.
    pub fn scratch(&self) -> SpectrumScratch {
        SpectrumScratch {
            windowed: self.fft.make_input_vec(),
            bins: self.fft.make_output_vec(),
            fft: self.fft.make_scratch_vec(),
        }
    }

    /// Magnitudes of the [`BINS`] frequencies of [`WINDOW`] samples.
    pub fn magnitudes(&self, samples: &[f32], out: &mut [f32], scratch: &mut SpectrumScratch) {
        for ((target, &sample), &factor) in
            scratch.windowed.iter_mut().zip(samples).zip(&self.window)
        {
            *target = sample * factor;
        }
        self.fft
            .process_with_scratch(&mut scratch.windowed, &mut scratch.bins, &mut scratch.fft)
            .expect("the buffers were made by this plan");
        for (target, bin) in out.iter_mut().zip(&scratch.bins) {
            *target = (bin.re * bin.re + bin.im * bin.im).sqrt();
        }
    }
}

/// The periodic Hann window at sample `n`.
fn hann(n: usize) -> f64 {
    0.5 - 0.5 * (TAU * n as f64 / WINDOW as f64).cos()
}

/// Row `row` of the windowed Fourier basis at sample `n`: the real parts of all bins come first,
/// then the imaginary parts.
pub fn fourier_basis(row: usize, n: usize) -> f32 {
    let phase = TAU * ((row % BINS * n) % WINDOW) as f64 / WINDOW as f64;
    (hann(n) * if row < BINS { phase.cos() } else { -phase.sin() }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_matrix_multiplies_overlapping_frames() {
        let weight = |output: usize, input: usize| (output * 7 + input * 3) as f32 % 5.0 - 2.0;
        let bias: Vec<f32> = (0..64).map(|n| n as f32 * 0.5).collect();
        let packed = Packed::new(bias.clone(), 6, weight);
        let input: Vec<f32> = (0..12).map(|n| (n as f32).sin()).collect();
        let mut output = vec![0.0; 3 * 64];
        packed.apply(&input, 3, &mut output);
        for frame in 0..3 {
            for (row, &offset) in bias.iter().enumerate() {
                let want: f32 =
                    offset + (0..6).map(|n| weight(row, n) * input[frame * 3 + n]).sum::<f32>();
                assert!((output[frame * 64 + row] - want).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn the_spectrum_equals_its_defining_sum() {
        let samples: Vec<f32> = (0..WINDOW).map(|n| ((n * n) as f32 * 0.01).sin()).collect();
        let spectrum = Spectrum::new();
        let mut scratch = spectrum.scratch();
        let mut magnitudes = [0.0; BINS];
        spectrum.magnitudes(&samples, &mut magnitudes, &mut scratch);
        for (bin, &magnitude) in magnitudes.iter().enumerate() {
            let part = |row: usize| -> f32 {
                samples.iter().enumerate().map(|(n, s)| s * fourier_basis(row, n)).sum()
            };
            let want = part(bin).hypot(part(BINS + bin));
            assert!((magnitude - want).abs() < 1e-3, "bin {bin}: {magnitude} {want}");
        }
    }
}
