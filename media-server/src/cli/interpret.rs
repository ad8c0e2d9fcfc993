//! `dragoman interpret`: the same stages over a recording, without a network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use crossbeam_channel::{Receiver, Sender, bounded};
use inference::translate::Translation;
use inference::whisper::{SAMPLE_RATE_HZ, Transcript};
use inference::{CancelToken, Language};
use serde::Serialize;
use signaling::wire::Trace;

use super::timeline::Timeline;
use super::{ConfigArgs, LogFormat, start_logging};
use crate::audio_file::{self, AudioFile};
use crate::engine::{DropReason, Engine, Job, Models, ModelsInUse, Observer, Target, UtteranceId};
use crate::segmenter::{Ear, Event, Segment};
use crate::trace::Times;

/// A recording is read in blocks of this length; with `--realtime` one is heard every 20 ms.
const BLOCK: Duration = Duration::from_millis(20);
const BLOCK_SAMPLES: usize = SAMPLE_RATE_HZ as usize / 50;

/// Reports that may wait while the command listens. They are taken after every block, so a full queue
/// is far off; the engine's threads would wait.
const REPORT_QUEUE: usize = 4096;

/// Options of `dragoman interpret`.
#[derive(Debug, Args)]
pub(super) struct InterpretArgs {
    /// Recording to interpret: WAV, FLAC, MP3 or Ogg, any rate, mono or stereo
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Language of the recording, or auto to detect it per utterance
    #[arg(long, value_name = "LANGUAGE", value_parser = parse_from)]
    from: From,
    /// Language wanted; without it the recording is only transcribed
    #[arg(long, value_name = "LANGUAGE")]
    to: Option<Language>,
    /// Where the interpretation is written, as WAV, each utterance at the time it would be heard
    #[arg(long, value_name = "FILE", requires = "to")]
    out: Option<PathBuf>,
    /// Print one JSON object on standard output instead of text
    #[arg(long)]
    json: bool,
    /// Hear the recording at the speed it was spoken, as a call would
    #[arg(long)]
    realtime: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// How log lines are written to standard error
    #[arg(long, env = "DRAGOMAN_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug)]
enum From {
    Auto,
    Given(Language),
}

fn parse_from(text: &str) -> Result<From, String> {
    if text == "auto" {
        return Ok(From::Auto);
    }
    text.parse().map(From::Given).map_err(|error| format!("{error}, or auto"))
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    utterances: Vec<Utterance>,
}

/// One utterance of the recording.
#[derive(Clone, Debug, Serialize)]
struct Utterance {
    start_ms: u64,
    end_ms: u64,
    language: Option<Language>,
    transcript: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    translation: Option<String>,
    trace: Trace,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    times: Times,
    #[serde(skip)]
    spoken_48k: Vec<f32>,
    #[serde(skip)]
    nothing_said: bool,
    #[serde(skip)]
    done: bool,
}

/// What the engine's threads report back to the command.
enum News {
    Transcribed(UtteranceId, Transcript, Times),
    Translated(UtteranceId, Translation, Times),
    Speech(UtteranceId, u64, Vec<f32>, Times),
    Spoken(UtteranceId, Times),
    Dropped(UtteranceId, DropReason, String),
}

/// Passes the engine's reports on to the thread that owns the results.
struct Reporter(Sender<News>);

impl Reporter {
    fn send(&self, news: News) {
        // The command only stops listening when it fails; there is nothing left to report to then.
        let _ = self.0.send(news);
    }
}

impl Observer for Reporter {
    fn transcribed(&self, utterance: UtteranceId, transcript: &Transcript, times: &Times) {
        self.send(News::Transcribed(utterance, transcript.clone(), *times));
    }

    fn translated(
        &self,
        utterance: UtteranceId,
        _language: Language,
        translation: &Translation,
        times: &Times,
    ) {
        self.send(News::Translated(utterance, translation.clone(), *times));
    }

    fn speech(
        &self,
        utterance: UtteranceId,
        _language: Language,
        at_48k: u64,
        samples_48k: &[f32],
        times: &Times,
    ) {
        self.send(News::Speech(utterance, at_48k, samples_48k.to_vec(), *times));
    }

    fn spoken(&self, utterance: UtteranceId, _language: Language, times: &Times) {
        self.send(News::Spoken(utterance, *times));
    }

