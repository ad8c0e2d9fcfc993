//! What counts as speech: every prompt does; silence, tones, noise and music do not.

#![allow(clippy::print_stderr, reason = "how many segments the prompts make is worth reading")]

mod spoken;

use std::f32::consts::TAU;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inference::vad::Vad;
use media_server::segmenter::{Ear, Event, Segment, SegmenterConfig};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spoken::corpus::{g722, power};
use spoken::noise::{Noise, Pink, Room};
use spoken::{RATE, vad};

/// All .g722 files below a folder, in order.
fn recordings(folder: &Path, package: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|_| panic!("{} is missing: install {package}", folder.display()));
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.expect("the folder can be listed").path();
        if path.is_dir() {
            paths.extend(recordings(&path, package));
        } else if path.extension().is_some_and(|extension| extension == "g722") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// Events for a recording between silences, heard in frames of 20 ms.
fn events(vad: &Vad, samples: &[f32]) -> Vec<Event> {
    let mut ear = Ear::new(vad, SegmenterConfig::default()).expect("the defaults are valid");
    let silence = vec![0.0; RATE / 2];
    let whole = [&silence, samples, &silence, &silence].concat();
    let mut events = Vec::new();
    for (n, frame) in whole.chunks(320).enumerate() {
        ear.hear(n as u64 * 320, frame, |event| events.push(event));
    }
    ear.finish(|event| events.push(event));
    events
}

fn sines(frequencies: &[f32], level: f32, seconds: f32) -> Vec<f32> {
    (0..(seconds * RATE as f32) as usize)
        .map(|n| {
            let time = n as f32 / RATE as f32;
            level * frequencies.iter().map(|hz| (TAU * hz * time).sin()).sum::<f32>()
        })
        .collect()
}

fn dtmf(on_s: f32, off_s: f32, level: f32) -> Vec<f32> {
    let pause = vec![0.0; (off_s * RATE as f32) as usize];
    let (rows, columns) = ([697.0, 770.0, 852.0, 941.0], [1_209.0, 1_336.0, 1_477.0, 1_633.0]);
    (0..32)
        .flat_map(|key| {
            let pair = [rows[key / 4 % 4], columns[key % 4]];
            [sines(&pair, level, on_s), pause.clone()].concat()
        })
        .collect()
}

#[test]
fn silence_and_tones_are_no_speech() {
    let vad = vad();
    assert!(events(&vad, &vec![0.0; 10 * RATE]).is_empty());
    for hz in [50.0, 100.0, 200.0, 440.0, 1_000.0, 3_000.0] {
        assert!(events(&vad, &sines(&[hz], 0.3, 5.0)).is_empty(), "{hz} Hz");
    }
    let chords: [&[f32]; 4] = [
        &[261.6, 329.6, 392.0],
        &[130.8, 196.0, 261.6, 329.6, 392.0, 523.2],
        &[440.0, 480.0],
        &[480.0, 620.0],
    ];
    for chord in chords {
        let steady = sines(chord, 0.12, 6.0);
        let pulsed: Vec<f32> = steady
            .iter()
            .enumerate()
            .map(|(n, sample)| if n % RATE < RATE / 2 { *sample } else { 0.0 })
            .collect();
        assert!(events(&vad, &steady).is_empty(), "{chord:?}");
        assert!(events(&vad, &pulsed).is_empty(), "pulsed {chord:?}");
    }
}

#[test]
fn dtmf_is_no_speech() {
    let vad = vad();
    for (on, off) in [(0.05, 0.05), (0.1, 0.1), (0.2, 0.1), (0.5, 0.2), (2.0, 0.5)] {
        for level in [0.05, 0.2, 0.45] {
            let heard = events(&vad, &dtmf(on, off, level));
            assert!(
                heard.is_empty(),
                "{on} s on, {off} s off, level {level}: {} events",
                heard.len()
            );
        }
    }
}

#[test]
fn white_noise_is_no_speech() {
    let vad = vad();
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        for level in [0.001, 0.01, 0.05, 0.2, 0.8] {
            let noise: Vec<f32> =
                (0..15 * RATE).map(|_| random.random_range(-level..level)).collect();
            assert!(events(&vad, &noise).is_empty(), "seed {seed}, level {level}");
        }
    }
}

