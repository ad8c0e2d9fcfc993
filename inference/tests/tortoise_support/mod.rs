//! Reference values of tiny networks with random weights, and how close to them is close enough.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use inference::tortoise::import::convert::{Part, convert};

/// Largest difference, as a share of the largest value.
const TOLERANCE: f32 = 1e-4;

/// What the reference implementation gave for one network.
pub struct Fixture {
    weights: HashMap<String, Tensor>,
    values: HashMap<String, Tensor>,
}

impl Fixture {
    /// Those of `name`, such as `clvp`.
    pub fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tortoise");
        let path = folder.join(format!("tortoise_{name}.safetensors"));
        let all = candle_core::safetensors::load(&path, &Device::Cpu)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut weights, mut values) = (HashMap::new(), HashMap::new());
        for (key, tensor) in all {
            match key.split_once('.') {
                Some(("w", name)) => weights.insert(name.to_owned(), tensor),
                Some(("io", name)) => values.insert(name.to_owned(), tensor),
                _ => panic!("{key} is neither a weight nor a value"),
            };
        }
        Self { weights, values }
    }

    /// The network's tensors, converted as an import does it.
    pub fn weights(&self, part: Part) -> VarBuilder<'static> {
        let converted = convert(part, self.weights.clone()).expect("the weights convert");
        VarBuilder::from_tensors(converted, DType::F32, &Device::Cpu)
    }

    /// An input or a result.
    pub fn value(&self, name: &str) -> &Tensor {
        self.values.get(name).unwrap_or_else(|| panic!("there is no value {name}"))
    }
}

/// Holds `actual` to the reference.
#[track_caller]
pub fn assert_close(what: &str, actual: &Tensor, expected: &Tensor) {
    assert_eq!(actual.dims(), expected.dims(), "{what} has another shape");
    let numbers = |tensor: &Tensor| {
        let flat = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all());
        flat.and_then(|flat| flat.to_vec1::<f32>()).expect("numbers")
    };
    let (actual, expected) = (numbers(actual), numbers(expected));
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let apart = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0f32, |most, apart| if apart > most || apart.is_nan() { apart } else { most });
    assert!(apart <= TOLERANCE * largest, "{what} is off by {apart}, its largest value is {largest}");
}
