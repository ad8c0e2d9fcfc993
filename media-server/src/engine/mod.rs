//! The engine: what happens to an utterance between the segmenter and the playout.
//!
//! Three stages (recognition, translation, synthesis) have a bounded queue and some threads each; the
//! most urgent request goes first. A stage that is full holds up the one before it, and a full first
//! stage refuses the utterance ([`Refused`]): memory never grows with load, and whoever submits
//! decides what to tell the speaker. Inside an utterance the stages overlap: the first translated
//! clause is spoken while the rest is still being translated. Utterances that are in the same stage
//! share the steps of its model, where that has a batcher.
//!
//! When what was said waits too long to be heard, the engine leaves things out, [tier by tier](Tier),
//! and takes them up again when there is time. A model that panics costs a request its first attempt
//! and nobody else anything. [Others](ModelsInUse) may take the models' place at any time.
//!
//! The engine knows neither rooms nor networks. Whoever runs it (the server, or the command that
//! interprets a file) listens through an [`Observer`].

mod in_use;
mod models;
mod pressure;
mod speculation;
mod stages;
mod stats;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use inference::batch::{Full, Urgency};
use inference::translate::Translation;
use inference::whisper::Transcript;
use inference::{CancelToken, Language};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use self::in_use::ModelsInUse;
pub use self::models::{FileStamp, ModelError, Models, ModelsConfig, TranslatorName, VoiceName};
use self::pressure::Controller;
pub use self::pressure::{OverloadConfig, Tier};
use self::speculation::{Commit, Guess, Speculation};
use self::stages::{Stages, Threads, Work, named, urgency};
pub use self::stats::{EngineStats, StageStats};
use crate::trace::Times;

/// Sample rate of the synthesised speech that leaves the engine, in Hz (mono).
pub const SPOKEN_RATE_HZ: u32 = 48_000;

/// How often the pressure is measured.
const MEASURED_EVERY: Duration = Duration::from_millis(100);

/// Queues, deadlines, and how many requests are in each stage at a time. How many threads compute is
/// a matter of the models ([`ModelsConfig`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Utterances in recognition at a time.
    pub transcribe_workers: usize,
    /// Utterances in translation at a time.
    pub translate_workers: usize,
    /// Clauses in synthesis at a time.
    pub speak_workers: usize,
    /// Requests that may wait for each stage; before recognition, new ones are then refused.
    pub queue: usize,
    /// How long after its end an utterance of a call is still worth speaking; later it is captioned
    /// only.
    pub deadline_ms: u64,
    /// The same for a conference, in which nobody waits for an answer.
    pub conference_deadline_ms: u64,
    /// How long after the pause a guess may begin that is made on speculation.
    pub speculative_deadline_ms: u64,
    /// Whether a worker with nothing to do recognises what was said as soon as the speaker pauses.
    pub speculate: bool,
    /// What is left out under load.
    pub overload: OverloadConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            transcribe_workers: 2,
            translate_workers: 8,
            speak_workers: 1,
            queue: 16,
            deadline_ms: 6_000,
            conference_deadline_ms: 10_000,
            speculative_deadline_ms: 1_000,
            speculate: true,
            overload: OverloadConfig::default(),
        }
    }
}

impl EngineConfig {
    /// How long after its end an utterance is worth speaking.
    pub fn deadline(&self, is_conference: bool) -> Duration {
        let ms = if is_conference { self.conference_deadline_ms } else { self.deadline_ms };
        Duration::from_millis(ms)
    }
}

/// Identifies an utterance on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtteranceId(pub u64);

impl std::fmt::Display for UtteranceId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "utt-{}", self.0)
    }
}

/// What is wanted of an utterance in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The language.
    pub language: Language,
    /// The voice that it is spoken in; the language's default when missing.
    pub voice: Option<String>,
    /// Whether anybody hears it. If not, it is translated and not spoken.
    pub is_heard: bool,
}

impl Target {
    /// Speech in a language, in its default voice.
    #[must_use]
    pub fn spoken(language: Language) -> Self {
        Self { language, voice: None, is_heard: true }
    }
}

