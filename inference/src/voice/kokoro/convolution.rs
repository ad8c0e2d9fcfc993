//! One-dimensional convolutions for the vocoder, the part of the model where nine tenths of the
//! arithmetic lies. Two algorithms: [`TransformConv`] for the square layers that keep their length
//! (it multiplies three to four times less than the textbook sum), [`DenseConv`] for the rest.
//!
//! A transform convolution cuts the signal into blocks of `n` samples and uses the circular
//! convolution theorem on each: the block and the kernel go through a real Fourier transform, are
//! multiplied there, and the samples that did not wrap come back. A complex product costs three
//! real ones (Gauss), so `n` samples need `3 (n/2 - 1) + 2` real planes. Each of the three steps
//! is linear, hence a matrix product: the transform of all blocks of all channels at once, one
//! channel-mixing product per plane, and the way back. Precision stays that of f32 since no matrix
//! entry exceeds two in magnitude (Toom-Cook tiles of this size would lose it).

use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedAMatrix};
use rten_tensor::NdTensorView;

use super::signal::{MARGIN, Signal};

/// Columns of one pass; keeps the buffers of a pass within the outer caches.
const TILE_COLUMNS: usize = 128;

/// Weights of a convolution, `[outputs, inputs, kernel]` in row-major order, and its bias.
pub(super) struct ConvWeights {
    pub(super) values: Vec<f32>,
    pub(super) shape: [usize; 3],
    pub(super) bias: Vec<f32>,
}

/// Scratch memory that successive convolutions of one utterance share.
#[derive(Default)]
pub(super) struct Scratch {
    gathered: Vec<f32>,
    planes: Vec<f32>,
    products: Vec<f32>,
    blocks: Vec<f32>,
}

/// How to convolve blocks of `block` samples with a kernel of `kernel` taps.
struct Transform {
    block: usize,
    kernel: usize,
    planes: usize,
    /// `[planes, block]`.
    forward: PackedAMatrix<f32>,
    /// `[outputs, planes]`.
    backward: PackedAMatrix<f32>,
}

impl Transform {
    fn new(gemm: &GemmExecutor, block: usize, kernel: usize) -> Self {
        debug_assert!(block.is_multiple_of(2) && kernel <= block);
        let outputs = block - kernel + 1;
        let planes = plane_count(block);
        let mut forward = vec![0.0f32; planes * block];
        let mut backward = vec![0.0f32; outputs * planes];
        for sample in 0..block {
            for (plane, value) in forward_column(block, sample).into_iter().enumerate() {
                forward[plane * block + sample] = value as f32;
            }
        }
        for output in 0..outputs {
            let row = &mut backward[output * planes..][..planes];
            for (value, exact) in row.iter_mut().zip(backward_row(block, output)) {
                *value = exact as f32;
            }
        }
        Self {
            block,
            kernel,
            planes,
            forward: gemm.prepack_a(matrix([planes, block], &forward)),
            backward: gemm.prepack_a(matrix([outputs, planes], &backward)),
        }
    }

    fn outputs(&self) -> usize {
        self.block - self.kernel + 1
    }
}

/// Real planes of a block: the constant, the alternating one, and three for each complex bin.
fn plane_count(block: usize) -> usize {
    3 * (block / 2 - 1) + 2
}

fn angle(block: usize, bin: usize, sample: usize) -> f64 {
    // The product is reduced first, so that the angle keeps its precision.
    std::f64::consts::TAU * ((bin * sample) % block) as f64 / block as f64
}

/// What one sample of a block adds to each plane: with `a + ib` the transform of the block, the
/// planes of a bin are `a + b`, `a` and `b`.
fn forward_column(block: usize, sample: usize) -> Vec<f64> {
    let mut column = vec![1.0, if sample.is_multiple_of(2) { 1.0 } else { -1.0 }];
    for bin in 1..block / 2 {
        let (sin, cos) = angle(block, bin, sample).sin_cos();
        column.extend([cos - sin, cos, -sin]);
    }
    column
}

