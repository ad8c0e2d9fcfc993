//! A bounded queue that gives out the most urgent first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Urgency;

/// The queue had no room, or was closed; what should have gone in comes back.
#[derive(Debug, thiserror::Error)]
#[error("the queue is full")]
pub struct Full<T>(pub T);

/// What came out of the queue.
#[derive(Debug)]
pub struct Waited<T> {
    /// What had gone in.
    pub item: T,
    /// How urgent it was said to be.
    pub urgency: Urgency,
    /// When it had gone in.
    pub since: Instant,
}

/// Among equally urgent ones the first to come is the first to go. Full: whoever pushes is refused or
/// waits, as they choose.
#[derive(Debug)]
pub struct PriorityQueue<T> {
    state: Mutex<State<T>>,
    /// Something came in, or the queue was closed.
    filled: Condvar,
    /// Something went out, or the queue was closed.
    emptied: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    entries: BTreeMap<(Urgency, u64), (T, Instant)>,
    arrivals: u64,
    is_closed: bool,
}

impl<T> State<T> {
    fn insert(&mut self, urgency: Urgency, item: T, since: Instant) {
        self.arrivals += 1;
        self.entries.insert((urgency, self.arrivals), (item, since));
    }

    fn take(&mut self) -> Option<Waited<T>> {
        let ((urgency, _), (item, since)) = self.entries.pop_first()?;
        Some(Waited { item, urgency, since })
    }
}

impl<T> PriorityQueue<T> {
    /// A queue for at most `capacity` items, at least one.
    pub fn new(capacity: usize) -> Self {
        let state = State { entries: BTreeMap::new(), arrivals: 0, is_closed: false };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            capacity: capacity.max(1),
        }
    }

    /// Puts an item in.
    ///
    /// # Errors
    /// [`Full`] with the item.
    pub fn try_push(&self, urgency: Urgency, item: T) -> Result<(), Full<T>> {
        let mut state = self.state.lock();
        if state.is_closed || state.entries.len() >= self.capacity {
            return Err(Full(item));
        }
        state.insert(urgency, item, Instant::now());
        self.filled.notify_one();
        Ok(())
    }

    /// Puts an item in, as soon as there is room for it.
    ///
    /// # Errors
    /// [`Full`] with the item when the queue was closed.
    pub fn push(&self, urgency: Urgency, item: T) -> Result<(), Full<T>> {
        let mut state = self.state.lock();
        while !state.is_closed && state.entries.len() >= self.capacity {
            self.emptied.wait(&mut state);
        }
        if state.is_closed {
            return Err(Full(item));
        }
        state.insert(urgency, item, Instant::now());
        self.filled.notify_one();
        Ok(())
    }

    /// Puts back an item that came out and is not done with; never refused, for whoever takes things
    /// out must not wait for room.
    pub fn put_back(&self, urgency: Urgency, item: T) {
        self.state.lock().insert(urgency, item, Instant::now());
        self.filled.notify_one();
    }

    /// The most urgent item, as soon as there is one; `None` when the queue was closed and is empty.
    pub fn pop(&self) -> Option<Waited<T>> {
        let mut state = self.state.lock();
        loop {
            if let Some(waited) = state.take() {
                self.emptied.notify_one();
                return Some(waited);
            }
            if state.is_closed {
                return None;
            }
            self.filled.wait(&mut state);
        }
    }

    /// The most urgent item, if one comes before `until`.
    pub fn pop_until(&self, until: Instant) -> Option<Waited<T>> {
        let mut state = self.state.lock();
        loop {
            if let Some(waited) = state.take() {
                self.emptied.notify_one();
                return Some(waited);
            }
            if state.is_closed || self.filled.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
    }

    /// The most urgent item, if there is one.
    pub fn try_pop(&self) -> Option<Waited<T>> {
        let waited = self.state.lock().take();
        if waited.is_some() {
            self.emptied.notify_one();
        }
        waited
    }

    /// Nothing goes in anymore; what is in still comes out.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long the one that has waited longest has waited.
    pub fn longest_wait(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        let oldest = state.entries.values().map(|(_, since)| *since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_comes_out_first_and_equals_in_the_order_of_their_coming() {
        let queue = PriorityQueue::new(8);
        let now = Instant::now();
        for (urgency, item) in [
            (Urgency::guess(now), "guess"),
            (Urgency::default(), "first"),
            (Urgency::default(), "second"),
            (Urgency::by(now), "urgent"),
        ] {
            queue.try_push(urgency, item).expect("room");
        }
        assert_eq!(queue.len(), 4);
        queue.close();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|waited| waited.item).collect();
        assert_eq!(order, ["urgent", "first", "second", "guess"]);
    }

    #[test]
    fn a_full_queue_refuses_and_gives_the_item_back() {
        let queue = PriorityQueue::new(1);
        queue.try_push(Urgency::default(), 1).expect("room");
        assert_eq!(queue.try_push(Urgency::default(), 2).expect_err("full").0, 2);
        queue.close();
        assert_eq!(queue.pop().map(|waited| waited.item), Some(1));
        assert_eq!(queue.try_push(Urgency::default(), 3).expect_err("closed").0, 3);
    }

    #[test]
    fn what_is_put_back_is_never_refused() {
        let queue = PriorityQueue::new(1);
        queue.try_push(Urgency::default(), 1).expect("room");
        queue.put_back(Urgency::guess(Instant::now()), 2);
        queue.close();
        queue.put_back(Urgency::guess(Instant::now()), 3);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|waited| waited.item).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn whoever_waits_for_room_goes_on_when_something_went_out_or_the_queue_was_closed() {
        let queue = PriorityQueue::new(1);
        queue.try_push(Urgency::default(), 1).expect("room");
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| queue.push(Urgency::default(), 2));
            assert_eq!(queue.pop().map(|waited| waited.item), Some(1));
            assert!(pushed.join().expect("no panic").is_ok());
            let refused = scope.spawn(|| queue.push(Urgency::default(), 3));
            queue.close();
            assert_eq!(refused.join().expect("no panic").expect_err("closed").0, 3);
        });
    }

    #[test]
    fn waiting_for_an_item_ends_with_the_item_or_with_the_time() {
        let queue = PriorityQueue::new(1);
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(queue.pop_until(soon).is_none());
        assert!(Instant::now() >= soon);
        queue.try_push(Urgency::default(), 1).expect("room");
        assert!(
            queue.longest_wait(Instant::now() + Duration::from_secs(1)) >= Duration::from_secs(1)
        );
        assert!(queue.pop_until(Instant::now()).is_some());
        assert_eq!(queue.longest_wait(Instant::now()), Duration::ZERO);
    }
}
