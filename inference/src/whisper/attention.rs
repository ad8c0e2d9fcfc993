//! Attention of all positions of a window to one another.
//!
//! A few queries at a time meet all keys, so that their scores stay in the cache between the two
//! products (as in Rabe and Staats, "Self-attention Does Not Need O(n²) Memory", 2021). The scores
//! lie key by key with the queries side by side: the softmax then runs along whole vectors, and
//! either product reads both of its operands from front to back.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::ops::exp;

/// Keys that lie side by side, and queries whose outputs are summed at once: as many as fit the
/// registers of processors with long vectors. Those with shorter ones take half.
const ROWS: usize = 8;
const HALF: usize = ROWS / 2;
/// Values of the longest vector.
const LONGEST: usize = 16;

/// What the heads of a layer need room for, one after the other.
#[derive(Default)]
pub struct Room {
    /// Column by column, the queries of a block side by side.
    queries: Vec<f32>,
    /// Blocks of [`ROWS`], each column by column.
    keys: Vec<f32>,
    /// Position by position.
    values: Vec<f32>,
    /// Key by key, the queries of a block side by side.
    scores: Vec<f32>,
}

/// Attends within `qkv` of (positions, 3 × width): scaled queries, keys and values, each `heads`
/// side by side. Writes `attended` of (positions, width).
pub fn attend(qkv: &[f32], width: usize, heads: usize, room: &mut Room, attended: &mut [f32]) {
    SelfAttention { qkv, width, heads, room, attended }.dispatch();
}

struct SelfAttention<'a> {
    qkv: &'a [f32],
    width: usize,
    heads: usize,
    room: &'a mut Room,
    attended: &'a mut [f32],
}

impl SimdOp for SelfAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { qkv, width, heads, room, attended } = self;
        let depth = width / heads;
        let side = 2 * isa.f32().len();
        let positions = qkv.len() / (3 * width);
        room.queries.resize(depth * side, 0.0);
        room.keys.resize(positions.next_multiple_of(ROWS) * depth, 0.0);
        room.values.resize(positions * depth.next_multiple_of(side), 0.0);
        room.scores.resize(positions.next_multiple_of(ROWS) * side, 0.0);
        for head in 0..heads {
            let part = |position: usize, kind: usize| {
                let start = position * 3 * width + kind * width + head * depth;
                &qkv[start..start + depth]
            };
            for (index, block) in room.keys.chunks_exact_mut(ROWS * depth).enumerate() {
                let present = (positions - index * ROWS).min(ROWS);
                for row in 0..present {
                    transpose(part(index * ROWS + row, 1), row, ROWS, block);
                }
            }
            let values = room.values.chunks_exact_mut(depth.next_multiple_of(side));
            for (position, value) in values.enumerate() {
                value[..depth].copy_from_slice(part(position, 2));
            }
            for first in (0..positions).step_by(side) {
                let present = (positions - first).min(side);
                for row in 0..present {
                    transpose(part(first + row, 0), row, side, &mut room.queries);
                }
                score(isa, &room.queries, &room.keys, depth, &mut room.scores);
                let scores = &mut room.scores[..positions * side];
                let totals = exponentials(isa, scores);
                let mut put = |row: usize, column: usize, means: &[f32]| {
                    if row < present {
                        let start = (first + row) * width + head * depth;
                        let columns = start + column..start + (column + means.len()).min(depth);
                        attended[columns.clone()].copy_from_slice(&means[..columns.len()]);
                    }
                };
                let values = (&*room.values, depth.next_multiple_of(side));
                if isa.f32().len() == LONGEST {
                    for row in (0..present).step_by(ROWS) {
                        weigh::<I, ROWS>(isa, (scores, &totals, row), values, &mut put);
                    }
                } else {
                    for row in (0..present).step_by(HALF) {
                        weigh::<I, HALF>(isa, (scores, &totals, row), values, &mut put);
                    }
                }
            }
        }
    }
}

/// Writes `row` as column `index` of a block of `side` columns.
#[inline(always)]
fn transpose(row: &[f32], index: usize, side: usize, block: &mut [f32]) {
    for column in 0..row.len() {
        block[column * side + index] = row[column];
    }
}

/// Products of `R` columns of `a` from `first_a` on with two vectors of columns of `b` from
/// `first_b` on; `a` and `b` are stored row by row.
#[inline(always)]
fn product<I: Isa, const R: usize>(
    isa: I,
    (a, side_a, first_a): (&[f32], usize, usize),
    (b, side_b, first_b): (&[f32], usize, usize),
) -> [[I::F32; 2]; R] {
    let ops = isa.f32();
    let mut sums = [[ops.zero(); 2]; R];
    for index in 0..a.len() / side_a {
        let a = &a[index * side_a + first_a..][..R];
        let b = &b[index * side_b + first_b..][..2 * ops.len()];
        let (low, high) = (ops.load(b), ops.load(&b[ops.len()..]));
        for row in 0..R {
            let value = ops.splat(a[row]);
            sums[row][0] = ops.mul_add(value, low, sums[row][0]);
            sums[row][1] = ops.mul_add(value, high, sums[row][1]);
        }
    }
    sums
}

