//! Counters of a media worker: written by the worker alone, read by whoever asks, never waited for.

use std::ops::RangeInclusive;
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
    pub forwarded: Counter,
    pub encodes: Counter,
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
    pub tick_lateness: Delays,
    pub jitter_targets: Delays,
    pub connect_time: Delays,
    /// 1 while the worker is in the real-time class.
    pub real_time: AtomicU64,
}

/// A snapshot over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Media workers.
    pub workers: u64,
    /// Media workers in the real-time class.
    pub workers_real_time: u64,
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
    /// RTP packets that went out as they had come in: not decoded and encoded again.
    pub forwarded: u64,
    /// Opus packets that were encoded; one may have gone out to many.
    pub encodes: u64,
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
    /// How late ticks began.
    pub tick_lateness: DelaysSeen,
    /// What the jitter buffers of sounding peers aimed at, once a second each.
    pub jitter_targets: DelaysSeen,
    /// Time from a peer's offer to its media.
    pub connect_time: DelaysSeen,
}

impl Stats {
    /// Adds up the workers' counters.
    #[must_use]
    pub fn of(workers: &[&Counters]) -> Self {
        let sum = |pick: fn(&Counters) -> u64| workers.iter().copied().map(pick).sum();
        Self {
            workers: workers.len() as u64,
            workers_real_time: sum(|w| w.real_time.load(Ordering::Relaxed)),
            peers: sum(|w| w.peers.load(Ordering::Relaxed)),
            datagrams_in: sum(|w| w.datagrams_in.get()),
            garbage: sum(|w| w.garbage.get()),
            throttled: sum(|w| w.throttled.get()),
            packets_in: sum(|w| w.packets_in.get()),
            packets_out: sum(|w| w.packets_out.get()),
            forwarded: sum(|w| w.forwarded.get()),
            encodes: sum(|w| w.encodes.get()),
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
            tick_lateness: DelaysSeen::of(workers.iter().map(|w| &w.tick_lateness)),
            jitter_targets: DelaysSeen::of(workers.iter().map(|w| &w.jitter_targets)),
            connect_time: DelaysSeen::of(workers.iter().map(|w| &w.connect_time)),
        }
    }
}

/// Buckets: four to each doubling of microseconds, up to about 17 s.
const BUCKETS: usize = 24 * 4;

/// A histogram of delays with a resolution of a quarter octave; recording takes no lock.
#[derive(Debug)]
pub struct Delays {
    counts: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
    max_micros: AtomicU64,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_micros: AtomicU64::new(0),
            max_micros: AtomicU64::new(0),
        }
    }
}

impl Delays {
    /// Counts a delay.
    pub fn record(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.max_micros.fetch_max(micros, Ordering::Relaxed);
    }
}

/// What histograms of delays held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DelaysSeen {
    /// Number of delays in each bucket.
    counts: Vec<u64>,
    /// All delays together.
    pub sum: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl DelaysSeen {
    fn of<'a>(histograms: impl Iterator<Item = &'a Delays>) -> Self {
        let mut seen = Self { counts: vec![0; BUCKETS], ..Self::default() };
        for histogram in histograms {
            for (sum, count) in seen.counts.iter_mut().zip(&histogram.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            seen.sum += Duration::from_micros(histogram.sum_micros.load(Ordering::Relaxed));
            let max = Duration::from_micros(histogram.max_micros.load(Ordering::Relaxed));
            seen.max = seen.max.max(max);
        }
        seen
    }

    /// Number of delays.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The delay that the share `share` of all delays stayed below, as the upper edge of its
    /// bucket; zero when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a count of ticks is far below 2^53"
        )]
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank && seen > 0
        });
        bucket.map_or(Duration::ZERO, |bucket| Duration::from_micros(upper_edge(bucket)))
    }

    /// Upper edges in seconds, ascending, and the number of delays between each and the one before.
    /// Those outside `within` are merged into the first and the last, whose edge is infinite.
    #[must_use]
    pub fn buckets(&self, within: RangeInclusive<Duration>) -> Vec<(f64, u64)> {
        let mut merged: Vec<(f64, u64)> = Vec::new();
        let mut waiting = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            waiting += count;
            let edge = Duration::from_micros(upper_edge(bucket));
            if within.contains(&edge) {
                merged.push((edge.as_secs_f64(), std::mem::take(&mut waiting)));
            }
        }
        merged.push((f64::INFINITY, waiting));
        merged
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delay_lies_below_its_buckets_upper_edge_and_within_a_quarter() {
        for micros in (0..200).chain([1_000, 4_321, 20_000, 999_999, 10_000_000]) {
            let edge = upper_edge(bucket(micros));
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
        let lateness = &stats.tick_lateness;
        assert_eq!(lateness.quantile(0.5), Duration::from_micros(56));
        assert_eq!(lateness.quantile(0.99), Duration::from_micros(112));
        assert_eq!(lateness.max, Duration::from_micros(100));
        assert_eq!(lateness.sum, Duration::from_micros(5_050));
        let buckets = lateness.buckets(Duration::from_micros(10)..=Duration::from_micros(80));
        assert_eq!(buckets[0], (10e-6, 9), "what is shorter is in the first");
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, 21), "what is longer in the last");
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 100);
    }
}
