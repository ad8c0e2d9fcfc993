//! `dragoman self-check`: a call with oneself over real WebRTC, judged by what was heard.
//!
//! Two peers join a room of this server over loopback. One speaks a recorded sentence; what the
//! other receives is recorded, transcribed back by the recogniser, and held against the server's
//! own translation.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use inference::store::Store;
use inference::whisper::{SAMPLE_RATE_HZ, TranscribeOptions, Window};
use inference::{CancelToken, Language};
use loadtest::call::{CallError, CallOptions, CallReport, UtteranceReport};
use signaling::key_ring::DEFAULT_NAME;
use signaling::{ApiKey, NamedKey};

use super::serve::{Bound, runtime};
use super::{ConfigArgs, LogFormat, start_logging};
use crate::audio_file;
use crate::engine::{Models, ModelsInUse, SPOKEN_RATE_HZ};
use crate::resample::resample_all;
use crate::segmenter::{Ear, Event, SegmenterConfig};
use loadtest::word_error::word_error_rate;

/// A recording to speak instead of the sample of the model store.
const SPEECH_VARIABLE: &str = "DRAGOMAN_SELF_CHECK_SPEECH";
/// Where the received track goes unless told otherwise.
const RECORDING: &str = "self-check.wav";
/// At most this share of the words may come back different.
const WORD_ERROR_LIMIT: f64 = 0.25;

/// Options of `dragoman self-check`.
#[derive(Debug, Args)]
pub(super) struct SelfCheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    options: Options,
    /// How log lines are written to standard error
    #[arg(long, env = "DRAGOMAN_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// What is said, and into which language.
#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Recording of the sentence to speak [default: a sample of the model store]
    #[arg(long, env = SPEECH_VARIABLE, value_name = "FILE")]
    speak: Option<PathBuf>,
    /// Language of the recording
    #[arg(long, default_value = "en", value_name = "LANGUAGE")]
    from: Language,
    /// Language of the listener
    #[arg(long, default_value = "es", value_name = "LANGUAGE")]
    to: Language,
    /// Where the received track is written
    #[arg(long, default_value = RECORDING, value_name = "FILE")]
    record: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            speak: std::env::var_os(SPEECH_VARIABLE)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            from: Language::EN,
            to: Language::ES,
            record: PathBuf::from(RECORDING),
        }
    }
}

/// What the self-check found.
#[derive(Debug)]
pub(super) struct Outcome {
    report: CallReport,
    /// What the recogniser made of the received track.
    heard_back: String,
    /// Against the server's own translation.
    word_error: f64,
}

