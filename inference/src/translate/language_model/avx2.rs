//! Products of [`tiles`](super::tiles) and attention's sums on AVX2.
//!
//! `unsafe` is allowed here because vector loads take raw pointers (given here from references to
//! arrays that hold what is loaded), and functions compiled for AVX2 may only be called where the
//! processor has it, which [`Avx2`] proves.
#![allow(unsafe_code)]
// Indices over the const number of rows are what unrolls; iterators over arrays are calls.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::math;
use super::tiles::{ROWS, RoundedBlock, RoundedRows, RunQ6, TileQ4, TileQ6, Tiles};

/// Input rows that one pass over a tile serves: as many as accumulators fit the registers.
const INPUT_ROWS: usize = 4;

/// Proof that this processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
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
                64 => score::<8>(query, keys, stride, scale, scores),
                128 => score::<16>(query, keys, stride, scale, scores),
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
        let (blocks, rest) = output.as_chunks_mut::<{ 8 * HELD }>();
        if !rest.is_empty() {
            return math::add_weighted(output, weights, values, stride);
        }
        for (index, block) in blocks.iter_mut().enumerate() {
            let values = values.get(8 * HELD * index..).unwrap_or_default();
            // SAFETY: `self` exists only where `detect` found the features.
            unsafe { add_weighted(block, weights, values, stride) };
        }
    }
}

/// A tile format.
trait Tile: Sized {
    /// Adds the products of eight of this tile's rows (the first eight, or with `HALF` 1 the
    /// others) with `N` blocks to `N` accumulators.
    ///
    /// # Safety
    /// The processor has AVX2, FMA and F16C.
    unsafe fn accumulate<const HALF: usize, const N: usize>(
        &self,
        blocks: [&RoundedBlock; N],
        sums: &mut [__m256; N],
        ahead: usize,
    );
}

#[target_feature(enable = "avx2,fma,f16c")]
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
                _ => strip_rows::<T, INPUT_ROWS>(tiles, inputs, row, ahead, output),
            }
            row += INPUT_ROWS;
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn strip_rows<T: Tile, const N: usize>(
    tiles: &[T],
    inputs: &RoundedRows,
    row: usize,
    ahead: usize,
    output: &mut Vec<f32>,
) {
    let rows: [&[RoundedBlock]; N] = std::array::from_fn(|index| inputs.row(row + index));
    let mut sums = [[_mm256_setzero_ps(); N]; 2];
    for (index, tile) in tiles.iter().enumerate() {
        let mut blocks = [&rows[0][index]; N];
        for row in 1..N {
            blocks[row] = &rows[row][index];
        }
        // SAFETY: this function is compiled for, and called with, the same features.
        unsafe {
            tile.accumulate::<0, N>(blocks, &mut sums[0], ahead);
            tile.accumulate::<1, N>(blocks, &mut sums[1], ahead);
        }
    }
    for row in 0..N {
        for half in sums {
            let mut lanes = [0f32; ROWS / 2];
            // SAFETY: eight floats go into an array of eight floats.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), half[row]) };
            output.extend_from_slice(&lanes);
        }
    }
}

/// How many bytes ahead of the sweep memory is asked for in time, 0 for not at all. The processor
/// sees a sweep and runs ahead of it by itself, but not into the next strip while this one is read
/// again for more input rows.
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
#[target_feature(enable = "avx2")]
fn load<const HALF: usize>(bytes: &[u8; 64], ahead: usize) -> __m256i {
    if HALF == 0 {
        prefetch(bytes, ahead);
    }
    // SAFETY: 32 bytes are read from one half of 64 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().add(32 * HALF).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_sixteen<const HALF: usize>(bytes: &[u8; 2 * ROWS]) -> __m128i {
    // SAFETY: 16 bytes are read from one half of 32 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().add(ROWS * HALF).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_eight<const HALF: usize>(bytes: &[u8; ROWS]) -> __m128i {
    // SAFETY: 8 bytes are read from one half of 16 bytes.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().add(ROWS / 2 * HALF).cast()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_halves<const HALF: usize>(halves: &[half::f16; ROWS]) -> __m256 {
    // SAFETY: 16 bytes are read from one half of an array of sixteen two-byte values.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().add(ROWS / 2 * HALF).cast()) })
}

