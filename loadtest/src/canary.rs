//! The load generator watches itself: a timer among the callers notices when they are late. What a
//! late generator measured says nothing about the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::distribution::Distribution;

/// How often the timer is due.
const INTERVAL: Duration = Duration::from_millis(5);
/// The 99th percentile of its lateness has to stay below one packet's time.
pub const LIMIT_MS: f64 = 20.0;

/// A running timer; it ends when it is dropped.
#[derive(Debug)]
pub struct Canary {
    lateness: Arc<Mutex<Distribution>>,
    task: JoinHandle<()>,
}

impl Canary {
    /// Starts it on the runtime that the callers run on, because it must be late when they are.
    #[must_use]
    pub fn start() -> Self {
        let lateness = Arc::new(Mutex::new(Distribution::default()));
        let task = tokio::spawn(watch(Arc::clone(&lateness)));
        Self { lateness, task }
    }

    /// How late it was so far. A stall counts for every time it should have been due meanwhile.
    #[must_use]
    pub fn lateness(&self) -> Distribution {
        self.lateness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a generator this late may be believed.
#[must_use]
pub fn is_valid(lateness: &Distribution) -> bool {
    lateness.quantile_ms(0.99) <= LIMIT_MS
}

async fn watch(lateness: Arc<Mutex<Distribution>>) {
    loop {
        let due = Instant::now() + INTERVAL;
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed();
        lateness.lock().unwrap_or_else(PoisonError::into_inner).record_every(late, INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_generator_is_believed_and_a_stalled_one_is_not() {
        let canary = Canary::start();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(canary.lateness().count() > 20);
        // A callers' task that blocks the only thread.
        std::thread::sleep(Duration::from_millis(600));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let lateness = canary.lateness();
        assert!(!is_valid(&lateness), "{:?}", lateness.summary());
        assert!(lateness.summary().max >= 580.0, "{:?}", lateness.summary());
    }
}
