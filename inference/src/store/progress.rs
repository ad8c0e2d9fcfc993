//! What a fetch tells while it runs, and how fast it goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

/// Something that happened during a fetch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The files of a model are looked at; without a marker they are hashed, which takes seconds.
    Checking {
        /// The model.
        model: &'a str,
    },
    /// Another process is fetching into the same folder; this one waits until it is done.
    Waiting {
        /// The file that the other process has locked.
        lock: &'a Path,
    },
    /// A source is asked for what a model still lacks.
    Asking {
        /// The model.
        model: &'a str,
        /// The source.
        source: &'a str,
    },
    /// A source could not help; the next one is asked.
    Failed {
        /// The model.
        model: &'a str,
        /// The source.
        source: &'a str,
        /// Why not.
        reason: &'a str,
    },
    /// Bytes moved, or the plan changed. Comes several times a second.
    Bytes(Totals),
    /// All files of a model are in place and hashed.
    Fetched {
        /// The model.
        model: &'a str,
    },
}

/// The bytes of the whole job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes downloaded so far.
    pub downloaded: u64,
    /// Bytes to download in the end.
    pub to_download: u64,
    /// Bytes of model files written so far.
    pub assembled: u64,
    /// Bytes of model files to write in the end.
    pub to_assemble: u64,
}

/// Somebody who wants to know how a fetch goes on. Called from several threads.
pub trait Progress: Sync {
    /// Takes note of `event`. Should return at once: the download waits for it.
    fn report(&self, event: Event<'_>);
}

/// Takes note of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _event: Event<'_>) {}
}

/// Speed of this long ago counts for a third of the present one. Long, because packages come in
/// bursts: the pauses in which clients start belong to the rate as well.
const MEMORY: Duration = Duration::from_secs(60);

/// Bytes and seconds that make a first estimate of the rate worth showing.
const ENOUGH_BYTES: f64 = 2e6;
const ENOUGH_SECONDS: f64 = 1.0;

/// Bytes per second at which files are taken to be unpacked and hashed until it was measured.
const ASSUMED_ASSEMBLY_RATE: f64 = 100e6;

/// Rate and time left of a fetch, from the [`Totals`] it reports. Downloading and assembling run at
/// different speeds, so each has a rate of its own. Time is an argument: no clock is read here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    totals: Totals,
    updated: Option<Duration>,
    download: Pace,
    assembly: Pace,
}

impl Meter {
    /// Takes the totals as they stand at `now`, counted from any fixed start.
    pub fn update(&mut self, totals: Totals, now: Duration) {
        let passed = self.updated.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        let downloaded = totals.downloaded.saturating_sub(self.totals.downloaded);
        let assembled = totals.assembled.saturating_sub(self.totals.assembled);
        // The two take turns: time in which files were written is not held against the network.
        if assembled > 0 {
            self.assembly.add(assembled, passed);
        } else {
            self.download.add(downloaded, passed);
        }
        self.totals = totals;
        self.updated = Some(now);
    }

    /// The totals of the last update.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes downloaded per second of late; `None` until it was measured.
    pub fn download_rate(&self) -> Option<f64> {
        self.download.rate
    }

    /// How long the rest of the job takes at the present rates; `None` while that is unknown.
    pub fn time_left(&self) -> Option<Duration> {
        let Totals { downloaded, to_download, assembled, to_assemble } = self.totals;
        let download = match to_download.saturating_sub(downloaded) {
            0 => 0.0,
            bytes => bytes as f64 / self.download.rate?,
        };
        let assembly = to_assemble.saturating_sub(assembled) as f64
            / self.assembly.rate.unwrap_or(ASSUMED_ASSEMBLY_RATE);
        Duration::try_from_secs_f64(download + assembly).ok()
    }
}

/// A rate in which recent bytes and seconds count for more than older ones.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    bytes: f64,
    seconds: f64,
    rate: Option<f64>,
}

impl Pace {
    fn add(&mut self, bytes: u64, time: Duration) {
        let seconds = time.as_secs_f64();
        let keep = (-seconds / MEMORY.as_secs_f64()).exp();
        self.bytes = self.bytes * keep + bytes as f64;
        self.seconds = self.seconds * keep + seconds;
        // The first bytes, after a client has taken its time to start, say little.
        if self.rate.is_some() || (self.bytes >= ENOUGH_BYTES && self.seconds >= ENOUGH_SECONDS) {
            self.rate = Some(self.bytes / self.seconds);
        }
    }
}

