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
mod speculation;
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
use self::speculation::{Commit, Guess, Speculation};
use self::stages::{Stages, Work};
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
    /// Whether a worker with nothing to do recognises what was said as soon as the speaker pauses.
    pub speculate: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            transcribe_workers: 1,
            translate_workers: 1,
            speak_workers: 1,
            queue: 16,
            deadline_ms: 6_000,
            speculate: true,
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
}

/// The engine's queue is full; the job comes back.
#[derive(Debug, thiserror::Error)]
#[error("the recognition queue is full")]
pub struct Refused(pub Box<Job>);

/// The running stages. Dropping it lets the queued utterances finish and then ends the threads.
pub struct Engine {
    senders: Option<Senders>,
    speculation: Arc<Speculation>,
    speculate: bool,
    threads: Vec<JoinHandle<()>>,
}

struct Senders {
    work: Sender<Work>,
    /// Without room: what is sent is taken by a worker that waits, or by none.
    guesses: Sender<Arc<Guess>>,
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
        let (work, waiting) = bounded(config.queue.max(1));
        let (guesses, offered) = bounded(0);
        let stages =
            Stages { models, observer, deadline: Duration::from_millis(config.deadline_ms) };
        let threads = stages.spawn(config, &waiting, &offered)?;
        Ok(Self {
            senders: Some(Senders { work, guesses }),
            speculation: Arc::default(),
            speculate: config.speculate,
            threads,
        })
    }

    fn senders(&self) -> &Senders {
        self.senders.as_ref().expect("the senders live until the engine is dropped")
    }

    /// Recognises what an utterance may turn out to be, if a worker has nothing else to do. The
    /// result waits for [`submit`](Self::submit) or [`retract`](Self::retract).
    pub fn speculate(
        &self,
        utterance: UtteranceId,
        samples_16k: &[f32],
        from: Option<Language>,
    ) -> bool {
        if !self.speculate {
            return false;
        }
        let guess = Arc::new(Guess::new(utterance, samples_16k.to_vec(), from));
        self.speculation.open(&guess);
        let taken = self.senders().guesses.try_send(guess).is_ok();
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
        let work = match self.speculation.commit(Box::new(job)) {
            Commit::Alone(job) => Work::Recognise(job),
            Commit::Finished(recognised) => Work::Recognised(recognised),
            Commit::Claimed => return Ok(()),
        };
        self.senders().work.try_send(work).map_err(|error| match error {
            TrySendError::Full(work) | TrySendError::Disconnected(work) => Refused(match work {
                Work::Recognise(job) => job,
                Work::Recognised(recognised) => Box::new(recognised.0),
            }),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.senders = None;
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
