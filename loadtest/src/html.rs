//! A report as one page that needs nothing else: figures first, then pictures, then tables.

use std::fmt::Write as _;

use crate::distribution::Summary;
use crate::plot::{Plot, escape, ticks};
use crate::report::{Figures, Outcome, Report, STAGES};

/// Most errors and worst sentences that are listed.
const MOST_LISTED: usize = 20;
/// Percentiles of the stage plot.
const SHARES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99")];
/// Share of the outcomes around a percentile whose stages are averaged for it.
const AROUND: f64 = 0.05;
/// Colours that the style sheet has.
const COLOURS: usize = 8;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5b6670;--line:#d8dde2;--back:#fff;--card:#f6f8fa;
--good:#1a7f4b;--bad:#c0332b;--c0:#3366cc;--c1:#dc7a1f;--c2:#2a9d63;--c3:#a04bb5;--c4:#c23b5f;
--c5:#1d93a8;--c6:#8a8f24;--c7:#7a828a}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaee;--soft:#9aa5b0;--line:#343b43;--back:#14181c;
--card:#1c2127;--good:#4cc38a;--bad:#ff6b60;--c0:#7aa5ff;--c1:#f2a65a;--c2:#5fd39a;--c3:#d08be6;
--c4:#f0809f;--c5:#57c7da;--c6:#c4ca55;--c7:#a5adb5}}
*{box-sizing:border-box}body{margin:0 auto;padding:24px 16px 64px;max-width:860px;background:var(--back);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}h1{font-size:1.5em;margin:0}h2{font-size:1.1em;
margin:2em 0 .4em}p{margin:.4em 0}.soft{color:var(--soft)}.cards{display:grid;gap:10px;margin:18px 0;
grid-template-columns:repeat(auto-fit,minmax(128px,1fr))}.card{background:var(--card);border-radius:8px;
padding:10px 12px}.card b{display:block;font-size:1.35em}.card span{color:var(--soft);font-size:.85em}
.banner{border-left:5px solid var(--bad);background:var(--card);padding:10px 14px;margin:14px 0}
.good{color:var(--good)}.bad{color:var(--bad)}.wide{overflow-x:auto}table{border-collapse:collapse;
width:100%;font-size:.9em}th,td{padding:4px 8px;border-bottom:1px solid var(--line);text-align:right;
white-space:nowrap}th.l,td.l{text-align:left;white-space:normal}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:12px}svg .x{text-anchor:middle}svg .y,svg .end{text-anchor:end}
.grid,.tick{stroke:var(--line)}.line{fill:none;stroke-width:2}.limit{stroke:var(--bad);
stroke-dasharray:6 4}.error{stroke:var(--bad);stroke-width:2}.cross{stroke:var(--bad);stroke-width:2;
fill:none}.shade{fill:var(--card)}.key{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:.85em;
color:var(--soft)}.key i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:5px;
vertical-align:-1px}
";

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    let colours: String = (0..COLOURS).fold(String::new(), |mut css, n| {
        let _ = write!(
            css,
            ".s{n}{{fill:var(--c{n});background:var(--c{n})}}.line.s{n}{{fill:none;\
             background:none;stroke:var(--c{n})}}"
        );
        css
    });
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>Load test</title><style>{STYLE}{colours}</style></head><body>"
    );
    head(&mut page, report);
    cards(&mut page, report);
    section(&mut page, "Lag by percentile", &distribution(report), "");
    let (picture, key) = stages(report);
    section(&mut page, "Where the time goes", &picture, &key);
    section(&mut page, "Lag against load", &load(report), "");
    section(&mut page, "Every sentence", &timeline(report), "");
    levels(&mut page, report);
    worst(&mut page, report);
    errors(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn head(page: &mut String, report: &Report) {
    let _ = write!(
        page,
        "<h1>Load test</h1><p>{}</p><p class=\"soft\">{} for {:.0} s from {}, version {}</p>",
        escape(&report.scenario),
        escape(&report.server),
        report.took_s,
        escape(&report.started),
        escape(&report.version),
    );
    if !report.generator.valid {
        let _ = write!(
            page,
            "<p class=\"banner\"><b class=\"bad\">Invalid.</b> The load generator itself was late by \
             {:.0} ms at its 99th percentile: what it measured says little about the server.</p>",
            report.generator.late.p99
        );
    }
    if let Some(why) = &report.cut_short {
        let _ =
            write!(page, "<p class=\"banner\"><b class=\"bad\">Cut short.</b> {}</p>", escape(why));
    }
    for verdict in &report.verdicts {
        let (class, word) = if verdict.met { ("good", "met") } else { ("bad", "not met") };
        let _ = write!(
            page,
            "<p><b class=\"{class}\">{}: {word}</b> ({})</p>",
            escape(&verdict.condition),
            escape(&verdict.measured),
        );
    }
}

fn cards(page: &mut String, report: &Report) {
    let total = &report.total;
    let mut cards = vec![
        (format!("{:.0} ms", total.lag.p50), "lag p50"),
        (format!("{:.0} ms", total.lag.p95), "lag p95"),
        (format!("{:.0} ms", total.lag.p99), "lag p99"),
        (format!("{} of {}", total.missing, total.sentences), "missing"),
        (format!("{:.2} %", 100.0 * total.loss()), "packets lost"),
        (format!("{:.2} %", 100.0 * total.concealment()), "packets concealed"),
        (format!("{:.1} %", 100.0 * total.word_error_rate()), "word error rate"),
        (total.chrf.map_or_else(|| "–".to_owned(), |chrf| format!("{chrf:.1}")), "chrF"),
        (format!("{:.0} ms", total.join.p95), "join p95"),
    ];
    if total.listened > 0 {
        let share = 100.0 * total.listened_error_rate();
        cards.push((format!("{share:.1} %"), "word error rate of the voice"));
    }
    if let Some(capacity) = report.capacity {
        cards.insert(0, (capacity.to_string(), "sessions held the objective"));
    }
    page.push_str("<div class=\"cards\">");
    for (value, name) in cards {
        let _ = write!(page, "<div class=\"card\"><b>{value}</b><span>{name}</span></div>");
    }
    page.push_str("</div>");
}

fn section(page: &mut String, title: &str, picture: &str, key: &str) {
    let _ = write!(page, "<h2>{}</h2>{picture}{key}", escape(title));
}

/// What a plot shows when there is nothing to show.
fn nothing() -> String {
    "<p class=\"soft\">Nothing was measured.</p>".to_owned()
}

fn sessions(count: usize) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// Names with their colours.
fn key(names: impl Iterator<Item = String>) -> String {
    let mut key = String::from("<p class=\"key\">");
    for (index, name) in names.enumerate() {
        let (colour, name) = (index % COLOURS, escape(&name));
        let _ = write!(key, "<span><i class=\"s{colour}\"></i>{name}</span>");
    }
    key.push_str("</p>");
    key
}

/// Lag by percentile, a line for each level: the axis stretches towards 100 % as HdrHistogram's
/// plots do.
fn distribution(report: &Report) -> String {
    if report.outcomes.is_empty() {
        return nothing();
    }
    let stretched = |share: f64| -(1.0 - share).log10();
    let marks = [
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.95, "95 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
    ];
    let marks = marks.map(|(share, label)| (stretched(share), label.to_owned()));
    let end = stretched(0.999);
    let highest = report.total.lag.max;
    let mut plot = Plot::new(
        "Lag by percentile",
        ("percentile", (0.0, end), &marks),
        ("ms", (0.0, highest * 1.05)),
    );
    let lines = report.levels.iter().enumerate().map(|(index, level)| {
        let of_level = report.outcomes.iter().filter(move |outcome| outcome.level == index);
        (sessions(level.sessions), sorted(of_level))
    });
    let mut lines: Vec<_> = lines.filter(|(_, lags)| !lags.is_empty()).collect();
    if lines.len() > 1 {
        lines.push(("all levels".to_owned(), sorted(report.outcomes.iter())));
    }
    for (index, (name, lags)) in lines.iter().enumerate() {
        let points: Vec<(f64, f64)> = (0..=60)
            .map(|step| end * f64::from(step) / 60.0)
            .map(|x| (x, quantile(lags, 1.0 - 10_f64.powf(-x))))
            .collect();
        plot.line(&format!("s{}", index % COLOURS), name, &points);
    }
    plot.finish() + &key(lines.into_iter().map(|(name, _)| name))
}

fn sorted<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<f64> {
    let mut lags: Vec<f64> = outcomes.map(|outcome| outcome.lag_ms).collect();
    lags.sort_by(f64::total_cmp);
    lags
}

/// The value below which a share of sorted values lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (share * sorted.len() as f64) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The stages of the sentences around each percentile of the lag, one above the other.
fn stages(report: &Report) -> (String, String) {
    let mut answered: Vec<&Outcome> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.missing.is_none() && !outcome.stages.is_empty())
        .collect();
    answered.sort_by(|one, other| one.lag_ms.total_cmp(&other.lag_ms));
    if answered.is_empty() {
        return (nothing(), String::new());
    }
    let stacks = SHARES.map(|(share, label)| (label, stack(&answered, share)));
    let highest = stacks.iter().map(|(_, stack)| stack.iter().sum::<f64>()).fold(1.0, f64::max);
    let marks = SHARES.iter().enumerate().map(|(at, (_, label))| (at as f64, (*label).to_owned()));
    let marks: Vec<_> = marks.collect();
    let mut plot = Plot::new(
        "Stages by percentile of the lag",
        ("sentences around this percentile of the lag", (-0.5, 3.5), &marks),
        ("ms", (0.0, highest * 1.1)),
    );
    for (at, (label, stack)) in stacks.iter().enumerate() {
        let at = at as f64;
        let mut below = 0.0;
        for (index, &time) in stack.iter().enumerate() {
            let name = stage_name(index);
            let text = format!("{label}: {name} {time:.0} ms");
            let (from, to) = ((at - 0.3, below), (at + 0.3, below + time));
            plot.bar(&format!("s{}", index % COLOURS), &text, from, to);
            below += time;
        }
        plot.note((at, below), &format!("{below:.0} ms"));
    }
    (plot.finish(), key((0..=STAGES.len()).map(|index| stage_name(index).to_owned())))
}

