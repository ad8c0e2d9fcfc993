//! The last stage of Kokoro, an iSTFTNet generator (Kaneko et al., 2022): from the decoder's
//! features to samples. It holds nine tenths of the model's arithmetic, which is why it is not left
//! to the general runtime: here its convolutions run in a transform domain, and normalisation,
//! style and activation are one pass.

use std::ops::Range;

use rayon::prelude::*;
use rten_gemm::GemmExecutor;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::{Sin, Sum, SumSquareSub};

use super::convolution::{ConvWeights, DenseConv, Scratch, TransformConv, Upsample};
use super::signal::Signal;

/// Channels of the input features and of the source spectrum, samples of a Fourier frame, and hop.
pub(super) const FEATURES: usize = 512;
pub(super) const SOURCE_CHANNELS: usize = 2 * BINS;
const FRAME: usize = 20;
const HOP: usize = FRAME / 4;
const BINS: usize = FRAME / 2 + 1;
/// Source samples for each frame of features.
pub(super) const UPSAMPLING: usize = 60;
/// Samples for each frame of features: a frame is 12.5 ms.
pub(super) const FRAME_SAMPLES: usize = UPSAMPLING * HOP;
/// Frames on either side that a window's samples depend on: the convolutions of the first stage
/// reach 75 ms far, those of the second and the source's a tenth of that.
const CONTEXT: usize = 8;
/// Normalisations of a residual block.
const NORMALISATIONS: usize = 2 * DILATIONS.len();
/// Channels of the residual blocks, stage by stage.
const STAGE_CHANNELS: [usize; 2] = [256, 128];
/// Layers of a residual block; their first convolutions have these dilations.
pub(super) const DILATIONS: [usize; 3] = [1, 3, 5];
/// Longest kernel of a convolution that has one by weight; the signals' margins bear no more.
const LONGEST_KERNEL: usize = 12;
/// Parallel residual blocks of a stage.
const BRANCHES: usize = 3;
/// Added to the variance in every normalisation.
const EPSILON: f32 = 1e-5;

/// Weights of a residual block.
pub(super) struct ResidualWeights {
    /// Six convolutions, in the order they are applied.
    pub(super) convolutions: Vec<ConvWeights>,
    /// The frequencies of the six snake activations, one a channel.
    pub(super) frequencies: Vec<Vec<f32>>,
}

/// Weights of one of the two stages.
pub(super) struct StageWeights {
    pub(super) upsample: ConvWeights,
    pub(super) source: ConvWeights,
    pub(super) source_stride: usize,
    pub(super) source_padding: usize,
    pub(super) source_block: ResidualWeights,
    pub(super) blocks: Vec<ResidualWeights>,
}

/// Weights of the whole vocoder.
pub(super) struct VocoderWeights {
    pub(super) stages: Vec<StageWeights>,
    pub(super) last: ConvWeights,
    /// `[2 * bins, frame]`: the inverse Fourier transform with its window.
    pub(super) inverse_basis: Vec<f32>,
}

impl VocoderWeights {
    /// The first part whose shape is not the one that the arithmetic here is written for.
    pub(super) fn misfit(&self) -> Option<&'static str> {
        if self.stages.len() != STAGE_CHANNELS.len() {
            return Some("number of stages");
        }
        let inputs = [FEATURES, STAGE_CHANNELS[0]];
        let mut upsampling = 1;
        for ((stage, channels), inputs) in self.stages.iter().zip(STAGE_CHANNELS).zip(inputs) {
            let [_, _, kernel] = stage.upsample.shape;
            upsampling *= kernel / 2;
            if stage.upsample.shape != [inputs, channels, kernel / 2 * 2] {
                return Some("upsampling convolution");
            }
            if !is_dense(&stage.source, channels, SOURCE_CHANNELS) {
                return Some("source convolution");
            }
            let mut blocks = stage.blocks.iter().chain([&stage.source_block]);
            if stage.blocks.len() != BRANCHES || !blocks.all(|block| block.fits(channels)) {
                return Some("residual block");
            }
        }
        if upsampling != UPSAMPLING {
            return Some("upsampling");
        }
        if !is_dense(&self.last, SOURCE_CHANNELS, STAGE_CHANNELS[1]) {
            return Some("last convolution");
        }
        (self.inverse_basis.len() != SOURCE_CHANNELS * FRAME).then_some("inverse transform")
    }
}

