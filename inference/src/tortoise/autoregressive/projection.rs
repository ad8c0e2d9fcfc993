//! A linear layer over few rows.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// `[rows, inputs]` to `[rows, outputs]`.
#[derive(Debug)]
pub(super) struct Projection {
    /// `[outputs, inputs]`.
    weight: Tensor,
    bias: Tensor,
}

impl Projection {
    pub(super) fn load(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get((outputs, inputs), "weight")?, bias: vb.get(outputs, "bias")? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // On a processor the product of a few rows takes as long as reading the weights does, as long
        // as they are not put in another order first: they are, unless they stand on the left.
        let product = if x.device().is_cpu() && x.dim(0)? > 1 {
            self.weight.matmul(&x.t()?)?.t()?.contiguous()?
        } else {
            x.matmul(&self.weight.t()?)?
        };
        product.broadcast_add(&self.bias)
    }
}