/// Names of the stages, and of what is left.
fn stage_name(index: usize) -> &'static str {
    STAGES.get(index).copied().unwrap_or("network and end of speech")
}

/// Mean times of the stages of the outcomes around a percentile, and what is left of their lag.
fn stack(answered: &[&Outcome], share: f64) -> Vec<f64> {
    let around = ((answered.len() as f64 * AROUND).ceil() as usize).max(1);
    let middle = (answered.len() as f64 * share) as usize;
    let begin = middle.saturating_sub(around / 2).min(answered.len() - around.min(answered.len()));
    let chosen = &answered[begin..(begin + around).min(answered.len())];
    let mean = |value: &dyn Fn(&Outcome) -> f64| {
        chosen.iter().map(|outcome| value(outcome)).sum::<f64>() / chosen.len().max(1) as f64
    };
    let mut stack: Vec<f64> = STAGES
        .iter()
        .map(|stage| mean(&|outcome| outcome.stage(stage).unwrap_or_default().max(0.0)))
        .collect();
    let rest = mean(&|outcome| outcome.lag_ms) - stack.iter().sum::<f64>();
    stack.push(rest.max(0.0));
    stack
}

/// Lag of each level against its number of sessions.
fn load(report: &Report) -> String {
    let measured = report.levels_by_load().into_iter().filter(|level| level.figures.sentences > 0);
    let levels: Vec<(f64, &Summary)> =
        measured.map(|level| (level.sessions as f64, &level.figures.lag)).collect();
    let (Some((first, _)), Some((last, _))) = (levels.first(), levels.last()) else {
        return nothing();
    };
    let limits = report.verdicts.iter().filter_map(|verdict| lag_limit(&verdict.condition));
    let limits: Vec<(f64, &str)> = limits.collect();
    let highest = levels.iter().map(|(_, lag)| lag.p95).chain(limits.iter().map(|limit| limit.0));
    let highest = highest.fold(1.0, f64::max);
    let whole = ticks(*first, *last, 8).into_iter().filter(|at| at.fract() == 0.0);
    let marks: Vec<_> = whole.map(|at| (at, format!("{at:.0}"))).collect();
    let mut plot = Plot::new(
        "Lag against load",
        ("sessions at once", (first - 0.2, last + 0.2), &marks),
        ("ms", (0.0, highest * 1.1)),
    );
    for (limit, condition) in limits {
        plot.limit(limit, condition);
    }
    let median = levels.iter().map(|(x, lag)| (*x, lag.p50)).collect::<Vec<_>>();
    let late = levels.iter().map(|(x, lag)| (*x, lag.p95)).collect::<Vec<_>>();
    let lines = [("p50", median), ("p95", late)];
    for (index, (name, points)) in lines.iter().enumerate() {
        let class = format!("s{index}");
        plot.line(&class, name, points);
        for &(x, y) in points {
            plot.dot((x, y), false, &class, &format!("{}: {name} {y:.0} ms", sessions(x as usize)));
        }
    }
    plot.finish() + &key(lines.iter().map(|(name, _)| format!("lag {name}")))
}

