//! What changed between two runs, with intervals: a difference that its interval does not tell from
//! zero is no change.
//!
//! Intervals are the middle 95 % of differences between resampled runs (bootstrap, Efron 1979).
//! Sentences of one session hang together, so whole sessions are drawn where there are enough.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::report::{FORMAT, Outcome, Report, STAGES};

/// How often the runs are resampled.
const RESAMPLES: usize = 1000;
/// Fewest sessions of a run that are drawn as a whole.
const FEWEST_SESSIONS: usize = 8;
/// The same reports give the same intervals.
const SEED: u64 = 1979;

/// Why a report cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there or not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what `--out` writes.
    #[error("{} is no report of a load test (report.json)", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("{} has format {format}, and this version reads format {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
}

/// Two runs side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What makes the runs hard to compare.
    pub warnings: Vec<String>,
    /// The measurements, in sequence.
    pub rows: Vec<Row>,
}

/// One measurement in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name and unit.
    pub name: String,
    /// In the first run.
    pub before: f64,
    /// In the second one.
    pub after: f64,
    /// The interval of the difference.
    pub interval: (f64, f64),
    /// Whether less of it is better.
    pub less_is_better: bool,
}

/// What a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The second run is better.
    Better,
    /// The second run is worse.
    Worse,
    /// The interval holds zero.
    Unclear,
}

impl Row {
    /// What the difference says.
    #[must_use]
    pub fn change(&self) -> Change {
        let (low, high) = self.interval;
        match (low > 0.0, high < 0.0) {
            (false, false) => Change::Unclear,
            (is_more, _) if is_more != self.less_is_better => Change::Better,
            _ => Change::Worse,
        }
    }
}

/// Reads a report that a run has written.
///
/// # Errors
/// [`ReadError`] names the file.
pub fn read(path: &Path) -> Result<Report, ReadError> {
    let form = |source| ReadError::Form { path: path.to_owned(), source };
    let text =
        std::fs::read(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(form)?;
    // A report of another format need not have this one's fields.
    match value["format"].as_u64() {
        Some(format) if format != u64::from(FORMAT) => {
            Err(ReadError::Format { path: path.to_owned(), format })
        }
        _ => serde_json::from_value(value).map_err(form),
    }
}

/// Compares two runs.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Comparison {
    let mut warnings = Vec::new();
    for (report, which) in [(before, "first"), (after, "second")] {
        if !report.generator.valid {
            warnings.push(format!("the {which} run is invalid: its load generator was late"));
        }
        if let Some(why) = &report.cut_short {
            warnings.push(format!("the {which} run was cut short: {why}"));
        }
    }
    if before.scenario != after.scenario {
        let text = format!("the scenarios differ: {} | {}", before.scenario, after.scenario);
        warnings.push(text);
    }
    let mut rows = Vec::new();
    let runs = (before.outcomes.as_slice(), after.outcomes.as_slice());
    measure(&mut rows, "", runs);
    let sessions = |report: &Report| -> Vec<usize> {
        report.levels.iter().map(|level| level.sessions).collect()
    };
    if before.levels.len() > 1 && sessions(before) == sessions(after) {
        for (index, level) in before.levels.iter().enumerate() {
            let of_level = |report: &Report| -> Vec<Outcome> {
                let outcomes = report.outcomes.iter().filter(|outcome| outcome.level == index);
                outcomes.cloned().collect()
            };
            let (before, after) = (of_level(before), of_level(after));
            let prefix = format!("{} sessions: ", level.sessions);
            headline(&mut rows, &prefix, (&before, &after));
        }
    }
    Comparison { warnings, rows }
}

type Runs<'a> = (&'a [Outcome], &'a [Outcome]);

/// The lag alone.
fn headline(rows: &mut Vec<Row>, prefix: &str, runs: Runs<'_>) {
    for (name, share) in [("lag p50, ms", 0.5), ("lag p95, ms", 0.95)] {
        let values = |outcomes: &[&Outcome]| quantile(outcomes, share, |it| Some(it.lag_ms));
        row(rows, format!("{prefix}{name}"), true, runs, values);
    }
}

