//! Is a model on the disk what the manifest says?
//!
//! Hashing 1.4 GB at every start would cost seconds, so a folder keeps a marker (`.verified`) of the
//! size and modification time that each file had when its SHA-256 matched. As long as both still
//! hold, the cheap check trusts the marker; the full check never does.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, hash_reader};
use super::error::{Fault, FaultKind};
use super::manifest::Model;

const MARKER: &str = ".verified";

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Size and time where the marker knows the file, its hash where not.
    Cheap,
    /// The hash of every file.
    Full,
}

/// What was known of a file when its hash matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    modified_s: u64,
    modified_ns: u32,
    sha256: Digest,
}

impl Stamp {
    /// Stamps a file of this metadata whose content has the digest `sha256`.
    pub(super) fn new(metadata: &Metadata, sha256: Digest) -> Self {
        let modified = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        Self {
            size: metadata.len(),
            modified_s: modified.as_secs(),
            modified_ns: modified.subsec_nanos(),
            sha256,
        }
    }

    fn still_holds(&self, now: &Self) -> bool {
        // Archivers and container layers keep whole seconds only: a copy without a fraction is
        // compared by the second.
        let same_fraction = self.modified_ns == now.modified_ns || now.modified_ns == 0;
        self.size == now.size
            && self.modified_s == now.modified_s
            && same_fraction
            && self.sha256 == now.sha256
    }
}

/// The stamps of a model's folder, by path.
#[derive(Default, Serialize, Deserialize)]
struct Marker {
    files: BTreeMap<String, Stamp>,
}

impl Marker {
    /// An unreadable marker is an empty one: the files are hashed again.
    fn read(folder: &Path) -> Self {
        fs::read(folder.join(MARKER))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Written beside and renamed, so that a reader never sees half of it. A folder that cannot be
    /// written (a read-only image) is no error: it costs a hash at each start.
    fn write(&self, folder: &Path) {
        let write = || -> io::Result<()> {
            // As readable as the model itself: a service may run as another user than the fetch.
            let mut temporary = tempfile::Builder::new()
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(folder)?;
            serde_json::to_writer_pretty(&mut temporary, self)?;
            temporary.persist(folder.join(MARKER))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(folder = %folder.display(), %error, "cannot note that the model is verified");
        }
    }
}

/// A file as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// Where it lies in its folder.
    pub(crate) path: &'a str,
    /// Its bytes.
    pub(crate) size: u64,
    /// Its digest.
    pub(crate) sha256: Digest,
}

/// Looks at every file of `model` in `folder` and returns what is wrong; nothing, if all is well.
pub(super) fn check_model(model: &Model, folder: &Path, depth: Depth) -> Vec<(usize, Fault)> {
    let files = model.files.iter();
    let expected = files.map(|file| Expected {
        path: file.path.as_str(),
        size: file.size,
        sha256: file.sha256,
    });
    check_files(folder, &expected.collect::<Vec<_>>(), depth)
}

/// Looks at `files` in `folder`, which has no other files that are checked, and returns what is wrong
/// with each by its place.
pub(crate) fn check_files(
    folder: &Path,
    files: &[Expected<'_>],
    depth: Depth,
) -> Vec<(usize, Fault)> {
    let before = Marker::read(folder);
    let mut after = Marker::default();
    let mut faults = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = folder.join(file.path);
        match check_file(file, &path, before.files.get(file.path), depth) {
            Ok(stamp) => {
                after.files.insert(file.path.to_owned(), stamp);
            }
            Err(kind) => faults.push((index, Fault { path, kind })),
        }
    }
    // A file that failed loses its stamp, so that the next cheap check finds it too.
    if after.files != before.files && folder.is_dir() {
        after.write(folder);
    }
    faults
}

/// Notes that `files` were hashed and found right.
pub(super) fn record(folder: &Path, files: Vec<(String, Stamp)>) {
    let mut marker = Marker::read(folder);
    marker.files.extend(files);
    marker.write(folder);
}

/// The hash of an ordinary file, or what is wrong with it.
pub(super) fn check_content(
    path: &Path,
    expected_size: u64,
    expected: Digest,
) -> Result<Stamp, FaultKind> {
    let mut file = open(path)?;
    let metadata = file.metadata().map_err(unreadable)?;
    check_size(&metadata, expected_size)?;
    let found = hash_reader(&mut file).map_err(unreadable)?;
    if found != expected {
        return Err(FaultKind::Hash { expected, found });
    }
    Ok(Stamp::new(&metadata, found))
}

fn check_file(
    file: &Expected<'_>,
    path: &Path,
    stamp: Option<&Stamp>,
    depth: Depth,
) -> Result<Stamp, FaultKind> {
    if let (Depth::Cheap, Some(stamp)) = (depth, stamp) {
        let metadata = fs::metadata(path).map_err(absent_or_unreadable)?;
        check_size(&metadata, file.size)?;
        if stamp.still_holds(&Stamp::new(&metadata, file.sha256)) {
            return Ok(stamp.clone());
        }
    }
    check_content(path, file.size, file.sha256)
}

