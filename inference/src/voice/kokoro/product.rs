//! Products of matrices whose entries are rounded to 16 bits: half the memory of 32 bits, and twice as
//! many multiplications at a time on x86 processors. Each row of weights has a scale of its own, and
//! so has each column that it is multiplied by. Both are chosen such that no sum of products leaves
//! 32 bits: the sums are exact and the same on every processor, and what rounding adds lies some 70 dB
//! below the product.

#[cfg(target_arch = "x86_64")]
use super::product_x86::Processor;

/// Rows of weights that are multiplied together.
pub(super) const PANEL: usize = 64;
/// The largest rounded entry of a column that fits any weights.
pub(super) const LARGEST: f32 = 8191.0;
/// A bound for the sum of a row's rounded weights: times one more than [`LARGEST`] it still fits 32
/// bits.
const LARGEST_SUM: f32 = ((1 << 18) - 1) as f32;

/// Rounded weights of a panel's rows for two inputs that follow each other, row after row.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Pairs(pub(super) [i16; 2 * PANEL]);

/// A matrix of weights, `[outputs, inputs]`.
pub(super) struct Weights {
    /// Half the number of inputs.
    pairs: usize,
    /// Panel after panel, each with its pairs of inputs.
    values: Vec<Pairs>,
    /// What one means in each row.
    scales: Vec<[f32; PANEL]>,
    largest: f32,
}

/// Columns of rounded numbers.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// The numbers of a column lie together.
    pub(super) values: &'a [i16],
    /// Distance between columns.
    pub(super) stride: usize,
    /// What one means in each column.
    pub(super) scales: &'a [f32],
    /// Distance between the scales.
    pub(super) scale_stride: usize,
}

impl Weights {
    /// Rounds a matrix that is given as rows. There is a multiple of [`PANEL`] of them, each of the
    /// same, even length. Where all of a row are whole multiples of `step`, and not too large, they
    /// are taken as they are.
    pub(super) fn new<'a>(rows: impl Iterator<Item = &'a [f32]>, step: Option<f32>) -> Self {
        let rows: Vec<&[f32]> = rows.collect();
        let inputs = rows.first().map_or(0, |row| row.len());
        assert!(rows.len().is_multiple_of(PANEL) && inputs.is_multiple_of(2));
        let mut values = Vec::with_capacity(rows.len() / PANEL * inputs / 2);
        let mut scales = Vec::with_capacity(rows.len() / PANEL);
        let (panels, _) = rows.as_chunks::<PANEL>();
        for rows in panels {
            let scale = rows.map(|row| scale_for(row, step));
            let inverse = scale.map(f32::recip);
            // A cache line of each row at a time.
            let first = values.len();
            values.resize(first + inputs / 2, Pairs([0; 2 * PANEL]));
            for (index, pairs) in values[first..].chunks_mut(8).enumerate() {
                for (output, (row, inverse)) in rows.iter().zip(inverse).enumerate() {
                    let row = &row[16 * index..];
                    let mut rounded = [0; 16];
                    for (rounded, value) in rounded.iter_mut().zip(row) {
                        *rounded = round(value * inverse);
                    }
                    let (rounded, _) = rounded.as_chunks::<2>();
                    for (pair, rounded) in pairs.iter_mut().zip(rounded) {
                        pair.0[2 * output..][..2].copy_from_slice(rounded);
                    }
                }
            }
            scales.push(scale);
        }
        let largest = largest_for(&values, inputs / 2);
        Self { pairs: inputs / 2, values, scales, largest }
    }

    pub(super) fn outputs(&self) -> usize {
        self.scales.len() * PANEL
    }

    /// The largest entry that a column may have: [`LARGEST`], or more where the weights are small.
    pub(super) fn largest(&self) -> f32 {
        self.largest
    }

    /// Multiplies as many columns as `products` holds: the products of one lie together.
    pub(super) fn multiply(&self, columns: Columns<'_>, products: &mut [f32]) {
        let outputs = self.outputs();
        let count = products.len() / outputs.max(1);
        let Some(last) = count.checked_sub(1) else { return };
        assert!(columns.values.len() >= last * columns.stride + 2 * self.pairs);
        assert!(columns.scales.len() > last * columns.scale_stride);
        let panels = self.values.chunks_exact(self.pairs.max(1)).zip(&self.scales);
        for (index, (panel, scales)) in panels.enumerate() {
            let products = &mut products[index * PANEL..];
            #[cfg(target_arch = "x86_64")]
            if let Some(processor) = Processor::detect() {
                processor.multiply(panel, scales, columns, products, outputs, count);
                continue;
            }
            multiply_plainly(panel, scales, columns, products, outputs, count);
        }
    }
}

