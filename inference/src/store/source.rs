//! Where a model may come from, and what every source is given to work with.

use std::path::{Path, PathBuf};

use super::check::check_content;
use super::client::Clients;
use super::error::StoreError;
use super::manifest::{Archive, Model, ModelFile};
use super::progress::Ledger;

/// Somebody who may have the files of a model.
pub(super) trait Source {
    /// How an operator knows it.
    fn name(&self) -> String;

    /// Puts as many of the `missing` files into place as it can.
    ///
    /// # Errors
    /// [`SupplyError::Unsuitable`] when some are still missing: the next source is asked for those.
    fn supply(&self, job: &Job<'_>, missing: &[&ModelFile]) -> Result<(), SupplyError>;
}

/// One model on its way into its folder.
pub(super) struct Job<'a> {
    pub(super) model: &'a Model,
    /// The model's folder.
    pub(super) folder: &'a Path,
    pub(super) depot: &'a Depot,
    pub(super) clients: &'a Clients,
    pub(super) ledger: &'a Ledger<'a>,
}

impl Job<'_> {
    /// The archives that carry `files`, each once.
    pub(super) fn archives_for(&self, files: &[&ModelFile]) -> Vec<&Archive> {
        let is_needed = |archive: &&Archive| {
            files.iter().any(|file| file.parts.iter().any(|part| part.archive == archive.file))
        };
        self.model.archives.iter().filter(is_needed).collect()
    }
}

/// Why a source did not supply a model.
#[derive(Debug, thiserror::Error)]
pub(super) enum SupplyError {
    /// This source cannot help; another one may.
    #[error("{0}")]
    Unsuitable(String),
    /// No source can help: the disk is full, the folder cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The folder in which downloads wait until a model is assembled. What is there survives an
/// interruption: the next fetch goes on with what is missing.
#[derive(Clone, Debug)]
pub(super) struct Depot(PathBuf);

impl Depot {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.join(".archives"))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether the archive is there in full; a wrong one is removed.
    pub(super) fn holds(&self, archive: &Archive) -> bool {
        let path = self.path(archive.file.as_str());
        if !path.exists() {
            return false;
        }
        let is_whole = check_content(&path, archive.size, archive.sha256).is_ok();
        if !is_whole {
            let _ = std::fs::remove_file(path);
        }
        is_whole
    }
}
