//! Sums of products in plain code, for processors without a kernel of their own.

use super::{GROUP, Multiply, Sums, Weights};

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
            for (sums, values) in sums.iter_mut().zip(group) {
                let values = values.map(i32::from);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    for (weight, value) in weights.iter().zip(values) {
                        *sum += i32::from(*weight) * value;
                    }
                }
            }
        }
    }
}
