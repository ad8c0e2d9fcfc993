//! What the HTTP face counts, for the operator's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows, or goes up and down.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All numbers since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections that were accepted.
    pub connections: Count,
    /// Connections that asked nothing in time, or not what HTTP is.
    pub connections_dropped: Count,
    /// Requests that a rate limit refused.
    pub limited: Count,
    /// Event streams that were let go because their client fell behind.
    pub streams_lagged: Count,
    /// Webhooks that a receiver took.
    pub webhooks_delivered: Count,
    /// Attempts at a webhook that failed.
    pub webhooks_failed: Count,
    /// Webhooks that were given up, or dropped because too many waited.
    pub webhooks_lost: Count,
}
