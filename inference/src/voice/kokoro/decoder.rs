//! The decoder of Kokoro (that of StyleTTS 2: Li et al., 2023): from the aligned text, pitch and
//! loudness to the features that the vocoder speaks. Five residual blocks with adaptive instance
//! normalisation, the last of which doubles the rate. Half of the model's weights lie here, so it is
//! not left to the general runtime: they are multiplied as the integers that the file holds
//! ([`product`](super::product)), which takes half the memory and half the time.

use rayon::prelude::*;

use super::convolution::ConvWeights;
use super::moments::{EPSILON, moments_of};
use super::product::{Columns, Weights, round};
use super::signal::Signal;

/// Channels of the input: the aligned text, then [`CURVES`].
pub(super) const INPUTS: usize = 514;
/// Pitch and loudness, each block sees them anew.
const CURVES: usize = 2;
/// Channels of the aligned text as later blocks see it.
pub(super) const RESIDUALS: usize = 64;
/// Inputs and outputs of the blocks.
const SHAPES: [(usize, usize); 5] =
    [(INPUTS, 1024), (1090, 1024), (1090, 1024), (1090, 1024), (1090, super::vocoder::FEATURES)];
/// Taps of all convolutions but the shortcuts.
const KERNEL: usize = 3;
const SLOPE: f32 = 0.2;

/// Weights of a block.
pub(super) struct BlockWeights {
    pub(super) first: ConvWeights,
    pub(super) second: ConvWeights,
    pub(super) shortcut: ConvWeights,
    /// The transposed convolution that doubles the rate of each channel for itself.
    pub(super) doubling: Option<ConvWeights>,
}

impl BlockWeights {
    /// Whether the shapes are those that the arithmetic of this block is written for.
    fn fits(&self, index: usize) -> bool {
        let Some(&(inputs, outputs)) = SHAPES.get(index) else { return false };
        let convolutions = [
            (&self.first, [outputs, inputs, KERNEL]),
            (&self.second, [outputs, outputs, KERNEL]),
            (&self.shortcut, [outputs, inputs, 1]),
        ];
        let doubles = |weights: &ConvWeights| {
            weights.shape == [inputs, 1, KERNEL] && weights.bias.len() == inputs
        };
        let is_last = index + 1 == SHAPES.len();
        convolutions
            .iter()
            .all(|(weights, shape)| weights.shape == *shape && weights.bias.len() == outputs)
            && self.doubling.as_ref().map(doubles) == is_last.then_some(true)
    }
}

/// Scale and shift of the two normalisations of each block: the scales first.
pub(super) struct Styles(Vec<Vec<f32>>);

impl Styles {
    /// In the order in which they are used. `None` if one has the wrong length.
    pub(super) fn new(styles: Vec<Vec<f32>>) -> Option<Self> {
        let lengths = SHAPES.into_iter().flat_map(|(inputs, outputs)| [inputs, outputs]);
        let fits = styles.iter().map(Vec::len).eq(lengths.map(|channels| 2 * channels));
        fits.then_some(Self(styles))
    }

    /// How many there are.
    pub(super) const COUNT: usize = 2 * SHAPES.len();
}

/// A convolution that keeps the length, with integer weights.
struct Convolution {
    kernel: usize,
    inputs: usize,
    /// `[outputs, kernel * inputs]`.
    weights: Weights,
    bias: Vec<f32>,
}

impl Convolution {
    fn new(weights: &ConvWeights) -> Self {
        let [_, inputs, kernel] = weights.shape;
        let mut rows = vec![0.0; weights.values.len()];
        let values = weights.values.chunks_exact(inputs * kernel);
        for (row, values) in rows.chunks_exact_mut(inputs * kernel).zip(values) {
            for (tap, row) in row.chunks_exact_mut(inputs).enumerate() {
                for (target, value) in row.iter_mut().zip(values[tap..].iter().step_by(kernel)) {
                    *target = *value;
                }
            }
        }
        Self {
            kernel,
            inputs,
            weights: Weights::new(rows.chunks_exact(inputs * kernel), weights.step),
            bias: weights.bias.clone(),
        }
    }

    fn run(&self, input: &Signal) -> Signal {
        let padding = self.kernel / 2 * self.inputs;
        let largest = input.data().iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let scale = largest / self.weights.largest();
        let inverse = if scale.is_normal() { scale.recip() } else { 0.0 };
        let mut rounded = vec![0i16; input.data().len() + 2 * padding];
        for (rounded, value) in rounded[padding..].iter_mut().zip(input.data()) {
            *rounded = round(value * inverse);
        }
        let outputs = self.weights.outputs();
        let mut output = Signal::zeros(outputs, input.len());
        let share = input.len().div_ceil(rayon::current_num_threads()).max(1);
        output.data_mut().par_chunks_mut(share * outputs).enumerate().for_each(|(index, rows)| {
            let columns = Columns {
                values: &rounded[index * share * self.inputs..],
                stride: self.inputs,
                scales: &[scale],
                scale_stride: 0,
            };
            self.weights.multiply(columns, rows);
            for row in rows.chunks_exact_mut(outputs) {
                for (value, bias) in row.iter_mut().zip(&self.bias) {
                    *value += bias;
                }
            }
        });
        output
    }
}