pub(super) fn run(args: &SelfCheckArgs) -> anyhow::Result<ExitCode> {
    start_logging(args.log_format)?;
    let mut config = args.config.read()?;
    // A call with oneself needs no address that others reach, and disturbs no server.
    config.http.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.admin.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.media.bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.media.announce = Vec::new();
    config.media.port = 0;
    config.models.warm_up = vec![format!("{}-{}", args.options.from, args.options.to)];
    let models = Arc::new(ModelsInUse::new(Models::load(&config.models)?));
    runtime()?.block_on(async {
        let key = NamedKey::new(DEFAULT_NAME, ApiKey::generate_development())?;
        // Nobody's meeting: nothing is kept.
        let bound = Bound::open(&config, vec![key], true, &models, None).await?;
        let (url, api_key) = (bound.url.clone(), bound.api_key.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(bound.serve(async {
            // A sender that is gone ends the server as well as one that sends.
            let _ = stopped.await;
        }));
        let outcome = hold(&url, &api_key, models.get(), &args.options).await;
        drop(stop);
        serving.await.context("the HTTP face panicked")??;
        let outcome = outcome?;
        outcome.print();
        Ok(if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Holds the call against a running server of this process.
pub(super) async fn hold(
    url: &str,
    api_key: &str,
    models: Arc<Models>,
    options: &Options,
) -> anyhow::Result<Outcome> {
    let speech = speech(options)?;
    let (from, to) = (options.from.to_string(), options.to.to_string());
    let mut call = CallOptions::new(url, api_key, speech, &from, &to);
    call.record = Some(options.record.clone());
    print_line(&format!("Self-check: a call over WebRTC on loopback, {from} to {to} …"));
    let report = loadtest::call::run(call).await.map_err(explain)?;

    let language = options.to;
    let heard = report.heard_samples_48k.clone();
    let heard_back =
        tokio::task::spawn_blocking(move || transcribe_back(&models, &heard, language))
            .await
            .context("transcribing back panicked")??;
    let translations: Vec<&str> =
        report.utterances.iter().filter_map(|utterance| utterance.translation.as_deref()).collect();
    let word_error = word_error_rate(&translations.join(" "), &heard_back);
    Ok(Outcome { report, heard_back, word_error })
}

/// The sentence to speak, 48 kHz mono.
fn speech(options: &Options) -> anyhow::Result<Vec<f32>> {
    let path = match &options.speak {
        Some(path) if !path.as_os_str().is_empty() => path.clone(),
        _ => Store::open_default()?.require("sample-jfk")?.join("jfk.wav"),
    };
    let samples_16k = audio_file::read_16k(&path)?;
    Ok(resample_all(&samples_16k, SAMPLE_RATE_HZ, SPOKEN_RATE_HZ)?)
}

/// Cuts the received track like any speech and transcribes the segments.
fn transcribe_back(
    models: &Models,
    heard_48k: &[f32],
    language: Language,
) -> anyhow::Result<String> {
    let samples_16k = resample_all(heard_48k, SPOKEN_RATE_HZ, SAMPLE_RATE_HZ)?;
    let mut ear = Ear::new(&models.vad, SegmenterConfig::default())?;
    let mut segments = Vec::new();
    let mut keep = |event| {
        if let Event::Ended { segment, .. } = event {
            segments.push(segment);
        }
    };
    ear.hear(0, &samples_16k, &mut keep);
    ear.finish(&mut keep);
    let options = TranscribeOptions {
        language: Some(language),
        window: Window::Short,
        ..TranscribeOptions::default()
    };
    let mut words = String::new();
    for segment in segments {
        let transcript =
            models.recogniser.transcribe(&segment.samples_16k, &options, &CancelToken::new())?;
        words.push_str(&transcript.text);
        words.push(' ');
    }
    Ok(words.trim_end().to_owned())
}

fn progress_of(utterance: &UtteranceReport) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
    let (transcript, translation) = (text(&utterance.transcript), text(&utterance.translation));
    format!("{} was understood as {transcript:?} and became {translation:?}", utterance.id)
}

/// A call in which nothing was heard says how far it came.
fn explain(error: CallError) -> anyhow::Error {
    let progress = match &error {
        CallError::NothingHeard { report, .. } => {
            report.utterances.iter().map(progress_of).collect()
        }
        _ => Vec::new(),
    };
    let error = anyhow::Error::new(error);
    if progress.is_empty() { error } else { error.context(progress.join("; ")) }
}

impl Outcome {
    /// Whether the received audio says what it should.
    pub(super) fn passed(&self) -> bool {
        self.word_error <= WORD_ERROR_LIMIT
    }

    /// Tells a person what was said, what it became, how late it was and where to hear it.
    pub(super) fn print(&self) {
        for utterance in &self.report.utterances {
            let missing = || "(nothing)".to_owned();
            let transcript = utterance.transcript.clone().unwrap_or_else(missing);
            let translation = utterance.translation.clone().unwrap_or_else(missing);
            print_line(&format!("  heard        {transcript}"));
            print_line(&format!("  translation  {translation}"));
            if let Some(dropped) = &utterance.dropped {
                print_line(&format!("  dropped      {dropped}"));
            }
            if let Some(trace) = &utterance.trace {
                let stages: Vec<String> = trace
                    .stages()
                    .into_iter()
                    .filter_map(|(name, stage)| Some(format!("{name} {:.0}", stage?)))
                    .collect();
                let lag = trace.lag_ms.map_or("none".to_owned(), |lag| format!("{lag:.0} ms"));
                print_line(&format!("  lag          {lag} = {} ms", stages.join(" + ")));
            }
        }
        if let Some(lag) = self.report.lag_by_arrival_ms {
            print_line(&format!("  lag          {lag:.0} ms, by the packets at the two ends"));
        }
        print_line(&format!("  heard back   {}", self.heard_back));
        if let Some(recording) = &self.report.recording {
            print_line(&format!("  recording    {}", recording.display()));
        }
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let percent = 100.0 * self.word_error;
        print_line(&format!(
            "Self-check {verdict}: {percent:.0} % of the words came back different (limit {:.0} %).",
            100.0 * WORD_ERROR_LIMIT
        ));
    }
}

#[allow(clippy::print_stdout, reason = "what was heard is what the command is for")]
fn print_line(line: &str) {
    println!("{line}");
}
