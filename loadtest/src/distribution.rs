//! Distributions of times: HDR histograms of microseconds, and what of them is told.

use std::io::Write;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::{Deserialize, Serialize};

/// Longest time that is told apart: 10 minutes, in microseconds. Longer ones count as this.
const LONGEST_US: u64 = 600_000_000;
/// Values within a thousandth of each other may count as one.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Times that were measured, to a thousandth of their value. A time below zero counts as zero.
#[derive(Clone, Debug)]
pub struct Distribution(Histogram<u64>);

/// The percentiles of a distribution, milliseconds. All are zero when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Smallest value.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// Largest value.
    pub max: f64,
}

impl Default for Distribution {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS);
        Self(histogram.expect("the bounds are constants that fit each other"))
    }
}

impl Distribution {
    /// Counts one value.
    pub fn record(&mut self, value: Duration) {
        self.0.saturating_record(microseconds(value));
    }

    /// Counts one value of something that should have been measured every `interval`, and with it
    /// the values that were not measured meanwhile (coordinated omission).
    pub fn record_every(&mut self, value: Duration, interval: Duration) {
        let (value, interval) = (microseconds(value), microseconds(interval));
        // Values are bounded, so that they always have a place.
        let _ = self.0.record_correct(value, interval);
    }

    /// Counts one value in milliseconds.
    pub fn record_ms(&mut self, milliseconds: f64) {
        self.record(Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default());
    }

    /// The value below which this share (0 to 1) of the values lies, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentiles.
    #[must_use]
    pub fn summary(&self) -> Summary {
        if self.0.is_empty() {
            return Summary::default();
        }
        Summary {
            count: self.count(),
            mean: self.0.mean() / 1000.0,
            min: self.0.min() as f64 / 1000.0,
            p50: self.quantile_ms(0.5),
            p90: self.quantile_ms(0.9),
            p95: self.quantile_ms(0.95),
            p99: self.quantile_ms(0.99),
            p99_9: self.quantile_ms(0.999),
            max: self.0.max() as f64 / 1000.0,
        }
    }
}

impl FromIterator<f64> for Distribution {
    /// Of milliseconds.
    fn from_iter<T: IntoIterator<Item = f64>>(milliseconds: T) -> Self {
        let mut distribution = Self::default();
        milliseconds.into_iter().for_each(|value| distribution.record_ms(value));
        distribution
    }
}

/// A piece of a run in the log of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// Its beginning, from the beginning of the run.
    pub begin: Duration,
    /// Its length.
    pub length: Duration,
    /// Its tag: a name without commas, spaces and line breaks.
    pub tag: &'a str,
    /// What was measured in it.
    pub values: &'a Distribution,
}

/// Writes a log in the format of HdrHistogram's own tools (`.hlog`, version 1.3), microseconds.
///
/// # Errors
/// What the system says when the log cannot be written.
pub fn write_hlog(
    out: &mut impl Write,
    started: SystemTime,
    what: &str,
    intervals: &[Interval<'_>],
) -> std::io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("{what}, microseconds"))
        .with_start_time(started)
        .begin_log_with(out, &mut serializer)?;
    for interval in intervals {
        log.write_histogram(
            &interval.values.0,
            interval.begin,
            interval.length,
            Tag::new(interval.tag),
        )
        .map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    }
    Ok(())
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LONGEST_US).min(LONGEST_US)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let summary = (1..=1000).map(f64::from).collect::<Distribution>().summary();
        assert_eq!(summary.count, 1000);
        for (got, expected) in [
            (summary.p50, 500.0),
            (summary.p95, 950.0),
            (summary.p99, 990.0),
            (summary.p99_9, 999.0),
            (summary.max, 1000.0),
            (summary.min, 1.0),
        ] {
            assert!((got - expected).abs() <= expected / 1000.0, "{got} for {expected}");
        }
        assert_eq!(Distribution::default().summary(), Summary::default());
    }

    #[test]
    fn values_out_of_range_are_counted_at_its_ends() {
        let summary = [-5.0, f64::INFINITY, 1e12].into_iter().collect::<Distribution>().summary();
        assert_eq!(summary.count, 3);
        assert!(summary.min < 0.01 && summary.max > 599_000.0, "{summary:?}");
    }

    #[test]
    fn a_stall_counts_for_all_that_was_not_measured_in_it() {
        let mut watched = Distribution::default();
        let every = Duration::from_millis(10);
        for _ in 0..98 {
            watched.record_every(Duration::from_millis(1), every);
        }
        watched.record_every(Duration::from_secs(1), every);
        // A second in steps of ten milliseconds: a hundred values, not one.
        assert_eq!(watched.count(), 98 + 100);
        assert!(watched.quantile_ms(0.75) > 480.0, "{}", watched.quantile_ms(0.75));
    }

    #[test]
    fn a_log_is_read_back_by_the_formats_own_reader() {
        use hdrhistogram::serialization::Deserializer;
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
        let values: Distribution = [100.0, 200.0].into_iter().collect();
        let second = Duration::from_secs(1);
        let interval = Interval { begin: second, length: second * 60, tag: "4", values: &values };
        let mut log = Vec::new();
        write_hlog(&mut log, SystemTime::now(), "lag", &[interval]).unwrap();
        let entries: Vec<LogEntry<'_>> =
            IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        let read = entries.iter().find_map(|entry| match entry {
            LogEntry::Interval(histogram) => Some(histogram),
            _ => None,
        });
        let read = read.unwrap();
        assert_eq!(read.tag().unwrap().as_str(), "4");
        assert_eq!((read.start_timestamp(), read.duration()), (second, second * 60));
        let encoded = read.encoded_histogram();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, encoded).unwrap();
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(histogram.len(), 2);
    }
}
