//! Mean and variance of each channel of a signal, which instance normalisation goes by.

use rayon::prelude::*;

use super::signal::Signal;

/// Added to the variance in every normalisation.
pub(super) const EPSILON: f32 = 1e-5;
/// Samples that are summed with single precision.
const SAMPLES: usize = 64;

/// Mean and variance of each channel.
pub(super) type Moments = Vec<(f32, f32)>;

/// Those of a signal.
pub(super) fn moments_of(signal: &Signal) -> Moments {
    let count = signal.len().max(1) as f64;
    let mean = |sum: f64| (sum / count) as f32;
    let sums_of = |row: &[f32], sums: &mut [f32]| {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    };
    let means: Vec<f32> = sums(signal, sums_of).into_iter().map(mean).collect();
    let squares_of = |row: &[f32], sums: &mut [f32]| {
        for ((sum, value), mean) in sums.iter_mut().zip(row).zip(&means) {
            let apart = value - mean;
            *sum += apart * apart;
        }
    };
    let squares = sums(signal, squares_of);
    means.iter().copied().zip(squares.into_iter().map(mean)).collect()
}

/// Of each channel the sum that `add` makes of its samples, which it is given row by row.
fn sums(signal: &Signal, add: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f64> {
    let channels = signal.channels();
    let parts: Vec<Vec<f32>> = signal
        .data()
        .par_chunks(SAMPLES * channels)
        .map(|rows| {
            let mut sums = vec![0.0; channels];
            for row in rows.chunks_exact(channels) {
                add(row, &mut sums);
            }
            sums
        })
        .collect();
    let sum = |channel: usize| parts.iter().map(|part| f64::from(part[channel])).sum();
    (0..channels).map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_of_a_long_signal_are_exact() {
        let rows: Vec<f32> = (0..20_000)
            .map(|index| if index < 10_000 { 1e3 + (index % 2) as f32 } else { -0.25 })
            .collect();
        let moments = moments_of(&Signal::from_rows(2, 10_000, &rows));
        assert_eq!(moments, [(1000.5, 0.25), (-0.25, 0.0)]);
        assert_eq!(moments_of(&Signal::zeros(3, 0)), [(0.0, 0.0); 3]);
    }
}