/// One utterance to interpret.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which utterance.
    pub utterance: UtteranceId,
    /// The segment, 16 kHz mono.
    pub samples_16k: Vec<f32>,
    /// The spoken language; `None` detects it.
    pub from: Option<Language>,
    /// What is wanted of it; each language once.
    pub targets: Vec<Target>,
    /// When it was spoken.
    pub times: Times,
    /// Whether it is spoken, or captioned only.
    pub voiced: bool,
    /// How long after its end it is worth speaking.
    pub deadline: Duration,
    /// Stops every stage at its next step.
    pub cancel: CancelToken,
}

/// Why an utterance, or its speech in one language, ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The recogniser heard no words.
    NoSpeech,
    /// The deadline had passed when it would have been spoken.
    TooLate,
    /// Somebody else was speaking when it began, and the house voices only the first.
    Overlapped,
    /// The queue was full, or the engine captions only.
    Overloaded,
    /// Somebody cancelled it: the speaker or the last listener left.
    Cancelled,
    /// A model failed.
    Failed,
}

impl DropReason {
    /// The label on the wire and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoSpeech => "no_speech",
            Self::TooLate => "too_late",
            Self::Overlapped => "overlapped",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Which text of an utterance is not final yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// What was said up to the pause that may be its end.
    Transcript,
    /// The clauses that were translated so far.
    Translation,
}

/// What the engine reports. Called on the stages' threads: an observer must not block for long.
pub trait Observer: Send + Sync {
    /// Text that will be replaced by what [`transcribed`](Self::transcribed) or
    /// [`translated`](Self::translated) says. It may never come.
    fn partial(&self, utterance: UtteranceId, language: Language, text: &str, stage: Partial) {
        let _ = (utterance, language, text, stage);
    }

    /// The words are known.
    fn transcribed(&self, utterance: UtteranceId, transcript: &Transcript, times: &Times);

    /// The whole translation into one language is known; its speech may have begun.
    fn translated(
        &self,
        utterance: UtteranceId,
        language: Language,
        translation: &Translation,
        times: &Times,
    );

    /// The next synthesised samples, 48 kHz mono, in order per utterance and language. The first of
    /// them comes `at_48k` samples after the utterance's first; what lies between is silence.
    fn speech(
        &self,
        utterance: UtteranceId,
        language: Language,
        at_48k: u64,
        samples_48k: &[f32],
        times: &Times,
    );

    /// Everything was synthesised.
    fn spoken(&self, utterance: UtteranceId, language: Language, times: &Times);

    /// The utterance ended early: for one language, or (`None`) before it was translated at all.
    fn dropped(
        &self,
        utterance: UtteranceId,
        language: Option<Language>,
        reason: DropReason,
        detail: &str,
    );

    /// The engine leaves more out, or less.
    fn tier(&self, tier: Tier) {
        let _ = tier;
    }
}

/// The engine's queue is full; the job comes back.
#[derive(Debug, thiserror::Error)]
#[error("the recognition queue is full")]
pub struct Refused(pub Box<Job>);

/// The running stages. Dropping it lets the queued utterances finish and then ends the threads.
pub struct Engine {
    stages: Arc<Stages>,
    speculation: Speculation,
    config: EngineConfig,
    threads: Option<Threads>,
    controller: Option<(Sender<()>, JoinHandle<()>)>,
    /// Times that each tier was entered.
    steps: Arc<Mutex<Vec<(Tier, u64)>>>,
}

