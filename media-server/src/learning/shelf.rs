//! The voices that were learned, as what the engine gave for them: kept in memory, so that other models
//! can have them again, and those with a listing in a folder, so that the next start has them too.
//!
//! A file is what the engine gave and nothing else; its name is the voice's. It is somebody's voice:
//! files are for the server's own user alone.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inference::panics::catching;
use inference::voice::{Recording, UNLISTED, VoiceError, VoiceSet};
use parking_lot::Mutex;

use crate::engine::{Models, ModelsInUse};

/// What the files of voices end with.
const EXTENSION: &str = "voice";
/// Largest file that is read as a voice.
const MAX_FILE: u64 = 16 << 20;

/// Why a voice is not on the shelf.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The engine refused.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// The engine panicked, with this message.
    #[error("the voice engine failed: {0}")]
    Panicked(String),
    /// The voice cannot be written to the folder.
    #[error("cannot store a voice in {folder}")]
    Store {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is none of that name.
    #[error("the voice is not known any more")]
    Unknown,
}

/// The learned voices of a server.
#[derive(Debug, Default)]
pub struct Shelf {
    folder: Option<PathBuf>,
    kept: Mutex<BTreeMap<String, Arc<[u8]>>>,
}

impl Shelf {
    /// Those of a folder, which need not exist; without one they are kept in memory alone. What
    /// cannot be read is left out with a word in the log.
    pub fn open(folder: Option<PathBuf>) -> Self {
        let kept = folder.as_deref().map(read_all).unwrap_or_default();
        Self { folder, kept: Mutex::new(kept) }
    }

    /// Puts models in use that have the learned voices too, and gives back those before with the
    /// names of the unlisted voices that are lost on the way. A listed one that the new models
    /// cannot have stays on the shelf.
    pub fn replace(&self, in_use: &ModelsInUse, models: Models) -> (Arc<Models>, Vec<String>) {
        let mut kept = self.kept.lock();
        let lost = recall_all(&mut kept, &models.voices);
        (in_use.replace(models), lost)
    }

    /// Gives the learned voices to the models in use.
    pub fn recall(&self, in_use: &ModelsInUse) {
        recall_all(&mut self.kept.lock(), &in_use.get().voices);
    }

    /// Learns a voice, keeps it and, unless it is unlisted, stores it.
    ///
    /// # Errors
    /// [`ShelfError`]; nothing is kept then.
    pub fn learn(
        &self,
        in_use: &ModelsInUse,
        name: &str,
        recordings: &[Recording],
    ) -> Result<(), ShelfError> {
        let used = in_use.get();
        let learned = catching(|| used.voices.learn(name, recordings))
            .map_err(|panicked| ShelfError::Panicked(panicked.to_string()))?;
        let bytes: Arc<[u8]> = learned?.into();
        let mut kept = self.kept.lock();
        let now = in_use.get();
        if !Arc::ptr_eq(&used, &now) {
            // The models were replaced meanwhile, by some that know nothing of it.
            recall(&now.voices, name, &bytes)?;
        }
        kept.insert(name.to_owned(), Arc::clone(&bytes));
        drop(kept);
        self.store_or_forget(in_use, name, &bytes)
    }

    /// Keeps a voice under another name too, and stores it.
    ///
    /// # Errors
    /// [`ShelfError`]; nothing is kept under the other name then.
    pub fn keep_as(&self, in_use: &ModelsInUse, voice: &str, name: &str) -> Result<(), ShelfError> {
        let bytes = {
            let mut kept = self.kept.lock();
            let bytes = Arc::clone(kept.get(voice).ok_or(ShelfError::Unknown)?);
            in_use.get().voices.recall(name, &bytes)?;
            kept.insert(name.to_owned(), Arc::clone(&bytes));
            bytes
        };
        self.store_or_forget(in_use, name, &bytes)
    }

    /// Forgets a voice, also where it is stored. Whether it was known.
    pub fn forget(&self, in_use: &ModelsInUse, name: &str) -> bool {
        let was_kept = {
            let mut kept = self.kept.lock();
            in_use.get().voices.forget(name);
            kept.remove(name).is_some()
        };
        if was_kept
            && !is_unlisted(name)
            && let Some(folder) = &self.folder
            && let Err(error) = fs::remove_file(file_of(folder, name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%error, name, "a voice that was forgotten is still stored");
        }
        was_kept
    }

    fn store_or_forget(
        &self,
        in_use: &ModelsInUse,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), ShelfError> {
        let Some(folder) = self.folder.as_deref().filter(|_| !is_unlisted(name)) else {
            return Ok(());
        };
        store(folder, name, bytes).map_err(|source| {
            self.forget(in_use, name);
            ShelfError::Store { folder: folder.to_owned(), source }
        })
    }
}

fn is_unlisted(name: &str) -> bool {
    name.starts_with(UNLISTED)
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{EXTENSION}"))
}

/// Gives all voices to a set. Unlisted ones that it cannot have are removed and named.
fn recall_all(kept: &mut BTreeMap<String, Arc<[u8]>>, voices: &VoiceSet) -> Vec<String> {
    let mut lost = Vec::new();
    kept.retain(|name, bytes| {
        let Err(error) = recall(voices, name, bytes) else { return true };
        if !is_unlisted(name) {
            tracing::warn!(%error, name, "a learned voice cannot be spoken with");
            return true;
        }
        lost.push(name.clone());
        false
    });
    lost
}

