//! Where learned voices are stored: the section of the configuration, and the default place.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::transcripts::data_folder;

/// Learned voices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VoicesConfig {
    /// The folder. Missing: `dragoman/voices` in the user's data folder. Empty: they are kept in
    /// memory alone, until the server ends.
    pub folder: Option<PathBuf>,
}

impl VoicesConfig {
    /// The folder; `None` when nothing is to be stored, or the environment has no place for the
    /// default.
    pub fn place(&self) -> Option<PathBuf> {
        match &self.folder {
            Some(folder) if folder.as_os_str().is_empty() => None,
            Some(folder) => Some(folder.clone()),
            None => data_folder().map(|folder| folder.join("voices")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_stores_nothing_and_a_named_one_is_taken() {
        let place = |folder: &str| VoicesConfig { folder: Some(folder.into()) }.place();
        assert_eq!(place(""), None);
        assert_eq!(place("/var/lib/voices"), Some(PathBuf::from("/var/lib/voices")));
    }
}