/// What one tap of a kernel adds to the factor of each plane: with `c + id` the (conjugated)
/// transform of the kernel, the planes of a bin are multiplied by `c`, `d - c` and `c + d`.
fn kernel_column(block: usize, tap: usize) -> Vec<f64> {
    let mut column = vec![1.0, if tap.is_multiple_of(2) { 1.0 } else { -1.0 }];
    for bin in 1..block / 2 {
        let (sin, cos) = angle(block, bin, tap).sin_cos();
        column.extend([cos, sin - cos, cos + sin]);
    }
    column
}

/// How the plane products make one output sample: with `p`, `q`, `r` the products of a bin, its
/// value is `(p - r) + i (p + q)`.
fn backward_row(block: usize, output: usize) -> Vec<f64> {
    let scale = 1.0 / block as f64;
    let mut row = vec![scale, if output.is_multiple_of(2) { scale } else { -scale }];
    for bin in 1..block / 2 {
        let (sin, cos) = angle(block, bin, output).sin_cos();
        row.extend([2.0 * scale * (cos - sin), -2.0 * scale * sin, -2.0 * scale * cos]);
    }
    row
}

fn matrix(shape: [usize; 2], data: &[f32]) -> NdTensorView<'_, f32, 2> {
    NdTensorView::from_data(shape, data)
}

/// Plain product `out = a b`, with shapes that the callers keep consistent.
fn multiply(
    gemm: &GemmExecutor,
    out: &mut [f32],
    a: &PackedAMatrix<f32>,
    b: NdTensorView<'_, f32, 2>,
) {
    gemm.gemm(out, GemmInputA::Packed(a), GemmInputB::Unpacked(b), GemmOptions::default())
        .expect("the buffers are made for these shapes");
}

