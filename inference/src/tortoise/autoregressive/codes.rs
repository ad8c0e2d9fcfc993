//! What is done to codes before they are scored or made into sound.

use super::AutoregressiveConfig;

/// More calm codes in a row than this end a sentence.
pub const CALM_RUN: usize = 8;
/// What the reference puts at the very end of codes that it ends.
const ENDING: [u32; 3] = [45, 45, 248];

/// Codes that the model ended before `length`, as the decoders of sound and the re-ranking know them:
/// the stop and all that follows it is calm, and the last three are a fixed ending. Codes without a stop
/// are left as they are.
pub fn fix_codes(codes: &[u32], length: usize, config: &AutoregressiveConfig) -> Vec<u32> {
    let mut fixed = codes.to_vec();
    fixed.resize(length.max(codes.len()), config.stop_mel);
    let Some(stop) = fixed.iter().position(|code| *code == config.stop_mel) else { return fixed };
    fixed[stop..].fill(config.calm);
    if let Some(end) = fixed.last_chunk_mut() {
        *end = ENDING;
    }
    fixed
}

/// How many codes there are before more than [`CALM_RUN`] calm ones in a row, so many of which are
/// counted in.
pub fn without_calm_end(codes: &[u32], calm: u32) -> usize {
    let mut run = 0;
    for (index, code) in codes.iter().enumerate() {
        run = if *code == calm { run + 1 } else { 0 };
        if run > CALM_RUN {
            return index;
        }
    }
    codes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_calm_ends_the_codes_and_a_short_one_does_not() {
        let calm = 83;
        let mut codes = vec![5, 6];
        codes.extend([calm; 8]);
        assert_eq!(without_calm_end(&codes, calm), 10);
        codes.extend([7]);
        codes.extend([calm; 9]);
        codes.extend([8]);
        assert_eq!(without_calm_end(&codes, calm), 19);
        assert_eq!(without_calm_end(&[], calm), 0);
    }

    #[test]
    fn codes_without_a_stop_stay_and_short_ones_are_filled_up() {
        let config = AutoregressiveConfig::default();
        assert_eq!(fix_codes(&[1, 2, 3], 3, &config), [1, 2, 3]);
        assert_eq!(fix_codes(&[1, 2], 7, &config), [1, 2, 83, 83, 45, 45, 248]);
        assert_eq!(fix_codes(&[1], 2, &config), [1, 83]);
    }
}
