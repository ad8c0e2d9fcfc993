//! Products with matrices of 8-bit weights.
//!
//! Each row of the weights (one output) is scaled to whole numbers from -127 to 127 once, and each
//! row of the inputs as it comes ("dynamic quantisation": Bhandare et al., "Efficient 8-Bit
//! Quantization of Transformer Neural Machine Language Translation Model", 2019). The sums of
//! products are exact 32-bit integers, so every processor computes the same: AVX-512 with its
//! vector neural network instructions, AVX2, or plain code, chosen at run time.
//!
//! A [`Matrix`] holds its weights once, in panels of [`PANEL`] outputs whose inputs lie together in
//! groups of four, which is what those instructions multiply. [`Rows`] are laid out alike: as many
//! rows side by side as a kernel sums in registers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::io;

#[cfg(target_arch = "x86_64")]
use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use avx512::Avx512;
use portable::Portable;

use crate::arena::{Arena, Slab};

/// Outputs that one pass over the inputs sums.
const PANEL: usize = 32;
/// Inputs that one instruction multiplies for each output.
const GROUP: usize = 4;
/// Weights that all rows are multiplied with before the next: they stay in the second cache.
const CACHED_BYTES: usize = 1 << 18;
/// The largest whole number of weights and inputs.
const HIGHEST: f32 = 127.0;
/// Values that the loops over one row take at once.
const LANES: usize = 16;

/// Four inputs of each output of a panel; whole cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Weights([[i8; GROUP]; PANEL]);

/// Sums of products, one for each output of a panel.
type Sums = [i32; PANEL];

/// A way to multiply.
trait Multiply: Copy {
    /// A group of inputs as the kernel reads it.
    type Group: Copy + Default;
    /// Rows that are summed at once, at most [`MOST_ROWS`].
    const ROWS: usize;

    fn group(values: [i8; GROUP]) -> Self::Group;

    /// Multiplies `R` rows with a panel; `totals` holds the sum of each output's weights.
    fn sums<const R: usize>(
        self,
        panel: &[Weights],
        totals: &Sums,
        rows: &[[Self::Group; R]],
        sums: &mut [Sums; R],
    );
}

/// The most rows that any kernel sums at once.
const MOST_ROWS: usize = 12;

/// A matrix of (outputs, inputs) with a scale for each output.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    /// For each panel its groups of inputs; beyond the matrix zeros.
    weights: Slab<Weights>,
    /// The sum of each output's weights, by panel.
    totals: Vec<Sums>,
    /// Per output.
    scales: Vec<f32>,
}

