//! A thread that does one piece of work after the other, nicely, from a short queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};
use signaling::studio::StudioError;

/// Seconds after which a refused client may try again: a request takes about that long.
const RETRY_AFTER_S: u32 = 5;

type Work = Box<dyn FnOnce() + Send>;

/// See the module's description. Dropping it waits for what is queued, which those who asked have
/// called off by then.
pub(super) struct Lane {
    /// Full: the newest work is refused.
    queue: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts the thread; `queue` pieces of work may wait.
    pub(super) fn start(name: &str, queue: usize) -> std::io::Result<Self> {
        let (queue, work) = bounded::<Work>(queue.max(1));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            crate::priority::give_way();
            for work in work {
                // One request that a model breaks over must not end those after it.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("a request of the studio panicked");
                }
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a piece of work without waiting.
    ///
    /// # Errors
    /// [`StudioError::Overloaded`] when the queue is full.
    pub(super) fn submit(&self, work: impl FnOnce() + Send + 'static) -> Result<(), StudioError> {
        let queue = self.queue.as_ref().expect("the queue lives until the lane is dropped");
        queue.try_send(Box::new(work)).map_err(|error| match error {
            TrySendError::Full(_) => StudioError::Overloaded { retry_after_s: RETRY_AFTER_S },
            TrySendError::Disconnected(_) => {
                StudioError::Internal("the studio's thread is gone".to_owned())
            }
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the studio had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_a_panic_ends_only_its_own_request() {
        let lane = Lane::start("lane", 1).expect("a thread");
        let (release, held) = bounded::<()>(0);
        let (started, starts) = bounded::<()>(0);
        lane.submit(move || {
            started.send(()).expect("the test waits");
            held.recv().expect("the test releases it");
            panic!("as the test wants it");
        })
        .expect("an empty lane");
        starts.recv().expect("it runs");
        let (done, outcome) = bounded::<()>(1);
        lane.submit(move || done.send(()).expect("room for one")).expect("room for one");
        let refused = lane.submit(|| {}).expect_err("full");
        assert!(matches!(refused, StudioError::Overloaded { .. }), "{refused}");
        release.send(()).expect("the first waits");
        outcome.recv().expect("the second is done after the first panicked");
    }
}
