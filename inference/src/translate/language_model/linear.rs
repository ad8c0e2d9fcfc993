//! Quantised matrix products over plain slices: on our own tiles where the processor has a kernel
//! for them and the format is one of theirs, on candle's kernels otherwise.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul};
use candle_core::{Device, Module, Result, Tensor};

use crate::arena::Arena;

use super::gguf::GgufFile;
use super::math;
use super::tiles::{self, ROWS, Tiles};
use super::workers::Workers;

/// `y = x Wᵀ + b` with a quantised `W` of shape `[outputs, inputs]`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Weight,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

#[derive(Debug)]
enum Weight {
    Tiled(Arc<Tiles>),
    Candle(QMatMul),
}

impl Linear {
    /// Reads the weight of a name; with memory for tiles it is rearranged where its format allows.
    pub(super) fn read(
        file: &GgufFile<'_>,
        name: &str,
        bias: Option<Vec<f32>>,
        arena: Option<&mut Arena>,
    ) -> Result<Self> {
        let stored = file.matrix(name)?;
        let (inputs, outputs) = (stored.columns, stored.rows);
        if bias.as_ref().is_some_and(|bias| bias.len() != outputs) {
            candle_core::bail!("a bias does not fit its weight of {outputs} outputs");
        }
        let tiles = match (arena, stored.dtype) {
            _ if !outputs.is_multiple_of(ROWS) => None,
            (Some(arena), GgmlDType::Q4K) => tiles::pack_q4(arena, stored.bytes, inputs)?,
            (Some(arena), GgmlDType::Q6K) => tiles::pack_q6(arena, stored.bytes, inputs)?,
            _ => None,
        };
        if tiles.is_some() {
            file.forget(&stored);
        }
        let weight = match tiles {
            Some(tiles) => Weight::Tiled(Arc::new(tiles)),
            None => Weight::Candle(QMatMul::from_qtensor(file.tensor(name)?)?),
        };
        Ok(Self { weight, bias, inputs, outputs })
    }

    /// Its weight, if it is rearranged.
    pub(super) fn tiles(&self) -> Option<&Tiles> {
        match &self.weight {
            Weight::Tiled(tiles) => Some(tiles),
            Weight::Candle(_) => None,
        }
    }

    /// Outputs per row.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Applies the layer to `rows` of as many values as it has inputs.
    pub(super) fn forward(&self, workers: Option<&Workers>, rows: &[f32]) -> Result<Vec<f32>> {
        let [output] = Self::forward_all([self], workers, rows)?;
        Ok(output)
    }

    /// Applies several layers to the same rows.
    pub(super) fn forward_all<const N: usize>(
        layers: [&Self; N],
        workers: Option<&Workers>,
        rows: &[f32],
    ) -> Result<[Vec<f32>; N]> {
        let inputs = layers[0].inputs;
        let tiled: Vec<_> = layers
            .iter()
            .filter_map(|layer| match &layer.weight {
                Weight::Tiled(tiles) => Some((Arc::clone(tiles), layer.outputs)),
                Weight::Candle(_) => None,
            })
            .collect();
        let products = match workers {
            Some(workers) if !tiled.is_empty() => workers.multiply(tiled, rows, inputs)?,
            _ => Vec::new(),
        };
        let mut products = products.into_iter();
        let mut results = [const { Vec::new() }; N];
        for (result, layer) in results.iter_mut().zip(layers) {
            *result = match &layer.weight {
                Weight::Candle(matmul) => {
                    let shape = (rows.len() / inputs, inputs);
                    let rows = Tensor::from_slice(rows, shape, &Device::Cpu)?;
                    matmul.forward(&rows)?.flatten_all()?.to_vec1()?
                }
                Weight::Tiled(_) => match products.next() {
                    Some(product) => product,
                    None => candle_core::bail!("a tiled weight needs a pool to be multiplied on"),
                },
            };
            if let Some(bias) = &layer.bias {
                math::add_bias(result, bias);
            }
        }
        Ok(results)
    }
}
