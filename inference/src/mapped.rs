//! Files of weights, mapped into memory: what is read comes straight from the system's page cache,
//! without a copy of the whole file beside it.
//!
//! `unsafe` is allowed here because a mapping shows whatever happens to its file. Weights are
//! replaced as a whole, by renaming, and mapped only while they are loaded; whoever overwrites a
//! file in place at that moment gets a model of mixed weights or, if they cut it short, `SIGBUS`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// The bytes of a file. An empty file has none.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// It is missing, unreadable, or of a kind that cannot be mapped.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is private and only read; see above for files that change meanwhile.
        Ok(Self(unsafe { Mmap::map(&file)? }))
    }

    /// Gives back the memory of a part of it that was read. Whoever reads that part again gets it
    /// from the file again.
    pub(crate) fn forget(&self, part: &[u8]) {
        let start = part.as_ptr().addr().wrapping_sub(self.0.as_ptr().addr());
        if start.checked_add(part.len()).is_none_or(|end| end > self.0.len()) {
            return;
        }
        // SAFETY: nothing was written to the mapping, so that what comes from the file is the same.
        let advised =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, start, part.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "weights that were read stay in memory for now");
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_forgotten_is_read_again() {
        let bytes: Vec<u8> = (0..20_000u32).map(|index| (index % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&bytes).expect("room");
        let mapped = MappedFile::open(file.path()).expect("mapped");
        for part in [0..20_000, 5_000..15_000, 4_096..8_192, 7..8, 19_999..20_000, 300..300] {
            mapped.forget(&mapped[part]);
            assert_eq!(*mapped, *bytes);
        }
        mapped.forget(&bytes);
        assert_eq!(bytes[1], 1, "memory of others is not touched");
    }

    #[test]
    fn an_empty_file_has_no_bytes_and_a_missing_one_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mapped = MappedFile::open(file.path()).expect("mapped");
        assert!(mapped.is_empty());
        mapped.forget(&mapped);
        assert!(MappedFile::open(&file.path().join("below")).is_err());
    }
}
