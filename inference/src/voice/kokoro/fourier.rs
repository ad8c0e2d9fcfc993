//! Real Fourier transforms of 8, 16 and 32 samples, many at a time: each lane of a vector is a signal
//! of its own. The decimation in time of Cooley and Tukey (1965), carried out on the half of the
//! spectrum that a real signal has.
//!
//! A spectrum leaves in *planes*, ready for products with the spectrum of a kernel. A complex product
//! costs three real ones (Gauss): with `a + ib` a bin of the signal and `c + id` one of the kernel,
//! `p = (a + b) c`, `q = a (d - c)` and `r = b (c + d)` give `(p - r) + i (p + q)`. The first two
//! planes are the constant and the alternating bin, then come three for each bin between them.

use rten_simd::Isa;
use rten_simd::ops::{BitOps, FloatOps, NumOps};

/// `cos(2 pi k / 32)` for a quarter turn; backwards it is the sine.
const COSINES: [f32; 9] = [
    1.0,
    0.980_785_25,
    0.923_879_5,
    0.831_469_6,
    std::f32::consts::FRAC_1_SQRT_2,
    0.555_570_24,
    0.382_683_43,
    0.195_090_32,
    0.0,
];

/// Planes of a block of so many samples.
pub(super) const fn plane_count(block: usize) -> usize {
    3 * (block / 2 - 1) + 2
}

/// What one tap of a kernel adds to the factor of each plane, such that the products turned back give
/// the sum over the kernel's taps beginning at each sample.
pub(super) fn kernel_column(block: usize, tap: usize) -> Vec<f64> {
    let scale = 1.0 / block as f64;
    let mut column = vec![scale, if tap.is_multiple_of(2) { scale } else { -scale }];
    for bin in 1..block / 2 {
        // The product is reduced first, so that the angle keeps its precision.
        let angle = std::f64::consts::TAU * ((bin * tap) % block) as f64 / block as f64;
        let (sin, cos) = angle.sin_cos();
        column.extend([scale * cos, scale * (sin - cos), scale * (cos + sin)]);
    }
    column
}

/// Transforms of one length.
pub(super) trait Length {
    const BLOCK: usize;

    /// Transforms one vector of lanes, those from `lane`, of each of [`BLOCK`](Self::BLOCK) rows, and
    /// writes it to each plane. The planes are `stride` apart.
    fn forward<I: Isa>(isa: I, rows: &[&[f32]], lane: usize, planes: &mut [f32], stride: usize);

    /// Turns the products of planes back into samples, which are put into `samples` one vector after
    /// the other.
    fn backward<I: Isa>(isa: I, products: &[f32], stride: usize, samples: &mut [f32]);
}

#[inline(always)]
fn forward_2<I: Isa>(isa: I, x: &[I::F32; 2]) -> [[I::F32; 2]; 2] {
    let ops = isa.f32();
    [[ops.add(x[0], x[1]), ops.sub(x[0], x[1])], [ops.zero(); 2]]
}

#[inline(always)]
fn backward_2<I: Isa>(isa: I, re: &[I::F32; 2], _: &[I::F32; 2]) -> [I::F32; 2] {
    let ops = isa.f32();
    [ops.add(re[0], re[1]), ops.sub(re[0], re[1])]
}

