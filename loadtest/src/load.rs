//! The load commands: from arguments to a run, its live view, its files and its exit code.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::corpus::Corpus;
use loadtest::distribution::{Distribution, Interval, write_hlog};
use loadtest::html;
use loadtest::impairment::Preset;
use loadtest::report::{Outcome, Report, STAGES};
use loadtest::run::{Progress, RunOptions};
use loadtest::scenario::{Scenario, Settings};
use loadtest::schedule::Cast;
use loadtest::search::search;
use loadtest::table::Table;
use signaling::wire::RoomKind;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// The run could not begin, or broke off.
pub(crate) const COULD_NOT_RUN: u8 = 3;
/// The load generator itself was late.
const INVALID: u8 = 2;
/// The objective is not met.
const NOT_MET: u8 = 1;

/// How often a line is printed when nobody looks at a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct CallsArguments {
    /// Who speaks and who listens, such as en:es,es:en; calls take these in turn.
    #[arg(long, value_delimiter = ',', default_value = "en:es", value_parser = parse_pair)]
    pairs: Vec<(String, String)>,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Args)]
pub(crate) struct ConferenceArguments {
    /// Languages of those who speak, one each, such as en,en,es.
    #[arg(long, value_delimiter = ',', default_value = "en")]
    speakers: Vec<String>,
    /// Languages of those who listen, with their number, such as es:10,fr:5.
    #[arg(long, value_delimiter = ',', default_value = "es:3", value_parser = parse_count)]
    listeners: Vec<(String, usize)>,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Args)]
pub(crate) struct ScenarioArguments {
    /// The scenario, TOML; loadtest/scenarios/ has commented ones. Flags come before it.
    file: PathBuf,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Args)]
struct LoadArguments {
    /// The server's API key, or an admin token.
    #[arg(long, env = "DRAGOMAN_API_KEY", hide_env_values = true)]
    api_key: String,
    #[command(flatten)]
    settings: Settings,
    /// Folder for the report as a page (report.html) and as JSON, and for a HdrHistogram log of
    /// each measurement.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the report as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Do not ask for real-time priority for the callers.
    #[arg(long)]
    no_real_time: bool,
}

impl CallsArguments {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let casts = self.pairs.iter().map(|(from, to)| Cast::call(from, to)).collect();
        let scenario = Scenario::new(casts, self.load.settings.clone())?;
        self.load.run(scenario)
    }
}

impl ConferenceArguments {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let listeners = self.listeners.into_iter();
        let cast = Cast {
            kind: RoomKind::Conference,
            speakers: self.speakers,
            listeners: listeners
                .flat_map(|(language, count)| std::iter::repeat_n(language, count))
                .collect(),
        };
        let scenario = Scenario::new(vec![cast], self.load.settings.clone())?;
        self.load.run(scenario)
    }
}

impl ScenarioArguments {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let scenario = Scenario::read(&self.file, self.load.settings.clone())?;
        self.load.run(scenario)
    }
}

impl LoadArguments {
    fn run(self, scenario: Scenario) -> anyhow::Result<ExitCode> {
        if let Some(out) = &self.out {
            // Better now than after an hour.
            std::fs::create_dir_all(out)
                .with_context(|| format!("the folder {} cannot be made", out.display()))?;
        }
        let folder = match &scenario.corpus {
            Some(folder) => folder.clone(),
            None => default_corpus()?,
        };
        let mut languages: Vec<String> =
            scenario.casts.iter().flat_map(|cast| cast.speakers.iter().cloned()).collect();
        languages.sort_unstable();
        languages.dedup();
        let corpus = Corpus::load(&folder, &languages, scenario.sentences.max(1))?;
        let real_time = !self.no_real_time && allows_real_time();
        let options = RunOptions {
            scenario: scenario.to_string(),
            server: scenario.server,
            api_key: self.api_key,
            casts: scenario.casts,
            load: scenario.load,
            corpus,
            timeout: scenario.timeout,
            network: scenario.network.map(Preset::conditions),
            objective: scenario.objective,
            find_capacity: scenario.find_capacity,
            listen_back: scenario.listen_back,
            real_time,
        };
        let started = SystemTime::now();
        let report = callers_runtime(real_time)?.block_on(hold(options))?;
        if let Some(out) = &self.out {
            write_files(out, started, &report)?;
        }
        let mut stdout = std::io::stdout().lock();
        if self.json {
            writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
        } else {
            write!(stdout, "{}", Table(&report))?;
        }
        Ok(verdict(&report))
    }
}

fn verdict(report: &Report) -> ExitCode {
    if report.cut_short.is_some() {
        return COULD_NOT_RUN.into();
    }
    if !report.generator.valid {
        return INVALID.into();
    }
    let is_met = match report.capacity {
        Some(capacity) => capacity > 0,
        None => report.is_met(),
    };
    if is_met { ExitCode::SUCCESS } else { NOT_MET.into() }
}

async fn hold(options: RunOptions) -> anyhow::Result<Report> {
    let interrupted = crate::asked_to_end()?;
    let stop = async {
        interrupted.await;
        "it was interrupted".to_owned()
    };
    let mut view = View::new();
    let report = search(options, |progress| view.show(progress), stop).await?;
    view.bar.finish_and_clear();
    Ok(report)
}

/// What is seen while a run goes on.
struct View {
    bar: ProgressBar,
    is_terminal: bool,
    line_at: Instant,
}

