//! Safetensors with Hugging Face's names, presented under the fused names of the model.
//!
//! Format: `u64` header length, a JSON header (name → dtype, shape, offsets), the data.
//! <https://huggingface.co/docs/safetensors>

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::elements::{ElementType, byte_length};
use super::{RawTensor, io, malformed};
use crate::whisper::WhisperError;

/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

struct Stored {
    file: usize,
    element: ElementType,
    shape: Vec<usize>,
    offset: u64,
    bytes: u64,
}

/// One model in one or several safetensors files.
pub struct SafetensorsFiles<F> {
    files: Vec<(F, PathBuf)>,
    tensors: HashMap<String, Stored>,
}

/// The safetensors files of a model folder.
pub fn files_in(dir: &Path) -> Result<Vec<PathBuf>, WhisperError> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return Err(WhisperError::NoWeights(dir.to_owned()));
    }
    #[derive(Deserialize)]
    struct ShardIndex {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(&index).map_err(|source| io(&index, source))?;
    let shards: ShardIndex =
        serde_json::from_str(&text).map_err(|error| malformed(&index, error.to_string()))?;
    let names: BTreeSet<String> = shards.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(malformed(&index, format!("shard {name:?} lies outside the folder")));
    }
    if names.is_empty() {
        return Err(malformed(&index, "it names no shard"));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

impl<F: Read + Seek> SafetensorsFiles<F> {
    /// Reads the headers. The paths are for messages; there must be at least one file.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`] for a header that is damaged or points outside its file.
    pub fn open(files: Vec<(F, PathBuf)>) -> Result<Self, WhisperError> {
        let mut opened = Self { files, tensors: HashMap::new() };
        for file in 0..opened.files.len() {
            opened.read_header(file)?;
        }
        Ok(opened)
    }

    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new("model.safetensors"), |(_, path)| path)
    }

    /// Shape under the fused name.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let mut shape: Option<Vec<usize>> = None;
        for part in parts(name) {
            let next = match part {
                Part::Stored(name) => self.tensors.get(&name)?.shape.clone(),
                Part::ZerosLike(name) => self.tensors.get(&name)?.shape.get(..1)?.to_vec(),
            };
            match &mut shape {
                None => shape = Some(next),
                Some(whole) if whole.get(1..) == next.get(1..) && !whole.is_empty() => {
                    whole[0] = whole[0].checked_add(*next.first()?)?;
                }
                Some(_) => return None,
            }
        }
        shape
    }

    /// Reads a tensor under its fused name, concatenating along the first dimension.
    ///
    /// # Errors
    /// [`WhisperError::Malformed`], [`WhisperError::Io`].
    pub fn read(&mut self, name: &str) -> Result<RawTensor, WhisperError> {
        let Some(shape) = self.shape(name) else {
            let reason = format!("{name} is missing or its parts disagree in shape");
            return Err(malformed(self.path(), reason));
        };
        let mut values = Vec::new();
        for part in parts(name) {
            match part {
                Part::Stored(name) => values.append(&mut self.read_stored(&name)?),
                Part::ZerosLike(name) => {
                    let rows = self.tensors.get(&name).and_then(|tensor| tensor.shape.first());
                    values.resize(values.len() + rows.copied().unwrap_or_default(), 0.0);
                }
            }
        }
        Ok(RawTensor { shape, values })
    }

    fn read_stored(&mut self, name: &str) -> Result<Vec<f32>, WhisperError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(malformed(self.path(), format!("there is no {name}")));
        };
        let (reader, path) = &mut self.files[tensor.file];
        let mut bytes = vec![0; tensor.bytes as usize];
        reader
            .seek(SeekFrom::Start(tensor.offset))
            .and_then(|_| reader.read_exact(&mut bytes))
            .map_err(|source| io(path, source))?;
        Ok(tensor.element.to_f32(&bytes))
    }

    fn read_header(&mut self, file: usize) -> Result<(), WhisperError> {
        let (reader, path) = &mut self.files[file];
        let mut length_bytes = [0; 8];
        let file_length = reader
            .seek(SeekFrom::End(0))
            .and_then(|length| reader.seek(SeekFrom::Start(0)).map(|_| length))
            .map_err(|source| io(path, source))?;
        if file_length < 8 {
            return Err(malformed(path, "it is shorter than a header"));
        }
        reader.read_exact(&mut length_bytes).map_err(|source| io(path, source))?;
        let header_length = u64::from_le_bytes(length_bytes);
        if header_length > MAX_HEADER_BYTES.min(file_length - 8) {
            return Err(malformed(path, format!("its header claims {header_length} bytes")));
        }
        let mut header = vec![0; header_length as usize];
        reader.read_exact(&mut header).map_err(|source| io(path, source))?;
        let entries: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|error| malformed(path, error.to_string()))?;
        let data_start = 8 + header_length;
        let data_length = file_length - data_start;
        for (name, entry) in entries {
            if name == "__metadata__" {
                continue;
            }
            let entry: Entry = serde_json::from_value(entry)
                .map_err(|error| malformed(path, format!("{name}: {error}")))?;
            let element = match entry.dtype.as_str() {
                "F32" => ElementType::F32,
                "F16" => ElementType::F16,
                "BF16" => ElementType::BF16,
                other => return Err(malformed(path, format!("{name} has dtype {other}"))),
            };
            let (start, end) = entry.data_offsets;
            let bytes = end.checked_sub(start).filter(|_| end <= data_length);
            if bytes.is_none() || bytes != byte_length(&entry.shape, element) {
                let shape = entry.shape;
                let reason = format!("{name} of shape {shape:?} lies at {start}..{end}");
                return Err(malformed(path, reason));
            }
            let stored = Stored {
                file,
                element,
                shape: entry.shape,
                offset: data_start + start,
                bytes: end - start,
            };
            // Checkpoints of the bare model lack the prefix that those of the full model have.
            let name = name.strip_prefix("model.").map(str::to_owned).unwrap_or(name);
            self.tensors.insert(name, stored);
        }
        Ok(())
    }
}