impl Matrix {
    /// Rounds `values`, row by row of `inputs` each: at least one, at most 65 536. Best made in the
    /// order of their use, with the same arena.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn new(values: &[f32], inputs: usize, arena: &mut Arena) -> io::Result<Self> {
        let outputs = values.len() / inputs;
        let groups = inputs.div_ceil(GROUP);
        let mut weights = vec![Weights([[0; GROUP]; PANEL]); outputs.div_ceil(PANEL) * groups];
        let mut totals = vec![[0; PANEL]; outputs.div_ceil(PANEL)];
        let mut scales = Vec::with_capacity(outputs);
        let mut rounded = vec![0; inputs];
        for (output, row) in values.chunks_exact(inputs).enumerate() {
            scales.push(round(row, &mut rounded));
            let (panel, lane) = (output / PANEL, output % PANEL);
            for (group, values) in rounded.chunks(GROUP).enumerate() {
                weights[panel * groups + group].0[lane][..values.len()].copy_from_slice(values);
            }
            totals[panel][lane] = rounded.iter().map(|&weight| i32::from(weight)).sum();
        }
        let weights = arena.store(weights.into_iter())?;
        Ok(Self { outputs, inputs, weights, totals, scales })
    }

    /// `y = x Wᵀ + b`, `y` of (rows, outputs).
    pub fn product(&self, x: &Rows, bias: &[f32], y: &mut [f32]) {
        self.multiply(x, bias, y, |y, product| *y = product);
    }

    /// `y += x Wᵀ + b`, `y` of (rows, outputs).
    pub fn add_product(&self, x: &Rows, bias: &[f32], y: &mut [f32]) {
        self.multiply(x, bias, y, |y, product| *y += product);
    }

    fn multiply(&self, x: &Rows, bias: &[f32], y: &mut [f32], put: impl Fn(&mut f32, f32) + Copy) {
        assert_eq!(x.width, self.inputs, "inputs of the rows and of the matrix");
        assert_eq!((bias.len(), y.len()), (self.outputs, x.count() * self.outputs));
        match &x.packed {
            #[cfg(target_arch = "x86_64")]
            Packed::Avx512(kernel, rows) => self.multiply_with(*kernel, rows, x, bias, y, put),
            #[cfg(target_arch = "x86_64")]
            Packed::Avx2(kernel, rows) => self.multiply_with(*kernel, rows, x, bias, y, put),
            Packed::Portable(kernel, rows) => self.multiply_with(*kernel, rows, x, bias, y, put),
        }
    }

    fn multiply_with<K: Multiply>(
        &self,
        kernel: K,
        packed: &[K::Group],
        x: &Rows,
        bias: &[f32],
        y: &mut [f32],
        put: impl Fn(&mut f32, f32) + Copy,
    ) {
        let groups = self.inputs.div_ceil(GROUP);
        let weights = &*self.weights;
        let mut sums = [[0; PANEL]; MOST_ROWS];
        let at_once = (CACHED_BYTES / (groups * size_of::<Weights>())).max(1);
        for first in (0..self.totals.len()).step_by(at_once) {
            let panels = first..(first + at_once).min(self.totals.len());
            let blocks = packed
                .chunks(K::ROWS * groups)
                .zip(x.scales.chunks(K::ROWS))
                .zip(y.chunks_mut(K::ROWS * self.outputs));
            for ((rows, row_scales), y) in blocks {
                for panel in panels.clone() {
                    let weights = &weights[panel * groups..(panel + 1) * groups];
                    let totals = &self.totals[panel];
                    sum_block(kernel, weights, totals, rows, row_scales.len(), &mut sums);
                    let outputs = panel * PANEL..((panel + 1) * PANEL).min(self.outputs);
                    let (scales, bias) = (&self.scales[outputs.clone()], &bias[outputs.clone()]);
                    for (row, &row_scale) in row_scales.iter().enumerate() {
                        let first = row * self.outputs + panel * PANEL;
                        let y = &mut y[first..first + scales.len()];
                        finish(&sums[row], scales, row_scale, bias, y, put);
                    }
                }
            }
        }
    }
}

/// Turns the sums of a row with a panel into products.
#[inline]
fn finish(
    sums: &Sums,
    scales: &[f32],
    row_scale: f32,
    bias: &[f32],
    y: &mut [f32],
    put: impl Fn(&mut f32, f32),
) {
    let whole = (scales.first_chunk::<PANEL>(), bias.first_chunk(), y.first_chunk_mut());
    if let (Some(scales), Some(bias), Some(y)) = whole {
        let y: &mut [f32; PANEL] = y;
        let bias: &[f32; PANEL] = bias;
        for lane in 0..PANEL {
            put(&mut y[lane], sums[lane] as f32 * (scales[lane] * row_scale) + bias[lane]);
        }
    } else {
        for lane in 0..y.len() {
            put(&mut y[lane], sums[lane] as f32 * (scales[lane] * row_scale) + bias[lane]);
        }
    }
}

