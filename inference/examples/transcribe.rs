//! Transcribes WAV files (16 kHz mono) and prints where the time went.
//!
//! ```text
//! cargo run --release -p inference --example transcribe -- MODEL_FOLDER [--f32] [--full]
//!     [--plain] [--language es] [--repeat 3] FILE.wav...
//! ```
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use inference::CancelToken;
use inference::whisper::{Precision, TranscribeOptions, Whisper, Window};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().context("name the model folder")?;
    let mut precision = Precision::Int8;
    let mut options = TranscribeOptions::default();
    let mut repeat = 1;
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--f32" => precision = Precision::F32,
            "--full" => options.window = Window::Full,
            "--plain" => options.timestamps = false,
            "--language" => {
                options.language = Some(arguments.next().context("which language")?.parse()?);
            }
            "--repeat" => repeat = arguments.next().context("how often")?.parse()?,
            _ => files.push(argument),
        }
    }
    let began = Instant::now();
    let whisper = Whisper::load(Path::new(&model), &precision.into())?;
    println!("loaded in {} ms", began.elapsed().as_millis());
    for file in files {
        let samples = read_wav(&file)?;
        let mut best = Duration::MAX;
        for _ in 0..repeat {
            let began = Instant::now();
            let (transcript, times) =
                whisper.transcribe_timed(&samples, &options, &CancelToken::new())?;
            let whole = began.elapsed();
            best = best.min(whole);
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            println!(
                "{file}: {:.2} s in {:.1} ms: mel {:.1}, encode {:.1}, cross {:.1}, prompt {:.1}, \
                 decode {:.1} ({} steps of {:.2}), {} windows",
                samples.len() as f64 / 16_000.0,
                ms(whole),
                ms(times.mel),
                ms(times.encode),
                ms(times.cross),
                ms(times.prompt),
                ms(times.decode),
                times.steps,
                ms(times.decode) / times.steps.max(1) as f64,
                times.windows,
            );
            println!(
                "  {} ({:.2}) no speech {:.2}, log probability {:.2}, temperature {}",
                transcript.language,
                transcript.language_probability,
                transcript.no_speech_probability,
                transcript.average_log_probability,
                transcript.temperature
            );
            for piece in &transcript.pieces {
                println!("  {:?} to {:?}: {}", piece.start, piece.end, piece.text);
            }
        }
        println!("  best whole call: {:.1} ms", best.as_secs_f64() * 1000.0);
    }
    Ok(())
}

fn read_wav(path: &str) -> anyhow::Result<Vec<f32>> {
    let mut reader = hound::WavReader::open(path).with_context(|| path.to_owned())?;
    let spec = reader.spec();
    if spec.sample_rate != 16_000 || spec.channels != 1 {
        bail!("{path} is not 16 kHz mono: convert it with ffmpeg -ar 16000 -ac 1");
    }
    let samples: Result<Vec<f32>, _> = match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().collect(),
        hound::SampleFormat::Int => {
            let scale = 1.0 / f64::from(1u32 << (spec.bits_per_sample - 1));
            let samples = reader.samples::<i32>();
            samples.map(|sample| sample.map(|s| (f64::from(s) * scale) as f32)).collect()
        }
    };
    Ok(samples?)
}