enum Part {
    Stored(String),
    /// A bias that the file leaves out: as many zeros as the named matrix has rows.
    ZerosLike(String),
}

/// Hugging Face's tensors that make up one fused tensor, in order.
fn parts(name: &str) -> Vec<Part> {
    let Some((side, rest)) = name.split_once('/') else {
        return vec![Part::Stored(name.to_owned())];
    };
    let stored = |tail: &str| vec![Part::Stored(format!("{side}.{tail}"))];
    match rest {
        "embeddings/weight" => return stored("embed_tokens.weight"),
        "position_encodings/encodings" => return stored("embed_positions.weight"),
        _ => {}
    }
    let (path, leaf) = rest.rsplit_once('/').unwrap_or(("", rest));
    let leaf = match leaf {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    let Some((layer, block)) = path.strip_prefix("layer_").and_then(|path| path.split_once('/'))
    else {
        return stored(&format!("{path}.{leaf}"));
    };
    let names: &[&str] = match block {
        "self_attention/layer_norm" => &["self_attn_layer_norm"],
        "self_attention/linear_0" => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "self_attention/linear_1" => &["self_attn.out_proj"],
        "attention/layer_norm" => &["encoder_attn_layer_norm"],
        "attention/linear_0" => &["encoder_attn.q_proj"],
        "attention/linear_1" => &["encoder_attn.k_proj", "encoder_attn.v_proj"],
        "attention/linear_2" => &["encoder_attn.out_proj"],
        "ffn/layer_norm" => &["final_layer_norm"],
        "ffn/linear_0" => &["fc1"],
        "ffn/linear_1" => &["fc2"],
        other => &[other],
    };
    names
        .iter()
        .map(|part| {
            let prefix = format!("{side}.layers.{layer}.{part}");
            // Whisper's key projections have no bias.
            if leaf == "bias" && part.ends_with("k_proj") {
                Part::ZerosLike(format!("{prefix}.weight"))
            } else {
                Part::Stored(format!("{prefix}.{leaf}"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn file(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, shape, values) in tensors {
            let start = data.len();
            values.iter().for_each(|value| data.extend(value.to_le_bytes()));
            let entry = serde_json::json!({
                "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()],
            });
            header.insert((*name).to_owned(), entry);
        }
        let header = serde_json::Value::Object(header).to_string();
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    fn open(bytes: Vec<u8>) -> Result<SafetensorsFiles<Cursor<Vec<u8>>>, WhisperError> {
        SafetensorsFiles::open(vec![(Cursor::new(bytes), "model.safetensors".into())])
    }

    fn sample() -> Vec<u8> {
        file(&[
            ("model.encoder.layers.10.self_attn.q_proj.weight", &[1, 2], &[1.0, 2.0]),
            ("model.encoder.layers.10.self_attn.k_proj.weight", &[1, 2], &[3.0, 4.0]),
            ("model.encoder.layers.10.self_attn.v_proj.weight", &[1, 2], &[5.0, 6.0]),
            ("model.encoder.layers.10.self_attn.q_proj.bias", &[1], &[7.0]),
            ("model.encoder.layers.10.self_attn.v_proj.bias", &[1], &[8.0]),
            ("model.decoder.layer_norm.weight", &[2], &[9.0, 10.0]),
        ])
    }

    #[test]
    fn query_key_and_value_are_fused_with_a_zero_key_bias() {
        let mut weights = open(sample()).expect("valid");
        let matrix = weights.read("encoder/layer_10/self_attention/linear_0/weight").expect("qkv");
        assert_eq!(matrix.shape, [3, 2]);
        assert_eq!(matrix.values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let bias = weights.read("encoder/layer_10/self_attention/linear_0/bias").expect("bias");
        assert_eq!(bias.values, [7.0, 0.0, 8.0]);
    }

    #[test]
    fn norms_take_gamma_and_beta_for_weight_and_bias() {
        let mut weights = open(sample()).expect("valid");
        assert_eq!(weights.read("decoder/layer_norm/gamma").expect("norm").values, [9.0, 10.0]);
        assert!(weights.read("decoder/layer_norm/beta").is_err());
    }

    proptest! {
        #[test]
        fn a_truncated_file_is_refused(cut in 0usize..10_000) {
            let whole = sample();
            let cut = cut % whole.len();
            prop_assert!(open(whole[..cut].to_vec()).is_err());
        }

        #[test]
        fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..2000, any::<u8>()), 1..6)) {
            let mut bytes = sample();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(mut weights) = open(bytes) {
                drop(weights.read("encoder/layer_10/self_attention/linear_0/weight"));
                drop(weights.read("encoder/layer_10/self_attention/linear_0/bias"));
                drop(weights.read("decoder/layer_norm/gamma"));
            }
        }
    }
}