/// The largest entry with which the sum of any row's products fits 32 bits.
fn largest_for(values: &[Pairs], pairs: usize) -> f32 {
    let mut most = 0;
    for panel in values.chunks_exact(pairs.max(1)) {
        let mut sums = [0u32; PANEL];
        for pairs in panel {
            let (rows, _) = pairs.0.as_chunks::<2>();
            for (sum, [first, second]) in sums.iter_mut().zip(rows) {
                *sum += u32::from(first.unsigned_abs()) + u32::from(second.unsigned_abs());
            }
        }
        most = sums.into_iter().fold(most, u32::max);
    }
    let fits = i32::MAX.unsigned_abs() / most.max(1);
    (fits as f32 - 1.0).clamp(LARGEST, f32::from(i16::MAX))
}

/// To the nearest integer of 16 bits. What is no number, or larger, becomes any.
pub(super) fn round(value: f32) -> i16 {
    // With this added no bit is left for a fraction, and the last ones are those of the integer.
    const WHOLE: f32 = 12_582_912.0;
    (value + WHOLE).to_bits() as i16
}

fn scale_for(row: &[f32], step: Option<f32>) -> f32 {
    // Many sums side by side, which do not wait for each other.
    let (mut sums, mut most) = ([0.0f32; 16], [0.0f32; 16]);
    for values in row.chunks(16) {
        for ((sum, most), value) in sums.iter_mut().zip(&mut most).zip(values) {
            *sum += value.abs();
            *most = most.max(value.abs());
        }
    }
    let sum: f32 = sums.iter().sum();
    let largest = most.into_iter().fold(0.0, f32::max);
    // Each weight may be rounded up by a half.
    let room = LARGEST_SUM - row.len() as f32;
    let scale = (sum / room).max(largest / f32::from(i16::MAX));
    let scale = step.filter(|step| *step > scale).unwrap_or(scale);
    if scale.is_normal() { scale } else { 1.0 }
}