/// The lower half of each word of `first`, below that of `second`.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(first: __m256i, second: __m256i) -> __m256i {
    _mm256_blend_epi16::<0b1010_1010>(first, _mm256_slli_epi32::<16>(second))
}

/// The same four inputs for all eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn four_inputs(block: &RoundedBlock, group: usize) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes(block.quants.as_chunks::<4>().0[group]))
}

impl Tile for TileQ4 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn accumulate<const HALF: usize, const N: usize>(
        &self,
        blocks: [&RoundedBlock; N],
        sums: &mut [__m256; N],
        ahead: usize,
    ) {
        let nibble = _mm256_set1_epi8(15);
        let mut scaled = [_mm256_setzero_si256(); N];
        let mut offset = [_mm256_setzero_si256(); N];
        for (quarter, weights) in self.quarters.iter().enumerate() {
            for run in 0..2 {
                // Eight products of at most 15 · 127 · 2 stay below 2¹⁵.
                let mut pairs = [_mm256_setzero_si256(); N];
                for group in 0..4 {
                    let quants = load::<HALF>(&weights.runs[run][group], ahead);
                    let low = _mm256_and_si256(quants, nibble);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(quants), nibble);
                    let first = 16 * quarter + 8 * run + 2 * group;
                    for index in 0..N {
                        let block = blocks[index];
                        let sum = _mm256_add_epi16(
                            _mm256_maddubs_epi16(low, four_inputs(block, first)),
                            _mm256_maddubs_epi16(high, four_inputs(block, first + 1)),
                        );
                        pairs[index] = _mm256_add_epi16(pairs[index], sum);
                    }
                }
                let scale = _mm256_cvtepu8_epi32(load_eight::<HALF>(&weights.scales[run]));
                let scale = _mm256_or_si256(scale, _mm256_slli_epi32::<16>(scale));
                for index in 0..N {
                    let sum = _mm256_madd_epi16(pairs[index], scale);
                    scaled[index] = _mm256_add_epi32(scaled[index], sum);
                }
            }
            let min = _mm256_cvtepu8_epi16(load_sixteen::<HALF>(&weights.mins));
            for index in 0..N {
                let sum = _mm256_set1_epi32(blocks[index].pair_sums[quarter]);
                offset[index] = _mm256_add_epi32(offset[index], _mm256_madd_epi16(min, sum));
            }
        }
        let (d, dmin) = (load_halves::<HALF>(&self.d), load_halves::<HALF>(&self.dmin));
        for index in 0..N {
            let input = _mm256_set1_ps(blocks[index].d);
            let (scaled, offset) =
                (_mm256_cvtepi32_ps(scaled[index]), _mm256_cvtepi32_ps(offset[index]));
            let value = _mm256_fmsub_ps(scaled, d, _mm256_mul_ps(offset, dmin));
            sums[index] = _mm256_fmadd_ps(value, input, sums[index]);
        }
    }
}

