//! The speaker styles: one file a voice, a table of 510 style vectors chosen by the length of what
//! is said (a short phrase is spoken otherwise than a long one).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Numbers in a style vector.
pub(super) const STYLE_LEN: usize = 256;
/// Rows of a voice, one for each count of phonemes from one.
pub(super) const STYLE_ROWS: usize = 510;
const FILE_BYTES: u64 = (STYLE_ROWS * STYLE_LEN * size_of::<f32>()) as u64;

/// A voice cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StyleError {
    /// The folder or a file cannot be read.
    #[error("cannot read {path}: fetch the model again")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a table of styles.
    #[error("{path} has {actual} bytes instead of {FILE_BYTES}: fetch the model again")]
    WrongSize {
        /// Which.
        path: PathBuf,
        /// Its size in bytes.
        actual: u64,
    },
    /// The table holds something that is no number.
    #[error("{path} holds values that are not finite: fetch the model again")]
    NotFinite {
        /// Which.
        path: PathBuf,
    },
    /// No voice is there.
    #[error("no voices in {path}: fetch the model again")]
    NoVoices {
        /// The folder.
        path: PathBuf,
    },
}

/// All voices of a folder; a table is read when it is first used.
pub(super) struct Styles {
    files: BTreeMap<String, PathBuf>,
    tables: Mutex<HashMap<String, Arc<[f32]>>>,
}

impl Styles {
    /// Lists the `*.bin` files of `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, StyleError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StyleError::Io { path, source }
        };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_none_or(|extension| extension != "bin") {
                continue;
            }
            let actual = path.metadata().map_err(failed(&path))?.len();
            if actual != FILE_BYTES {
                return Err(StyleError::WrongSize { path, actual });
            }
            if let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) {
                files.insert(name.to_owned(), path);
            }
        }
        if files.is_empty() {
            return Err(StyleError::NoVoices { path: folder.to_owned() });
        }
        Ok(Self { files, tables: Mutex::default() })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The style of `name` for an utterance of `phonemes` tokens; `None` if there is no such voice.
    pub(super) fn style(
        &self,
        name: &str,
        phonemes: usize,
    ) -> Result<Option<Vec<f32>>, StyleError> {
        let Some(path) = self.files.get(name) else { return Ok(None) };
        let known = self.tables.lock().get(name).cloned();
        let table = match known {
            Some(table) => table,
            None => {
                let table = read_table(path)?;
                self.tables.lock().insert(name.to_owned(), Arc::clone(&table));
                table
            }
        };
        let row = phonemes.clamp(1, STYLE_ROWS) - 1;
        Ok(Some(table[row * STYLE_LEN..][..STYLE_LEN].to_vec()))
    }
}

fn read_table(path: &Path) -> Result<Arc<[f32]>, StyleError> {
    let bytes =
        std::fs::read(path).map_err(|source| StyleError::Io { path: path.to_owned(), source })?;
    if bytes.len() as u64 != FILE_BYTES {
        return Err(StyleError::WrongSize { path: path.to_owned(), actual: bytes.len() as u64 });
    }
    let (values, _) = bytes.as_chunks();
    let table: Arc<[f32]> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if table.iter().all(|value| value.is_finite()) {
        Ok(table)
    } else {
        Err(StyleError::NotFinite { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(value: impl Fn(usize) -> f32) -> Vec<u8> {
        (0..STYLE_ROWS * STYLE_LEN).flat_map(|index| value(index).to_le_bytes()).collect()
    }

    #[test]
    fn the_row_is_the_count_of_phonemes_less_one() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(
            folder.path().join("xx_test.bin"),
            table(|index| (index / STYLE_LEN) as f32),
        )
        .expect("written");
        let styles = Styles::open(folder.path()).expect("one voice");
        for (phonemes, row) in [(0, 0.0), (1, 0.0), (20, 19.0), (510, 509.0), (900, 509.0)] {
            let style = styles.style("xx_test", phonemes).expect("readable").expect("known");
            assert_eq!(style, vec![row; STYLE_LEN]);
        }
        assert!(styles.style("nobody", 5).expect("readable").is_none());
    }

    #[test]
    fn a_voice_of_the_wrong_size_or_with_nonsense_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Styles::open(folder.path()), Err(StyleError::NoVoices { .. })));
        let path = folder.path().join("xx_test.bin");
        std::fs::write(&path, table(|_| f32::NAN)).expect("written");
        let styles = Styles::open(folder.path()).expect("the size is right");
        assert!(matches!(styles.style("xx_test", 3), Err(StyleError::NotFinite { .. })));
        std::fs::write(&path, [0; 100]).expect("written");
        let Err(error) = Styles::open(folder.path()) else { panic!("too small") };
        assert!(error.to_string().contains("100 bytes instead of 522240"), "{error}");
    }
}
