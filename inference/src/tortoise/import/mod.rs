//! From the published checkpoints to files that are loaded as they are.
//!
//! A checkpoint is a pickle, and loading one in Python may run whatever is in it. Here the pickle is
//! read by a machine that knows dictionaries of tensors and nothing else ([`pickle`], [`checkpoint`]);
//! the tensors are rearranged for the networks ([`convert`]), held to what a network of these sizes
//! has ([`sizes`]), and written one by one as safetensors ([`weights`]) with a list of their SHA-256
//! ([`folder`]), which they are held to whenever they are loaded.

pub mod checkpoint;
pub mod convert;
mod error;
mod folder;
pub mod pickle;
#[cfg(test)]
#[path = "../../../tests/tortoise_support/pickling.rs"]
mod pickling;
pub mod sizes;
mod weights;

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempDir;
use tokenizers::Tokenizer;

use folder::{LARGEST_TEXT, MANIFEST, Manifest, SIZES, TOKENIZER};
use sizes::{
    AutoregressiveSizes, ClvpSizes, DiffusionSizes, HifiganSizes, RandomVoiceSizes, SizesError,
    UnivnetSizes,
};
use weights::Conversion;

use crate::store::{Digest, hash_reader};

pub use error::{ImportError, PartError};
pub use folder::{Imported, Listed, Sizes, Skipped, verified, verified_in_full};
pub use weights::Weights;

/// Where an import is kept among the models unless another folder is named.
pub const FOLDER: &str = "tortoise";

/// Files that are published beside those that are imported, and why they are not.
const UNUSED: [(&str, &str); 4] = [
    ("cvvp.pth", "it ranks by likeness to the voice, which the authors gave up in version 2.4"),
    ("clvp.pth", "clvp2.pth ranks better"),
    ("classifier.pth", "it detects speech of Tortoise, and makes none"),
    ("dvae.pth", "it makes codes of sound, for training"),
];

/// Something that happened during an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A checkpoint is read and hashed.
    Reading {
        /// Its name.
        checkpoint: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// Tensors were written. Comes after each.
    Writing {
        /// The file that is written.
        file: &'a str,
        /// Bytes of numbers that are written.
        done: u64,
        /// All of them.
        all: u64,
    },
    /// A file is whole.
    Written {
        /// Its name.
        file: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// A file is not imported.
    Skipped {
        /// Its name.
        name: &'a str,
        /// Why not.
        reason: &'a str,
    },
}

/// Imports the checkpoints in the folder `from` into the folder `to`, which must not be there yet or
/// be empty. Needs a little more memory than the largest tensor, and as much disk as the checkpoints
/// take. Everything is written to a folder beside `to` that gets its name when it is whole: an import
/// that fails leaves nothing.
///
/// # Errors
/// Each variant of [`ImportError`] says what to do.
pub fn import(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Imported, ImportError> {
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
        return Err(ImportError::Exists(to.to_owned()));
    }
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|error| refused("create", parent, error))?;
    let temporary = tempfile::Builder::new()
        .prefix(".tortoise-import-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(|error| refused("create a folder in", parent, error))?;
    Import { from, folder: temporary.path(), sources: Vec::new(), files: Vec::new() }
        .run(progress)?;
    settle(temporary, to, parent)?;
    verified(to)
}

/// Gives the finished folder its name.
fn settle(temporary: TempDir, to: &Path, parent: &Path) -> Result<(), ImportError> {
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
    sync(temporary.path()).map_err(|error| refused("flush", temporary.path(), error))?;
    fs::rename(temporary.path(), to).map_err(|error| refused("rename", temporary.path(), error))?;
    // Nothing of the temporary name is left to remove.
    let _ = temporary.keep();
    sync(parent).map_err(|error| refused("flush", parent, error))
}

/// Names of the folder's checkpoints that are not imported, with the reason.
fn unused(from: &Path) -> Result<Vec<Skipped>, ImportError> {
    let entries = fs::read_dir(from).map_err(|error| refused("read", from, error))?;
    let mut skipped = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| refused("read", from, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_known = Weights::ALL.iter().any(|weights| weights.checkpoint() == name);
        let is_checkpoint =
            [".pth", ".pt", ".ckpt", ".bin"].iter().any(|ending| name.ends_with(ending));
        if is_known || !is_checkpoint {
            continue;
        }
        let reason = UNUSED.iter().find(|(unused, _)| *unused == name);
        let reason = reason.map_or("it goes by no name that is known here", |(_, reason)| reason);
        skipped.push(Skipped { name, reason: reason.to_owned() });
    }
    skipped.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(skipped)
}

/// An import under way.
struct Import<'a> {
    from: &'a Path,
    /// Where its files are written.
    folder: &'a Path,
    sources: Vec<Listed>,
    files: Vec<Listed>,
}

