//! Products of [`product`](super::product) on x86 processors.
//!
//! This is the one place of the voice that allows `unsafe`: vectors are loaded and stored through raw
//! pointers, into slices whose lengths are asserted before, and functions compiled for a processor's
//! extensions may only be called where it has them, which [`Processor`] proves.
#![allow(unsafe_code)]
// Indices over the const number of columns are what unrolls; iterators over arrays are calls.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::product::{Columns, PANEL, Pairs};

/// Columns that one pass over a panel serves: as many as sums fit the registers.
const PASS: usize = 6;

/// Proof that this processor has the extensions of one of the ways to multiply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processor(Extensions);

#[derive(Clone, Copy, Debug)]
enum Extensions {
    Avx2,
    /// AVX-512 with the neural network instructions.
    Vnni,
}

impl Processor {
    /// The best way of this processor.
    pub(super) fn detect() -> Option<Self> {
        Self::vnni().or_else(Self::avx2)
    }

    fn avx2() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(Extensions::Avx2))
    }

    fn vnni() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        present.then_some(Self(Extensions::Vnni))
    }

    /// All ways of this processor.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::avx2(), Self::vnni()].into_iter().flatten()
    }

    /// The products of one panel for `count` columns, which are put `stride` apart.
    pub(super) fn multiply(
        self,
        panel: &[Pairs],
        scales: &[f32; PANEL],
        columns: Columns<'_>,
        products: &mut [f32],
        stride: usize,
        count: usize,
    ) {
        let Some(last) = count.checked_sub(1) else { return };
        assert!(columns.values.len() >= last * columns.stride + 2 * panel.len());
        assert!(columns.scales.len() > last * columns.scale_stride);
        assert!(products.len() >= last * stride + PANEL);
        let mut first = 0;
        while first < count {
            let pass = Pass {
                panel,
                scales,
                column: &columns.values[first * columns.stride..],
                column_stride: columns.stride,
                column_scales: &columns.scales[first * columns.scale_stride..],
                scale_stride: columns.scale_stride,
                products: &mut products[first * stride..],
                stride,
            };
            // SAFETY: the columns of the pass and their scales and products lie within the slices,
            // as asserted above; `self` exists only where the extensions were found.
            unsafe {
                match (count - first).min(PASS) {
                    1 => pass.run::<1>(self.0),
                    2 => pass.run::<2>(self.0),
                    3 => pass.run::<3>(self.0),
                    4 => pass.run::<4>(self.0),
                    5 => pass.run::<5>(self.0),
                    _ => pass.run::<PASS>(self.0),
                }
            }
            first += PASS;
        }
    }
}

/// A panel and the first of some columns, with what belongs to it.
struct Pass<'a> {
    panel: &'a [Pairs],
    scales: &'a [f32; PANEL],
    column: &'a [i16],
    column_stride: usize,
    column_scales: &'a [f32],
    scale_stride: usize,
    products: &'a mut [f32],
    stride: usize,
}

impl Pass<'_> {
    /// # Safety
    /// The processor has the extensions, and `COLUMNS` columns, scales and products lie within the
    /// slices.
    unsafe fn run<const COLUMNS: usize>(self, extensions: Extensions) {
        // SAFETY: as promised by the caller.
        unsafe {
            match extensions {
                Extensions::Avx2 => self.avx2::<COLUMNS>(),
                Extensions::Vnni => self.vnni::<COLUMNS>(),
            }
        }
    }

    /// # Safety
    /// As of [`run`](Self::run).
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni<const COLUMNS: usize>(self) {
        const VECTORS: usize = PANEL / 16;
        // SAFETY: pairs and scales are arrays of exactly the vectors read; two numbers are read at
        // each even place of a column before its end; the rest is promised by the caller.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); VECTORS]; COLUMNS];
            for (index, pairs) in self.panel.iter().enumerate() {
                let rows = pairs.0.as_ptr();
                let mut weights = [_mm512_setzero_si512(); VECTORS];
                for vector in 0..VECTORS {
                    weights[vector] = _mm512_load_si512(rows.add(32 * vector).cast());
                }
                let inputs = self.column.as_ptr().add(2 * index);
                for column in 0..COLUMNS {
                    let input = inputs.add(column * self.column_stride).cast::<i32>();
                    let input = _mm512_set1_epi32(input.read_unaligned());
                    for vector in 0..VECTORS {
                        sums[column][vector] =
                            _mm512_dpwssd_epi32(sums[column][vector], weights[vector], input);
                    }
                }
            }
            for column in 0..COLUMNS {
                let scale =
                    _mm512_set1_ps(*self.column_scales.get_unchecked(column * self.scale_stride));
                let products = self.products.as_mut_ptr().add(column * self.stride);
                for vector in 0..VECTORS {
                    let row_scales = _mm512_loadu_ps(self.scales.as_ptr().add(16 * vector));
                    let sum = _mm512_cvtepi32_ps(sums[column][vector]);
                    let product = _mm512_mul_ps(_mm512_mul_ps(sum, row_scales), scale);
                    _mm512_storeu_ps(products.add(16 * vector), product);
                }
            }
        }
    }

    /// # Safety
    /// As of [`run`](Self::run).
    #[target_feature(enable = "avx2")]
    unsafe fn avx2<const COLUMNS: usize>(self) {
        /// Vectors of a panel that are summed at a time: more sums would not fit the registers.
        const VECTORS: usize = 2;
        // SAFETY: as above; a vector of sums belongs to eight rows.
        unsafe {
            for first in (0..PANEL).step_by(8 * VECTORS) {
                let mut sums = [[_mm256_setzero_si256(); VECTORS]; COLUMNS];
                for (index, pairs) in self.panel.iter().enumerate() {
                    let rows = pairs.0.as_ptr().add(2 * first);
                    let mut weights = [_mm256_setzero_si256(); VECTORS];
                    for vector in 0..VECTORS {
                        weights[vector] = _mm256_load_si256(rows.add(16 * vector).cast());
                    }
                    let inputs = self.column.as_ptr().add(2 * index);
                    for column in 0..COLUMNS {
                        let input = inputs.add(column * self.column_stride).cast::<i32>();
                        let input = _mm256_set1_epi32(input.read_unaligned());
                        for vector in 0..VECTORS {
                            sums[column][vector] = _mm256_add_epi32(
                                sums[column][vector],
                                _mm256_madd_epi16(weights[vector], input),
                            );
                        }
                    }
                }
                for column in 0..COLUMNS {
                    let scale = _mm256_set1_ps(
                        *self.column_scales.get_unchecked(column * self.scale_stride),
                    );
                    let products = self.products.as_mut_ptr().add(column * self.stride + first);
                    for vector in 0..VECTORS {
                        let row_scales =
                            _mm256_loadu_ps(self.scales.as_ptr().add(first + 8 * vector));
                        let sum = _mm256_cvtepi32_ps(sums[column][vector]);
                        let product = _mm256_mul_ps(_mm256_mul_ps(sum, row_scales), scale);
                        _mm256_storeu_ps(products.add(8 * vector), product);
                    }
                }
            }
        }
    }
}
