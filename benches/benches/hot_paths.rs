//! What every frame of every speaker costs before any model hears a segment: resampling and the
//! ear (voice activity detection and segmenter). One frame is 20 ms.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use inference::store::Store;
use inference::vad::Vad;
use media_server::audio_file;
use media_server::resample::Resampler;
use media_server::segmenter::{Ear, SegmenterConfig};

const FRAME_16K: usize = 320;

fn model(name: &str) -> PathBuf {
    let store = Store::open_default().expect("a home folder");
    store.require(name).expect("the models were fetched: run `make models`")
}

fn resample(criterion: &mut Criterion) {
    let mut resampler = Resampler::new(48_000, 16_000).expect("usual rates");
    let frame = [0.1_f32; 960];
    let mut output = Vec::with_capacity(FRAME_16K);
    criterion.bench_function("resample a frame, 48 to 16 kHz", |bencher| {
        bencher.iter(|| {
            output.clear();
            resampler.process(black_box(&frame), &mut output);
        });
    });
}

fn listen(criterion: &mut Criterion) {
    let vad = Vad::load(&model("silero-vad")).expect("the detector loads");
    let speech = audio_file::read_16k(&model("sample-jfk").join("jfk.wav")).expect("a recording");
    let mut ear = Ear::new(&vad, SegmenterConfig::default()).expect("the defaults hold");
    let mut frames = speech.as_chunks::<FRAME_16K>().0.iter().cycle();
    let mut position = 0;
    criterion.bench_function("hear a frame of speech", |bencher| {
        bencher.iter(|| {
            let frame = frames.next().expect("a cycle has no end");
            ear.hear(position, black_box(frame), |event| {
                black_box(event);
            });
            position += FRAME_16K as u64;
        });
    });
}

criterion_group!(hot_paths, resample, listen);
criterion_main!(hot_paths);
