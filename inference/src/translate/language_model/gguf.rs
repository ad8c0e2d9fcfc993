//! Reading of a GGUF file: typed metadata with errors that name the key, tensors as they lie in the
//! file, and the checks that candle's reader leaves to whoever calls it.

use std::io::{Cursor, Read, Seek, SeekFrom};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result};

use crate::mapped::MappedFile;

/// Metadata key of the multiple at which tensors begin.
const ALIGNMENT: &str = "general.alignment";
/// Longest key that the format allows.
const LONGEST_KEY: u64 = 65_535;
/// Arrays within arrays; real files have none.
const MAX_DEPTH: usize = 4;

/// A file that lies in memory.
pub(super) struct GgufFile<'a> {
    content: Content,
    bytes: &'a [u8],
    /// What the bytes are a part of, where they are mapped.
    mapped: Option<&'a MappedFile>,
}

/// A matrix as it lies in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredMatrix<'a> {
    pub(super) dtype: GgmlDType,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Row by row, in whole blocks of the format.
    pub(super) bytes: &'a [u8],
}

impl<'a> GgufFile<'a> {
    /// Reads what comes before the tensors of a mapped file, as [`read`](Self::read) does.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn mapped(file: &'a MappedFile) -> Result<Self> {
        Ok(Self { mapped: Some(file), ..Self::read(file)? })
    }

    /// Reads what comes before the tensors.
    ///
    /// # Errors
    /// The file is no GGUF, is cut short, or states sizes that no file can have.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Cursor::new(bytes);
        check_alignment(&mut reader)?;
        reader.set_position(0);
        let content = Content::read(&mut reader)?;
        for (name, tensor) in &content.tensor_infos {
            let elements = tensor.shape.dims().iter().try_fold(1usize, |product, &dimension| {
                // An empty dimension must not hide the product of the others.
                product.checked_mul(dimension.max(1))
            });
            let bytes = elements.and_then(|count| count.checked_mul(tensor.ggml_dtype.type_size()));
            if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
                let shape = &tensor.shape;
                candle_core::bail!("tensor {name} of shape {shape:?} is larger than memory");
            }
        }
        Ok(Self { content, bytes, mapped: None })
    }

    /// What comes before the tensors.
    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether there is a tensor of this name.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// Copies a tensor out.
    pub(super) fn tensor(&self, name: &str) -> Result<QTensor> {
        self.content
            .tensor(&mut Cursor::new(self.bytes), name, &Device::Cpu)
            .map_err(|error| error.context(format!("cannot read tensor {name}")))
    }

    /// A tensor of two dimensions, in place.
    pub(super) fn matrix(&self, name: &str) -> Result<StoredMatrix<'a>> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            candle_core::bail!("cannot read tensor {name}: it is missing");
        };
        let (rows, columns) = info.shape.dims2().map_err(|error| error.context(name.to_owned()))?;
        let dtype = info.ggml_dtype;
        if !columns.is_multiple_of(dtype.block_size()) {
            candle_core::bail!("{name} has {columns} columns, which {dtype:?} cannot hold");
        }
        let length = rows * (columns / dtype.block_size()) * dtype.type_size();
        let start = self.content.tensor_data_offset.checked_add(info.offset);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let bytes = start.and_then(|start| self.bytes.get(start..)?.get(..length));
        let Some(bytes) = bytes else {
            candle_core::bail!("cannot read tensor {name}: the file ends before it does");
        };
        Ok(StoredMatrix { dtype, rows, columns, bytes })
    }

    /// A matrix was read and is not needed in the file's form any more.
    pub(super) fn forget(&self, matrix: &StoredMatrix<'_>) {
        if let Some(mapped) = self.mapped {
            mapped.forget(matrix.bytes);
        }
    }
}

/// Candle rounds offsets up to a multiple of the alignment that the file states, which must not be
/// zero. Everything else that is odd here is left for candle to name.
fn check_alignment<R: Read + Seek>(reader: &mut R) -> Result<()> {
    let mut walk = Walk { reader, wide: true };
    let _magic: [u8; 4] = walk.bytes()?;
    walk.wide = u32::from_le_bytes(walk.bytes()?) > 1;
    let _tensors = walk.length()?;
    let pairs = walk.length()?;
    for _ in 0..pairs {
        let length = walk.length()?;
        if length > LONGEST_KEY {
            candle_core::bail!("a metadata key claims {length} bytes");
        }
        let mut key = vec![0; length as usize];
        walk.reader.read_exact(&mut key)?;
        let kind = u32::from_le_bytes(walk.bytes()?);
        let is_padding = |byte: &u8| *byte == 0;
        let end = key.len() - key.iter().rev().take_while(|byte| is_padding(byte)).count();
        if key[..end] == *ALIGNMENT.as_bytes() && width(kind).is_some() {
            let mut value = [0; 8];
            let bytes = &mut value[..width(kind).unwrap_or(8)];
            walk.reader.read_exact(bytes)?;
            if bytes.iter().all(is_padding) {
                candle_core::bail!("metadata key {ALIGNMENT} is zero");
            }
        } else {
            walk.skip_value(kind, 0)?;
        }
    }
    Ok(())
}