/// Whether a convolution of any sensible kernel maps so many channels to so many.
fn is_dense(weights: &ConvWeights, outputs: usize, inputs: usize) -> bool {
    let [_, _, kernel] = weights.shape;
    weights.shape == [outputs, inputs, kernel]
        && kernel <= LONGEST_KERNEL
        && weights.bias.len() == outputs
}

impl ResidualWeights {
    fn fits(&self, channels: usize) -> bool {
        self.convolutions.len() == NORMALISATIONS
            && self.frequencies.len() == NORMALISATIONS
            && self.frequencies.iter().all(|frequencies| frequencies.len() == channels)
            && self.convolutions.iter().all(|weights| {
                is_dense(weights, channels, channels) && !weights.shape[2].is_multiple_of(2)
            })
    }
}

/// Scale and shift of each normalisation of a residual block: six vectors of `2 * channels`, the
/// scales first. They depend on the style alone.
pub(super) type BlockStyle = Vec<Vec<f32>>;

/// Sorts the styles, given in the order in which the blocks are run, by block. `None` if one has
/// the wrong length or there are too few or too many.
pub(super) fn group_styles(styles: &[Vec<f32>]) -> Option<Vec<BlockStyle>> {
    let blocks_per_stage = 1 + BRANCHES;
    let (blocks, rest) = styles.as_chunks::<NORMALISATIONS>();
    if !rest.is_empty() || blocks.len() != STAGE_CHANNELS.len() * blocks_per_stage {
        return None;
    }
    let fits = |(index, block): (usize, &[Vec<f32>; NORMALISATIONS])| {
        block.iter().all(|style| style.len() == 2 * STAGE_CHANNELS[index / blocks_per_stage])
    };
    blocks.iter().enumerate().all(fits).then(|| blocks.iter().map(|block| block.to_vec()).collect())
}

/// Makes the phases of the source spectrum what the arc tangent of two arguments would have given.
/// The graph divides the imaginary by the real part, which is not a number in silence, where the
/// model was trained with zero; and a real spectrum line may have the phase pi or minus pi by the
/// sign of a zero, where it was trained with pi (the other gives the voice a direct current).
pub(super) fn mend_phases(source: &mut Signal) {
    for channel in BINS..SOURCE_CHANNELS {
        let is_real_line = channel == BINS || channel == SOURCE_CHANNELS - 1;
        for phase in source.row_mut(channel) {
            if phase.is_nan() {
                *phase = 0.0;
            } else if is_real_line {
                *phase = phase.abs();
            }
        }
    }
}

/// What the vocoder is given for one utterance.
pub(super) struct VocoderInput {
    /// `[FEATURES, frames]`.
    pub(super) features: Signal,
    /// `[SOURCE_CHANNELS, 60 * frames + 1]`: magnitudes and phases of the excitation.
    pub(super) source: Signal,
    /// Styles of the residual blocks: per stage the source's block, then the three branches.
    pub(super) styles: Vec<BlockStyle>,
}

impl VocoderInput {
    /// Frames of features.
    pub(super) fn frames(&self) -> usize {
        self.features.len()
    }

    fn slice(&self, frames: Range<usize>) -> Self {
        let source = UPSAMPLING * frames.start..UPSAMPLING * frames.end + 1;
        Self {
            features: self.features.slice(frames),
            source: self.source.slice(source),
            styles: self.styles.clone(),
        }
    }
}

struct Residual {
    convolutions: Vec<TransformConv>,
    frequencies: Vec<Vec<f32>>,
}

struct Stage {
    upsample: Upsample,
    source: DenseConv,
    source_block: Residual,
    blocks: Vec<Residual>,
}

/// The vocoder, ready to run. Shared between threads; each run has buffers of its own.
pub(super) struct Vocoder {
    stages: Vec<Stage>,
    last: DenseConv,
    inverse_basis: Vec<f32>,
}

