//! Sample-rate conversion of mono audio, as a stream and in one piece.
//!
//! Codecs speak 48 kHz, recognisers 16 kHz and voices 24 kHz; this is the only place that converts
//! between them. The work is done by `rubato`'s FFT resampler, whose block size is fixed on both
//! sides; this file adds what a stream needs around it: calls of any length, a tail, and an exact
//! length.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};
use thiserror::Error;

/// Blocks last a hundredth of a second where the rates allow it: 480 to 160 samples for 48 kHz to
/// 16 kHz. Frames of 20 ms are then two whole blocks, so nothing waits for the next frame; the
/// filter is one block long, which puts its -6 dB point at 95 % of the lower Nyquist frequency.
const BLOCKS_PER_SECOND: u32 = 100;

/// Highest rate accepted. Rates without a common divisor need blocks of a whole second, so this
/// also bounds the memory that a file's header can ask for.
const MAX_RATE_HZ: u32 = 768_000;

/// Lowest rate accepted: below it there is no speech left.
const MIN_RATE_HZ: u32 = 1_000;

/// Why a conversion cannot be set up.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResampleError {
    /// A rate is outside what audio uses; the source's header is probably damaged.
    #[error(
        "sample rate {0} Hz is not supported: give audio between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz"
    )]
    UnsupportedRate(u32),
    /// The resampling library refused the pair of rates.
    #[error("cannot convert from {from_hz} Hz to {to_hz} Hz: {reason}")]
    Refused {
        /// Rate of the input.
        from_hz: u32,
        /// Rate of the output.
        to_hz: u32,
        /// What the library said.
        reason: String,
    },
}

/// A streaming converter for mono samples (-1 to 1, `f32`) between two fixed rates.
///
/// The output is the input delayed by [`delay_samples`](Self::delay_samples): about 5 ms. It comes
/// in whole blocks; when the input comes in multiples of [`block_samples`](Self::block_samples)
/// nothing is held back. Equal rates pass samples through without delay.
///
/// After the first call, calls of one size allocate nothing here; the caller's output vector stops
/// growing when it is cleared and used again.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// `None` when the rates are equal.
    blocks: Option<Blocks>,
    /// Input samples since the start or the last flush.
    taken: u64,
    /// Output samples since the start or the last flush.
    given: u64,
}

/// The block-wise converter and the part of the next block that has arrived.
struct Blocks {
    fft: Fft<f32>,
    pending: Vec<f32>,
    block_in: usize,
    block_out: usize,
}

impl Resampler {
    /// A converter from `from_hz` to `to_hz`.
    ///
    /// # Errors
    /// [`ResampleError::UnsupportedRate`] when a rate is not one that audio uses.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResampleError> {
        for rate in [from_hz, to_hz] {
            if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate) {
                return Err(ResampleError::UnsupportedRate(rate));
            }
        }
        let blocks = if from_hz == to_hz { None } else { Some(Blocks::new(from_hz, to_hz)?) };
        Ok(Self { from_hz, to_hz, blocks, taken: 0, given: 0 })
    }

    /// By how many output samples the output lags behind the input.
    pub fn delay_samples(&self) -> usize {
        self.blocks.as_ref().map_or(0, |blocks| blocks.fft.output_delay())
    }

    /// Length of a block in input samples; 1 when the rates are equal.
    pub fn block_samples(&self) -> usize {
        self.blocks.as_ref().map_or(1, |blocks| blocks.block_in)
    }

    /// Converts `input`, of any length, and appends what is complete to `output`. Up to one block
    /// less a sample waits for the next call.
    pub fn process(&mut self, input: &[f32], output: &mut Vec<f32>) {
        self.taken += input.len() as u64;
        let before = output.len();
        match &mut self.blocks {
            None => output.extend_from_slice(input),
            Some(blocks) => blocks.process(input, output),
        }
        self.given += (output.len() - before) as u64;
    }

    /// Appends what is still inside: the output since the last flush then has
    /// [`converted_len`] of its input plus [`delay_samples`](Self::delay_samples) samples. The
    /// converter is as new afterwards.
    pub fn flush(&mut self, output: &mut Vec<f32>) {
        if let Some(blocks) = &mut self.blocks {
            let wanted = converted_len(self.taken, self.from_hz, self.to_hz)
                + blocks.fft.output_delay() as u64;
            while self.given < wanted {
                let missing = usize::try_from(wanted - self.given).unwrap_or(usize::MAX);
                let before = output.len();
                blocks.process_silence(output);
                output.truncate(before + missing);
                self.given += (output.len() - before) as u64;
            }
        }
        self.reset();
    }

    /// Forgets everything heard so far, for the start of another stream.
    pub fn reset(&mut self) {
        if let Some(blocks) = &mut self.blocks {
            blocks.fft.reset();
            blocks.pending.clear();
        }
        self.taken = 0;
        self.given = 0;
    }
}

