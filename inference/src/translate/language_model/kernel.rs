//! Chooses the code that multiplies tiles on this processor.

use std::ops::Range;

use super::tiles::{RoundedRows, Tiles};

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;

/// A way to multiply tiles.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Kernel {
    /// The best for this processor; `None` where candle's own kernels do better than none of ours.
    pub(super) fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            Avx2::detect().map(Self::Avx2)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            None
        }
    }

    /// Appends the products of all input rows with a range of strips, `[strip][input row][8]`.
    pub(super) fn multiply(
        self,
        tiles: &Tiles,
        inputs: &RoundedRows,
        strips: Range<usize>,
        output: &mut Vec<f32>,
    ) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx2(avx2) => avx2.multiply(tiles, inputs, strips, output),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (tiles, inputs, strips, output);
            match self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
    use candle_core::{Device, Module, Tensor};

    use super::*;
    use crate::translate::language_model::tiles;

    /// Values that a fixed seed spreads over both signs and some magnitudes.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    /// Our product and candle's of the same quantised weight, `[row][output]`.
    fn both(dtype: GgmlDType, rows: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let (inputs, outputs) = (512, 24);
        let kernel = Kernel::detect()?;
        let weight = Tensor::from_vec(noise(inputs * outputs, 7), (outputs, inputs), &Device::Cpu)
            .expect("a tensor");
        let weight = QTensor::quantize(&weight, dtype).expect("quantises");
        let data = weight.data().expect("on the CPU");
        let tiles = match dtype {
            GgmlDType::Q4K => tiles::pack_q4(&data, inputs),
            _ => tiles::pack_q6(&data, inputs),
        }
        .expect("whole tiles");
        let values = noise(inputs * rows, 11);
        let mut strips = Vec::new();
        let rounded = RoundedRows::new(&values, inputs);
        kernel.multiply(&tiles, &rounded, 0..outputs / 8, &mut strips);
        let ours = (0..rows * outputs)
            .map(|index| {
                let (row, output) = (index / outputs, index % outputs);
                strips[(output / 8 * rows + row) * 8 + output % 8]
            })
            .collect();
        let values = Tensor::from_vec(values, (rows, inputs), &Device::Cpu).expect("a tensor");
        let exact = QMatMul::from_qtensor(weight).expect("a product");
        let exact = exact.forward(&values).expect("multiplies");
        let exact = exact.flatten_all().and_then(|exact| exact.to_vec1()).expect("values");
        Some((ours, exact))
    }

    #[test]
    fn tiled_products_equal_candles() {
        for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
            for rows in [1, 2, 3, 4, 5, 9] {
                // A processor without AVX2 has no tiled product to check.
                let Some((ours, exact)) = both(dtype, rows) else { return };
                assert_eq!(ours.len(), exact.len());
                for (ours, exact) in ours.iter().zip(&exact) {
                    let error = (ours - exact).abs();
                    assert!(
                        error < 2e-3 * exact.abs().max(10.0),
                        "{dtype:?} × {rows}: {ours} {exact}"
                    );
                }
            }
        }
    }
}
