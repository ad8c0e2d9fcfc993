//! Reference values of tiny networks with random weights, and how close to them is close enough.
//! The weights are not stored: they are drawn by the rule that `fixtures/tortoise/README.md` tells.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use inference::tortoise::import::convert::{Part, convert};
use safetensors::SafeTensors;
use serde::Deserialize;

/// Largest difference, as a share of the largest value.
const TOLERANCE: f32 = 1e-4;

/// What the reference implementation gave for one network.
pub struct Fixture {
    config: serde_json::Value,
    weights: HashMap<String, Tensor>,
    values: HashMap<String, Tensor>,
}

/// What a file says of itself.
#[derive(Deserialize)]
struct About {
    /// What all weights are drawn from.
    seed: u64,
    /// Sizes by the names that the reference gives them.
    config: serde_json::Value,
    /// Name, shape, centre and spread of every drawn weight.
    tensors: Vec<(String, Vec<usize>, f32, f32)>,
    /// Single entries that are not as drawn.
    overrides: HashMap<String, Vec<(usize, f32)>>,
}

impl Fixture {
    /// Those of `name`, such as `clvp`.
    pub fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tortoise");
        let path = folder.join(format!("tortoise_{name}.safetensors"));
        let file =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let about = about(&file);
        let mut weights = HashMap::new();
        for (name, shape, centre, spread) in &about.tensors {
            let mut numbers = drawn(about.seed, name, shape.iter().product(), *centre, *spread);
            for &(index, value) in about.overrides.get(name).into_iter().flatten() {
                numbers[index] = value;
            }
            let tensor = Tensor::from_vec(numbers, shape.as_slice(), &Device::Cpu);
            weights.insert(name.clone(), tensor.expect("a tensor"));
        }
        let mut values = HashMap::new();
        let stored = candle_core::safetensors::load_buffer(&file, &Device::Cpu).expect("tensors");
        for (key, tensor) in stored {
            match key.split_once('.') {
                Some(("w", name)) => weights.insert(name.to_owned(), tensor),
                Some(("io", name)) => values.insert(name.to_owned(), tensor),
                _ => panic!("{key} is neither a weight nor a value"),
            };
        }
        Self { config: about.config, weights, values }
    }

    /// The network's tensors, converted as an import does it.
    pub fn weights(&self, part: Part) -> VarBuilder<'static> {
        let converted = convert(part, self.weights.clone()).expect("the weights convert");
        VarBuilder::from_tensors(converted, DType::F32, &Device::Cpu)
    }

    /// The network's tensors as a checkpoint has them.
    pub fn checkpoint(&self) -> &HashMap<String, Tensor> {
        &self.weights
    }

    /// The network's sizes, by the names that the reference gives them.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// An input or a result.
    pub fn value(&self, name: &str) -> &Tensor {
        self.values.get(name).unwrap_or_else(|| panic!("there is no value {name}"))
    }

    /// Whether there is a value of that name.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Name and numbers of every weight of which the reference noted the first.
    pub fn noted(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.values
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("drawn_check_")?, tensor)))
    }
}

/// What stands in the header of a file.
fn about(file: &[u8]) -> About {
    let (_, header) = SafeTensors::read_metadata(file).expect("a header");
    let entries = header.metadata().as_ref().expect("metadata");
    serde_json::from_str(&entries["fixture"]).expect("the description of a fixture")
}

/// `count` numbers within `spread` of `centre`, which belong to a seed and a name: SplitMix64, whose
/// state starts as the FNV-1a hash of both.
fn drawn(seed: u64, name: &str, count: usize, centre: f32, spread: f32) -> Vec<f32> {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    let mut state = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Its upper 24 bits as an odd multiple of 2^-24 between -1 and 1.
        let odd = ((mixed ^ (mixed >> 31)) >> 40) as i32 * 2 + 1 - (1 << 24);
        odd as f32 / (1 << 24) as f32 * spread + centre
    };
    (0..count).map(|_| next()).collect()
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
    let apart =
        apart.fold(0.0f32, |most, apart| if apart > most || apart.is_nan() { apart } else { most });
    assert!(
        apart <= TOLERANCE * largest,
        "{what} is off by {apart}, its largest value is {largest}"
    );
}