impl View {
    fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(1) } else { ProgressBar::hidden() };
        let template = "{wide_bar}\n{msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, is_terminal, line_at: Instant::now() }
    }

    fn show(&mut self, progress: &Progress) {
        let parts = describe(progress);
        let (elapsed, end) = (progress.elapsed.as_secs(), progress.end.as_secs());
        if self.is_terminal {
            self.bar.set_length(end.max(1));
            self.bar.set_position(elapsed);
            self.bar.set_message(format!("{elapsed} of {end} s\n{}", parts.join("\n")));
        } else if self.line_at.elapsed() >= LINE_EVERY {
            self.line_at = Instant::now();
            // Nothing can be done when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{elapsed:>4} of {end} s: {}", parts.join("; "));
        }
    }
}

/// How far it is, what was measured, how well the generator does, and what went wrong.
fn describe(progress: &Progress) -> Vec<String> {
    let Progress { level, levels, sessions, sentences, missing, lag, .. } = progress;
    let mut parts = vec![
        format!("level {level} of {levels}, {sessions} sessions"),
        format!("{sentences} sentences, {missing} missing"),
        format!(
            "lag p50 {:.0} p95 {:.0} p99 {:.0} max {:.0} ms",
            lag.p50, lag.p95, lag.p99, lag.max
        ),
        format!("generator late {:.1} ms at p99", progress.late_p99_ms),
    ];
    if let Some((done, count)) = progress.listened {
        parts.push(format!("listened back to {done} of {count} interpretations"));
    }
    if let Some(error) = &progress.last_error {
        parts.push(format!("{} errors, the last: {error}", progress.errors));
    }
    parts
}

/// What of a sentence is logged.
type Value = fn(&Outcome) -> Option<f64>;

fn write_files(out: &Path, started: SystemTime, report: &Report) -> anyhow::Result<()> {
    let write = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("{} not written", path.display()))
    };
    write("report.html", html::page(report).as_bytes())?;
    write("report.json", &serde_json::to_vec_pretty(report)?)?;
    let values: [(&str, Value); 4] = [
        ("lag", |outcome| Some(outcome.lag_ms)),
        ("start", |outcome| Some(outcome.start_ms)),
        ("finish", |outcome| Some(outcome.finish_ms)),
        ("caption", |outcome| outcome.caption_ms),
    ];
    for (name, value) in values {
        write(&format!("{name}.hlog"), &log_of(report, started, name, value)?)?;
    }
    for stage in STAGES {
        let log = log_of(report, started, stage, |outcome| outcome.stage(stage))?;
        write(&format!("stage-{stage}.hlog"), &log)?;
    }
    Ok(())
}

/// A histogram of each level, tagged with its number of sessions.
fn log_of(
    report: &Report,
    started: SystemTime,
    name: &str,
    value: impl Fn(&Outcome) -> Option<f64>,
) -> std::io::Result<Vec<u8>> {
    let levels = report.levels.iter().enumerate().map(|(index, level)| {
        let outcomes = report.outcomes.iter().filter(|outcome| outcome.level == index);
        let tag = format!("sessions={}", level.sessions);
        (level, tag, outcomes.filter_map(&value).collect::<Distribution>())
    });
    let levels: Vec<_> = levels.collect();
    let time = |ms: f64| Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default();
    let intervals = levels.iter().map(|(level, tag, values)| Interval {
        begin: time(level.begin_ms),
        length: time(level.end_ms - level.begin_ms),
        tag,
        values,
    });
    let mut log = Vec::new();
    write_hlog(&mut log, started, name, &intervals.collect::<Vec<_>>())?;
    Ok(log)
}

/// Where `make loadtest-corpus` puts its recordings.
fn default_corpus() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home).context("there is no HOME: name the recordings by --corpus")?;
    Ok(cache.join("dragoman/loadtest-corpus"))
}

fn callers_runtime(real_time: bool) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all();
    if real_time {
        builder.on_thread_start(|| {
            // Tried before on another thread; if it fails here, the generator's lateness tells.
            let _ = enter_real_time();
        });
    }
    builder.build()
}

/// Whether a thread may have real-time priority; tried on one that ends at once.
fn allows_real_time() -> bool {
    std::thread::spawn(enter_real_time).join().is_ok_and(|outcome| outcome.is_ok())
}

fn enter_real_time() -> Result<(), thread_priority::Error> {
    let lowest = ThreadPriority::Crossplatform(
        ThreadPriorityValue::try_from(1_u8)
            .map_err(|_| thread_priority::Error::Priority("1 is out of range"))?,
    );
    set_thread_priority_and_policy(
        thread_native_id(),
        lowest,
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin),
    )
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok((from.to_owned(), to.to_owned()))
        }
        _ => Err(format!("{text:?} is no pair of languages: write en:es")),
    }
}

fn parse_count(text: &str) -> Result<(String, usize), String> {
    let wrong = || format!("{text:?} is no language with a number of listeners: write es:10");
    let (language, count) = text.split_once(':').unwrap_or((text, "1"));
    let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    if language.is_empty() {
        return Err(wrong());
    }
    Ok((language.to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_read_from_flags() {
        let owned = |from: &str, to: &str| Ok((from.to_owned(), to.to_owned()));
        assert_eq!(parse_pair("en:es"), owned("en", "es"));
        assert!(parse_pair("en").is_err() && parse_pair("en:").is_err());
        assert_eq!(parse_count("es:10"), Ok(("es".to_owned(), 10)));
        assert_eq!(parse_count("fr"), Ok(("fr".to_owned(), 1)));
        assert!(parse_count("fr:0").is_err() && parse_count(":3").is_err());
    }
}
