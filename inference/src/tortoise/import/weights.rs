//! The files of weights: which checkpoint each is made from, and how it is written.
//!
//! A file is in the safetensors format: the length of a header (64 bits, lowest byte first), the
//! header as JSON with the kind, shape and place of each tensor, and the numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use serde::Serialize;

use super::checkpoint::{Checkpoint, dtype};
use super::convert::{Origin, Part, plan};
use super::error::PartError;
use super::sizes::Shapes;
use crate::store::{Digest, Hasher};

/// One file of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// Text and a voice to codes.
    Autoregressive,
    /// Latents of the codes to sound.
    Hifigan,
    /// Latents of the codes and a voice to a mel spectrogram.
    Diffusion,
    /// A mel spectrogram to sound.
    Univnet,
    /// How well codes fit a text.
    Clvp,
    /// Random voices for codes.
    RandomVoiceAutoregressive,
    /// Random voices for the mel spectrogram.
    RandomVoiceDiffusion,
}

impl Weights {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Autoregressive,
        Self::Hifigan,
        Self::Diffusion,
        Self::Univnet,
        Self::Clvp,
        Self::RandomVoiceAutoregressive,
        Self::RandomVoiceDiffusion,
    ];

    /// The checkpoint that is published.
    pub fn checkpoint(self) -> &'static str {
        match self {
            Self::Autoregressive => "autoregressive.pth",
            Self::Hifigan => "hifidecoder.pth",
            Self::Diffusion => "diffusion_decoder.pth",
            Self::Univnet => "vocoder.pth",
            Self::Clvp => "clvp2.pth",
            Self::RandomVoiceAutoregressive => "rlg_auto.pth",
            Self::RandomVoiceDiffusion => "rlg_diffuser.pth",
        }
    }

    /// The file that is made of it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Autoregressive => "autoregressive.safetensors",
            Self::Hifigan => "hifigan.safetensors",
            Self::Diffusion => "diffusion.safetensors",
            Self::Univnet => "univnet.safetensors",
            Self::Clvp => "clvp.safetensors",
            Self::RandomVoiceAutoregressive => "random-voice-autoregressive.safetensors",
            Self::RandomVoiceDiffusion => "random-voice-diffusion.safetensors",
        }
    }

    /// The SHA-256 of the checkpoint that is published, where it is known: those of
    /// huggingface.co/jbetker/tortoise-tts-v2 as packagers of the reference implementation pinned
    /// them in 2022. None was found of `hifidecoder.pth`.
    pub fn published(self) -> Option<Digest> {
        let digest = match self {
            Self::Autoregressive => {
                "9c6651b9996df6cef6a1fc459738ae207ab60f902ec49b4d0623ca8ab6110d51"
            }
            Self::Diffusion => "ea776fc354eabb70cfae145777153483fad72e3e0c5ea345505ded2231a90ce1",
            Self::Univnet => "16e8153e9f8ffb00b116f7f67833df2802fcf81e6bc173acc3b3b4bf9f04189d",
            Self::Clvp => "6097e708cf692eb93bd770880660953935e87e8995eb864819bbe51b7d91342c",
            Self::RandomVoiceAutoregressive => {
                "4473c125482e2a3322a5ea762025a0c6ec657955c3002cf099c0635d79967551"
            }
            Self::RandomVoiceDiffusion => {
                "6e84b1ce60631c56dc8dec3d27c131993dd99d3060e7919cc351857457dbfdac"
            }
            Self::Hifigan => return None,
        };
        Some(digest.parse().expect("a test holds that it is a digest"))
    }

    /// The network.
    pub fn part(self) -> Part {
        match self {
            Self::Autoregressive => Part::Autoregressive,
            Self::Hifigan => Part::Hifigan,
            Self::Diffusion => Part::Diffusion,
            Self::Univnet => Part::Univnet,
            Self::Clvp => Part::Clvp,
            Self::RandomVoiceAutoregressive | Self::RandomVoiceDiffusion => Part::RandomVoice,
        }
    }

    /// The dictionary within the checkpoint, where it has several.
    pub(super) fn within(self) -> Option<&'static str> {
        (self == Self::Univnet).then_some("model_g")
    }
}

/// A checkpoint and what to make of it.
pub(super) struct Conversion {
    checkpoint: Checkpoint,
    /// By name.
    tensors: BTreeMap<String, Planned>,
}

struct Planned {
    origin: Origin,
    shape: Vec<usize>,
    dtype: DType,
}

impl Conversion {
    /// Opens the checkpoint at `path`.
    ///
    /// # Errors
    /// It cannot be read, or has halves of weights only.
    pub(super) fn open(path: &Path, part: Part, within: Option<&str>) -> Result<Self, PartError> {
        let checkpoint = Checkpoint::open(path, within)?;
        let shapes = checkpoint.shapes();
        let names = shapes.keys().map(String::as_str).collect();
        let plan = plan(part, &names).map_err(PartError::Half)?;
        let mut tensors = BTreeMap::new();
        for (name, origin) in plan {
            let source = match &origin {
                Origin::Same | Origin::Transposed => &name,
                Origin::Folded { direction, .. } => direction,
            };
            let mut shape = shapes.get(source).cloned().unwrap_or_default();
            let mut dtype = checkpoint.kind(source).map_or(DType::F32, dtype);
            match origin {
                Origin::Same => {}
                Origin::Transposed => shape.reverse(),
                Origin::Folded { .. } => dtype = DType::F32,
            }
            if !dtype.is_float() {
                return Err(PartError::NotNumbers(name));
            }
            let planned = Planned { origin, shape, dtype };
            if tensors.insert(name.clone(), planned).is_some() {
                return Err(PartError::Half(name));
            }
        }
        Ok(Self { checkpoint, tensors })
    }