/// The limit of a condition such as `lag_p95<2.5s`, in milliseconds.
fn lag_limit(condition: &str) -> Option<(f64, &str)> {
    let limit = condition.strip_prefix("lag_")?.split_once('<')?.1.strip_suffix('s')?;
    Some((1000.0 * limit.parse::<f64>().ok()?, condition))
}

/// When each sentence was due and how late it was heard.
fn timeline(report: &Report) -> String {
    if report.outcomes.is_empty() {
        return nothing();
    }
    let end = report.took_s.max(1.0);
    let marks: Vec<_> = ticks(0.0, end, 8).into_iter().map(|at| (at, format!("{at:.0}"))).collect();
    let highest = report.outcomes.iter().map(|outcome| outcome.lag_ms).fold(1.0, f64::max) * 1.1;
    let mut plot = Plot::new(
        "Every sentence: when it was due and how late it was heard",
        ("time in the run, s", (0.0, end), &marks),
        ("lag, ms", (0.0, highest)),
    );
    for (index, level) in report.levels.iter().enumerate() {
        let (begin, end) = (level.begin_ms / 1000.0, level.end_ms / 1000.0);
        let name = sessions(level.sessions);
        if index % 2 == 1 {
            plot.bar("shade", &name, (begin, 0.0), (end, highest));
        }
        let label = if report.levels.len() > 6 { level.sessions.to_string() } else { name };
        // A level that hardly began has no room for its name.
        if end - begin > 0.06 * report.took_s {
            plot.note((f64::midpoint(begin, end), highest * 0.95), &label);
        }
    }
    for failure in &report.errors {
        let name = format!("session {}: {}", failure.session, failure.what);
        plot.mark(failure.at_ms / 1000.0, &name);
    }
    for outcome in &report.outcomes {
        let why = outcome.missing.as_deref().unwrap_or("heard");
        let text = format!(
            "session {}, {}, {:.0} ms: {why}",
            outcome.session, outcome.sentence, outcome.lag_ms
        );
        let at = (outcome.due_ms / 1000.0, outcome.lag_ms);
        plot.dot(at, outcome.missing.is_some(), "s0", &text);
    }
    plot.finish()
}

