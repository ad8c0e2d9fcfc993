//! Fetches the published checkpoints and imports them.
//!
//! Nothing of Tortoise is in the manifest of models: it is fetched when it is asked for, and the
//! lengths of its checkpoints are known roughly only. Each one is held to its SHA-256 where that is
//! known; one of which none is known is not fetched unless whoever asks says that they trust it.

use std::fs;

use super::import::{
    FOLDER, ImportError, Imported, Progress as Importing, Weights, import, verified,
};
use crate::store::{LooseFile, Progress, Store, StoreError};

/// What to do about a checkpoint of which no SHA-256 is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpinned {
    /// Fetch nothing, and say so.
    #[default]
    Refuse,
    /// Fetch it as its repository has it now.
    Trust,
    /// Do without it.
    Skip,
}

/// Why Tortoise was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No SHA-256 of a checkpoint is known, and nobody said what to do about it.
    #[error(
        "no SHA-256 of {name} is known, and {address} may have anything now; --trust-unpinned takes \
         it from there as it is, --skip-unpinned does without it; or bring it yourself and run \
         `dragoman models import-tortoise`"
    )]
    Unpinned {
        /// The checkpoint.
        name: &'static str,
        /// The repository.
        address: String,
    },
    /// A checkpoint could not be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoints could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Fetches the published checkpoints and imports them into the folder [`FOLDER`] of `store`. What was
/// downloaded goes when it is imported. Does nothing when an import is there.
///
/// # Errors
/// As [`FetchError`] says.
pub fn fetch(
    store: &Store,
    unpinned: Unpinned,
    progress: &dyn Progress,
    importing: &mut dyn FnMut(Importing<'_>),
) -> Result<Imported, FetchError> {
    let to = store.root().join(FOLDER);
    if to.exists() {
        return Ok(verified(&to)?);
    }
    let files = chosen(unpinned)?;
    let beside = files.iter().map(|file| file.about).sum();
    let folder = store.fetch_loose(FOLDER, &files, beside, progress)?;
    // Of an earlier fetch, perhaps, which was asked for more.
    for weights in Weights::ALL {
        if !files.iter().any(|file| file.name == weights.checkpoint()) {
            let _ = fs::remove_file(folder.join(weights.checkpoint()));
        }
    }
    let imported = import(&folder, &to, importing)?;
    let _ = fs::remove_dir_all(folder);
    Ok(imported)
}

/// The checkpoints to fetch.
fn chosen(unpinned: Unpinned) -> Result<Vec<LooseFile<'static>>, FetchError> {
    let all = Weights::ALL.map(published);
    let is_pinned = |file: &LooseFile<'_>| file.sha256.is_some();
    match (unpinned, all.iter().find(|file| !is_pinned(file))) {
        (Unpinned::Refuse, Some(file)) => {
            let address = format!("huggingface.co/{}", file.repository);
            Err(FetchError::Unpinned { name: file.name, address })
        }
        (Unpinned::Skip, _) => Ok(all.into_iter().filter(is_pinned).collect()),
        _ => Ok(all.to_vec()),
    }
}

/// Where a checkpoint is published.
fn published(weights: Weights) -> LooseFile<'static> {
    // The author's repository at a commit that has all of them.
    let (repository, revision) =
        ("jbetker/tortoise-tts-v2", "3704aea61678e7e468a06d8eea121dba368a798e");
    let (path, megabytes) = match weights {
        Weights::Autoregressive => (".models/autoregressive.pth", 1_720),
        Weights::Diffusion => (".models/diffusion_decoder.pth", 1_170),
        Weights::Clvp => (".models/clvp2.pth", 980),
        Weights::Univnet => (".models/vocoder.pth", 391),
        Weights::RandomVoiceAutoregressive => (".models/rlg_auto.pth", 26),
        Weights::RandomVoiceDiffusion => (".models/rlg_diffuser.pth", 101),
        Weights::Hifigan => ("hifidecoder.pth", 72),
    };
    let (repository, revision) = match weights {
        Weights::Hifigan => ("Manmay/tortoise-tts", "main"),
        _ => (repository, revision),
    };
    LooseFile {
        name: weights.checkpoint(),
        repository,
        revision,
        path,
        sha256: weights.published(),
        about: megabytes * 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Silent;

    #[test]
    fn a_checkpoint_without_a_digest_is_refused_trusted_or_skipped() {
        let error = chosen(Unpinned::Refuse).unwrap_err().to_string();
        assert!(error.contains("hifidecoder.pth") && error.contains("--trust-unpinned"), "{error}");
        let trusted = chosen(Unpinned::Trust).unwrap();
        assert_eq!(trusted.len(), Weights::ALL.len());
        let pinned = chosen(Unpinned::Skip).unwrap();
        assert_eq!(pinned.len(), Weights::ALL.len() - 1);
        assert!(pinned.iter().all(|file| file.sha256.is_some()));
    }

    #[test]
    fn refusing_is_what_happens_when_nothing_is_said_and_touches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("models"));
        let result = fetch(&store, Unpinned::default(), &Silent, &mut |_| {});
        assert!(matches!(result, Err(FetchError::Unpinned { name: "hifidecoder.pth", .. })));
        assert!(!store.root().exists());
    }

    #[test]
    fn what_is_there_and_no_import_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        let result = fetch(&store, Unpinned::Trust, &Silent, &mut |_| {});
        assert!(matches!(result, Err(FetchError::Import(ImportError::NotImported { .. }))));
    }
}