fn resize(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// A convolution with as many outputs as inputs, an odd kernel, stride one, and the zero padding
/// that keeps the length.
pub(super) struct TransformConv {
    channels: usize,
    dilation: usize,
    transform: Transform,
    /// Per plane, `[channels, channels]`.
    weights: Vec<PackedAMatrix<f32>>,
    bias: Vec<f32>,
}

impl TransformConv {
    /// Prepares the weights. `block` must be even and at least the kernel's length.
    pub(super) fn new(
        gemm: &GemmExecutor,
        weights: &ConvWeights,
        dilation: usize,
        block: usize,
    ) -> Self {
        let [channels, inputs, kernel] = weights.shape;
        assert_eq!(channels, inputs, "a transform convolution is square");
        let transform = Transform::new(gemm, block, kernel);
        let mut factors = vec![0.0f32; transform.planes * kernel];
        for tap in 0..kernel {
            for (plane, factor) in kernel_column(block, tap).into_iter().enumerate() {
                factors[plane * kernel + tap] = factor as f32;
            }
        }
        let pairs = channels * channels;
        let mut planes = vec![0.0f32; transform.planes * pairs];
        let taps = matrix([pairs, kernel], &weights.values);
        let factors = gemm.prepack_a(matrix([transform.planes, kernel], &factors));
        multiply(gemm, &mut planes, &factors, taps.transposed());
        let packed = planes
            .chunks_exact(pairs)
            .map(|plane| gemm.prepack_a(matrix([channels, channels], plane)))
            .collect();
        Self { channels, dilation, transform, weights: packed, bias: weights.bias.clone() }
    }

    /// Convolves `input` and adds the result to `output` (`accumulate`) or replaces it.
    pub(super) fn run(
        &self,
        gemm: &GemmExecutor,
        input: &Signal,
        output: &mut Signal,
        accumulate: bool,
        scratch: &mut Scratch,
    ) {
        let (channels, block, planes) =
            (self.channels, self.transform.block, self.transform.planes);
        let outputs = self.transform.outputs();
        for tile in self.tiles(input.len()) {
            let width = tile.iter().map(|run| run.blocks).sum::<usize>();
            let plane_len = channels * width;
            let gathered = resize(&mut scratch.gathered, block * plane_len);
            self.gather(input, &tile, gathered);
            let transformed = resize(&mut scratch.planes, planes * plane_len);
            multiply(
                gemm,
                transformed,
                &self.transform.forward,
                matrix([block, plane_len], gathered),
            );
            let products = resize(&mut scratch.products, planes * plane_len);
            products
                .par_chunks_mut(plane_len)
                .zip(transformed.par_chunks(plane_len))
                .zip(&self.weights)
                .for_each(|((product, plane), weights)| {
                    multiply(gemm, product, weights, matrix([channels, width], plane));
                });
            let blocks = resize(&mut scratch.blocks, outputs * plane_len);
            multiply(gemm, blocks, &self.transform.backward, matrix([planes, plane_len], products));
            self.scatter(blocks, &tile, output, accumulate);
        }
    }

    /// The blocks of a signal in tiles of about [`TILE_COLUMNS`]. A dilated convolution is `dilation`
    /// plain ones over interleaved samples: each run of blocks stays within one of them.
    fn tiles(&self, len: usize) -> Vec<Vec<Run>> {
        let (dilation, outputs) = (self.dilation, self.transform.outputs());
        let blocks_of = |phase: usize| (len - phase).div_ceil(dilation).div_ceil(outputs);
        let phases = dilation.min(len);
        let total: usize = (0..phases).map(blocks_of).sum();
        // Tiles of equal width, so that no pass is left with a few columns.
        let width = total.div_ceil(total.div_ceil(TILE_COLUMNS).max(1)).max(1);
        let mut tiles = Vec::new();
        let mut tile = Vec::new();
        let mut room = width;
        for phase in 0..phases {
            let mut done = 0;
            while done < blocks_of(phase) {
                let blocks = (blocks_of(phase) - done).min(room);
                tile.push(Run { first: phase + dilation * outputs * done, blocks });
                done += blocks;
                room -= blocks;
                if room == 0 {
                    tiles.push(std::mem::take(&mut tile));
                    room = width;
                }
            }
        }
        if !tile.is_empty() {
            tiles.push(tile);
        }
        tiles
    }

    /// Distance from a block to the next of its run.
    fn spacing(&self) -> usize {
        self.dilation * self.transform.outputs()
    }

    /// Lays the samples of the blocks out as `[block, channels, width of the tile]`.
    fn gather(&self, input: &Signal, tile: &[Run], gathered: &mut [f32]) {
        let padding = self.dilation * (self.transform.kernel / 2);
        let plane_len = gathered.len() / self.transform.block;
        gathered.par_chunks_mut(plane_len).enumerate().for_each(|(sample, rows)| {
            let offset = MARGIN + sample * self.dilation - padding;
            for (channel, row) in rows.chunks_exact_mut(plane_len / self.channels).enumerate() {
                let source = &input.padded_row(channel)[offset..];
                let mut row = row;
                for run in tile {
                    let (values, rest) = row.split_at_mut(run.blocks);
                    row = rest;
                    for (value, sample) in
                        values.iter_mut().zip(source[run.first..].iter().step_by(self.spacing()))
                    {
                        *value = *sample;
                    }
                }
            }
        });
    }

    /// Puts `blocks`, `[outputs, channels, width of the tile]`, where they belong and adds the bias.
    fn scatter(&self, blocks: &[f32], tile: &[Run], output: &mut Signal, accumulate: bool) {
        let plane_len = blocks.len() / self.transform.outputs();
        let width = plane_len / self.channels;
        output.par_rows_mut().enumerate().for_each(|(channel, row)| {
            let bias = self.bias[channel];
            for (index, plane) in blocks.chunks_exact(plane_len).enumerate() {
                let mut values = &plane[channel * width..][..width];
                for run in tile {
                    let (run_values, rest) = values.split_at(run.blocks);
                    values = rest;
                    // What the last block computes beyond the end of the row is dropped.
                    let Some(targets) = row.get_mut(run.first + index * self.dilation..) else {
                        continue;
                    };
                    let targets = targets.iter_mut().step_by(self.spacing()).zip(run_values);
                    if accumulate {
                        targets.for_each(|(target, value)| *target += value + bias);
                    } else {
                        targets.for_each(|(target, value)| *target = value + bias);
                    }
                }
            }
        });
    }
}

/// Evenly spaced blocks.
struct Run {
    /// Index of the first output sample of the first block.
    first: usize,
    blocks: usize,
}

/// Any other convolution: gathered into columns, then one matrix product per tile.
pub(super) struct DenseConv {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    weights: PackedAMatrix<f32>,
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
        Self {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            weights: gemm.prepack_a(matrix([outputs, inputs * kernel], &weights.values)),
            bias: weights.bias.clone(),
        }
    }

    pub(super) fn run(&self, gemm: &GemmExecutor, input: &Signal, scratch: &mut Scratch) -> Signal {
        let len = (input.len() + 2 * self.padding).saturating_sub(self.kernel) / self.stride + 1;
        let mut output = Signal::zeros(self.outputs, len);
        let starts: Vec<usize> =
            (0..len).map(|index| MARGIN + index * self.stride - self.padding).collect();
        for (tile_index, tile) in starts.chunks(4 * TILE_COLUMNS).enumerate() {
            let width = tile.len();
            let gathered = resize(&mut scratch.gathered, self.inputs * self.kernel * width);
            gathered.par_chunks_mut(width).enumerate().for_each(|(index, row)| {
                let source = &input.padded_row(index / self.kernel)[index % self.kernel..];
                for (value, start) in row.iter_mut().zip(tile) {
                    *value = source[*start];
                }
            });
            let products = resize(&mut scratch.products, self.outputs * width);
            multiply(
                gemm,
                products,
                &self.weights,
                matrix([self.inputs * self.kernel, width], gathered),
            );
            let first = tile_index * 4 * TILE_COLUMNS;
            output.par_rows_mut().enumerate().for_each(|(channel, row)| {
                let values = &products[channel * width..][..width];
                for (target, value) in row[first..][..width].iter_mut().zip(values) {
                    *target = value + self.bias[channel];
                }
            });
        }
        output
    }
}