struct Block {
    first: Convolution,
    second: Convolution,
    shortcut: Convolution,
    doubling: Option<Doubling>,
}

/// A transposed convolution of stride two for each channel by itself; the first sample of the output
/// lies on the first one of the input.
struct Doubling {
    /// `[taps, channels]`.
    taps: [Vec<f32>; KERNEL],
    bias: Vec<f32>,
}

impl Doubling {
    fn new(weights: &ConvWeights) -> Self {
        let tap = |tap: usize| weights.values[tap..].iter().step_by(KERNEL).copied().collect();
        Self { taps: [tap(0), tap(1), tap(2)], bias: weights.bias.clone() }
    }

    fn run(&self, input: &Signal) -> Signal {
        let channels = input.channels();
        let mut output = Signal::zeros(channels, 2 * input.len());
        let silence = vec![0.0; channels];
        let [before, at, after] = &self.taps;
        for (index, rows) in output.data_mut().chunks_exact_mut(2 * channels).enumerate() {
            let (even, odd) = rows.split_at_mut(channels);
            let sample = input.sample(index);
            let next = if index + 1 < input.len() { input.sample(index + 1) } else { &silence };
            for channel in 0..channels {
                let bias = self.bias[channel];
                even[channel] = sample[channel] * at[channel] + bias;
                odd[channel] = sample[channel] * after[channel] + next[channel] * before[channel];
                odd[channel] += bias;
            }
        }
        output
    }
}

impl Block {
    fn new(weights: &BlockWeights) -> Self {
        let (first, second) =
            rayon::join(|| Convolution::new(&weights.first), || Convolution::new(&weights.second));
        Self {
            first,
            second,
            shortcut: Convolution::new(&weights.shortcut),
            doubling: weights.doubling.as_ref().map(Doubling::new),
        }
    }

    fn run(&self, input: &Signal, styles: &[Vec<f32>; 2]) -> Signal {
        let mut inner = normalise(input, &styles[0]);
        let mut shortcut = self.shortcut.run(input);
        if let Some(doubling) = &self.doubling {
            inner = doubling.run(&inner);
            shortcut = shortcut.repeated(2);
        }
        let inner = normalise(&self.first.run(&inner), &styles[1]);
        let mut output = self.second.run(&inner);
        for (value, shortcut) in output.data_mut().iter_mut().zip(shortcut.data()) {
            *value = (*value + shortcut) * std::f32::consts::FRAC_1_SQRT_2;
        }
        output
    }
}

/// Adaptive instance normalisation and the leaky rectifier.
fn normalise(input: &Signal, style: &[f32]) -> Signal {
    let channels = input.channels();
    let (scales, shifts) = style.split_at(channels);
    let maps: Vec<(f32, f32)> = moments_of(input)
        .into_iter()
        .zip(scales.iter().zip(shifts))
        .map(|((mean, variance), (scale, shift))| {
            let scale = (1.0 + scale) / (variance + EPSILON).sqrt();
            (scale, shift - mean * scale)
        })
        .collect();
    let mut output = input.clone();
    for row in output.data_mut().chunks_exact_mut(channels) {
        for (value, (scale, shift)) in row.iter_mut().zip(&maps) {
            let normalised = *value * scale + shift;
            *value = normalised.max(SLOPE * normalised);
        }
    }
    output
}

/// The decoder, ready to run. Shared between threads.
pub(super) struct Decoder {
    blocks: Vec<Block>,
}

impl Decoder {
    /// Prepares the weights of one block after the other. `None` if one does not fit, or there are
    /// too few or too many.
    pub(super) fn new<E>(
        weights: impl Iterator<Item = Result<BlockWeights, E>>,
    ) -> Result<Option<Self>, E> {
        let mut blocks = Vec::new();
        for (index, weights) in weights.enumerate() {
            let weights = weights?;
            if !weights.fits(index) {
                return Ok(None);
            }
            blocks.push(Block::new(&weights));
        }
        Ok((blocks.len() == SHAPES.len()).then_some(Self { blocks }))
    }

