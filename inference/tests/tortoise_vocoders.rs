//! The networks that make sound, held to the reference implementation, and sound that is made while
//! codes come, held to that made at once.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "the price of a short look-ahead is worth reading")]

mod tortoise_support;

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use inference::tortoise::hifigan::{Hifigan, HifiganConfig, HifiganStream, Margins, Window};
use inference::tortoise::import::convert::Part;
use inference::tortoise::univnet::{SILENT_FRAMES, Univnet, UnivnetConfig};
use tortoise_support::{Fixture, assert_close};

/// More than the network hears.
const WIDE: Margins = Margins { context: 16, lookahead: 12 };
/// Sound differs from that made at once by rounding alone.
const EXACT_DB: f64 = 80.0;

fn tiny_univnet() -> UnivnetConfig {
    UnivnetConfig {
        bands: 20,
        noise: 8,
        channels: 4,
        predictor: 64,
        strides: vec![8, 8, 4],
        dilations: vec![1, 3, 27],
    }
}

fn tiny_hifigan() -> HifiganConfig {
    HifiganConfig { latent: 64, voice: 64, channels: 32, ..HifiganConfig::default() }
}

fn univnet() -> (Fixture, Univnet) {
    let fixture = Fixture::load("univnet");
    let vb = fixture.weights(Part::Univnet);
    let univnet = Univnet::load(&tiny_univnet(), &vb).expect("the network loads");
    (fixture, univnet)
}

fn hifigan() -> (Fixture, Hifigan) {
    let fixture = Fixture::load("hifigan");
    let vb = fixture.weights(Part::Hifigan);
    let hifigan = Hifigan::load(&tiny_hifigan(), &vb).expect("the network loads");
    (fixture, hifigan)
}

