//! The load test tells how long an interpretation takes: against the server itself, its models
//! replaced by ones that take a planted time. All that lies between a caller's microphone and the
//! models, and between them and a listener's ear, is real.
#![allow(clippy::unwrap_used)]

mod spoken;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use inference::translate::{
    Ladder, LadderConfig, TranslateError, TranslateRequest, Translation, Translator,
};
use inference::voice::{SpeakRequest, Voice, VoiceError, VoiceInfo, VoiceSet};
use inference::whisper::{Recogniser, TranscribeOptions, Transcript, WhisperError};
use inference::{CancelToken, Language};
use loadtest::corpus::{Corpus, Sentence};
use loadtest::report::{Figures, Report};
use loadtest::run::{Progress, RunOptions, run};
use loadtest::schedule::{Cast, Load};
use media_server::engine::{EngineConfig, Models, ModelsInUse};
use media_server::media::MediaConfig;
use media_server::resample::resample_all;
use media_server::rooms::{HouseConfig, Rooms, RoomsConfig};
use media_server::segmenter::SegmenterConfig;
use signaling::ApiConfig;
use tokio::net::TcpListener;

const API_KEY: &str = "0123456789abcdef0123456789abcdef";
const WORDS: &str = "one two three";
const PLANTED: &str = "planted";
const VOICE_RATE_HZ: u32 = 24_000;
/// Half a second.
const VOICE_SAMPLES: usize = 12_000;

/// Calls at once.
const SESSIONS: usize = 4;
const STALL: Duration = Duration::from_secs(2);

/// What stands in for the models: every stage takes its time.
#[derive(Clone, Default)]
struct Planted {
    transcribe: Duration,
    translate: Duration,
    speak: Duration,
    stall: Option<Arc<Stall>>,
}

/// All models stand still for [`STALL`] from the recognition with this number on.
struct Stall {
    at: usize,
    recognitions: AtomicUsize,
    end: OnceLock<Instant>,
}

impl Stall {
    fn recognition(&self) {
        if self.recognitions.fetch_add(1, Ordering::Relaxed) == self.at {
            let _ = self.end.set(Instant::now() + STALL);
        }
    }
}

impl Planted {
    fn take(&self, time: Duration) {
        if let Some(end) = self.stall.as_ref().and_then(|stall| stall.end.get()) {
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
        }
        std::thread::sleep(time);
    }

    fn models(self) -> Models {
        let planted = Arc::new(self);
        let translators: [Arc<dyn Translator>; 1] = [planted.clone()];
        let order = LadderConfig { order: vec![PLANTED.to_owned()], pairs: BTreeMap::new() };
        Models {
            recogniser_name: PLANTED.to_owned(),
            vad: spoken::vad(),
            recogniser: planted.clone(),
            translator: Ladder::new(&order, &translators).unwrap(),
            voices: VoiceSet::new(vec![planted]),
        }
    }
}

impl Recogniser for Planted {
    fn transcribe(
        &self,
        _: &[f32],
        options: &TranscribeOptions,
        _: &CancelToken,
    ) -> Result<Transcript, WhisperError> {
        if let Some(stall) = &self.stall {
            stall.recognition();
        }
        self.take(self.transcribe);
        Ok(Transcript::certain(WORDS, options.language.unwrap()))
    }
}

impl Translator for Planted {
    fn name(&self) -> &str {
        PLANTED
    }

    fn supports(&self, _: Language, _: Language) -> bool {
        true
    }

    fn translate(
        &self,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        self.take(self.translate);
        on_text(&request.text);
        Ok(Translation { text: request.text.clone(), translator: PLANTED.to_owned() })
    }
}

impl Voice for Planted {
    fn name(&self) -> &str {
        PLANTED
    }

    fn supports(&self, _: Language) -> bool {
        true
    }

    fn sample_rate_hz(&self) -> u32 {
        VOICE_RATE_HZ
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        Vec::new()
    }

    /// A tone.
    fn speak(
        &self,
        _: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        self.take(self.speak);
        let tone = (0..VOICE_SAMPLES).map(|n| 0.3 * (n as f32 * 0.08).sin());
        let _ = on_chunk(&tone.collect::<Vec<f32>>());
        Ok(())
    }
}

/// The server over planted models. It lives as long as the test.
struct Server {
    url: String,
    _rooms: Arc<Rooms>,
}

