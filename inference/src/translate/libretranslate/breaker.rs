//! The circuit breaker: a server that fails again and again is left alone for a while, so that no
//! speaker waits for its timeout.
//!
//! Closed, every request passes. After some failures in a row it opens and none does. When it has
//! been open long enough one request passes as a probe: its success closes the breaker, its failure
//! opens it anew. Time is an argument.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// How long it stays open before a probe, at first and at most; each failed probe doubles it.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(120);

/// See the module's description.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    rest: Duration,
    /// When the next probe may pass; `None` while closed.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, rest: FIRST_REST, open_until: None }
    }

    /// Whether a request may pass at `now`. In the open state one probe at a time is let through;
    /// while it is out, or if nothing is ever heard of it, the next has to wait for another rest.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now >= until => {
                self.open_until = Some(now + self.rest);
                true
            }
            Some(_) => false,
        }
    }

    /// The server answered as it should; `true` when that closed the breaker.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = self.open_until.is_some();
        *self = Self::new();
        was_open
    }

    /// The server failed at `now`; `true` when that opened the breaker.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return false;
        }
        let was_open = self.open_until.is_some();
        if was_open {
            self.rest = (2 * self.rest).min(LONGEST_REST);
        }
        self.open_until = Some(now + self.rest);
        !was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_open_it_and_a_good_probe_closes_it() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new();
        assert!(!breaker.failed(now));
        assert!(!breaker.succeeded(), "it was not open");
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.allows(now));
        assert!(breaker.failed(now), "the third in a row");
        assert!(!breaker.allows(now));
        now += FIRST_REST;
        assert!(breaker.allows(now), "the probe");
        assert!(!breaker.allows(now), "one at a time");
        assert!(breaker.succeeded());
        assert!(breaker.allows(now) && breaker.allows(now));
    }

    #[test]
    fn each_failed_probe_doubles_the_rest_up_to_two_minutes() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new();
        let opened = (0..FAILURES).filter(|_| breaker.failed(now)).count();
        assert_eq!(opened, 1);
        for rest in [5, 10, 20, 40, 80, 120, 120] {
            assert!(!breaker.allows(now + Duration::from_millis(rest * 1000 - 1)));
            now += Duration::from_secs(rest);
            assert!(breaker.allows(now), "{rest}");
            assert!(!breaker.failed(now), "it was open already");
        }
    }
}
