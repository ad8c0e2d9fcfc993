//! CTranslate2's `model.bin`: a flat list of named variables, little endian.
//!
//! ```text
//! u32 version | string spec | u32 revision | u32 count
//! count × ( string name | u8 rank | u32 × rank | u8 type | u32 bytes | data )
//! u32 aliases | aliases × ( string alias | string target )
//! string = u16 length, closing NUL included, then the bytes
//! ```
//! `int8` matrices have a companion `NAME_scale` with one factor per row: weight = value / factor.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::elements::{ElementType, byte_length};
use super::{RawTensor, io, malformed};
use crate::whisper::WhisperError;

const VERSION: u32 = 6;
const SPEC: &str = "WhisperSpec";
/// More variables than any Whisper has (large-v3 has about 1,100 with scales).
const MAX_VARIABLES: u32 = 100_000;
/// Whisper's tensors have three dimensions at most.
const MAX_RANK: u8 = 4;

#[derive(Clone, Debug)]
struct Variable {
    shape: Vec<usize>,
    element: ElementType,
    offset: u64,
    bytes: u64,
}

/// The index of a `model.bin` and its open file.
pub struct Ct2File<F> {
    reader: F,
    path: PathBuf,
    variables: HashMap<String, Variable>,
}

impl<F: Read + Seek> Ct2File<F> {
    /// Reads the index. `path` is for messages only.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`] for anything but a whole Whisper model.
    pub fn open(reader: F, path: &Path) -> Result<Self, WhisperError> {
        let mut index = Index::new(reader, path)?;
        let version = index.u32()?;
        if version != VERSION {
            return Err(malformed(path, format!("version is {version}, expected {VERSION}")));
        }
        let spec = index.string()?;
        if spec != SPEC {
            return Err(malformed(path, format!("holds a {spec:?}, expected {SPEC}")));
        }
        let _revision = index.u32()?;
        let count = index.u32()?;
        if count > MAX_VARIABLES {
            return Err(malformed(path, format!("claims {count} variables")));
        }
        let mut variables = HashMap::new();
        for _ in 0..count {
            let (name, variable) = index.variable()?;
            variables.insert(name, variable);
        }
        let aliases = index.u32()?;
        if aliases > MAX_VARIABLES {
            return Err(malformed(path, format!("claims {aliases} aliases")));
        }
        for _ in 0..aliases {
            let alias = index.string()?;
            let target = index.string()?;
            let Some(variable) = variables.get(&target).cloned() else {
                return Err(malformed(path, format!("{alias:?} points to missing {target:?}")));
            };
            variables.insert(alias, variable);
        }
        if index.position != index.length {
            let rest = index.length - index.position;
            return Err(malformed(path, format!("{rest} bytes follow the last variable")));
        }
        Ok(Self { reader: index.reader, path: path.to_owned(), variables })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all variables, aliases among them.
    pub fn names(&self) -> Vec<String> {
        self.variables.keys().cloned().collect()
    }

    /// Shape of a variable, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.variables.get(name).map(|variable| variable.shape.clone())
    }

    /// Reads a variable as `f32`, undoing `int8` quantisation.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`], [`WhisperError::Io`].
    pub fn read(&mut self, name: &str) -> Result<RawTensor, WhisperError> {
        let (mut tensor, element) = self.read_plain(name)?;
        let is_quantised = matches!(element, ElementType::I8 | ElementType::I16);
        if !is_quantised || tensor.shape.is_empty() {
            return Ok(tensor);
        }
        let scale_name = format!("{name}_scale");
        let (scales, _) = self.read_plain(&scale_name)?;
        let rows = tensor.shape[0];
        // int8 files have a factor per row, int16 files one for the whole matrix.
        if scales.values.len() != rows && scales.values.len() != 1 {
            let found = scales.values.len();
            let reason = format!("{scale_name} has {found} factors for {rows} rows");
            return Err(malformed(&self.path, reason));
        }
        if scales.values.iter().any(|scale| !scale.is_finite() || *scale == 0.0) {
            return Err(malformed(&self.path, format!("{scale_name} has a factor of no use")));
        }
        let row_length = tensor.values.len() / rows.max(1);
        if row_length > 0 {
            for (row, values) in tensor.values.chunks_exact_mut(row_length).enumerate() {
                let scale = scales.values[row.min(scales.values.len() - 1)];
                values.iter_mut().for_each(|value| *value /= scale);
            }
        }
        Ok(tensor)
    }

    fn read_plain(&mut self, name: &str) -> Result<(RawTensor, ElementType), WhisperError> {
        let Some(variable) = self.variables.get(name) else {
            return Err(malformed(&self.path, format!("there is no {name}")));
        };
        let mut bytes = vec![0; variable.bytes as usize];
        self.reader
            .seek(SeekFrom::Start(variable.offset))
            .and_then(|_| self.reader.read_exact(&mut bytes))
            .map_err(|source| io(&self.path, source))?;
        let values = variable.element.to_f32(&bytes);
        Ok((RawTensor { shape: variable.shape.clone(), values }, variable.element))
    }
}

/// Walks the file once; every length is held against the bytes that are left.
struct Index<'a, F> {
    reader: F,
    path: &'a Path,
    position: u64,
    length: u64,
}

impl<'a, F: Read + Seek> Index<'a, F> {
    fn new(mut reader: F, path: &'a Path) -> Result<Self, WhisperError> {
        let length = reader
            .seek(SeekFrom::End(0))
            .and_then(|length| reader.seek(SeekFrom::Start(0)).map(|_| length))
            .map_err(|source| io(path, source))?;
        Ok(Self { reader, path, position: 0, length })
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, WhisperError> {
        self.require(count as u64)?;
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).map_err(|source| io(self.path, source))?;
        self.position += count as u64;
        Ok(bytes)
    }

