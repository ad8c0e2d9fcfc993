//! Translation by Apertium's rules (Forcada et al., 2011), installed on the system. Far quicker than
//! a language model and far less fluent: the rung to fall back to.
//!
//! Each direction is a chain of a dozen small programs. Chains stay up and answer one text after
//! another, NUL to NUL, in about 1.5 ms; starting them for each text would cost a hundred times
//! that.

mod format;
mod modes;
mod pipeline;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::Language;

use super::{TranslateError, TranslateRequest, Translation, Translator};
use pipeline::Pool;

/// Name in traces, metrics and configuration.
pub const NAME: &str = "apertium";

/// Where Apertium's pairs lie and how many chains each may have.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApertiumConfig {
    /// Folder of `.mode` files.
    pub modes: PathBuf,
    /// Chains per direction, started when needed; one takes about 110 MB.
    pub pipelines: usize,
}

impl Default for ApertiumConfig {
    fn default() -> Self {
        Self { modes: PathBuf::from("/usr/share/apertium/modes"), pipelines: 2 }
    }
}

/// No pair can be used: install `apertium` and the pairs wanted, such as `apertium-eng-spa`.
#[derive(Debug, thiserror::Error)]
#[error("cannot read apertium's modes in {folder}: install apertium and a language pair")]
pub struct DiscoverError {
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// The installed pairs.
#[derive(Debug)]
pub struct Apertium {
    pools: BTreeMap<(Language, Language), Pool>,
}

impl Apertium {
    /// Looks which pairs are installed. Starts no process.
    ///
    /// # Errors
    /// The folder of modes cannot be read.
    pub fn discover(config: &ApertiumConfig) -> Result<Self, DiscoverError> {
        let folder: &Path = &config.modes;
        let pairs = modes::discover(folder)
            .map_err(|source| DiscoverError { folder: folder.to_owned(), source })?;
        let pools = pairs
            .into_iter()
            .map(|(direction, stages)| (direction, Pool::new(stages, config.pipelines)))
            .collect();
        Ok(Self { pools })
    }

    /// Directions that are installed.
    pub fn directions(&self) -> impl Iterator<Item = (Language, Language)> {
        self.pools.keys().copied()
    }

    /// Starts one chain of a direction, so that the first sentence need not wait for it.
    ///
    /// # Errors
    /// The direction is not installed, or its programs do not start.
    pub fn warm_up(&self, from: Language, to: Language) -> Result<(), TranslateError> {
        self.ask("a", from, to).map(|_| ())
    }

    /// Process ids of the idle chains of a direction.
    pub fn idle_process_ids(&self, from: Language, to: Language) -> Vec<u32> {
        self.pools.get(&(from, to)).map(Pool::idle_process_ids).unwrap_or_default()
    }

    fn ask(&self, text: &str, from: Language, to: Language) -> Result<String, TranslateError> {
        let pool =
            self.pools.get(&(from, to)).ok_or(TranslateError::UnsupportedPair { from, to })?;
        let answer = pool.ask(&format::request(text)).map_err(|error| TranslateError::Failed {
            translator: NAME.to_owned(),
            source: Box::new(error),
        })?;
        let answer = format::answer(&String::from_utf8_lossy(&answer));
        Ok(format::polish(&answer, text, matches!(to.code(), "es" | "gl")))
    }
}

impl Translator for Apertium {
    fn name(&self) -> &str {
        NAME
    }

    fn supports(&self, from: Language, to: Language) -> bool {
        self.pools.contains_key(&(from, to))
    }

    fn translate(
        &self,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        if request.cancel.is_cancelled() {
            return Err(TranslateError::Cancelled);
        }
        let rejected = |reason: &str| TranslateError::Rejected {
            translator: NAME.to_owned(),
            reason: reason.to_owned(),
        };
        if request.text.len() > format::LONGEST_TEXT {
            return Err(rejected("the text is longer than a pipe takes at once"));
        }
        let text = self.ask(&request.text, request.from, request.to)?;
        if text.is_empty() && !request.text.trim().is_empty() {
            return Err(rejected("empty"));
        }
        on_text(&text);
        Ok(Translation { text, translator: NAME.to_owned() })
    }
}
