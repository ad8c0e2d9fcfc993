//! Convolutions over time, `[batch, channels, time]`, for the networks that make sound: nearly all
//! of their arithmetic lies here.
//!
//! In main memory a convolution is one product of matrices for each of its taps, added up over a
//! stretch of time that stays in the caches; the activation before it, the padding and what the
//! result is added to cost no pass of their own. Elsewhere candle's operations are taken.

use std::fmt;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Error, Layout, Result, Shape, Tensor, bail,
};
use candle_nn::VarBuilder;
use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedAMatrix};
use rten_tensor::NdTensorView;

/// Numbers of one stretch of the input, over all channels.
const STRETCH: usize = 1 << 16;
/// Moments of a stretch, at least and at most.
const MOMENTS: (usize, usize) = (128, 1024);

/// `x` where it is positive, `slope * x` elsewhere; the slope is less than one.
///
/// # Errors
/// The device is out of memory.
pub fn leaky(x: &Tensor, slope: f64) -> Result<Tensor> {
    x.maximum(&(x * slope)?)
}

/// A convolution of stride one.
#[derive(Debug)]
pub struct Convolution {
    weights: Weights,
    inputs: usize,
    outputs: usize,
    taps: usize,
    dilation: usize,
    padding: usize,
}

enum Weights {
    /// In main memory, single precision.
    Near(Products),
    /// Anything else.
    Far { weight: Tensor, bias: Tensor },
}

impl Convolution {
    /// With the zeros around its input that keep the length; `taps` is odd.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(
        inputs: usize,
        outputs: usize,
        taps: usize,
        dilation: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight = vb.get((outputs, inputs, taps), "weight")?;
        let bias = vb.get(outputs, "bias")?;
        Self::new(&weight, &bias, dilation, dilation * (taps / 2))
    }

    /// Without zeros around its input: the result is shorter by `taps - 1`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load_unpadded(
        inputs: usize,
        outputs: usize,
        taps: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight = vb.get((outputs, inputs, taps), "weight")?;
        Self::new(&weight, &vb.get(outputs, "bias")?, 1, 0)
    }

    /// `weight` is `[outputs, inputs, taps]`, `bias` `[outputs]`; `padding` zeros stand at each end
    /// of the input.
    ///
    /// # Errors
    /// The shapes do not fit each other.
    pub fn new(weight: &Tensor, bias: &Tensor, dilation: usize, padding: usize) -> Result<Self> {
        let (outputs, inputs, taps) = weight.dims3()?;
        if inputs == 0 || outputs == 0 || taps == 0 || dilation == 0 || bias.dims() != [outputs] {
            bail!("no convolution has {:?} weights and {:?} biases", weight.dims(), bias.dims())
        }
        let weights = if weight.device().is_cpu() && weight.dtype() == DType::F32 {
            Weights::Near(Products::new(weight, bias)?)
        } else {
            Weights::Far { weight: weight.contiguous()?, bias: bias.reshape((outputs, 1))? }
        };
        Ok(Self { weights, inputs, outputs, taps, dilation, padding })
    }

    /// Of `x`, `[batch, inputs, time]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None, None)
    }

    /// Of [`leaky`] of `x`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn of_leaky(&self, x: &Tensor, slope: f64) -> Result<Tensor> {
        self.run(x, Some(slope), None)
    }

    /// Of [`leaky`] of `x`, added to `base`, which has the result's shape.
    ///
    /// # Errors
    /// The shapes do not fit, or the device is out of memory.
    pub fn add_of_leaky(&self, x: &Tensor, slope: f64, base: &Tensor) -> Result<Tensor> {
        self.run(x, Some(slope), Some(base))
    }

    fn run(&self, x: &Tensor, slope: Option<f64>, base: Option<&Tensor>) -> Result<Tensor> {
        let (batch, channels, time) = x.dims3()?;
        let reach = self.dilation * (self.taps - 1);
        if channels != self.inputs || batch == 0 || time + 2 * self.padding <= reach {
            bail!("{:?} cannot go through {self:?}", x.dims())
        }
        match &self.weights {
            Weights::Near(products) => {
                let length = time + 2 * self.padding - reach;
                let run = Run { convolution: self, products, slope, batch, time, length };
                let x = x.contiguous()?;
                match base {
                    None => x.apply_op1_no_bwd(&run),
                    Some(base) => x.apply_op2_no_bwd(&base.contiguous()?, &run),
                }
            }
            Weights::Far { weight, bias } => {
                let activated = slope.map(|slope| leaky(x, slope)).transpose()?;
                let x = activated.as_ref().unwrap_or(x);
                let sum = x.conv1d(weight, self.padding, 1, self.dilation, 1)?;
                let sum = sum.broadcast_add(bias)?;
                base.map_or(Ok(sum.clone()), |base| base + sum)
            }
        }
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near(_) => "near",
            Self::Far { .. } => "far",
        })
    }
}