    fn require(&self, count: u64) -> Result<(), WhisperError> {
        let left = self.length - self.position;
        if count > left {
            let position = self.position;
            let reason = format!("{count} bytes expected at offset {position}, {left} are left");
            return Err(malformed(self.path, reason));
        }
        Ok(())
    }

    fn u8(&mut self) -> Result<u8, WhisperError> {
        Ok(self.bytes(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, WhisperError> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> Result<String, WhisperError> {
        let length = self.bytes(2)?;
        let length = u16::from_le_bytes([length[0], length[1]]);
        let mut bytes = self.bytes(usize::from(length))?;
        if bytes.pop() != Some(0) {
            return Err(malformed(self.path, "a string does not end in NUL"));
        }
        String::from_utf8(bytes).map_err(|_| malformed(self.path, "a string is not UTF-8"))
    }

    fn variable(&mut self) -> Result<(String, Variable), WhisperError> {
        let name = self.string()?;
        let rank = self.u8()?;
        if rank > MAX_RANK {
            return Err(malformed(self.path, format!("{name:?} claims {rank} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.u32()? as usize);
        }
        let element = match self.u8()? {
            0 => ElementType::F32,
            1 => ElementType::I8,
            2 => ElementType::I16,
            3 => ElementType::I32,
            4 => ElementType::F16,
            5 => ElementType::BF16,
            other => {
                return Err(malformed(self.path, format!("{name:?} has unknown type {other}")));
            }
        };
        let bytes = u64::from(self.u32()?);
        if byte_length(&shape, element) != Some(bytes) {
            let reason = format!("{name:?} has {bytes} bytes for shape {shape:?}");
            return Err(malformed(self.path, reason));
        }
        self.require(bytes)?;
        let offset = self.position;
        self.position += bytes;
        self.reader.seek(SeekFrom::Start(self.position)).map_err(|source| io(self.path, source))?;
        Ok((name, Variable { shape, element, offset, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// Builds a file from `(name, shape, type code, data)`.
    fn file(variables: &[(&str, &[u32], u8, &[u8])], aliases: &[(&str, &str)]) -> Vec<u8> {
        fn string(out: &mut Vec<u8>, text: &str) {
            out.extend((text.len() as u16 + 1).to_le_bytes());
            out.extend(text.as_bytes());
            out.push(0);
        }
        let mut out = VERSION.to_le_bytes().to_vec();
        string(&mut out, SPEC);
        out.extend(3u32.to_le_bytes());
        out.extend((variables.len() as u32).to_le_bytes());
        for (name, shape, code, data) in variables {
            string(&mut out, name);
            out.push(shape.len() as u8);
            shape.iter().for_each(|dimension| out.extend(dimension.to_le_bytes()));
            out.push(*code);
            out.extend((data.len() as u32).to_le_bytes());
            out.extend(*data);
        }
        out.extend((aliases.len() as u32).to_le_bytes());
        for (alias, target) in aliases {
            string(&mut out, alias);
            string(&mut out, target);
        }
        out
    }

    fn open(bytes: Vec<u8>) -> Result<Ct2File<Cursor<Vec<u8>>>, WhisperError> {
        Ct2File::open(Cursor::new(bytes), Path::new("model.bin"))
    }

    fn sample() -> Vec<u8> {
        let half = [0x00, 0x3c, 0x00, 0xc0]; // 1 and -2
        let scales = [4f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
        file(
            &[
                ("half", &[2], 4, &half),
                ("heads", &[], 2, &8i16.to_le_bytes()),
                ("quantised", &[2, 2], 1, &[8, 0xfc, 1, 2]),
                ("quantised_scale", &[2], 0, &scales),
            ],
            &[("tied", "half")],
        )
    }

    #[test]
    fn every_element_type_becomes_f32_and_aliases_resolve() {
        let mut weights = open(sample()).expect("valid");
        assert_eq!(weights.read("half").expect("half").values, [1.0, -2.0]);
        assert_eq!(weights.read("tied").expect("alias").values, [1.0, -2.0]);
        assert_eq!(weights.read("heads").expect("scalar").values, [8.0]);
    }

    #[test]
    fn int8_rows_are_divided_by_their_factor() {
        let mut weights = open(sample()).expect("valid");
        let tensor = weights.read("quantised").expect("quantised");
        assert_eq!(tensor.values, [2.0, -1.0, 0.5, 1.0]);
        assert_eq!(tensor.shape, [2, 2]);
    }

    #[test]
    fn an_int8_matrix_without_factors_is_refused() {
        let mut weights = open(file(&[("w", &[1, 2], 1, &[1, 2])], &[])).expect("valid index");
        let error = weights.read("w").expect_err("no scale");
        assert!(error.to_string().contains("w_scale"), "{error}");
    }

    #[test]
    fn a_size_that_disagrees_with_the_shape_is_refused() {
        let error = open(file(&[("w", &[3], 0, &[0; 8])], &[])).err().expect("wrong size");
        assert!(error.to_string().contains("8 bytes for shape [3]"), "{error}");
    }

    proptest! {
        #[test]
        fn a_truncated_file_is_an_error_and_no_panic(cut in 0usize..1000) {
            let whole = sample();
            let cut = cut % whole.len();
            let error = open(whole[..cut].to_vec()).err();
            let is_malformed = matches!(error, Some(WhisperError::Malformed { .. }));
            prop_assert!(is_malformed);
        }

        #[test]
        fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..1000, any::<u8>()), 1..6)) {
            let mut bytes = sample();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(mut weights) = open(bytes) {
                for name in ["half", "tied", "heads", "quantised"] {
                    drop(weights.read(name));
                }
            }
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(open(bytes).is_err());
        }
    }
}
