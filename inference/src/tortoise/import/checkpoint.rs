//! A checkpoint as `torch.save` writes it since PyTorch 1.6: a zip archive with a pickle of the
//! dictionary (`NAME/data.pkl`) and the numbers of each storage as a member of its own
//! (`NAME/data/KEY`), stored as they are. The pickle is read whole, the numbers tensor by tensor.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use zip::read::ZipReadOptions;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Entry, Kind, LONGEST_PICKLE, Pickle, PickleError, TensorRef};

/// Members of the largest archive.
const MOST_MEMBERS: usize = 1 << 15;
/// Bytes of the largest tensor that is read: the published ones have up to 34 MB.
const LARGEST_TENSOR: u64 = 1 << 30;
/// How a zip archive begins, and one without members.
const ZIP_MAGIC: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file is not there or cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no zip archive. A file that was saved before PyTorch 1.6 has to be saved once more.
    #[error(
        "it is not in PyTorch's zip format; if it was saved before PyTorch 1.6, load it there with \
         weights_only=True and save it again with torch.save"
    )]
    NotZip,
    /// It is a zip archive and no checkpoint, or a damaged one. Fetch it again.
    #[error("{0}; fetch it again, or save the state dictionary once more")]
    Damaged(String),
    /// The pickle within holds more than a dictionary of tensors, or is damaged. Load it where it
    /// was made and save the state dictionary alone.
    #[error("its pickle was not accepted: {0}; save the state dictionary alone")]
    Pickle(#[from] PickleError),
}

/// A checkpoint whose pickle was read. Its tensors are read one at a time.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// The folder within the archive.
    prefix: String,
    tensors: BTreeMap<String, TensorRef>,
    /// Storages whose checksum was found right.
    sound: HashSet<String>,
}

