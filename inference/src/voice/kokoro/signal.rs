//! A signal of several channels in one buffer, with silence before and after each channel, so that
//! a convolution reads beyond the ends without looking where they are.

use std::ops::Range;

use rayon::prelude::*;

/// Zeros on both sides of every channel. Enough for the widest block of the vocoder's convolutions
/// (32 samples, five apart) and for a padding of 25.
pub(super) const MARGIN: usize = 192;

/// `channels` rows of `len` samples.
#[derive(Clone)]
pub(super) struct Signal {
    channels: usize,
    len: usize,
    data: Vec<f32>,
}

impl Signal {
    pub(super) fn zeros(channels: usize, len: usize) -> Self {
        Self { channels, len, data: vec![0.0; channels * (len + 2 * MARGIN)] }
    }

    /// `rows` has `channels * len` samples.
    pub(super) fn from_rows(channels: usize, len: usize, rows: &[f32]) -> Self {
        let mut signal = Self::zeros(channels, len);
        if len > 0 {
            for (channel, row) in rows.chunks_exact(len).take(channels).enumerate() {
                signal.row_mut(channel).copy_from_slice(row);
            }
        }
        signal
    }

    /// The samples of `range` alone.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        let mut signal = Self::zeros(self.channels, range.len());
        for channel in 0..self.channels {
            signal.row_mut(channel).copy_from_slice(&self.row(channel)[range.clone()]);
        }
        signal
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    fn stride(&self) -> usize {
        self.len + 2 * MARGIN
    }

    pub(super) fn row(&self, channel: usize) -> &[f32] {
        &self.padded_row(channel)[MARGIN..][..self.len]
    }

    /// The row with [`MARGIN`] zeros on both sides.
    pub(super) fn padded_row(&self, channel: usize) -> &[f32] {
        &self.data[channel * self.stride()..][..self.stride()]
    }

    pub(super) fn row_mut(&mut self, channel: usize) -> &mut [f32] {
        let stride = self.stride();
        &mut self.data[channel * stride..][..stride][MARGIN..][..self.len]
    }

    pub(super) fn par_rows(&self) -> impl IndexedParallelIterator<Item = &[f32]> {
        self.data.par_chunks_exact(self.stride()).map(|row| &row[MARGIN..][..self.len])
    }

    pub(super) fn par_rows_mut(&mut self) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        let (stride, len) = (self.stride(), self.len);
        self.data.par_chunks_exact_mut(stride).map(move |row| &mut row[MARGIN..][..len])
    }
}
