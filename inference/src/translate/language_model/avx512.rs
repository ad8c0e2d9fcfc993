//! Products of [`tiles`](super::tiles) on AVX-512 with its byte products (VNNI), and attention's
//! sums.
//!
//! `unsafe` is allowed here because vector loads take raw pointers (given here from references to
//! arrays that hold what is loaded), and functions compiled for AVX-512 may only be called where the
//! processor has it, which [`Avx512`] proves.
#![allow(unsafe_code)]
// Indices over the const number of rows are what unrolls; iterators over arrays are calls.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::math;
use super::tiles::{ROWS, RoundedBlock, RoundedRows, RunQ6, TileQ4, TileQ6, Tiles};

/// Input rows that one pass over a tile serves: as many as accumulators fit the registers.
const INPUT_ROWS: usize = 8;

/// Proof that this processor has AVX-512 with VNNI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        present.then_some(Self(()))
    }

    /// Products of all input rows with the output rows `16 · strips`, as
    /// `[strip][input row][16]` appended to `output`.
    pub(super) fn multiply(
        self,
        tiles: &Tiles,
        inputs: &RoundedRows,
        strips: Range<usize>,
        output: &mut Vec<f32>,
    ) {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe {
            match tiles {
                Tiles::Q4(tiles) => multiply(tiles, inputs, strips, output),
                Tiles::Q6(tiles) => multiply(tiles, inputs, strips, output),
            }
        }
    }

    /// See [`Kernel::score`](super::kernel::Kernel::score).
    pub(super) fn score(
        self,
        query: &[f32],
        keys: &[f32],
        stride: usize,
        scale: f32,
        scores: &mut [f32],
    ) {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe {
            match query.len() {
                64 => score::<4>(query, keys, stride, scale, scores),
                128 => score::<8>(query, keys, stride, scale, scores),
                _ => math::score(query, keys, stride, scale, scores),
            }
        }
    }

    /// See [`Kernel::add_weighted`](super::kernel::Kernel::add_weighted).
    pub(super) fn add_weighted(
        self,
        output: &mut [f32],
        weights: &[f32],
        values: &[f32],
        stride: usize,
    ) {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe {
            match output.len() {
                64 => add_weighted::<4>(output, weights, values, stride),
                128 => add_weighted::<8>(output, weights, values, stride),
                _ => math::add_weighted(output, weights, values, stride),
            }
        }
    }
}

