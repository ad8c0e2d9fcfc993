//! The search for a capacity: the load grows until it does not hold the objective, and what lies
//! between that and the last load that did is halved until one session is between them.

use std::future::Future;
use std::pin::pin;

use crate::distribution::Distribution;
use crate::objective::Objective;
use crate::report::{Figures, Report};
use crate::run::{Progress, RunError, RunOptions, run};

/// Runs, and goes on until the capacity is known to one session if it is searched for. All runs are
/// one report.
///
/// # Errors
/// [`RunError`] when a run could not begin.
pub async fn search(
    options: RunOptions,
    mut progress: impl FnMut(&Progress),
    stop: impl Future<Output = String>,
) -> Result<Report, RunError> {
    let mut stop = pin!(stop);
    let mut report = run(options.clone(), &mut progress, stop.as_mut()).await?;
    while let Some(sessions) = next(&report) {
        let mut options = options.clone();
        options.load.steps = vec![sessions];
        let level = run(options.clone(), &mut progress, stop.as_mut()).await?;
        report = joined(report, level, &options.objective);
    }
    Ok(report)
}

/// The number of sessions to try next; none when the capacity is known, or will not be.
fn next(report: &Report) -> Option<usize> {
    let held = report.capacity?;
    if report.cut_short.is_some() || !report.generator.valid {
        return None;
    }
    let lost = report.levels.iter().filter(|level| !level.verdicts.iter().all(|it| it.met));
    let lost = lost.map(|level| level.sessions).min()?;
    (lost > held + 1).then_some(held.midpoint(lost))
}

/// One report of two runs, the second of which began when the first was over.
fn joined(first: Report, second: Report, objective: &Objective) -> Report {
    let mut report = first;
    let (levels, shift_ms) = (report.levels.len(), 1000.0 * report.took_s);
    let known = report.outcomes.iter().map(|outcome| outcome.session);
    let known = known.chain(report.errors.iter().map(|failure| failure.session)).max();
    let sessions = known.map_or(0, |last| last + 1);
    report.levels.extend(second.levels.into_iter().map(|mut level| {
        level.begin_ms += shift_ms;
        level.end_ms += shift_ms;
        level
    }));
    report.outcomes.extend(second.outcomes.into_iter().map(|mut outcome| {
        outcome.session += sessions;
        outcome.level += levels;
        outcome.due_ms += shift_ms;
        outcome
    }));
    report.errors.extend(second.errors.into_iter().map(|mut failure| {
        failure.session += sessions;
        failure.at_ms += shift_ms;
        failure
    }));
    let of_all = |count: fn(&Figures) -> u64| {
        report.levels.iter().map(|level| count(&level.figures)).sum::<u64>()
    };
    let joins = report.levels.iter().flat_map(|level| level.joins_ms.iter().copied());
    report.total = Figures {
        join: joins.collect::<Distribution>().summary(),
        packets: of_all(|figures| figures.packets),
        lost: of_all(|figures| figures.lost),
        concealed: of_all(|figures| figures.concealed),
        ..Figures::of(&report.outcomes.iter().collect::<Vec<_>>())
    };
    report.verdicts = objective.judge(&report.total);
    let cores = report.generator.cores * report.took_s + second.generator.cores * second.took_s;
    report.took_s += second.took_s;
    if second.generator.late.p99 > report.generator.late.p99 {
        report.generator.late = second.generator.late;
    }
    report.generator.valid &= second.generator.valid;
    report.generator.cores = cores / report.took_s.max(0.001);
    report.capacity = report.capacity.max(second.capacity);
    report.cut_short = second.cut_short;
    report
}
