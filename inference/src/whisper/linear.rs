//! A matrix with its bias, dense or of 8-bit weights, and the inputs that it takes.

use candle_core::{Device, Result, Tensor, bail};

use super::{Precision, ops};
use crate::arena::Arena;
use crate::int8::{Matrix, Rows};

/// `y = x Wᵀ + b`, with `W` of (outputs, inputs).
pub struct Linear {
    weight: Weight,
    bias: Vec<f32>,
    inputs: usize,
}

enum Weight {
    /// Transposed once, (inputs, outputs) by its strides.
    Dense(Tensor),
    Int8(Matrix),
}

/// Rows of inputs, rounded where the weights are, for any number of matrices of the same precision.
pub struct Inputs(Kind);

enum Kind {
    Dense { values: Vec<f32>, width: usize },
    Int8(Rows),
}

impl Inputs {
    /// None yet.
    pub fn new(precision: Precision) -> Self {
        Self(match precision {
            Precision::F32 => Kind::Dense { values: Vec::new(), width: 0 },
            Precision::Int8 => Kind::Int8(Rows::default()),
        })
    }

    /// Replaces them by `count` rows of `width` values as `compute` writes each: the row's index,
    /// and what is overwritten.
    pub fn compute(
        &mut self,
        count: usize,
        width: usize,
        mut compute: impl FnMut(usize, &mut [f32]),
    ) {
        match &mut self.0 {
            Kind::Dense { values, width: stored } => {
                *stored = width;
                values.resize(count * width, 0.0);
                for (index, row) in values.chunks_exact_mut(width).enumerate() {
                    compute(index, row);
                }
            }
            Kind::Int8(rows) => rows.compute(count, width, compute),
        }
    }

    /// Replaces them by `values`, row by row of `width` each.
    pub fn set(&mut self, values: &[f32], width: usize) {
        match &mut self.0 {
            Kind::Dense { values: stored, width: stored_width } => {
                *stored_width = width;
                stored.clear();
                stored.extend_from_slice(values);
            }
            Kind::Int8(rows) => rows.set(values, width),
        }
    }
}

impl Linear {
    /// `values` has `outputs × inputs` entries, row by row. Weights of 8 bits go into the arena: best
    /// in the order of their use.
    pub fn new(
        values: Vec<f32>,
        bias: Vec<f32>,
        inputs: usize,
        precision: Precision,
        arena: &mut Arena,
    ) -> Result<Self> {
        let weight = match precision {
            Precision::F32 => {
                Weight::Dense(Tensor::from_vec(values, (bias.len(), inputs), &Device::Cpu)?.t()?)
            }
            Precision::Int8 => Weight::Int8(Matrix::new(&values, inputs, arena)?),
        };
        Ok(Self { weight, bias, inputs })
    }

    /// Values that it takes per row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Values that it gives per row.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Room for what it takes.
    pub fn room(&self) -> Inputs {
        Inputs::new(match &self.weight {
            Weight::Dense(_) => Precision::F32,
            Weight::Int8(_) => Precision::Int8,
        })
    }

    /// `y = x Wᵀ + b`, `y` of (rows, outputs).
    pub fn apply(&self, x: &Inputs, y: &mut [f32]) -> Result<()> {
        match (&self.weight, &x.0) {
            (Weight::Int8(weight), Kind::Int8(rows)) => weight.product(rows, &self.bias, y),
            (Weight::Dense(weight), Kind::Dense { values, width }) => {
                y.chunks_exact_mut(self.bias.len()).for_each(|y| y.copy_from_slice(&self.bias));
                add_dense(weight, values, *width, y)?;
            }
            _ => bail!("the inputs are of another precision than the weights"),
        }
        Ok(())
    }

    /// `y += x Wᵀ + b`, `y` of (rows, outputs).
    pub fn add(&self, x: &Inputs, y: &mut [f32]) -> Result<()> {
        match (&self.weight, &x.0) {
            (Weight::Int8(weight), Kind::Int8(rows)) => weight.add_product(rows, &self.bias, y),
            (Weight::Dense(weight), Kind::Dense { values, width }) => {
                for y in y.chunks_exact_mut(self.bias.len()) {
                    y.iter_mut().zip(&self.bias).for_each(|(y, bias)| *y += bias);
                }
                add_dense(weight, values, *width, y)?;
            }
            _ => bail!("the inputs are of another precision than the weights"),
        }
        Ok(())
    }

    /// `x Wᵀ + b` for `x` of (rows, inputs).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let mut y = vec![0.0; rows * self.outputs()];
        self.apply(&self.take(x)?, &mut y)?;
        Tensor::from_vec(y, (rows, self.outputs()), &Device::Cpu)
    }

    /// `y += x Wᵀ + b` for `x` of (rows, inputs) and `y` of (rows, outputs).
    pub fn add_to(&self, y: &Tensor, x: &Tensor) -> Result<()> {
        let x = self.take(x)?;
        ops::update(y, |y| self.add(&x, y))
    }

    fn take(&self, x: &Tensor) -> Result<Inputs> {
        let mut inputs = self.room();
        ops::read(x, |x| inputs.set(x, self.inputs))?;
        Ok(inputs)
    }
}

/// `y += x W`, `weight` of (inputs, outputs).
fn add_dense(weight: &Tensor, x: &[f32], width: usize, y: &mut [f32]) -> Result<()> {
    let x = Tensor::from_slice(x, (x.len() / width, width), &Device::Cpu)?;
    ops::read(&x.matmul(weight)?, |product| {
        y.iter_mut().zip(product).for_each(|(y, product)| *y += product);
    })
}