impl Vocoder {
    pub(super) fn new(weights: &VocoderWeights) -> Self {
        let gemm = GemmExecutor::new();
        let stages = weights
            .stages
            .iter()
            .map(|stage| Stage {
                upsample: Upsample::new(&gemm, &stage.upsample),
                source: DenseConv::new(
                    &gemm,
                    &stage.source,
                    stage.source_stride,
                    stage.source_padding,
                ),
                source_block: Residual::new(&gemm, &stage.source_block),
                blocks: stage.blocks.iter().map(|block| Residual::new(&gemm, block)).collect(),
            })
            .collect();
        let last = DenseConv::new(&gemm, &weights.last, 1, weights.last.shape[2] / 2);
        Self { stages, last, inverse_basis: weights.inverse_basis.clone() }
    }

    /// The samples of some frames and `beyond` samples after them (as far as there are any), at
    /// 24 kHz. What is computed in windows costs a little more and is there sooner; with the same
    /// `statistics` it is the same, those of the whole utterance or, since they are not known before
    /// it was computed, those of the voice. Unknown ones are measured and left in place. Runs on the
    /// current rayon pool.
    pub(super) fn run(
        &self,
        input: &VocoderInput,
        frames: Range<usize>,
        beyond: usize,
        statistics: &mut Statistics,
    ) -> Vec<f32> {
        debug_assert!(beyond <= CONTEXT * FRAME_SAMPLES);
        let from = frames.start.saturating_sub(CONTEXT);
        let to = (frames.end + CONTEXT).min(input.frames());
        let mut samples = self.run_whole(&input.slice(from..to), statistics);
        samples.truncate((frames.end - from) * FRAME_SAMPLES + beyond);
        samples.drain(..(frames.start - from) * FRAME_SAMPLES);
        samples
    }

    fn run_whole(&self, input: &VocoderInput, statistics: &mut Statistics) -> Vec<f32> {
        statistics.next = 0;
        // Made anew since it cannot move between threads; it only picks the kernel for the processor.
        let gemm = &GemmExecutor::new();
        let scratch = &mut Scratch::default();
        let mut styles = input.styles.iter();
        let mut style = || styles.next().expect("as many styles as residual blocks were asked for");
        let mut features = input.features.clone();
        for (index, stage) in self.stages.iter().enumerate() {
            let mut excitation = stage.source.run(gemm, &input.source, scratch);
            stage.source_block.run(gemm, &mut excitation, style(), statistics, scratch);

            leaky_relu(&mut features, 0.1);
            let upsampled = stage.upsample.run(gemm, &features, scratch);
            let is_last = index + 1 == self.stages.len();
            // The last stage is one sample short of the source: its first sample is mirrored.
            add_shifted(&mut excitation, &upsampled, usize::from(is_last));

            let mut sum = Signal::zeros(excitation.channels(), excitation.len());
            for block in &stage.blocks {
                let mut branch = excitation.clone();
                block.run(gemm, &mut branch, style(), statistics, scratch);
                sum.par_rows_mut().zip(branch.par_rows()).for_each(|(total, row)| {
                    for (total, value) in total.iter_mut().zip(row) {
                        *total += value / BRANCHES as f32;
                    }
                });
            }
            features = sum;
        }
        leaky_relu(&mut features, 0.01);
        let spectrum = self.last.run(gemm, &features, scratch);
        self.inverse_transform(&spectrum)
    }