impl Import<'_> {
    fn run(mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), ImportError> {
        let mut skipped = unused(self.from)?;
        let mut skip = |weights: Weights, reason: String| {
            skipped.push(Skipped { name: weights.checkpoint().to_owned(), reason });
        };
        self.check_presence()?;

        // All sizes first: what does not fit is found before anything is written.
        let (autoregressive, speaking) =
            self.open(Weights::Autoregressive, AutoregressiveSizes::of)?;
        let (hifigan, streaming) = unzip(self.open_some(Weights::Hifigan, HifiganSizes::of)?);
        let mut diffusion = self.open_some(Weights::Diffusion, DiffusionSizes::of)?;
        let mut univnet = self.open_some(Weights::Univnet, UnivnetSizes::of)?;
        if diffusion.is_some() != univnet.is_some() {
            let alone = if diffusion.is_some() { Weights::Diffusion } else { Weights::Univnet };
            let other = if diffusion.is_some() { Weights::Univnet } else { Weights::Diffusion };
            skip(alone, format!("it is of no use without {}", other.checkpoint()));
            (diffusion, univnet) = (None, None);
        }
        let (diffusion, quality) = unzip(diffusion);
        let (univnet, sounding) = unzip(univnet);
        let (clvp, ranking) = unzip(self.open_some(Weights::Clvp, ClvpSizes::of)?);
        let (voice, voicing) =
            unzip(self.open_some(Weights::RandomVoiceAutoregressive, RandomVoiceSizes::of)?);
        let (mel_voice, mel_voicing) =
            unzip(self.open_some(Weights::RandomVoiceDiffusion, RandomVoiceSizes::of)?);
        let mut sizes = Sizes {
            autoregressive,
            hifigan,
            diffusion,
            univnet,
            clvp,
            random_voice_autoregressive: voice,
            random_voice_diffusion: mel_voice,
        };
        fit(&sizes)?;
        if let Some(reason) = sizes.clvp.as_ref().and_then(|clvp| unfit_clvp(&sizes, clvp)) {
            skip(Weights::Clvp, reason);
            sizes.clvp = None;
        }
        if sizes.diffusion.is_none() && sizes.random_voice_diffusion.take().is_some() {
            let reason = "it is of no use without diffusion_decoder.pth".to_owned();
            skip(Weights::RandomVoiceDiffusion, reason);
        }
        let tokenizer = self.tokenizer(&sizes.autoregressive)?;

        for Skipped { name, reason } in &skipped {
            progress(Progress::Skipped { name, reason });
        }
        let conversions = [
            (Weights::Autoregressive, Some(speaking)),
            (Weights::Hifigan, streaming),
            (Weights::Diffusion, quality),
            (Weights::Univnet, sounding),
            (Weights::Clvp, ranking.filter(|_| sizes.clvp.is_some())),
            (Weights::RandomVoiceAutoregressive, voicing),
            (
                Weights::RandomVoiceDiffusion,
                mel_voicing.filter(|_| sizes.random_voice_diffusion.is_some()),
            ),
        ];
        for (weights, conversion) in conversions {
            if let Some(conversion) = conversion {
                self.convert(weights, conversion, progress)?;
            }
        }
        if let Some(tokenizer) = tokenizer {
            self.write(TOKENIZER, &tokenizer)?;
        }
        self.write_json(SIZES, &sizes)?;
        let (files, sources) = (std::mem::take(&mut self.files), std::mem::take(&mut self.sources));
        self.write_json(MANIFEST, &Manifest::new(files, sources, skipped))
    }

    /// Whether there is enough to speak with.
    fn check_presence(&self) -> Result<(), ImportError> {
        let has = |weights: Weights| self.from.join(weights.checkpoint()).exists();
        let missing = if !has(Weights::Autoregressive) {
            Weights::Autoregressive.checkpoint().to_owned()
        } else if has(Weights::Hifigan) || (has(Weights::Diffusion) && has(Weights::Univnet)) {
            return Ok(());
        } else if has(Weights::Diffusion) {
            "vocoder.pth and no hifidecoder.pth".to_owned()
        } else if has(Weights::Univnet) {
            "diffusion_decoder.pth and no hifidecoder.pth".to_owned()
        } else {
            "decoder".to_owned()
        };
        Err(ImportError::Missing { folder: self.from.to_owned(), missing })
    }

    fn open_some<S>(
        &self,
        weights: Weights,
        sizes: impl Fn(&sizes::Shapes) -> Result<S, SizesError>,
    ) -> Result<Option<(S, Conversion)>, ImportError> {
        if !self.from.join(weights.checkpoint()).exists() {
            return Ok(None);
        }
        self.open(weights, sizes).map(Some)
    }

    fn open<S>(
        &self,
        weights: Weights,
        sizes: impl Fn(&sizes::Shapes) -> Result<S, SizesError>,
    ) -> Result<(S, Conversion), ImportError> {
        let path = self.from.join(weights.checkpoint());
        let blame = |error| ImportError::Checkpoint { path: path.clone(), error };
        let conversion =
            Conversion::open(&path, weights.part(), weights.within()).map_err(blame)?;
        let sizes = sizes(&conversion.shapes()).map_err(PartError::from).map_err(blame)?;
        Ok((sizes, conversion))
    }

    fn convert(
        &mut self,
        weights: Weights,
        conversion: Conversion,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), ImportError> {
        let (checkpoint, file) = (weights.checkpoint(), weights.file());
        let path = self.from.join(checkpoint);
        let unreadable = |error| refused("read", &path, error);
        let mut source = File::open(&path).map_err(unreadable)?;
        let bytes = source.metadata().map_err(unreadable)?.len();
        progress(Progress::Reading { checkpoint, bytes });
        let sha256 = hash_reader(&mut source).map_err(unreadable)?;
        self.sources.push(Listed { name: checkpoint.to_owned(), size: bytes, sha256 });

        let all = conversion.bytes();
        let (size, sha256) = conversion
            .write(&self.folder.join(file), &mut |done| {
                progress(Progress::Writing { file, done, all });
            })
            .map_err(|error| ImportError::Checkpoint { path: path.clone(), error })?;
        self.files.push(Listed { name: file.to_owned(), size, sha256 });
        progress(Progress::Written { file, bytes: size });
        Ok(())
    }

    /// The tokenizer beside the checkpoints, if there is one.
    fn tokenizer(&self, sizes: &AutoregressiveSizes) -> Result<Option<Vec<u8>>, ImportError> {
        let path = self.from.join(TOKENIZER);
        let reject = |reason: String| ImportError::Tokenizer { path: path.clone(), reason };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused("open", &path, error)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST_TEXT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| refused("read", &path, error))?;
        if bytes.len() as u64 > LARGEST_TEXT {
            return Err(reject("it is larger than any".to_owned()));
        }
        let tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| reject(error.to_string()))?;
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if highest >= sizes.start_text_token {
            return Err(reject(format!(
                "its tokens go up to {highest}, those of autoregressive.pth to {}",
                sizes.start_text_token - 1
            )));
        }
        Ok(Some(bytes))
    }

    fn write_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), ImportError> {
        let mut json = serde_json::to_vec_pretty(value)
            .map_err(|error| refused("write", &self.folder.join(name), error.into()))?;
        json.push(b'\n');
        self.write(name, &json)
    }

    fn write(&mut self, name: &str, content: &[u8]) -> Result<(), ImportError> {
        let path = self.folder.join(name);
        fs::write(&path, content)
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|error| refused("write", &path, error))?;
        let size = content.len() as u64;
        self.files.push(Listed { name: name.to_owned(), size, sha256: Digest::of(content) });
        Ok(())
    }
}