    fn dropped(
        &self,
        utterance: UtteranceId,
        _language: Option<Language>,
        reason: DropReason,
        detail: &str,
    ) {
        self.send(News::Dropped(utterance, reason, detail.to_owned()));
    }
}

pub(super) fn run(args: &InterpretArgs) -> anyhow::Result<ExitCode> {
    start_logging(args.log_format)?;
    let mut config = args.config.read()?;
    // Nobody waits on the other side: whatever is in the file is interpreted, however late.
    config.engine.deadline_ms = u64::MAX;
    if let (From::Given(from), Some(to)) = (args.from, args.to) {
        config.models.warm_up = vec![format!("{from}-{to}")];
    }
    // A file that cannot be read should not cost the time it takes to load the models.
    let file = AudioFile::open(&args.input)?;
    let models = Arc::new(ModelsInUse::new(Models::load(&config.models)?));
    let ear = Ear::new(&models.get().vad, config.segmenter.clone())?;
    let (reports_in, reports) = bounded(REPORT_QUEUE);
    let engine = Engine::start(models, &config.engine, Arc::new(Reporter(reports_in)))?;

    let mut session = Session {
        args,
        engine: &engine,
        reports,
        utterances: BTreeMap::new(),
        waiting: 0,
        started: Instant::now(),
    };
    session.hear(file, ear)?;
    let utterances = session.finish();
    let failed = utterances.iter().any(|utterance| utterance.error.is_some());

    if let Some(path) = &args.out {
        let mut timeline = Timeline::default();
        for utterance in &utterances {
            let lag = utterance.trace.lag_ms.unwrap_or_default();
            timeline.place(utterance.end_ms + lag.round() as u64, &utterance.spoken_48k);
        }
        audio_file::write_wav(path, timeline.samples_48k(), crate::engine::SPOKEN_RATE_HZ)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        print_json(&Report { utterances })?;
    } else if utterances.is_empty() {
        print_line("No speech was found.");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Session<'a> {
    args: &'a InterpretArgs,
    engine: &'a Engine,
    reports: Receiver<News>,
    utterances: BTreeMap<UtteranceId, Utterance>,
    /// Utterances that the engine is not done with.
    waiting: usize,
    started: Instant,
}

impl Session<'_> {
    fn hear(&mut self, file: AudioFile, mut ear: Ear) -> anyhow::Result<()> {
        let mut position = 0_u64;
        let mut pending: Vec<f32> = Vec::new();
        self.started = Instant::now();
        for block in file {
            pending.extend_from_slice(&block?);
            let whole = pending.len() - pending.len() % BLOCK_SAMPLES;
            for samples in pending[..whole].chunks(BLOCK_SAMPLES) {
                self.hear_block(&mut ear, position, samples);
                position += BLOCK_SAMPLES as u64;
            }
            pending.drain(..whole);
        }
        self.hear_block(&mut ear, position, &pending);
        position += pending.len() as u64;
        // The recording's end is a pause like any other: silence lets the segmenter find it.
        let silence = [0.0; BLOCK_SAMPLES];
        while ear.is_speaking() {
            self.hear_block(&mut ear, position, &silence);
            position += BLOCK_SAMPLES as u64;
        }
        Ok(())
    }

    fn hear_block(&mut self, ear: &mut Ear, position: u64, samples: &[f32]) {
        if self.args.realtime {
            // A block is there once its last sample was spoken.
            let due = self.started + media_time(position) + BLOCK;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let mut events = Vec::new();
        ear.hear(position, samples, |event| events.push(event));
        let heard = position + samples.len() as u64;
        for event in events {
            match &event {
                Event::SoftEnd { segment } if self.args.realtime => {
                    self.engine.speculate(self.next_id(), &segment.samples_16k, self.from());
                }
                Event::Resumed { .. } | Event::Ended { speculated: false, .. } => {
                    self.engine.retract(self.next_id());
                }
                _ => {}
            }
            if let Event::Ended { segment, .. } = event {
                self.submit(Arc::unwrap_or_clone(segment), heard);
            }
        }
        while let Ok(news) = self.reports.try_recv() {
            self.take(news);
        }
    }

    fn next_id(&self) -> UtteranceId {
        UtteranceId(self.utterances.len() as u64 + 1)
    }

    fn from(&self) -> Option<Language> {
        match self.args.from {
            From::Auto => None,
            From::Given(language) => Some(language),
        }
    }

    fn submit(&mut self, segment: Segment, heard: u64) {
        let times = if self.args.realtime {
            let at = |position| self.started + media_time(position);
            Times::new(at(segment.first_voiced), at(segment.last_voiced), Instant::now())
        } else {
            // Without a clock to hear by, the pause before the decision is as long as its samples.
            let ended = Instant::now();
            let ago = |position| media_time(heard.saturating_sub(position));
            let at = |position| ended.checked_sub(ago(position)).unwrap_or(ended);
            Times::new(at(segment.first_voiced), at(segment.last_voiced), ended)
        };
        let id = self.next_id();
        self.utterances.insert(
            id,
            Utterance {
                start_ms: milliseconds(segment.first_voiced),
                end_ms: milliseconds(segment.last_voiced),
                language: None,
                transcript: String::new(),
                translation: None,
                trace: times.trace(),
                error: None,
                times,
                spoken_48k: Vec::new(),
                nothing_said: false,
                done: false,
            },
        );
        let mut job = Job {
            voiced: true,
            deadline: self.engine.deadline(false),
            utterance: id,
            samples_16k: segment.samples_16k,
            from: self.from(),
            targets: self.args.to.map(Target::spoken).into_iter().collect(),
            times,
            cancel: CancelToken::new(),
        };
        self.waiting += 1;
        while let Err(refused) = self.engine.submit(job) {
            job = *refused.0;
            self.take_report();
        }
        if !self.args.realtime {
            // One at a time, so that each stage time is the stage's own.
            while self.waiting > 0 {
                self.take_report();
            }
        }
    }

    fn take_report(&mut self) {
        if let Ok(news) = self.reports.recv() {
            self.take(news);
        }
    }

    fn take(&mut self, news: News) {
        let id = match &news {
            News::Transcribed(id, ..)
            | News::Translated(id, ..)
            | News::Speech(id, ..)
            | News::Spoken(id, ..)
            | News::Dropped(id, ..) => *id,
        };
        let Some(utterance) = self.utterances.get_mut(&id) else { return };
        let last = utterance.take(news, self.args.to);
        // A translation that fails half-way is reported by two stages.
        if last && !utterance.done {
            utterance.done = true;
            self.waiting -= 1;
            if !self.args.json && !utterance.nothing_said {
                utterance.print();
            }
        }
    }

    fn finish(mut self) -> Vec<Utterance> {
        while self.waiting > 0 {
            self.take_report();
        }
        self.utterances.into_values().filter(|utterance| !utterance.nothing_said).collect()
    }
}

impl Utterance {
    /// Notes a report; `true` when it was the last one about this utterance.
    fn take(&mut self, news: News, to: Option<Language>) -> bool {
        match news {
            News::Transcribed(_, transcript, times) => {
                self.language = Some(transcript.language);
                self.transcript = transcript.text;
                self.note(&times);
                to.is_none_or(|to| to == transcript.language)
            }
            News::Translated(_, translation, times) => {
                self.translation = Some(translation.text);
                self.note(&times);
                false
            }
            News::Speech(_, at_48k, samples, times) => {
                // In a call the packet leaves at the next tick; here it is there at once.
                self.times.sent = self.times.sent.or(times.first_samples);
                let at = usize::try_from(at_48k).unwrap_or(self.spoken_48k.len());
                self.spoken_48k.resize(at, 0.0);
                self.spoken_48k.extend(samples);
                self.note(&times);
                false
            }
            News::Spoken(_, times) => {
                self.note(&times);
                true
            }
            News::Dropped(_, reason, detail) => {
                if reason == DropReason::NoSpeech {
                    self.nothing_said = true;
                } else {
                    self.error = Some(detail);
                }
                true
            }
        }
    }

    fn note(&mut self, times: &Times) {
        let sent = self.times.sent;
        // Reports of two threads may cross: the one that knows more stands.
        self.times = Times {
            translated: times.translated.or(self.times.translated),
            last_samples: times.last_samples.or(self.times.last_samples),
            ..*times
        };
        self.times.sent = sent;
        self.trace = self.times.trace();
    }

    fn print(&self) {
        let language = self.language.map_or("?", Language::code);
        let (start, end) = (self.start_ms as f64 / 1000.0, self.end_ms as f64 / 1000.0);
        print_line(&format!("[{start:.2}–{end:.2} s] {language}: {}", self.transcript));
        if let Some(translation) = &self.translation {
            print_line(&format!("    → {translation}"));
        }
        let stages: Vec<String> = self
            .trace
            .stages()
            .into_iter()
            .chain([("lag", self.trace.lag_ms)])
            .filter_map(|(name, stage)| stage.map(|stage| format!("{name} {stage:.0} ms")))
            .collect();
        print_line(&format!("    {}", stages.join(" · ")));
        if let Some(error) = &self.error {
            print_line(&format!("    failed: {error}"));
        }
    }
}

fn media_time(position: u64) -> Duration {
    Duration::from_nanos(position * 1_000_000_000 / u64::from(SAMPLE_RATE_HZ))
}

fn milliseconds(position: u64) -> u64 {
    position * 1000 / u64::from(SAMPLE_RATE_HZ)
}

#[allow(clippy::print_stdout, reason = "the results are what the command is for")]
fn print_line(line: &str) {
    println!("{line}");
}

fn print_json(report: &Report) -> anyhow::Result<()> {
    print_line(&serde_json::to_string(report).context("the report cannot be written as JSON")?);
    Ok(())
}