    /// Frames of log-magnitude and phase to samples, by overlap and add. The exported graph divides
    /// the first samples by the window's near-zero edge, which makes a click; here they are left as
    /// a short fade-in.
    fn inverse_transform(&self, spectrum: &Signal) -> Vec<f32> {
        let frames = spectrum.len();
        let mut rectangular = vec![0.0f32; 2 * BINS * frames];
        let (real, imaginary) = rectangular.split_at_mut(BINS * frames);
        real.par_chunks_mut(frames).zip(imaginary.par_chunks_mut(frames)).enumerate().for_each(
            |(bin, (real, imaginary))| {
                let magnitudes = spectrum.row(bin);
                let phases = spectrum.row(BINS + bin);
                for frame in 0..frames {
                    let magnitude = magnitudes[frame].exp();
                    let (sin, cos) = phases[frame].sin().sin_cos();
                    real[frame] = magnitude * cos;
                    imaginary[frame] = magnitude * sin;
                }
            },
        );
        let cut = FRAME / 2;
        let mut samples = vec![0.0f32; HOP * (frames - 1) + FRAME];
        for (channel, values) in rectangular.chunks_exact(frames).enumerate() {
            let basis = &self.inverse_basis[channel * FRAME..][..FRAME];
            for (frame, value) in values.iter().enumerate() {
                for (sample, factor) in samples[frame * HOP..][..FRAME].iter_mut().zip(basis) {
                    *sample += (FRAME / HOP) as f32 * value * factor;
                }
            }
        }
        samples.truncate(samples.len() - cut);
        samples.drain(..cut);
        samples
    }
}

impl Residual {
    fn new(gemm: &GemmExecutor, weights: &ResidualWeights) -> Self {
        let convolutions = weights
            .convolutions
            .iter()
            .enumerate()
            .map(|(index, convolution)| {
                let dilation = if index.is_multiple_of(2) { DILATIONS[index / 2] } else { 1 };
                TransformConv::new(gemm, convolution, dilation, block_for(convolution.shape))
            })
            .collect();
        Self { convolutions, frequencies: weights.frequencies.clone() }
    }

    /// `signal` becomes the block's output.
    fn run(
        &self,
        gemm: &GemmExecutor,
        signal: &mut Signal,
        style: &BlockStyle,
        statistics: &mut Statistics,
        scratch: &mut Scratch,
    ) {
        let mut activated = Signal::zeros(signal.channels(), signal.len());
        let mut inner = Signal::zeros(signal.channels(), signal.len());
        let layers = self.convolutions.chunks_exact(2).zip(self.frequencies.chunks_exact(2));
        for ((convolutions, frequencies), style) in layers.zip(style.chunks_exact(2)) {
            normalise_and_activate(
                signal,
                &style[0],
                &frequencies[0],
                statistics.next(),
                &mut activated,
            );
            convolutions[0].run(gemm, &activated, &mut inner, false, scratch);
            normalise_and_activate(
                &inner,
                &style[1],
                &frequencies[1],
                statistics.next(),
                &mut activated,
            );
            convolutions[1].run(gemm, &activated, signal, true, scratch);
        }
    }
}

/// The transform's block length for a convolution: longer blocks multiply less but hold more
/// weights (47 planes of `channels²` at 32 samples, 23 at 16, 11 at 8).
fn block_for([_, _, kernel]: [usize; 3]) -> usize {
    match kernel {
        0..=3 => 8,
        4..=7 => 16,
        _ => 32,
    }
}

/// Adaptive instance normalisation, then the snake activation `x + sin²(f x) / f` (Ziyin et al.,
/// 2020).
fn normalise_and_activate(
    input: &Signal,
    style: &[f32],
    frequencies: &[f32],
    moments: &mut Moments,
    output: &mut Signal,
) {
    let channels = input.channels();
    let count = input.len().max(1) as f32;
    if moments.is_empty() {
        input
            .par_rows()
            .map(|row| {
                let mean = Sum::new(row).dispatch() / count;
                (mean, SumSquareSub::new(row, mean).dispatch() / count)
            })
            .collect_into_vec(moments);
    }
    let moments = &*moments;
    output.par_rows_mut().zip(input.par_rows()).enumerate().for_each(|(channel, (target, row))| {
        let (mean, variance) = moments[channel];
        let scale = (1.0 + style[channel]) / (variance + EPSILON).sqrt();
        target.copy_from_slice(row);
        Snake {
            scale,
            shift: style[channels + channel] - mean * scale,
            frequency: frequencies[channel],
        }
        .map_mut(target);
    });
}

/// Mean and variance of each channel.
type Moments = Vec<(f32, f32)>;