fn levels(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Levels</h2><div class=\"wide\"><table><thead><tr><th>sessions</th><th>sentences</th>\
         <th>missing</th><th>lag p50</th><th>p95</th><th>p99</th><th>captions p50</th>\
         <th>join p95</th><th>loss</th><th>concealed</th><th>WER</th><th>chrF</th></tr></thead><tbody>",
    );
    for level in report.levels_by_load() {
        let is_met = level.verdicts.iter().all(|verdict| verdict.met);
        row(page, &level.sessions.to_string(), &level.figures, is_met);
    }
    row(page, "all", &report.total, report.is_met());
    page.push_str("</tbody></table></div>");
    let _ = write!(
        page,
        "<p class=\"soft\">Times in ms; red where the objective is not met. The generator took {:.2} cores and was late by {:.1} ms at \
         its 99th percentile{}. The lag by the client's clock and the sum of the server's stages \
         are {:.0} ms apart at the median.</p>",
        report.generator.cores,
        report.generator.late.p99,
        if report.generator.real_time { ", with real-time priority" } else { "" },
        report.total.unexplained.p50,
    );
}

fn row(page: &mut String, name: &str, figures: &Figures, is_met: bool) {
    let class = if is_met { "" } else { " class=\"bad\"" };
    let _ = write!(
        page,
        "<tr{class}><td>{name}</td><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td>\
         <td>{:.0}</td><td>{:.0}</td><td>{:.2} %</td><td>{:.2} %</td><td>{:.1} %</td>\
         <td>{}</td></tr>",
        figures.sentences,
        figures.missing,
        figures.lag.p50,
        figures.lag.p95,
        figures.lag.p99,
        figures.caption.p50,
        figures.join.p95,
        100.0 * figures.loss(),
        100.0 * figures.concealment(),
        100.0 * figures.word_error_rate(),
        figures.chrf.map_or_else(|| "–".to_owned(), |chrf| format!("{chrf:.1}")),
    );
}