/// A transposed convolution that lengthens the signal `stride` times, with a kernel of two strides
/// and `stride / 2` samples cut at both ends.
pub(super) struct Upsample {
    inputs: usize,
    outputs: usize,
    stride: usize,
    /// `[outputs * kernel, inputs]`.
    weights: PackedAMatrix<f32>,
    bias: Vec<f32>,
}

impl Upsample {
    /// `weights` has the shape `[inputs, outputs, 2 * stride]`.
    pub(super) fn new(gemm: &GemmExecutor, weights: &ConvWeights) -> Self {
        let [inputs, outputs, kernel] = weights.shape;
        let flat = matrix([inputs, outputs * kernel], &weights.values);
        Self {
            inputs,
            outputs,
            stride: kernel / 2,
            weights: gemm.prepack_a(flat.transposed()),
            bias: weights.bias.clone(),
        }
    }

    pub(super) fn run(&self, gemm: &GemmExecutor, input: &Signal, scratch: &mut Scratch) -> Signal {
        let (kernel, cut) = (2 * self.stride, self.stride / 2);
        let mut output = Signal::zeros(self.outputs, input.len() * self.stride);
        output.par_rows_mut().zip(&self.bias).for_each(|(row, bias)| row.fill(*bias));
        for first in (0..input.len()).step_by(TILE_COLUMNS) {
            let width = TILE_COLUMNS.min(input.len() - first);
            let gathered = resize(&mut scratch.gathered, self.inputs * width);
            for (channel, row) in gathered.chunks_exact_mut(width).enumerate() {
                row.copy_from_slice(&input.row(channel)[first..][..width]);
            }
            let products = resize(&mut scratch.products, self.outputs * kernel * width);
            multiply(gemm, products, &self.weights, matrix([self.inputs, width], gathered));
            output.par_rows_mut().enumerate().for_each(|(channel, row)| {
                for tap in 0..kernel {
                    let values = &products[(channel * kernel + tap) * width..][..width];
                    for (index, value) in values.iter().enumerate() {
                        let position = (first + index) * self.stride + tap;
                        if let Some(target) =
                            position.checked_sub(cut).and_then(|at| row.get_mut(at))
                        {
                            *target += value;
                        }
                    }
                }
            });
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: &mut u32) -> f32 {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn random_signal(channels: usize, len: usize, seed: &mut u32) -> Signal {
        let values: Vec<f32> = (0..channels * len).map(|_| noise(seed)).collect();
        Signal::from_rows(channels, len, &values)
    }

    fn random_weights(shape: [usize; 3], biases: usize, seed: &mut u32) -> ConvWeights {
        ConvWeights {
            values: (0..shape.iter().product()).map(|_| noise(seed)).collect(),
            shape,
            bias: (0..biases).map(|_| noise(seed)).collect(),
        }
    }

    /// The textbook sum.
    fn direct(
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
                    .and_then(|position| input.row(channel).get(position))
                    .copied()
                    .unwrap_or_default();
                sum += f64::from(sample)
                    * f64::from(weights.values[(output * inputs + channel) * kernel + tap]);
            }
        }
        sum as f32
    }