fn unzip<S, T>(both: Option<(S, T)>) -> (Option<S>, Option<T>) {
    both.map_or((None, None), |(first, second)| (Some(first), Some(second)))
}

/// Whether what one network makes is what the next one takes.
fn fit(sizes: &Sizes) -> Result<(), ImportError> {
    let width = sizes.autoregressive.width;
    let hold = |first: Weights, second: Weights, of: &str, made: usize, taken: usize| {
        if made == taken {
            return Ok(());
        }
        let (first, second) = (first.checkpoint(), second.checkpoint());
        Err(ImportError::Unfit { first, second, reason: format!("{of} is {made} and {taken}") })
    };
    let codes = Weights::Autoregressive;
    if let Some(hifigan) = &sizes.hifigan {
        hold(codes, Weights::Hifigan, "the width of latents", width, hifigan.latent_width)?;
        hold(codes, Weights::Hifigan, "the width of a voice", width, hifigan.voice_width)?;
    }
    if let Some(diffusion) = &sizes.diffusion {
        let latent = diffusion.latent_width;
        hold(codes, Weights::Diffusion, "the width of latents", width, latent)?;
        if let Some(univnet) = &sizes.univnet {
            let (made, taken) = (diffusion.mel_bands, univnet.mel_bands);
            let of = "the number of mel bands";
            hold(Weights::Diffusion, Weights::Univnet, of, made, taken)?;
        }
        if let Some(voice) = &sizes.random_voice_diffusion {
            let second = Weights::RandomVoiceDiffusion;
            let of = "the width of a voice";
            hold(Weights::Diffusion, second, of, 2 * diffusion.width, voice.width)?;
        }
    }
    if let Some(voice) = &sizes.random_voice_autoregressive {
        let second = Weights::RandomVoiceAutoregressive;
        hold(codes, second, "the width of a voice", width, voice.width)?;
    }
    Ok(())
}

/// Why this network cannot rank what the other one makes: fine-tuned models have vocabularies that it
/// does not know.
fn unfit_clvp(sizes: &Sizes, clvp: &ClvpSizes) -> Option<String> {
    let (tokens, codes) =
        (sizes.autoregressive.start_text_token, sizes.autoregressive.start_mel_code);
    if clvp.text_tokens < tokens {
        let known = clvp.text_tokens;
        Some(format!("it knows {known} text tokens, autoregressive.pth has {tokens}"))
    } else if clvp.speech_codes < codes {
        Some(format!("it knows {} codes, autoregressive.pth has {codes}", clvp.speech_codes))
    } else {
        None
    }
}

fn refused(action: &'static str, path: &Path, source: io::Error) -> ImportError {
    ImportError::Io { action, path: PathBuf::from(path), source }
}
