//! Files of weights, mapped into memory: what is read comes straight from the system's page cache,
//! without a copy of the whole file beside it.
//!
//! `unsafe` is allowed here because a mapping shows whatever happens to its file. Weights are
//! replaced as a whole, by renaming, and mapped only while they are loaded; whoever overwrites a
//! file in place at that moment gets a model of mixed weights or, if they cut it short, `SIGBUS`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file. An empty file has none.
///
/// # Errors
/// The file is missing, unreadable, or of a kind that cannot be mapped.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the mapping is private and only read; see above for files that change meanwhile.
    unsafe { Mmap::map(&file) }
}
