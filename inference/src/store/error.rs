//! What can go wrong with a model, told so that the reader knows which command mends it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;

/// Faulty files named in one message; the rest is counted.
const NAMED_FAULTS: usize = 3;

/// Why the model store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The manifest knows no model of this name. Pick one of `known`.
    #[error("no model is called {name:?}; the manifest has {}", .known.join(", "))]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The names that the manifest has.
        known: Vec<String>,
    },
    /// The manifest cannot be read or contradicts itself. Mend the file, or unset
    /// `DRAGOMAN_MODEL_MANIFEST` to use the one that is built in.
    #[error("the model manifest {origin} cannot be used: {reason}")]
    Manifest {
        /// The path of the manifest, or that it is the built-in one.
        origin: String,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// Neither `DRAGOMAN_MODELS` nor `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no folder to keep models in; set DRAGOMAN_MODELS to one")]
    NoCacheFolder,
    /// The model is not there, not whole, or not what the manifest says. The message names the
    /// files and the command that mends them.
    #[error("the model {model} {}; `dragoman models fetch {model}` mends it", list_faults(.faults))]
    Unusable {
        /// The model.
        model: String,
        /// Every file that is wrong; never empty.
        faults: Vec<Fault>,
    },
    /// The disk is too full. Free some space, or set `DRAGOMAN_MODELS` to a folder on another disk.
    #[error(
        "not enough room in {} to fetch {models}: {} needed, {} free; free some space or set \
         DRAGOMAN_MODELS to a folder on a larger disk",
        .folder.display(), format_bytes(*.needed), format_bytes(*.free)
    )]
    NoSpace {
        /// What was to be fetched.
        models: String,
        /// The cache root.
        folder: PathBuf,
        /// Bytes needed at the worst moment.
        needed: u64,
        /// Bytes that an ordinary user may still write there.
        free: u64,
    },
    /// No source had the model. Each one that was tried is named with its reason.
    #[error(
        "no source could supply {model}:{}\n  bring its files or archives to a folder and set \
         DRAGOMAN_MODEL_MIRROR to that, or run `dragoman models fetch {model}` again later",
        list_attempts(.attempts)
    )]
    NoSource {
        /// The model.
        model: String,
        /// What was tried, in order.
        attempts: Vec<Attempt>,
    },
    /// Hugging Face could not supply a file that is only there: try again later, or bring it in another
    /// way and import it.
    #[error(
        "{model} could not be fetched:{}\n  try again later, or bring its files in another way and import \
         them (`dragoman models --help`)",
        list_attempts(std::slice::from_ref(.attempt))
    )]
    NoFile {
        /// What the file is for.
        model: String,
        /// What was tried.
        attempt: Attempt,
    },
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// A verb: "create", "read".
        action: &'static str,
        /// What it was to be done to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// A file that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the file is, or should be.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no such file.
    Missing,
    /// The file has another length: truncated, or something else altogether.
    Size {
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The file has the right length and other content.
    Hash {
        /// The SHA-256 that it should have.
        expected: Digest,
        /// The SHA-256 that it has.
        found: Digest,
    },
    /// The file is there and cannot be read.
    Unreadable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            FaultKind::Missing => write!(formatter, "{path} is missing"),
            FaultKind::Size { expected, found } => {
                write!(formatter, "{path} has {found} bytes, expected {expected}")
            }
            FaultKind::Hash { expected, found } => {
                write!(formatter, "{path} has sha256 {found}, expected {expected}")
            }
            FaultKind::Unreadable(reason) => write!(formatter, "{path} cannot be read: {reason}"),
        }
    }
}

/// One source that was asked for a model in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The source, as an operator knows it: "pip", "the mirror /srv/models".
    pub source: String,
    /// Why it did not help.
    pub reason: String,
}

fn list_faults(faults: &[Fault]) -> String {
    let verdict = if faults.iter().all(|fault| fault.kind == FaultKind::Missing) {
        "is not there"
    } else {
        "cannot be used"
    };
    let mut text =
        faults.iter().take(NAMED_FAULTS).map(Fault::to_string).collect::<Vec<_>>().join("; ");
    if faults.len() > NAMED_FAULTS {
        text = format!("{text}; and {} more", faults.len() - NAMED_FAULTS);
    }
    format!("{verdict}: {text}")
}

fn list_attempts(attempts: &[Attempt]) -> String {
    attempts.iter().map(|attempt| format!("\n  {}: {}", attempt.source, attempt.reason)).collect()
}

/// A number of bytes for people: "1.3 GB", decimal units as disks and networks are sold.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupt_file_is_named_with_both_hashes_and_the_command_that_mends_it() {
        let (expected, found) = (Digest::of(b"good"), Digest::of(b"bad"));
        let fault = Fault {
            path: "/models/whisper-base/model.bin".into(),
            kind: FaultKind::Hash { expected, found },
        };
        let text =
            StoreError::Unusable { model: "whisper-base".into(), faults: vec![fault] }.to_string();
        assert_eq!(
            text,
            format!(
                "the model whisper-base cannot be used: /models/whisper-base/model.bin has sha256 \
                 {found}, expected {expected}; `dragoman models fetch whisper-base` mends it"
            )
        );
    }

    #[test]
    fn many_missing_files_are_counted_not_listed() {
        let faults = (0..54)
            .map(|index| Fault { path: format!("{index}.bin").into(), kind: FaultKind::Missing })
            .collect();
        let text = StoreError::Unusable { model: "kokoro-82m".into(), faults }.to_string();
        assert!(
            text.contains(
                "is not there: 0.bin is missing; 1.bin is missing; 2.bin is missing; and 51 more"
            ),
            "{text}"
        );
    }

    #[test]
    fn bytes_are_printed_in_decimal_units() {
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1_387_408_776), "1.4 GB");
        assert_eq!(format_bytes(66_273_783), "66.3 MB");
    }
}