/// Noise at a root mean square of `level`.
fn at_level(noise: &dyn Noise, level: f32, length: usize) -> Vec<f32> {
    let noise = noise.make(length);
    let gain = level / power(&noise).sqrt();
    noise.iter().map(|sample| gain * sample).collect()
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

#[test]
fn dtmf_over_a_humming_room_is_no_speech() {
    let vad = vad();
    for (on, off) in [(0.07, 0.07), (0.15, 0.1), (0.5, 0.2)] {
        for room in [0.003, 0.03] {
            let keys = dtmf(on, off, 0.2);
            let heard = events(&vad, &sum(&keys, &at_level(&Room(1), room, keys.len())));
            assert!(
                heard.is_empty(),
                "{on} s on, {off} s off, room {room}: {} events",
                heard.len()
            );
        }
    }
}

/// Ringing and busy tones of North America, Europe and Britain, at both levels of a telephone line,
/// with its noise.
#[test]
fn call_progress_tones_are_no_speech() {
    let vad = vad();
    let cadences: [(&[f32], &[f32]); 5] = [
        (&[440.0, 480.0], &[2.0, 4.0]),
        (&[425.0], &[1.0, 4.0]),
        (&[400.0, 450.0], &[0.4, 0.2, 0.4, 2.0]),
        (&[480.0, 620.0], &[0.5, 0.5]),
        (&[425.0], &[0.2, 0.2]),
    ];
    for (tones, cadence) in cadences {
        for level in [0.03, 0.2] {
            let mut line = Vec::new();
            while line.len() < 20 * RATE {
                for (n, &seconds) in cadence.iter().enumerate() {
                    line.extend(sines(tones, if n % 2 == 0 { level } else { 0.0 }, seconds));
                }
            }
            let heard = events(&vad, &sum(&line, &at_level(&Pink(1), 0.001, line.len())));
            assert!(
                heard.is_empty(),
                "{tones:?} Hz, {cadence:?} s, level {level}: {} events",
                heard.len()
            );
        }
    }
}

/// Claps and knocks: bursts of noise that die away, each with its echoes from the walls.
#[test]
fn clapping_and_knocking_are_no_speech() {
    let vad = vad();
    let decays_ms = [5.0, 15.0, 40.0];
    for (seed, decay_ms) in (0..).zip(decays_ms) {
        for (fewest_ms, most_ms) in [(20, 80), (120, 300), (300, 1_200)] {
            let mut random = StdRng::seed_from_u64(seed);
            let mut claps = vec![0.0f32; 20 * RATE];
            let mut at = 0;
            while at < claps.len() {
                let peak = random.random_range(0.1..0.7);
                for (delay_ms, gain) in [(0, 1.0), (11, 0.5), (23, 0.3), (41, 0.2)] {
                    let echo = claps.iter_mut().skip(at + 16 * delay_ms).take(RATE / 4);
                    for (n, sample) in echo.enumerate() {
                        let envelope = (-(n as f32) / (16.0 * decay_ms)).exp();
                        *sample += peak * gain * envelope * random.random_range(-1.0..1.0);
                    }
                }
                at += 16 * random.random_range(fewest_ms..most_ms);
            }
            let heard = events(&vad, &claps);
            assert!(
                heard.is_empty(),
                "{decay_ms} ms, every {fewest_ms} to {most_ms}: {} events",
                heard.len()
            );
        }
    }
}

/// Breathing into a microphone: swells of coloured noise.
#[test]
fn breath_is_no_speech() {
    let vad = vad();
    for seed in 0..3 {
        for level in [0.003, 0.03, 0.2] {
            let mut random = StdRng::seed_from_u64(seed);
            let mut breath = at_level(&Pink(seed), level, 20 * RATE);
            let mut at = 0;
            while at < breath.len() {
                let length = random.random_range(RATE / 4..RATE);
                let pause = random.random_range(RATE / 5..RATE);
                let (swell, rest) = breath[at..].split_at_mut(length.min(20 * RATE - at));
                for (n, sample) in swell.iter_mut().enumerate() {
                    *sample *= (TAU / 2.0 * n as f32 / length as f32).sin();
                }
                rest.iter_mut().take(pause).for_each(|sample| *sample *= 0.01);
                at += length + pause;
            }
            assert!(events(&vad, &breath).is_empty(), "seed {seed}, level {level}");
        }
    }
}

#[test]
fn music_is_no_speech() {
    let vad = vad();
    let folder = Path::new("/usr/share/asterisk/moh");
    let pieces = recordings(folder, "asterisk-moh-opsound-g722");
    assert!(!pieces.is_empty(), "no music: install asterisk-moh-opsound-g722");
    for piece in pieces {
        let samples = g722(&piece);
        // The detector's doubts depend on how the chunks fall.
        for shift in [0, 100, 300] {
            let heard = events(&vad, &samples[shift..]);
            assert!(heard.is_empty(), "{} from {shift}: {} events", piece.display(), heard.len());
        }
    }
}

/// Plays all prompts of a language that last a second or more, each followed by a second of
/// silence, to one ear: each must be in a segment.
fn assert_heard(language: &str, package: &str) {
    let folder = Path::new("/usr/share/asterisk/sounds").join(language);
    let silence = std::fs::read(folder.join("silence/1.g722"))
        .unwrap_or_else(|_| panic!("no prompts in {}: install {package}", folder.display()));
    let (mut stream, mut places) = (silence.clone(), Vec::new());
    for path in recordings(&folder, package) {
        let name = path.to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("the prompt can be read");
        // G.722 has 8000 bytes to the second. One prompt is a recording of monkeys.
        let is_speech = !name.contains("/silence/") && !name.ends_with("tt-monkeys.g722");
        if is_speech && bytes.len() >= 8_000 {
            let start = 2 * stream.len() as u64;
            places.push((name, start..start + 2 * bytes.len() as u64));
            stream.extend(bytes);
            stream.extend(&silence);
        }
    }
    assert!(places.len() > 300, "only {} prompts: install {package}", places.len());
    let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
    file.write_all(&stream).expect("the file can be written");
    let samples = g722(file.path());

    let mut ear = Ear::new(&vad(), SegmenterConfig::default()).expect("the defaults are valid");
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    for (n, frame) in samples.chunks(320).enumerate() {
        ear.hear(n as u64 * 320, frame, |event| {
            if let Event::Ended { segment, .. } = event {
                segments.push(segment);
            }
        });
    }
    let heard = |place: &Range<u64>| {
        segments
            .iter()
            .any(|segment| segment.first_voiced < place.end && place.start < segment.last_voiced)
    };
    let missed: Vec<&String> =
        places.iter().filter(|(_, place)| !heard(place)).map(|(name, _)| name).collect();
    eprintln!("{language}: {} prompts, {} segments", places.len(), segments.len());
    assert!(missed.is_empty(), "of {} prompts, unheard: {missed:?}", places.len());
}

#[test]
fn every_english_prompt_is_speech() {
    assert_heard("en_US_f_Allison", "asterisk-core-sounds-en-g722");
}

#[test]
fn every_spanish_prompt_is_speech() {
    assert_heard("es_MX_f_Allison", "asterisk-core-sounds-es-g722");
}