fn recall(voices: &VoiceSet, name: &str, bytes: &[u8]) -> Result<(), VoiceError> {
    match voices.recall(name, bytes) {
        // Other models may share the engine that has it.
        Err(VoiceError::NameTaken { .. }) if voices.has_learned(name) => Ok(()),
        outcome => outcome,
    }
}

/// Writes a file as a whole or not at all.
fn store(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (path, half) = (file_of(folder, name), folder.join(format!(".{name}.half")));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&half, &path)
}

fn read_all(folder: &Path) -> BTreeMap<String, Arc<[u8]>> {
    let mut kept = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return kept,
        Err(error) => {
            tracing::error!(%error, folder = %folder.display(), "cannot read the learned voices");
            return kept;
        }
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_voice = path.extension().is_some_and(|extension| extension == EXTENSION);
        let name = path.file_stem().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| is_voice && !is_unlisted(name)) else { continue };
        match read(&path) {
            Ok(bytes) => drop(kept.insert(name.to_owned(), bytes.into())),
            Err(error) => tracing::error!(%error, path = %path.display(), "cannot read a voice"),
        }
    }
    kept
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large for a voice"));
    }
    fs::read(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::testing::{Parrot, models};
    use super::*;

    fn in_use(learns: bool) -> (ModelsInUse, Arc<Parrot>) {
        let parrot = Arc::new(Parrot::new(learns));
        (ModelsInUse::new(models(&parrot)), parrot)
    }

    fn recordings() -> Vec<Recording> {
        vec![Recording { samples: vec![0.1; 16_000], rate_hz: 16_000 }]
    }

    #[test]
    fn a_voice_is_stored_for_the_server_alone_and_there_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Some(folder.path().join("voices"));
        let (models, parrot) = in_use(true);
        let shelf = Shelf::open(place.clone());
        shelf.learn(&models, "ana", &recordings()).expect("learned");
        shelf.learn(&models, "~secret", &recordings()).expect("learned");
        assert_eq!(parrot.known(), ["ana", "~secret"]);
        let file = folder.path().join("voices/ana.voice");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&folder.path().join("voices"))), (0o600, 0o700));
        let stored: Vec<_> = fs::read_dir(folder.path().join("voices")).expect("read").collect();
        assert_eq!(stored.len(), 1, "an unlisted voice is not stored");

        let (models, parrot) = in_use(true);
        let shelf = Shelf::open(place);
        shelf.recall(&models);
        assert_eq!(parrot.known(), ["ana"]);
        assert!(shelf.forget(&models, "ana") && !shelf.forget(&models, "ana"));
        assert!(parrot.known().is_empty() && !file.exists());
    }

    #[test]
    fn learned_voices_survive_other_models_that_can_learn() {
        let shelf = Shelf::default();
        let (in_use, _) = in_use(true);
        shelf.learn(&in_use, "ana", &recordings()).expect("learned");
        shelf.learn(&in_use, "~secret", &recordings()).expect("learned");
        let other = Arc::new(Parrot::new(true));
        let (_, lost) = shelf.replace(&in_use, models(&other));
        assert_eq!(
            (lost, other.known()),
            (Vec::new(), vec!["ana".to_owned(), "~secret".to_owned()])
        );

        let dumb = Arc::new(Parrot::new(false));
        let (_, lost) = shelf.replace(&in_use, models(&dumb));
        assert_eq!(lost, ["~secret"]);
        let third = Arc::new(Parrot::new(true));
        shelf.replace(&in_use, models(&third));
        assert_eq!(third.known(), ["ana"], "a listed one waits for models that can have it");
    }

    #[test]
    fn a_voice_is_kept_under_another_name() {
        let shelf = Shelf::default();
        let (in_use, parrot) = in_use(true);
        shelf.learn(&in_use, "~secret", &recordings()).expect("learned");
        shelf.keep_as(&in_use, "~secret", "ana").expect("kept");
        let taken = shelf.keep_as(&in_use, "~secret", "ana");
        assert!(matches!(taken, Err(ShelfError::Voice(VoiceError::NameTaken { .. }))));
        assert!(matches!(shelf.keep_as(&in_use, "~gone", "ben"), Err(ShelfError::Unknown)));
        shelf.forget(&in_use, "~secret");
        assert_eq!(parrot.known(), ["ana"]);
    }

    #[test]
    fn a_voice_that_cannot_be_stored_is_not_kept() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let shelf = Shelf::open(Some(file.path().join("no-folder")));
        let (in_use, parrot) = in_use(true);
        let outcome = shelf.learn(&in_use, "ana", &recordings());
        assert!(matches!(outcome, Err(ShelfError::Store { .. })));
        assert!(parrot.known().is_empty());
    }

    #[test]
    fn an_engine_that_panics_costs_nobody_else_anything() {
        let shelf = Shelf::default();
        let (in_use, _) = in_use(true);
        let poison = [Recording { samples: vec![f32::NAN], rate_hz: 16_000 }];
        assert!(matches!(shelf.learn(&in_use, "ana", &poison), Err(ShelfError::Panicked(_))));
        shelf.learn(&in_use, "ana", &recordings()).expect("learned");
    }
}
