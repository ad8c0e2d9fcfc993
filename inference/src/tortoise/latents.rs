//! A voice as the networks know it, in a file: what they heard in recordings, so that nobody needs the
//! recordings again.
//!
//! Safetensors with a tensor for each network that has voices (`autoregressive`, `diffusion`), and in
//! the metadata the format's version, the voice's name and the digest of the model that heard it: to
//! another model the numbers mean nothing.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::NamedTempFile;

use crate::voice::UNLISTED;

const FORMAT: &str = "dragoman-tortoise-voice";
const VERSION: &str = "1";
const AUTOREGRESSIVE: &str = "autoregressive";
const DIFFUSION: &str = "diffusion";
/// Largest file that is read; the published model's voices have 12 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most numbers of a latent.
const MAX_NUMBERS: usize = 1 << 16;
const MAX_NAME_CHARS: usize = 64;
/// Hexadecimal digits of a SHA-256.
const DIGEST_CHARS: usize = 64;

/// Why a voice cannot be kept or had again.
#[derive(Debug, thiserror::Error)]
pub enum LatentsError {
    /// The file cannot be read or written: check the path, its permissions and the disk.
    #[error("cannot read or write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are none of a voice, or not all of them: learn the voice again.
    #[error("this is no voice of Tortoise, or a damaged one: {0}")]
    Malformed(String),
    /// A later version of the program wrote it: update the program, or learn the voice again.
    #[error("this voice is of version {0} of the format, of which {VERSION} is known")]
    Version(String),
    /// A name is no name of a voice: choose another.
    #[error(
        "{0:?} is no name of a voice: use 1 to {MAX_NAME_CHARS} lower-case letters, digits, - and _"
    )]
    Name(String),
    /// Another model heard it: learn the voice again.
    #[error("the voice {0:?} was learned with another model: learn it again")]
    OtherModel(String),
}

/// A voice.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceLatents {
    /// What it is called: 1 to 64 of a-z, 0-9, `-` and `_`, after [`UNLISTED`] if it is listed nowhere.
    pub name: String,
    /// SHA-256 of the model that heard it, in lower-case hexadecimal digits.
    pub model: String,
    /// What the autoregressive model heard, as many numbers as it is wide.
    pub autoregressive: Vec<f32>,
    /// What the diffusion model heard, twice as many numbers as it is wide, if there is one.
    pub diffusion: Option<Vec<f32>>,
}

