//! What every 20 ms of every speaker and listener cost beside the models: packets to samples and
//! back, the ear (voice activity detection and segmenter), buffers, rings and the mixer.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use inference::store::Store;
use inference::vad::Vad;
use media_server::audio_file;
use media_server::media::PeerId;
use media_server::media::codec::{Decoder, Encoder, MAX_PACKET_BYTES};
use media_server::media::frames::{HEARD_SAMPLES, HeardFrame, PLAYOUT_SAMPLES, heard_ring};
use media_server::media::jitter::Jitter;
use media_server::media::mixer::Mixer;
use media_server::resample::Resampler;
use media_server::segmenter::{Chunk, Ear, Segmenter, SegmenterConfig};
use ringbuf::traits::{Consumer, Producer};

/// One step of the voice activity detector, 32 ms.
const CHUNK_16K: usize = 512;
const FRAME: Duration = Duration::from_millis(20);

fn model(name: &str) -> PathBuf {
    let store = Store::open_default().expect("a home folder");
    store.require(name).expect("the models were fetched: run `make models`")
}

fn speech_16k() -> Vec<f32> {
    audio_file::read_16k(&model("sample-jfk").join("jfk.wav")).expect("a recording")
}

/// The recording at 48 kHz, frame by frame.
fn frames_48k() -> Vec<[f32; PLAYOUT_SAMPLES]> {
    let mut resampler = Resampler::new(16_000, 48_000).expect("usual rates");
    let mut samples = Vec::new();
    resampler.process(&speech_16k(), &mut samples);
    samples.as_chunks::<PLAYOUT_SAMPLES>().0.to_vec()
}

fn opus(criterion: &mut Criterion) {
    let frames = frames_48k();
    let mut encoder = Encoder::new().expect("an encoder");
    let mut packet = [0; MAX_PACKET_BYTES];
    let packets: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| {
            let length = encoder.encode(frame, &mut packet).expect("encodes");
            packet[..length].to_vec()
        })
        .collect();
    let mut next = frames.iter().cycle();
    criterion.bench_function("encode a frame with Opus", |bencher| {
        bencher.iter(|| {
            let frame = next.next().expect("a cycle has no end");
            encoder.encode(black_box(frame), &mut packet).expect("encodes")
        });
    });
    let mut decoder = Decoder::new().expect("a decoder");
    let mut next = packets.iter().cycle();
    let mut samples = Vec::with_capacity(PLAYOUT_SAMPLES);
    criterion.bench_function("decode a packet with Opus", |bencher| {
        bencher.iter(|| {
            samples.clear();
            let packet = next.next().expect("a cycle has no end");
            decoder.decode(black_box(packet), &mut samples).expect("decodes");
        });
    });
}

fn resample(criterion: &mut Criterion) {
    for (name, from, to) in [
        ("resample a frame, 48 to 16 kHz", 48_000, 16_000),
        ("resample a frame, 24 to 48 kHz", 24_000, 48_000),
    ] {
        let mut resampler = Resampler::new(from, to).expect("usual rates");
        let frame = vec![0.1_f32; from as usize / 50];
        let mut output = Vec::with_capacity(PLAYOUT_SAMPLES);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                output.clear();
                resampler.process(black_box(&frame), &mut output);
            });
        });
    }
}

fn listen(criterion: &mut Criterion) {
    let vad = Vad::load(&model("silero-vad")).expect("the detector loads");
    let speech = speech_16k();
    let mut stream = vad.stream();
    let mut chunks = speech.as_chunks::<CHUNK_16K>().0.iter().cycle();
    criterion.bench_function("detect speech in a chunk of 32 ms", |bencher| {
        bencher.iter(|| stream.step(black_box(chunks.next().expect("a cycle has no end"))));
    });

    let mut segmenter = Segmenter::new(SegmenterConfig::default()).expect("the defaults hold");
    let mut chunks = speech.as_chunks::<CHUNK_16K>().0.iter().cycle();
    let mut at = 0;
    criterion.bench_function("segment a chunk of 32 ms", |bencher| {
        bencher.iter(|| {
            // Speech of five seconds, then a pause of one.
            let probability = if at % 96_000 < 80_000 { 0.95 } else { 0.01 };
            let samples_16k = chunks.next().expect("a cycle has no end");
            segmenter.push(Chunk { at, probability, samples_16k }, |event| {
                black_box(event);
            });
            at += CHUNK_16K as u64;
        });
    });

    let mut ear = Ear::new(&vad, SegmenterConfig::default()).expect("the defaults hold");
    let mut frames = speech.as_chunks::<HEARD_SAMPLES>().0.iter().cycle();
    let mut position = 0;
    criterion.bench_function("hear a frame of speech", |bencher| {
        bencher.iter(|| {
            let frame = frames.next().expect("a cycle has no end");
            ear.hear(position, black_box(frame), |event| {
                black_box(event);
            });
            position += HEARD_SAMPLES as u64;
        });
    });
}

fn buffers(criterion: &mut Criterion) {
    let frames = frames_48k();
    let mut jitter = Jitter::default();
    let mut next = frames.iter().cycle();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    let (mut now, mut timestamp) = (Instant::now(), 0);
    criterion.bench_function("pass a frame through the jitter buffer", |bencher| {
        bencher.iter(|| {
            jitter.packet(now, timestamp);
            jitter.push(next.next().expect("a cycle has no end"));
            now += FRAME;
            timestamp += PLAYOUT_SAMPLES as u64;
            jitter.pull(now, black_box(&mut block))
        });
    });

    let (mut writer, mut reader) = heard_ring(8);
    let frame = HeardFrame {
        rtp_time: 0,
        arrived: Instant::now(),
        concealed: false,
        samples: [0.1; HEARD_SAMPLES],
    };
    criterion.bench_function("pass a frame through a ring", |bencher| {
        bencher.iter(|| {
            writer.try_push(black_box(frame)).expect("there is room");
            reader.try_pop().expect("there is a frame")
        });
    });
}

fn mix(criterion: &mut Criterion) {
    let frames = frames_48k();
    for sources in [1, 4] {
        let mut mixer = Mixer::default();
        for source in 0..sources {
            mixer.set_route(PeerId(source), 0.2, true);
        }
        let mut out = [0.0; PLAYOUT_SAMPLES];
        let name = format!("mix an interpretation with {sources} original(s)");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                mixer.mix(&mut out, Some(&frames[7]), true, |source| {
                    frames.get(black_box(50 + source.0 as usize))
                })
            });
        });
    }
}

criterion_group!(hot_paths, opus, resample, listen, buffers, mix);
criterion_main!(hot_paths);