/// Numbers that are always the same.
fn noise(seed: u32, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let values = (0..shape.iter().product::<usize>()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    (Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap() * 2.0).unwrap()
}

#[test]
fn univnet_is_that_of_the_reference() {
    let (fixture, univnet) = univnet();
    let (mel, noise) = (fixture.value("mel"), fixture.value("z"));
    let frames = mel.dim(2).unwrap();
    let without_end = noise.narrow(2, 0, frames).unwrap();
    let start = univnet.start(&without_end).unwrap();
    assert_close("conv_pre", &start, fixture.value("conv_pre"));

    let block = &univnet.blocks()[0];
    let kernels = block.predict(mel).unwrap();
    let (_, layers, inputs, outputs, taps, _) = {
        let dims = fixture.value("kp_kernels").dims();
        (dims[0], dims[1], dims[2], dims[3], dims[4], dims[5])
    };
    let split = kernels.kernels.reshape(&[1, frames, layers, outputs, taps, inputs][..]).unwrap();
    let reference_order = split.permute(&[0, 2, 5, 3, 4, 1][..]).unwrap();
    assert_close("kp_kernels", &reference_order, fixture.value("kp_kernels"));
    let bias = kernels.bias.squeeze(4).unwrap().permute((0, 2, 3, 1)).unwrap();
    assert_close("kp_bias", &bias, fixture.value("kp_bias"));

    let upsampled = block.upsampled(&start).unwrap();
    assert_close("convt_pre", &upsampled, fixture.value("convt_pre"));
    let convolved = kernels.convolve(0, &upsampled, block.hop()).unwrap();
    let convolved = convolved.transpose(1, 2).unwrap().reshape((1, outputs, ())).unwrap();
    assert_close("lvc0", &convolved, fixture.value("lvc0"));
    assert_close("block0", &block.forward(&start, mel).unwrap(), fixture.value("block0"));

    let plain = univnet.forward(mel, &without_end).unwrap();
    assert_close("forward_nopad", &plain.unsqueeze(1).unwrap(), fixture.value("forward_nopad"));
    let sound = univnet.speak(mel, noise).unwrap();
    assert_close("inference", &sound.unsqueeze(1).unwrap(), fixture.value("inference"));
}

#[test]
fn univnet_speaks_several_spectrograms_as_one_by_one() {
    let (_, univnet) = univnet();
    for frames in [1, 3, 20] {
        let mel = noise(1, &[3, 20, frames]);
        let noise = noise(2, &[3, 8, frames + SILENT_FRAMES]);
        let all = univnet.speak(&mel, &noise).unwrap();
        assert_eq!(all.dims(), [3, frames * tiny_univnet().hop()]);
        for row in 0..3 {
            let one = |tensor: &Tensor| tensor.narrow(0, row, 1).unwrap();
            let alone = univnet.speak(&one(&mel), &one(&noise)).unwrap();
            assert_close("one of three", &one(&all), &alone);
        }
    }
}

#[test]
fn what_univnet_cannot_speak_is_an_error() {
    let (fixture, univnet) = univnet();
    let speak = |mel: &[usize], z: &[usize]| univnet.speak(&noise(1, mel), &noise(2, z));
    assert!(speak(&[1, 20, 4], &[1, 8, 14]).is_ok());
    assert!(speak(&[1, 19, 4], &[1, 8, 14]).is_err(), "a band is missing");
    assert!(speak(&[1, 20, 4], &[1, 8, 13]).is_err(), "the noise is too short");
    assert!(speak(&[1, 20, 4], &[1, 7, 14]).is_err(), "the noise is too narrow");
    assert!(speak(&[2, 20, 4], &[1, 8, 14]).is_err(), "there is one noise for two");
    assert!(speak(&[20, 4], &[8, 14]).is_err(), "there is no batch");
    let empty = Tensor::zeros((1, 20, 0), DType::F32, &Device::Cpu).unwrap();
    assert!(univnet.speak(&empty, &noise(2, &[1, 8, 10])).is_err(), "there is nothing to speak");
    let broken = (noise(1, &[1, 20, 4]) * f64::NAN).unwrap();
    if let Ok(sound) = univnet.speak(&broken, &noise(2, &[1, 8, 14])) {
        assert_eq!(sound.dims(), [1, 1024]);
    }
    for config in [
        UnivnetConfig { strides: vec![8, 0, 4], ..tiny_univnet() },
        UnivnetConfig { dilations: vec![], ..tiny_univnet() },
        UnivnetConfig { channels: 5, ..tiny_univnet() },
    ] {
        assert!(Univnet::load(&config, &fixture.weights(Part::Univnet)).is_err(), "{config:?}");
    }
}

#[test]
fn hifigan_is_that_of_the_reference() {
    let (fixture, hifigan) = hifigan();
    let (latents, voice) = (fixture.value("latents"), fixture.value("g"));
    // Without the second interpolation, that to the rate of the sound, there is the first.
    let same_rate = HifiganConfig { sample_rate: 22_050, ..tiny_hifigan() };
    let same_rate = Hifigan::load(&same_rate, &fixture.weights(Part::Hifigan)).unwrap();
    let first = same_rate.frames(latents).unwrap().transpose(1, 2).unwrap();
    assert_close("up1", &first, fixture.value("up1"));
    let frames = hifigan.frames(latents).unwrap();
    assert_close("up2", &frames.transpose(1, 2).unwrap(), fixture.value("up2"));
    let start = hifigan.start(&frames, &hifigan.condition(voice).unwrap()).unwrap();
    assert_close("pre", &start, fixture.value("pre"));
    let stage = &hifigan.stages()[0];
    let upsampled = stage.upsampled(&start).unwrap();
    assert_close("ups0", &upsampled, fixture.value("ups0"));
    assert_close("res0", &stage.blocks()[0].forward(&upsampled).unwrap(), fixture.value("res0"));
    let sound = hifigan.decode(latents, voice).unwrap();
    assert_close("wav", &sound.unsqueeze(1).unwrap(), fixture.value("wav"));
}

#[test]
fn sound_is_the_same_without_the_convolutions_for_main_memory() {
    // Those are for single precision.
    let double = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let (fixture, _) = hifigan();
    let vb = fixture.weights(Part::Hifigan).set_dtype(DType::F64);
    let hifigan = Hifigan::load(&tiny_hifigan(), &vb).unwrap();
    let (latents, voice) = (fixture.value("latents"), fixture.value("g"));
    let sound = hifigan.decode(&double(latents), &double(voice)).unwrap();
    assert_close("wav", &sound.unsqueeze(1).unwrap(), fixture.value("wav"));

    let (fixture, _) = univnet();
    let vb = fixture.weights(Part::Univnet).set_dtype(DType::F64);
    let univnet = Univnet::load(&tiny_univnet(), &vb).unwrap();
    let (mel, noise) = (fixture.value("mel"), fixture.value("z"));
    let sound = univnet.speak(&double(mel), &double(noise)).unwrap();
    assert_close("inference", &sound.unsqueeze(1).unwrap(), fixture.value("inference"));
}

/// All chunks of an utterance that comes in `parts`, one after another.
fn streamed(
    hifigan: &Hifigan,
    latents: &Tensor,
    voice: &Tensor,
    margins: Margins,
    parts: &[usize],
) -> Vec<f32> {
    let mut stream = HifiganStream::new(hifigan, voice, margins).unwrap();
    let mut sound = Vec::new();
    let mut hear = |window: Option<Window>| {
        if let Some(window) = window {
            let samples = hifigan.decode_windows(&[window]).unwrap();
            sound.extend(samples[0].to_vec1::<f32>().unwrap());
        }
    };
    let mut at = 0;
    for part in parts {
        stream.push(&latents.narrow(0, at, *part).unwrap()).unwrap();
        at += part;
        hear(stream.window().unwrap());
    }
    assert_eq!(at, latents.dim(0).unwrap());
    hear(stream.finish().unwrap());
    sound
}

/// How far `sound` is from `whole`, in dB.
fn ratio(whole: &[f32], sound: &[f32]) -> f64 {
    assert_eq!(whole.len(), sound.len(), "the sound has another length");
    let power =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let signal = power(&mut whole.iter().map(|value| f64::from(*value)));
    let error = power(&mut whole.iter().zip(sound).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    10.0 * (signal / error.max(1e-30)).log10()
}

fn whole(hifigan: &Hifigan, latents: &Tensor, voice: &Tensor) -> Vec<f32> {
    let whole = hifigan.decode(&latents.unsqueeze(0).unwrap(), voice).unwrap();
    whole.get(0).unwrap().to_vec1().unwrap()
}

/// `count` cut into parts of sizes that change.
fn cut(count: usize, seed: usize) -> Vec<usize> {
    let mut parts = Vec::new();
    let mut left = count;
    while left > 0 {
        let part = (1 + (seed + parts.len() * (seed + 3)) % 9).min(left);
        parts.push(part);
        left -= part;
    }
    parts
}

#[test]
fn sound_made_while_codes_come_is_that_made_at_once() {
    let (_, hifigan) = hifigan();
    let voice = noise(3, &[1, 64]);
    for margins in [WIDE, Margins::exact(&tiny_hifigan())] {
        for codes in (1..12).chain([19, 27, 147]) {
            let latents = noise(codes as u32, &[codes, 64]);
            let whole = whole(&hifigan, &latents, &voice);
            let cuts = [vec![codes], vec![1; codes], cut(codes, codes), cut(codes, codes + 5)];
            let cuts = if codes < 20 { &cuts[..] } else { &cuts[2..] };
            for parts in cuts {
                let sound = streamed(&hifigan, &latents, &voice, margins, parts);
                let ratio = ratio(&whole, &sound);
                assert!(ratio > EXACT_DB, "{codes} codes as {parts:?}, {margins:?}: {ratio} dB");
            }
        }
    }
}

#[test]
fn every_place_of_a_cut_is_heard_alike() {
    let (_, hifigan) = hifigan();
    let (voice, latents) = (noise(3, &[1, 64]), noise(4, &[40, 64]));
    let whole = whole(&hifigan, &latents, &voice);
    for margins in [WIDE, Margins::exact(&tiny_hifigan())] {
        for place in 1..40 {
            let sound = streamed(&hifigan, &latents, &voice, margins, &[place, 40 - place]);
            let ratio = ratio(&whole, &sound);
            assert!(ratio > EXACT_DB, "cut at {place}, {margins:?}: {ratio} dB");
        }
    }
}

#[test]
fn a_frame_is_heard_as_far_as_the_config_says_and_hardly_less() {
    let (_, hifigan) = hifigan();
    let reach = tiny_hifigan().reach();
    let condition = hifigan.condition(&noise(3, &[1, 64])).unwrap();
    let before = noise(5, &[1, 60, 64]);
    let changed = Tensor::cat(
        &[
            before.narrow(1, 0, 30).unwrap(),
            noise(6, &[1, 1, 64]),
            before.narrow(1, 31, 29).unwrap(),
        ],
        1,
    )
    .unwrap();
    let sound = |frames: &Tensor| {
        let sound = hifigan.decode_frames(frames, &condition).unwrap();
        sound.get(0).unwrap().to_vec1::<f32>().unwrap()
    };
    let (before, after) = (sound(&before), sound(&changed));
    let differ = |frames: Range<usize>| {
        let samples = frames.start * 256..frames.end * 256;
        before[samples.clone()] != after[samples]
    };
    assert!(!differ(0..30 - reach) && !differ(31 + reach..60), "it is heard farther");
    assert!(differ(30 - reach + 2..30) && differ(31..31 + reach - 2));
}

#[test]
fn a_shorter_look_ahead_costs_likeness_and_never_length() {
    let (_, hifigan) = hifigan();
    let (voice, latents) = (noise(3, &[1, 64]), noise(4, &[70, 64]));
    let whole = whole(&hifigan, &latents, &voice);
    let exact = Margins::exact(&tiny_hifigan());
    let ratios: Vec<f64> = (0..=16)
        .map(|lookahead| {
            let margins = Margins { lookahead, ..exact };
            ratio(&whole, &streamed(&hifigan, &latents, &voice, margins, &[5; 14]))
        })
        .collect();
    println!("dB by codes of look-ahead: {ratios:.1?}");
    assert!(ratios[exact.lookahead..].iter().all(|ratio| *ratio > EXACT_DB), "{ratios:?}");
    assert!(ratios[0] < ratios[1] && ratios[1] < ratios[2] && ratios[2] < ratios[3], "{ratios:?}");
    let context = |context| {
        let margins = Margins { context, ..exact };
        ratio(&whole, &streamed(&hifigan, &latents, &voice, margins, &[5; 14]))
    };
    let ratios: Vec<f64> = (0..=exact.context).map(context).collect();
    println!("dB by codes of context: {ratios:.1?}");
    assert!(ratios[0] < ratios[1] && ratios[1] < ratios[2], "{ratios:?}");
    // With no margins at all, the sound is as long.
    let none = Margins { context: 0, lookahead: 0 };
    assert_eq!(streamed(&hifigan, &latents, &voice, none, &cut(70, 3)).len(), whole.len());
}

#[test]
fn sound_comes_as_soon_as_the_look_ahead_is_there() {
    let (_, hifigan) = hifigan();
    let margins = WIDE;
    let mut stream = HifiganStream::new(&hifigan, &noise(3, &[1, 64]), margins).unwrap();
    let one = noise(4, &[1, 64]);
    for _ in 0..12 {
        stream.push(&one).unwrap();
        assert_eq!(stream.ready(), 0);
        assert!(stream.window().unwrap().is_none());
    }
    stream.push(&one).unwrap();
    assert_eq!(stream.ready(), 1);
    let window = stream.window().unwrap().expect("the first code is ready");
    assert_eq!(window.frames(), 56, "all that is known is decoded");
    let sound = hifigan.decode_windows(&[window]).unwrap();
    assert_eq!(sound[0].dims(), [4 * 256], "the frames of the first code");
    assert!(stream.window().unwrap().is_none(), "nothing is heard twice");
    let rest = hifigan.decode_windows(&[stream.finish().unwrap().unwrap()]).unwrap();
    assert_eq!(rest[0].dims(), [52 * 256]);
}

#[test]
fn windows_of_several_utterances_are_decoded_together() {
    let (_, hifigan) = hifigan();
    let margins = Margins::exact(&tiny_hifigan());
    let utterances: Vec<(Tensor, Tensor)> = (0..5)
        .map(|index| {
            // Of different lengths, so that their codes lie differently between the frames.
            (noise(index, &[30 + 7 * index as usize, 64]), noise(index + 50, &[1, 64]))
        })
        .collect();
    let mut streams: Vec<HifiganStream> = utterances
        .iter()
        .map(|(_, voice)| HifiganStream::new(&hifigan, voice, margins).unwrap())
        .collect();
    let mut sounds = vec![Vec::new(); streams.len()];
    // Each is some way on.
    for (index, (stream, (latents, _))) in streams.iter_mut().zip(&utterances).enumerate() {
        stream.push(&latents.narrow(0, 0, 10 + index).unwrap()).unwrap();
        let sound = hifigan.decode_windows(&[stream.window().unwrap().unwrap()]).unwrap();
        sounds[index].extend(sound[0].to_vec1::<f32>().unwrap());
    }
    for round in 0..3 {
        let mut windows = Vec::new();
        for (index, (stream, (latents, _))) in streams.iter_mut().zip(&utterances).enumerate() {
            stream.push(&latents.narrow(0, 10 + index + 5 * round, 5).unwrap()).unwrap();
            windows.push(stream.window().unwrap().unwrap());
        }
        let frames: Vec<usize> = windows.iter().map(Window::frames).collect();
        assert!(frames.iter().all(|count| *count == frames[0]), "{frames:?}");
        for (sound, more) in sounds.iter_mut().zip(hifigan.decode_windows(&windows).unwrap()) {
            sound.extend(more.to_vec1::<f32>().unwrap());
        }
    }
    let mut windows = Vec::new();
    for (index, (mut stream, (latents, _))) in streams.into_iter().zip(&utterances).enumerate() {
        let from = 25 + index;
        stream.push(&latents.narrow(0, from, latents.dim(0).unwrap() - from).unwrap()).unwrap();
        windows.push(stream.finish().unwrap().unwrap());
    }
    for (sound, more) in sounds.iter_mut().zip(hifigan.decode_windows(&windows).unwrap()) {
        sound.extend(more.to_vec1::<f32>().unwrap());
    }
    for (sound, (latents, voice)) in sounds.iter().zip(&utterances) {
        assert!(ratio(&whole(&hifigan, latents, voice), sound) > EXACT_DB);
    }
}

#[test]
fn what_hifigan_cannot_decode_is_an_error() {
    let (fixture, hifigan) = hifigan();
    let decode =
        |latents: &[usize], voice: &[usize]| hifigan.decode(&noise(1, latents), &noise(2, voice));
    assert!(decode(&[1, 4, 64], &[1, 64]).is_ok());
    assert!(decode(&[1, 4, 63], &[1, 64]).is_err(), "the latents are too narrow");
    assert!(decode(&[1, 4, 64], &[1, 63]).is_err(), "the voice is too narrow");
    assert!(decode(&[2, 4, 64], &[1, 64]).is_err(), "there is one voice for two");
    assert!(decode(&[4, 64], &[1, 64]).is_err(), "there is no batch");
    let none = Tensor::zeros((1, 0, 64), DType::F32, &Device::Cpu).unwrap();
    assert!(hifigan.decode(&none, &noise(2, &[1, 64])).is_err(), "there is no code");
    let broken = (noise(1, &[1, 4, 64]) * f64::NAN).unwrap();
    if let Ok(sound) = hifigan.decode(&broken, &noise(2, &[1, 64])) {
        assert_eq!(sound.dims(), [1, 17 * 256]);
    }

    let voice = noise(3, &[1, 64]);
    assert!(HifiganStream::new(&hifigan, &noise(3, &[2, 64]), WIDE).is_err());
    assert!(HifiganStream::new(&hifigan, &noise(3, &[1, 60]), WIDE).is_err());
    let stream = || HifiganStream::new(&hifigan, &voice, WIDE).unwrap();
    assert!(stream().push(&noise(1, &[3, 60])).is_err(), "the latents are too narrow");
    assert!(stream().push(&noise(1, &[1, 3, 64])).is_err(), "one utterance at a time");
    assert!(stream().finish().unwrap().is_none(), "nothing came");
    assert!(hifigan.decode_windows(&[]).unwrap().is_empty());
    let wide = HifiganConfig { latent: 65, ..tiny_hifigan() };
    assert!(Hifigan::load(&wide, &fixture.weights(Part::Hifigan)).is_err());
}