impl Tile for TileQ6 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn accumulate<const HALF: usize, const N: usize>(
        &self,
        blocks: [&RoundedBlock; N],
        sums: &mut [__m256; N],
        ahead: usize,
    ) {
        let nibble = _mm256_set1_epi8(15);
        let upper = _mm256_set1_epi8(0x30);
        let mut scaled = [_mm256_setzero_si256(); N];
        for run in 0..16 {
            let quarter = &self.quarters[run / 4];
            let RunQ6 { low: [first, second], high } = &quarter.runs[run % 4];
            let (first, second) = (load::<HALF>(first, ahead), load::<HALF>(second, ahead));
            let high = load::<HALF>(high, ahead);
            let quants = [
                _mm256_or_si256(
                    _mm256_and_si256(first, nibble),
                    _mm256_and_si256(_mm256_slli_epi16::<4>(high), upper),
                ),
                _mm256_or_si256(
                    _mm256_and_si256(_mm256_srli_epi16::<4>(first), nibble),
                    _mm256_and_si256(_mm256_slli_epi16::<2>(high), upper),
                ),
                _mm256_or_si256(_mm256_and_si256(second, nibble), _mm256_and_si256(high, upper)),
                _mm256_or_si256(
                    _mm256_and_si256(_mm256_srli_epi16::<4>(second), nibble),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(high), upper),
                ),
            ];
            let scale = _mm256_cvtepi8_epi32(load_eight::<HALF>(&quarter.scales[run % 4]));
            let scale_pairs = halves(scale, scale);
            for index in 0..N {
                // Two products of at most 63 · 127 · 2 stay below 2¹⁵.
                let block = blocks[index];
                let first = _mm256_add_epi16(
                    _mm256_maddubs_epi16(quants[0], four_inputs(block, 4 * run)),
                    _mm256_maddubs_epi16(quants[1], four_inputs(block, 4 * run + 1)),
                );
                let second = _mm256_add_epi16(
                    _mm256_maddubs_epi16(quants[2], four_inputs(block, 4 * run + 2)),
                    _mm256_maddubs_epi16(quants[3], four_inputs(block, 4 * run + 3)),
                );
                let sum = _mm256_add_epi32(
                    _mm256_madd_epi16(first, scale_pairs),
                    _mm256_madd_epi16(second, scale_pairs),
                );
                scaled[index] = _mm256_add_epi32(scaled[index], sum);
            }
        }
        let mut offset = [_mm256_setzero_si256(); N];
        for pair in 0..8 {
            let scales = &self.quarters[pair / 2].scales;
            let first = _mm256_cvtepi8_epi32(load_eight::<HALF>(&scales[pair % 2 * 2]));
            let second = _mm256_cvtepi8_epi32(load_eight::<HALF>(&scales[pair % 2 * 2 + 1]));
            let scales = halves(first, second);
            for index in 0..N {
                let sum = _mm256_set1_epi32(blocks[index].sums[pair]);
                offset[index] = _mm256_add_epi32(offset[index], _mm256_madd_epi16(scales, sum));
            }
        }
        let d = load_halves::<HALF>(&self.d);
        for index in 0..N {
            // The quants are stored 32 too high.
            let value = _mm256_sub_epi32(scaled[index], _mm256_slli_epi32::<5>(offset[index]));
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(value), d);
            sums[index] = _mm256_fmadd_ps(value, _mm256_set1_ps(blocks[index].d), sums[index]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_floats(floats: &[f32; 8]) -> __m256 {
    // SAFETY: eight floats are read from an array of eight floats.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

/// Heads of `8 · N` values.
#[target_feature(enable = "avx2,fma")]
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
        let mut sums = [_mm256_setzero_ps(); 4];
        for part in 0..N {
            let (query, key) = (load_floats(&query[part]), load_floats(&key[part]));
            sums[part % 4] = _mm256_fmadd_ps(query, key, sums[part % 4]);
        }
        let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
        let sum = _mm_add_ss(sum, _mm_movehdup_ps(sum));
        *score = _mm_cvtss_f32(sum) * scale;
    }
}

/// Vectors of a head that stay in registers while positions go by.
const HELD: usize = 8;

#[target_feature(enable = "avx2,fma")]
fn add_weighted(output: &mut [f32; 8 * HELD], weights: &[f32], values: &[f32], stride: usize) {
    let output = output.as_chunks_mut().0;
    let mut sums = [_mm256_setzero_ps(); HELD];
    for part in 0..HELD {
        sums[part] = load_floats(&output[part]);
    }
    for (weight, value) in weights.iter().zip(values.chunks(stride)) {
        let Some(value) = value.as_chunks().0.first_chunk::<HELD>() else { break };
        let weight = _mm256_set1_ps(*weight);
        for part in 0..HELD {
            sums[part] = _mm256_fmadd_ps(weight, load_floats(&value[part]), sums[part]);
        }
    }
    for part in 0..HELD {
        // SAFETY: eight floats go into an array of eight floats.
        unsafe { _mm256_storeu_ps(output[part].as_mut_ptr(), sums[part]) };
    }
}
