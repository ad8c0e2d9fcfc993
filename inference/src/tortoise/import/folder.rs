//! The folder that an import writes: files of weights, the sizes of the networks, perhaps a tokenizer,
//! and a list of them all with their lengths and SHA-256.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::ImportError;
use super::sizes::{
    AutoregressiveSizes, ClvpSizes, DiffusionSizes, HifiganSizes, RandomVoiceSizes, UnivnetSizes,
};
use super::weights::Weights;
use crate::store::{Depth, Digest, Expected, check_files};

/// The file that lists the others.
pub(super) const MANIFEST: &str = "manifest.json";
/// The file of sizes.
pub(super) const SIZES: &str = "tortoise.json";
/// The tokenizer, of models that were trained with another one than the published.
pub(super) const TOKENIZER: &str = "tokenizer.json";
const VERSION: u32 = 1;
/// Bytes of the largest file of text.
pub(super) const LARGEST_TEXT: u64 = 16 << 20;

/// The sizes of all networks that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Of the network that makes codes of text.
    pub autoregressive: AutoregressiveSizes,
    /// Of the network that makes sound of latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hifigan: Option<HifiganSizes>,
    /// Of the network that makes a mel spectrogram of latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionSizes>,
    /// Of the network that makes sound of a mel spectrogram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub univnet: Option<UnivnetSizes>,
    /// Of the network that tells how well codes fit a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clvp: Option<ClvpSizes>,
    /// Of the network that makes random voices for codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_voice_autoregressive: Option<RandomVoiceSizes>,
    /// Of the network that makes random voices for the mel spectrogram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_voice_diffusion: Option<RandomVoiceSizes>,
}

impl Sizes {
    /// Whether sound can be made of latents at once.
    pub fn has_streaming_path(&self) -> bool {
        self.hifigan.is_some()
    }

    /// Whether sound can be made by way of a mel spectrogram.
    pub fn has_quality_path(&self) -> bool {
        self.diffusion.is_some() && self.univnet.is_some()
    }

    fn has(&self, weights: Weights) -> bool {
        match weights {
            Weights::Autoregressive => true,
            Weights::Hifigan => self.hifigan.is_some(),
            Weights::Diffusion => self.diffusion.is_some(),
            Weights::Univnet => self.univnet.is_some(),
            Weights::Clvp => self.clvp.is_some(),
            Weights::RandomVoiceAutoregressive => self.random_voice_autoregressive.is_some(),
            Weights::RandomVoiceDiffusion => self.random_voice_diffusion.is_some(),
        }
    }
}

/// A file with its length and SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A file that was not imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why not, in words.
    pub reason: String,
}

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    /// The files of the folder.
    files: Vec<Listed>,
    /// The files that they were made from.
    sources: Vec<Listed>,
    skipped: Vec<Skipped>,
}

impl Manifest {
    pub(super) fn new(files: Vec<Listed>, sources: Vec<Listed>, skipped: Vec<Skipped>) -> Self {
        Self { version: VERSION, files, sources, skipped }
    }
}

/// A folder that an import wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    folder: PathBuf,
    sizes: Sizes,
    has_tokenizer: bool,
    voices_of: String,
    sources: Vec<Listed>,
    skipped: Vec<Skipped>,
}

impl Imported {
    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The sizes of its networks.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Where a file of weights is, if it was imported.
    pub fn weights(&self, weights: Weights) -> Option<PathBuf> {
        self.sizes.has(weights).then(|| self.folder.join(weights.file()))
    }

    /// The model's own tokenizer, if it came with one.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        self.has_tokenizer.then(|| self.folder.join(TOKENIZER))
    }

    /// Tells the networks that hear voices from others, which hear something else: a SHA-256 in
    /// hexadecimal digits.
    pub fn voices_of(&self) -> &str {
        &self.voices_of
    }

    /// The checkpoints that it was made from.
    pub fn sources(&self) -> &[Listed] {
        &self.sources
    }

    /// What lay beside them and was not imported.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

/// The import in `folder`, after its files were held to the list: by size and time where their hash
/// was once found right, as the model store does, and by their hash otherwise.
///
/// # Errors
/// [`ImportError::NotImported`], [`ImportError::Damaged`]: import again.
pub fn verified(folder: &Path) -> Result<Imported, ImportError> {
    check(folder, Depth::Cheap)
}

/// As [`verified`], and hashes every file.
///
/// # Errors
/// As [`verified`].
pub fn verified_in_full(folder: &Path) -> Result<Imported, ImportError> {
    check(folder, Depth::Full)
}

fn check(folder: &Path, depth: Depth) -> Result<Imported, ImportError> {
    let reject = |reason: String| ImportError::NotImported { folder: folder.to_owned(), reason };
    let manifest: Manifest = read_json(&folder.join(MANIFEST)).map_err(reject)?;
    if manifest.version != VERSION {
        return Err(reject(format!(
            "its list has version {}, this program reads version {VERSION}",
            manifest.version
        )));
    }
    let known: HashSet<_> =
        Weights::ALL.iter().map(|weights| weights.file()).chain([SIZES, TOKENIZER]).collect();
    let names: HashSet<_> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(**name)) {
        return Err(reject(format!("it lists {name:?}")));
    }
    let expected: Vec<_> = manifest
        .files
        .iter()
        .map(|file| Expected { path: &file.name, size: file.size, sha256: file.sha256 })
        .collect();
    if let Some((_, fault)) = check_files(folder, &expected, depth).into_iter().next() {
        return Err(ImportError::Damaged(fault));
    }
    if !names.contains(SIZES) {
        return Err(reject(format!("it lists no {SIZES}")));
    }
    let sizes: Sizes = read_json(&folder.join(SIZES)).map_err(reject)?;
    for weights in Weights::ALL {
        if sizes.has(weights) != names.contains(weights.file()) {
            return Err(reject(format!("its list and {SIZES} disagree on {}", weights.file())));
        }
    }
    let hearing = [Weights::Autoregressive, Weights::Diffusion].map(Weights::file);
    let mut voices_of = Sha256::new();
    for file in manifest.files.iter().filter(|file| hearing.contains(&file.name.as_str())) {
        voices_of.update(format!("{} {}\n", file.sha256, file.name));
    }
    Ok(Imported {
        folder: folder.to_owned(),
        voices_of: format!("{:x}", voices_of.finalize()),
        sizes,
        has_tokenizer: names.contains(TOKENIZER),
        sources: manifest.sources,
        skipped: manifest.skipped,
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = fs::metadata(path).map_err(|error| explain(&error))?.len();
    if size > LARGEST_TEXT {
        return Err(explain(&"it is too large"));
    }
    let bytes = fs::read(path).map_err(|error| explain(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| explain(&error))
}
