//! The last stage of Kokoro, an iSTFTNet generator (Kaneko et al., 2022): from the decoder's
//! features to samples. It holds nine tenths of the model's arithmetic, which is why it is not left
//! to the general runtime: here its convolutions run in a transform domain, and normalisation,
//! style and activation are one pass.

use std::ops::Range;

use rayon::prelude::*;
use rten_gemm::GemmExecutor;
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_vecmath::{Cos, Exp, Sin};

use super::convolution::{ConvWeights, DenseConv, Scratch, TransformConv, Upsample};
use super::moments::{EPSILON, Moments, Statistics, moments_of};
use super::signal::Signal;
use super::snake::Snake;

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
/// The same of the second stage alone.
const LATE_CONTEXT: usize = 3;
/// Normalisations of a residual block.
const NORMALISATIONS: usize = 2 * DILATIONS.len();
/// Channels of the residual blocks, stage by stage.
const STAGE_CHANNELS: [usize; 2] = [256, 128];
/// Layers of a residual block; their first convolutions have these dilations.
pub(super) const DILATIONS: [usize; 3] = [1, 3, 5];
/// Longest kernel of a convolution that has one by weight.
const LONGEST_KERNEL: usize = 12;
/// Parallel residual blocks of a stage.
const BRANCHES: usize = 3;
/// Samples that are normalised in one go.
const ROWS_AT_A_TIME: usize = 64;

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
            let fits = stage.upsample.shape == [inputs, channels, kernel / 2 * 2]
                && stage.upsample.bias.len() == channels;
            if !fits {
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
    for sample in source.data_mut().chunks_exact_mut(SOURCE_CHANNELS) {
        let phases = &mut sample[BINS..];
        for phase in phases.iter_mut().filter(|phase| phase.is_nan()) {
            *phase = 0.0;
        }
        for real_line in [0, BINS - 1] {
            phases[real_line] = phases[real_line].abs();
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
                source_block: Residual::new(&stage.source_block),
                blocks: stage.blocks.iter().map(Residual::new).collect(),
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
        debug_assert!(beyond <= FRAME_SAMPLES / 2);
        let within = |context: usize| {
            frames.start.saturating_sub(context)..(frames.end + context).min(input.frames())
        };
        let (early, late) = (within(CONTEXT), within(LATE_CONTEXT));
        let kept = late.start - early.start..late.end - early.start;
        let mut samples = self.run_window(&input.slice(early), kept, statistics);
        samples.truncate((frames.end - late.start) * FRAME_SAMPLES + beyond);
        samples.drain(..(frames.start - late.start) * FRAME_SAMPLES);
        samples
    }

    /// The samples of the frames of `input` that are `kept` after the first stage.
    fn run_window(
        &self,
        input: &VocoderInput,
        kept: Range<usize>,
        statistics: &mut Statistics,
    ) -> Vec<f32> {
        statistics.rewind();
        // Made anew since it cannot move between threads; it only picks the kernel for the processor.
        let gemm = &GemmExecutor::new();
        let scratch = &mut Scratch::default();
        let mut styles = input.styles.iter();
        let mut style = || styles.next().expect("as many styles as residual blocks were asked for");
        let mut features = input.features.clone();
        for (index, stage) in self.stages.iter().enumerate() {
            let is_last = index + 1 == self.stages.len();
            let mut excitation = if is_last {
                let rate = features.len() / input.frames();
                features = features.slice(rate * kept.start..rate * kept.end);
                let source = UPSAMPLING * kept.start..UPSAMPLING * kept.end + 1;
                stage.source.run(gemm, &input.source.slice(source))
            } else {
                stage.source.run(gemm, &input.source)
            };
            stage.source_block.run(&mut excitation, style(), statistics, scratch);

            leaky_relu(&mut features, 0.1);
            let upsampled = stage.upsample.run(gemm, &features, scratch);
            // The last stage is one sample short of the source: its first sample is mirrored.
            add_shifted(&mut excitation, &upsampled, usize::from(is_last));

            let mut sum = Signal::zeros(excitation.channels(), excitation.len());
            for block in &stage.blocks {
                let mut branch = excitation.clone();
                block.run(&mut branch, style(), statistics, scratch);
                for (total, value) in sum.data_mut().iter_mut().zip(branch.data()) {
                    *total += value * (1.0 / BRANCHES as f32);
                }
            }
            features = sum;
        }
        leaky_relu(&mut features, 0.01);
        let spectrum = self.last.run(gemm, &features);
        self.inverse_transform(&spectrum)
    }

    /// Frames of log-magnitude and phase to samples, by overlap and add. The exported graph divides
    /// the first samples by the window's near-zero edge, which makes a click; here they are left as
    /// a short fade-in.
    fn inverse_transform(&self, spectrum: &Signal) -> Vec<f32> {
        let (basis, _) = self.inverse_basis.as_chunks::<FRAME>();
        let bases = [&basis[..BINS], &basis[BINS..]];
        let bins = |first: usize| -> Vec<f32> {
            let frames = spectrum.data().chunks_exact(SOURCE_CHANNELS);
            frames.flat_map(|frame| &frame[first..][..BINS]).copied().collect()
        };
        let (mut magnitudes, mut sines) = (bins(0), bins(BINS));
        Exp::default().map_mut(&mut magnitudes);
        Sin::new().map_mut(&mut sines);
        let mut cosines = sines.clone();
        Sin::new().map_mut(&mut sines);
        Cos::new().map_mut(&mut cosines);

        let cut = FRAME / 2;
        let mut samples = vec![0.0f32; HOP * spectrum.len().saturating_sub(1) + FRAME];
        let magnitudes = magnitudes.chunks_exact(BINS);
        let angles = cosines.chunks_exact(BINS).zip(sines.chunks_exact(BINS));
        for (frame, (magnitudes, (cosines, sines))) in magnitudes.zip(angles).enumerate() {
            let mut sums = [0.0f32; FRAME];
            for (parts, basis) in [cosines, sines].into_iter().zip(bases) {
                for ((magnitude, part), row) in magnitudes.iter().zip(parts).zip(basis) {
                    let value = (FRAME / HOP) as f32 * magnitude * part;
                    for (sum, factor) in sums.iter_mut().zip(row) {
                        *sum += value * factor;
                    }
                }
            }
            for (sample, sum) in samples[frame * HOP..][..FRAME].iter_mut().zip(sums) {
                *sample += sum;
            }
        }
        samples.truncate(samples.len() - cut);
        samples.drain(..cut);
        samples
    }
}

impl Residual {
    fn new(weights: &ResidualWeights) -> Self {
        let convolutions = weights
            .convolutions
            .iter()
            .enumerate()
            .map(|(index, convolution)| {
                let dilation = if index.is_multiple_of(2) { DILATIONS[index / 2] } else { 1 };
                TransformConv::new(convolution, dilation, block_for(convolution.shape))
            })
            .collect();
        Self { convolutions, frequencies: weights.frequencies.clone() }
    }

    /// `signal` becomes the block's output.
    fn run(
        &self,
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
            convolutions[0].run(&activated, &mut inner, false, scratch);
            normalise_and_activate(
                &inner,
                &style[1],
                &frequencies[1],
                statistics.next(),
                &mut activated,
            );
            convolutions[1].run(&activated, signal, true, scratch);
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
    if moments.is_empty() {
        *moments = moments_of(input);
    }
    let (scales, shifts) = style.split_at(channels);
    let scales: Vec<f32> = scales
        .iter()
        .zip(&*moments)
        .map(|(scale, (_, variance))| (1.0 + scale) / (variance + EPSILON).sqrt())
        .collect();
    let shifts: Vec<f32> = shifts
        .iter()
        .zip(scales.iter().zip(&*moments))
        .map(|(shift, (scale, (mean, _)))| shift - mean * scale)
        .collect();
    let amplitudes: Vec<f32> = frequencies.iter().map(|frequency| frequency.recip()).collect();
    let rows = ROWS_AT_A_TIME * channels;
    output.data_mut().par_chunks_mut(rows).zip(input.data().par_chunks(rows)).for_each(
        |(output, input)| {
            Snake {
                input,
                scales: &scales,
                shifts: &shifts,
                frequencies,
                amplitudes: &amplitudes,
                output,
            }
            .dispatch();
        },
    );
}

fn leaky_relu(signal: &mut Signal, slope: f32) {
    for value in signal.data_mut() {
        *value = value.max(*value * slope);
    }
}

/// Adds `other`, moved right by `shift` samples, the gap filled by reflection.
fn add_shifted(signal: &mut Signal, other: &Signal, shift: usize) {
    let channels = signal.channels();
    for (index, row) in signal.data_mut().chunks_exact_mut(channels).enumerate() {
        let from = index.abs_diff(shift);
        if from < other.len() {
            for (value, addend) in row.iter_mut().zip(other.sample(from)) {
                *value += addend;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::convolution::tests::{random_signal, random_weights};
    use super::*;

    fn convolution(shape: [usize; 3], bias: usize) -> ConvWeights {
        ConvWeights {
            values: vec![0.1; shape.iter().product()],
            shape,
            bias: vec![0.0; bias],
            step: None,
        }
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

    /// Weights under which the signal neither grows nor dies out, with the longest kernels.
    fn lively_weights(seed: &mut u32) -> VocoderWeights {
        let mut lively = |shape: [usize; 3], bias: usize| {
            let mut weights = random_weights(shape, bias, seed);
            let inputs = (shape[1] * shape[2]) as f32;
            weights.values.iter_mut().for_each(|value| *value *= (3.0 / inputs).sqrt());
            weights
        };
        let mut weights = weights();
        for (index, stage) in weights.stages.iter_mut().enumerate() {
            let channels = STAGE_CHANNELS[index];
            let inputs = if index == 0 { FEATURES } else { STAGE_CHANNELS[0] };
            let kernel = stage.upsample.shape[2];
            stage.upsample = lively([inputs, channels, kernel], channels);
            if index == 0 {
                stage.source = lively([channels, SOURCE_CHANNELS, 12], channels);
                (stage.source_stride, stage.source_padding) = (6, 3);
            } else {
                stage.source = lively([channels, SOURCE_CHANNELS, 1], channels);
            }
            let source_kernel = if index == 0 { 7 } else { 11 };
            for (block, kernel) in stage.blocks.iter_mut().chain([&mut stage.source_block]).zip([
                3,
                7,
                11,
                source_kernel,
            ]) {
                for convolution in &mut block.convolutions {
                    *convolution = lively([channels, channels, kernel], channels);
                }
            }
        }
        weights.last = lively([SOURCE_CHANNELS, STAGE_CHANNELS[1], 7], SOURCE_CHANNELS);
        weights.inverse_basis = lively([SOURCE_CHANNELS, FRAME, 1], 0).values;
        weights
    }

    #[test]
    fn a_window_equals_the_whole_with_the_same_statistics() {
        let mut seed = 23;
        let vocoder = Vocoder::new(&lively_weights(&mut seed));
        let frames = 36;
        let styles = STAGE_CHANNELS
            .iter()
            .flat_map(|channels| vec![vec![vec![0.0; 2 * channels]; NORMALISATIONS]; 1 + BRANCHES])
            .collect();
        let input = VocoderInput {
            features: random_signal(FEATURES, frames, &mut seed),
            source: random_signal(SOURCE_CHANNELS, UPSAMPLING * frames + 1, &mut seed),
            styles,
        };
        let mut statistics = Statistics::default();
        let whole = vocoder.run(&input, 0..frames, 0, &mut statistics);
        assert_eq!(whole.len(), frames * FRAME_SAMPLES);
        for (window, beyond) in [(0..10, 120), (14..20, 120), (25..frames, 0)] {
            let wanted = &whole[window.start * FRAME_SAMPLES..][..window.len() * FRAME_SAMPLES];
            let samples = vocoder.run(&input, window.clone(), beyond, &mut statistics);
            assert_eq!(samples.len(), wanted.len() + beyond);
            let energy = |samples: &mut dyn Iterator<Item = f32>| -> f32 {
                samples.map(|sample| sample * sample).sum()
            };
            let apart = energy(&mut samples.iter().zip(wanted).map(|(left, right)| left - right));
            let share = apart / energy(&mut wanted.iter().copied());
            // The rounding is another one, since the blocks begin elsewhere: it makes up to 7e-7. With
            // one frame of context less it is 2e-6.
            assert!(share < 1.5e-6, "{window:?}: {share}");
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
