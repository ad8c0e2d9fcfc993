//! Files that belong to no model of the manifest, because their length is not known, or not even their
//! digest: what checkpoints are imported from. They come from Hugging Face alone, and wait with the
//! archives until they are used.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Store;
use super::digest::{Digest, hash_reader};
use super::error::{Attempt, Fault, FaultKind, StoreError};
use super::fetch::{RESERVE_BYTES, free_space, lock};
use super::progress::{Event, Ledger, Progress};
use super::source::{Depot, SupplyError};
use super::web::{address, download_unsized, hub_base};

/// A file on Hugging Face.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LooseFile<'a> {
    /// What it is called here.
    pub(crate) name: &'a str,
    /// `owner/name`.
    pub(crate) repository: &'a str,
    /// The commit, or the branch of a file that is taken as it is.
    pub(crate) revision: &'a str,
    /// Where it lies in the repository.
    pub(crate) path: &'a str,
    /// What it must be, if that is known.
    pub(crate) sha256: Option<Digest>,
    /// How many bytes it has, roughly. Twice as many are too many.
    pub(crate) about: u64,
}

impl Store {
    /// Downloads `files` into a folder of their own, where those that are already there and right
    /// stay, and gives the folder. `beside` is what will be made of them, in bytes.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`]; [`StoreError::NoFile`] when a file cannot be had or is another one
    /// than it must be; [`StoreError::Io`] when the folder cannot be written.
    pub(crate) fn fetch_loose(
        &self,
        model: &str,
        files: &[LooseFile<'_>],
        beside: u64,
        progress: &dyn Progress,
    ) -> Result<PathBuf, StoreError> {
        let root = self.root();
        let folder = Depot::new(root).path(model);
        fs::create_dir_all(&folder).map_err(|error| StoreError::io("create", &folder, error))?;
        let _lock = lock(root, progress)?;
        let is_right = |file: &LooseFile<'_>, path: &Path| {
            let expected = file.sha256;
            expected.is_some() && digest(path).ok().flatten() == expected
        };
        progress.report(Event::Checking { model });
        let missing: Vec<_> =
            files.iter().filter(|file| !is_right(file, &folder.join(file.name))).collect();
        let to_download = missing.iter().map(|file| file.about).sum::<u64>();
        let (needed, free) = (to_download + beside + RESERVE_BYTES, free_space(root)?);
        if needed > free {
            let (models, folder) = (model.to_owned(), root.to_owned());
            return Err(StoreError::NoSpace { models, folder, needed, free });
        }
        let ledger = Ledger::new(progress);
        ledger.plan(model, to_download, 0);
        for file in missing {
            let source = format!("Hugging Face, {}", file.repository);
            ledger.report(Event::Asking { model, source: &source });
            match self.fetch_one(model, file, &folder, &ledger) {
                Ok(()) => {}
                Err(SupplyError::Store(error)) => return Err(error),
                Err(SupplyError::Unsuitable(reason)) => {
                    ledger.report(Event::Failed { model, source: &source, reason: &reason });
                    let attempt = Attempt { source, reason };
                    return Err(StoreError::NoFile { model: model.to_owned(), attempt });
                }
            }
        }
        ledger.plan(model, 0, 0);
        ledger.report(Event::Fetched { model });
        Ok(folder)
    }

    fn fetch_one(
        &self,
        model: &str,
        file: &LooseFile<'_>,
        folder: &Path,
        ledger: &Ledger<'_>,
    ) -> Result<(), SupplyError> {
        let target = folder.join(file.name);
        let partial = folder.join(format!(".{}.partial", file.name));
        let unwritable =
            |action, path: &Path, error| SupplyError::from(StoreError::io(action, path, error));
        let found = |path: &Path| digest(path).map_err(|error| unwritable("read", path, error));
        // Nobody knows of a part of a file without a digest whether it is of the same file.
        if file.sha256.is_none() && partial.exists() {
            fs::remove_file(&partial).map_err(|error| unwritable("remove", &partial, error))?;
        }
        // It may have been cut off after its last byte.
        if file.sha256.is_none() || found(&partial)? != file.sha256 {
            let url = address(&hub_base(file.repository, file.revision), file.path);
            let mut note = |bytes| ledger.downloaded(model, bytes);
            let most = 2 * file.about;
            let result = download_unsized(self.clients(), &url, &partial, most, &mut note);
            // A server that was asked to go on after the last byte has nothing good to say.
            if result.is_err() && (file.sha256.is_none() || found(&partial)? != file.sha256) {
                return result;
            }
            if let Some(expected) = file.sha256
                && let Some(found) = found(&partial)?
                && found != expected
            {
                fs::remove_file(&partial).map_err(|error| unwritable("remove", &partial, error))?;
                let kind = FaultKind::Hash { expected, found };
                return Err(SupplyError::Unsuitable(Fault { path: url.into(), kind }.to_string()));
            }
        }
        fs::rename(&partial, &target).map_err(|error| unwritable("create", &target, error))
    }
}