impl Server {
    async fn start(planted: Planted) -> Self {
        let config = HouseConfig {
            rooms: RoomsConfig::default(),
            media: MediaConfig {
                bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: 0,
                announce: Vec::new(),
                workers: 1,
                peer_timeout: Duration::from_secs(15),
                real_time: true,
            },
            segmenter: SegmenterConfig::default(),
            engine: EngineConfig {
                // A guess would hide a part of what is planted, a queue would add to it.
                speculate: false,
                transcribe_workers: SESSIONS,
                translate_workers: SESSIONS,
                speak_workers: SESSIONS,
                ..EngineConfig::default()
            },
            transcripts: None,
            voices: None,
        };
        let rooms =
            Arc::new(Rooms::open(&Arc::new(ModelsInUse::new(planted.models())), &config).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = ApiConfig::new(API_KEY, None, false).unwrap();
        let router = signaling::router(Arc::clone(&rooms), api);
        tokio::spawn(signaling::serve(listener, router, std::future::pending()));
        Self { url, _rooms: rooms }
    }

    /// Short sentences of all calls, for so long.
    async fn measure(&self, seconds: u64) -> Report {
        let load = Load {
            steps: vec![SESSIONS],
            hold: Duration::from_secs(seconds),
            join_every: Duration::from_millis(100),
            think: (Duration::from_millis(1_000), Duration::from_millis(1_500)),
            seed: 3,
        };
        let casts = vec![Cast::call("en", "es")];
        let options = RunOptions::new(&self.url, API_KEY, casts, load, corpus());
        let report = run(options, |_: &Progress| {}, std::future::pending()).await.unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        let missing = report.outcomes.iter().find_map(|outcome| outcome.missing.as_deref());
        assert_eq!(missing, None);
        report
    }
}

/// Recorded sentences without a pause that could be taken for their end.
fn corpus() -> Corpus {
    let longest_gap = 200 * spoken::PER_MS;
    let drawn = spoken::corpus::draw("en", 120, spoken::seed(1));
    let short = drawn.into_iter().filter(|sentence| {
        let span = sentence.span();
        let mut gaps = sentence.voiced.windows(2).map(|pair| pair[1].start - pair[0].end);
        span.end - span.start < 1_500 * spoken::PER_MS && gaps.all(|gap| gap < longest_gap)
    });
    let sentences = short.take(4).map(|sentence| {
        let samples_48k = resample_all(&sentence.samples, 16_000, 48_000).unwrap();
        let ends = Duration::from_micros(sentence.span().end * 1_000 / spoken::PER_MS);
        let name = Path::new(&sentence.name);
        Sentence::new(name, "en", WORDS, &samples_48k, Some(ends)).unwrap()
    });
    Corpus::of(sentences)
}

fn stage(figures: &Figures, name: &str) -> f64 {
    figures.stages.iter().find(|stage| stage.name == name).unwrap().time.p50
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_test_finds_the_difference_of_two_planted_delays_and_the_stages_that_took_it() {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    let quick = Planted { transcribe: MS(50), translate: MS(50), speak: MS(50), stall: None };
    let slow = Planted { transcribe: MS(150), translate: MS(350), ..quick.clone() };
    let (quick, slow) = futures::join!(Server::start(quick), Server::start(slow));
    let (quick, slow) = futures::join!(quick.measure(20), slow.measure(20));
    let (quick, slow) = (quick.total, slow.total);
    assert_eq!(quick.sentences, slow.sentences);
    assert!(quick.sentences >= 12, "{}", quick.sentences);
    let difference = slow.lag.p50 - quick.lag.p50;
    assert!((difference - 400.0).abs() <= 20.0, "{difference}: {:?} {:?}", quick.lag, slow.lag);
    for (name, planted) in [("transcribe", 100.0), ("translate", 300.0), ("speak", 0.0)] {
        let found = stage(&slow, name) - stage(&quick, name);
        assert!((found - planted).abs() <= 10.0, "{name}: {found}");
    }
    for figures in [&quick, &slow] {
        assert!(figures.unexplained.p50 <= 20.0, "{:?}", figures.unexplained);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_test_finds_a_planted_stall_at_the_far_end_of_the_distribution() {
    let stall = Stall { at: 20, recognitions: AtomicUsize::new(0), end: OnceLock::new() };
    let planted = Planted { stall: Some(Arc::new(stall)), ..Planted::default() };
    let report = Server::start(planted).await.measure(24).await;
    let lag = report.total.lag;
    // The sentence that met the stall is later by all of it, those that ended meanwhile by what was
    // left of it: they were said on time although the models stood still.
    let stall_ms = 1_000.0 * STALL.as_secs_f64();
    assert!((lag.p99_9 - lag.p50 - stall_ms).abs() <= 60.0, "{lag:?}");
    let late = report.outcomes.iter().filter(|outcome| outcome.lag_ms > lag.p50 + 200.0).count();
    assert!((3..=report.outcomes.len() / 4).contains(&late), "{late} of {}", report.outcomes.len());
    assert!(report.outcomes.iter().all(|outcome| outcome.late_ms < 100.0));
}
