//! The weights that the tests draw are those that the reference implementation had.

mod tortoise_support;

use candle_core::Tensor;
use tortoise_support::Fixture;

const NETWORKS: [&str; 6] = ["autoregressive", "diffusion", "clvp", "univnet", "hifigan", "rlg"];

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("numbers");
    numbers.into_iter().map(f32::to_bits).collect()
}

#[test]
fn drawn_weights_equal_the_reference_to_the_bit() {
    for name in NETWORKS {
        let fixture = Fixture::load(name);
        let mut noted = 0;
        for (weight, expected) in fixture.noted() {
            let expected = bits(expected);
            let actual = bits(&fixture.checkpoint()[weight]);
            assert!(actual.starts_with(&expected), "{name}: {weight} is drawn otherwise");
            noted += 1;
        }
        assert!(noted > 0, "{name}: nothing to compare");
    }
}