impl Engine {
    /// Starts the stages.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        models: Arc<ModelsInUse>,
        config: &EngineConfig,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        let stages = Arc::new(Stages::new(models, observer, config));
        stages.set_tier(config.overload.pin.unwrap_or_default());
        let threads = stages.spawn(config)?;
        let mut engine = Self {
            stages,
            speculation: Speculation::default(),
            config: config.clone(),
            threads: Some(threads),
            controller: None,
            steps: Arc::default(),
        };
        engine.controller = Some(engine.control()?);
        Ok(engine)
    }

    /// Starts the thread that decides on the tier; it ends when the sender is dropped.
    fn control(&self) -> std::io::Result<(Sender<()>, JoinHandle<()>)> {
        let (stages, steps) = (Arc::clone(&self.stages), Arc::clone(&self.steps));
        let mut controller = Controller::new(self.config.overload.clone());
        let (end, ended) = bounded::<()>(0);
        let thread = named("pressure".to_owned(), move || {
            while ended.recv_timeout(MEASURED_EVERY) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                let pressure = stages.unheard.pressure(now);
                let Some(tier) = controller.observe(pressure, now) else { continue };
                tracing::warn!(tier = tier.label(), pressure, "the engine changes its tier");
                stages.set_tier(tier);
                count_step(&mut steps.lock(), tier);
                stages.observer.tier(tier);
            }
        })?;
        Ok((end, thread))
    }

    /// Recognises what an utterance may turn out to be, if a worker has nothing else to do. The
    /// result waits for [`submit`](Self::submit) or [`retract`](Self::retract).
    pub fn speculate(
        &self,
        utterance: UtteranceId,
        samples_16k: &[f32],
        from: Option<Language>,
    ) -> bool {
        if !self.config.speculate || self.stages.tier() >= Tier::NoSpeculation {
            return false;
        }
        let queue = &self.stages.transcribe.queue;
        // Guesses never take the room of what was said.
        if queue.len() * 2 >= self.config.queue {
            return false;
        }
        let until = Instant::now() + Duration::from_millis(self.config.speculative_deadline_ms);
        let guess = Arc::new(Guess::new(utterance, samples_16k.to_vec(), from, until));
        self.speculation.open(&guess);
        let taken = queue.try_push(Urgency::guess(until), Work::Guess(guess)).is_ok();
        if !taken {
            self.speculation.retract(utterance);
        }
        taken
    }

    /// The utterance went on, or will never end: whatever was guessed of it is void.
    pub fn retract(&self, utterance: UtteranceId) {
        self.speculation.retract(utterance);
    }

    /// Hands over an utterance without waiting. If its samples were recognised on speculation, that
    /// recognition is used.
    ///
    /// # Errors
    /// [`Refused`] with the job when the queue is full.
    pub fn submit(&self, job: Job) -> Result<(), Refused> {
        let (utterance, said, deadline) = (job.utterance, job.times.last_voiced, job.deadline);
        let urgency = urgency(&job.times, deadline);
        self.stages.unheard.waits(utterance, None, said, deadline);
        let work = match self.speculation.commit(Box::new(job)) {
            Commit::Alone(job) => Work::Recognise(job),
            Commit::Finished(recognised) => Work::Recognised(recognised),
            Commit::Claimed => return Ok(()),
        };
        self.stages.transcribe.queue.try_push(urgency, work).map_err(|Full(work)| {
            self.stages.unheard.settled(utterance, None);
            Refused(match work {
                Work::Recognise(job) => job,
                Work::Recognised(recognised) => Box::new(recognised.0),
                Work::Guess(_) => unreachable!("an utterance was pushed, not a guess"),
            })
        })
    }

    /// How long somebody new who would speak should stay away, if they should.
    pub fn refuses_for(&self) -> Option<Duration> {
        let overload = &self.config.overload;
        let refuses = overload.pin.is_none() && self.stages.tier() >= overload.refuse_from;
        refuses.then(|| Duration::from_millis(overload.low_ms))
    }

    /// How long after its end an utterance is worth speaking.
    pub fn deadline(&self, is_conference: bool) -> Duration {
        self.config.deadline(is_conference)
    }

    /// What it has done so far.
    pub fn stats(&self) -> EngineStats {
        EngineStats { steps: self.steps.lock().clone(), ..self.stages.stats(Instant::now()) }
    }
}

fn count_step(steps: &mut Vec<(Tier, u64)>, tier: Tier) {
    match steps.iter_mut().find(|(entered, _)| *entered == tier) {
        Some((_, count)) => *count += 1,
        None => steps.push((tier, 1)),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.controller.take() {
            drop(end);
            if thread.join().is_err() {
                tracing::error!("the thread that measures the pressure had panicked");
            }
        }
        if let Some(threads) = self.threads.take() {
            self.stages.finish(threads);
        }
    }
}

/// Whether the utterance is still worth speaking at `now`.
fn in_time(times: &Times, deadline: Duration, now: Instant) -> bool {
    now.saturating_duration_since(times.last_voiced) <= deadline
}