fn measure(rows: &mut Vec<Row>, prefix: &str, runs: Runs<'_>) {
    headline(rows, prefix, runs);
    let times: [(&str, Value); 3] = [
        ("start p50, ms", |outcome| Some(outcome.start_ms)),
        ("finish p50, ms", |outcome| Some(outcome.finish_ms)),
        ("caption p50, ms", |outcome| outcome.caption_ms),
    ];
    for (name, value) in times {
        row(rows, name.to_owned(), true, runs, |outcomes| quantile(outcomes, 0.5, value));
    }
    for stage in STAGES {
        let median = |outcomes: &[&Outcome]| quantile(outcomes, 0.5, |it| it.stage(stage));
        row(rows, format!("{stage} p50, ms"), true, runs, median);
    }
    row(rows, "missing, %".to_owned(), true, runs, |outcomes| {
        let missing = outcomes.iter().filter(|outcome| outcome.missing.is_some()).count();
        percent(missing, outcomes.len())
    });
    row(rows, "word error rate, %".to_owned(), true, runs, |outcomes| {
        let told = outcomes.iter().filter(|outcome| outcome.transcript.is_some());
        let (wrong, words) = told.fold((0, 0), |(wrong, words), outcome| {
            (wrong + outcome.wrong_words, words + outcome.words)
        });
        percent(wrong, words)
    });
    row(rows, "chrF".to_owned(), false, runs, |outcomes| {
        let scores: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.chrf).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    });
}

/// What of a sentence is compared.
type Value = fn(&Outcome) -> Option<f64>;

fn percent(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

fn quantile(
    outcomes: &[&Outcome],
    share: f64,
    value: impl Fn(&Outcome) -> Option<f64>,
) -> Option<f64> {
    let mut values: Vec<f64> = outcomes.iter().filter_map(|outcome| value(outcome)).collect();
    let index = (share * values.len() as f64) as usize;
    let index = index.min(values.len().checked_sub(1)?);
    Some(*values.select_nth_unstable_by(index, f64::total_cmp).1)
}

/// Adds a measurement, unless one of the runs does not have it.
fn row(
    rows: &mut Vec<Row>,
    name: String,
    less_is_better: bool,
    (before, after): Runs<'_>,
    value: impl Fn(&[&Outcome]) -> Option<f64>,
) {
    let whole = |outcomes: &[Outcome]| value(&outcomes.iter().collect::<Vec<_>>());
    let (Some(first), Some(second)) = (whole(before), whole(after)) else { return };
    let mut random = StdRng::seed_from_u64(SEED);
    let (before, after) = (groups(before), groups(after));
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let (before, after) = (draw(&before, &mut random), draw(&after, &mut random));
            Some(value(&after)? - value(&before)?)
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * differences.len() as f64) as usize;
        differences.get(index.min(differences.len().saturating_sub(1))).copied()
    };
    let (Some(low), Some(high)) = (at(0.025), at(0.975)) else { return };
    rows.push(Row { name, before: first, after: second, interval: (low, high), less_is_better });
}

/// The outcomes that are drawn together.
fn groups(outcomes: &[Outcome]) -> Vec<Vec<&Outcome>> {
    let mut sessions: BTreeMap<usize, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        sessions.entry(outcome.session).or_default().push(outcome);
    }
    if sessions.len() >= FEWEST_SESSIONS {
        return sessions.into_values().collect();
    }
    outcomes.iter().map(|outcome| vec![outcome]).collect()
}

