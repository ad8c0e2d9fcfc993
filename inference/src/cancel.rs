//! A flag that tells a running computation to stop at its next step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels a request from another thread. Models look at it between decoder steps and between
/// synthesised clauses; a cancelled request ends with the `Cancelled` variant of its error.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every computation that holds a clone of this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
