//! Quantised weights rearranged for vector code: sixteen output rows side by side, so that one
//! vector holds the same four inputs of all rows and no sum has to be folded at the end. The tiles
//! are hardly larger than the GGUF's own blocks (the products are bound by memory bandwidth) and
//! replace them: weights are held once.
//!
//! Formats: `Q4_K` and `Q6_K` of ggml, superblocks of 256 values (`ggml-common.h` of the ggml
//! project describes the bit layout).

use std::io;

use half::f16;

use crate::arena::{Arena, Slab};

/// Output rows per tile.
pub(super) const ROWS: usize = 16;
/// Values per superblock.
pub(super) const BLOCK: usize = 256;

/// Of eight bytes.
const LOW_NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;

const Q4_BYTES: usize = 144;
const Q6_BYTES: usize = 210;

/// Sixteen rows of one `Q4_K` superblock: `value = d · scale · q − dmin · min`. Memory is read the
/// fastest in one sweep, so the parts lie in the order in which the products need them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct TileQ4 {
    pub quarters: [QuarterQ4; 4],
    /// Per row.
    pub d: [f16; ROWS],
    /// Per row.
    pub dmin: [f16; ROWS],
}

/// 64 values of each row.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct QuarterQ4 {
    /// Per row those of both runs of 32 values; 6 bits.
    pub mins: [u8; 2 * ROWS],
    /// Per run of 32 values, per row; 6 bits.
    pub scales: [[u8; ROWS]; 2],
    /// Per run of 32 values and 8 of them: four bytes of each row, the first four values in the
    /// low nibbles.
    pub runs: [[[u8; 4 * ROWS]; 4]; 2],
}

/// Sixteen rows of one `Q6_K` superblock: `value = d · scale · (q − 32)`. Memory is read the
/// fastest in one sweep, so the parts lie in the order in which the products need them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct TileQ6 {
    pub quarters: [QuarterQ6; 4],
    /// Per row.
    pub d: [f16; ROWS],
}

/// 64 values of each row.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct QuarterQ6 {
    /// Per run of 16 values, per row; signed, as its bits.
    pub scales: [[u8; ROWS]; 4],
    pub runs: [RunQ6; 4],
}

/// 16 values of each row.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RunQ6 {
    /// Low four bits, as [`QuarterQ4::runs`].
    pub low: [[u8; 4 * ROWS]; 2],
    /// Upper two bits: four bytes of each row; byte `j` holds values `j`, `4 + j`, `8 + j` and
    /// `12 + j` from the lowest bits up.
    pub high: [u8; 4 * ROWS],
}

/// A weight matrix: for each sixteen rows the tiles along the inputs.
#[derive(Debug)]
pub(super) enum Tiles {
    Q4(Slab<TileQ4>),
    Q6(Slab<TileQ6>),
}

impl Tiles {
    /// Appends the values of one output row of `inputs` values, to the last bit as candle restores
    /// them from the file's blocks.
    pub(super) fn append_row(&self, row: usize, inputs: usize, values: &mut Vec<f32>) {
        let (strip, row) = (row / ROWS, row % ROWS);
        let tiles = strip * (inputs / BLOCK)..(strip + 1) * (inputs / BLOCK);
        match self {
            Self::Q4(slab) => slab[tiles].iter().for_each(|tile| tile.append_row(row, values)),
            Self::Q6(slab) => slab[tiles].iter().for_each(|tile| tile.append_row(row, values)),
        }
    }
}

impl TileQ4 {
    fn append_row(&self, row: usize, values: &mut Vec<f32>) {
        let (d, dmin) = (self.d[row].to_f32(), self.dmin[row].to_f32());
        for quarter in &self.quarters {
            for (index, run) in quarter.runs.iter().enumerate() {
                let scale = d * f32::from(quarter.scales[index][row]);
                let min = dmin * f32::from(quarter.mins[2 * row + index]);
                for eight in run {
                    let bytes = eight.as_chunks::<4>().0[row];
                    let quants =
                        bytes.map(|byte| byte & 15).into_iter().chain(bytes.map(|byte| byte >> 4));
                    values.extend(quants.map(|quant| scale * f32::from(quant) - min));
                }
            }
        }
    }
}

impl TileQ6 {
    fn append_row(&self, row: usize, values: &mut Vec<f32>) {
        let d = self.d[row].to_f32();
        for quarter in &self.quarters {
            for (run, scales) in quarter.runs.iter().zip(&quarter.scales) {
                let scale = d * f32::from(scales[row].cast_signed());
                let high = run.high.as_chunks::<4>().0[row];
                for part in 0..4 {
                    let low = run.low[part / 2].as_chunks::<4>().0[row];
                    for (low, high) in low.into_iter().zip(high) {
                        let low = low >> (part % 2 * 4) & 15;
                        let high = high >> (2 * part) & 3;
                        values.push(scale * f32::from((low | high << 4).cast_signed() - 32));
                    }
                }
            }
        }
    }
}