fn draw<'a>(groups: &[Vec<&'a Outcome>], random: &mut StdRng) -> Vec<&'a Outcome> {
    let drawn = (0..groups.len()).flat_map(|_| &groups[random.random_range(0..groups.len())]);
    drawn.copied().collect()
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        writeln!(
            out,
            "{:<28} {:>9} {:>9} {:>9}  {:<22}",
            "", "before", "after", "change", "95 % of differences"
        )?;
        for row in &self.rows {
            let (low, high) = row.interval;
            let word = match row.change() {
                Change::Better => "better",
                Change::Worse => "WORSE",
                Change::Unclear => "no clear change",
            };
            writeln!(
                out,
                "{:<28} {:>9.1} {:>9.1} {:>+9.1}  {:<22} {word}",
                row.name,
                row.before,
                row.after,
                row.after - row.before,
                format!("{low:+.1} to {high:+.1}"),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::{Figures, Generator, Level};

    /// 300 sentences of three sessions whose lag is 1000 ms give or take 150.
    fn report(seed: u64, shift: f64) -> Report {
        let mut random = StdRng::seed_from_u64(seed);
        let outcomes = (0..300).map(|n| {
            let lag_ms = (850.0 + 300.0 * random.random::<f64>()).round() + shift;
            Outcome {
                session: n % 3,
                level: n / 150,
                lag_ms,
                start_ms: lag_ms + 2000.0,
                finish_ms: lag_ms + 3000.0,
                transcript: Some("hello".to_owned()),
                words: 10,
                wrong_words: usize::from(random.random_bool(0.3)),
                chrf: Some(60.0 + (10.0 * random.random::<f64>()).round()),
                ..Outcome::default()
            }
        });
        let level = |sessions| Level {
            joins_ms: Vec::new(),
            sessions,
            begin_ms: 0.0,
            end_ms: 0.0,
            figures: Figures::default(),
            verdicts: Vec::new(),
        };
        Report {
            format: FORMAT,
            version: String::new(),
            started: String::new(),
            took_s: 0.0,
            server: String::new(),
            scenario: "calls".to_owned(),
            timeout_ms: 10_000.0,
            levels: vec![level(2), level(3)],
            total: Figures::default(),
            generator: Generator { valid: true, ..Generator::default() },
            verdicts: Vec::new(),
            capacity: None,
            outcomes: outcomes.collect(),
            errors: Vec::new(),
            cut_short: None,
        }
    }

    fn find<'a>(comparison: &'a Comparison, name: &str) -> &'a Row {
        comparison.rows.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn a_planted_difference_lies_in_its_interval() {
        let comparison = compare(&report(1, 0.0), &report(2, 120.0));
        // Of half as many sentences.
        let level = find(&comparison, "2 sessions: lag p50, ms");
        assert_eq!(level.change(), Change::Worse, "{level:?}");
        for name in ["lag p50, ms", "start p50, ms"] {
            let row = find(&comparison, name);
            assert_eq!(row.change(), Change::Worse, "{row:?}");
            assert!(row.interval.0 < 120.0 && row.interval.1 > 120.0, "{row:?}");
            assert!(row.interval.1 - row.interval.0 < 120.0, "{row:?}");
        }
        let back = compare(&report(2, 120.0), &report(1, 0.0));
        assert_eq!(find(&back, "lag p95, ms").change(), Change::Better);
        assert_eq!(find(&back, "chrF").change(), Change::Unclear);
        assert!(comparison.warnings.is_empty());
        assert!(comparison.to_string().contains("WORSE"), "{comparison}");
    }

    #[test]
    fn the_same_noise_is_no_change() {
        let comparison = compare(&report(1, 0.0), &report(2, 0.0));
        for name in ["lag p50, ms", "word error rate, %", "missing, %"] {
            assert_eq!(find(&comparison, name).change(), Change::Unclear, "{comparison}");
        }
    }

    #[test]
    fn what_makes_runs_hard_to_compare_is_said() {
        let mut other = report(2, 0.0);
        other.scenario = "conference".to_owned();
        other.generator.valid = false;
        other.cut_short = Some("it was interrupted".to_owned());
        let comparison = compare(&report(1, 0.0), &other);
        assert_eq!(comparison.warnings.len(), 3, "{comparison}");
    }

    #[test]
    fn reports_are_read_back_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let missing = read(&path).unwrap_err();
        assert!(missing.to_string().contains("report.json"), "{missing}");
        let written = report(1, 0.0);
        std::fs::write(&path, serde_json::to_vec(&written).unwrap()).unwrap();
        assert!(read(&path).unwrap() == written);
        std::fs::write(&path, "{\"format\": 7}").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("has format 7"));
        std::fs::write(&path, "[]").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no report of a load test"));
    }
}
