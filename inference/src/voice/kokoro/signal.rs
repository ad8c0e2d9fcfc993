//! A signal of several channels, those of one sample side by side: the lanes of a vector are channels,
//! so that whatever distance a convolution reaches, it reads whole rows.

use std::ops::Range;

/// `len` samples of `channels` numbers.
#[derive(Clone)]
pub(super) struct Signal {
    channels: usize,
    data: Vec<f32>,
}

impl Signal {
    pub(super) fn zeros(channels: usize, len: usize) -> Self {
        Self { channels, data: vec![0.0; channels * len] }
    }

    /// `data` holds sample after sample.
    pub(super) fn from_samples(channels: usize, data: Vec<f32>) -> Self {
        debug_assert!(data.len().is_multiple_of(channels));
        Self { channels, data }
    }

    /// `rows` holds `len` samples of one channel after the other.
    pub(super) fn from_rows(channels: usize, len: usize, rows: &[f32]) -> Self {
        let mut signal = Self::zeros(channels, len);
        for (channel, row) in rows.chunks_exact(len.max(1)).take(channels).enumerate() {
            for (sample, value) in signal.data[channel..].iter_mut().step_by(channels).zip(row) {
                *sample = *value;
            }
        }
        signal
    }

    /// The samples of `range` alone.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        let (start, end) = (range.start * self.channels, range.end * self.channels);
        Self { channels: self.channels, data: self.data[start..end].to_vec() }
    }

    /// Every sample so many times.
    pub(super) fn repeated(&self, times: usize) -> Self {
        let rows = self.data.chunks_exact(self.channels);
        let data = rows.flat_map(|row| std::iter::repeat_n(row, times)).flatten().copied();
        Self { channels: self.channels, data: data.collect() }
    }

    /// With silence before and after.
    pub(super) fn padded(&self, samples: usize) -> Self {
        let padding = samples * self.channels;
        let mut data = Vec::with_capacity(self.data.len() + 2 * padding);
        data.resize(padding, 0.0);
        data.extend_from_slice(&self.data);
        data.resize(data.len() + padding, 0.0);
        Self { channels: self.channels, data }
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() / self.channels
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// All channels of one sample.
    pub(super) fn sample(&self, index: usize) -> &[f32] {
        &self.data[index * self.channels..][..self.channels]
    }

    /// Sample after sample.
    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channels_of_a_sample_lie_side_by_side() {
        let signal = Signal::from_rows(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((signal.len(), signal.channels()), (3, 2));
        assert_eq!(signal.sample(1), [2.0, 5.0]);
        assert_eq!(signal.slice(1..3).data(), [2.0, 5.0, 3.0, 6.0]);
        assert_eq!(signal.slice(0..2).repeated(2).data(), [1.0, 4.0, 1.0, 4.0, 2.0, 5.0, 2.0, 5.0]);
        let padded = signal.slice(0..1).padded(1);
        assert_eq!(padded.data(), [0.0, 0.0, 1.0, 4.0, 0.0, 0.0]);
        assert_eq!(Signal::from_rows(2, 0, &[]).len(), 0);
    }
}