fn check_size(metadata: &Metadata, expected: u64) -> Result<(), FaultKind> {
    if !metadata.is_file() {
        return Err(FaultKind::Unreadable("it is not a file".to_owned()));
    }
    let found = metadata.len();
    if found == expected { Ok(()) } else { Err(FaultKind::Size { expected, found }) }
}

fn open(path: &Path) -> Result<File, FaultKind> {
    File::open(path).map_err(absent_or_unreadable)
}

fn absent_or_unreadable(error: io::Error) -> FaultKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FaultKind::Missing,
        _ => unreadable(error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function value by map_err")]
fn unreadable(error: io::Error) -> FaultKind {
    FaultKind::Unreadable(error.to_string())
}

/// Where the file of a model that is being written lies until it is whole.
pub(super) fn temporary_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.partial"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::store::manifest::Manifest;

    fn one_file_model(content: &[u8]) -> Model {
        let manifest = format!(
            "version = 1\n[[model]]\nname = \"m\"\npurpose = \"p\"\nlicence = \"MIT\"\nnotice = \"n\"\n\
             archives = []\nfiles = [{{ path = \"a/b.bin\", size = {}, sha256 = \"{}\", parts = [] }}]",
            content.len(),
            Digest::of(content)
        );
        Manifest::parse(&manifest, "test").unwrap().models()[0].clone()
    }

    fn folder_with(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.bin");
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn kinds(model: &Model, folder: &Path, depth: Depth) -> Vec<FaultKind> {
        check_model(model, folder, depth).into_iter().map(|(_, fault)| fault.kind).collect()
    }

    fn set_modified(path: &Path, time: SystemTime) {
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_whole_file_passes_and_leaves_a_marker() {
        let model = one_file_model(b"weights");
        let (folder, _) = folder_with(b"weights");
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), []);
        let marker = fs::read_to_string(folder.path().join(MARKER)).unwrap();
        assert!(marker.contains(&Digest::of(b"weights").to_string()), "{marker}");
    }

    #[test]
    fn a_truncated_file_is_told_by_its_size() {
        let model = one_file_model(b"weights");
        let (folder, _) = folder_with(b"weig");
        let expected = [FaultKind::Size { expected: 7, found: 4 }];
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), expected);
    }

    #[test]
    fn a_flipped_bit_is_told_by_both_hashes() {
        let model = one_file_model(b"weights");
        let (folder, _) = folder_with(b"weighty");
        let expected =
            [FaultKind::Hash { expected: Digest::of(b"weights"), found: Digest::of(b"weighty") }];
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), expected);
    }

    #[test]
    fn a_missing_file_or_folder_is_told() {
        let model = one_file_model(b"weights");
        let (folder, path) = folder_with(b"weights");
        fs::remove_file(path).unwrap();
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), [FaultKind::Missing]);
        assert_eq!(kinds(&model, Path::new("/nowhere"), Depth::Full), [FaultKind::Missing]);
    }

    #[test]
    fn the_cheap_check_hashes_again_only_when_size_or_time_changed() {
        let model = one_file_model(b"weights");
        let (folder, path) = folder_with(b"weights");
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), []);
        let stamped = fs::metadata(&path).unwrap().modified().unwrap();

        // Same size and time, other content: what the cheap check cannot see.
        fs::write(&path, b"weighty").unwrap();
        set_modified(&path, stamped);
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), []);

        // The time moved: it is hashed, and found out.
        set_modified(&path, stamped + Duration::from_secs(1));
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap).len(), 1);
    }

    #[test]
    fn what_the_full_check_finds_the_next_cheap_check_finds_too() {
        let model = one_file_model(b"weights");
        let (folder, path) = folder_with(b"weights");
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), []);
        let stamped = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"weighty").unwrap();
        set_modified(&path, stamped);

        assert_eq!(kinds(&model, folder.path(), Depth::Full).len(), 1);
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap).len(), 1);
    }

    #[test]
    fn a_marker_of_another_hash_is_not_trusted() {
        let (folder, _) = folder_with(b"weights");
        assert_eq!(kinds(&one_file_model(b"weights"), folder.path(), Depth::Cheap), []);
        // A newer manifest wants other bytes of the same length.
        assert_eq!(kinds(&one_file_model(b"WEIGHTS"), folder.path(), Depth::Cheap).len(), 1);
    }

    #[test]
    fn a_broken_marker_costs_a_hash_and_nothing_else() {
        let model = one_file_model(b"weights");
        let (folder, _) = folder_with(b"weights");
        fs::write(folder.path().join(MARKER), b"{ not json").unwrap();
        assert_eq!(kinds(&model, folder.path(), Depth::Cheap), []);
    }

    #[test]
    fn a_copy_that_kept_whole_seconds_only_is_still_trusted() {
        let (folder, path) = folder_with(b"weights");
        let digest = Digest::of(b"weights");
        let exact = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        set_modified(&path, exact);
        let stamp = Stamp::new(&fs::metadata(&path).unwrap(), digest);
        set_modified(&path, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert!(stamp.still_holds(&Stamp::new(&fs::metadata(&path).unwrap(), digest)));
        set_modified(&path, exact + Duration::from_nanos(1));
        assert!(!stamp.still_holds(&Stamp::new(&fs::metadata(&path).unwrap(), digest)));
        drop(folder);
    }
}
