//! Quantised weights rearranged for vector code: eight output rows side by side, so that one vector
//! holds the same four inputs of eight rows and no sum has to be folded at the end. The tiles are as
//! small as the GGUF's own blocks (the products are bound by memory bandwidth) and replace them:
//! weights are held once.
//!
//! Formats: `Q4_K` and `Q6_K` of ggml, superblocks of 256 values (`ggml-common.h` of the ggml
//! project describes the bit layout).

use half::f16;

/// Output rows per tile.
pub(super) const ROWS: usize = 8;
/// Values per superblock.
pub(super) const BLOCK: usize = 256;

const Q4_BYTES: usize = 144;
const Q6_BYTES: usize = 210;

/// Eight rows of one `Q4_K` superblock: `value = d · scale · q − dmin · min`.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct TileQ4 {
    /// Per row.
    pub d: [f16; ROWS],
    /// Per row.
    pub dmin: [f16; ROWS],
    /// Per run of 32 values, per row; 6 bits.
    pub scales: [[u8; ROWS]; 8],
    /// Per run of 32 values, per row; 6 bits.
    pub mins: [[u8; ROWS]; 8],
    /// Per run of 8 values: four bytes of each row, the first four values in the low nibbles.
    pub quants: [[u8; 4 * ROWS]; BLOCK / 8],
}

/// Eight rows of one `Q6_K` superblock: `value = d · scale · (q − 32)`.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct TileQ6 {
    /// Per row.
    pub d: [f16; ROWS],
    /// Per run of 16 values, per row; signed, as its bits.
    pub scales: [[u8; ROWS]; 16],
    /// Low four bits, as [`TileQ4::quants`].
    pub low: [[u8; 4 * ROWS]; BLOCK / 8],
    /// Upper two bits per run of 16 values: four bytes of each row; byte `j` holds values `j`,
    /// `4 + j`, `8 + j` and `12 + j` from the lowest bits up.
    pub high: [[u8; 4 * ROWS]; BLOCK / 16],
}

/// A weight matrix: for each eight rows the tiles along the inputs.
#[derive(Debug)]
pub(super) enum Tiles {
    Q4(Vec<TileQ4>),
    Q6(Vec<TileQ6>),
}

/// Rearranges `Q4_K` rows of `inputs` values each. `None` when the shape has no whole tiles.
pub(super) fn pack_q4(bytes: &[u8], inputs: usize) -> Option<Tiles> {
    pack(bytes, inputs, Q4_BYTES, q4_tile).map(Tiles::Q4)
}

/// Rearranges `Q6_K` rows of `inputs` values each. `None` when the shape has no whole tiles.
pub(super) fn pack_q6(bytes: &[u8], inputs: usize) -> Option<Tiles> {
    pack(bytes, inputs, Q6_BYTES, q6_tile).map(Tiles::Q6)
}

fn pack<T>(
    bytes: &[u8],
    inputs: usize,
    block_bytes: usize,
    tile: impl Fn([&[u8]; ROWS]) -> T,
) -> Option<Vec<T>> {
    if inputs == 0 || !inputs.is_multiple_of(BLOCK) {
        return None;
    }
    let row_bytes = inputs / BLOCK * block_bytes;
    if !bytes.len().is_multiple_of(row_bytes * ROWS) {
        return None;
    }
    let mut tiles = Vec::with_capacity(bytes.len() / (ROWS * block_bytes));
    for rows in bytes.chunks_exact(row_bytes * ROWS) {
        for start in (0..row_bytes).step_by(block_bytes) {
            let block = |row: usize| {
                let start = row * row_bytes + start;
                &rows[start..start + block_bytes]
            };
            tiles.push(tile(std::array::from_fn(block)));
        }
    }
    Some(tiles)
}

fn half_at(block: &[u8], offset: usize) -> f16 {
    f16::from_le_bytes([block[offset], block[offset + 1]])
}