/// A length from the one of half the samples.
macro_rules! length {
    ($block:literal, $forward:ident from $half_forward:ident,
     $backward:ident from $half_backward:ident) => {
        /// Real and imaginary parts of the bins up to the alternating one.
        // Indices over lengths known when compiled are what unrolls; of four samples no bin is left.
        #[allow(clippy::needless_range_loop, clippy::reversed_empty_ranges)]
        #[inline(always)]
        fn $forward<I: Isa>(isa: I, x: &[I::F32; $block]) -> [[I::F32; $block / 2 + 1]; 2] {
            let ops = isa.f32();
            let mut even = [ops.zero(); $block / 2];
            let mut odd = [ops.zero(); $block / 2];
            for index in 0..$block / 2 {
                even[index] = x[2 * index];
                odd[index] = x[2 * index + 1];
            }
            let [even_re, even_im] = $half_forward(isa, &even);
            let [odd_re, odd_im] = $half_forward(isa, &odd);
            let mut re = [ops.zero(); $block / 2 + 1];
            let mut im = [ops.zero(); $block / 2 + 1];
            re[0] = ops.add(even_re[0], odd_re[0]);
            re[$block / 2] = ops.sub(even_re[0], odd_re[0]);
            re[$block / 4] = even_re[$block / 4];
            im[$block / 4] = ops.neg(odd_re[$block / 4]);
            for bin in 1..$block / 4 {
                let step = bin * (32 / $block);
                let (cos, sin) = (ops.splat(COSINES[step]), ops.splat(COSINES[8 - step]));
                let turned_re = ops.mul_add(odd_re[bin], cos, ops.mul(odd_im[bin], sin));
                let turned_im = ops.mul_sub_from(odd_re[bin], sin, ops.mul(odd_im[bin], cos));
                re[bin] = ops.add(even_re[bin], turned_re);
                im[bin] = ops.add(even_im[bin], turned_im);
                re[$block / 2 - bin] = ops.sub(even_re[bin], turned_re);
                im[$block / 2 - bin] = ops.sub(turned_im, even_im[bin]);
            }
            [re, im]
        }

        /// The samples of a spectrum, times their number.
        #[allow(clippy::needless_range_loop, clippy::reversed_empty_ranges)]
        #[inline(always)]
        fn $backward<I: Isa>(
            isa: I,
            re: &[I::F32; $block / 2 + 1],
            im: &[I::F32; $block / 2 + 1],
        ) -> [I::F32; $block] {
            let ops = isa.f32();
            let mut even_re = [ops.zero(); $block / 4 + 1];
            let mut even_im = [ops.zero(); $block / 4 + 1];
            let mut odd_re = [ops.zero(); $block / 4 + 1];
            let mut odd_im = [ops.zero(); $block / 4 + 1];
            even_re[0] = ops.add(re[0], re[$block / 2]);
            odd_re[0] = ops.sub(re[0], re[$block / 2]);
            even_re[$block / 4] = ops.add(re[$block / 4], re[$block / 4]);
            odd_re[$block / 4] = ops.neg(ops.add(im[$block / 4], im[$block / 4]));
            for bin in 1..$block / 4 {
                let step = bin * (32 / $block);
                let (cos, sin) = (ops.splat(COSINES[step]), ops.splat(COSINES[8 - step]));
                even_re[bin] = ops.add(re[bin], re[$block / 2 - bin]);
                even_im[bin] = ops.sub(im[bin], im[$block / 2 - bin]);
                let turned_re = ops.sub(re[bin], re[$block / 2 - bin]);
                let turned_im = ops.add(im[bin], im[$block / 2 - bin]);
                odd_re[bin] = ops.mul_sub_from(turned_im, sin, ops.mul(turned_re, cos));
                odd_im[bin] = ops.mul_add(turned_im, cos, ops.mul(turned_re, sin));
            }
            let even = $half_backward(isa, &even_re, &even_im);
            let odd = $half_backward(isa, &odd_re, &odd_im);
            let mut x = [ops.zero(); $block];
            for index in 0..$block / 2 {
                x[2 * index] = even[index];
                x[2 * index + 1] = odd[index];
            }
            x
        }
    };
}

length!(4, forward_4 from forward_2, backward_4 from backward_2);
length!(8, forward_8 from forward_4, backward_8 from backward_4);
length!(16, forward_16 from forward_8, backward_16 from backward_8);
length!(32, forward_32 from forward_16, backward_32 from backward_16);

macro_rules! planes {
    ($name:ident, $block:literal, $forward:ident, $backward:ident) => {
        pub(super) struct $name;

        impl Length for $name {
            const BLOCK: usize = $block;

            #[inline(always)]
            fn forward<I: Isa>(
                isa: I,
                rows: &[&[f32]],
                lane: usize,
                planes: &mut [f32],
                stride: usize,
            ) {
                let ops = isa.f32();
                let mut x = [ops.zero(); $block];
                for (x, row) in x.iter_mut().zip(rows) {
                    *x = ops.load(&row[lane..]);
                }
                let [re, im] = $forward(isa, &x);
                let planes = &mut planes[lane..];
                ops.store(re[0], planes);
                ops.store(re[$block / 2], &mut planes[stride..]);
                for bin in 1..$block / 2 {
                    let planes = &mut planes[(3 * bin - 1) * stride..];
                    ops.store(ops.add(re[bin], im[bin]), planes);
                    ops.store(re[bin], &mut planes[stride..]);
                    ops.store(im[bin], &mut planes[2 * stride..]);
                }
            }

            #[inline(always)]
            fn backward<I: Isa>(isa: I, products: &[f32], stride: usize, samples: &mut [f32]) {
                let ops = isa.f32();
                let mut re = [ops.zero(); $block / 2 + 1];
                let mut im = [ops.zero(); $block / 2 + 1];
                re[0] = ops.load(products);
                re[$block / 2] = ops.load(&products[stride..]);
                for bin in 1..$block / 2 {
                    let products = &products[(3 * bin - 1) * stride..];
                    let p = ops.load(products);
                    let q = ops.load(&products[stride..]);
                    let r = ops.load(&products[2 * stride..]);
                    re[bin] = ops.sub(p, r);
                    im[bin] = ops.add(p, q);
                }
                let x = $backward(isa, &re, &im);
                for (target, value) in samples.chunks_exact_mut(ops.len()).zip(x) {
                    ops.store(value, target);
                }
            }
        }
    };
}

