//! Measures the language model's decoder: `translator_speed GGUF [THREADS]`. Prints one JSON object
//! with tokens per second of wall clock and of CPU time, for the shapes of interpretation: a
//! sentence of 24 new tokens after a kept prefix, then an answer of 24 tokens. `batch_tok_s` tells
//! what a pass over several tokens costs, each of which is asked for the scores of the next one.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use inference::Language;
use inference::translate::language_model::{KvCache, LanguageModel, LanguageModelConfig};

const PROMPT: usize = 24;
const ANSWER: usize = 24;
const ROUNDS: usize = 5;
const BATCHES: [usize; 4] = [1, 2, 4, 8];

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("which GGUF?"))?;
    let mut config = LanguageModelConfig::new(path);
    if let Some(threads) = std::env::args().nth(2) {
        config.threads = threads.parse()?;
    }
    let began = Instant::now();
    let model = LanguageModel::load(&config)?;
    let load = began.elapsed();
    let decoder = model.decoder();
    let width = decoder.config().width;
    let prompt = model.prompt("This is only a measurement.", Language::EN, Language::ES)?;
    let mut prefix = decoder.new_cache(prompt.len());
    let began = Instant::now();
    decoder.forward(&prompt, &mut prefix)?;
    let first = began.elapsed();
    let prefix = prefix.freeze();
    let (mut prefill, mut decode) = (Clock::default(), Clock::default());
    for _ in 0..=ROUNDS {
        let mut cache = KvCache::after(prefix.clone(), PROMPT + ANSWER);
        let mut token = prefill.time(|| {
            let hidden = decoder.forward(&prompt[..PROMPT], &mut cache)?;
            decoder.most_likely(&hidden[hidden.len() - width..])
        })?;
        for _ in 0..ANSWER {
            token = decode.time(|| {
                let hidden = decoder.forward(&[token], &mut cache)?;
                decoder.most_likely(&hidden)
            })?;
        }
    }
    let (mut batches, mut batches_cpu) = (serde_json::Map::new(), serde_json::Map::new());
    for tokens in BATCHES {
        let mut clock = Clock::default();
        let mut cache = KvCache::after(prefix.clone(), (ROUNDS + 1) * tokens);
        for _ in 0..=ROUNDS {
            clock.time(|| {
                let hidden = decoder.forward(&prompt[..tokens], &mut cache)?;
                decoder.logits(&hidden)
            })?;
        }
        batches.insert(tokens.to_string(), (tokens as f64 / clock.median_wall()).into());
        batches_cpu.insert(tokens.to_string(), (tokens as f64 / clock.median_cpu()).into());
    }
    let report = serde_json::json!({
        "threads": config.threads,
        "load_s": load.as_secs_f64(),
        "prefix_tokens": prompt.len(),
        "prefix_first_s": first.as_secs_f64(),
        "prefill_tok_s": PROMPT as f64 / prefill.median_wall(),
        "prefill_tok_cpu_s": PROMPT as f64 / prefill.median_cpu(),
        "decode_tok_s": 1.0 / decode.median_wall(),
        "decode_tok_cpu_s": 1.0 / decode.median_cpu(),
        "batch_tok_s": batches,
        "batch_tok_cpu_s": batches_cpu,
        "peak_rss_mb": peak_rss_mb(),
    });
    println!("{report}");
    Ok(())
}

/// Wall clock and CPU seconds of the calling thread per run.
#[derive(Default)]
struct Clock {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Clock {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (began, cpu) = (Instant::now(), thread_cpu_seconds());
        let result = work();
        self.wall.push(began.elapsed().as_secs_f64());
        self.cpu.push(thread_cpu_seconds() - cpu);
        result
    }

    fn median_wall(&self) -> f64 {
        median(&self.wall)
    }

    fn median_cpu(&self) -> f64 {
        median(&self.cpu)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Time the calling thread has run, by Linux's scheduler.
fn thread_cpu_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
