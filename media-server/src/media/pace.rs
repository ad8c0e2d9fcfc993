//! How evenly a peer's packets come, and how long its sound should therefore wait to be mixed.
//!
//! A packet's *transit* is its arrival on our clock minus its timestamp on the sender's; only
//! differences mean something. Its *lateness* is its transit beyond that of the fastest packet of
//! the last two seconds, short enough for the drift between the clocks not to matter. The wait that
//! is aimed at covers 985 of 1000 latenesses, where old ones fade away in some seconds.
//!
//! The wait that *is* counts likewise for the fastest packet: how long after its arrival its first
//! sample is played. A sender whose clock runs fast makes it grow, a slow one makes it shrink, so
//! holding it at its target corrects drift in both directions.
//!
//! No audio, no clock: instants and numbers of samples in, numbers of samples out. All at 48 kHz.

use std::time::Instant;

/// Packets that a minimum or maximum is taken over: two seconds of 20 ms packets.
const WINDOW: usize = 100;
/// Width of a bucket of latenesses: 10 ms. There are buckets for 400 ms.
const BUCKET: u64 = 480;
const BUCKETS: usize = 40;
/// Share of the old that stays with each packet: half is forgotten in 3.5 s of 20 ms packets.
const FORGETTING: f32 = 0.996;
/// Share of the packets that the target covers.
const COVERED: f32 = 0.985;
/// What the target adds for our own ticks, which come up to some milliseconds late: 10 ms.
const CAUTION: u64 = 480;
/// Bounds of the target: 40 and 240 ms. Beyond, a conversation suffers more than from gaps.
const LEAST: u64 = 1_920;
const MOST: u64 = 11_520;
/// Lateness expected of an unknown network, as a bucket: 30 to 40 ms.
const EXPECTED: usize = 3;
/// A transit that jumps by more is a new clock: 2 s.
const JUMP: i64 = 96_000;

/// The last [`WINDOW`] values.
#[derive(Debug)]
struct Window {
    values: [i64; WINDOW],
    length: usize,
    next: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { values: [0; WINDOW], length: 0, next: 0 }
    }
}

impl Window {
    fn push(&mut self, value: i64) {
        self.values[self.next] = value;
        self.next = (self.next + 1) % WINDOW;
        self.length = (self.length + 1).min(WINDOW);
    }

    fn values(&self) -> &[i64] {
        &self.values[..self.length]
    }
}

/// The pace of one stream.
#[derive(Debug)]
pub struct Pace {
    /// Arrival and timestamp that transits are relative to.
    origin: Option<(Instant, u64)>,
    transits: Window,
    last_transit: i64,
    /// Share of the packets in each bucket of lateness.
    shares: [f32; BUCKETS],
    /// How long after its arrival each of the last packets is played.
    waits: Window,
}

impl Default for Pace {
    fn default() -> Self {
        let mut shares = [0.0; BUCKETS];
        shares[EXPECTED] = 1.0;
        Self {
            origin: None,
            transits: Window::default(),
            last_transit: 0,
            shares,
            waits: Window::default(),
        }
    }
}

impl Pace {
    /// A packet with the extended RTP timestamp `timestamp` is there at `now`, and its first sample
    /// is going to be played `wait` samples later; `None` while nothing is played.
    pub fn packet(&mut self, now: Instant, timestamp: u64, wait: Option<i64>) {
        let (since, first) = *self.origin.get_or_insert((now, timestamp));
        let elapsed = now.saturating_duration_since(since).as_micros() * 48 / 1_000;
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let transit = elapsed.wrapping_sub(timestamp.wrapping_sub(first).cast_signed());
        if self.transits.length > 0 && transit.abs_diff(self.last_transit) > JUMP as u64 {
            self.transits = Window::default();
            self.waits = Window::default();
        }
        self.last_transit = transit;
        self.transits.push(transit);
        let fastest = self.transits.values().iter().copied().min().unwrap_or(transit);
        let bucket = usize::try_from(transit.abs_diff(fastest) / BUCKET).unwrap_or(BUCKETS);
        for share in &mut self.shares {
            *share *= FORGETTING;
        }
        self.shares[bucket.min(BUCKETS - 1)] += 1.0 - FORGETTING;
        if let Some(wait) = wait {
            self.waits.push(wait);
        }
    }

    /// How long the fastest packets should wait, in samples.
    #[must_use]
    pub fn target(&self) -> u64 {
        let mut covered = 0.0;
        let buckets = self.shares.iter().position(|share| {
            covered += share;
            covered >= COVERED
        });
        let buckets = buckets.map_or(BUCKETS, |last| last + 1) as u64;
        (buckets * BUCKET + CAUTION).clamp(LEAST, MOST)
    }

    /// How long the fastest of the last packets waited, in samples; `None` while too few are known.
    #[must_use]
    pub fn wait(&self) -> Option<i64> {
        let waits = self.waits.values();
        (waits.len() >= WINDOW / 2).then(|| waits.iter().copied().max().unwrap_or(0))
    }

    /// Playing starts anew: earlier waits say nothing any more.
    pub fn restarted(&mut self) {
        self.waits = Window::default();
    }

    /// Samples were put in before what waits (or taken out, when negative).
    pub fn shifted(&mut self, by: i64) {
        let length = self.waits.length;
        for wait in &mut self.waits.values[..length] {
            *wait += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// Packets 20 ms apart whose lateness is drawn by `lateness_ms`.
    fn send(pace: &mut Pace, from: u64, count: u64, mut lateness_ms: impl FnMut() -> u64) {
        let start = *ORIGIN;
        for index in from..from + count {
            let now = start + Duration::from_millis(20 * index + lateness_ms());
            pace.packet(now, (7 << 32) + 960 * index, None);
        }
    }

    static ORIGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

    #[test]
    fn an_even_network_needs_40_ms_and_an_uneven_one_as_much_as_it_is_uneven() {
        let mut random = StdRng::seed_from_u64(5);
        let mut pace = Pace::default();
        assert_eq!(pace.target(), 50 * 48);
        send(&mut pace, 0, 1_500, || 0);
        assert_eq!(pace.target(), LEAST);
        send(&mut pace, 1_500, 1_500, || random.random_range(0..=80));
        assert!((85 * 48..=100 * 48).contains(&pace.target()), "{}", pace.target() / 48);
        send(&mut pace, 3_000, 3_000, || 0);
        assert_eq!(pace.target(), LEAST);
    }

    #[test]
    fn one_late_packet_in_a_hundred_changes_nothing() {
        let mut pace = Pace::default();
        let mut index = 0;
        send(&mut pace, 0, 3_000, || {
            index += 1;
            if index % 100 == 0 { 200 } else { 0 }
        });
        assert_eq!(pace.target(), LEAST);
    }

    #[test]
    fn a_new_clock_of_the_sender_is_no_lateness() {
        let mut pace = Pace::default();
        send(&mut pace, 0, 2_000, || 0);
        let now = *ORIGIN + Duration::from_secs(40);
        for index in 0..500 {
            pace.packet(now + Duration::from_millis(20) * index, u64::from(index) * 960, None);
        }
        assert_eq!(pace.target(), LEAST);
    }
}
