//! Weights by one set of names, whatever file they come from.
//!
//! The names are CTranslate2's, because its layout keeps the matrices fused that the model
//! multiplies at once (query, key and value; cross key and value). Safetensors with Hugging Face's
//! names are fused while reading. Files are read tensor by tensor and every length is checked
//! against the file before memory is reserved.

mod ct2;
mod elements;
mod safetensors;

use std::path::{Path, PathBuf};

pub use ct2::Ct2File;
pub use safetensors::SafetensorsFiles;

use super::WhisperError;

/// A tensor in row-major order with the shape the file states.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor {
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape`'s product of values.
    pub values: Vec<f32>,
}

/// Where weights come from.
pub enum Weights {
    /// A CTranslate2 `model.bin`.
    Ct2(Ct2File<std::fs::File>),
    /// One or several safetensors files.
    Safetensors(SafetensorsFiles<std::fs::File>),
}

impl Weights {
    /// Opens the weights in `dir`: `model.bin`, else `model.safetensors`, else the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// [`WhisperError::NoWeights`], [`WhisperError::Io`], [`WhisperError::Malformed`].
    pub fn open(dir: &Path) -> Result<Self, WhisperError> {
        let ct2 = dir.join("model.bin");
        if ct2.exists() {
            let file = open_file(&ct2)?;
            return Ct2File::open(file, &ct2).map(Self::Ct2);
        }
        let mut files = Vec::new();
        for path in safetensors::files_in(dir)? {
            files.push((open_file(&path)?, path));
        }
        SafetensorsFiles::open(files).map(Self::Safetensors)
    }

    /// Shape of a tensor, or `None` when the file has no such tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            Self::Ct2(file) => file.shape(name),
            Self::Safetensors(files) => files.shape(name),
        }
    }

    /// Reads a tensor of any shape as `f32`.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`] when it is missing or damaged, [`WhisperError::Io`].
    pub fn read(&mut self, name: &str) -> Result<RawTensor, WhisperError> {
        match self {
            Self::Ct2(file) => file.read(name),
            Self::Safetensors(files) => files.read(name),
        }
    }

    /// Reads a tensor that must have `shape`.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`WhisperError::Malformed`] when the shape is another one.
    pub fn read_shaped(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WhisperError> {
        let tensor = self.read(name)?;
        if tensor.shape != shape {
            let reason = format!("{name} has shape {:?}, expected {shape:?}", tensor.shape);
            return Err(self.malformed(reason));
        }
        Ok(tensor.values)
    }

    /// An error that names the weights' file.
    pub fn malformed(&self, reason: impl Into<String>) -> WhisperError {
        let path = match self {
            Self::Ct2(file) => file.path(),
            Self::Safetensors(files) => files.path(),
        };
        malformed(path, reason)
    }
}

fn malformed(path: &Path, reason: impl Into<String>) -> WhisperError {
    WhisperError::Malformed { path: path.to_owned(), reason: reason.into() }
}

fn io(path: &Path, source: std::io::Error) -> WhisperError {
    WhisperError::Io { path: PathBuf::from(path), source }
}

fn open_file(path: &Path) -> Result<std::fs::File, WhisperError> {
    std::fs::File::open(path).map_err(|source| io(path, source))
}
