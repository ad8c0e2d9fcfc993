//! Where and how long transcripts are kept: the section of the configuration, and the default place.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signaling::transcripts::{OpenError, Store, StoreConfig, Synchronous};

/// Transcripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TranscriptsConfig {
    /// The file. Missing: `dragoman/transcripts.sqlite3` in the user's data folder. Empty: nothing
    /// is kept, whatever a room asks for.
    pub path: Option<PathBuf>,
    /// Days after which what was said is deleted; 0 keeps it for ever.
    pub retention_days: u32,
    /// What a commit waits for.
    pub synchronous: Synchronous,
}

impl Default for TranscriptsConfig {
    fn default() -> Self {
        Self { path: None, retention_days: 30, synchronous: Synchronous::Normal }
    }
}

/// There is no place to keep transcripts in.
#[derive(Debug, thiserror::Error)]
#[error(
    "neither XDG_DATA_HOME nor HOME is set: say where transcripts are kept with \
         transcripts.path, or keep none with an empty one"
)]
pub struct NoDataFolder;

/// Why transcripts cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptsError {
    /// There is no place for them.
    #[error(transparent)]
    NoDataFolder(#[from] NoDataFolder),
    /// The place cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl TranscriptsConfig {
    /// The file; `None` when nothing is to be kept.
    ///
    /// # Errors
    /// [`NoDataFolder`] when the environment has no place for the default.
    pub fn file(&self) -> Result<Option<PathBuf>, NoDataFolder> {
        match &self.path {
            Some(path) if path.as_os_str().is_empty() => Ok(None),
            Some(path) => Ok(Some(path.clone())),
            None => default_file(environment).map(Some),
        }
    }

    /// Opens the file, as its server.
    ///
    /// # Errors
    /// [`TranscriptsError`] says what to do.
    pub fn open(&self) -> Result<Option<Arc<Store>>, TranscriptsError> {
        let Some(path) = self.file()? else { return Ok(None) };
        let config = StoreConfig {
            retention_days: self.retention_days,
            synchronous: self.synchronous,
            ..StoreConfig::new(path)
        };
        Ok(Some(Arc::new(Store::open(&config)?)))
    }
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// The program's folder in the user's data folder; `None` when the environment names no such place.
pub(crate) fn data_folder() -> Option<PathBuf> {
    data_folder_of(environment)
}

/// `variable` reads the environment.
fn data_folder_of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The XDG base directory specification has relative paths ignored.
    let set = |name| variable(name).filter(|path: &PathBuf| path.is_absolute());
    let folder = set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local").join("share")))?;
    Some(folder.join("dragoman"))
}

fn default_file(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, NoDataFolder> {
    Ok(data_folder_of(variable).ok_or(NoDataFolder)?.join("transcripts.sqlite3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_in_the_users_data_folder() {
        let file = |variables: &[(&str, &str)]| {
            default_file(|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| PathBuf::from(value))
            })
        };
        let home = ("HOME", "/h");
        assert_eq!(
            file(&[("XDG_DATA_HOME", "/x"), home]).expect("a place"),
            PathBuf::from("/x/dragoman/transcripts.sqlite3")
        );
        for ignored in ["", "not/absolute"] {
            assert_eq!(
                file(&[("XDG_DATA_HOME", ignored), home]).expect("a place"),
                PathBuf::from("/h/.local/share/dragoman/transcripts.sqlite3")
            );
        }
        let error = file(&[]).expect_err("no place").to_string();
        assert!(error.contains("transcripts.path"), "{error}");
    }

    #[test]
    fn an_empty_path_keeps_nothing() {
        let config = TranscriptsConfig { path: Some(PathBuf::new()), ..Default::default() };
        assert!(config.open().expect("nothing to open").is_none());
    }
}