/// Rearranges `Q4_K` rows of `inputs` values each. `None` when the shape has no whole tiles.
pub(super) fn pack_q4(arena: &mut Arena, bytes: &[u8], inputs: usize) -> io::Result<Option<Tiles>> {
    Ok(pack(arena, bytes, inputs, Q4_BYTES, q4_tile)?.map(Tiles::Q4))
}

/// Rearranges `Q6_K` rows of `inputs` values each. `None` when the shape has no whole tiles.
pub(super) fn pack_q6(arena: &mut Arena, bytes: &[u8], inputs: usize) -> io::Result<Option<Tiles>> {
    Ok(pack(arena, bytes, inputs, Q6_BYTES, q6_tile)?.map(Tiles::Q6))
}

fn pack<T: Copy>(
    arena: &mut Arena,
    bytes: &[u8],
    inputs: usize,
    block_bytes: usize,
    tile: impl Fn([&[u8]; ROWS]) -> T,
) -> io::Result<Option<Slab<T>>> {
    if inputs == 0 || !inputs.is_multiple_of(BLOCK) {
        return Ok(None);
    }
    let per_row = inputs / BLOCK;
    let row_bytes = per_row * block_bytes;
    if !bytes.len().is_multiple_of(row_bytes * ROWS) {
        return Ok(None);
    }
    let tiles = (0..bytes.len() / (ROWS * block_bytes)).map(|index| {
        let (strip, column) = (index / per_row, index % per_row);
        tile(std::array::from_fn(|row| {
            let start = (strip * ROWS + row) * row_bytes + column * block_bytes;
            &bytes[start..start + block_bytes]
        }))
    });
    arena.store(tiles).map(Some)
}

fn half_at(block: &[u8], offset: usize) -> f16 {
    f16::from_le_bytes([block[offset], block[offset + 1]])
}

fn q4_tile(rows: [&[u8]; ROWS]) -> TileQ4 {
    let empty =
        QuarterQ4 { mins: [0; 2 * ROWS], scales: [[0; ROWS]; 2], runs: [[[0; 4 * ROWS]; 4]; 2] };
    let mut tile = TileQ4 {
        quarters: [empty; 4],
        d: rows.map(|block| half_at(block, 0)),
        dmin: rows.map(|block| half_at(block, 2)),
    };
    for (row, block) in rows.into_iter().enumerate() {
        let packed = &block[4..16];
        for run in 0..8 {
            let (scale, min) = if run < 4 {
                (packed[run] & 63, packed[run + 4] & 63)
            } else {
                (
                    (packed[run + 4] & 15) | ((packed[run - 4] >> 6) << 4),
                    (packed[run + 4] >> 4) | ((packed[run] >> 6) << 4),
                )
            };
            let quarter = &mut tile.quarters[run / 2];
            quarter.scales[run % 2][row] = scale;
            quarter.mins[2 * row + run % 2] = min;
        }
        // Each 32 bytes hold the 32 values of one run in their low nibbles and those of the next in
        // the high ones.
        let bytes = block[16..].as_chunks::<32>().0;
        for (quarter, bytes) in tile.quarters.iter_mut().zip(bytes) {
            let (first, second) = quarter.runs.split_at_mut(1);
            let runs = first[0].iter_mut().zip(&mut second[0]);
            for ((first, second), eight) in runs.zip(bytes.as_chunks::<8>().0) {
                let eight = u64::from_le_bytes(*eight);
                first.as_chunks_mut::<4>().0[row] = paired(eight & LOW_NIBBLES);
                second.as_chunks_mut::<4>().0[row] = paired(eight >> 4 & LOW_NIBBLES);
            }
        }
    }
    tile
}

/// Eight nibbles, a byte each, as four bytes: the first four in the low halves.
fn paired(nibbles: u64) -> [u8; 4] {
    ((nibbles | nibbles >> 28) as u32).to_le_bytes()
}

