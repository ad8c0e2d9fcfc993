//! Values for unit tests.

/// The next of a series that a seed begins, -1 to 1, spread evenly.
pub fn noise(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 8) as f32 / 8_388_608.0 - 1.0
}

/// So many of them.
pub fn noises(count: usize, mut seed: u32) -> Vec<f32> {
    (0..count).map(|_| noise(&mut seed)).collect()
}
