//! Random numbers that are the same for a seed wherever the networks run: they are drawn here and
//! uploaded. SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
//! 2014), a counter whose every value is hashed; normal ones by Box and Muller ("A Note on the
//! Generation of Random Normal Deviates", 1958).

use std::f64::consts::TAU;

/// A generator of random numbers. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    counter: u64,
}

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self { counter: seed }
    }

    fn next_bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.counter;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Uniform from 0, which may come, to 1, which does not.
    pub fn next_unit(&mut self) -> f64 {
        // As many bits as a double holds without rounding.
        (self.next_bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `count` numbers of mean 0 and variance 1.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let mut drawn = Vec::with_capacity(count + 1);
        while drawn.len() < count {
            // Of 1 less a unit, since nought has no logarithm.
            let radius = (-2.0 * (1.0 - self.next_unit()).ln()).sqrt();
            let (sine, cosine) = (TAU * self.next_unit()).sin_cos();
            drawn.push((radius * cosine) as f32);
            drawn.push((radius * sine) as f32);
        }
        drawn.truncate(count);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 200_000;

    fn moment(numbers: &[f64], power: i32) -> f64 {
        numbers.iter().map(|number| number.powi(power)).sum::<f64>() / numbers.len() as f64
    }

    #[test]
    fn the_bits_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let bits: Vec<u64> = (0..3).map(|_| random.next_bits()).collect();
        assert_eq!(
            bits,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn units_are_uniform() {
        let mut random = Random::new(7);
        let units: Vec<f64> = (0..COUNT).map(|_| random.next_unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        assert!((moment(&units, 1) - 1.0 / 2.0).abs() < 0.003);
        assert!((moment(&units, 2) - 1.0 / 3.0).abs() < 0.003);
        let below: Vec<usize> = (1..10)
            .map(|tenth| units.iter().filter(|&&unit| unit * 10.0 < f64::from(tenth)).count())
            .collect();
        for (tenth, below) in (1..10).zip(below) {
            assert!(
                below.abs_diff(COUNT * tenth / 10) < COUNT / 200,
                "{below} below {tenth} tenths"
            );
        }
    }

    #[test]
    fn normals_have_the_moments_of_the_bell() {
        let normals = Random::new(7).normals(COUNT);
        assert!(normals.iter().all(|number| number.is_finite()));
        let normals: Vec<f64> = normals.into_iter().map(f64::from).collect();
        assert!(moment(&normals, 1).abs() < 0.01);
        assert!((moment(&normals, 2) - 1.0).abs() < 0.02);
        assert!(moment(&normals, 3).abs() < 0.05);
        assert!((moment(&normals, 4) - 3.0).abs() < 0.1);
        let neighbours: f64 = normals.windows(2).map(|pair| pair[0] * pair[1]).sum();
        assert!((neighbours / COUNT as f64).abs() < 0.01);
    }

    #[test]
    fn equal_seeds_give_equal_numbers_and_others_do_not() {
        let three = Random::new(3).normals(5);
        assert_eq!(three.len(), 5);
        assert_eq!(three, Random::new(3).normals(5));
        assert_ne!(three, Random::new(4).normals(5));
        assert!(Random::new(3).normals(0).is_empty());
    }
}
