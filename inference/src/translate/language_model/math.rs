//! The decoder's arithmetic between the matrix products, on plain slices: at one token a step a
//! tensor object for each of these costs more than the arithmetic. Loops keep independent lanes so
//! that the compiler turns them into vector code.

/// Independent accumulators of a reduction: enough vectors to hide the latency of an addition.
const LANES: usize = 32;

/// Dot product of two slices of equal length.
#[inline]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_chunks.iter().zip(right_chunks) {
        for lane in 0..LANES {
            lanes[lane] = left[lane].mul_add(right[lane], lanes[lane]);
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    fold(lanes) + rest
}

/// Sum of the lanes by halves: one after the other, each addition would wait for the last.
#[inline]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Scores of keys that begin `stride` values apart: each one's dot product with `query`, times
/// `scale`.
pub(super) fn score(query: &[f32], keys: &[f32], stride: usize, scale: f32, scores: &mut [f32]) {
    for (score, key) in scores.iter_mut().zip(keys.chunks(stride)) {
        *score = dot(query, &key[..query.len()]) * scale;
    }
}

/// Adds values that begin `stride` apart to `output`, each times its weight.
pub(super) fn add_weighted(output: &mut [f32], weights: &[f32], values: &[f32], stride: usize) {
    for (weight, value) in weights.iter().zip(values.chunks(stride)) {
        add_scaled(output, *weight, &value[..output.len()]);
    }
}

/// `target += scale * source`.
#[inline]
fn add_scaled(target: &mut [f32], scale: f32, source: &[f32]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target = source.mul_add(scale, *target);
    }
}

/// `target += source`.
pub(super) fn add(target: &mut [f32], source: &[f32]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += source;
    }
}

/// Adds `bias` to every row of `rows`.
pub(super) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}

/// Root-mean-square normalisation of every row, times `weight` (Zhang and Sennrich, 2019).
pub(super) fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut normed = Vec::with_capacity(rows.len());
    for row in rows.chunks_exact(weight.len()) {
        let mean_square = dot(row, row) / row.len() as f32;
        let scale = (mean_square + epsilon).sqrt().recip();
        normed.extend(row.iter().zip(weight).map(|(value, weight)| value * scale * weight));
    }
    normed
}

/// `exp` to about one part in ten million, in vector-friendly form: the whole power of two goes
/// into the exponent bits, the rest through the polynomial of Cephes' `expf`.
fn exp(value: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let value = value.clamp(-87.0, 88.0);
    let power = (value * std::f32::consts::LOG2_E).round();
    let rest = power.mul_add(-LN2_LOW, power.mul_add(-LN2_HIGH, value));
    let mut series = 1.987_569_1e-4f32;
    for coefficient in
        [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_3e-1]
    {
        series = series.mul_add(rest, coefficient);
    }
    let fraction = series.mul_add(rest * rest, rest) + 1.0;
    fraction * f32::from_bits((((power as i32) + 127) << 23) as u32)
}

/// `gate = silu(gate) * up`.
pub(super) fn silu_gate(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// Turns scores into probabilities in place.
pub(super) fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    let total: f32 = scores.iter().sum();
    let scale = total.recip();
    for score in scores.iter_mut() {
        *score *= scale;
    }
}

/// Index of the largest value, the first of equals; `None` when there is no finite value.
pub(super) fn argmax(values: &[f32]) -> Option<usize> {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() {
        return None;
    }
    values.iter().position(|value| *value == largest)
}

/// Rotary position embedding (Su et al., 2021) in the half-split layout of Qwen2: dimension `i`
/// turns with dimension `i + head_dim / 2`.
#[derive(Debug)]
pub(super) struct Rotary {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    half: usize,
}

impl Rotary {
    /// Tables for `positions` positions.
    pub(super) fn new(head_dim: usize, theta: f64, positions: usize) -> Self {
        let half = head_dim / 2;
        let mut cosines = Vec::with_capacity(positions * half);
        let mut sines = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for index in 0..half {
                let frequency = theta.powf(-2.0 * index as f64 / head_dim as f64);
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                cosines.push(cosine as f32);
                sines.push(sine as f32);
            }
        }
        Self { cosines, sines, half }
    }

    /// Turns every head of a row `[heads][head dim]` to `position`.
    pub(super) fn rotate(&self, row: &mut [f32], position: usize) {
        let table = position * self.half..(position + 1) * self.half;
        let (cosines, sines) = (&self.cosines[table.clone()], &self.sines[table]);
        for head in row.chunks_exact_mut(2 * self.half) {
            let (low, high) = head.split_at_mut(self.half);
            for index in 0..self.half {
                let (x, y) = (low[index], high[index]);
                low[index] = x * cosines[index] - y * sines[index];
                high[index] = y * cosines[index] + x * sines[index];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_exponential_agrees_with_the_library() {
        for step in -8000..=8000 {
            let value = step as f32 / 100.0;
            let (fast, exact) = (exp(value), value.exp());
            assert!((fast - exact).abs() <= exact * 3e-7, "exp({value}): {fast} against {exact}");
        }
        assert!(exp(-1000.0) < 1e-37);
    }

    #[test]
    fn a_dot_product_covers_lengths_that_are_no_multiple_of_the_lanes() {
        let values: Vec<f32> = (0..37).map(|value| value as f32).collect();
        assert_eq!(dot(&values, &values), 36.0 * 37.0 * 73.0 / 6.0);
    }

    #[test]
    fn softmax_adds_up_to_one_and_keeps_the_order() {
        let mut scores = [1.0, 3.0, 2.0];
        softmax(&mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(scores[1] > scores[2] && scores[2] > scores[0]);
    }

    #[test]
    fn rms_norm_leaves_a_row_with_unit_mean_square() {
        let normed = rms_norm(&[3.0, 4.0, 0.0, 0.0], &[1.0; 4], 0.0);
        let mean_square = normed.iter().map(|value| value * value).sum::<f32>() / 4.0;
        assert!((mean_square - 1.0).abs() < 1e-6);
    }

    #[test]
    fn rotation_keeps_lengths_and_depends_on_the_distance_alone() {
        let rotary = Rotary::new(8, 10_000.0, 32);
        let turned = |position: usize, seed: f32| {
            let mut row: Vec<f32> = (0..8).map(|index| (index as f32 + seed).sin()).collect();
            rotary.rotate(&mut row, position);
            row
        };
        let near = dot(&turned(3, 0.1), &turned(5, 0.7));
        let far = dot(&turned(20, 0.1), &turned(22, 0.7));
        assert!((near - far).abs() < 1e-4);
    }

    #[test]
    fn argmax_takes_the_first_of_equals_and_refuses_nonsense() {
        assert_eq!(argmax(&[1.0, 5.0, 5.0]), Some(1));
        assert_eq!(argmax(&[f32::NAN, f32::NAN]), None);
        assert_eq!(argmax(&[]), None);
    }
}
