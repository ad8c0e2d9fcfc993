//! A matrix with its bias, dense or quantised.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor};

use super::{Precision, ops};

/// Values that a K-quant block spans along the input; `Q8_0` blocks span 32.
const K_BLOCK: usize = 256;
const Q8_BLOCK: usize = 32;

/// `y = x Wᵀ + b`, with `W` of (outputs, inputs).
pub struct Linear {
    weight: Weight,
    bias: Tensor,
}

enum Weight {
    /// Transposed once, (inputs, outputs) by its strides.
    Dense(Tensor),
    Quantised(QTensor),
}

/// Quantises with the finest-grained format that the width admits: `Q6K` for multiples of 256,
/// `Q8_0` for multiples of 32, else not at all.
fn weight(tensor: &Tensor, precision: Precision) -> Result<Weight> {
    let inputs = tensor.dim(1)?;
    let format = match precision {
        Precision::F32 => None,
        Precision::Q6K if inputs.is_multiple_of(K_BLOCK) => Some(GgmlDType::Q6K),
        Precision::Q6K if inputs.is_multiple_of(Q8_BLOCK) => Some(GgmlDType::Q8_0),
        Precision::Q6K => None,
    };
    Ok(match format {
        Some(format) => Weight::Quantised(QTensor::quantize(tensor, format)?),
        None => Weight::Dense(tensor.t()?),
    })
}

impl Linear {
    /// `values` has `outputs × inputs` entries, row by row.
    pub fn new(
        values: Vec<f32>,
        bias: Vec<f32>,
        inputs: usize,
        precision: Precision,
    ) -> Result<Self> {
        let outputs = bias.len();
        let tensor = Tensor::from_vec(values, (outputs, inputs), &Device::Cpu)?;
        let bias = Tensor::from_vec(bias, outputs, &Device::Cpu)?;
        Ok(Self { weight: weight(&tensor, precision)?, bias })
    }

    /// The bias, for operations that add it along with something else.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// `x Wᵀ` without the bias; `x` is (rows, inputs).
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) => x.matmul(weight),
            Weight::Quantised(weight) => x.apply_op1_no_bwd(weight),
        }
    }

    /// `x Wᵀ + b`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.product(x)?;
        ops::add_bias(&y, &self.bias)?;
        Ok(y)
    }
}
