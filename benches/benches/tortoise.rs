//! What Tortoise costs: with random weights of the published sizes, or with an imported model. Prints
//! the time to the first sound and the real-time factor (computing time for each second of sound) of
//! so many voices at a time, on both paths, and what their parts take.
//!
//! `cargo bench -p benches --bench tortoise -- [--device auto|cpu|cuda] [--voices 1,8,32]
//! [--model FOLDER] [--presets streaming,ultra_fast] [--parts] [--rounds 3] [--most-gb 6]`
#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use inference::Language;
use inference::device::DeviceName;
use inference::tortoise::text::Tokenizer;
use inference::tortoise::{Preset, Tortoise, TortoiseConfig, TortoiseSizes, parts, random_weights};
use inference::voice::{SpeakRequest, Voice};

/// So short that random weights, which never stop, say about four seconds of it: 90 codes.
const TEXT: &str = "Good morning to you all.";
const SAMPLE_RATE_HZ: f64 = 24_000.0;
/// Each measurement is taken so often, after one that does not count, where nothing else is said.
const ROUNDS: usize = 3;

struct Arguments {
    device: DeviceName,
    voices: Vec<usize>,
    presets: Vec<Preset>,
    model: Option<PathBuf>,
    parts: bool,
    rounds: usize,
    /// With more memory than this it fails.
    most_gb: Option<f64>,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut read = Self {
            device: DeviceName::Auto,
            voices: Vec::new(),
            presets: vec![Preset::Streaming],
            model: None,
            parts: false,
            rounds: ROUNDS,
            most_gb: None,
        };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let mut value = || given.next().with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "--device" => {
                    let name = serde_json::from_value(value()?.into());
                    read.device = name.context("--device is auto, cpu or cuda")?;
                }
                "--voices" => {
                    let counts = value()?;
                    let counts = counts.split(',').map(str::parse).collect::<Result<_, _>>();
                    read.voices = counts.context("--voices takes numbers such as 1,8,32")?;
                }
                "--presets" => {
                    let names = value()?;
                    let preset = |name: &str| serde_json::from_value(name.into());
                    let presets = names.split(',').map(preset).collect::<Result<_, _>>();
                    read.presets = presets.context("--presets takes names such as streaming")?;
                }
                "--model" => read.model = Some(value()?.into()),
                "--parts" => read.parts = true,
                "--rounds" => {
                    let rounds: std::num::NonZeroUsize =
                        value()?.parse().context("--rounds takes a number from 1 on")?;
                    read.rounds = rounds.get();
                }
                "--most-gb" => {
                    read.most_gb = Some(value()?.parse().context("--most-gb takes a number")?);
                }
                // What cargo adds.
                "--bench" => {}
                other => bail!("{other} is no option: see the first lines of benches/tortoise.rs"),
            }
        }
        Ok(read)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let device = arguments.device.open()?;
    let voices = match (arguments.voices.as_slice(), device.is_cpu()) {
        ([], true) => vec![1],
        ([], false) => vec![1, 8, 32],
        (given, _) => given.to_vec(),
    };
    let place = if device.is_cpu() { "the processor" } else { "a card" };
    println!("on {place}, {} rounds each", arguments.rounds);
    if arguments.parts {
        for part in parts(&TortoiseSizes::published(), &device)? {
            println!("{:<44} {:>10.2} ms", part.name, part.took.as_secs_f64() * 1e3);
        }
    }
    println!("preset       voices  first sound   real-time factor  sound each");
    for preset in &arguments.presets {
        // Where the best of several readings is spoken, those are what fills a batch.
        let is_streaming = *preset == Preset::Streaming;
        let slots = if is_streaming { voices.iter().copied().max().unwrap_or(1) } else { 0 };
        let config = TortoiseConfig {
            device: arguments.device,
            preset: *preset,
            slots,
            ..TortoiseConfig::default()
        };
        let engine = match &arguments.model {
            Some(folder) => Tortoise::load(folder, &config)?,
            None => {
                let sizes = TortoiseSizes::published();
                let weights = random_weights(sizes.autoregressive.stop_mel, &device);
                let tokenizer = Tokenizer::english();
                Tortoise::build(&sizes, &config, &device, tokenizer, "random".to_owned(), &weights)?
            }
        };
        for count in &voices {
            let mut rounds = Vec::new();
            for round in 0..=arguments.rounds {
                let measured = speak(&engine, *count)?;
                if round > 0 {
                    rounds.push(measured);
                }
            }
            rounds.sort_by_key(|measured| measured.all);
            let median = &rounds[rounds.len() / 2];
            println!(
                "{:<12} {count:>6} {:>9.0} ms {:>18.3} {:>9.2} s",
                serde_json::to_value(preset)?.as_str().unwrap_or_default(),
                median.first.as_secs_f64() * 1e3,
                median.all.as_secs_f64() / median.sound_s,
                median.sound_s,
            );
        }
    }
    let peak_gb = peak_memory_bytes()? as f64 / 1e9;
    println!("memory at most {peak_gb:.2} GB");
    if arguments.most_gb.is_some_and(|most| peak_gb > most) {
        bail!("that is more than it may have");
    }
    Ok(())
}

/// What voices at a time took.
struct Measured {
    /// To the first sound of the slowest.
    first: Duration,
    /// Until all were done.
    all: Duration,
    /// Of one.
    sound_s: f64,
}

fn speak(engine: &Tortoise, count: usize) -> anyhow::Result<Measured> {
    let began = Instant::now();
    let outcomes = std::thread::scope(|scope| {
        let speaking: Vec<_> =
            (0..count).map(|_| scope.spawn(|| speak_one(engine, began))).collect();
        speaking.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
    });
    let all = began.elapsed();
    let outcomes = outcomes.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let first = outcomes.iter().map(|(first, _)| *first).max().unwrap_or_default();
    let samples: usize = outcomes.iter().map(|(_, samples)| samples).sum();
    let sound_s = samples as f64 / SAMPLE_RATE_HZ / count.max(1) as f64;
    Ok(Measured { first, all, sound_s })
}

fn speak_one(engine: &Tortoise, began: Instant) -> anyhow::Result<(Duration, usize)> {
    let request = SpeakRequest::new(TEXT, Language::EN);
    let (mut first, mut samples) = (None, 0);
    engine.speak(&request, &mut |chunk| {
        first.get_or_insert_with(|| began.elapsed());
        samples += chunk.len();
        ControlFlow::Continue(())
    })?;
    Ok((first.context("nothing was said")?, samples))
}

/// The most memory that the program has had at a time.
fn peak_memory_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.context("no VmHWM")?.trim().trim_end_matches(" kB").trim();
    Ok(kilobytes.parse::<u64>()? * 1024)
}
