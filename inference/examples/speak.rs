//! Speaks a text into a WAV file and says how long it took.
//!
//! `cargo run --release -p inference --example speak -- es "Buenos días." out.wav [voice] [threads]`
#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use inference::Language;
use inference::voice::{Espeak, Kokoro, SpeakRequest, Voice, VoiceSet};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [language, text, out, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("expected LANGUAGE TEXT OUT.wav [VOICE|-] [THREADS] [REPEATS]");
    };
    let language: Language = language.parse()?;
    let voice = rest.first().filter(|voice| *voice != "-").cloned();
    let threads = rest.get(1).map_or(Ok(1), |threads| threads.parse())?;
    let repeats: usize = rest.get(2).map_or(Ok(1), |repeats| repeats.parse())?;

    let (start, cpu) = (Instant::now(), cpu_time());
    let kokoro: Arc<dyn Voice> = Arc::new(Kokoro::load(&models().join("kokoro-82m"), threads)?);
    println!(
        "loaded in {:.3} s, {:.3} cpu seconds",
        start.elapsed().as_secs_f64(),
        cpu_time().saturating_sub(cpu).as_secs_f64(),
    );
    let set = VoiceSet::new(vec![kokoro, Arc::new(Espeak::new()?)]);

    for _ in 0..repeats {
        let request =
            SpeakRequest { voice: voice.clone(), ..SpeakRequest::new(text.clone(), language) };
        let (start, cpu) = (Instant::now(), cpu_time());
        let mut first = None;
        let mut samples = Vec::new();
        let mut rate = 0;
        let engine = set.speak(&request, &mut |chunk| {
            first.get_or_insert((start.elapsed(), chunk.samples.len()));
            samples.extend_from_slice(chunk.samples);
            rate = chunk.sample_rate_hz;
            ControlFlow::Continue(())
        })?;
        let (first, first_samples) = first.context("nothing was spoken")?;
        let audio = samples.len() as f64 / f64::from(rate);
        println!(
            "{engine}: first chunk {:.3} s ({:.2} s of audio), total {:.3} s for {audio:.2} s, \
             {:.3} cpu seconds per second of audio",
            first.as_secs_f64(),
            first_samples as f64 / f64::from(rate),
            start.elapsed().as_secs_f64(),
            (cpu_time().saturating_sub(cpu)).as_secs_f64() / audio,
        );
        write_wav(out, &samples, rate)?;
    }
    Ok(())
}

fn write_wav(path: &str, samples: &[f32], sample_rate: u32) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for sample in samples {
        writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16)?;
    }
    Ok(writer.finalize()?)
}

/// Processor time of this process, from the kernel's scheduler statistics; zero where there are none.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let statistics = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        statistics.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn models() -> PathBuf {
    if let Some(folder) = std::env::var_os("DRAGOMAN_MODELS") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache")
    });
    cache.join("dragoman/models")
}
