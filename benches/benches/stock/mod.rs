//! Whisper base by candle-transformers, in 32-bit floats: the baseline of our own. Its weights are
//! zeros here, which take the same time as others.

use std::hint::black_box;

use candle_core::{DType, Device, IndexOp as _, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::whisper::Config;
use candle_transformers::models::whisper::model::Whisper;
use criterion::{BenchmarkId, Criterion};

use crate::{SAMPLES, TOKENS};

pub(crate) fn recogniser(criterion: &mut Criterion) {
    let device = Device::Cpu;
    let config = Config {
        num_mel_bins: 80,
        max_source_positions: 1500,
        d_model: 512,
        encoder_attention_heads: 8,
        encoder_layers: 6,
        vocab_size: 51_865,
        max_target_positions: 448,
        decoder_attention_heads: 8,
        decoder_layers: 6,
        suppress_tokens: Vec::new(),
    };
    let weights = VarBuilder::zeros(DType::F32, &device);
    let mut whisper = Whisper::load(&weights, config).expect("a model");
    let mel = |seconds: usize| {
        Tensor::rand(-1f32, 1f32, (1, 80, 100 * seconds), &device).expect("a spectrogram")
    };
    let mut group = criterion.benchmark_group("whisper base of candle-transformers");
    group.sample_size(SAMPLES);
    for seconds in [2, 4, 6, 12, 30] {
        let mel = mel(seconds);
        let id = BenchmarkId::new("encoder", format!("window of {seconds} s"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| whisper.encoder.forward(black_box(&mel), true).expect("encodes"));
        });
    }
    let audio = whisper.encoder.forward(&mel(6), true).expect("encodes");
    // It keeps no keys and values of what it has written: each step reads all of it.
    let tokens = Tensor::zeros((1, TOKENS), DType::U32, &device).expect("tokens");
    group.bench_function(format!("decoder, a token after {TOKENS}"), |bencher| {
        bencher.iter(|| {
            let hidden = whisper.decoder.forward(&tokens, &audio, false).expect("decodes");
            let last = hidden.i((.., TOKENS - 1..)).expect("the last one");
            black_box(whisper.decoder.final_linear(&last).expect("scores"));
        });
    });
    group.finish();
}