/// The digest of the file at `path`, if there is one.
fn digest(path: &Path) -> std::io::Result<Option<Digest>> {
    match File::open(path) {
        Ok(mut file) => hash_reader(&mut file).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::progress::Silent;
    use crate::store::testing::Fixture;

    const BYTES: &[u8] = b"weights of a network";

    fn file(sha256: Option<Digest>) -> LooseFile<'static> {
        LooseFile {
            name: "a.pth",
            repository: "owner/name",
            revision: "main",
            path: ".models/a.pth",
            sha256,
            about: 20,
        }
    }

    /// A world in which Hugging Face has the file.
    fn fixture(content: &[u8]) -> Fixture {
        let mut fixture = Fixture::new();
        // A manifest has a model.
        fixture.add_pip_model("other", "model.bin", &[b"other"]);
        let served = served(&fixture);
        fs::create_dir_all(served.parent().unwrap()).unwrap();
        fs::write(served, content).unwrap();
        fixture
    }

    fn served(fixture: &Fixture) -> PathBuf {
        fixture.path("web/owner/name/resolve/main/.models/a.pth")
    }

    fn fetch(fixture: &Fixture, file: LooseFile<'_>) -> Result<Vec<u8>, String> {
        let folder = fixture
            .store()
            .fetch_loose("m", &[file], 0, &Silent)
            .map_err(|error| error.to_string())?;
        Ok(fs::read(folder.join("a.pth")).unwrap())
    }

    #[test]
    fn a_file_of_known_digest_is_downloaded_once() {
        let fixture = fixture(BYTES);
        let file = file(Some(Digest::of(BYTES)));
        assert_eq!(fetch(&fixture, file).unwrap(), BYTES);
        assert_eq!(fetch(&fixture, file).unwrap(), BYTES);
        assert_eq!(fixture.calls(), ["curl owner/name/resolve/main/.models/a.pth from 0"]);
    }

    #[test]
    fn a_cut_line_is_taken_up_again() {
        let fixture = fixture(BYTES);
        fs::write(served(&fixture).with_extension("pth.cut"), b"7").unwrap();
        assert_eq!(fetch(&fixture, file(Some(Digest::of(BYTES)))).unwrap(), BYTES);
        let calls = fixture.calls();
        assert!(calls.iter().any(|call| call.ends_with("from 14")), "{calls:?}");
    }

    #[test]
    fn another_file_than_it_must_be_is_refused_and_removed() {
        let fixture = fixture(b"something else");
        let error = fetch(&fixture, file(Some(Digest::of(BYTES)))).unwrap_err();
        assert!(error.contains(&Digest::of(BYTES).to_string()), "{error}");
        let folder = fixture.root().join(".archives/m");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn a_file_without_a_digest_is_taken_as_it_comes_each_time() {
        let fixture = fixture(BYTES);
        assert_eq!(fetch(&fixture, file(None)).unwrap(), BYTES);
        fs::write(served(&fixture), b"later").unwrap();
        assert_eq!(fetch(&fixture, file(None)).unwrap(), b"later");
    }

    #[test]
    fn what_is_far_too_long_is_cut_off() {
        let fixture = fixture(&[0; 41]);
        let error = fetch(&fixture, file(None)).unwrap_err();
        assert!(error.contains("more than the expected 40 bytes"), "{error}");
    }

    #[test]
    fn a_full_disk_is_told_before_anything_is_downloaded() {
        let fixture = fixture(BYTES);
        let huge = u64::MAX / 4;
        let store = fixture.store();
        let result = store.fetch_loose("m", &[file(None)], huge, &Silent);
        assert!(matches!(result, Err(StoreError::NoSpace { .. })));
        assert_eq!(fixture.calls(), [""; 0]);
    }
}
