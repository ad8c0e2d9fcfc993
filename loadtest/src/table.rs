//! A report as text, for a terminal.

use std::fmt;

use crate::distribution::Summary;
use crate::report::{Figures, Report};

/// How many of the errors are listed.
const MOST_ERRORS: usize = 10;

/// Shows a report as a table.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(pub &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let total = &report.total;
        writeln!(out, "{}", report.scenario)?;
        writeln!(out, "{} for {:.0} s from {}", report.server, report.took_s, report.started)?;
        writeln!(out)?;
        writeln!(
            out,
            "{:>8} {:>9} {:>7} {:>7} {:>7} {:>7} {:>8} {:>6} {:>9} {:>6} {:>6}",
            "sessions",
            "sentences",
            "missing",
            "p50",
            "p95",
            "p99",
            "join p95",
            "loss",
            "concealed",
            "WER",
            "chrF"
        )?;
        for level in report.levels_by_load() {
            let is_met = level.verdicts.iter().all(|verdict| verdict.met);
            row(out, &level.sessions.to_string(), &level.figures, is_met)?;
        }
        if report.levels.len() > 1 {
            row(out, "all", total, report.is_met())?;
        }
        writeln!(
            out,
            "\n{:<12} {:>6} {:>7} {:>7} {:>7} {:>7} {:>7}  ms",
            "", "count", "p50", "p90", "p95", "p99", "max"
        )?;
        let named = [
            ("lag", &total.lag),
            ("start", &total.start),
            ("finish", &total.finish),
            ("caption", &total.caption),
            ("jitter", &total.jitter),
            ("unexplained", &total.unexplained),
        ];
        let stages = total.stages.iter().map(|stage| (stage.name.as_str(), &stage.time));
        for (name, summary) in named.into_iter().chain(stages) {
            times(out, name, summary)?;
        }
        writeln!(out)?;
        let late = &report.generator.late;
        writeln!(
            out,
            "generator    {:.2} cores, late by {:.1} ms at p50 and {:.1} ms at p99{}",
            report.generator.cores,
            late.p50,
            late.p99,
            if report.generator.real_time { ", with real-time priority" } else { "" },
        )?;
        for verdict in &report.verdicts {
            let sign = if verdict.met { "met" } else { "NOT MET" };
            writeln!(out, "{sign:<12} {} ({})", verdict.condition, verdict.measured)?;
        }
        if total.listened > 0 {
            writeln!(
                out,
                "listened     to {} interpretations: {:.1}% of the words of their translations were \
                 understood otherwise",
                total.listened,
                100.0 * total.listened_error_rate()
            )?;
        }
        if let Some(capacity) = report.capacity {
            let sessions = if capacity == 1 { "session" } else { "sessions" };
            writeln!(out, "capacity     {capacity} {sessions} held the objective")?;
        }
        for failure in report.errors.iter().take(MOST_ERRORS) {
            let at = failure.at_ms / 1000.0;
            writeln!(
                out,
                "error        session {} at {at:.1} s: {}",
                failure.session, failure.what
            )?;
        }
        if report.errors.len() > MOST_ERRORS {
            writeln!(out, "             and {} more", report.errors.len() - MOST_ERRORS)?;
        }
        if let Some(why) = &report.cut_short {
            writeln!(out, "CUT SHORT    {why}")?;
        }
        if !report.generator.valid {
            writeln!(
                out,
                "INVALID      the load generator itself was late by more than {} ms at p99: give it \
                 a machine of its own, or real-time priority",
                crate::canary::LIMIT_MS
            )?;
        }
        Ok(())
    }
}

fn row(out: &mut fmt::Formatter<'_>, name: &str, figures: &Figures, is_met: bool) -> fmt::Result {
    let chrf = figures.chrf.map_or_else(|| "–".to_owned(), |chrf| format!("{chrf:.1}"));
    writeln!(
        out,
        "{name:>8} {:>9} {:>7} {:>7.0} {:>7.0} {:>7.0} {:>8.0} {:>5.1}% {:>8.1}% {:>5.1}% {chrf:>6}{}",
        figures.sentences,
        figures.missing,
        figures.lag.p50,
        figures.lag.p95,
        figures.lag.p99,
        figures.join.p95,
        100.0 * figures.loss(),
        100.0 * figures.concealment(),
        100.0 * figures.word_error_rate(),
        if is_met { "" } else { "  objective not met" },
    )
}

fn times(out: &mut fmt::Formatter<'_>, name: &str, summary: &Summary) -> fmt::Result {
    let Summary { count, p50, p90, p95, p99, max, .. } = summary;
    writeln!(out, "{name:<12} {count:>6} {p50:>7.0} {p90:>7.0} {p95:>7.0} {p99:>7.0} {max:>7.0}")
}
