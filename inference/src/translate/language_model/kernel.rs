//! Chooses the vector code of this processor: products with tiles, and attention's sums.

use std::ops::Range;

use super::tiles::{RoundedRows, Tiles};

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// A way to compute with vectors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Kernel {
    /// The best for this processor; `None` where candle's own kernels do better than none of ours.
    pub(super) fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            Avx512::detect().map(Self::Avx512).or_else(|| Avx2::detect().map(Self::Avx2))
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            None
        }
    }

    /// Appends the products of all input rows with a range of strips, `[strip][input row][16]`.
    pub(super) fn multiply(
        self,
        tiles: &Tiles,
        inputs: &RoundedRows,
        strips: Range<usize>,
        output: &mut Vec<f32>,
    ) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512(avx512) => avx512.multiply(tiles, inputs, strips, output),
            Self::Avx2(avx2) => avx2.multiply(tiles, inputs, strips, output),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (tiles, inputs, strips, output);
            match self {}
        }
    }

    /// Scores of as many keys as `scores` has places. They begin `stride` values apart and count as
    /// many values as the query; a score is the dot product of both, times `scale`.
    pub(super) fn score(
        self,
        query: &[f32],
        keys: &[f32],
        stride: usize,
        scale: f32,
        scores: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512(avx512) => avx512.score(query, keys, stride, scale, scores),
            Self::Avx2(avx2) => avx2.score(query, keys, stride, scale, scores),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (query, keys, stride, scale, scores);
            match self {}
        }
    }

    /// Adds to `output` values that begin `stride` apart, each times its weight.
    pub(super) fn add_weighted(
        self,
        output: &mut [f32],
        weights: &[f32],
        values: &[f32],
        stride: usize,
    ) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512(avx512) => avx512.add_weighted(output, weights, values, stride),
            Self::Avx2(avx2) => avx2.add_weighted(output, weights, values, stride),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (output, weights, values, stride);
            match self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
    use candle_core::{Device, Module, Tensor};

    use super::*;
    use crate::arena::Arena;
    use crate::testing::noises;
    use crate::translate::language_model::math;
    use crate::translate::language_model::tiles::{self, ROWS};

    /// Everything this processor can multiply with.
    fn kernels() -> Vec<Kernel> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            kernels.extend(Avx512::detect().map(Kernel::Avx512));
            kernels.extend(Avx2::detect().map(Kernel::Avx2));
        }
        kernels
    }

    /// A random weight as candle's and as tiles.
    fn weight(dtype: GgmlDType, inputs: usize, outputs: usize) -> (QTensor, Tiles) {
        let weight = Tensor::from_vec(noises(inputs * outputs, 7), (outputs, inputs), &Device::Cpu)
            .expect("a tensor");
        let weight = QTensor::quantize(&weight, dtype).expect("quantises");
        let data = weight.data().expect("on the CPU");
        let mut arena = Arena::default();
        let tiles = match dtype {
            GgmlDType::Q4K => tiles::pack_q4(&mut arena, &data, inputs),
            _ => tiles::pack_q6(&mut arena, &data, inputs),
        }
        .expect("memory")
        .expect("whole tiles");
        drop(data);
        (weight, tiles)
    }

    /// `[row][output]` from what `strips` of an otherwise empty output got.
    fn product(
        kernel: Kernel,
        tiles: &Tiles,
        values: &[f32],
        inputs: usize,
        strips: Range<usize>,
    ) -> Vec<f32> {
        let rounded = RoundedRows::new(values, inputs);
        let (rows, width) = (rounded.rows(), strips.len() * ROWS);
        let mut output = Vec::new();
        kernel.multiply(tiles, &rounded, strips, &mut output);
        assert_eq!(output.len(), rows * width);
        (0..rows * width)
            .map(|index| {
                let (row, output_row) = (index / width, index % width);
                output[(output_row / ROWS * rows + row) * ROWS + output_row % ROWS]
            })
            .collect()
    }

    #[test]
    fn tiled_products_equal_candles() {
        let (inputs, outputs) = (768, 48);
        for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
            let (weight, tiles) = weight(dtype, inputs, outputs);
            let exact = QMatMul::from_qtensor(weight).expect("a product");
            for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17] {
                let values = noises(inputs * rows, 11);
                let tensor = Tensor::from_slice(&values, (rows, inputs), &Device::Cpu);
                let exact = exact.forward(&tensor.expect("a tensor")).expect("multiplies");
                let exact: Vec<f32> =
                    exact.flatten_all().and_then(|exact| exact.to_vec1()).expect("values");
                for kernel in kernels() {
                    let ours = product(kernel, &tiles, &values, inputs, 0..outputs / ROWS);
                    for (ours, exact) in ours.iter().zip(&exact) {
                        let error = (ours - exact).abs();
                        assert!(
                            error < 2e-3 * exact.abs().max(10.0),
                            "{kernel:?}, {dtype:?} × {rows}: {ours} {exact}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_come_back_as_candle_restores_them() {
        let (inputs, outputs) = (768, 48);
        for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
            let (weight, tiles) = weight(dtype, inputs, outputs);
            let whole = weight.dequantize(&Device::Cpu).and_then(|whole| whole.to_vec2::<f32>());
            for (row, exact) in whole.expect("restores").into_iter().enumerate() {
                let mut ours = Vec::new();
                tiles.append_row(row, inputs, &mut ours);
                assert_eq!(ours, exact, "{dtype:?}, row {row}");
            }
        }
    }

    #[test]
    fn all_kernels_agree_to_the_last_bit_whatever_the_shape() {
        for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
            for (inputs, outputs) in [(256, 16), (512, 80), (1280, 32), (2304, 48)] {
                let (_, tiles) = weight(dtype, inputs, outputs);
                for rows in 1..=18 {
                    let values = noises(inputs * rows, 3);
                    let strips = outputs / 32..outputs / ROWS;
                    let of = |kernel| product(kernel, &tiles, &values, inputs, strips.clone());
                    let mut products = kernels().into_iter().map(of);
                    let first = products.next();
                    assert!(
                        products.all(|other| first.as_ref() == Some(&other)),
                        "{dtype:?} {inputs} × {outputs}, {rows} rows"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_rows_beside_them() {
        let inputs = 512;
        for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
            let (_, tiles) = weight(dtype, inputs, 32);
            let values = noises(inputs * 11, 5);
            for kernel in kernels() {
                let together = product(kernel, &tiles, &values, inputs, 0..2);
                let apart = values
                    .chunks_exact(inputs)
                    .flat_map(|row| product(kernel, &tiles, row, inputs, 0..2));
                assert!(together.iter().copied().eq(apart), "{kernel:?}, {dtype:?}");
            }
        }
    }

    #[test]
    fn nonsense_in_one_row_stays_in_that_row() {
        let inputs = 256;
        for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
            let (_, tiles) = weight(dtype, inputs, 16);
            for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE] {
                let mut values = noises(inputs * 3, 5);
                values[inputs..2 * inputs].fill(0.0);
                values[inputs + 9] = wild;
                for kernel in kernels() {
                    let products = product(kernel, &tiles, &values, inputs, 0..1);
                    let calm = product(kernel, &tiles, &values[..inputs], inputs, 0..1);
                    assert_eq!(products[..16], calm, "{kernel:?}, {dtype:?}, {wild}");
                    assert!(products[32..].iter().all(|value| value.is_finite()));
                }
            }
        }
    }

    #[test]
    fn attention_sums_equal_the_plain_ones_whatever_the_width_of_a_head() {
        for head in [8, 48, 64, 80, 128, 192] {
            for (positions, stride) in [(0, head), (1, head), (7, 2 * head), (33, 3 * head)] {
                let (query, keys) = (noises(head, 3), noises(positions * stride, 5));
                let keys = keys.get(stride - head..).unwrap_or_default();
                let start = noises(head, 9);
                let mut plain = (vec![0.0; positions], start.clone());
                math::score(&query, keys, stride, 0.5, &mut plain.0);
                math::add_weighted(&mut plain.1, &plain.0, keys, stride);
                for kernel in kernels() {
                    let mut ours = (vec![0.0; positions], start.clone());
                    kernel.score(&query, keys, stride, 0.5, &mut ours.0);
                    kernel.add_weighted(&mut ours.1, &plain.0, keys, stride);
                    let pairs = ours.0.iter().zip(&plain.0).chain(ours.1.iter().zip(&plain.1));
                    for (ours, plain) in pairs {
                        assert!((ours - plain).abs() < 1e-4, "{kernel:?}, {head} × {positions}");
                    }
                }
            }
        }
    }
}
