//! `dragoman transcripts`: what a server keeps, for the operator. It opens the file beside a running
//! server, or without one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use signaling::transcripts::{Export, Format, Reader, erase};
use signaling::wire::Meeting;

use super::ConfigArgs;

/// Options of `dragoman transcripts`.
#[derive(Debug, Args)]
#[command(
    about = "List, export and erase the transcripts that a server keeps, while it runs or not",
    after_help = "Examples:\n  \
        dragoman transcripts list --room lobby\n  \
        dragoman transcripts export 12 --format vtt --language es --out lobby.es.vtt\n  \
        dragoman transcripts erase --room lobby\n\n\
        A meeting is one life of a room: the name may be used again later. The file is the one\n\
        that the configuration names, dragoman/transcripts.sqlite3 in $XDG_DATA_HOME or\n\
        ~/.local/share by default."
)]
pub(super) struct TranscriptsArgs {
    /// Configuration file; `dragoman.toml` in the working folder is read when it exists
    #[arg(long, env = "DRAGOMAN_CONFIG", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File that the transcripts are kept in [default: as the configuration says]
    #[arg(long, env = "DRAGOMAN_TRANSCRIPTS", global = true, value_name = "FILE")]
    transcripts: Option<OsString>,
    #[command(subcommand)]
    command: TranscriptsCommand,
}

#[derive(Debug, Subcommand)]
enum TranscriptsCommand {
    /// Show the meetings of which something is kept, the latest first
    List {
        /// Only the meetings of this room
        #[arg(long)]
        room: Option<String>,
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Write the transcript of one meeting
    Export {
        /// Id of the meeting, as `list` shows it
        meeting: i64,
        /// json, vtt, srt or txt [default: by the ending of --out, else txt]
        #[arg(long)]
        format: Option<Format>,
        /// Language of the texts; what is not translated stays as it was spoken, marked [default:
        /// what was spoken]
        #[arg(long)]
        language: Option<String>,
        /// File to write [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete what was said, for good; of a meeting that is going on, what was said so far
    Erase {
        /// Room whose meetings are erased
        #[arg(long)]
        room: String,
        /// Only the meeting with this id, as `list` shows it [default: all of the room]
        #[arg(long, value_name = "ID")]
        meeting: Option<i64>,
    },
}

pub(super) fn run(args: &TranscriptsArgs) -> anyhow::Result<()> {
    let config = ConfigArgs { config: args.config.clone(), models: None, translators: None };
    let mut config = config.read()?.transcripts;
    if let Some(file) = &args.transcripts {
        config.path = Some(file.into());
    }
    let file =
        config.file()?.context("transcripts.path is empty: this configuration keeps none")?;
    match &args.command {
        TranscriptsCommand::List { room, json } => list(&file, room.as_deref(), *json),
        TranscriptsCommand::Export { meeting, format, language, out } => {
            export(&file, *meeting, *format, language.as_deref(), out.as_deref())
        }
        TranscriptsCommand::Erase { room, meeting } => {
            let erased = erase(&file, room, *meeting)?;
            if erased.meetings == 0 {
                bail!("nothing of that is kept: see `dragoman transcripts list`");
            }
            let (meetings, utterances) = (erased.meetings, erased.utterances);
            say(&mut io::stdout(), &format!("erased: {meetings} meetings, {utterances} utterances"))
        }
    }
}

fn list(file: &Path, room: Option<&str>, json: bool) -> anyhow::Result<()> {
    let meetings = Reader::open(file)?.meetings(room)?;
    let mut out = io::stdout().lock();
    if json {
        return say(&mut out, &serde_json::to_string_pretty(&meetings)?);
    }
    say(
        &mut out,
        &format!("{:>6}  {:<20}  {:>8}  {:>10}  ROOM", "ID", "BEGAN", "MINUTES", "UTTERANCES"),
    )?;
    for Meeting { id, room, started_at_ms, ended_at_ms, utterances, .. } in meetings {
        let began = signaling::transcripts::date(started_at_ms);
        let minutes = match ended_at_ms {
            Some(ended) => (ended.saturating_sub(started_at_ms) / 60_000).to_string(),
            None => "going on".to_owned(),
        };
        say(&mut out, &format!("{id:>6}  {began:<20}  {minutes:>8}  {utterances:>10}  {room}"))?;
    }
    Ok(())
}

fn export(
    file: &Path,
    meeting: i64,
    format: Option<Format>,
    language: Option<&str>,
    out: Option<&Path>,
) -> anyhow::Result<()> {
    let reader = Reader::open(file)?;
    let found = reader.meeting_by_id(meeting)?;
    let found = found.with_context(|| {
        format!("there is no meeting {meeting}: see `dragoman transcripts list`")
    })?;
    let language = match language {
        Some(language) => Some(reader.language(&found, language)??),
        None => None,
    };
    let by_ending = || out.and_then(Path::extension)?.to_str()?.parse().ok();
    let format = format.or_else(by_ending).unwrap_or(Format::Txt);
    let mut export = Export::new(found, format, language);
    let mut to: Box<dyn Write> = match out {
        Some(path) => Box::new(
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
        ),
        None => Box::new(io::stdout().lock()),
    };
    while let Some(text) = export.next(&reader)? {
        if let Some(closed) = write(&mut to, text.as_bytes())? {
            return Ok(closed);
        }
    }
    Ok(())
}

fn say(to: &mut impl Write, line: &str) -> anyhow::Result<()> {
    write(to, format!("{line}\n").as_bytes()).map(drop)
}

/// `Some` when nobody reads on, as with `| head`, which is no error.
fn write(to: &mut impl Write, bytes: &[u8]) -> anyhow::Result<Option<()>> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Some(())),
        Err(error) => Err(error).context("cannot write the transcript"),
    }
}