fn q6_tile(rows: [&[u8]; ROWS]) -> TileQ6 {
    let empty = RunQ6 { low: [[0; 4 * ROWS]; 2], high: [0; 4 * ROWS] };
    let empty = QuarterQ6 { scales: [[0; ROWS]; 4], runs: [empty; 4] };
    let mut tile = TileQ6 { quarters: [empty; 4], d: rows.map(|block| half_at(block, 208)) };
    for (row, block) in rows.into_iter().enumerate() {
        // Halves of 128 values: 64 bytes of low nibbles and 32 bytes of upper bit pairs each.
        let (low, high) = block[..192].split_at(128);
        for run in 0..16 {
            let (half, within) = (run / 8, run % 8);
            let quarter = &mut tile.quarters[run / 4];
            quarter.scales[run % 4][row] = block[192 + run];
            let packed = &mut quarter.runs[run % 4];
            let nibbles = low[64 * half + within % 4 * 16..][..16].as_chunks::<8>().0;
            for (bytes, eight) in packed.low.iter_mut().zip(nibbles) {
                let eight = u64::from_le_bytes(*eight) >> (within / 4 * 4);
                bytes.as_chunks_mut::<4>().0[row] = paired(eight & LOW_NIBBLES);
            }
            let pairs = high[32 * half + within % 2 * 16..][..16].as_chunks::<4>().0;
            let pair = |four: &[u8; 4]| u32::from_le_bytes(*four) >> (within / 2 * 2) & 0x0303_0303;
            let high = pairs.iter().zip([0, 2, 4, 6]).map(|(four, at)| pair(four) << at);
            packed.high.as_chunks_mut::<4>().0[row] = high.sum::<u32>().to_le_bytes();
        }
    }
    tile
}

/// Input rows rounded to eight bits per superblock, with the sums that the offsets of the weight
/// formats need.
#[derive(Debug)]
pub(super) struct RoundedRows {
    pub blocks: Vec<RoundedBlock>,
    /// Superblocks per row.
    pub per_row: usize,
}

/// 256 inputs: `value = d · q`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct RoundedBlock {
    /// Signed, as their bits: the kernels load them four at a time.
    pub quants: [u8; BLOCK],
    /// `-32` times the sum of 16 quants each: what quants stored 32 too high add.
    pub lifts: [i32; BLOCK / 16],
    /// Sums of 16 quants each, as a pairwise product wants them: two signed halves, the first run
    /// below.
    pub sums: [i32; BLOCK / 32],
    /// Sums of 32 quants each, likewise.
    pub pair_sums: [i32; BLOCK / 64],
    pub d: f32,
}

impl RoundedRows {
    /// Rounds rows of `inputs` values, a multiple of 256.
    pub(super) fn new(rows: &[f32], inputs: usize) -> Self {
        let blocks = rows.as_chunks::<BLOCK>().0.iter().map(RoundedBlock::new).collect();
        Self { blocks, per_row: inputs / BLOCK }
    }

    /// Rows held.
    pub(super) fn rows(&self) -> usize {
        self.blocks.len() / self.per_row
    }

    /// Superblocks of one row.
    pub(super) fn row(&self, row: usize) -> &[RoundedBlock] {
        &self.blocks[row * self.per_row..(row + 1) * self.per_row]
    }
}

impl RoundedBlock {
    fn new(values: &[f32; BLOCK]) -> Self {
        let mut lanes = [0f32; 16];
        for chunk in values.as_chunks::<16>().0 {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(value.abs());
            }
        }
        let largest = lanes.into_iter().fold(0f32, f32::max);
        let mut block = Self {
            quants: [0; BLOCK],
            lifts: [0; BLOCK / 16],
            sums: [0; BLOCK / 32],
            pair_sums: [0; BLOCK / 64],
            d: largest / 127.0,
        };
        if largest > 0.0 && largest.is_finite() {
            let scale = 127.0 / largest;
            for (quant, value) in block.quants.iter_mut().zip(values) {
                *quant = ((value * scale).round_ties_even() as i8).cast_unsigned();
            }
        }
        let mut sums = [0i16; BLOCK / 16];
        for (total, run) in sums.iter_mut().zip(block.quants.as_chunks::<16>().0) {
            *total = run.iter().map(|quant| i16::from(quant.cast_signed())).sum();
        }
        for (lift, sum) in block.lifts.iter_mut().zip(sums) {
            *lift = -32 * i32::from(sum);
        }
        for (pair, &[first, second]) in block.sums.iter_mut().zip(sums.as_chunks().0) {
            *pair = halves(first, second);
        }
        for (pair, &[a, b, c, d]) in block.pair_sums.iter_mut().zip(sums.as_chunks().0) {
            *pair = halves(a + b, c + d);
        }
        block
    }
}

/// Two signed halves of one word, the first below.
fn halves(first: i16, second: i16) -> i32 {
    i32::from(first) & 0xffff | i32::from(second) << 16
}
