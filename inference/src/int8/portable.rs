//! Sums of products in plain code, for processors without a kernel of their own.
// Indices over the const sizes are what unrolls; iterators over arrays are calls.
#![allow(clippy::needless_range_loop)]

use super::{GROUP, Multiply, PANEL, Sums, Weights};

#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Multiply for Portable {
    type Group = [i8; GROUP];
    const ROWS: usize = 4;

    fn group(values: [i8; GROUP]) -> Self::Group {
        values
    }

    fn sums<const R: usize>(
        self,
        panel: &[Weights],
        _: &Sums,
        rows: &[[Self::Group; R]],
        sums: &mut [Sums; R],
    ) {
        *sums = [Sums::default(); R];
        for (weights, group) in panel.iter().zip(rows) {
            for row in 0..R {
                let [a, b, c, d] = group[row];
                let values = [i32::from(a), i32::from(b), i32::from(c), i32::from(d)];
                for output in 0..PANEL {
                    for index in 0..GROUP {
                        sums[row][output] += i32::from(weights.0[output][index]) * values[index];
                    }
                }
            }
        }
    }
}
