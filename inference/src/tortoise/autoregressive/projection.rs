//! A linear layer over few rows.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// Rows that the bias is written out for on an accelerator: what is broadcast there has its shape
/// uploaded each time.
const ROWS: usize = 32;

/// `[rows, inputs]` to `[rows, outputs]`.
#[derive(Debug)]
pub(super) struct Projection {
    /// `[outputs, inputs]`.
    weight: Tensor,
    /// The same in each row: `[1 or ROWS, outputs]`.
    bias: Tensor,
}

impl Projection {
    pub(super) fn load(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Self::new(vb.get((outputs, inputs), "weight")?, &vb.get(outputs, "bias")?)
    }

    /// With the first `count` outputs `factor` times as large.
    pub(super) fn load_scaled(
        inputs: usize,
        outputs: usize,
        (count, factor): (usize, f64),
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let scaled = |all: &Tensor| {
            let first = (all.narrow(0, 0, count)? * factor)?;
            Tensor::cat(&[first, all.narrow(0, count, outputs - count)?], 0)
        };
        let weight = vb.get((outputs, inputs), "weight")?;
        Self::new(scaled(&weight)?, &scaled(&vb.get(outputs, "bias")?)?)
    }

    fn new(weight: Tensor, bias: &Tensor) -> Result<Self> {
        let rows = if weight.device().is_cpu() { 1 } else { ROWS };
        let bias = bias.unsqueeze(0)?.broadcast_as((rows, bias.dim(0)?))?.contiguous()?;
        Ok(Self { weight, bias })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(0)?;
        // On a processor the product of a few rows takes as long as reading the weights does, as long
        // as they are not put in another order first: they are, unless they stand on the left.
        let product = if x.device().is_cpu() && rows > 1 {
            self.weight.matmul(&x.t()?)?.t()?.contiguous()?
        } else {
            x.matmul(&self.weight.t()?)?
        };
        if rows <= self.bias.dim(0)? {
            product + self.bias.narrow(0, 0, rows)?
        } else {
            product.broadcast_add(&self.bias.narrow(0, 0, 1)?)
        }
    }
}
