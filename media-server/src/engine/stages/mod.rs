//! The three stages: a queue before each, the most urgent first, and threads that work on it.

mod speak;
mod speech;
mod transcribe;
mod translate;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inference::batch::{PriorityQueue, Urgency, Waited};
use inference::{CancelToken, Language};
use parking_lot::Mutex;

use self::speech::Speech;
use super::pressure::{Tier, Unheard};
use super::speculation::{Guess, Recognition};
use super::stats::{Counts, EngineStats};
use super::{DropReason, EngineConfig, Job, ModelsInUse, Observer, UtteranceId};
use crate::trace::Times;

/// What the recognising workers are given.
pub(super) enum Work {
    /// An utterance.
    Recognise(Box<Job>),
    /// An utterance whose words were known when it ended.
    Recognised(Box<(Job, Recognition)>),
    /// What may turn out to be one.
    Guess(Arc<Guess>),
}

/// An utterance on its way into one language, shared by the translating and speaking threads.
struct Task {
    utterance: UtteranceId,
    language: Language,
    voice: Option<String>,
    times: Mutex<Times>,
    speech: Mutex<Speech>,
    deadline: Duration,
    is_heard: bool,
    voiced: bool,
    cancel: CancelToken,
}

struct TranslateJob {
    task: Arc<Task>,
    from: Language,
    text: String,
}

/// What every thread of the engine needs.
pub(super) struct Stages {
    pub(super) models: Arc<ModelsInUse>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) unheard: Unheard,
    /// What is left out at present.
    tier: Mutex<Tier>,
    /// Full: `Engine::submit` refuses the newest utterance.
    pub(super) transcribe: Stage<Work>,
    /// Full: recognition waits, until its own queue refuses new utterances.
    translate: Stage<TranslateJob>,
    /// Full: translation waits.
    speak: Stage<Arc<Task>>,
}

/// A queue and what was counted of those that it held.
pub(super) struct Stage<T> {
    name: &'static str,
    pub(super) queue: PriorityQueue<T>,
    counts: Counts,
}

impl<T> Stage<T> {
    fn new(name: &'static str, capacity: usize) -> Self {
        Self { name, queue: PriorityQueue::new(capacity), counts: Counts::default() }
    }

    /// Works on what comes until the queue is closed and empty.
    fn work(&self, mut on: impl FnMut(T)) {
        while let Some(Waited { item, since, .. }) = self.queue.pop() {
            let began = Instant::now();
            self.counts.began(began.saturating_duration_since(since));
            on(item);
            self.counts.took(began.elapsed());
        }
    }
}

/// The threads of each stage, in the order of the stages.
pub(super) struct Threads([Vec<JoinHandle<()>>; 3]);

impl Stages {
    pub(super) fn new(
        models: Arc<ModelsInUse>,
        observer: Arc<dyn Observer>,
        config: &EngineConfig,
    ) -> Self {
        Self {
            models,
            observer,
            unheard: Unheard::default(),
            tier: Mutex::default(),
            transcribe: Stage::new("transcribe", config.queue),
            translate: Stage::new("translate", config.queue),
            speak: Stage::new("speak", config.queue),
        }
    }

    /// Starts the threads.
    pub(super) fn spawn(self: &Arc<Self>, config: &EngineConfig) -> std::io::Result<Threads> {
        let spawn = |count: usize, name: &str, work: fn(&Self)| {
            (0..count.max(1))
                .map(|index| {
                    let stages = Arc::clone(self);
                    named(format!("{name}-{index}"), move || work(&stages))
                })
                .collect::<std::io::Result<Vec<_>>>()
        };
        Ok(Threads([
            spawn(config.transcribe_workers, "transcribe", |stages| {
                stages.transcribe.work(|work| stages.transcribe(work));
            })?,
            spawn(config.translate_workers, "translate", |stages| {
                stages.translate.work(|job| stages.translate(&job));
            })?,
            spawn(config.speak_workers, "speak", |stages| {
                stages.speak.work(|task| stages.speak(&task));
            })?,
        ]))
    }

    /// Lets what is queued finish, stage by stage, and ends the threads.
    pub(super) fn finish(&self, Threads([transcribe, translate, speak]): Threads) {
        self.transcribe.queue.close();
        join(transcribe);
        self.translate.queue.close();
        join(translate);
        self.speak.queue.close();
        join(speak);
    }

    pub(super) fn tier(&self) -> Tier {
        *self.tier.lock()
    }

    pub(super) fn set_tier(&self, tier: Tier) {
        *self.tier.lock() = tier;
    }

    pub(super) fn stats(&self, now: Instant) -> EngineStats {
        fn of<T>(stage: &Stage<T>, now: Instant) -> super::StageStats {
            let Stage { name, queue, counts } = stage;
            counts.stats(name, queue.len(), queue.longest_wait(now))
        }
        let models = self.models.get();
        let recogniser = models.recogniser.batch_stats();
        let recogniser = recogniser.map(|stats| ("transcribe", "whisper".to_owned(), stats));
        let translators = models.translator.batch_stats().into_iter();
        let translators = translators.map(|(name, stats)| ("translate", name, stats));
        let voices = models.voices.batch_stats().into_iter();
        let voices = voices.map(|(name, stats)| ("speak", name, stats));
        EngineStats {
            tier: self.tier(),
            pressure: self.unheard.pressure(now),
            steps: Vec::new(),
            stages: vec![of(&self.transcribe, now), of(&self.translate, now), of(&self.speak, now)],
            batches: recogniser.into_iter().chain(translators).chain(voices).collect(),
        }
    }

    fn drop_task(&self, task: &Task, reason: DropReason, detail: &str) {
        self.unheard.settled(task.utterance, Some(task.language));
        self.observer.dropped(task.utterance, Some(task.language), reason, detail);
    }
}

impl Task {
    /// Its place among the translations: the nearest deadline first.
    fn urgency(&self) -> Urgency {
        urgency(&self.times.lock(), self.deadline)
    }
}

/// An utterance's place among others: the nearest deadline first.
pub(super) fn urgency(times: &Times, deadline: Duration) -> Urgency {
    let deadline = times.last_voiced.checked_add(deadline);
    Urgency { deadline, ..Urgency::default() }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("an inference thread had panicked");
        }
    }
}

pub(super) fn named(
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        crate::priority::give_way();
        body();
    })
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}