impl VoiceLatents {
    /// The bytes of the file.
    ///
    /// # Errors
    /// [`LatentsError::Name`]; [`LatentsError::Malformed`] if the digest is none or a latent is empty,
    /// too long, or not of finite numbers.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LatentsError> {
        self.check()?;
        let little_endian = |numbers: &[f32]| -> Vec<u8> {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
        };
        let latents = std::iter::once((AUTOREGRESSIVE, &self.autoregressive))
            .chain(self.diffusion.as_ref().map(|diffusion| (DIFFUSION, diffusion)));
        let bytes: Vec<(&str, Vec<u8>)> =
            latents.map(|(name, numbers)| (name, little_endian(numbers))).collect();
        let views = bytes.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / size_of::<f32>()], bytes);
            view.map(|view| (*name, view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| malformed(&error))?;
        let metadata = [
            ("format", FORMAT),
            ("version", VERSION),
            ("name", &self.name),
            ("model", &self.model),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        safetensors::serialize(views, Some(HashMap::from(metadata)))
            .map_err(|error| malformed(&error))
    }

    /// The voice in such bytes.
    ///
    /// # Errors
    /// [`LatentsError::Malformed`], [`LatentsError::Version`], [`LatentsError::Name`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LatentsError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| malformed(&error))?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let about = |key: &str| {
            let value = metadata.get(key).cloned();
            value.ok_or_else(|| LatentsError::Malformed(format!("it does not say its {key}")))
        };
        if about("format")? != FORMAT {
            return Err(LatentsError::Malformed("it is of another format".to_owned()));
        }
        let version = about("version")?;
        if version != VERSION {
            return Err(LatentsError::Version(version));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| malformed(&error))?;
        let voice = Self {
            name: about("name")?,
            model: about("model")?,
            autoregressive: numbers(&tensors, AUTOREGRESSIVE)?
                .ok_or_else(|| LatentsError::Malformed(format!("it has no {AUTOREGRESSIVE}")))?,
            diffusion: numbers(&tensors, DIFFUSION)?,
        };
        voice.check()?;
        Ok(voice)
    }

    /// Writes the file, in place of one that is there.
    ///
    /// # Errors
    /// [`LatentsError::Io`] and those of [`to_bytes`](Self::to_bytes).
    pub fn save(&self, path: &Path) -> Result<(), LatentsError> {
        let bytes = self.to_bytes()?;
        let io = |source| LatentsError::Io { path: path.to_owned(), source };
        // Whoever reads it meanwhile finds the one or the other.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.persist(path).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`LatentsError::Io`] and those of [`from_bytes`](Self::from_bytes).
    pub fn load(path: &Path) -> Result<Self, LatentsError> {
        let io = |source| LatentsError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_FILE_BYTES {
            return Err(LatentsError::Malformed("it is larger than any voice".to_owned()));
        }
        Self::from_bytes(&std::fs::read(path).map_err(io)?)
    }

    /// Whether the model of that digest and those sizes can speak with this voice; `diffusion` is that
    /// of its diffusion model, if it has one.
    ///
    /// # Errors
    /// [`LatentsError::OtherModel`].
    pub fn fits(
        &self,
        model: &str,
        autoregressive: usize,
        diffusion: Option<usize>,
    ) -> Result<(), LatentsError> {
        let has_size = |size| self.diffusion.as_ref().is_some_and(|latent| latent.len() == size);
        let fits = self.model == model
            && self.autoregressive.len() == autoregressive
            && diffusion.is_none_or(has_size);
        if fits { Ok(()) } else { Err(LatentsError::OtherModel(self.name.clone())) }
    }

    fn check(&self) -> Result<(), LatentsError> {
        if !is_voice_name(&self.name) {
            return Err(LatentsError::Name(self.name.clone()));
        }
        let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if self.model.len() != DIGEST_CHARS || !self.model.bytes().all(is_digit) {
            return Err(LatentsError::Malformed("the model's digest is none".to_owned()));
        }
        for latent in std::iter::once(&self.autoregressive).chain(&self.diffusion) {
            if !(1..=MAX_NUMBERS).contains(&latent.len()) {
                let reason = format!("a latent has {} numbers", latent.len());
                return Err(LatentsError::Malformed(reason));
            }
            if !latent.iter().all(|number| number.is_finite()) {
                return Err(LatentsError::Malformed("a latent is not of numbers".to_owned()));
            }
        }
        Ok(())
    }
}