impl Checkpoint {
    /// Opens the file at `path`. Its tensors are those of the dictionary `within`, or else of
    /// `state_dict` or `model`, where the file has such a dictionary; and those of the outermost one
    /// otherwise.
    ///
    /// # Errors
    /// As [`CheckpointError`] says.
    pub fn open(path: &Path, within: Option<&str>) -> Result<Self, CheckpointError> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        match file.read_exact(&mut magic) {
            Ok(()) if ZIP_MAGIC.contains(&&magic[..]) => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return Err(CheckpointError::NotZip),
        }
        file.rewind()?;
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(&error))?;
        if archive.len() > MOST_MEMBERS {
            return Err(damaged("it has more members than any checkpoint"));
        }
        let prefix = prefix(&archive)?;
        let order = read_member(&mut archive, &format!("{prefix}/byteorder"), 16)?;
        if order.is_some_and(|order| order != b"little") {
            return Err(damaged("its numbers are stored with the highest byte first"));
        }
        let name = format!("{prefix}/data.pkl");
        let pickle = read_member(&mut archive, &name, LONGEST_PICKLE as u64)?;
        let pickle = pickle.ok_or_else(|| damaged("it has no data.pkl"))?;
        let tensors = select(&Pickle::read(&pickle)?, within)?;
        Ok(Self { path: path.to_owned(), archive, prefix, tensors, sound: HashSet::new() })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shape of each tensor, by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    }

    /// What the numbers of a tensor are stored as, if there is one of this name.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.tensors.get(name).map(|tensor| tensor.storage.kind)
    }

    /// Reads one tensor: floating point in its own precision, 64 bits as 32, and whole numbers as
    /// 64-bit ones.
    ///
    /// # Errors
    /// There is none of this name, or its numbers are missing, cut short or damaged.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor, CheckpointError> {
        let Some(tensor) = self.tensors.get(name).cloned() else {
            return Err(damaged(format!("it has no tensor {name}")));
        };
        let blame = |error: CheckpointError| match error {
            CheckpointError::Damaged(reason) => damaged(format!("{name}: {reason}")),
            error => error,
        };
        let bytes = self.bytes(&tensor).map_err(blame)?;
        to_tensor(&bytes, tensor.storage.kind, &tensor.shape)
            .map_err(|error| damaged(format!("{name}: {error}")))
    }

    /// The numbers of a tensor, one after the other.
    fn bytes(&mut self, tensor: &TensorRef) -> Result<Vec<u8>, CheckpointError> {
        let width = tensor.storage.kind.bytes();
        // Both hold: that every number lies within its storage was checked with the pickle.
        let count = tensor.shape.iter().map(|size| *size as u64).product::<u64>();
        if count.saturating_mul(width as u64) > LARGEST_TENSOR {
            return Err(damaged("it is larger than any weight"));
        }
        self.check_storage(tensor)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let reach = tensor.shape.iter().zip(&tensor.strides);
        let reach = reach.map(|(size, stride)| (*size as u64 - 1) * stride).sum::<u64>() + 1;
        if reach.saturating_mul(width as u64) > LARGEST_TENSOR {
            return Err(damaged("its numbers lie too far apart"));
        }
        let name = format!("{}/data/{}", self.prefix, tensor.storage.key);
        let mut member = self.archive.by_name_seek(&name).map_err(|error| broken(&error))?;
        member.seek(SeekFrom::Start(tensor.offset * width as u64))?;
        let mut run = vec![0; reach as usize * width];
        member.read_exact(&mut run)?;
        if is_contiguous(&tensor.shape, &tensor.strides) {
            return Ok(run);
        }
        Ok(gather(&run, width, &tensor.shape, &tensor.strides))
    }

    /// Holds a storage to its size and its checksum, once.
    fn check_storage(&mut self, tensor: &TensorRef) -> Result<(), CheckpointError> {
        let storage = &tensor.storage;
        if self.sound.contains(&storage.key) {
            return Ok(());
        }
        let name = format!("{}/data/{}", self.prefix, storage.key);
        let index = self.archive.index_for_name(&name);
        let index = index.ok_or_else(|| damaged(format!("it has no member {name}")))?;
        let expected = storage.length.checked_mul(storage.kind.bytes() as u64);
        let (size, has_checksum) = {
            let entry = self.archive.by_index_data(index).map_err(|error| broken(&error))?;
            let is_stored = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
            if !is_stored || entry.compressed_size() != entry.size() {
                return Err(damaged(format!("the member {name} is compressed")));
            }
            // PyTorch can be told to leave checksums out, and then writes 0.
            (entry.size(), entry.crc32() != 0)
        };
        if Some(size) != expected {
            return Err(damaged(format!("the member {name} has {size} bytes, other than it says")));
        }
        let options = ZipReadOptions::new().ignore_crc32(!has_checksum);
        let member = self.archive.by_index_with_options(index, options);
        let mut member = member.map_err(|error| broken(&error))?;
        let found = io::copy(&mut member, &mut io::sink())
            .map_err(|error| damaged(format!("the member {name} is damaged: {error}")))?;
        if found != size {
            return Err(damaged(format!("the member {name} is cut short")));
        }
        self.sound.insert(storage.key.clone());
        Ok(())
    }
}

/// The folder that everything in the archive lies in.
fn prefix(archive: &ZipArchive<BufReader<File>>) -> Result<String, CheckpointError> {
    let mut found = None;
    for name in archive.file_names() {
        let name = name.map_err(|error| broken(&error))?;
        let Some(prefix) = name.strip_suffix("/data.pkl") else { continue };
        if prefix.is_empty() || prefix.contains('/') || found.replace(prefix.to_owned()).is_some() {
            return Err(damaged("it is a zip archive of another kind"));
        }
    }
    found.ok_or_else(|| damaged("it is a zip archive without a data.pkl"))
}

/// A whole member of at most `limit` bytes, if there is one of this name.
fn read_member(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, CheckpointError> {
    let Some(index) = archive.index_for_name(name) else { return Ok(None) };
    let entry = archive.by_index_data(index).map_err(|error| broken(&error))?;
    if entry.size() > limit {
        return Err(damaged(format!("the member {name} is larger than in any checkpoint")));
    }
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(damaged(format!("the member {name} is compressed")));
    }
    let options = ZipReadOptions::new().ignore_crc32(entry.crc32() == 0);
    let member = archive.by_index_with_options(index, options).map_err(|error| broken(&error))?;
    let mut content = Vec::new();
    // What the archive says of the size need not be so.
    member
        .take(limit)
        .read_to_end(&mut content)
        .map_err(|error| damaged(format!("the member {name} is damaged: {error}")))?;
    Ok(Some(content))
}