fn q4_tile(rows: [&[u8]; ROWS]) -> TileQ4 {
    let mut tile = TileQ4 {
        d: rows.map(|block| half_at(block, 0)),
        dmin: rows.map(|block| half_at(block, 2)),
        scales: [[0; ROWS]; 8],
        mins: [[0; ROWS]; 8],
        quants: [[0; 4 * ROWS]; BLOCK / 8],
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
            tile.scales[run][row] = scale;
            tile.mins[run][row] = min;
        }
        // Each 32 bytes hold 32 values in their low nibbles and the next 32 in the high ones.
        let value = |index: usize| {
            let byte = block[16 + index / 64 * 32 + index % 32];
            if index % 64 < 32 { byte & 15 } else { byte >> 4 }
        };
        set_nibbles(&mut tile.quants, row, value);
    }
    tile
}

fn q6_tile(rows: [&[u8]; ROWS]) -> TileQ6 {
    let mut tile = TileQ6 {
        d: rows.map(|block| half_at(block, 208)),
        scales: [[0; ROWS]; 16],
        low: [[0; 4 * ROWS]; BLOCK / 8],
        high: [[0; 4 * ROWS]; BLOCK / 16],
    };
    for (row, block) in rows.into_iter().enumerate() {
        for (run, scales) in tile.scales.iter_mut().enumerate() {
            scales[row] = block[192 + run];
        }
        // Halves of 128 values: 64 bytes of low nibbles and 32 bytes of upper bit pairs each.
        let low = |index: usize| {
            let (half, within) = (index / 128, index % 128);
            let byte = block[half * 64 + within % 64];
            if within < 64 { byte & 15 } else { byte >> 4 }
        };
        let high = |index: usize| {
            let (half, within) = (index / 128, index % 128);
            (block[128 + half * 32 + within % 32] >> (within / 32 * 2)) & 3
        };
        set_nibbles(&mut tile.low, row, low);
        for (run, bytes) in tile.high.iter_mut().enumerate() {
            for lane in 0..4 {
                bytes[row * 4 + lane] = (0..4)
                    .map(|part| high(run * 16 + part * 4 + lane) << (2 * part))
                    .fold(0, |byte, bits| byte | bits);
            }
        }
    }
    tile
}

fn set_nibbles(groups: &mut [[u8; 4 * ROWS]; BLOCK / 8], row: usize, value: impl Fn(usize) -> u8) {
    for (group, bytes) in groups.iter_mut().enumerate() {
        for lane in 0..4 {
            let first = group * 8 + lane;
            bytes[row * 4 + lane] = value(first) | (value(first + 4) << 4);
        }
    }
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
#[repr(align(32))]
pub(super) struct RoundedBlock {
    /// Signed, as their bits: the kernels load them four at a time.
    pub quants: [u8; BLOCK],
    /// Sums of 16 quants each: 16 bits, signed, the upper half zero, as a pairwise product wants.
    pub sums: [u32; BLOCK / 16],
    /// Sums of 32 quants each, likewise.
    pub pair_sums: [u32; BLOCK / 32],
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
            sums: [0; BLOCK / 16],
            pair_sums: [0; BLOCK / 32],
            d: largest / 127.0,
        };
        if largest > 0.0 && largest.is_finite() {
            let scale = 127.0 / largest;
            for (quant, value) in block.quants.iter_mut().zip(values) {
                *quant = ((value * scale).round_ties_even() as i8).cast_unsigned();
            }
        }
        let sum = |quants: &[u8]| -> u32 {
            let sum: i16 = quants.iter().map(|quant| i16::from(quant.cast_signed())).sum();
            u32::from(sum.cast_unsigned())
        };
        for (total, run) in block.sums.iter_mut().zip(block.quants.as_chunks::<16>().0) {
            *total = sum(run);
        }
        for (total, run) in block.pair_sums.iter_mut().zip(block.quants.as_chunks::<32>().0) {
            *total = sum(run);
        }
        block
    }
}
