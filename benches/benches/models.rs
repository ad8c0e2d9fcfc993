//! What the models cost, one thread each unless it says otherwise: the recogniser by window, the
//! decoders by batch, the translators and the voice.

#[cfg(feature = "stock")]
mod stock;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use inference::store::Store;
use inference::translate::apertium::{Apertium, ApertiumConfig};
use inference::translate::language_model::{
    CachedSpan, KvCache, LanguageModel, LanguageModelConfig,
};
use inference::translate::{TranslateRequest, Translator};
use inference::voice::{Kokoro, SpeakRequest, Voice};
use inference::whisper::{StageTimes, TranscribeOptions, Whisper, WhisperConfig, Window};
use inference::{CancelToken, Language};
use media_server::audio_file;

/// A part of a recognition: its name, and how long it took.
type Part = (&'static str, fn(&StageTimes) -> Duration);

const SAMPLES: usize = 10;
/// Length of the texts that the recogniser writes on.
const TOKENS: usize = 8;
const SENTENCE: &str = "The meeting has been moved to Thursday afternoon.";

fn model(name: &str) -> PathBuf {
    let store = Store::open_default().expect("a home folder");
    store.require(name).expect("the models were fetched: run `make models`")
}

fn recogniser(criterion: &mut Criterion) {
    let whisper = Whisper::load(&model("whisper-base"), &WhisperConfig::default()).expect("loads");
    let speech = audio_file::read_16k(&model("sample-jfk").join("jfk.wav")).expect("a recording");
    let options = TranscribeOptions {
        language: Some(Language::EN),
        temperatures: Vec::new(),
        ..TranscribeOptions::default()
    };
    let mut group = criterion.benchmark_group("whisper base");
    group.sample_size(SAMPLES);
    // The call tells where its time went: each part is a row of its own.
    let parts: [Part; 3] = [
        ("mel", |times| times.mel),
        ("encoder", |times| times.encode),
        ("keys and values of the audio", |times| times.cross),
    ];
    for seconds in [2, 4, 6, 12, 30] {
        let spoken = &speech[..speech.len().min(16_000 * (seconds - 2).min(11))];
        let silence = seconds - spoken.len() / 16_000;
        let window = Window::Padded(Duration::from_secs(silence as u64));
        let options = TranscribeOptions { window, ..options.clone() };
        for (name, part) in parts {
            let id = BenchmarkId::new(name, format!("window of {seconds} s"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|count| {
                    let once = |_| {
                        let heard = whisper.transcribe_timed(spoken, &options, &CancelToken::new());
                        part(&heard.expect("recognised").1)
                    };
                    (0..count).map(once).sum()
                });
            });
        }
    }
    for rows in [1, 2, 4, 8] {
        let mut texts = whisper.texts(&speech[..6 * 16_000], rows, TOKENS).expect("they fit");
        let id = BenchmarkId::new(
            format!("decoder, a token after {TOKENS}"),
            format!("batch of {rows}"),
        );
        group.bench_function(id, |bencher| {
            bencher.iter(|| texts.step().expect("computes"));
        });
    }
    group.finish();
}

fn language_model(criterion: &mut Criterion) {
    let folder = model("qwen2.5-coder-1.5b-instruct");
    let gguf = std::fs::read_dir(folder)
        .expect("a folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .expect("a GGUF file");
    let model = LanguageModel::load(&LanguageModelConfig::new(gguf)).expect("loads");
    let decoder = model.decoder();
    let prompt = model.prompt(SENTENCE, Language::EN, Language::ES).expect("tokens");
    let mut prefix = decoder.new_cache(prompt.len());
    decoder.forward(&prompt, &mut prefix).expect("fits");
    let prefix = prefix.freeze();
    let mut group = criterion.benchmark_group("qwen2.5 1.5B, all cores");
    group.sample_size(SAMPLES);
    for rows in [1, 2, 4, 8] {
        group.bench_function(
            BenchmarkId::new("decoder, a step", format!("batch of {rows}")),
            |b| {
                let mut caches: Vec<KvCache> =
                    (0..rows).map(|_| KvCache::after(prefix.clone(), 1)).collect();
                b.iter(|| {
                    let mut spans: Vec<CachedSpan<'_>> = caches
                        .iter_mut()
                        .map(|cache| CachedSpan { tokens: &[1000], cache })
                        .collect();
                    let hidden = decoder.forward_batch(&mut spans).expect("fits");
                    black_box(decoder.logits(&hidden).expect("computes"));
                    caches.iter_mut().for_each(|cache| cache.truncate(prompt.len()));
                });
            },
        );
    }
    let request = TranslateRequest::new(SENTENCE, Language::EN, Language::ES);
    group.bench_function("a sentence", |bencher| {
        bencher.iter(|| model.translate(black_box(&request), &mut |_| {}).expect("translates"));
    });
    group.finish();
}

fn apertium(criterion: &mut Criterion) {
    let apertium = Apertium::discover(&ApertiumConfig::default()).expect("apertium is installed");
    let request = TranslateRequest::new(SENTENCE, Language::EN, Language::ES);
    criterion.bench_function("apertium/a sentence", |bencher| {
        bencher.iter(|| apertium.translate(black_box(&request), &mut |_| {}).expect("translates"));
    });
}

fn voice(criterion: &mut Criterion) {
    let kokoro = Kokoro::load(&model("kokoro-82m"), 1).expect("loads");
    let request = SpeakRequest::new("Buenos días a todos, gracias.", Language::ES);
    let mut group = criterion.benchmark_group("kokoro");
    group.sample_size(SAMPLES);
    for (name, flow) in [
        ("first samples of a clause", ControlFlow::Break(())),
        ("a clause of five words", ControlFlow::Continue(())),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| kokoro.speak(black_box(&request), &mut |_| flow));
        });
    }
    group.finish();
}

criterion_group!(models, recogniser, language_model, apertium, voice);
#[cfg(feature = "stock")]
criterion_group!(baseline, stock::recogniser);
#[cfg(feature = "stock")]
criterion_main!(models, baseline);
#[cfg(not(feature = "stock"))]
criterion_main!(models);