/// The products of one panel for `count` columns, which are put `stride` apart.
fn multiply_plainly(
    panel: &[Pairs],
    scales: &[f32; PANEL],
    columns: Columns<'_>,
    products: &mut [f32],
    stride: usize,
    count: usize,
) {
    for index in 0..count {
        let (column, _) = columns.values[index * columns.stride..].as_chunks::<2>();
        let mut sums = [0i32; PANEL];
        for (pairs, [first, second]) in panel.iter().zip(column) {
            let (weights, _) = pairs.0.as_chunks::<2>();
            for (sum, weights) in sums.iter_mut().zip(weights) {
                let first = i32::from(weights[0]) * i32::from(*first);
                let second = i32::from(weights[1]) * i32::from(*second);
                *sum = sum.wrapping_add(first).wrapping_add(second);
            }
        }
        let scale = columns.scales[index * columns.scale_stride];
        let targets = &mut products[index * stride..][..PANEL];
        for ((target, sum), row_scale) in targets.iter_mut().zip(sums).zip(scales) {
            *target = sum as f32 * row_scale * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    struct Case {
        rows: Vec<Vec<f32>>,
        values: Vec<i16>,
        scales: Vec<f32>,
        stride: usize,
    }

    impl Case {
        fn new(outputs: usize, inputs: usize, count: usize, stride: usize, seed: &mut u32) -> Self {
            let mut row = |_| (0..inputs).map(|_| noise(seed)).collect();
            let rows = (0..outputs).map(&mut row).collect();
            let values =
                (0..count * stride).map(|_| (noise(seed) * LARGEST).round() as i16).collect();
            let scales = (0..2 * count).map(|_| noise(seed)).collect();
            Self { rows, values, scales, stride }
        }

        fn columns(&self) -> Columns<'_> {
            Columns {
                values: &self.values,
                stride: self.stride,
                scales: &self.scales,
                scale_stride: 2,
            }
        }

        fn weights(&self) -> Weights {
            Weights::new(self.rows.iter().map(Vec::as_slice), None)
        }
    }

    #[test]
    fn the_product_is_that_of_the_unrounded_weights_but_for_a_thousandth() {
        let mut seed = 3;
        for (outputs, inputs, count) in [(64, 2, 1), (128, 128, 7), (256, 256, 11)] {
            let case = Case::new(outputs, inputs, count, inputs, &mut seed);
            let mut products = vec![f32::NAN; outputs * count];
            case.weights().multiply(case.columns(), &mut products);
            for (column, products) in products.chunks_exact(outputs).enumerate() {
                let values = &case.values[column * inputs..][..inputs];
                let scale = case.scales[2 * column];
                for (row, product) in case.rows.iter().zip(products) {
                    let wanted: f32 = row.iter().zip(values).map(|(x, y)| x * f32::from(*y)).sum();
                    let norm = (inputs as f32).sqrt() * LARGEST * scale.abs();
                    assert!((product - wanted * scale).abs() < 4e-4 * norm, "{product}");
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_processor_gives_the_same_numbers() {
        let mut seed = 5;
        for (inputs, gap) in [(2, 0), (6, 4), (128, 10), (256, 0)] {
            for count in 1..=20 {
                let case = Case::new(PANEL, inputs, count, inputs + gap, &mut seed);
                let weights = case.weights();
                let (panel, scales) = (&weights.values, &weights.scales[0]);
                let stride = PANEL + 64;
                let mut wanted = vec![0.5; count * stride];
                multiply_plainly(panel, scales, case.columns(), &mut wanted, stride, count);
                for processor in Processor::all() {
                    let mut products = vec![0.5; count * stride];
                    processor.multiply(panel, scales, case.columns(), &mut products, stride, count);
                    assert!(products == wanted, "{processor:?} {inputs} {count}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest() {
        for (value, wanted) in [(0.0, 0), (-0.4, 0), (1.6, 2), (-8191.4, -8191), (32_767.0, 32_767)]
        {
            assert_eq!(round(value), wanted);
        }
        round(f32::NAN);
    }

    #[test]
    fn the_largest_sums_fit_and_rows_of_nothing_or_nonsense_do_no_harm() {
        let rows: [&[f32]; 4] = [&[1.0; 256], &[0.0; 256], &[f32::NAN; 256], &[f32::INFINITY; 256]];
        let weights = Weights::new((0..PANEL).map(|row| rows[row % 4]), Some(1.0 / 64.0));
        for extreme in [8191, -8191] {
            let values = [extreme; 256];
            let columns =
                Columns { values: &values, stride: 256, scales: &[1.0 / 8191.0], scale_stride: 1 };
            let mut products = [0.0; PANEL];
            weights.multiply(columns, &mut products);
            assert!((products[0] - 256.0 * f32::from(extreme.signum())).abs() < 0.01);
            assert_eq!(products[1], 0.0);
        }
        // So small that columns may use all sixteen bits.
        let small = Weights::new((0..PANEL).map(|_| [1.0; 512].as_slice()), Some(1.0));
        assert_eq!(small.largest(), 32_767.0);
        let nothing = Columns { values: &[], stride: 256, scales: &[], scale_stride: 1 };
        weights.multiply(nothing, &mut []);
    }
}