fn worst(page: &mut String, report: &Report) {
    let mut outcomes: Vec<&Outcome> = report.outcomes.iter().collect();
    outcomes.sort_by(|one, other| other.lag_ms.total_cmp(&one.lag_ms));
    if outcomes.is_empty() {
        return;
    }
    page.push_str(
        "<h2>The latest sentences</h2><div class=\"wide\"><table><thead><tr><th>at, s</th>\
         <th>session</th><th>lag, ms</th><th class=\"l\">sentence</th><th class=\"l\">understood\
         </th><th class=\"l\">became</th></tr></thead><tbody>",
    );
    for outcome in outcomes.into_iter().take(MOST_LISTED) {
        let text = |text: &Option<String>| escape(text.as_deref().unwrap_or("–"));
        let became = match &outcome.missing {
            Some(why) => format!("<span class=\"bad\">{}</span>", escape(why)),
            None => text(&outcome.translation),
        };
        let _ = write!(
            page,
            "<tr><td>{:.1}</td><td>{}</td><td>{:.0}</td><td class=\"l\">{}</td>\
             <td class=\"l\">{}</td><td class=\"l\">{became}</td></tr>",
            outcome.due_ms / 1000.0,
            outcome.session,
            outcome.lag_ms,
            escape(&outcome.sentence),
            text(&outcome.transcript),
        );
    }
    page.push_str("</tbody></table></div>");
}

