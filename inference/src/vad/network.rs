//! The Silero v6 network at 16 kHz, one chunk at a time.
//!
//! The chain, as the graph of `silero_vad_16k_op15.onnx` states it: 64 samples of context and 512
//! new ones, reflected by 64 on the right, become 4 magnitude spectra (window 256, hop 128); four
//! convolutions over time (kernel 3, padding 1, strides 1, 2, 2, 1, each with ReLU) reduce them to
//! one vector of 128; an LSTM cell of 128 carries the memory; ReLU, a row of weights and a sigmoid
//! give the probability.
//! Source: <https://github.com/snakers4/silero-vad>, MIT.

use super::CHUNK_SAMPLES;
use super::VadError;
use super::kernels::{BINS, Packed, Spectrum, SpectrumScratch, WINDOW, fourier_basis};
use super::onnx::{OnnxError, Tensors};

/// Samples of the previous chunk that the network sees again.
pub const CONTEXT: usize = 64;
const PADDING: usize = 64;
const HOP: usize = 128;
const FRAMES: usize = 4;
const PADDED: usize = CONTEXT + CHUNK_SAMPLES + PADDING;
const HIDDEN: usize = 128;
const GATES: usize = 4 * HIDDEN;
const KERNEL: usize = 3;

/// The weights, laid out for the products below. Shared by all streams.
pub struct Network {
    spectrum: Spectrum,
    /// 129 to 128 channels over all three taps; 4 frames to 4.
    first: Packed,
    /// 128 to 64; 4 frames to 2.
    second: Packed,
    /// 64 to 64; 2 frames to 1. Its window begins with the padding, so tap 0 is left out.
    third: Packed,
    /// 64 to 128; 1 frame between paddings, so only the middle tap is kept.
    fourth: Packed,
    /// Input and recurrent weights side by side, gates in the order i, f, g, o, biases added up.
    gates: Packed,
    output: [f32; HIDDEN],
    output_bias: f32,
}

/// Memory of one stream, and the room its steps need.
pub struct State {
    /// Context, chunk and reflected padding.
    samples: [f32; PADDED],
    /// A silent frame before and after the spectra.
    spectra: [f32; (FRAMES + 2) * BINS],
    /// A silent frame before the outputs of the first convolution; the stride never reaches the
    /// padding behind them.
    first: [f32; (FRAMES + 1) * 128],
    second: [f32; 2 * 64],
    third: [f32; 64],
    /// What the gates see: the encoder's vector, then the hidden state.
    joined: [f32; 2 * HIDDEN],
    cell: [f32; HIDDEN],
    gates: [f32; GATES],
    scratch: SpectrumScratch,
}

impl State {
    /// Forgets the past: as if the stream began now.
    pub fn reset(&mut self) {
        self.samples.fill(0.0);
        self.joined.fill(0.0);
        self.cell.fill(0.0);
    }
}

impl Network {
    /// Takes the weights out of an ONNX file.
    pub fn from_tensors(tensors: &Tensors) -> Result<Self, VadError> {
        check_basis(tensors)?;
        let gate_input = tensors.floats("model.decoder.rnn.weight_ih", &[GATES, HIDDEN])?;
        let gate_hidden = tensors.floats("model.decoder.rnn.weight_hh", &[GATES, HIDDEN])?;
        let mut gate_bias = tensors.floats("model.decoder.rnn.bias_ih", &[GATES])?;
        let second_bias = tensors.floats("model.decoder.rnn.bias_hh", &[GATES])?;
        for (sum, bias) in gate_bias.iter_mut().zip(second_bias) {
            *sum += bias;
        }
        let mut output = [0.0; HIDDEN];
        output.copy_from_slice(&tensors.floats("model.decoder.decoder.2.weight", &[1, HIDDEN, 1])?);
        Ok(Self {
            spectrum: Spectrum::new(),
            first: convolution(tensors, 0, BINS, 128, 0..KERNEL)?,
            second: convolution(tensors, 1, 128, 64, 0..KERNEL)?,
            third: convolution(tensors, 2, 64, 64, 1..KERNEL)?,
            fourth: convolution(tensors, 3, 64, HIDDEN, 1..2)?,
            gates: Packed::new(gate_bias, 2 * HIDDEN, |gate, input| {
                match input.checked_sub(HIDDEN) {
                    None => gate_input[gate * HIDDEN + input],
                    Some(hidden) => gate_hidden[gate * HIDDEN + hidden],
                }
            }),
            output,
            output_bias: tensors.floats("model.decoder.decoder.2.bias", &[1])?[0],
        })
    }