/// Counts the bytes of all models of one fetch and reports them.
pub(super) struct Ledger<'a> {
    progress: &'a dyn Progress,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    downloaded: u64,
    assembled: u64,
    /// What each model still needs, as far as is known: (to download, to assemble).
    remaining: BTreeMap<String, (u64, u64)>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(progress: &'a dyn Progress) -> Self {
        Self { progress, counts: Mutex::default() }
    }

    pub(super) fn report(&self, event: Event<'_>) {
        self.progress.report(event);
    }

    /// Sets what `model` still needs; replaces what was planned for it before.
    pub(super) fn plan(&self, model: &str, to_download: u64, to_assemble: u64) {
        self.change(|counts| {
            counts.remaining.insert(model.to_owned(), (to_download, to_assemble));
        });
    }

    pub(super) fn downloaded(&self, model: &str, bytes: u64) {
        self.change(|counts| {
            counts.downloaded += bytes;
            if let Some((remaining, _)) = counts.remaining.get_mut(model) {
                *remaining = remaining.saturating_sub(bytes);
            }
        });
    }

    pub(super) fn assembled(&self, model: &str, bytes: u64) {
        self.change(|counts| {
            counts.assembled += bytes;
            if let Some((_, remaining)) = counts.remaining.get_mut(model) {
                *remaining = remaining.saturating_sub(bytes);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock();
        change(&mut counts);
        let (to_download, to_assemble) = counts
            .remaining
            .values()
            .fold((0, 0), |sum, remaining| (sum.0 + remaining.0, sum.1 + remaining.1));
        let totals = Totals {
            downloaded: counts.downloaded,
            to_download: counts.downloaded + to_download,
            assembled: counts.assembled,
            to_assemble: counts.assembled + to_assemble,
        };
        // Reported under the lock, so that totals arrive in order.
        self.progress.report(Event::Bytes(totals));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 10_000_000;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_steady_download_has_its_rate_and_the_rest_of_its_time() {
        let mut meter = Meter::default();
        let mut totals = Totals { to_download: 10 * CHUNK, ..Totals::default() };
        meter.update(totals, at(0));
        assert_eq!(meter.time_left(), None);
        for second in 1..=5 {
            totals.downloaded = second * CHUNK;
            meter.update(totals, at(second));
        }
        assert!((meter.download_rate().unwrap() - 1e7).abs() < 1.0);
        assert!((meter.time_left().unwrap().as_secs_f64() - 5.0).abs() < 1e-3);
    }

    #[test]
    fn the_first_few_bytes_are_no_rate_yet() {
        let mut meter = Meter::default();
        let mut totals = Totals { to_download: 1_000 * CHUNK, ..Totals::default() };
        meter.update(totals, at(0));
        totals.downloaded = 97;
        meter.update(totals, at(3));
        assert_eq!((meter.download_rate(), meter.time_left()), (None, None));
    }

    #[test]
    fn time_spent_on_assembly_does_not_lower_the_download_rate() {
        let mut meter = Meter::default();
        let mut totals = Totals { to_download: 10 * CHUNK, to_assemble: 50, ..Totals::default() };
        meter.update(totals, at(0));
        totals.downloaded = CHUNK;
        meter.update(totals, at(1));
        totals.assembled = 50;
        meter.update(totals, at(60));
        totals.downloaded = 2 * CHUNK;
        meter.update(totals, at(61));
        assert!((meter.download_rate().unwrap() - 1e7).abs() < 1.0);
    }

    #[test]
    fn a_download_that_stands_still_loses_its_rate() {
        let mut meter = Meter::default();
        let mut totals = Totals { to_download: 10 * CHUNK, ..Totals::default() };
        meter.update(totals, at(0));
        totals.downloaded = CHUNK;
        meter.update(totals, at(1));
        for second in 2..=31 {
            meter.update(totals, at(second));
        }
        assert!(meter.download_rate().unwrap() < 1e6);
        assert!(meter.time_left().unwrap() > at(90));
    }

    #[test]
    fn the_time_left_counts_the_assembly_at_its_own_rate() {
        let mut meter = Meter::default();
        let mut totals = Totals { to_assemble: 10 * CHUNK, ..Totals::default() };
        meter.update(totals, at(0));
        totals.assembled = 5 * CHUNK;
        meter.update(totals, at(10));
        assert_eq!(meter.time_left(), Some(at(10)));
    }

    struct Last(Mutex<Totals>);

    impl Progress for Last {
        fn report(&self, event: Event<'_>) {
            if let Event::Bytes(totals) = event {
                *self.0.lock() = totals;
            }
        }
    }

    #[test]
    fn a_source_that_fails_halfway_adds_its_bytes_to_the_whole() {
        let last = Last(Mutex::default());
        let ledger = Ledger::new(&last);
        ledger.plan("a", 100, 120);
        ledger.plan("b", 10, 12);
        ledger.downloaded("a", 40);
        assert_eq!(last.0.lock().to_download, 110);
        ledger.plan("a", 120, 120);
        let expected = Totals { downloaded: 40, to_download: 170, assembled: 0, to_assemble: 132 };
        assert_eq!(*last.0.lock(), expected);
    }
}