    /// The shape of each tensor as it will be.
    pub(super) fn shapes(&self) -> Shapes {
        self.tensors.iter().map(|(name, planned)| (name.clone(), planned.shape.clone())).collect()
    }

    /// Bytes of all tensors together.
    pub(super) fn bytes(&self) -> u64 {
        self.tensors.values().map(Planned::bytes).sum()
    }

    /// Writes the file at `path`, tensor by tensor, and tells `progress` after each how many bytes of
    /// numbers are written. Gives the length and the digest of the file.
    ///
    /// # Errors
    /// A tensor cannot be read or has a number that is none, or the file cannot be written.
    pub(super) fn write(
        mut self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(u64, Digest), PartError> {
        let unwritable = |error: io::Error| PartError::Write(path.to_owned(), error);
        let mut order: Vec<_> = self.tensors.iter().collect();
        // Wider numbers first, so that all of them lie at multiples of their width.
        order.sort_by_key(|(_, planned)| std::cmp::Reverse(planned.dtype.size_in_bytes()));
        let file = File::create(path).map_err(unwritable)?;
        let mut output =
            Output { file: BufWriter::with_capacity(1 << 20, file), hasher: Hasher::default() };
        output.write_all(&header(&order)).map_err(unwritable)?;
        let mut done = 0;
        for (name, planned) in order {
            let mut failure = None;
            let made = planned.origin.make(name, |name| {
                self.checkpoint.tensor(name).map_err(|error| {
                    let message = candle_core::Error::Msg(error.to_string());
                    failure = Some(error);
                    message
                })
            });
            let tensor = match (made, failure) {
                (_, Some(error)) => return Err(error.into()),
                (Err(_), None) => return Err(PartError::Shape(name.clone())),
                (Ok(tensor), None) => tensor,
            };
            if tensor.dims() != planned.shape || tensor.dtype() != planned.dtype {
                return Err(PartError::Shape(name.clone()));
            }
            let bytes = numbers(&tensor).ok_or_else(|| PartError::NotNumbers(name.clone()))?;
            output.write_all(&bytes).map_err(unwritable)?;
            done += bytes.len() as u64;
            progress(done);
        }
        let Output { file, hasher } = output;
        let file = file.into_inner().map_err(|error| unwritable(error.into_error()))?;
        file.sync_all().map_err(unwritable)?;
        Ok((hasher.bytes(), hasher.finish()))
    }
}

impl Planned {
    fn bytes(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product::<u64>()
            * self.dtype.size_in_bytes() as u64
    }
}

/// A tensor of a header.
#[derive(Serialize)]
struct Place<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [u64; 2],
}

/// The length of the header and the header itself, filled up with blanks to a multiple of 8 bytes.
fn header(tensors: &[(&String, &Planned)]) -> Vec<u8> {
    let mut start = 0;
    let places: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, planned)| {
            let end = start + planned.bytes();
            let dtype = match planned.dtype {
                DType::F16 => "F16",
                DType::BF16 => "BF16",
                _ => "F32",
            };
            let place = Place { dtype, shape: &planned.shape, data_offsets: [start, end] };
            start = end;
            (name, place)
        })
        .collect();
    let mut json = serde_json::to_vec(&places).expect("names and numbers are JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    header
}

/// The numbers of a tensor, lowest bytes first; nothing when one of them is not finite.
fn numbers(tensor: &Tensor) -> Option<Vec<u8>> {
    fn bytes<T: Copy, const N: usize>(
        numbers: Option<Vec<T>>,
        is_finite: impl Fn(T) -> bool,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Option<Vec<u8>> {
        let numbers = numbers?;
        let are_finite = numbers.iter().all(|number| is_finite(*number));
        are_finite.then(|| numbers.into_iter().flat_map(bytes).collect())
    }
    let flat = tensor.flatten_all().ok()?;
    match tensor.dtype() {
        DType::F32 => bytes(flat.to_vec1().ok(), f32::is_finite, f32::to_le_bytes),
        DType::F16 => bytes(flat.to_vec1().ok(), f16::is_finite, f16::to_le_bytes),
        DType::BF16 => bytes(flat.to_vec1().ok(), bf16::is_finite, bf16::to_le_bytes),
        _ => None,
    }
}

/// A file that is hashed as it is written.
struct Output {
    file: BufWriter<File>,
    hasher: Hasher,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checkpoints_but_one_are_known_by_their_digest() {
        let known = Weights::ALL.iter().filter_map(|weights| weights.published());
        let known: std::collections::HashSet<_> = known.collect();
        assert_eq!(known.len(), Weights::ALL.len() - 1);
        assert_eq!(Weights::Hifigan.published(), None);
    }

    #[test]
    fn files_have_names_of_their_own() {
        let files: std::collections::HashSet<_> = Weights::ALL
            .iter()
            .flat_map(|weights| [weights.file(), weights.checkpoint()])
            .collect();
        assert_eq!(files.len(), 2 * Weights::ALL.len());
    }
}