/// Whether a voice can be called so.
pub fn is_voice_name(name: &str) -> bool {
    let name = name.strip_prefix(UNLISTED).unwrap_or(name);
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// A tensor of one dimension.
fn numbers(tensors: &SafeTensors<'_>, name: &str) -> Result<Option<Vec<f32>>, LatentsError> {
    let Ok(tensor) = tensors.tensor(name) else { return Ok(None) };
    if tensor.dtype() != Dtype::F32 || tensor.shape().len() != 1 {
        let (kind, shape) = (tensor.dtype(), tensor.shape());
        return Err(LatentsError::Malformed(format!("{name} is {kind:?} of shape {shape:?}")));
    }
    let (numbers, _) = tensor.data().as_chunks();
    Ok(Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
}

fn malformed(error: &safetensors::SafeTensorError) -> LatentsError {
    LatentsError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voice() -> VoiceLatents {
        VoiceLatents {
            name: "ana_2".to_owned(),
            model: "0123456789abcdef".repeat(4),
            autoregressive: vec![0.5, -1.25, f32::MIN_POSITIVE, 3.0e30],
            diffusion: Some(vec![-0.0; 8]),
        }
    }

    #[test]
    fn a_voice_comes_back_from_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ana.safetensors");
        voice().save(&path).expect("saved");
        assert_eq!(VoiceLatents::load(&path).expect("loaded"), voice());
        let alone = VoiceLatents { diffusion: None, name: "~b".to_owned(), ..voice() };
        alone.save(&path).expect("saved over the other");
        assert_eq!(VoiceLatents::load(&path).expect("loaded"), alone);
        let left = std::fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 1, "nothing is left beside it");
    }

    #[test]
    fn a_voice_fits_the_model_that_heard_it() {
        let voice = voice();
        let model = voice.model.clone();
        assert!(voice.fits(&model, 4, Some(8)).is_ok());
        assert!(voice.fits(&model, 4, None).is_ok());
        let other = "f".repeat(64);
        for (model, autoregressive, diffusion) in
            [(other.as_str(), 4, Some(8)), (&model, 5, None), (&model, 4, Some(7))]
        {
            let refused = voice.fits(model, autoregressive, diffusion);
            assert!(matches!(refused, Err(LatentsError::OtherModel(name)) if name == "ana_2"));
        }
        let alone = VoiceLatents { diffusion: None, ..voice };
        assert!(alone.fits(&model, 4, None).is_ok() && alone.fits(&model, 4, Some(8)).is_err());
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "ana_2", "the-voice", "~unlisted", &"x".repeat(64)] {
            assert!(is_voice_name(name), "{name}");
        }
        for name in ["", "~", "Ana", "a b", "a/b", "../a", "ñ", "a.b", "~~a", &"x".repeat(65)] {
            assert!(!is_voice_name(name), "{name}");
            let voice = VoiceLatents { name: name.to_owned(), ..voice() };
            assert!(matches!(voice.to_bytes(), Err(LatentsError::Name(_))), "{name}");
        }
    }

    #[test]
    fn what_is_no_voice_is_not_written() {
        for voice in [
            VoiceLatents { model: String::new(), ..voice() },
            VoiceLatents { model: "F".repeat(64), ..voice() },
            VoiceLatents { autoregressive: Vec::new(), ..voice() },
            VoiceLatents { autoregressive: vec![0.0; MAX_NUMBERS + 1], ..voice() },
            VoiceLatents { diffusion: Some(vec![f32::NAN]), ..voice() },
        ] {
            assert!(matches!(voice.to_bytes(), Err(LatentsError::Malformed(_))));
        }
    }

    fn foreign(metadata: Option<HashMap<String, String>>, shape: Vec<usize>) -> Vec<u8> {
        let bytes = vec![0; shape.iter().product::<usize>() * 4];
        let view = TensorView::new(Dtype::F32, shape, &bytes).expect("a tensor");
        safetensors::serialize([(AUTOREGRESSIVE, view)], metadata).expect("bytes")
    }

    #[test]
    fn foreign_files_are_told_from_voices_and_later_versions() {
        let metadata = |changes: &[(&str, &str)]| {
            let bytes = voice().to_bytes().expect("bytes");
            let (_, read) = SafeTensors::read_metadata(&bytes).expect("metadata");
            let mut metadata = read.metadata().clone().expect("metadata");
            metadata
                .extend(changes.iter().map(|(key, value)| (key.to_string(), value.to_string())));
            Some(metadata)
        };
        let read = |bytes: &[u8]| VoiceLatents::from_bytes(bytes);
        assert!(read(&foreign(metadata(&[]), vec![4])).is_ok());
        for bytes in [
            foreign(None, vec![4]),
            foreign(metadata(&[("format", "pt")]), vec![4]),
            foreign(metadata(&[("model", "none")]), vec![4]),
            foreign(metadata(&[]), vec![2, 2]),
            foreign(metadata(&[]), vec![0]),
        ] {
            assert!(matches!(read(&bytes), Err(LatentsError::Malformed(_))));
        }
        let later = read(&foreign(metadata(&[("version", "2")]), vec![4]));
        assert!(matches!(later, Err(LatentsError::Version(version)) if version == "2"));
        let named = read(&foreign(metadata(&[("name", "../../etc")]), vec![4]));
        assert!(matches!(named, Err(LatentsError::Name(_))));
        assert!(matches!(
            VoiceLatents::load(Path::new("/nowhere/ana")),
            Err(LatentsError::Io { .. })
        ));
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_ends() {
        let bytes = voice().to_bytes().expect("bytes");
        for end in 0..bytes.len() {
            let refused = VoiceLatents::from_bytes(&bytes[..end]);
            assert!(matches!(refused, Err(LatentsError::Malformed(_))), "{end}: {refused:?}");
        }
        let huge = NamedTempFile::new().expect("a file");
        huge.as_file().set_len(MAX_FILE_BYTES + 1).expect("room");
        assert!(matches!(VoiceLatents::load(huge.path()), Err(LatentsError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_voice_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let _ = VoiceLatents::from_bytes(&bytes);
            let mut damaged = voice().to_bytes().expect("bytes");
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
            if let Ok(voice) = VoiceLatents::from_bytes(&damaged) {
                prop_assert!(voice.check().is_ok());
            }
        }
    }
}