/// Scores of a block of queries for all keys.
#[inline(always)]
fn score<I: Isa>(isa: I, queries: &[f32], keys: &[f32], depth: usize, scores: &mut [f32]) {
    let side = 2 * isa.f32().len();
    for (keys, scores) in keys.chunks_exact(ROWS * depth).zip(scores.chunks_exact_mut(ROWS * side))
    {
        if isa.f32().len() == LONGEST {
            let sums = product::<I, ROWS>(isa, (keys, ROWS, 0), (queries, side, 0));
            store(isa, sums, scores);
        } else {
            for first in [0, HALF] {
                let sums = product::<I, HALF>(isa, (keys, ROWS, first), (queries, side, 0));
                store(isa, sums, &mut scores[first * side..]);
            }
        }
    }
}

#[inline(always)]
fn store<I: Isa, const R: usize>(isa: I, sums: [[I::F32; 2]; R], out: &mut [f32]) {
    let ops = isa.f32();
    for row in 0..R {
        let out = &mut out[2 * row * ops.len()..][..2 * ops.len()];
        ops.store(sums[row][0], out);
        ops.store(sums[row][1], &mut out[ops.len()..]);
    }
}

/// Replaces each score by `e` to the power of what it lacks to the query's highest; returns each
/// query's sum of them.
#[inline(always)]
fn exponentials<I: Isa>(isa: I, scores: &mut [f32]) -> [f32; 2 * LONGEST] {
    let side = 2 * isa.f32().len();
    let mut highest = [f32::NEG_INFINITY; 2 * LONGEST];
    for key in 0..scores.len() / side {
        let scores = &scores[key * side..][..side];
        for lane in 0..side {
            highest[lane] = if scores[lane] > highest[lane] { scores[lane] } else { highest[lane] };
        }
    }
    let mut totals = [0.0; 2 * LONGEST];
    for key in 0..scores.len() / side {
        let scores = &mut scores[key * side..][..side];
        for lane in 0..side {
            scores[lane] = exp(scores[lane] - highest[lane]);
            totals[lane] += scores[lane];
        }
    }
    totals
}

/// Products of `R` queries' weights with the values, from query `first` on, divided by their totals.
#[inline(always)]
fn weigh<I: Isa, const R: usize>(
    isa: I,
    (weights, totals, first): (&[f32], &[f32; 2 * LONGEST], usize),
    (values, side): (&[f32], usize),
    mut put: impl FnMut(usize, usize, &[f32]),
) {
    let ops = isa.f32();
    let mut means = [0.0; 2 * LONGEST];
    for column in (0..side).step_by(2 * ops.len()) {
        let a = (weights, 2 * ops.len(), first);
        let sums = product::<I, R>(isa, a, (values, side, column));
        for row in 0..R {
            let scale = ops.splat(1.0 / totals[first + row]);
            ops.store(ops.mul(sums[row][0], scale), &mut means);
            ops.store(ops.mul(sums[row][1], scale), &mut means[ops.len()..]);
            put(first + row, column, &means[..2 * ops.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_is_what_the_formula_gives_for_any_number_of_positions_and_widths() {
        for (positions, heads, depth) in
            [(1, 1, 4), (7, 2, 8), (33, 3, 64), (50, 2, 20), (96, 1, 80)]
        {
            let width = heads * depth;
            let qkv: Vec<f32> = (0..positions * 3 * width)
                .map(|index| ((index * 7919 + 13) % 1000) as f32 / 500.0 - 1.0)
                .collect();
            let mut attended = vec![0.0; positions * width];
            attend(&qkv, width, heads, &mut Room::default(), &mut attended);
            let at = |position: usize, kind: usize, column: usize| {
                f64::from(qkv[(position * 3 + kind) * width + column])
            };
            for (index, &ours) in attended.iter().enumerate() {
                let (position, column) = (index / width, index % width);
                let head = column / depth * depth..(column / depth + 1) * depth;
                let (mut total, mut expected) = (0.0, 0.0);
                for key in 0..positions {
                    let score: f64 = head.clone().map(|c| at(position, 0, c) * at(key, 1, c)).sum();
                    total += score.exp();
                    expected += score.exp() * at(key, 2, column);
                }
                let expected = expected / total;
                let error = (f64::from(ours) - expected).abs();
                assert!(error < 1e-5, "{positions} × {heads} × {depth}: {ours}, not {expected}");
            }
        }
    }
}
