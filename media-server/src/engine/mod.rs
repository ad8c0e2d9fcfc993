//! The engine: what happens to an utterance between the segmenter and the playout.
//!
//! Three stages with a thread budget each (recognition, translation, synthesis) are joined by
//! bounded channels. A stage that is full holds up the one before it, and a full first stage
//! refuses the utterance ([`Refused`]): memory never grows with load, and whoever submits decides
//! what to tell the speaker. Inside an utterance the stages overlap: the first translated clause is
//! spoken while the rest is still being translated.
//!
//! The engine knows neither rooms nor networks. Whoever runs it (the server, or the command that
//! interprets a file) listens through an [`Observer`].

mod models;
mod stages;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};
use inference::translate::Translation;
use inference::whisper::Transcript;
use inference::{CancelToken, Language};
use serde::{Deserialize, Serialize};

pub use self::models::{ModelError, Models, ModelsConfig, TranslatorName, VoiceName};
use self::stages::Stages;
use crate::trace::Times;

/// Sample rate of the synthesised speech that leaves the engine, in Hz (mono).
pub const SPOKEN_RATE_HZ: u32 = 48_000;

/// Thread budgets, queues and deadlines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Utterances recognised at a time; each takes one thread.
    pub transcribe_workers: usize,
    /// Utterances translated at a time.
    pub translate_workers: usize,
    /// Utterances spoken at a time.
    pub speak_workers: usize,
    /// Utterances that may wait for recognition before new ones are refused.
    pub queue: usize,
    /// How long after its end an utterance is still worth speaking; later it is captioned only.
    pub deadline_ms: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            transcribe_workers: 1,
            translate_workers: 1,
            speak_workers: 1,
            queue: 16,
            deadline_ms: 6_000,
        }
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

/// One utterance to interpret.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which utterance.
    pub utterance: UtteranceId,
    /// The segment, 16 kHz mono.
    pub samples_16k: Vec<f32>,
    /// The spoken language; `None` detects it.
    pub from: Option<Language>,
    /// The languages wanted, each once.
    pub targets: Vec<Language>,
    /// When it was spoken.
    pub times: Times,
    /// Whether it is spoken, or captioned only.
    pub voiced: bool,
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
    /// The queue was full.
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

/// What the engine reports. Called on the stages' threads: an observer must not block for long.
pub trait Observer: Send + Sync {
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
}

/// The engine's queue is full; the job comes back.
#[derive(Debug, thiserror::Error)]
#[error("the recognition queue is full")]
pub struct Refused(pub Box<Job>);

/// The running stages. Dropping it lets the queued utterances finish and then ends the threads.
pub struct Engine {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts the stages.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        models: Arc<Models>,
        config: &EngineConfig,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        // Full: `submit` refuses the newest utterance.
        let (jobs, waiting) = bounded(config.queue.max(1));
        let stages =
            Stages { models, observer, deadline: Duration::from_millis(config.deadline_ms) };
        let threads = stages.spawn(config, &waiting)?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Hands over an utterance without waiting.
    ///
    /// # Errors
    /// [`Refused`] with the job when the queue is full.
    pub fn submit(&self, job: Job) -> Result<(), Refused> {
        let jobs = self.jobs.as_ref().expect("the sender lives until the engine is dropped");
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Refused(Box::new(job)),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an inference thread had panicked");
            }
        }
    }
}

/// Whether the utterance is still worth speaking at `now`.
fn in_time(times: &Times, deadline: Duration, now: Instant) -> bool {
    now.saturating_duration_since(times.last_voiced) <= deadline
}
