//! One-dimensional convolutions for the vocoder, the part of the model where nine tenths of the
//! arithmetic lies. Two algorithms: [`TransformConv`] for the square layers that keep their length
//! (it multiplies three to five times less than the textbook sum), [`DenseConv`] for the rest.
//!
//! A transform convolution cuts the signal into blocks of `n` samples and uses the circular
//! convolution theorem on each: the block and the kernel go through a real Fourier transform
//! ([`fourier`](super::fourier)), are multiplied there, and the samples that did not wrap come back.
//! The multiplication mixes the channels, with a matrix for each plane of the spectrum; there the
//! time goes, so it is done with rounded numbers ([`product`](super::product)).

use std::marker::PhantomData;

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::ops::{BitOps, FloatOps, NarrowSaturate, NumOps};
use rten_simd::{Isa, Simd, SimdOp};
use rten_tensor::NdTensorView;

use super::fourier::{Eight, Length, Sixteen, ThirtyTwo, kernel_column, plane_count};
use super::product::{Columns, LARGEST, PANEL, Weights};
use super::signal::Signal;

/// Blocks of one pass; keeps the buffers of a pass within the outer caches.
const TILE_BLOCKS: usize = 36;
/// Samples of one pass of an upsampling.
const TILE_SAMPLES: usize = 32;

/// Weights of a convolution, `[outputs, inputs, kernel]` in row-major order, and its bias.
pub(super) struct ConvWeights {
    pub(super) values: Vec<f32>,
    pub(super) shape: [usize; 3],
    pub(super) bias: Vec<f32>,
    /// What all values are whole multiples of, if they were integers.
    pub(super) step: Option<f32>,
}

/// Scratch memory that successive convolutions of one utterance share.
#[derive(Default)]
pub(super) struct Scratch {
    rounded: Vec<i16>,
    scales: Vec<f32>,
    products: Vec<f32>,
}

fn matrix(shape: [usize; 2], data: &[f32]) -> NdTensorView<'_, f32, 2> {
    NdTensorView::from_data(shape, data)
}

fn resize<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// A convolution with as many outputs as inputs, an odd kernel, stride one, and the zero padding
/// that keeps the length.
pub(super) struct TransformConv {
    channels: usize,
    kernel: usize,
    dilation: usize,
    block: usize,
    /// Per plane, `[channels, channels]`.
    weights: Vec<Weights>,
    bias: Vec<f32>,
    /// A sample before the beginning or after the end.
    silence: Vec<f32>,
}

impl TransformConv {
    /// Prepares the weights. The channels are a multiple of [`PANEL`]; `block` is 8, 16 or 32 and at
    /// least the kernel's length.
    pub(super) fn new(weights: &ConvWeights, dilation: usize, block: usize) -> Self {
        let [channels, inputs, kernel] = weights.shape;
        assert_eq!(channels, inputs, "a transform convolution is square");
        assert!(channels.is_multiple_of(PANEL) && [8, 16, 32].contains(&block) && kernel <= block);
        let planes = plane_count(block);
        let mut factors = vec![0.0f32; planes * kernel];
        for tap in 0..kernel {
            for (plane, factor) in kernel_column(block, tap).into_iter().enumerate() {
                factors[plane * kernel + tap] = factor as f32;
            }
        }
        let pairs = channels * channels;
        let mut values = vec![0.0f32; planes * pairs];
        let factors = GemmInputA::Unpacked(matrix([planes, kernel], &factors));
        let taps = matrix([pairs, kernel], &weights.values);
        let taps = GemmInputB::Unpacked(taps.transposed());
        GemmExecutor::new()
            .gemm(&mut values, factors, taps, GemmOptions::default())
            .expect("the buffers are made for these shapes");
        Self {
            channels,
            kernel,
            dilation,
            block,
            weights: values
                .par_chunks_exact(pairs)
                .map(|plane| Weights::new(plane.chunks_exact(channels), None))
                .collect(),
            bias: weights.bias.clone(),
            silence: vec![0.0; channels],
        }
    }