    #[test]
    fn a_transform_convolution_equals_the_textbook_sum() {
        let gemm = GemmExecutor::new();
        let mut seed = 7;
        for (kernel, block) in [(3, 8), (7, 16), (11, 16), (11, 32)] {
            for dilation in [1, 3, 5] {
                for len in [1, 4, 97, 1500] {
                    let weights = random_weights([6, 6, kernel], 6, &mut seed);
                    let input = random_signal(6, len, &mut seed);
                    let mut output = random_signal(6, len, &mut seed);
                    let before = output.row(2)[len / 2];
                    let conv = TransformConv::new(&gemm, &weights, dilation, block);
                    conv.run(&gemm, &input, &mut output, true, &mut Scratch::default());
                    let wanted = before + direct(&input, &weights, dilation, 2, len / 2);
                    assert!(
                        (output.row(2)[len / 2] - wanted).abs() < 2e-5,
                        "{kernel} {dilation} {len}"
                    );
                    conv.run(&gemm, &input, &mut output, false, &mut Scratch::default());
                    for (channel, at) in [(0, 0), (5, len - 1)] {
                        let wanted = direct(&input, &weights, dilation, channel, at);
                        assert!((output.row(channel)[at] - wanted).abs() < 2e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn a_dense_convolution_equals_the_textbook_sum() {
        let gemm = GemmExecutor::new();
        let mut seed = 11;
        let weights = random_weights([3, 5, 7], 3, &mut seed);
        let input = random_signal(5, 1300, &mut seed);
        let output =
            DenseConv::new(&gemm, &weights, 1, 3).run(&gemm, &input, &mut Scratch::default());
        assert_eq!(output.len(), 1300);
        for at in [0, 700, 1299] {
            assert!((output.row(1)[at] - direct(&input, &weights, 1, 1, at)).abs() < 2e-5);
        }
    }

    #[test]
    fn upsampling_spreads_each_sample_over_two_strides() {
        let gemm = GemmExecutor::new();
        let weights = ConvWeights {
            values: (1..=8).map(|value| value as f32).collect(),
            shape: [1, 1, 8],
            bias: vec![0.5],
        };
        let input = Signal::from_rows(1, 3, &[0.0, 1.0, 0.0]);
        let output = Upsample::new(&gemm, &weights).run(&gemm, &input, &mut Scratch::default());
        let wanted = [0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 0.5, 0.5];
        assert_eq!(output.row(0), wanted);
    }
}