impl Blocks {
    fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResampleError> {
        let target = from_hz.div_ceil(BLOCKS_PER_SECOND) as usize;
        let mut fft = block_converter(from_hz, to_hz, target)?;
        // The filter delays by half a block: only an even block delays by whole samples.
        if !fft.fft_size_in().is_multiple_of(2) || !fft.fft_size_out().is_multiple_of(2) {
            let doubled = 2 * fft.fft_size_in();
            fft = block_converter(from_hz, to_hz, doubled)?;
        }
        let block_in = fft.input_frames_next();
        let block_out = fft.output_frames_next();
        Ok(Self { fft, pending: Vec::with_capacity(block_in), block_in, block_out })
    }

    fn process(&mut self, mut input: &[f32], output: &mut Vec<f32>) {
        if !self.pending.is_empty() {
            let missing = self.block_in - self.pending.len();
            let (head, rest) = input.split_at(missing.min(input.len()));
            self.pending.extend_from_slice(head);
            input = rest;
            if self.pending.len() == self.block_in {
                convert(&mut self.fft, &self.pending, self.block_out, output);
                self.pending.clear();
            }
        }
        let mut whole = input.chunks_exact(self.block_in);
        for block in &mut whole {
            convert(&mut self.fft, block, self.block_out, output);
        }
        self.pending.extend_from_slice(whole.remainder());
    }

    /// Fills the block that has begun with silence and converts it.
    fn process_silence(&mut self, output: &mut Vec<f32>) {
        self.pending.resize(self.block_in, 0.0);
        convert(&mut self.fft, &self.pending, self.block_out, output);
        self.pending.clear();
    }
}

/// A converter whose blocks have at least `target` input samples.
fn block_converter(from_hz: u32, to_hz: u32, target: usize) -> Result<Fft<f32>, ResampleError> {
    let window = WindowFunction::BlackmanHarris;
    Fft::new_custom(from_hz as usize, to_hz as usize, target, 1, 1, window, FixedSync::Both)
        .map_err(|error| ResampleError::Refused { from_hz, to_hz, reason: error.to_string() })
}

/// Converts one whole block and appends it to `output`.
fn convert(fft: &mut Fft<f32>, block: &[f32], block_out: usize, output: &mut Vec<f32>) {
    let start = output.len();
    output.resize(start + block_out, 0.0);
    let source = InterleavedSlice::new(block, 1, block.len()).expect("one channel fills the slice");
    let mut target = InterleavedSlice::new_mut(&mut output[start..], 1, block_out)
        .expect("one channel fills the slice");
    fft.process_into_buffer(&source, &mut target, None)
        .expect("both buffers hold exactly one block");
}

/// How many samples at `to_hz` last as long as `samples` at `from_hz`, rounded up.
pub fn converted_len(samples: u64, from_hz: u32, to_hz: u32) -> u64 {
    (samples * u64::from(to_hz)).div_ceil(u64::from(from_hz))
}