    /// Convolves `input` and adds the result to `output` (`accumulate`) or replaces it.
    pub(super) fn run(
        &self,
        input: &Signal,
        output: &mut Signal,
        accumulate: bool,
        scratch: &mut Scratch,
    ) {
        match self.block {
            8 => self.run_blocks::<Eight>(input, output, accumulate, scratch),
            16 => self.run_blocks::<Sixteen>(input, output, accumulate, scratch),
            _ => self.run_blocks::<ThirtyTwo>(input, output, accumulate, scratch),
        }
    }

    /// A dilated convolution is `dilation` plain ones over interleaved samples: a *span* holds one
    /// block of each.
    fn run_blocks<L: Length + Sync>(
        &self,
        input: &Signal,
        output: &mut Signal,
        accumulate: bool,
        scratch: &mut Scratch,
    ) {
        let (channels, planes) = (self.channels, self.weights.len());
        let span = self.dilation * (L::BLOCK - self.kernel + 1);
        let spans = input.len().div_ceil(span);
        // Tiles of equal size, so that no pass is left with a few blocks.
        let most = (TILE_BLOCKS / self.dilation).max(1);
        let tile_spans = spans.div_ceil(spans.div_ceil(most).max(1)).max(1);
        let rows = output.data_mut().chunks_mut(tile_spans * span * channels);
        for (tile, rows) in rows.enumerate() {
            let first = tile * tile_spans * span;
            let columns = rows.len().div_ceil(span * channels) * self.dilation;
            let rounded = resize(&mut scratch.rounded, columns * planes * channels);
            let scales = resize(&mut scratch.scales, columns * planes);
            rounded
                .par_chunks_mut(planes * channels)
                .zip(scales.par_chunks_mut(planes))
                .enumerate()
                .for_each_init(Vec::new, |spectrum, (column, (rounded, scales))| {
                    let from = first + column / self.dilation * span + column % self.dilation;
                    let mut samples = [self.silence.as_slice(); 32];
                    for (index, sample) in samples[..L::BLOCK].iter_mut().enumerate() {
                        let at = from + index * self.dilation;
                        let at = at.checked_sub(self.dilation * (self.kernel / 2));
                        if let Some(at) = at.filter(|at| *at < input.len()) {
                            *sample = input.sample(at);
                        }
                    }
                    let samples = &samples[..L::BLOCK];
                    let spectrum = resize(spectrum, planes * channels);
                    Analyse::<L> { samples, spectrum, rounded, scales, length: PhantomData }
                        .dispatch();
                });

            let products = resize(&mut scratch.products, planes * columns * channels);
            products.par_chunks_mut(columns * channels).zip(&self.weights).enumerate().for_each(
                |(plane, (products, weights))| {
                    let columns = Columns {
                        values: &rounded[plane * channels..],
                        stride: planes * channels,
                        scales: &scales[plane..],
                        scale_stride: planes,
                    };
                    weights.multiply(columns, products);
                },
            );

            let products = &*products;
            rows.par_chunks_mut(span * channels).enumerate().for_each(|(index, rows)| {
                for phase in 0..self.dilation {
                    Synthesise::<L> {
                        products: &products[(index * self.dilation + phase) * channels..],
                        stride: columns * channels,
                        outputs: L::BLOCK - self.kernel + 1,
                        bias: &self.bias,
                        rows: rows.get_mut(phase * channels..).unwrap_or_default(),
                        spacing: self.dilation * channels,
                        accumulate,
                        length: PhantomData,
                    }
                    .dispatch();
                }
            });
        }
    }
}

/// Transforms the samples of a block and rounds each plane of the spectrum to integers with a scale.
struct Analyse<'a, L> {
    samples: &'a [&'a [f32]],
    /// Room for the planes.
    spectrum: &'a mut [f32],
    rounded: &'a mut [i16],
    scales: &'a mut [f32],
    length: PhantomData<L>,
}

