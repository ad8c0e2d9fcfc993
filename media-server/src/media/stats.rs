//! Counters of a media worker: written by the worker alone, read by whoever asks, never waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Its value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker counts. Units are in [`Stats`].
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the fields of `Stats` say it")]
pub struct Counters {
    /// The peers at the moment: the only one that also falls.
    pub peers: AtomicU64,
    pub datagrams_in: Counter,
    pub garbage: Counter,
    pub throttled: Counter,
    pub packets_in: Counter,
    pub packets_out: Counter,
    pub lost: Counter,
    pub late: Counter,
    pub duplicates: Counter,
    pub damaged: Counter,
    pub concealed: Counter,
    pub fec_recovered: Counter,
    pub heard_dropped: Counter,
    pub underruns: Counter,
    pub send_errors: Counter,
    pub notices_dropped: Counter,
    pub peers_failed: Counter,
    pub ticks_skipped: Counter,
    pub tick_lateness: Lateness,
    pub connect_time: Lateness,
}

/// A snapshot over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Peers at the moment, connected or connecting.
    pub peers: u64,
    /// Datagrams that came in, of any kind.
    pub datagrams_in: u64,
    /// Datagrams that belonged to no peer.
    pub garbage: u64,
    /// Datagrams that were dropped because their peer sent too many.
    pub throttled: u64,
    /// RTP packets that came in.
    pub packets_in: u64,
    /// RTP packets that went out.
    pub packets_out: u64,
    /// Packets that never came, or too late.
    pub lost: u64,
    /// Packets that came after their place had passed.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that were not Opus.
    pub damaged: u64,
    /// Samples (48 kHz) that were guessed.
    pub concealed: u64,
    /// Packets that were recovered from their successor's copy (in-band FEC).
    pub fec_recovered: u64,
    /// Frames of 20 ms that found the heard ring full.
    pub heard_dropped: u64,
    /// Times that a mixed original ran dry.
    pub underruns: u64,
    /// Datagrams that the system did not take.
    pub send_errors: u64,
    /// Notices that found the channel full.
    pub notices_dropped: u64,
    /// Peers whose state machine failed.
    pub peers_failed: u64,
    /// Ticks of 20 ms that were left out because the worker was too late.
    pub ticks_skipped: u64,
    /// How late ticks began, median.
    pub tick_lateness_p50: Duration,
    /// How late ticks began, 99th percentile.
    pub tick_lateness_p99: Duration,
    /// Time from a peer's offer to its media, median.
    pub connect_time_p50: Duration,
    /// Time from a peer's offer to its media, 99th percentile.
    pub connect_time_p99: Duration,
}

impl Stats {
    /// Adds up the workers' counters.
    #[must_use]
    pub fn of(workers: &[&Counters]) -> Self {
        let sum = |pick: fn(&Counters) -> u64| workers.iter().copied().map(pick).sum();
        let histograms: Vec<&Lateness> = workers.iter().map(|w| &w.tick_lateness).collect();
        let lateness = |share| Lateness::quantile(&histograms, share);
        let connects: Vec<&Lateness> = workers.iter().map(|w| &w.connect_time).collect();
        Self {
            peers: sum(|w| w.peers.load(Ordering::Relaxed)),
            datagrams_in: sum(|w| w.datagrams_in.get()),
            garbage: sum(|w| w.garbage.get()),
            throttled: sum(|w| w.throttled.get()),
            packets_in: sum(|w| w.packets_in.get()),
            packets_out: sum(|w| w.packets_out.get()),
            lost: sum(|w| w.lost.get()),
            late: sum(|w| w.late.get()),
            duplicates: sum(|w| w.duplicates.get()),
            damaged: sum(|w| w.damaged.get()),
            concealed: sum(|w| w.concealed.get()),
            fec_recovered: sum(|w| w.fec_recovered.get()),
            heard_dropped: sum(|w| w.heard_dropped.get()),
            underruns: sum(|w| w.underruns.get()),
            send_errors: sum(|w| w.send_errors.get()),
            notices_dropped: sum(|w| w.notices_dropped.get()),
            peers_failed: sum(|w| w.peers_failed.get()),
            ticks_skipped: sum(|w| w.ticks_skipped.get()),
            tick_lateness_p50: lateness(0.5),
            tick_lateness_p99: lateness(0.99),
            connect_time_p50: Lateness::quantile(&connects, 0.5),
            connect_time_p99: Lateness::quantile(&connects, 0.99),
        }
    }
}

/// Buckets: four to each doubling of microseconds, up to about 17 s.
const BUCKETS: usize = 24 * 4;

/// A histogram of delays with a resolution of a quarter octave; recording is one atomic addition.
#[derive(Debug)]
pub struct Lateness([AtomicU64; BUCKETS]);

impl Default for Lateness {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Lateness {
    /// Counts a delay.
    pub fn record(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.0[Self::bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// The delay that the share `share` of all delays in `histograms` stayed below, as the upper
    /// edge of its bucket; zero when there are none.
    fn quantile(histograms: &[&Self], share: f64) -> Duration {
        let count = |bucket: usize| -> u64 {
            histograms.iter().map(|histogram| histogram.0[bucket].load(Ordering::Relaxed)).sum()
        };
        let total: u64 = (0..BUCKETS).map(count).sum();
        if total == 0 {
            return Duration::ZERO;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a count of ticks is far below 2^53"
        )]
        let rank = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for bucket in 0..BUCKETS {
            seen += count(bucket);
            if seen >= rank {
                return Duration::from_micros(Self::upper_edge(bucket));
            }
        }
        Duration::from_micros(Self::upper_edge(BUCKETS - 1))
    }

    /// Below 4 µs a bucket a microsecond, then four buckets to each doubling.
    fn bucket(micros: u64) -> usize {
        let octave = micros.max(1).ilog2() as usize;
        if octave < 2 {
            return usize::try_from(micros).unwrap_or(0);
        }
        let quarter = usize::try_from(micros >> (octave - 2) & 3).unwrap_or(0);
        ((octave - 1) * 4 + quarter).min(BUCKETS - 1)
    }

    fn upper_edge(bucket: usize) -> u64 {
        if bucket < 4 {
            return bucket as u64 + 1;
        }
        let (octave, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
        (4 + quarter + 1) << (octave - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delay_lies_below_its_buckets_upper_edge_and_within_a_quarter() {
        for micros in (0..200).chain([1_000, 4_321, 20_000, 999_999, 10_000_000]) {
            let edge = Lateness::upper_edge(Lateness::bucket(micros));
            assert!(edge > micros && edge <= micros + micros / 4 + 1, "{micros} below {edge}");
        }
    }

    #[test]
    fn quantiles_of_a_hundred_delays() {
        let counters = Counters::default();
        for micros in 1..=100 {
            counters.tick_lateness.record(Duration::from_micros(micros));
        }
        let stats = Stats::of(&[&counters]);
        assert_eq!(stats.tick_lateness_p50, Duration::from_micros(56));
        assert_eq!(stats.tick_lateness_p99, Duration::from_micros(112));
    }
}