    /// The memory of a stream that begins.
    pub fn state(&self) -> State {
        State {
            samples: [0.0; PADDED],
            spectra: [0.0; (FRAMES + 2) * BINS],
            first: [0.0; (FRAMES + 1) * 128],
            second: [0.0; 2 * 64],
            third: [0.0; 64],
            joined: [0.0; 2 * HIDDEN],
            cell: [0.0; HIDDEN],
            gates: [0.0; GATES],
            scratch: self.spectrum.scratch(),
        }
    }

    /// Probability (0 to 1) that `chunk` ([`CHUNK_SAMPLES`] at 16 kHz) holds speech, given all that
    /// `state` has heard before.
    pub fn step(&self, state: &mut State, chunk: &[f32; CHUNK_SAMPLES]) -> f32 {
        let end = CONTEXT + CHUNK_SAMPLES;
        state.samples.copy_within(end - CONTEXT..end, 0);
        state.samples[CONTEXT..end].copy_from_slice(chunk);
        for n in 0..PADDING {
            state.samples[end + n] = state.samples[end - 2 - n];
        }

        for (frame, out) in state.spectra[BINS..].chunks_exact_mut(BINS).take(FRAMES).enumerate() {
            let window = &state.samples[frame * HOP..][..WINDOW];
            self.spectrum.magnitudes(window, out, &mut state.scratch);
        }

        let first = &mut state.first[128..];
        self.first.apply(&state.spectra, BINS, first);
        relu(first);
        self.second.apply(&state.first, 2 * 128, &mut state.second);
        relu(&mut state.second);
        self.third.apply(&state.second, 0, &mut state.third);
        relu(&mut state.third);
        let encoded = &mut state.joined[..HIDDEN];
        self.fourth.apply(&state.third, 0, encoded);
        relu(encoded);

        self.gates.apply(&state.joined, 0, &mut state.gates);
        let mut logit = self.output_bias;
        for n in 0..HIDDEN {
            let gate = |index: usize| state.gates[index * HIDDEN + n];
            let kept = sigmoid(gate(1)) * state.cell[n];
            state.cell[n] = kept + sigmoid(gate(0)) * gate(2).tanh();
            let hidden = sigmoid(gate(3)) * state.cell[n].tanh();
            state.joined[HIDDEN + n] = hidden;
            logit += self.output[n] * hidden.max(0.0);
        }
        sigmoid(logit)
    }
}

/// Packs the taps `taps` of encoder convolution `index`, inputs in the order tap, channel.
fn convolution(
    tensors: &Tensors,
    index: usize,
    inputs: usize,
    outputs: usize,
    taps: std::ops::Range<usize>,
) -> Result<Packed, OnnxError> {
    let name = |part: &str| format!("model.encoder.{index}.reparam_conv.{part}");
    let weight = tensors.floats(&name("weight"), &[outputs, inputs, KERNEL])?;
    let bias = tensors.floats(&name("bias"), &[outputs])?;
    Ok(Packed::new(bias, taps.len() * inputs, |output, input| {
        let (tap, channel) = (taps.start + input / inputs, input % inputs);
        weight[(output * inputs + channel) * KERNEL + tap]
    }))
}

/// The file stores its Fourier basis as weights; an FFT stands in for it only if that is what the
/// weights are.
fn check_basis(tensors: &Tensors) -> Result<(), VadError> {
    let basis = tensors.floats("model.stft.forward_basis_buffer", &[2 * BINS, 1, WINDOW])?;
    let equal = basis.iter().enumerate().all(|(place, &value)| {
        (value - fourier_basis(place / WINDOW, place % WINDOW)).abs() < 1e-5
    });
    if equal { Ok(()) } else { Err(VadError::UnknownBasis) }
}

fn relu(values: &mut [f32]) {
    for value in values {
        *value = value.max(0.0);
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}