impl<L: Length> SimdOp for Analyse<'_, L> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let channels = self.samples[0].len();
        for lane in (0..channels).step_by(ops.len()) {
            L::forward(isa, self.samples, lane, self.spectrum, channels);
        }
        let planes = self.spectrum.chunks_exact(channels);
        let rounded = self.rounded.chunks_exact_mut(channels);
        for ((plane, rounded), scale) in planes.zip(rounded).zip(self.scales) {
            let mut largest = ops.zero();
            for values in plane.chunks_exact(ops.len()) {
                largest = ops.max(largest, ops.abs(ops.load(values)));
            }
            let largest = largest.to_array().into_iter().fold(0.0f32, f32::max);
            *scale = largest / LARGEST;
            let inverse = if scale.is_normal() { scale.recip() } else { 0.0 };
            let inverse = ops.splat(inverse);
            let values = plane.chunks_exact(2 * ops.len());
            for (target, values) in rounded.chunks_exact_mut(2 * ops.len()).zip(values) {
                let (low, high) = values.split_at(ops.len());
                let low = ops.to_int_round(ops.mul(ops.load(low), inverse));
                let high = ops.to_int_round(ops.mul(ops.load(high), inverse));
                isa.i16().store(isa.i32().narrow_saturate(low, high), target);
            }
        }
    }
}

/// Turns the products of a block's planes back into samples.
struct Synthesise<'a, L> {
    /// The planes are `stride` apart.
    products: &'a [f32],
    stride: usize,
    /// Samples that did not wrap.
    outputs: usize,
    bias: &'a [f32],
    /// The samples go here, `spacing` apart. What lies beyond the end is dropped.
    rows: &'a mut [f32],
    spacing: usize,
    accumulate: bool,
    length: PhantomData<L>,
}

impl<L: Length> SimdOp for Synthesise<'_, L> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let channels = self.bias.len();
        let mut samples = [0.0; 32 * 16];
        let samples = &mut samples[..L::BLOCK * ops.len()];
        for lane in (0..channels).step_by(ops.len()) {
            L::backward(isa, &self.products[lane..], self.stride, samples);
            let bias = ops.load(&self.bias[lane..]);
            let rows = self.rows.chunks_mut(self.spacing).take(self.outputs);
            for (row, sample) in rows.zip(samples.chunks_exact(ops.len())) {
                let target = &mut row[lane..][..ops.len()];
                let mut sample = ops.add(ops.load(sample), bias);
                if self.accumulate {
                    sample = ops.add(sample, ops.load(target));
                }
                ops.store(sample, target);
            }
        }
    }
}

/// Any other convolution: overlapping stretches of the signal times the weights.
pub(super) struct DenseConv {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// `[kernel * inputs, outputs]`.
    weights: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

impl DenseConv {
    pub(super) fn new(
        gemm: &GemmExecutor,
        weights: &ConvWeights,
        stride: usize,
        padding: usize,
    ) -> Self {
        let [outputs, inputs, kernel] = weights.shape;
        let mut values = vec![0.0; weights.values.len()];
        for (index, value) in weights.values.iter().enumerate() {
            let (output, input, tap) =
                (index / (inputs * kernel), index / kernel % inputs, index % kernel);
            values[(tap * inputs + input) * outputs + output] = *value;
        }
        Self {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            weights: gemm.prepack_b(matrix([kernel * inputs, outputs], &values)),
            bias: weights.bias.clone(),
        }
    }

