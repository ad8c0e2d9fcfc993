//! What waits for one receiver, and what is next: the messages of a room in their order, and none of
//! another room behind one that is waiting for its next attempt.
//!
//! No clock: instants are arguments.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::Message;

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A message and what was tried.
#[derive(Debug)]
struct Waiting {
    message: Arc<Message>,
    failures: u32,
    due: Instant,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Post it and say how it went.
    Post(Arc<Message>),
    /// Nothing is due before.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

/// The messages of one receiver, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    capacity: usize,
    attempts: u32,
    first_pause: Duration,
}

impl Queue {
    pub(super) fn new(capacity: usize, attempts: u32, first_pause: Duration) -> Self {
        let (capacity, attempts) = (capacity.max(1), attempts.max(1));
        Self { waiting: VecDeque::new(), capacity, attempts, first_pause }
    }

    /// Gives back the oldest one when it had to make room.
    pub(super) fn put(&mut self, message: Arc<Message>, now: Instant) -> Option<Arc<Message>> {
        let full = self.waiting.len() >= self.capacity;
        let oldest = full.then(|| self.waiting.pop_front()).flatten();
        self.waiting.push_back(Waiting { message, failures: 0, due: now });
        oldest.map(|oldest| oldest.message)
    }

    pub(super) fn next(&self, now: Instant) -> Next {
        let mut held = HashSet::new();
        let mut earliest: Option<Instant> = None;
        for waiting in &self.waiting {
            if !held.insert(waiting.message.room.as_str()) {
                continue;
            }
            if waiting.due <= now {
                return Next::Post(Arc::clone(&waiting.message));
            }
            earliest = Some(earliest.map_or(waiting.due, |due| due.min(waiting.due)));
        }
        earliest.map_or(Next::Nothing, Next::At)
    }

    /// It was taken, or will never be.
    pub(super) fn done(&mut self, message: &Message) {
        self.waiting.retain(|waiting| waiting.message.id != message.id);
    }

    /// An attempt failed. `chance` lies between 0 and 1. Whether there is another one.
    pub(super) fn failed(&mut self, message: &Message, now: Instant, chance: f64) -> bool {
        let Some(waiting) = self.waiting.iter_mut().find(|one| one.message.id == message.id) else {
            return false;
        };
        waiting.failures += 1;
        if waiting.failures >= self.attempts {
            self.done(message);
            return false;
        }
        let doubled = 2_u32.saturating_pow(waiting.failures - 1);
        let pause = self.first_pause.saturating_mul(doubled).min(LONGEST_PAUSE);
        // Receivers that failed together are not asked together again.
        waiting.due = now + pause.mul_f64(1.0 - chance / 2.0);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn message(room: &str, id: &str) -> Arc<Message> {
        Arc::new(Message { id: id.to_owned(), room: room.to_owned(), body: String::new() })
    }

    fn next(queue: &Queue, now: Instant) -> Option<Arc<Message>> {
        match queue.next(now) {
            Next::Post(message) => Some(message),
            Next::At(_) | Next::Nothing => None,
        }
    }

    #[test]
    fn a_room_waits_for_its_earlier_message_and_holds_up_no_other() {
        let mut queue = Queue::new(10, 5, PAUSE);
        let now = Instant::now();
        for (room, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
            assert!(queue.put(message(room, id), now).is_none());
        }
        let first = next(&queue, now).unwrap();
        assert_eq!(first.id, "a1");
        assert!(queue.failed(&first, now, 0.0));
        let other = next(&queue, now).unwrap();
        assert_eq!(other.id, "b1", "a2 waits for a1");
        queue.done(&other);
        assert!(matches!(queue.next(now), Next::At(due) if due == now + PAUSE));
        let again = next(&queue, now + PAUSE).unwrap();
        assert_eq!(again.id, "a1");
        queue.done(&again);
        assert_eq!(next(&queue, now + PAUSE).unwrap().id, "a2");
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_the_last_attempt_is_the_last() {
        let mut queue = Queue::new(10, 12, PAUSE);
        let now = Instant::now();
        let message = message("a", "a1");
        queue.put(Arc::clone(&message), now);
        let mut pauses = Vec::new();
        while queue.failed(&message, now, 0.0) {
            let Next::At(due) = queue.next(now) else { panic!("it is due at once") };
            pauses.push((due - now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(matches!(queue.next(now), Next::Nothing));
    }

    #[test]
    fn chance_takes_up_to_half_of_a_pause() {
        let mut queue = Queue::new(10, 12, PAUSE);
        let now = Instant::now();
        let message = message("a", "a1");
        queue.put(Arc::clone(&message), now);
        assert!(queue.failed(&message, now, 1.0));
        assert!(matches!(queue.next(now), Next::At(due) if due == now + PAUSE / 2));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut queue = Queue::new(2, 5, PAUSE);
        let now = Instant::now();
        assert!(queue.put(message("a", "a1"), now).is_none());
        assert!(queue.put(message("a", "a2"), now).is_none());
        let dropped = queue.put(message("a", "a3"), now).unwrap();
        assert_eq!(dropped.id, "a1");
        assert!(!queue.failed(&dropped, now, 0.0), "it is gone, whatever became of the attempt");
        assert_eq!(next(&queue, now).unwrap().id, "a2");
    }
}