/// A matrix for each tap, arranged for this processor.
struct Products {
    taps: Vec<PackedAMatrix<f32>>,
    bias: Vec<f32>,
}

impl Products {
    fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (outputs, inputs, count) = weight.dims3()?;
        let executor = GemmExecutor::<f32>::new();
        let taps = weight.permute((2, 0, 1))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        let taps = taps.chunks_exact(outputs * inputs).take(count);
        let packed = |tap| executor.prepack_a(NdTensorView::from_data([outputs, inputs], tap));
        Ok(Self { taps: taps.map(packed).collect(), bias: bias.to_vec1()? })
    }
}

/// One use of a convolution in main memory.
struct Run<'a> {
    convolution: &'a Convolution,
    products: &'a Products,
    slope: Option<f64>,
    batch: usize,
    time: usize,
    length: usize,
}

/// Moments of the result that are computed together.
#[derive(Clone, Copy)]
struct Stretch {
    item: usize,
    first: usize,
    count: usize,
}

/// What one thread works in.
#[derive(Default)]
struct Desk {
    /// What the stretch hears, activated and padded, channel after channel.
    heard: Vec<f32>,
    /// `[outputs, moments of the stretch]`.
    sums: Vec<f32>,
}

impl Run<'_> {
    fn compute(&self, x: &[f32], base: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let outputs = self.convolution.outputs;
        let mut result = vec![0.0; self.batch * outputs * self.length];
        let moments = (STRETCH / self.convolution.inputs).clamp(MOMENTS.0, MOMENTS.1);
        // Of equal size, so that none is left with a few moments.
        let moments = self.length.div_ceil(self.length.div_ceil(moments));
        let stretches: Vec<Stretch> = (0..self.batch)
            .flat_map(|item| {
                (0..self.length).step_by(moments).map(move |first| Stretch {
                    item,
                    first,
                    count: moments.min(self.length - first),
                })
            })
            .collect();
        let mut desks = Vec::new();
        desks.resize_with(rayon::current_num_threads().min(stretches.len()), Desk::default);
        for stretches in stretches.chunks(desks.len()) {
            desks
                .par_iter_mut()
                .zip(stretches)
                .try_for_each(|(desk, stretch)| self.sum(x, *stretch, desk))?;
            for (desk, stretch) in desks.iter().zip(stretches) {
                for (channel, sums) in desk.sums.chunks_exact(stretch.count).enumerate() {
                    let at = (stretch.item * outputs + channel) * self.length + stretch.first;
                    let place = &mut result[at..at + stretch.count];
                    match base {
                        None => place.copy_from_slice(sums),
                        Some(base) => {
                            let base = &base[at..at + stretch.count];
                            for ((place, sum), base) in place.iter_mut().zip(sums).zip(base) {
                                *place = sum + base;
                            }
                        }
                    }
                }
            }
        }
        Ok((CpuStorage::F32(result), (self.batch, outputs, self.length).into()))
    }

    fn sum(&self, x: &[f32], stretch: Stretch, desk: &mut Desk) -> Result<()> {
        let Convolution { inputs, outputs, taps, dilation, padding, .. } = *self.convolution;
        let width = stretch.count + dilation * (taps - 1);
        desk.heard.resize(inputs * width, 0.0);
        desk.sums.resize(outputs * stretch.count, 0.0);
        // Of the input, and where it comes to lie.
        let from = stretch.first.saturating_sub(padding);
        let to = (stretch.first + width).saturating_sub(padding).min(self.time).max(from);
        let at = padding.saturating_sub(stretch.first).min(width);
        for (channel, heard) in desk.heard.chunks_exact_mut(width).enumerate() {
            let row = (stretch.item * inputs + channel) * self.time;
            let samples = &x[row + from..row + to];
            let (before, heard) = heard.split_at_mut(at);
            let (heard, after) = heard.split_at_mut(samples.len());
            before.fill(0.0);
            after.fill(0.0);
            match self.slope {
                None => heard.copy_from_slice(samples),
                Some(slope) => {
                    let slope = slope as f32;
                    for (heard, sample) in heard.iter_mut().zip(samples) {
                        *heard = if *sample > 0.0 { *sample } else { slope * sample };
                    }
                }
            }
        }
        let executor = GemmExecutor::<f32>::new();
        for (tap, weights) in self.products.taps.iter().enumerate() {
            let heard = NdTensorView::from_data_with_strides(
                [inputs, stretch.count],
                &desk.heard[tap * dilation..],
                [width, 1],
            )
            .map_err(Error::wrap)?;
            let options = if tap == 0 {
                let bias = Some(BiasVector::Column(self.products.bias.as_slice()));
                GemmOptions { bias, ..Default::default() }
            } else {
                GemmOptions { beta: 1.0, ..Default::default() }
            };
            let weights = GemmInputA::Packed(weights);
            let heard = GemmInputB::Unpacked(heard);
            executor.gemm(&mut desk.sums, weights, heard, options).map_err(Error::wrap)?;
        }
        Ok(())
    }
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("{layout:?} is not contiguous"),
    }
}