    pub(super) fn run(&self, gemm: &GemmExecutor, input: &Signal) -> Signal {
        let padded = input.padded(self.padding);
        let Some(room) = padded.len().checked_sub(self.kernel) else {
            return Signal::zeros(self.outputs, 0);
        };
        let len = room / self.stride + 1;
        let mut output = Signal::zeros(self.outputs, len);
        let stretches = NdTensorView::from_slice_with_strides(
            [len, self.kernel * self.inputs],
            padded.data(),
            [self.stride * self.inputs, 1],
        )
        .expect("the last one ends within the signal");
        gemm.gemm(
            output.data_mut(),
            GemmInputA::Unpacked(stretches),
            GemmInputB::Packed(&self.weights),
            GemmOptions { bias: Some(BiasVector::Row(&self.bias)), ..GemmOptions::default() },
        )
        .expect("the buffers are made for these shapes");
        output
    }
}

/// A transposed convolution that lengthens the signal `stride` times, with a kernel of two strides
/// and `stride / 2` samples cut at both ends.
pub(super) struct Upsample {
    inputs: usize,
    outputs: usize,
    stride: usize,
    /// `[inputs, kernel * outputs]`.
    weights: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

impl Upsample {
    /// `weights` has the shape `[inputs, outputs, 2 * stride]`.
    pub(super) fn new(gemm: &GemmExecutor, weights: &ConvWeights) -> Self {
        let [inputs, outputs, kernel] = weights.shape;
        let mut values = vec![0.0; weights.values.len()];
        for (index, value) in weights.values.iter().enumerate() {
            let (input, output, tap) =
                (index / (outputs * kernel), index / kernel % outputs, index % kernel);
            values[(input * kernel + tap) * outputs + output] = *value;
        }
        Self {
            inputs,
            outputs,
            stride: kernel / 2,
            weights: gemm.prepack_b(matrix([inputs, kernel * outputs], &values)),
            bias: weights.bias.clone(),
        }
    }