    /// The vocoder's features, two for each sample of `input`: [`INPUTS`] channels, of which
    /// `residual` has a narrower form of those that come from the text. `None` if the two do not fit
    /// each other. Runs on the current rayon pool.
    pub(super) fn run(&self, input: Signal, residual: &Signal, styles: &Styles) -> Option<Signal> {
        if input.len() != residual.len() {
            return None;
        }
        let (styles, _) = styles.0.as_chunks::<2>();
        let curves: Vec<f32> = (0..input.len())
            .flat_map(|index| &input.sample(index)[INPUTS - CURVES..])
            .copied()
            .collect();
        let mut signal = input;
        for (index, (block, styles)) in self.blocks.iter().zip(styles).enumerate() {
            if index > 0 {
                let rows = curves.chunks_exact(CURVES).enumerate();
                let joined = rows.flat_map(|(index, curves)| {
                    [signal.sample(index), residual.sample(index), curves].into_iter().flatten()
                });
                signal = Signal::from_samples(
                    signal.channels() + RESIDUALS + CURVES,
                    joined.copied().collect(),
                );
            }
            signal = block.run(&signal, styles);
        }
        Some(signal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::convolution::tests::{direct, random_signal, random_weights};
    use super::*;
    use crate::testing::noise;

    fn integer_weights(shape: [usize; 3], seed: &mut u32) -> ConvWeights {
        let mut weights = random_weights(shape, shape[0], seed);
        for value in &mut weights.values {
            *value = (*value * 127.0).round() * 0.01;
        }
        ConvWeights { step: Some(0.01), ..weights }
    }

    #[test]
    fn a_convolution_with_integer_weights_equals_the_textbook_sum() {
        let mut seed = 13;
        for (inputs, kernel, len) in [(2, 1, 1), (66, 3, 1), (66, 3, 2), (514, 1, 40), (514, 3, 67)]
        {
            let weights = integer_weights([64, inputs, kernel], &mut seed);
            let input = random_signal(inputs, len, &mut seed);
            let output = Convolution::new(&weights).run(&input);
            assert_eq!((output.len(), output.channels()), (len, 64));
            // Only the input is rounded.
            let bound = 1e-4 * ((inputs * kernel) as f32).sqrt();
            for at in [0, len / 2, len - 1] {
                for channel in [0, 31, 63] {
                    let wanted = direct(&input, &weights, 1, channel, at);
                    let apart = (output.sample(at)[channel] - wanted).abs();
                    assert!(apart < bound, "{inputs} {kernel} {at}: {apart}");
                }
            }
        }
    }

    #[test]
    fn doubling_puts_each_tap_where_a_transposed_convolution_does() {
        let weights = ConvWeights {
            values: vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0],
            shape: [2, 1, 3],
            bias: vec![0.5, 0.0],
            step: None,
        };
        let input = Signal::from_rows(2, 2, &[1.0, 100.0, 0.0, 1.0]);
        let output = Doubling::new(&weights).run(&input);
        let wanted = [2.5, 0.0, 103.5, 10.0, 200.5, 20.0, 300.5, 30.0];
        assert_eq!(output.data(), wanted);
    }

    #[test]
    fn normalising_leaves_the_mean_and_the_deviation_of_the_style() {
        let mut seed = 17;
        let values: Vec<f32> = (0..500).map(|_| 40.0 + 5.0 * noise(&mut seed)).collect();
        let output = normalise(&Signal::from_rows(1, 500, &values), &[2.0, 100.0]);
        let (mean, variance) = moments_of(&output)[0];
        assert!((mean - 100.0).abs() < 1e-3 && (variance - 9.0).abs() < 1e-2, "{mean} {variance}");
        let output = normalise(&Signal::from_rows(1, 2, &[-1.0, 1.0]), &[0.0, 0.0]);
        assert!((output.data()[0] + SLOPE).abs() < 1e-3 && (output.data()[1] - 1.0).abs() < 1e-3);
    }

    #[test]
    fn blocks_of_other_shapes_are_refused() {
        let zeros = |shape: [usize; 3], biases: usize| ConvWeights {
            values: vec![0.0; shape.iter().product()],
            shape,
            bias: vec![0.0; biases],
            step: None,
        };
        let block = |inputs: usize, outputs: usize, doubling: bool| BlockWeights {
            first: zeros([outputs, inputs, 3], outputs),
            second: zeros([outputs, outputs, 3], outputs),
            shortcut: zeros([outputs, inputs, 1], outputs),
            doubling: doubling.then(|| zeros([inputs, 1, 3], inputs)),
        };
        assert!(block(514, 1024, false).fits(0));
        assert!(!block(514, 1024, true).fits(0));
        assert!(!block(512, 1024, false).fits(0));
        assert!(block(1090, 512, true).fits(4) && !block(1090, 512, false).fits(4));
        assert!(!block(1090, 512, true).fits(5));
        let mut damaged = block(514, 1024, false);
        damaged.second.bias.truncate(1);
        assert!(!damaged.fits(0));
        let one = std::iter::once(Ok::<_, ()>(damaged));
        assert!(matches!(Decoder::new(one), Ok(None)));
        assert!(matches!(Decoder::new(std::iter::empty::<Result<_, ()>>()), Ok(None)));
    }

    #[test]
    fn styles_of_other_lengths_are_refused() {
        let lengths: Vec<usize> = SHAPES.iter().flat_map(|(from, to)| [2 * from, 2 * to]).collect();
        let styles = |lengths: &[usize]| lengths.iter().map(|len| vec![0.0; *len]).collect();
        assert!(Styles::new(styles(&lengths)).is_some());
        assert!(Styles::new(styles(&lengths[1..])).is_none());
        let mut wrong = lengths;
        wrong[3] += 1;
        assert!(Styles::new(styles(&wrong)).is_none());
    }
}