/// Bytes of a value of fixed size, by the format's numbers of types.
fn width(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Walks over metadata without keeping it.
struct Walk<'a, R> {
    reader: &'a mut R,
    /// Whether lengths have 64 bits, as they do from version 2 on.
    wide: bool,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<u64> {
        Ok(if self.wide {
            u64::from_le_bytes(self.bytes()?)
        } else {
            u32::from_le_bytes(self.bytes()?).into()
        })
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        // A buffered reader forgets its buffer when it seeks, and a vocabulary is many short strings.
        let mut scratch = [0; 256];
        if let Some(short) = usize::try_from(bytes).ok().and_then(|len| scratch.get_mut(..len)) {
            self.reader.read_exact(short)?;
            return Ok(());
        }
        let Ok(bytes) = i64::try_from(bytes) else {
            candle_core::bail!("a metadata value claims {bytes} bytes");
        };
        self.reader.seek(SeekFrom::Current(bytes))?;
        Ok(())
    }

    fn skip_value(&mut self, kind: u32, depth: usize) -> Result<()> {
        if let Some(width) = width(kind) {
            return self.skip(width as u64);
        }
        match kind {
            8 => {
                let length = self.length()?;
                self.skip(length)
            }
            9 if depth < MAX_DEPTH => {
                let kind = u32::from_le_bytes(self.bytes()?);
                let count = self.length()?;
                if let Some(width) = width(kind) {
                    return self.skip(count.saturating_mul(width as u64));
                }
                (0..count).try_for_each(|_| self.skip_value(kind, depth + 1))
            }
            9 => candle_core::bail!("metadata holds arrays {depth} deep"),
            _ => candle_core::bail!("metadata holds a value of the unknown type {kind}"),
        }
    }
}

/// The key-value part of a GGUF file.
pub(super) struct Metadata<'a>(pub(super) &'a Content);

impl Metadata<'_> {
    fn value(&self, key: &str) -> Result<&Value> {
        match self.0.metadata.get(key) {
            Some(value) => Ok(value),
            None => candle_core::bail!("metadata key {key} is missing"),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<&str> {
        Ok(self.value(key)?.to_string().map_err(|error| error.context(key.to_owned()))?.as_str())
    }

    pub(super) fn float(&self, key: &str) -> Result<f32> {
        self.value(key)?.to_f32().map_err(|error| error.context(key.to_owned()))
    }

    /// A count below 2²⁰: anything larger in a header is damage, not a model.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        const LARGEST: u32 = 1 << 20;
        let count = self.value(key)?.to_u32().map_err(|error| error.context(key.to_owned()))?;
        if count > LARGEST {
            candle_core::bail!("metadata key {key} holds {count}, more than any model has");
        }
        Ok(count as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str) -> Vec<u8> {
        [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
    }

    /// A file of version 3 with one pair of a `u32`, and one f32 tensor.
    fn file(key: &str, value: u32, shape: &[u64]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend([1u64.to_le_bytes(), 1u64.to_le_bytes()].concat());
        bytes.extend(text(key));
        bytes.extend([4u32.to_le_bytes(), value.to_le_bytes()].concat());
        bytes.extend(text("tensor"));
        bytes.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|dimension| bytes.extend(dimension.to_le_bytes()));
        bytes.extend([0; 4]);
        bytes.extend(0u64.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        match GgufFile::read(bytes) {
            Ok(_) => panic!("it was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_alignment_of_zero_is_refused_and_another_is_taken() {
        assert!(refusal(&file(ALIGNMENT, 0, &[2])).contains("general.alignment is zero"));
        // Candle drops zeros at the end of a key.
        assert!(refusal(&file("general.alignment\0", 0, &[2])).contains("is zero"));
        assert!(GgufFile::read(&file(ALIGNMENT, 32, &[2])).is_ok());
        assert!(GgufFile::read(&file("other", 0, &[2])).is_ok());
    }

    #[test]
    fn a_shape_whose_product_overflows_is_refused() {
        for shape in [&[1 << 40, 1 << 40][..], &[1 << 62, 1 << 2], &[0, 1 << 40, 1 << 40]] {
            assert!(refusal(&file("other", 0, shape)).contains("larger than memory"), "{shape:?}");
        }
    }

    #[test]
    fn a_matrix_is_handed_out_in_place_and_one_that_the_file_cuts_off_is_refused() {
        let mut bytes = file("other", 0, &[3, 2]);
        let start = bytes.len() - 64;
        bytes[start..].iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
        let read = GgufFile::read(&bytes).expect("a file");
        let matrix = read.matrix("tensor").expect("a matrix");
        assert_eq!((matrix.rows, matrix.columns, matrix.dtype), (2, 3, GgmlDType::F32));
        assert!(matrix.bytes.iter().copied().eq(0..24));
        let missing = read.matrix("else").expect_err("there is no such tensor");
        assert!(missing.to_string().contains("missing"));
        let cut = GgufFile::read(&bytes[..start + 23]).expect("the head is whole");
        let cut = cut.matrix("tensor").expect_err("a byte is missing");
        assert!(cut.to_string().contains("the file ends"));
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(
            damage in prop::collection::vec((0usize..300, any::<u8>()), 0..6),
            cut in 0usize..300,
        ) {
            let mut bytes = file(ALIGNMENT, 32, &[2, 2]);
            for (at, value) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(cut.max(1));
            if let Ok(file) = GgufFile::read(&bytes) {
                let _ = (file.matrix("tensor"), file.tensor("tensor"));
            }
        }
    }
}
