//! Reads the named tensors out of an ONNX file.
//!
//! The network itself is written in Rust, so of the format only the stored weights matter: the
//! graph's initializers (`onnx.proto3`: `ModelProto.graph.initializer`). The messages below declare
//! those few fields; protobuf skips the rest.

use std::collections::HashMap;

use prost::Message;
use thiserror::Error;

/// `TensorProto.DataType.FLOAT`.
const DATA_TYPE_FLOAT: i32 = 1;
/// `TensorProto.DataLocation.EXTERNAL`: the values are in another file.
const LOCATION_EXTERNAL: i32 = 1;

/// Why a tensor cannot be read.
#[derive(Debug, Error)]
pub enum OnnxError {
    /// The bytes are not a protobuf message: the file is truncated or something else.
    #[error("not an onnx model, or a truncated one: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The file holds no graph: an empty file decodes to this.
    #[error("the onnx file holds no graph")]
    NoGraph,
    /// A tensor that the network needs is not there: another model or another version.
    #[error("the onnx file has no tensor {0}")]
    MissingTensor(String),
    /// A tensor has another shape than the network needs.
    #[error("tensor {name} has shape {found:?} instead of {expected:?}")]
    WrongShape {
        /// Name of the tensor.
        name: String,
        /// Shape in the file.
        found: Vec<i64>,
        /// Shape that the network needs.
        expected: Vec<i64>,
    },
    /// A tensor is not stored as 32-bit floats inside the file.
    #[error("tensor {0} is not stored as 32-bit floats in this file")]
    WrongStorage(String),
    /// A tensor's data is shorter or longer than its shape says.
    #[error("tensor {name} has {found} values where its shape needs {expected}")]
    WrongLength {
        /// Name of the tensor.
        name: String,
        /// Values in the file.
        found: usize,
        /// Values that the shape needs.
        expected: usize,
    },
    /// A weight is infinite or not a number.
    #[error("tensor {0} holds a value that is not a finite number")]
    NotFinite(String),
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// The tensors of an ONNX file, by name.
pub struct Tensors(HashMap<String, TensorProto>);

impl Tensors {
    /// Reads all initializers of the graph.
    ///
    /// # Errors
    /// [`OnnxError::Malformed`] or [`OnnxError::NoGraph`] when `bytes` is not an ONNX model.
    pub fn parse(bytes: &[u8]) -> Result<Self, OnnxError> {
        let model = ModelProto::decode(bytes)?;
        let graph = model.graph.ok_or(OnnxError::NoGraph)?;
        Ok(Self(
            graph.initializer.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect(),
        ))
    }

    /// The values of `name` in row-major order.
    ///
    /// # Errors
    /// Every other variant of [`OnnxError`], when the tensor is not `shape` finite floats.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, OnnxError> {
        let tensor = self.0.get(name).ok_or_else(|| OnnxError::MissingTensor(name.to_owned()))?;
        let fits = tensor.dims.len() == shape.len()
            && tensor.dims.iter().zip(shape).all(|(&found, &wanted)| found == wanted as i64);
        if !fits {
            return Err(OnnxError::WrongShape {
                name: name.to_owned(),
                found: tensor.dims.clone(),
                expected: shape.iter().map(|&size| size as i64).collect(),
            });
        }
        if tensor.data_type != DATA_TYPE_FLOAT || tensor.data_location == LOCATION_EXTERNAL {
            return Err(OnnxError::WrongStorage(name.to_owned()));
        }
        let values: Vec<f32> = if tensor.raw_data.is_empty() {
            tensor.float_data.clone()
        } else {
            let (whole, rest) = tensor.raw_data.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(OnnxError::WrongStorage(name.to_owned()));
            }
            whole.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let expected = shape.iter().product();
        if values.len() != expected {
            let found = values.len();
            return Err(OnnxError::WrongLength { name: name.to_owned(), found, expected });
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(OnnxError::NotFinite(name.to_owned()));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(tensor: TensorProto) -> Vec<u8> {
        ModelProto { graph: Some(GraphProto { initializer: vec![tensor] }) }.encode_to_vec()
    }

    fn raw(values: &[f32], dims: &[i64]) -> TensorProto {
        TensorProto {
            dims: dims.to_vec(),
            data_type: DATA_TYPE_FLOAT,
            name: "w".into(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn raw_and_listed_floats_read_alike() {
        let values = [1.0, -2.5, 3.0, 0.0, 5.0, 6.0];
        let listed = TensorProto {
            raw_data: Vec::new(),
            float_data: values.to_vec(),
            ..raw(&values, &[2, 3])
        };
        for tensor in [raw(&values, &[2, 3]), listed] {
            let tensors = Tensors::parse(&model(tensor)).unwrap();
            assert_eq!(tensors.floats("w", &[2, 3]).unwrap(), values);
        }
    }

    #[test]
    fn each_defect_has_its_own_error() {
        let read = |tensor: TensorProto, shape: &[usize]| {
            Tensors::parse(&model(tensor)).and_then(|tensors| tensors.floats("w", shape))
        };
        let good = raw(&[1.0, 2.0], &[2]);
        assert!(matches!(Tensors::parse(&[]).err(), Some(OnnxError::NoGraph)));
        assert!(matches!(read(good.clone(), &[3]), Err(OnnxError::WrongShape { .. })));
        let half = TensorProto { data_type: 10, ..good.clone() };
        assert!(matches!(read(half, &[2]), Err(OnnxError::WrongStorage(_))));
        let external = TensorProto { data_location: LOCATION_EXTERNAL, ..good.clone() };
        assert!(matches!(read(external, &[2]), Err(OnnxError::WrongStorage(_))));
        let short = TensorProto { raw_data: vec![0; 4], ..good.clone() };
        assert!(matches!(read(short, &[2]), Err(OnnxError::WrongLength { found: 1, .. })));
        assert!(matches!(read(raw(&[1.0, f32::NAN], &[2]), &[2]), Err(OnnxError::NotFinite(_))));
        let other = TensorProto { name: "v".into(), ..good };
        assert!(matches!(read(other, &[2]), Err(OnnxError::MissingTensor(_))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            if let Ok(tensors) = Tensors::parse(&bytes) {
                prop_assert!(tensors.floats("w", &[2]).is_err());
            }
        }

        #[test]
        fn a_truncated_file_is_an_error(cut in 0.0f64..1.0) {
            let bytes = model(raw(&[0.5; 300], &[300]));
            let length = (cut * bytes.len() as f64) as usize;
            let read =
                Tensors::parse(&bytes[..length]).and_then(|tensors| tensors.floats("w", &[300]));
            prop_assert!(read.is_err());
        }

        #[test]
        fn a_damaged_byte_never_panics(at in 0usize..1_200, value in any::<u8>()) {
            let mut bytes = model(raw(&[0.5; 300], &[300]));
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(values) =
                Tensors::parse(&bytes).and_then(|tensors| tensors.floats("w", &[300]))
            {
                prop_assert_eq!(values.len(), 300);
            }
        }
    }
}
