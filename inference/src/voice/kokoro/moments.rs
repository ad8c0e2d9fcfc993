//! Mean and variance of each channel of a signal, which instance normalisation goes by, and those of
//! all normalisations of a voice.

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

/// What goes into every normalisation, in the order in which they are run; empty where unknown.
#[derive(Clone, Default)]
pub(super) struct Statistics {
    layers: Vec<Moments>,
    next: usize,
}

impl Statistics {
    /// As one list: of each layer the count of channels, then mean and variance of each.
    pub(super) fn to_numbers(&self) -> Vec<f32> {
        let of_layer = |layer: &Moments| {
            let pairs = layer.iter().flat_map(|&(mean, variance)| [mean, variance]);
            std::iter::once(layer.len() as f32).chain(pairs).collect::<Vec<_>>()
        };
        self.layers.iter().flat_map(of_layer).collect()
    }

    /// Those of such a list; `None` if it is none.
    pub(super) fn from_numbers(mut numbers: &[f32]) -> Option<Self> {
        let mut layers = Vec::new();
        while let Some((&channels, rest)) = numbers.split_first() {
            let (layer, rest) = rest.split_at_checked(2 * channels as usize)?;
            let pairs = layer.as_chunks().0;
            layers.push(pairs.iter().map(|&[mean, variance]| (mean, variance)).collect());
            numbers = rest;
        }
        Some(Self { layers, next: 0 })
    }

    /// Begins with the first normalisation again.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Those of the next normalisation.
    pub(super) fn next(&mut self) -> &mut Moments {
        if self.next == self.layers.len() {
            self.layers.push(Vec::new());
        }
        self.next += 1;
        &mut self.layers[self.next - 1]
    }
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

    #[test]
    fn statistics_become_a_list_of_numbers_and_back() {
        let layers = vec![vec![(0.5, 2.0), (-1.0, 0.25)], vec![], vec![(3.0, 4.0)]];
        let numbers = Statistics { layers: layers.clone(), next: 2 }.to_numbers();
        assert_eq!(numbers, [2.0, 0.5, 2.0, -1.0, 0.25, 0.0, 1.0, 3.0, 4.0]);
        let back = Statistics::from_numbers(&numbers).expect("a list of layers");
        assert_eq!((back.layers, back.next), (layers, 0));
        assert!(Statistics::from_numbers(&numbers[..8]).is_none());
    }
}