/// The tensors of the dictionary that is meant.
fn select(
    pickle: &Pickle<'_>,
    within: Option<&str>,
) -> Result<BTreeMap<String, TensorRef>, CheckpointError> {
    let dictionary = |name: &str| {
        let entries = pickle.entries(pickle.root());
        entries.iter().rev().find(|(found, _)| *found == name).and_then(|(_, entry)| match entry {
            Entry::Dictionary(place) => Some(*place),
            _ => None,
        })
    };
    let place = within
        .and_then(dictionary)
        .or_else(|| dictionary("state_dict"))
        .or_else(|| dictionary("model"))
        .unwrap_or_else(|| pickle.root());
    let mut tensors = BTreeMap::new();
    for (name, entry) in pickle.entries(place) {
        let Entry::Tensor(tensor) = entry else { continue };
        if let Some(tensor) = pickle.tensor(*tensor) {
            tensors.insert((*name).to_owned(), tensor.clone());
        }
    }
    if tensors.is_empty() {
        return Err(damaged("there are no tensors in it"));
    }
    Ok(tensors)
}

/// Whether the numbers lie one after the other. Dimensions of size 1 may have any stride.
fn is_contiguous(shape: &[usize], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= *size as u64;
        fits
    })
}

/// The numbers of a tensor in order, from the `run` of storage that it reaches over.
fn gather(run: &[u8], width: usize, shape: &[usize], strides: &[u64]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut bytes = Vec::with_capacity(count * width);
    let mut index = vec![0; shape.len()];
    let mut place = 0;
    for _ in 0..count {
        bytes.extend_from_slice(&run[place * width..(place + 1) * width]);
        for ((index, size), stride) in index.iter_mut().zip(shape).zip(strides).rev() {
            *index += 1;
            place += *stride as usize;
            if *index < *size {
                break;
            }
            place -= *size * *stride as usize;
            *index = 0;
        }
    }
    bytes
}

fn to_tensor(bytes: &[u8], kind: Kind, shape: &[usize]) -> candle_core::Result<Tensor> {
    fn numbers<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
    }
    let device = &Device::Cpu;
    match kind {
        Kind::F64 => {
            Tensor::from_vec(numbers(bytes, |b| f64::from_le_bytes(b) as f32), shape, device)
        }
        Kind::F32 => Tensor::from_vec(numbers(bytes, f32::from_le_bytes), shape, device),
        Kind::F16 => Tensor::from_vec(numbers(bytes, f16::from_le_bytes), shape, device),
        Kind::Bf16 => Tensor::from_vec(numbers(bytes, bf16::from_le_bytes), shape, device),
        Kind::I64 => Tensor::from_vec(numbers(bytes, i64::from_le_bytes), shape, device),
        Kind::I32 => {
            Tensor::from_vec(numbers(bytes, |b| i64::from(i32::from_le_bytes(b))), shape, device)
        }
        Kind::I16 => {
            Tensor::from_vec(numbers(bytes, |b| i64::from(i16::from_le_bytes(b))), shape, device)
        }
        Kind::I8 => {
            Tensor::from_vec(numbers(bytes, |b| i64::from(i8::from_le_bytes(b))), shape, device)
        }
        Kind::U8 | Kind::Bool => {
            Tensor::from_vec(numbers(bytes, |[b]: [u8; 1]| i64::from(b)), shape, device)
        }
    }
}

/// What a tensor of this kind becomes when it is read.
pub(super) fn dtype(kind: Kind) -> DType {
    match kind {
        Kind::F64 | Kind::F32 => DType::F32,
        Kind::F16 => DType::F16,
        Kind::Bf16 => DType::BF16,
        _ => DType::I64,
    }
}

fn damaged(reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged(reason.into())
}

fn broken(error: &zip::result::ZipError) -> CheckpointError {
    damaged(format!("it is not a sound zip archive ({error})"))
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
