//! Lets a few threads compute at a time, the most urgent first: for work that is not batched.

use std::collections::BTreeSet;

use parking_lot::{Condvar, Mutex};

use super::Urgency;

/// A number of permits. Whoever comes when all are taken waits, behind those who are more urgent.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BTreeSet<(Urgency, u64)>,
    arrivals: u64,
}

/// The right to compute, given back when dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a Gate);

impl Gate {
    /// A gate with so many permits, at least one.
    pub fn new(permits: usize) -> Self {
        let state = State { free: permits.max(1), waiting: BTreeSet::new(), arrivals: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for a permit.
    pub fn enter(&self, urgency: Urgency) -> Permit<'_> {
        let mut state = self.state.lock();
        state.arrivals += 1;
        let own = (urgency, state.arrivals);
        state.waiting.insert(own);
        while state.free == 0 || state.waiting.first() != Some(&own) {
            self.changed.wait(&mut state);
        }
        state.waiting.remove(&own);
        state.free -= 1;
        if state.free > 0 {
            // Several may have come free at once: the next in line looks too.
            self.changed.notify_all();
        }
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state.lock().free += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn no_more_pass_at_a_time_than_there_are_permits() {
        let (gate, inside, most) = (Gate::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let _permit = gate.enter(Urgency::default());
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.into_inner(), 2);
    }

    #[test]
    fn the_most_urgent_of_those_who_wait_is_next() {
        let gate = Gate::new(1);
        let order = Mutex::new(Vec::new());
        let now = Instant::now();
        let held = gate.enter(Urgency::default());
        std::thread::scope(|scope| {
            for (name, urgency) in [
                ("guess", Urgency::guess(now)),
                ("late", Urgency::by(now + Duration::from_secs(9))),
                ("soon", Urgency::by(now)),
            ] {
                let (gate, order) = (&gate, &order);
                scope.spawn(move || {
                    let _permit = gate.enter(urgency);
                    order.lock().push(name);
                });
            }
            while gate.state.lock().waiting.len() < 3 {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(order.into_inner(), ["soon", "late", "guess"]);
    }
}
