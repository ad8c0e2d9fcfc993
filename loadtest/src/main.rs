//! `dragoman-loadtest`: headless calls against a running server.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

mod load;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use load::{CallsArguments, ConferenceArguments, ScenarioArguments};
use loadtest::call::{self, CallError, CallOptions, CallReport, EndOfSpeech, UtteranceReport};
use loadtest::impairment::Preset;
use loadtest::relay::Relay;
use loadtest::scenario::Span;
use loadtest::wav;
use signaling::wire::Trace;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Headless callers that speak recordings to a Dragoman server and measure what they hear.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit code: 0 the objective is met (or there is none), 1 it is not met, 2 the run \
                  is invalid because the load generator itself was late, 3 it could not run or \
                  broke off."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hold one call between two parties: one speaks a WAV file, the other records.
    Call(CallArguments),
    /// Hold two-party calls as a load and measure what every sentence becomes.
    Calls(CallsArguments),
    /// Hold conferences as a load: speakers take turns, every listener is measured.
    Conference(ConferenceArguments),
    /// Hold the sessions that a file describes, calls and conferences mixed.
    Scenario(ScenarioArguments),
    /// Tell what changed between two runs, with intervals.
    Compare {
        /// report.json of the first run.
        before: PathBuf,
        /// report.json of the second run.
        after: PathBuf,
    },
    /// Relay UDP between clients and a server as a bad network would, until Ctrl-C or
    /// SIGTERM. Prints a JSON object with its address, and one with what it did in the end.
    Relay(RelayArguments),
}

#[derive(Args)]
struct RelayArguments {
    /// Address of the server's media port.
    #[arg(long)]
    to: SocketAddr,
    /// UDP port on the loopback interface; 0 takes any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// What kind of network.
    #[arg(long, value_enum, default_value_t = Preset::WifiLossy)]
    preset: Preset,
    /// The same seed gives the same datagrams the same fate.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct CallArguments {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The server's API key, or an admin token.
    #[arg(long, env = "DRAGOMAN_API_KEY", hide_env_values = true)]
    api_key: String,
    /// WAV file to speak; any rate and number of channels.
    #[arg(long)]
    speak: PathBuf,
    /// Language of the file.
    #[arg(long)]
    from: String,
    /// Language of the listener.
    #[arg(long)]
    to: String,
    /// Where to write what the listener heard, as WAV.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Gain of the original under its interpretation, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    original_gain: f32,
    /// Where in the file the last voiced sample is; estimated by energy when missing.
    #[arg(long, value_name = "MS")]
    last_voiced_ms: Option<u64>,
    /// Time after the end of the speech in which everything has to come, such as 30s or 1500ms.
    #[arg(long, default_value = "30s")]
    timeout: Span,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,rtc_ice=error,rtc_dtls=error,webrtc=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help is printed the same way, and is no error. Nothing can be done when it cannot be.
            let _ = error.print();
            return if error.use_stderr() { load::COULD_NOT_RUN.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match command {
        Command::Call(arguments) => block_on(run_call(arguments)).map(|()| ExitCode::SUCCESS),
        Command::Relay(arguments) => block_on(run_relay(&arguments)).map(|()| ExitCode::SUCCESS),
        Command::Calls(arguments) => arguments.run(),
        Command::Conference(arguments) => arguments.run(),
        Command::Scenario(arguments) => arguments.run(),
        Command::Compare { before, after } => compare(&before, &after),
    };
    outcome.unwrap_or_else(|error| {
        // Nothing can be done when standard error is closed.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        load::COULD_NOT_RUN.into()
    })
}

fn compare(before: &Path, after: &Path) -> anyhow::Result<ExitCode> {
    let comparison = loadtest::compare::compare(
        &loadtest::compare::read(before)?,
        &loadtest::compare::read(after)?,
    );
    write!(std::io::stdout(), "{comparison}")?;
    Ok(ExitCode::SUCCESS)
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

async fn run_call(arguments: CallArguments) -> anyhow::Result<()> {
    let samples = wav::read_48k(&arguments.speak)?;
    let json = arguments.json;
    let options = CallOptions {
        original_gain: arguments.original_gain,
        last_voiced: arguments.last_voiced_ms.map(Duration::from_millis),
        timeout: arguments.timeout.0,
        record: arguments.record,
        ..CallOptions::new(
            &arguments.server,
            &arguments.api_key,
            samples,
            &arguments.from,
            &arguments.to,
        )
    };
    let outcome = call::run(options).await;
    let report = match &outcome {
        Ok(report) => Some(report),
        Err(CallError::NothingHeard { report, .. }) => Some(&**report),
        Err(_) => None,
    };
    if let Some(report) = report {
        print(report, json).context("the report could not be printed")?;
    }
    outcome?;
    Ok(())
}

async fn run_relay(arguments: &RelayArguments) -> anyhow::Result<()> {
    let conditions = arguments.preset.conditions();
    let relay = Relay::bind(arguments.port, arguments.to, conditions, arguments.seed)
        .await
        .context("the relay's port cannot be had: choose another one")?;
    let end = asked_to_end()?;
    print_json(&serde_json::json!({ "event": "ready", "address": relay.address()? }))?;
    let report = relay.run(end).await.context("the relay broke off")?;
    print_json(&report)
}

/// Done at Ctrl-C and when the system asks the program to end.
pub(crate) fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

fn print(report: &CallReport, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    for utterance in &report.utterances {
        print_utterance(&mut out, report, utterance)?;
    }
    let milliseconds =
        |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
    let how = match report.last_voiced_by {
        EndOfSpeech::Given => "given",
        EndOfSpeech::Event => "as the server found it",
        EndOfSpeech::Energy => "estimated by energy",
    };
    writeln!(
        out,
        "lag        {} by the server's trace, {} by packet arrivals (last voiced sample at {:.2} s, {how})",
        milliseconds(report.lag_by_event_ms),
        milliseconds(report.lag_by_arrival_ms),
        report.last_voiced_ms / 1000.0,
    )?;
    writeln!(
        out,
        "received   {:.1} s, {:.1} s of it sound; {} packets, {} lost",
        report.heard.duration_ms / 1000.0,
        report.heard.sounding_ms / 1000.0,
        report.heard.packets,
        report.heard.lost,
    )?;
    if let Some(path) = &report.recording {
        writeln!(out, "recording  {}", path.display())?;
    }
    Ok(())
}

fn print_utterance(
    out: &mut impl Write,
    report: &CallReport,
    utterance: &UtteranceReport,
) -> std::io::Result<()> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    writeln!(out, "heard      [{}] {}", report.from, or_dash(&utterance.transcript))?;
    writeln!(
        out,
        "became     [{}] {} ({})",
        report.to,
        or_dash(&utterance.translation),
        or_dash(&utterance.translator)
    )?;
    if let Some(trace) = &utterance.trace {
        writeln!(out, "stages     {}", stages(trace))?;
    }
    if let Some(reason) = &utterance.dropped {
        writeln!(out, "dropped    {reason}")?;
    }
    Ok(())
}

fn stages(trace: &Trace) -> String {
    let known: Vec<String> = [("speech", Some(trace.speech_ms))]
        .into_iter()
        .chain(trace.stages())
        .chain([("lag", trace.lag_ms)])
        .filter_map(|(name, ms)| Some(format!("{name} {:.0} ms", ms?)))
        .collect();
    known.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stages_that_happened_are_listed() {
        let trace = Trace { speech_ms: 1500.4, lag_ms: Some(900.0), ..Trace::default() };
        assert_eq!(stages(&trace), "speech 1500 ms, lag 900 ms");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