impl CustomOp1 for Run<'_> {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.compute(numbers(x, layout)?, None)
    }
}

impl CustomOp2 for Run<'_> {
    fn name(&self) -> &'static str {
        "added convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        base: &CpuStorage,
        base_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if base_layout.dims() != [self.batch, self.convolution.outputs, self.length] {
            bail!("a convolution cannot be added to {:?}", base_layout.dims())
        }
        self.compute(numbers(x, x_layout)?, Some(numbers(base, base_layout)?))
    }
}

/// A transposed convolution that makes `stride` moments of each: as a convolution that gives all
/// phases of the result, which are then put in their places.
#[derive(Debug)]
pub struct Upsampling {
    phases: Convolution,
    outputs: usize,
    stride: usize,
}

impl Upsampling {
    /// `weight` is `[inputs, outputs, taps]`. `cut` moments before the first whole one are left
    /// out, and as many at the end as leave `stride` times the length.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(
        inputs: usize,
        outputs: usize,
        taps: usize,
        stride: usize,
        cut: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        if stride == 0 || taps <= cut {
            bail!("{taps} taps cannot make {stride} moments of each, without {cut}")
        }
        let weight = vb.get((inputs, outputs, taps), "weight")?;
        let bias = vb.get(outputs, "bias")?;
        let reach = ((taps - 1 - cut) / stride).max(cut.div_ceil(stride));
        let steps = 2 * reach + 1;
        let values = weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let mut phases = vec![0.0; outputs * stride * inputs * steps];
        for input in 0..inputs {
            for output in 0..outputs {
                let taps = &values[(input * outputs + output) * taps..][..taps];
                for (tap, value) in taps.iter().enumerate() {
                    // This tap of a moment adds to the result `tap - cut` moments after its place.
                    let after = tap + reach * stride - cut;
                    let (step, phase) = (2 * reach - after / stride, after % stride);
                    phases[((output * stride + phase) * inputs + input) * steps + step] = *value;
                }
            }
        }
        let shape = (outputs * stride, inputs, steps);
        let phases = Tensor::from_vec(phases, shape, weight.device())?.to_dtype(weight.dtype())?;
        let bias = bias.reshape((outputs, 1))?.repeat((1, stride))?.flatten_all()?;
        Ok(Self { phases: Convolution::new(&phases, &bias, 1, reach)?, outputs, stride })
    }

    /// Of [`leaky`] of `x`, `[batch, inputs, time]`: `[batch, outputs, stride * time]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn of_leaky(&self, x: &Tensor, slope: f64) -> Result<Tensor> {
        let (batch, _, time) = x.dims3()?;
        let phases = self.phases.of_leaky(x, slope)?;
        let phases = phases.reshape((batch, self.outputs, self.stride, time))?;
        phases.transpose(2, 3)?.reshape((batch, self.outputs, self.stride * time))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;

    use super::*;

    fn noise(shape: &[usize]) -> Tensor {
        let mut state = 7u32;
        let values = (0..shape.iter().product::<usize>()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        });
        Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    fn apart(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let apart = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        apart.max(0).unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn a_convolution_is_that_of_the_textbook() {
        for (inputs, outputs, taps, dilation, time) in
            [(3, 5, 3, 1, 1), (2, 1, 7, 1, 4), (32, 32, 11, 5, 3000), (512, 20, 7, 3, 301)]
        {
            let (weight, bias) = (noise(&[outputs, inputs, taps]), noise(&[outputs]));
            let x = noise(&[2, inputs, time]);
            let padding = dilation * (taps / 2);
            let far = |x: &Tensor| {
                let sum = x.conv1d(&weight, padding, 1, dilation, 1).unwrap();
                sum.broadcast_add(&bias.reshape((outputs, 1)).unwrap()).unwrap()
            };
            let convolution = Convolution::new(&weight, &bias, dilation, padding).unwrap();
            let plain = convolution.forward(&x).unwrap();
            assert!(apart(&plain, &far(&x)) < 1e-3, "{inputs} {outputs} {taps}");
            let activated = far(&leaky(&x, 0.1).unwrap());
            assert!(apart(&convolution.of_leaky(&x, 0.1).unwrap(), &activated) < 1e-3);
            let added = convolution.add_of_leaky(&x, 0.1, &plain).unwrap();
            assert!(apart(&added, &(activated + plain).unwrap()) < 1e-3);
        }
    }

    #[test]
    fn the_phases_of_an_upsampling_are_its_transposed_convolution() {
        for (taps, stride) in [(16usize, 8usize), (4, 2), (8, 4), (6, 3), (5, 3), (2, 1)] {
            let cut = if taps == 2 * stride { stride.div_ceil(2) } else { (taps - stride) / 2 };
            let (weight, bias) = (noise(&[5, 3, taps]), noise(&[3]));
            let x = noise(&[2, 5, 6]);
            let tensors = [("weight", &weight), ("bias", &bias)];
            let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor.clone()));
            let vb = VarBuilder::from_tensors(HashMap::from(tensors), DType::F32, &Device::Cpu);
            let upsampling = Upsampling::load(5, 3, taps, stride, cut, &vb).unwrap();
            // One by one: candle 0.11 mixes up the items of a batch here.
            let items = (0..2).map(|item| {
                let x = leaky(&x.narrow(0, item, 1).unwrap(), 0.2).unwrap();
                x.conv_transpose1d(&weight, 0, 0, stride, 1, 1).unwrap()
            });
            let whole = Tensor::cat(&items.collect::<Vec<_>>(), 0).unwrap();
            let whole = whole.narrow(2, cut, 6 * stride).unwrap();
            let expected = whole.broadcast_add(&bias.reshape((3, 1)).unwrap()).unwrap();
            let apart = apart(&upsampling.of_leaky(&x, 0.2).unwrap(), &expected);
            assert!(apart < 1e-4, "{taps} taps, stride {stride}: {apart}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let convolution = Convolution::new(&noise(&[2, 3, 5]), &noise(&[2]), 1, 0).unwrap();
        assert!(convolution.forward(&noise(&[1, 3, 4])).is_err(), "shorter than its taps");
        assert!(convolution.forward(&noise(&[1, 2, 9])).is_err(), "too few channels");
        assert!(convolution.forward(&noise(&[3, 9])).is_err(), "no batch");
        let base = noise(&[1, 2, 4]);
        assert!(
            convolution.add_of_leaky(&noise(&[1, 3, 9]), 0.1, &base).is_err(),
            "another length"
        );
        assert!(Convolution::new(&noise(&[2, 3, 5]), &noise(&[3]), 1, 0).is_err(), "three biases");
    }
}
