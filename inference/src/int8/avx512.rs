//! Sums of products on AVX-512 with its vector neural network instructions.
//!
//! They multiply unsigned with signed bytes, so inputs are stored with 128 added, and sums begin at
//! what that adds: -128 times the sum of an output's weights.
//!
//! `unsafe` is allowed here: vector loads and stores take raw pointers (given from references to
//! arrays of exactly the loaded size), and functions compiled for AVX-512 may only be called where
//! the processor has it, which [`Avx512`] proves.
#![allow(unsafe_code)]
// Indices over the const number of rows are what unrolls; iterators over arrays are calls.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{GROUP, Multiply, PANEL, Sums, Weights};

/// Proof that this processor has AVX-512 with byte and neural network instructions.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        present.then_some(Self(()))
    }
}

impl Multiply for Avx512 {
    /// Four bytes, the first the lowest.
    type Group = i32;
    /// 24 sums of 16 outputs each, which with the weights fill the 32 registers.
    const ROWS: usize = 12;

    #[inline]
    fn group(values: [i8; GROUP]) -> Self::Group {
        let [a, b, c, d] = values;
        i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]) ^ i32::from_le_bytes([128; GROUP])
    }

    fn sums<const R: usize>(
        self,
        panel: &[Weights],
        totals: &Sums,
        rows: &[[Self::Group; R]],
        sums: &mut [Sums; R],
    ) {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe { sum(panel, totals, rows, sums) }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn sum<const R: usize>(panel: &[Weights], totals: &Sums, rows: &[[i32; R]], sums: &mut [Sums; R]) {
    let offset = _mm512_set1_epi32(-128);
    let [low, high] = halves(totals);
    let mut low = [_mm512_mullo_epi32(load(low), offset); R];
    let mut high = [_mm512_mullo_epi32(load(high), offset); R];
    for index in 0..panel.len().min(rows.len()) {
        let (weights, group) = (&panel[index], &rows[index]);
        let [first, second] = halves(&weights.0);
        let (first, second) = (load(first), load(second));
        for row in 0..R {
            let values = _mm512_set1_epi32(group[row]);
            low[row] = _mm512_dpbusd_epi32(low[row], values, first);
            high[row] = _mm512_dpbusd_epi32(high[row], values, second);
        }
    }
    for row in 0..R {
        let [first, second] = sums[row].as_chunks_mut::<16>().0 else { unreachable!() };
        store(first, low[row]);
        store(second, high[row]);
    }
}

/// The first and the second sixteen outputs.
#[inline]
fn halves<T>(panel: &[T; PANEL]) -> [&[T; PANEL / 2]; 2] {
    let [first, second] = panel.as_chunks().0 else { unreachable!("a panel has two halves") };
    [first, second]
}

/// Sixteen 32-bit values, or as many groups of four bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load<T>(values: &[T; PANEL / 2]) -> __m512i {
    const { assert!(size_of::<T>() == 4) };
    // SAFETY: 64 bytes are read from an array of 64 bytes.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: &mut [i32; PANEL / 2], vector: __m512i) {
    // SAFETY: 64 bytes are written to an array of 64 bytes.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), vector) }
}