/// Converts a whole recording (mono, -1 to 1). The result has exactly [`converted_len`] samples,
/// and the filter's delay is taken out: what happens at time `t` in the input happens at `t` in the
/// output.
///
/// # Errors
/// [`ResampleError::UnsupportedRate`] when a rate is not one that audio uses.
pub fn resample_all(samples: &[f32], from_hz: u32, to_hz: u32) -> Result<Vec<f32>, ResampleError> {
    let mut resampler = Resampler::new(from_hz, to_hz)?;
    let delay = resampler.delay_samples();
    let expected = converted_len(samples.len() as u64, from_hz, to_hz);
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    let mut output = Vec::with_capacity(expected.saturating_add(delay));
    resampler.process(samples, &mut output);
    resampler.flush(&mut output);
    output.drain(..delay);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    const RATES: [(u32, u32); 9] = [
        (48_000, 16_000),
        (24_000, 48_000),
        (16_000, 48_000),
        (44_100, 16_000),
        (22_050, 16_000),
        (11_025, 16_000),
        (8_000, 16_000),
        (24_000, 16_000),
        (16_000, 24_000),
    ];

    fn tone(hz: f32, rate: u32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| 0.5 * (TAU * ((hz as f64 * n as f64 / f64::from(rate)) % 1.0) as f32).sin())
            .collect()
    }

    /// Amplitude of the component at `hz`, by correlation with a complex exponential under a Hann
    /// window.
    fn level_at(samples: &[f32], hz: f32, rate: u32) -> f32 {
        let (mut re, mut im, mut weight) = (0.0f64, 0.0f64, 0.0f64);
        for (n, sample) in samples.iter().enumerate() {
            let window =
                0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / samples.len() as f64).cos();
            let phase = std::f64::consts::TAU * f64::from(hz) * n as f64 / f64::from(rate);
            re += window * f64::from(*sample) * phase.cos();
            im += window * f64::from(*sample) * phase.sin();
            weight += window;
        }
        (2.0 * re.hypot(im) / weight) as f32
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn a_tone_keeps_its_frequency_and_level() {
        for (from, to) in RATES {
            let output = resample_all(&tone(1_000.0, from, from as usize), from, to).unwrap();
            let middle = &output[output.len() / 10..output.len() * 9 / 10];
            let level = level_at(middle, 1_000.0, to);
            assert!((level - 0.5).abs() < 0.005, "{from} to {to}: level {level}");
            let expected = tone(1_000.0, to, output.len());
            let error: Vec<f32> =
                output.iter().zip(&expected).map(|(got, want)| got - want).collect();
            let error = rms(&error[output.len() / 10..output.len() * 9 / 10]);
            assert!(error < 0.002, "{from} to {to}: error {error}");
        }
    }

    #[test]
    fn a_tone_above_the_new_nyquist_frequency_does_not_fold_back() {
        for hz in [8_500.0, 10_000.0, 15_000.0, 23_000.0] {
            let output = resample_all(&tone(hz, 48_000, 48_000), 48_000, 16_000).unwrap();
            let rejection = 20.0 * (rms(&output[1_600..14_400]) / (0.5 / 2f32.sqrt())).log10();
            assert!(rejection < -50.0, "{hz} Hz is only {rejection} dB down");
        }
    }

    #[test]
    fn upsampling_leaves_no_image() {
        let output = resample_all(&tone(7_000.0, 16_000, 16_000), 16_000, 48_000).unwrap();
        let image = 20.0 * (level_at(&output[4_800..43_200], 9_000.0, 48_000) / 0.5).log10();
        assert!(image < -60.0, "image at {image} dB");
    }

    #[test]
    fn speech_band_passes_unchanged() {
        for hz in [50.0, 300.0, 3_400.0, 6_500.0, 7_000.0] {
            let output = resample_all(&tone(hz, 48_000, 48_000), 48_000, 16_000).unwrap();
            let change = 20.0 * (level_at(&output[1_600..14_400], hz, 16_000) / 0.5).log10();
            assert!(change.abs() < 0.5, "{hz} Hz changes by {change} dB");
        }
    }

    #[test]
    fn an_impulse_stays_where_it_was() {
        for (from, to) in RATES {
            let at = from as usize / 3;
            let mut input = vec![0.0; from as usize];
            input[at] = 1.0;
            let output = resample_all(&input, from, to).unwrap();
            let peak = (0..output.len())
                .max_by(|&a, &b| output[a].abs().total_cmp(&output[b].abs()))
                .unwrap();
            let expected = at as f64 * f64::from(to) / f64::from(from);
            assert!((peak as f64 - expected).abs() <= 1.0, "{from} to {to}: {peak} {expected}");
        }
    }

    #[test]
    fn a_stream_lags_by_the_documented_delay() {
        let mut resampler = Resampler::new(48_000, 16_000).unwrap();
        assert_eq!(resampler.delay_samples(), 80);
        let mut output = Vec::new();
        let mut input = vec![0.0; 9_600];
        input[3_000] = 1.0;
        for frame in input.chunks(960) {
            resampler.process(frame, &mut output);
        }
        assert_eq!(output.len(), 3_200);
        let peak = (0..output.len()).max_by(|&a, &b| output[a].total_cmp(&output[b])).unwrap();
        assert_eq!(peak, 1_000 + 80);
    }

    #[test]
    fn frames_of_20_ms_come_back_whole() {
        for (from, to, frame, expected) in
            [(48_000, 16_000, 960, 320), (24_000, 48_000, 480, 960), (16_000, 48_000, 320, 960)]
        {
            let mut resampler = Resampler::new(from, to).unwrap();
            let mut output = Vec::with_capacity(expected);
            let capacity = output.capacity();
            for _ in 0..50 {
                output.clear();
                resampler.process(&vec![0.1; frame], &mut output);
                assert_eq!(output.len(), expected);
                assert_eq!(output.capacity(), capacity);
            }
        }
    }

    #[test]
    fn equal_rates_pass_samples_through() {
        let input = tone(440.0, 16_000, 1_234);
        let mut resampler = Resampler::new(16_000, 16_000).unwrap();
        assert_eq!((resampler.delay_samples(), resampler.block_samples()), (0, 1));
        let mut output = Vec::new();
        resampler.process(&input, &mut output);
        resampler.flush(&mut output);
        assert_eq!(output, input);
    }

    #[test]
    fn a_flushed_converter_is_as_new() {
        let input = tone(300.0, 48_000, 5_000);
        let mut resampler = Resampler::new(48_000, 16_000).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        resampler.process(&input, &mut first);
        resampler.flush(&mut first);
        resampler.process(&input, &mut second);
        resampler.flush(&mut second);
        assert_eq!(first, second);
        assert_eq!(first.len(), 1_667 + 80);
    }

    #[test]
    fn rates_that_no_audio_has_are_refused() {
        for (from, to, culprit) in
            [(0, 16_000, 0), (16_000, 0, 0), (u32::MAX, 16_000, u32::MAX), (999, 16_000, 999)]
        {
            assert_eq!(
                Resampler::new(from, to).err(),
                Some(ResampleError::UnsupportedRate(culprit))
            );
        }
    }

    #[test]
    fn rates_without_a_common_divisor_work() {
        let output = resample_all(&tone(500.0, 44_101, 44_101), 44_101, 16_000).unwrap();
        assert_eq!(output.len(), 16_000);
        assert!((level_at(&output[1_600..14_400], 500.0, 16_000) - 0.5).abs() < 0.005);
    }

    proptest! {
        #[test]
        fn the_length_is_exact_for_any_length(pair in 0..RATES.len(), length in 0usize..5_000) {
            let (from, to) = RATES[pair];
            let output = resample_all(&vec![0.25; length], from, to).unwrap();
            prop_assert_eq!(output.len() as u64, converted_len(length as u64, from, to));
        }

        #[test]
        fn how_a_stream_is_cut_does_not_matter(
            pair in 0..RATES.len(),
            cuts in prop::collection::vec(0usize..1_500, 1..12),
        ) {
            let (from, to) = RATES[pair];
            let total: usize = cuts.iter().sum();
            let input = tone(700.0, from, total);
            let mut resampler = Resampler::new(from, to).unwrap();
            let (mut pieces, mut start) = (Vec::new(), 0);
            for cut in cuts {
                resampler.process(&input[start..start + cut], &mut pieces);
                start += cut;
            }
            resampler.flush(&mut pieces);
            let mut whole = Vec::new();
            resampler.process(&input, &mut whole);
            resampler.flush(&mut whole);
            prop_assert_eq!(pieces, whole);
        }
    }
}