fn errors(page: &mut String, report: &Report) {
    if report.errors.is_empty() {
        return;
    }
    page.push_str("<h2>Errors</h2>");
    for failure in report.errors.iter().take(MOST_LISTED) {
        let _ = write!(
            page,
            "<p>session {} at {:.1} s: {}</p>",
            failure.session,
            failure.at_ms / 1000.0,
            escape(&failure.what),
        );
    }
    if report.errors.len() > MOST_LISTED {
        let _ = write!(page, "<p>and {} more</p>", report.errors.len() - MOST_LISTED);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::{Failure, Generator, Level, Verdict};

    /// Four levels whose lag grows with the load; every 25th sentence is missing.
    fn report() -> Report {
        let outcomes = (0..200).map(|n| {
            let level = n / 50;
            let lag = 900.0 + 350.0 * level as f64 + 37.0 * (n * 7 % 23) as f64;
            let missing = (n % 25 == 24).then(|| "not spoken within 10 s".to_owned());
            Outcome {
                session: n % (level + 1),
                level,
                due_ms: 1000.0 * n as f64,
                sentence: "<b>one</b>.wav".to_owned(),
                lag_ms: if missing.is_some() { 10_000.0 } else { lag },
                stages: vec![("endpoint".to_owned(), 500.0), ("translate".to_owned(), lag - 700.0)],
                transcript: Some("hello & <script>alert(1)</script>".to_owned()),
                missing,
                ..Outcome::default()
            }
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        let figures = |level: Option<usize>| {
            let chosen = outcomes.iter().filter(|it| level.is_none_or(|level| it.level == level));
            Figures::of(&chosen.collect::<Vec<_>>())
        };
        let levels = (0..4).map(|level| Level {
            joins_ms: Vec::new(),
            sessions: level + 1,
            begin_ms: 50_000.0 * level as f64,
            end_ms: 50_000.0 * (level + 1) as f64,
            figures: figures(Some(level)),
            verdicts: Vec::new(),
        });
        let verdict = |condition: &str, met| Verdict {
            condition: condition.to_owned(),
            measured: "2100 ms".to_owned(),
            met,
        };
        Report {
            format: crate::report::FORMAT,
            version: "0".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            took_s: 200.0,
            server: "http://127.0.0.1:8080".to_owned(),
            scenario: "call en→es".to_owned(),
            timeout_ms: 10_000.0,
            levels: levels.collect(),
            total: figures(None),
            generator: Generator { valid: true, ..Generator::default() },
            verdicts: vec![verdict("lag_p95<2.5s", true), verdict("missing<1%", false)],
            capacity: Some(2),
            errors: vec![Failure { at_ms: 70_000.0, session: 1, what: "lost <it>".to_owned() }],
            cut_short: None,
            outcomes,
        }
    }

    fn parse(page: &str) -> roxmltree::Document<'_> {
        let markup = page.strip_prefix("<!doctype html>\n").unwrap();
        roxmltree::Document::parse(markup).unwrap_or_else(|error| panic!("{error}: {page}"))
    }

    #[test]
    fn a_page_shows_four_pictures_and_lets_no_text_become_markup() {
        let page = page(&report());
        let document = parse(&page);
        let count = |name: &str| document.descendants().filter(|it| it.has_tag_name(name)).count();
        assert_eq!(count("svg"), 4);
        assert_eq!(count("script"), 0);
        assert_eq!(count("circle"), 192 + 8, "sentences that were heard, and levels twice");
        assert_eq!(count("rect"), 4 * 7 + 2, "stages, and every other level");
        assert!(page.contains("lag_p95&lt;2.5s: met") && page.contains("missing&lt;1%: not met"));
        assert!(!page.contains("NaN") && !page.contains("http-equiv"));
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        let mut empty = report();
        empty.outcomes.clear();
        empty.levels.clear();
        empty.errors.clear();
        empty.total = Figures::default();
        empty.generator.valid = false;
        empty.cut_short = Some("it was <interrupted>".to_owned());
        let page = page(&empty);
        parse(&page);
        assert!(page.contains("Nothing was measured") && page.contains("Invalid."));
        assert!(page.contains("it was &lt;interrupted&gt;") && !page.contains("NaN"));
    }

    #[test]
    fn one_sentence_is_enough_for_every_picture() {
        let mut single = report();
        single.outcomes.truncate(1);
        single.levels.truncate(1);
        let page = page(&single);
        let pictures = parse(&page).descendants().filter(|it| it.has_tag_name("svg")).count();
        assert_eq!(pictures, 4);
    }
}
