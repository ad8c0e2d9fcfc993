//! The command line that puts the house together.

mod admin;
mod interpret;
mod models;
mod page;
mod reload;
mod self_check;
mod serve;
mod timeline;
mod token;
mod transcripts;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Config;
use crate::engine::TranslatorName;

/// A real-time speech interpreter: speech in one language in, speech in another out.
#[derive(Debug, Parser)]
#[command(name = "dragoman", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve calls: the API, the page and the media plane
    Serve(Box<serve::ServeArgs>),
    /// Interpret a recording: the same stages over a file, without a network
    Interpret(Box<interpret::InterpretArgs>),
    /// Hold a call with oneself over real WebRTC and check what was heard
    SelfCheck(Box<self_check::SelfCheckArgs>),
    /// List, fetch and verify the models
    Models(models::ModelsArgs),
    /// Mint a participant's token without asking the server
    Token(token::TokenArgs),
    /// List, export and erase the transcripts that a server keeps, while it runs or not
    Transcripts(transcripts::TranscriptsArgs),
}

/// Options that every command with models shares.
#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// Configuration file; `dragoman.toml` in the working folder is read when it exists
    #[arg(long, env = "DRAGOMAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the models [default: the user's cache folder]
    #[arg(long, env = "DRAGOMAN_MODELS", value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// Translators, best first, separated by commas
    #[arg(long, env = "DRAGOMAN_TRANSLATORS", value_delimiter = ',', value_name = "NAMES")]
    translators: Option<Vec<TranslatorName>>,
}

impl ConfigArgs {
    fn read(&self) -> anyhow::Result<Config> {
        let default = PathBuf::from("dragoman.toml");
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if default.exists() => Config::read(&default)?,
            None => Config::default(),
        };
        if let Some(folder) = &self.models {
            config.models.folder = Some(folder.clone());
        }
        if let Some(translators) = &self.translators {
            config.models.translators.clone_from(translators);
        }
        config.check()?;
        Ok(config)
    }
}

/// How log lines are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the program; the exit code is 0 on success, 1 on failure and 2 on wrong usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Interpret(args) => interpret::run(&args),
        Command::SelfCheck(args) => self_check::run(&args),
        Command::Models(args) => models::run(args).map(|()| ExitCode::SUCCESS),
        Command::Token(args) => token::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Transcripts(args) => transcripts::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// Sends log lines to standard error, so that standard output carries results alone.
fn start_logging(format: LogFormat) -> anyhow::Result<()> {
    // The WebRTC stack warns about every connection's normal course.
    let default = "info,rtc=error,rtc_dtls=error,rtc_ice=error,rtc_sctp=error,rtc_srtp=error,\
                   rtc_interceptor=error,webrtc=error";
    let filter = tracing_subscriber::EnvFilter::try_from_env("DRAGOMAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let in_colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(in_colour)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("{error}")).context("cannot start logging")
}

#[allow(clippy::print_stderr, reason = "the last word of a failed command is for its user")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