    pub(super) fn run(&self, gemm: &GemmExecutor, input: &Signal, scratch: &mut Scratch) -> Signal {
        let (kernel, cut) = (2 * self.stride, self.stride / 2);
        let mut output = Signal::zeros(self.outputs, input.len() * self.stride);
        for row in output.data_mut().chunks_exact_mut(self.outputs) {
            row.copy_from_slice(&self.bias);
        }
        let rows = output.data_mut();
        for (tile, samples) in input.data().chunks(TILE_SAMPLES * self.inputs).enumerate() {
            let count = samples.len() / self.inputs;
            let products = resize(&mut scratch.products, count * kernel * self.outputs);
            gemm.gemm(
                products,
                GemmInputA::Unpacked(matrix([count, self.inputs], samples)),
                GemmInputB::Packed(&self.weights),
                GemmOptions::default(),
            )
            .expect("the buffers are made for these shapes");
            for (index, products) in products.chunks_exact(kernel * self.outputs).enumerate() {
                // What lies before the beginning or after the end is cut.
                let first = (tile * TILE_SAMPLES + index) * self.stride;
                let skipped = cut.saturating_sub(first) * self.outputs;
                let targets = rows[first.saturating_sub(cut) * self.outputs..].iter_mut();
                for (target, value) in targets.zip(&products[skipped..]) {
                    *target += value;
                }
            }
        }
        output
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::noise;

    pub(in super::super) fn random_signal(channels: usize, len: usize, seed: &mut u32) -> Signal {
        let values: Vec<f32> = (0..channels * len).map(|_| noise(seed)).collect();
        Signal::from_rows(channels, len, &values)
    }

    pub(in super::super) fn random_weights(
        shape: [usize; 3],
        biases: usize,
        seed: &mut u32,
    ) -> ConvWeights {
        ConvWeights {
            values: (0..shape.iter().product()).map(|_| noise(seed)).collect(),
            shape,
            bias: (0..biases).map(|_| noise(seed)).collect(),
            step: None,
        }
    }

    /// The textbook sum.
    pub(in super::super) fn direct(
        input: &Signal,
        weights: &ConvWeights,
        dilation: usize,
        output: usize,
        at: usize,
    ) -> f32 {
        let [_, inputs, kernel] = weights.shape;
        let mut sum = f64::from(weights.bias[output]);
        for channel in 0..inputs {
            for tap in 0..kernel {
                let position =
                    at as isize + (tap as isize - (kernel / 2) as isize) * dilation as isize;
                let sample = usize::try_from(position)
                    .ok()
                    .filter(|position| *position < input.len())
                    .map_or(0.0, |position| input.sample(position)[channel]);
                sum += f64::from(sample)
                    * f64::from(weights.values[(output * inputs + channel) * kernel + tap]);
            }
        }
        sum as f32
    }

    #[test]
    fn a_transform_convolution_equals_the_textbook_sum_but_for_the_rounding() {
        let mut seed = 7;
        let channels = 2 * PANEL;
        for (kernel, block) in [(3, 8), (7, 16), (11, 16), (11, 32)] {
            // Of a sum of so many random products.
            let bound = 3e-4 * ((channels * kernel) as f32).sqrt();
            for dilation in [1, 3, 5] {
                let weights = random_weights([channels, channels, kernel], channels, &mut seed);
                let conv = TransformConv::new(&weights, dilation, block);
                for len in [1, 4, 97, 1500] {
                    let input = random_signal(channels, len, &mut seed);
                    let mut output = random_signal(channels, len, &mut seed);
                    let before = output.clone();
                    conv.run(&input, &mut output, true, &mut Scratch::default());
                    let mut replaced = before.clone();
                    conv.run(&input, &mut replaced, false, &mut Scratch::default());
                    for channel in [0, 2, channels - 1] {
                        for at in [0, 1, len / 3, len / 2, len - 1] {
                            let at = at.min(len - 1);
                            let wanted = direct(&input, &weights, dilation, channel, at);
                            let apart = (replaced.sample(at)[channel] - wanted).abs();
                            assert!(apart < bound, "{kernel} {dilation} {len}: {apart}");
                            let sum = before.sample(at)[channel] + replaced.sample(at)[channel];
                            assert!((output.sample(at)[channel] - sum).abs() < 1e-5);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn silence_stays_silent_and_nonsense_is_no_panic() {
        let mut seed = 9;
        let weights = random_weights([PANEL, PANEL, 3], PANEL, &mut seed);
        let conv = TransformConv::new(&weights, 1, 8);
        let mut output = random_signal(PANEL, 50, &mut seed);
        conv.run(&Signal::zeros(PANEL, 50), &mut output, false, &mut Scratch::default());
        assert_eq!(output.sample(20), weights.bias);
        for nonsense in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0] {
            let input = Signal::from_rows(PANEL, 50, &[nonsense; PANEL * 50]);
            conv.run(&input, &mut output, true, &mut Scratch::default());
        }
        conv.run(&Signal::zeros(PANEL, 0), &mut Signal::zeros(PANEL, 0), false, &mut {
            Scratch::default()
        });
    }

    #[test]
    fn a_dense_convolution_equals_the_textbook_sum() {
        let gemm = GemmExecutor::new();
        let mut seed = 11;
        let weights = random_weights([3, 5, 7], 3, &mut seed);
        let input = random_signal(5, 1300, &mut seed);
        let output = DenseConv::new(&gemm, &weights, 1, 3).run(&gemm, &input);
        assert_eq!(output.len(), 1300);
        for at in [0, 700, 1299] {
            assert!((output.sample(at)[1] - direct(&input, &weights, 1, 1, at)).abs() < 2e-5);
        }
        let sparse = DenseConv::new(&gemm, &weights, 6, 3).run(&gemm, &input);
        assert_eq!(sparse.len(), 217);
        assert_eq!(sparse.sample(50), output.sample(300));
        assert_eq!(DenseConv::new(&gemm, &weights, 1, 0).run(&gemm, &input.slice(0..6)).len(), 0);
    }

    #[test]
    fn upsampling_spreads_each_sample_over_two_strides() {
        let gemm = GemmExecutor::new();
        let weights = ConvWeights {
            values: (1..=8).map(|value| value as f32).collect(),
            shape: [1, 1, 8],
            bias: vec![0.5],
            step: None,
        };
        let input = Signal::from_rows(1, 3, &[0.0, 1.0, 0.0]);
        let output = Upsample::new(&gemm, &weights).run(&gemm, &input, &mut Scratch::default());
        let wanted = [0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 0.5, 0.5];
        assert_eq!(output.data(), wanted);
    }
}
