//! Service level objectives: `lag_p95<2.5s,loss<1%`.

use std::fmt;
use std::str::FromStr;

use crate::distribution::Summary;
use crate::report::{Figures, Verdict};

/// Conditions that all have to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objective {
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Condition {
    quantity: Quantity,
    /// Milliseconds, or a share of 1.
    below: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    Time(Measurement, Percentile),
    Share(Share),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measurement {
    Lag,
    Start,
    Finish,
    Caption,
    Join,
    Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Percentile {
    P50,
    P90,
    P95,
    P99,
    P99_9,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Loss,
    Concealment,
    Missing,
    WordErrors,
}

const MEASUREMENTS: [(&str, Measurement); 6] = [
    ("lag", Measurement::Lag),
    ("start", Measurement::Start),
    ("finish", Measurement::Finish),
    ("caption", Measurement::Caption),
    ("join", Measurement::Join),
    ("jitter", Measurement::Jitter),
];

const PERCENTILES: [(&str, Percentile); 6] = [
    ("p50", Percentile::P50),
    ("p90", Percentile::P90),
    ("p95", Percentile::P95),
    ("p99", Percentile::P99),
    ("p99.9", Percentile::P99_9),
    ("max", Percentile::Max),
];

const SHARES: [(&str, Share); 4] = [
    ("loss", Share::Loss),
    ("concealment", Share::Concealment),
    ("missing", Share::Missing),
    ("wer", Share::WordErrors),
];

/// What can be asked for, for messages and help.
pub const HELP: &str = "conditions separated by commas, such as lag_p95<2.5s,loss<1%; times: lag, \
    start, finish, caption, join or jitter with _p50, _p90, _p95, _p99, _p99.9 or _max, in ms or \
    s; shares: loss, concealment, missing or wer, in %";

impl Objective {
    /// What became of each condition.
    #[must_use]
    pub fn judge(&self, figures: &Figures) -> Vec<Verdict> {
        self.conditions.iter().map(|condition| condition.judge(figures)).collect()
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }
}

impl Condition {
    fn judge(&self, figures: &Figures) -> Verdict {
        let measured = match self.quantity {
            Quantity::Time(measurement, percentile) => {
                let summary = measurement.of(figures);
                // What was never measured has not been met.
                (summary.count > 0).then(|| percentile.of(summary))
            }
            Quantity::Share(share) => share.of(figures),
        };
        let unit = |value: f64| match self.quantity {
            Quantity::Time(..) => format!("{value:.0} ms"),
            Quantity::Share(_) => format!("{:.2} %", 100.0 * value),
        };
        Verdict {
            condition: self.to_string(),
            measured: measured.map_or_else(|| "not measured".to_owned(), unit),
            met: measured.is_some_and(|measured| measured < self.below),
        }
    }
}

impl Measurement {
    fn of(self, figures: &Figures) -> &Summary {
        match self {
            Self::Lag => &figures.lag,
            Self::Start => &figures.start,
            Self::Finish => &figures.finish,
            Self::Caption => &figures.caption,
            Self::Join => &figures.join,
            Self::Jitter => &figures.jitter,
        }
    }
}

impl Percentile {
    fn of(self, summary: &Summary) -> f64 {
        match self {
            Self::P50 => summary.p50,
            Self::P90 => summary.p90,
            Self::P95 => summary.p95,
            Self::P99 => summary.p99,
            Self::P99_9 => summary.p99_9,
            Self::Max => summary.max,
        }
    }
}

impl Share {
    /// `None` when there is nothing to have a share of.
    fn of(self, figures: &Figures) -> Option<f64> {
        let packets = (figures.packets + figures.lost) as usize;
        let (whole, share) = match self {
            Self::Loss => (packets, figures.loss()),
            Self::Concealment => (packets, figures.concealment()),
            Self::Missing => (figures.sentences, figures.missing_share()),
            Self::WordErrors => (figures.words, figures.word_error_rate()),
        };
        (whole > 0).then_some(share)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quantity {
            Quantity::Time(measurement, percentile) => write!(
                formatter,
                "{}_{}<{}s",
                name_of(&MEASUREMENTS, measurement),
                name_of(&PERCENTILES, percentile),
                self.below / 1000.0
            ),
            Quantity::Share(share) => {
                write!(formatter, "{}<{}%", name_of(&SHARES, share), 100.0 * self.below)
            }
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = self.conditions.iter().map(Condition::to_string).collect();
        formatter.write_str(&conditions.join(","))
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let conditions = text.split(',').map(|part| parse(part.trim()));
        Ok(Self { conditions: conditions.collect::<Result<_, _>>()? })
    }
}

fn parse(text: &str) -> Result<Condition, String> {
    let wrong = || format!("{text:?} is no condition: write {HELP}");
    let (name, limit) = text.split_once('<').ok_or_else(wrong)?;
    let (name, limit) = (name.trim(), limit.trim_start_matches('=').trim());
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    if let Some(share) = find(&SHARES, name) {
        let percent = limit.strip_suffix('%').and_then(number).ok_or_else(wrong)?;
        return Ok(Condition { quantity: Quantity::Share(share), below: percent / 100.0 });
    }
    let (measurement, percentile) = name.split_once('_').ok_or_else(wrong)?;
    let measurement = find(&MEASUREMENTS, measurement).ok_or_else(wrong)?;
    let percentile = find(&PERCENTILES, percentile).ok_or_else(wrong)?;
    let milliseconds = match limit.strip_suffix("ms") {
        Some(milliseconds) => number(milliseconds),
        None => limit.strip_suffix('s').and_then(number).map(|seconds| 1000.0 * seconds),
    };
    let below = milliseconds.ok_or_else(wrong)?;
    Ok(Condition { quantity: Quantity::Time(measurement, percentile), below })
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

fn name_of<T: Copy + PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            sentences: 200,
            missing: 3,
            lag: Summary { count: 200, p95: 2400.0, max: 9000.0, ..Summary::default() },
            packets: 9900,
            lost: 100,
            concealed: 250,
            words: 50,
            wrong_words: 4,
            ..Figures::default()
        }
    }

    #[test]
    fn conditions_are_judged_by_what_was_measured() {
        let objective: Objective =
            "lag_p95<2.5s, lag_max<=8500ms,loss<1%,concealment<3%,missing<2%,wer<5%,join_p95<2s"
                .parse()
                .unwrap();
        let verdicts = objective.judge(&figures());
        let told: Vec<_> = verdicts
            .iter()
            .map(|verdict| (verdict.condition.as_str(), verdict.measured.as_str(), verdict.met))
            .collect();
        assert_eq!(
            told,
            [
                ("lag_p95<2.5s", "2400 ms", true),
                ("lag_max<8.5s", "9000 ms", false),
                ("loss<1%", "1.00 %", false),
                ("concealment<3%", "2.50 %", true),
                ("missing<2%", "1.50 %", true),
                ("wer<5%", "8.00 %", false),
                ("join_p95<2s", "not measured", false),
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_back_and_nonsense_is_refused() {
        let text = "lag_p99.9<4s,finish_p50<0.25s,missing<0.5%";
        assert_eq!(text.parse::<Objective>().unwrap().to_string(), text);
        for text in
            ["", "lag", "lag<2s", "lag_p95<2", "lag_p80<2s", "loss<1", "x_p50<1s", "wer<-1%"]
        {
            let error = text.parse::<Objective>().unwrap_err();
            assert!(error.contains("such as lag_p95<2.5s"), "{error}");
        }
    }
}
