//! What can go wrong with an import, told so that the reader knows what to do.

use std::io;
use std::path::PathBuf;

use super::checkpoint::CheckpointError;
use super::sizes::SizesError;
use crate::store::Fault;

/// Why checkpoints were not imported, or what was imported cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder has not the checkpoints that speech is made with. Fetch those that are named.
    #[error(
        "{} has no {missing}; needed are autoregressive.pth, and hifidecoder.pth or both \
         diffusion_decoder.pth and vocoder.pth",
        .folder.display()
    )]
    Missing {
        /// Where they were looked for.
        folder: PathBuf,
        /// What is not there.
        missing: String,
    },
    /// A checkpoint cannot be used. The reason says what to do.
    #[error("{}: {error}", .path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: PartError,
    },
    /// Two checkpoints are not of one family. Take those that were trained together.
    #[error("{first} and {second} do not fit together: {reason}")]
    Unfit {
        /// One of them.
        first: &'static str,
        /// The other one.
        second: &'static str,
        /// What differs.
        reason: String,
    },
    /// The tokenizer beside the checkpoints is not one for them. Remove it to use the one that is
    /// built in, or bring the one that the model was trained with.
    #[error("{} is no tokenizer for this model: {reason}", .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder to write exists and is not empty. Remove it, or name another one.
    #[error("{} is there already; remove it or name another folder", .0.display())]
    Exists(PathBuf),
    /// The folder was not written by an import, or by one of another version. Import again.
    #[error("{} is not what an import wrote: {reason}; import the checkpoints again", .folder.display())]
    NotImported {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is missing or not what the import wrote. Import again.
    #[error("{0}; import the checkpoints again")]
    Damaged(Fault),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
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

/// Why one checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its tensors are not those of the network that its name promises.
    #[error("it is not the network that its name promises: {0}")]
    Sizes(#[from] SizesError),
    /// A weight under weight norm has one of its halves only, or is there twice.
    #[error("{0} is half of a weight whose other half is missing, or is there twice")]
    Half(String),
    /// A tensor has an impossible shape.
    #[error("{0} has a shape that no such weight has")]
    Shape(String),
    /// A tensor holds something else than finite floating-point numbers: training went astray, or the
    /// file is damaged.
    #[error("{0} holds something else than finite numbers")]
    NotNumbers(String),
    /// What is made of it cannot be written.
    #[error("cannot write {}: {}", .0.display(), .1)]
    Write(PathBuf, #[source] io::Error),
}