planes!(Eight, 8, forward_8, backward_8);
planes!(Sixteen, 16, forward_16, backward_16);
planes!(ThirtyTwo, 32, forward_32, backward_32);

#[cfg(test)]
mod tests {
    use rten_simd::SimdOp;

    use super::*;

    /// Transforms rows of `channels` lanes, multiplies the planes by those of a kernel, and back.
    struct Convolve<'a, L> {
        rows: &'a [Vec<f32>],
        factors: &'a [f64],
        length: std::marker::PhantomData<L>,
    }

    impl<L: Length> SimdOp for Convolve<'_, L> {
        type Output = Vec<Vec<f32>>;

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) -> Self::Output {
            let channels = self.rows[0].len();
            let lanes = isa.f32().len();
            let rows: Vec<&[f32]> = self.rows.iter().map(Vec::as_slice).collect();
            let mut planes = vec![0.0; plane_count(L::BLOCK) * channels];
            let mut output = vec![vec![0.0; channels]; L::BLOCK];
            for lane in (0..channels).step_by(lanes) {
                L::forward(isa, &rows, lane, &mut planes, channels);
            }
            for (plane, factor) in planes.chunks_exact_mut(channels).zip(self.factors) {
                plane.iter_mut().for_each(|value| *value *= *factor as f32);
            }
            for lane in (0..channels).step_by(lanes) {
                let mut samples = vec![0.0; L::BLOCK * lanes];
                L::backward(isa, &planes[lane..], channels, &mut samples);
                for (row, sample) in output.iter_mut().zip(samples.chunks_exact(lanes)) {
                    row[lane..][..lanes].copy_from_slice(sample);
                }
            }
            output
        }
    }

    fn hold<L: Length>() {
        let channels = 32;
        let rows: Vec<Vec<f32>> = (0..L::BLOCK)
            .map(|row| (0..channels).map(|lane| ((row * 7 + lane * 3) as f32).sin()).collect())
            .collect();
        let kernel = [0.5, -1.5, 2.0, 0.25, 3.0];
        let mut factors = vec![0.0; plane_count(L::BLOCK)];
        for (tap, weight) in kernel.iter().enumerate() {
            for (factor, value) in factors.iter_mut().zip(kernel_column(L::BLOCK, tap)) {
                *factor += weight * value;
            }
        }
        let convolve =
            Convolve { rows: &rows, factors: &factors, length: std::marker::PhantomData::<L> };
        let output = convolve.dispatch();
        for (at, row) in output.iter().enumerate() {
            for (lane, value) in row.iter().enumerate() {
                let wanted: f64 = (0..kernel.len())
                    .map(|tap| kernel[tap] * f64::from(rows[(at + tap) % L::BLOCK][lane]))
                    .sum();
                assert!((f64::from(*value) - wanted).abs() < 1e-5, "{} {at} {lane}", L::BLOCK);
            }
        }
    }

    #[test]
    fn products_of_planes_turn_back_into_a_circular_convolution() {
        hold::<Eight>();
        hold::<Sixteen>();
        hold::<ThirtyTwo>();
    }

    #[test]
    fn the_cosines_are_cosines() {
        for (step, cosine) in COSINES.iter().enumerate() {
            let exact = (std::f64::consts::TAU * step as f64 / 32.0).cos();
            assert!((f64::from(*cosine) - exact).abs() < 3e-8);
        }
    }
}
