//! `dragoman models import-tortoise` and `fetch tortoise`: from the published checkpoints of Tortoise
//! to weights that are loaded as they are.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use inference::store::{Store, format_bytes};
use inference::tortoise::fetch::{self, Unpinned};
use inference::tortoise::import::{Imported, Progress, Weights, import};

use super::Console;

/// Imports the checkpoints in `from` into `to`, and says on `output` what can be done with them.
pub(super) fn run(from: &Path, to: &Path, output: &mut dyn Write) -> anyhow::Result<()> {
    let console = Console::new();
    let result = import(from, to, &mut |event| show(&console, event));
    console.finish();
    let imported = result.context("nothing was imported")?;
    summarise(&imported, output)?;
    Ok(())
}

/// Fetches the published checkpoints and imports them, and says on `output` what can be done with
/// them.
pub(super) fn fetch(
    store: &Store,
    unpinned: Unpinned,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let console = Console::new();
    let result = fetch::fetch(store, unpinned, &console, &mut |event| show(&console, event));
    console.finish();
    summarise(&result?, output)?;
    Ok(())
}

fn show(console: &Console, event: Progress<'_>) {
    match event {
        Progress::Reading { checkpoint, bytes } => {
            console.line(&format!("{checkpoint}: reading {}", format_bytes(bytes)));
        }
        Progress::Writing { file, done, all } => console.work(file, done, all),
        Progress::Written { file, bytes } => {
            console.line(&format!("{file}: written, {}", format_bytes(bytes)));
        }
        Progress::Skipped { name, reason } => {
            console.line(&format!("{name}: left out: {reason}"));
        }
        _ => {}
    }
}

fn summarise(imported: &Imported, output: &mut dyn Write) -> std::io::Result<()> {
    let sizes = imported.sizes();
    writeln!(output, "imported into {}", imported.folder().display())?;
    let tokenizer = match imported.tokenizer() {
        Some(_) => "its own",
        None => "the published one, which is built in",
    };
    let has_voices = sizes.random_voice_autoregressive.is_some();
    let can = |can: bool| if can { "yes" } else { "no" };
    for (what, answer) in [
        ("streaming (HiFi-GAN)", can(sizes.has_streaming_path())),
        ("quality (diffusion and UnivNet)", can(sizes.has_quality_path())),
        ("ranking of candidates (CLVP)", can(sizes.clvp.is_some())),
        ("random voices", can(has_voices)),
        ("tokenizer", tokenizer),
    ] {
        writeln!(output, "  {what}: {answer}")?;
    }
    for source in imported.sources() {
        let weights = Weights::ALL.iter().find(|weights| weights.checkpoint() == source.name);
        let published = weights.and_then(|weights| weights.published());
        let whose = match published {
            Some(published) if published == source.sha256 => "as it was published",
            Some(_) => "another one than the published",
            None => "of whose published SHA-256 nothing is known here",
        };
        writeln!(output, "  {}: {whose}", source.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_checkpoints_is_told_with_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("tortoise");
        let error = run(folder.path(), &to, &mut Vec::new()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("nothing was imported"), "{text}");
        assert!(text.contains("autoregressive.pth") && text.contains("hifidecoder.pth"), "{text}");
        assert!(!to.exists());
    }
}