/// Sums a block of `count` rows.
#[inline]
fn sum_block<K: Multiply>(
    kernel: K,
    panel: &[Weights],
    totals: &Sums,
    rows: &[K::Group],
    count: usize,
    sums: &mut [Sums; MOST_ROWS],
) {
    macro_rules! choose {
        ($($rows:literal)*) => {
            match count {
                $($rows => {
                    let sums = sums.first_chunk_mut().expect("at most as many rows");
                    kernel.sums::<$rows>(panel, totals, rows.as_chunks().0, sums);
                })*
                _ => unreachable!("a block has 1 to {MOST_ROWS} rows"),
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Rows of inputs, each rounded with a scale of its own.
pub struct Rows {
    width: usize,
    scales: Vec<f32>,
    packed: Packed,
    /// One row before and after it is rounded.
    row: Vec<f32>,
    rounded: Vec<i8>,
}

/// Blocks of as many rows as the kernel sums at once: group by group, row by row within it.
enum Packed {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512, Vec<<Avx512 as Multiply>::Group>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2, Vec<<Avx2 as Multiply>::Group>),
    Portable(Portable, Vec<<Portable as Multiply>::Group>),
}

impl Packed {
    /// Nothing yet, for each kernel that this processor can run, the best first.
    fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = [
            Avx512::detect().map(|kernel| Self::Avx512(kernel, Vec::new())),
            Avx2::detect().map(|kernel| Self::Avx2(kernel, Vec::new())),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<Self>; 0] = [];
        vector.into_iter().flatten().chain([Self::Portable(Portable, Vec::new())])
    }
}

impl Default for Rows {
    /// No rows, for the quickest kernel of this processor.
    fn default() -> Self {
        let packed = Packed::available().next().expect("plain code runs everywhere");
        Self::with(packed)
    }
}

impl Rows {
    fn with(packed: Packed) -> Self {
        Self { width: 0, scales: Vec::new(), packed, row: Vec::new(), rounded: Vec::new() }
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.scales.len()
    }

    /// Replaces the rows by `values`, row by row of `width` each.
    pub fn set(&mut self, values: &[f32], width: usize) {
        let rows = values.chunks_exact(width);
        self.compute(rows.len(), width, |index, row| {
            row.copy_from_slice(&values[index * width..(index + 1) * width]);
        });
    }

    /// Replaces the rows by `count` rows of `width` values, each as `compute` writes it (over what
    /// an earlier row left there).
    pub fn compute(&mut self, count: usize, width: usize, compute: impl FnMut(usize, &mut [f32])) {
        self.width = width;
        self.row.resize(width, 0.0);
        self.rounded.resize(width.next_multiple_of(GROUP), 0);
        self.rounded[width..].fill(0);
        self.scales.clear();
        let (row, rounded, scales) = (&mut self.row, &mut self.rounded, &mut self.scales);
        match &mut self.packed {
            #[cfg(target_arch = "x86_64")]
            Packed::Avx512(kernel, packed) => {
                pack(*kernel, packed, count, row, rounded, scales, compute);
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Avx2(kernel, packed) => {
                pack(*kernel, packed, count, row, rounded, scales, compute);
            }
            Packed::Portable(kernel, packed) => {
                pack(*kernel, packed, count, row, rounded, scales, compute);
            }
        }
    }
}

fn pack<K: Multiply>(
    _: K,
    packed: &mut Vec<K::Group>,
    count: usize,
    row: &mut [f32],
    rounded: &mut [i8],
    scales: &mut Vec<f32>,
    mut compute: impl FnMut(usize, &mut [f32]),
) {
    let groups = rounded.len() / GROUP;
    packed.resize(count * groups, K::Group::default());
    for (block, packed) in packed.chunks_mut(K::ROWS * groups).enumerate() {
        let rows = packed.len() / groups;
        for index in 0..rows {
            compute(block * K::ROWS + index, row);
            scales.push(round(row, rounded));
            let values = rounded.as_chunks::<GROUP>().0;
            for (group, packed) in packed.chunks_exact_mut(rows).enumerate() {
                packed[index] = K::group(values[group]);
            }
        }
    }
}

/// Rounds a row to whole numbers from -127 to 127; returns what they are multiples of. Not a number
/// becomes zero; beside an infinity all do.
fn round(row: &[f32], rounded: &mut [i8]) -> f32 {
    /// Adding it leaves the nearest whole number in the lowest bits: 1.5 × 2^23.
    const ROUNDER: f32 = 12_582_912.0;
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            let size = chunk[lane].abs();
            lanes[lane] = if size > lanes[lane] { size } else { lanes[lane] };
        }
    }
    let highest = lanes.iter().chain(rest).fold(0.0, |highest, value| value.abs().max(highest));
    let inverse = HIGHEST / highest.max(f32::MIN_POSITIVE);
    let rounded = &mut rounded[..row.len()];
    for index in 0..row.len() {
        rounded[index] = (row[index] * inverse + ROUNDER).to_bits() as i8;
    }
    highest / HIGHEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noises;

    fn matrix(values: &[f32], inputs: usize) -> Matrix {
        Matrix::new(values, inputs, &mut Arena::default()).expect("memory")
    }

    fn rounded(row: &[f32]) -> (Vec<i32>, f32) {
        let mut values = vec![0; row.len()];
        let scale = round(row, &mut values);
        (values.into_iter().map(i32::from).collect(), scale)
    }

    #[test]
    fn every_kernel_gives_the_products_of_the_rounded_numbers() {
        let shapes = [(1, 4, 32), (1, 5, 1), (2, 37, 33), (7, 64, 64), (12, 3, 31), (13, 512, 70)];
        for (count, inputs, outputs) in shapes.into_iter().chain([(25, 130, 100), (3, 2048, 9)]) {
            let weights = noises(inputs * outputs, 7);
            let values = noises(inputs * count, 11);
            let bias = noises(outputs, 3);
            let matrix = matrix(&weights, inputs);
            for packed in Packed::available() {
                let mut rows = Rows::with(packed);
                rows.set(&values, inputs);
                let mut y = vec![0.0; count * outputs];
                matrix.product(&rows, &bias, &mut y);
                let mut added = y.clone();
                matrix.add_product(&rows, &bias, &mut added);
                for (index, (y, added)) in y.iter().zip(added).enumerate() {
                    let (row, output) = (index / outputs, index % outputs);
                    let (x, x_scale) = rounded(&values[row * inputs..(row + 1) * inputs]);
                    let (w, w_scale) = rounded(&weights[output * inputs..(output + 1) * inputs]);
                    let sum: i32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                    let expected = sum as f32 * (w_scale * x_scale) + bias[output];
                    assert_eq!(*y, expected, "{count} × {inputs} × {outputs} at {row}, {output}");
                    assert_eq!(added, 2.0 * expected);
                }
            }
        }
    }

    #[test]
    fn the_largest_sums_do_not_saturate() {
        let (inputs, outputs) = (4096, 32);
        let matrix = matrix(&vec![-1.0; inputs * outputs], inputs);
        for sign in [-1.0, 1.0] {
            for packed in Packed::available() {
                let mut rows = Rows::with(packed);
                rows.set(&vec![sign; inputs], inputs);
                let mut y = vec![0.0; outputs];
                matrix.product(&rows, &vec![0.0; outputs], &mut y);
                for y in y {
                    assert!((y + sign * inputs as f32).abs() < 0.01, "{y}");
                }
            }
        }
    }

    #[test]
    fn products_are_within_a_hundredth_of_the_exact_ones() {
        let (count, inputs, outputs) = (5, 512, 48);
        let (weights, values) = (noises(inputs * outputs, 1), noises(inputs * count, 2));
        let mut rows = Rows::default();
        rows.set(&values, inputs);
        let mut y = vec![0.0; count * outputs];
        matrix(&weights, inputs).product(&rows, &vec![0.0; outputs], &mut y);
        let (mut error, mut power) = (0.0, 0.0);
        for (x, y) in values.chunks_exact(inputs).zip(y.chunks_exact(outputs)) {
            for (w, y) in weights.chunks_exact(inputs).zip(y) {
                let exact: f32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                error += (y - exact).powi(2);
                power += exact.powi(2);
            }
        }
        assert!((error / power).sqrt() < 0.01, "off by {}", (error / power).sqrt());
    }

    #[test]
    fn rows_of_zeros_give_the_bias_and_no_number_panics() {
        let inputs = 40;
        let ours = matrix(&noises(inputs * 3, 5), inputs);
        let wild = [0.0, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::INFINITY, f32::NAN];
        for packed in Packed::available() {
            let mut rows = Rows::with(packed);
            let mut values = vec![0.0; inputs * wild.len()];
            for (row, value) in values.chunks_exact_mut(inputs).zip(wild) {
                row[7] = value;
            }
            rows.set(&values, inputs);
            let mut y = vec![0.0; 3 * wild.len()];
            ours.product(&rows, &[1.0, 2.0, 3.0], &mut y);
            assert_eq!(y[..6], [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
            matrix(&values, inputs).product(&rows, &[0.0; 6], &mut [0.0; 36]);
            rows.set(&[], inputs);
            ours.product(&rows, &[1.0, 2.0, 3.0], &mut []);
        }
    }
}
