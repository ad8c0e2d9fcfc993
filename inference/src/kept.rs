//! Numbers that were computed from a model once, kept on disk so that the next start reads them
//! instead: keys and values of a prompt's beginning, what the normalisations see of a voice.
//!
//! A file begins with the digest of all that its numbers come from ([`Origin`]), the program among
//! them, and the digest of the numbers: what is stale or damaged is computed again. The folder may
//! be lost, or be one that nobody can write to, at the cost of a slower start.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Places of a file that are looked at to tell it from another.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 4096;
const DIGEST_BYTES: usize = 32;

/// All that some numbers come from, put together with [`with`](Self::with).
#[derive(Clone, Debug)]
pub struct Origin(Sha256);

impl Origin {
    /// This program and the file of a model. A file is told from another by its length, its time and
    /// samples of its content: reading all of it would take as long as what is to be saved.
    ///
    /// # Errors
    /// One of the two cannot be read.
    pub fn of_model(path: &Path) -> io::Result<Self> {
        let mut hash = Sha256::new();
        add_file(&mut hash, &std::env::current_exe()?)?;
        add_file(&mut hash, path)?;
        Ok(Self(hash))
    }

    /// And these bytes.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn digest(&self) -> [u8; DIGEST_BYTES] {
        self.0.clone().finalize().into()
    }
}

fn add_file(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    hash.update(about.len().to_le_bytes());
    hash.update(changed.as_nanos().to_le_bytes());
    let last = about.len().saturating_sub(SAMPLE_BYTES);
    for sample in 0..SAMPLES {
        file.seek(SeekFrom::Start(last / (SAMPLES - 1) * sample))?;
        let mut bytes = Vec::new();
        Read::take(&file, SAMPLE_BYTES).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(())
}

/// A folder of such numbers.
#[derive(Clone, Debug)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Those in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The numbers of that name, if they were kept and come from the same origin.
    pub fn read(&self, name: &str, origin: &Origin) -> Option<Vec<f32>> {
        let bytes = std::fs::read(self.path(name)).ok()?;
        let (from, rest) = bytes.split_at_checked(DIGEST_BYTES)?;
        let (digest, numbers) = rest.split_at_checked(DIGEST_BYTES)?;
        if from != origin.digest() || digest != Sha256::digest(numbers).as_slice() {
            return None;
        }
        let (numbers, rest) = numbers.as_chunks();
        rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// Keeps numbers, in place of what was kept under the same name. A failure is told in the log:
    /// the next start is a slower one.
    pub fn write(&self, name: &str, origin: &Origin, numbers: &[f32]) {
        if let Err(error) = self.try_write(name, origin, numbers) {
            let folder = self.folder.display();
            tracing::info!(%error, %folder, name, "cannot be kept: computed again at each start");
        }
    }

    fn try_write(&self, name: &str, origin: &Origin, numbers: &[f32]) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(&origin.digest())?;
        file.write_all(&Sha256::digest(&bytes))?;
        file.write_all(&bytes)?;
        file.persist(self.path(name))?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.f32"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(bytes: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("room");
        file
    }

    #[test]
    fn numbers_come_back_and_those_of_another_origin_do_not() {
        let (folder, file) = (tempfile::tempdir().expect("a folder"), model(&[7; 100_000]));
        let kept = Kept::new(folder.path().join("deep"));
        let origin = Origin::of_model(file.path()).expect("readable").with(b"prompt");
        assert_eq!(kept.read("voice", &origin), None);
        let numbers = [1.5, -0.0, f32::MAX, f32::MIN_POSITIVE];
        kept.write("voice", &origin, &numbers);
        assert_eq!(kept.read("voice", &origin).as_deref(), Some(&numbers[..]));
        assert_eq!(kept.read("other", &origin), None);
        let later = Origin::of_model(file.path()).expect("readable").with(b"prompu");
        assert_eq!(kept.read("voice", &later), None);
        // Bytes that are put together in another way are another origin.
        let apart = Origin::of_model(file.path()).expect("readable").with(b"prom").with(b"pt");
        assert_eq!(kept.read("voice", &apart), None);
        kept.write("voice", &later, &[]);
        assert_eq!(kept.read("voice", &later).as_deref(), Some(&[][..]));
        assert_eq!(kept.read("voice", &origin), None);
    }

    #[test]
    fn a_model_of_the_same_length_is_told_apart_by_its_content() {
        let mut bytes = vec![7; 1 << 20];
        let first = model(&bytes);
        bytes.iter_mut().for_each(|byte| *byte = 8);
        let second = model(&bytes);
        let time = first.as_file().metadata().and_then(|about| about.modified()).expect("a time");
        second.as_file().set_modified(time).expect("its own file");
        let of = |file: &NamedTempFile| Origin::of_model(file.path()).expect("readable").digest();
        assert_ne!(of(&first), of(&second));
        assert_eq!(of(&first), of(&first));
        assert!(Origin::of_model(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn whatever_is_damaged_is_not_read() {
        let (folder, file) = (tempfile::tempdir().expect("a folder"), model(b"weights"));
        let (kept, origin) =
            (Kept::new(folder.path()), Origin::of_model(file.path()).expect("readable"));
        kept.write("voice", &origin, &[1.0, 2.0]);
        let path = folder.path().join("voice.f32");
        let whole = std::fs::read(&path).expect("written");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).expect("writable");
            assert_eq!(kept.read("voice", &origin), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("writable");
            assert_eq!(kept.read("voice", &origin), None, "cut at {at}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_is_no_failure() {
        let file = model(b"weights");
        let origin = Origin::of_model(file.path()).expect("readable");
        let kept = Kept::new(file.path().join("below a file"));
        kept.write("voice", &origin, &[1.0]);
        assert_eq!(kept.read("voice", &origin), None);
    }
}