/// A tile format.
trait Tile: Sized {
    /// Adds the products of this tile with `N` blocks to `N` accumulators.
    ///
    /// # Safety
    /// The processor has AVX-512 with VNNI.
    unsafe fn accumulate<const N: usize>(
        &self,
        blocks: [&RoundedBlock; N],
        sums: &mut [__m512; N],
        ahead: usize,
    );
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn multiply<T: Tile>(
    tiles: &[T],
    inputs: &RoundedRows,
    strips: Range<usize>,
    output: &mut Vec<f32>,
) {
    let per_row = inputs.per_row;
    for strip in strips {
        let tiles = &tiles[strip * per_row..(strip + 1) * per_row];
        let mut row = 0;
        while row < inputs.rows() {
            let left = inputs.rows() - row;
            let ahead = ahead(row, left, size_of_val(tiles));
            match left {
                1 => strip_rows::<T, 1>(tiles, inputs, row, ahead, output),
                2 => strip_rows::<T, 2>(tiles, inputs, row, ahead, output),
                3 => strip_rows::<T, 3>(tiles, inputs, row, ahead, output),
                4 => strip_rows::<T, 4>(tiles, inputs, row, ahead, output),
                5 => strip_rows::<T, 5>(tiles, inputs, row, ahead, output),
                6 => strip_rows::<T, 6>(tiles, inputs, row, ahead, output),
                7 => strip_rows::<T, 7>(tiles, inputs, row, ahead, output),
                _ => strip_rows::<T, INPUT_ROWS>(tiles, inputs, row, ahead, output),
            }
            row += INPUT_ROWS;
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn strip_rows<T: Tile, const N: usize>(
    tiles: &[T],
    inputs: &RoundedRows,
    row: usize,
    ahead: usize,
    output: &mut Vec<f32>,
) {
    let rows: [&[RoundedBlock]; N] = std::array::from_fn(|index| inputs.row(row + index));
    let mut sums = [_mm512_setzero_ps(); N];
    for (index, tile) in tiles.iter().enumerate() {
        let mut blocks = [&rows[0][index]; N];
        for row in 1..N {
            blocks[row] = &rows[row][index];
        }
        // SAFETY: this function is compiled for, and called with, the same features.
        unsafe { tile.accumulate(blocks, &mut sums, ahead) };
    }
    for sum in sums {
        let mut lanes = [0f32; ROWS];
        // SAFETY: sixteen floats go into an array of sixteen floats.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sum) };
        output.extend_from_slice(&lanes);
    }
}

/// How many bytes ahead of the sweep memory is asked for in time, 0 for not at all. The processor
/// sees a sweep and runs ahead of it by itself, but only as far as it sees: not far enough where a
/// line takes long, and not into the next strip while this one is read again for more input rows.
fn ahead(row: usize, left: usize, strip: usize) -> usize {
    if left > INPUT_ROWS {
        0
    } else if row > 0 {
        strip
    } else if left > 2 {
        4096
    } else {
        0
    }
}

/// Asks for what lies `ahead` bytes behind a line. The address may lie past the end.
#[inline]
fn prefetch(line: &[u8; 64], ahead: usize) {
    // SAFETY: prefetching is a hint and never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(ahead).cast()) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64], ahead: usize) -> __m512i {
    prefetch(bytes, ahead);
    // SAFETY: 64 bytes are read from an array of 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_pairs(bytes: &[u8; 2 * ROWS]) -> __m256i {
    // SAFETY: 32 bytes are read from an array of 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_sixteen(bytes: &[u8; ROWS]) -> __m128i {
    // SAFETY: 16 bytes are read from an array of 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_halves(halves: &[half::f16; ROWS]) -> __m512 {
    // SAFETY: 32 bytes are read from an array of sixteen two-byte values.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
}

/// The same four inputs for all rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn four_inputs(block: &RoundedBlock, group: usize) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(block.quants.as_chunks::<4>().0[group]))
}

impl Tile for TileQ4 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn accumulate<const N: usize>(
        &self,
        blocks: [&RoundedBlock; N],
        sums: &mut [__m512; N],
        ahead: usize,
    ) {
        let nibble = _mm512_set1_epi8(15);
        let mut scaled = [_mm512_setzero_si512(); N];
        let mut offset = [_mm512_setzero_si512(); N];
        for (quarter, weights) in self.quarters.iter().enumerate() {
            let min = _mm512_cvtepu8_epi16(load_pairs(&weights.mins));
            for index in 0..N {
                let sum = _mm512_set1_epi32(blocks[index].pair_sums[quarter]);
                offset[index] = _mm512_dpwssd_epi32(offset[index], min, sum);
            }
            for run in 0..2 {
                let mut dots = [_mm512_setzero_si512(); N];
                for group in 0..4 {
                    let quants = load(&weights.runs[run][group], ahead);
                    let low = _mm512_and_si512(quants, nibble);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(quants), nibble);
                    let first = 16 * quarter + 8 * run + 2 * group;
                    for index in 0..N {
                        let (dot, block) = (dots[index], blocks[index]);
                        let dot = _mm512_dpbusd_epi32(dot, low, four_inputs(block, first));
                        dots[index] = _mm512_dpbusd_epi32(dot, high, four_inputs(block, first + 1));
                    }
                }
                let scale = _mm512_cvtepu8_epi32(load_sixteen(&weights.scales[run]));
                for index in 0..N {
                    let dot = _mm512_mullo_epi32(dots[index], scale);
                    scaled[index] = _mm512_add_epi32(scaled[index], dot);
                }
            }
        }
        let (d, dmin) = (load_halves(&self.d), load_halves(&self.dmin));
        for index in 0..N {
            let input = _mm512_set1_ps(blocks[index].d);
            let (scaled, offset) =
                (_mm512_cvtepi32_ps(scaled[index]), _mm512_cvtepi32_ps(offset[index]));
            let value = _mm512_fmsub_ps(scaled, d, _mm512_mul_ps(offset, dmin));
            sums[index] = _mm512_fmadd_ps(value, input, sums[index]);
        }
    }
}

impl Tile for TileQ6 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn accumulate<const N: usize>(
        &self,
        blocks: [&RoundedBlock; N],
        sums: &mut [__m512; N],
        ahead: usize,
    ) {
        let nibble = _mm512_set1_epi8(15);
        let upper = _mm512_set1_epi8(0x30);
        let mut scaled = [_mm512_setzero_si512(); N];
        for run in 0..16 {
            let quarter = &self.quarters[run / 4];
            let RunQ6 { low: [first, second], high } = &quarter.runs[run % 4];
            let (first, second, high) =
                (load(first, ahead), load(second, ahead), load(high, ahead));
            let quants = [
                _mm512_or_si512(
                    _mm512_and_si512(first, nibble),
                    _mm512_and_si512(_mm512_slli_epi16::<4>(high), upper),
                ),
                _mm512_or_si512(
                    _mm512_and_si512(_mm512_srli_epi16::<4>(first), nibble),
                    _mm512_and_si512(_mm512_slli_epi16::<2>(high), upper),
                ),
                _mm512_or_si512(_mm512_and_si512(second, nibble), _mm512_and_si512(high, upper)),
                _mm512_or_si512(
                    _mm512_and_si512(_mm512_srli_epi16::<4>(second), nibble),
                    _mm512_and_si512(_mm512_srli_epi16::<2>(high), upper),
                ),
            ];
            let scale = _mm512_cvtepi8_epi32(load_sixteen(&quarter.scales[run % 4]));
            for index in 0..N {
                let block = blocks[index];
                // The quants are stored 32 too high.
                let mut dot = _mm512_set1_epi32(block.lifts[run]);
                for part in 0..4 {
                    let inputs = four_inputs(block, 4 * run + part);
                    dot = _mm512_dpbusd_epi32(dot, quants[part], inputs);
                }
                scaled[index] = _mm512_add_epi32(scaled[index], _mm512_mullo_epi32(dot, scale));
            }
        }
        let d = load_halves(&self.d);
        for index in 0..N {
            let value = _mm512_mul_ps(_mm512_cvtepi32_ps(scaled[index]), d);
            sums[index] = _mm512_fmadd_ps(value, _mm512_set1_ps(blocks[index].d), sums[index]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(floats: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen floats are read from an array of sixteen floats.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

/// Heads of `16 · N` values.
#[target_feature(enable = "avx512f")]
fn score<const N: usize>(
    query: &[f32],
    keys: &[f32],
    stride: usize,
    scale: f32,
    scores: &mut [f32],
) {
    let Some(query) = query.as_chunks().0.first_chunk::<N>() else { return };
    for (score, key) in scores.iter_mut().zip(keys.chunks(stride)) {
        let Some(key) = key.as_chunks().0.first_chunk::<N>() else { return };
        let mut sums = [_mm512_setzero_ps(); 2];
        for part in 0..N {
            let (query, key) = (load_floats(&query[part]), load_floats(&key[part]));
            sums[part % 2] = _mm512_fmadd_ps(query, key, sums[part % 2]);
        }
        *score = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) * scale;
    }
}

/// Heads of `16 · N` values.
#[target_feature(enable = "avx512f")]
fn add_weighted<const N: usize>(
    output: &mut [f32],
    weights: &[f32],
    values: &[f32],
    stride: usize,
) {
    let Some(output) = output.as_chunks_mut().0.first_chunk_mut::<N>() else { return };
    let mut sums = [_mm512_setzero_ps(); N];
    for part in 0..N {
        sums[part] = load_floats(&output[part]);
    }
    for (weight, value) in weights.iter().zip(values.chunks(stride)) {
        let Some(value) = value.as_chunks().0.first_chunk::<N>() else { break };
        let weight = _mm512_set1_ps(*weight);
        for part in 0..N {
            sums[part] = _mm512_fmadd_ps(weight, load_floats(&value[part]), sums[part]);
        }
    }
    for part in 0..N {
        // SAFETY: sixteen floats go into an array of sixteen floats.
        unsafe { _mm512_storeu_ps(output[part].as_mut_ptr(), sums[part]) };
    }
}
