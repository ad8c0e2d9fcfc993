//! How many datagrams a peer may send. What it sends beyond that is dropped before anything costly
//! looks at it, so that no peer, and nobody who forges a peer's address, can keep a worker from the
//! others.

use std::time::{Duration, Instant};

/// Datagrams a second: a microphone with packets of 10 ms sends a hundred, reports and checks a few
/// more.
const PER_SECOND: u32 = 500;
/// Datagrams at once: what a second without network delivers when it comes back, twice.
const BURST: u32 = 500;

/// A bucket of tokens, one for each datagram, that fills at a steady pace.
#[derive(Debug)]
pub struct Limiter {
    tokens: u32,
    filled: Instant,
}

impl Limiter {
    /// Time in which one token comes in.
    const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND as u64);

    /// A full bucket.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// Takes a token; false when there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled);
        let earned = elapsed.as_nanos() / Self::INTERVAL.as_nanos();
        match u32::try_from(earned) {
            Ok(earned) if earned < BURST => {
                self.filled += Self::INTERVAL * earned;
                self.tokens = (self.tokens + earned).min(BURST);
            }
            _ => {
                self.filled = now;
                self.tokens = BURST;
            }
        }
        let has_token = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(per_second: u32, seconds: u32) -> u32 {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        let sent = per_second * seconds;
        let passed = (0..sent)
            .filter(|n| limiter.take(start + Duration::from_secs(1) * *n / per_second))
            .count();
        u32::try_from(passed).expect("fewer than were sent")
    }

    #[test]
    fn what_an_honest_peer_sends_passes_and_of_a_flood_the_steady_pace() {
        assert_eq!(passed(100, 60), 6_000);
        assert_eq!(passed(PER_SECOND, 10), 10 * PER_SECOND);
        let flood = passed(10_000, 4);
        assert!((4 * PER_SECOND..=4 * PER_SECOND + BURST).contains(&flood), "{flood}");
    }

    #[test]
    fn after_a_flood_a_second_of_quiet_is_enough() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start);
        while limiter.take(start) {}
        let later = start + Duration::from_secs(1);
        assert_eq!((0..2 * BURST).filter(|_| limiter.take(later)).count(), BURST as usize);
    }
}
