//! What the stages have done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inference::batch::BatchStats;

use super::Tier;

/// Numbers of the engine since it started; queues and tier are of this moment.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// What is left out now.
    pub tier: Tier,
    /// Age of the oldest utterance that nobody has heard, as a share of its deadline.
    pub pressure: f64,
    /// Times that each tier was entered.
    pub steps: Vec<(Tier, u64)>,
    /// Transcribe, translate, speak.
    pub stages: Vec<StageStats>,
    /// Batches by stage and model.
    pub batches: Vec<(&'static str, String, BatchStats)>,
}

/// Numbers of one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageStats {
    /// Its name.
    pub stage: &'static str,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// How long the oldest of them has waited.
    pub longest_wait: Duration,
    /// Requests that were begun.
    pub begun: u64,
    /// How long they had waited, all together.
    pub waited: Duration,
    /// How long they took, all together.
    pub took: Duration,
    /// Sound that they were about: heard by the recogniser, made by the voices. Divided by what they
    /// took it is the inverse of the real-time factor.
    pub sound: Duration,
    /// Times that a worker panicked and went on with the next request.
    pub panics: u64,
}

/// What workers count.
#[derive(Debug, Default)]
pub(super) struct Counts {
    begun: AtomicU64,
    waited_us: AtomicU64,
    took_us: AtomicU64,
    sound_us: AtomicU64,
    panics: AtomicU64,
}

impl Counts {
    pub(super) fn began(&self, waited: Duration) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        add(&self.waited_us, waited);
    }

    pub(super) fn took(&self, time: Duration) {
        add(&self.took_us, time);
    }

    pub(super) fn sounded(&self, sound: Duration) {
        add(&self.sound_us, sound);
    }

    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(
        &self,
        stage: &'static str,
        waiting: usize,
        longest_wait: Duration,
    ) -> StageStats {
        let time = |micros: &AtomicU64| Duration::from_micros(micros.load(Ordering::Relaxed));
        StageStats {
            stage,
            waiting,
            longest_wait,
            begun: self.begun.load(Ordering::Relaxed),
            waited: time(&self.waited_us),
            took: time(&self.took_us),
            sound: time(&self.sound_us),
            panics: self.panics.load(Ordering::Relaxed),
        }
    }
}

fn add(sum: &AtomicU64, time: Duration) {
    sum.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}
