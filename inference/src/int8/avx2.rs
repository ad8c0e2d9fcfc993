//! Sums of products on AVX2, by way of 16-bit numbers: its product of bytes saturates.
//!
//! `unsafe` is allowed here: vector loads and stores take raw pointers (given from references to
//! arrays of exactly the loaded size), and functions compiled for AVX2 may only be called where the
//! processor has it, which [`Avx2`] proves.
#![allow(unsafe_code)]
// Indices over the const number of rows are what unrolls; iterators over arrays are calls.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{GROUP, Multiply, PANEL, Sums, Weights};

/// Outputs that one pass over the inputs sums.
const STRIP: usize = 8;

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Multiply for Avx2 {
    /// Four 16-bit numbers, the first the lowest.
    type Group = i64;
    /// Twelve sums, which with the weights and what is added to a sum fill the 16 registers.
    const ROWS: usize = 6;

    #[inline]
    fn group(values: [i8; GROUP]) -> Self::Group {
        let [a, b, c, d] = values;
        let widened = |value: i8| i64::from(i16::from(value).cast_unsigned());
        widened(a) | widened(b) << 16 | widened(c) << 32 | widened(d) << 48
    }

    fn sums<const R: usize>(
        self,
        panel: &[Weights],
        _: &Sums,
        rows: &[[Self::Group; R]],
        sums: &mut [Sums; R],
    ) {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe {
            match R {
                1 => sum::<R, 4>(panel, rows, sums),
                2 | 3 => sum::<R, 2>(panel, rows, sums),
                _ => sum::<R, 1>(panel, rows, sums),
            }
        }
    }
}

/// `S` strips at once.
#[target_feature(enable = "avx2")]
fn sum<const R: usize, const S: usize>(panel: &[Weights], rows: &[[i64; R]], sums: &mut [Sums; R]) {
    for first in (0..PANEL / STRIP).step_by(S) {
        let mut low = [[_mm256_setzero_si256(); S]; R];
        let mut high = [[_mm256_setzero_si256(); S]; R];
        for index in 0..panel.len().min(rows.len()) {
            let weights = panel[index].0.as_chunks::<{ STRIP / 2 }>().0;
            for strip in 0..S {
                let weights = &weights[2 * (first + strip)..][..2];
                let (even, odd) = (load(&weights[0]), load(&weights[1]));
                for row in 0..R {
                    let values = _mm256_set1_epi64x(rows[index][row]);
                    let (even, odd) =
                        (_mm256_madd_epi16(values, even), _mm256_madd_epi16(values, odd));
                    low[row][strip] = _mm256_add_epi32(low[row][strip], even);
                    high[row][strip] = _mm256_add_epi32(high[row][strip], odd);
                }
            }
        }
        for row in 0..R {
            for strip in 0..S {
                // Two halves of each sum lie side by side.
                let folded = _mm256_hadd_epi32(low[row][strip], high[row][strip]);
                let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(folded);
                store(&mut sums[row].as_chunks_mut::<STRIP>().0[first + strip], ordered);
            }
        }
    }
}

/// The weights of four outputs, widened.
#[inline]
#[target_feature(enable = "avx2")]
fn load(weights: &[[i8; GROUP]; STRIP / 2]) -> __m256i {
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(weights.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(sums: &mut [i32; STRIP], vector: __m256i) {
    // SAFETY: 32 bytes are written to an array of 32 bytes.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), vector) }
}