/// What goes into every normalisation, in the order in which they are run; empty where unknown.
#[derive(Clone, Default)]
pub(super) struct Statistics {
    layers: Vec<Moments>,
    next: usize,
}

impl Statistics {
    fn next(&mut self) -> &mut Moments {
        if self.next == self.layers.len() {
            self.layers.push(Vec::new());
        }
        self.next += 1;
        &mut self.layers[self.next - 1]
    }
}

struct Snake {
    scale: f32,
    shift: f32,
    frequency: f32,
}

impl SimdUnaryOp<f32> for Snake {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let value = ops.mul_add(x, ops.splat(self.scale), ops.splat(self.shift));
        let sine = Sin::apply(isa, ops.mul(value, ops.splat(self.frequency)));
        ops.mul_add(ops.mul(sine, sine), ops.splat(1.0 / self.frequency), value)
    }
}

fn leaky_relu(signal: &mut Signal, slope: f32) {
    signal.par_rows_mut().for_each(|row| {
        for value in row {
            *value = value.max(*value * slope);
        }
    });
}

/// Adds `other`, moved right by `shift` samples, the gap filled by reflection.
fn add_shifted(signal: &mut Signal, other: &Signal, shift: usize) {
    signal.par_rows_mut().zip(other.par_rows()).for_each(|(row, addend)| {
        for (index, value) in row.iter_mut().enumerate() {
            *value += addend.get(index.abs_diff(shift)).copied().unwrap_or_default();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convolution(shape: [usize; 3], bias: usize) -> ConvWeights {
        ConvWeights { values: vec![0.1; shape.iter().product()], shape, bias: vec![0.0; bias] }
    }

    fn residual(channels: usize) -> ResidualWeights {
        ResidualWeights {
            convolutions: (0..NORMALISATIONS)
                .map(|_| convolution([channels, channels, 3], channels))
                .collect(),
            frequencies: vec![vec![1.0; channels]; NORMALISATIONS],
        }
    }

    fn weights() -> VocoderWeights {
        let stages = STAGE_CHANNELS.iter().zip([(FEATURES, 20), (STAGE_CHANNELS[0], 12)]);
        VocoderWeights {
            stages: stages
                .map(|(&channels, (inputs, kernel))| StageWeights {
                    upsample: convolution([inputs, channels, kernel], channels),
                    source: convolution([channels, SOURCE_CHANNELS, 1], channels),
                    source_stride: 1,
                    source_padding: 0,
                    source_block: residual(channels),
                    blocks: (0..BRANCHES).map(|_| residual(channels)).collect(),
                })
                .collect(),
            last: convolution([SOURCE_CHANNELS, STAGE_CHANNELS[1], 7], SOURCE_CHANNELS),
            inverse_basis: vec![0.0; SOURCE_CHANNELS * FRAME],
        }
    }

    #[test]
    fn every_part_of_another_shape_is_named_before_it_is_used() {
        assert_eq!(weights().misfit(), None);
        let damaged = |damage: fn(&mut VocoderWeights)| {
            let mut weights = weights();
            damage(&mut weights);
            weights.misfit()
        };
        let block = "residual block";
        assert_eq!(
            damaged(|weights| {
                weights.stages[1].blocks[0].convolutions[2] = convolution([128, 64, 3], 128);
            }),
            Some(block)
        );
        assert_eq!(
            damaged(|weights| {
                weights.stages[0].source_block.convolutions[0] = convolution([256, 256, 13], 256);
            }),
            Some(block)
        );
        assert_eq!(damaged(|weights| weights.stages[0].blocks.truncate(1)), Some(block));
        assert_eq!(damaged(|weights| weights.last.bias.truncate(1)), Some("last convolution"));
        assert_eq!(
            damaged(|weights| weights.stages[0].source.shape = [256, 21, 1]),
            Some("source convolution")
        );
        assert_eq!(damaged(|weights| weights.stages[1].upsample.shape[2] = 14), Some("upsampling"));
        assert_eq!(damaged(|weights| weights.inverse_basis.truncate(1)), Some("inverse transform"));
    }
}
