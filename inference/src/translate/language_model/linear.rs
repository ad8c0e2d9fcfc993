//! Quantised matrix products over plain slices, on candle's kernels.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{CpuStorage, Device, Module, Result, Storage, Tensor};

use super::math;

/// `y = x Wᵀ + b` with a quantised `W` of shape `[outputs, inputs]`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: QMatMul,
    /// The same weight where it is quantised: lets candle share one quantisation of the input
    /// between several products.
    quantised: Option<Arc<QTensor>>,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    pub(super) fn new(weight: Arc<QTensor>, bias: Option<Vec<f32>>) -> Result<Self> {
        let (outputs, inputs) = weight.shape().dims2()?;
        if bias.as_ref().is_some_and(|bias| bias.len() != outputs) {
            candle_core::bail!("a bias does not fit its weight of {outputs} outputs");
        }
        let matmul = QMatMul::from_arc(weight)?;
        let quantised = match &matmul {
            QMatMul::QTensor(tensor) => Some(tensor.clone()),
            QMatMul::Tensor(_) | QMatMul::TensorF16(_) => None,
        };
        Ok(Self { weight: matmul, quantised, bias, inputs, outputs })
    }

    /// Outputs per row.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Applies the layer to `rows` of `inputs` values each.
    pub(super) fn forward(&self, rows: Vec<f32>) -> Result<Vec<f32>> {
        let [output] = Self::forward_all([self], rows)?;
        Ok(output)
    }

    /// Applies several layers to the same rows.
    pub(super) fn forward_all<const N: usize>(
        layers: [&Self; N],
        rows: Vec<f32>,
    ) -> Result<[Vec<f32>; N]> {
        let inputs = layers[0].inputs;
        let rows = Tensor::from_vec(rows, ((), inputs), &Device::Cpu)?;
        let fused = if N > 1 { Self::fused(&layers, &rows)? } else { None };
        let outputs = match fused {
            Some(outputs) => outputs,
            None => layers
                .iter()
                .map(|layer| layer.weight.forward(&rows))
                .collect::<Result<Vec<_>>>()?,
        };
        let mut results = [const { Vec::new() }; N];
        for ((result, output), layer) in results.iter_mut().zip(&outputs).zip(layers) {
            *result = with_values(output, <[f32]>::to_vec)?;
            if let Some(bias) = &layer.bias {
                math::add_bias(result, bias);
            }
        }
        Ok(results)
    }

    /// Applies the layer to one row and hands the result to `read` without a copy.
    pub(super) fn forward_with<T>(&self, row: &[f32], read: impl FnOnce(&[f32]) -> T) -> Result<T> {
        let row = Tensor::from_slice(row, (1, self.inputs), &Device::Cpu)?;
        with_values(&self.weight.forward(&row)?, read)
    }

    fn fused(layers: &[&Self], rows: &Tensor) -> Result<Option<Vec<Tensor>>> {
        let tensors: Option<Vec<&QTensor>> =
            layers.iter().map(|layer| layer.quantised.as_deref()).collect();
        match tensors {
            Some(tensors) => QTensor::gemv_fused_shared_lhs(&tensors, rows),
            None => Ok(None),
        }
    }
}

/// Lends the values of a contiguous `f32` tensor on the CPU.
fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(read(&values[start..end]))
        }
        _ => candle_core::bail!("expected contiguous 32-bit floats on the CPU"),
    }
}
