//! Recorded sentences joined into long streams, with noise, and how well they are segmented. Shared
//! by the tests and by the example that measures more of it.
//!
//! Positions are samples at 16 kHz, the rate of everything here.

#![allow(dead_code, reason = "each user needs a part of it")]

pub mod corpus;
pub mod judge;
pub mod noise;
pub mod stream;
pub mod words;

use std::path::PathBuf;

use inference::vad::Vad;

/// Samples in one second, and in one millisecond.
pub const RATE: usize = 16_000;
pub const PER_MS: u64 = 16;

/// The folder of all models.
pub fn models() -> PathBuf {
    std::env::var_os("DRAGOMAN_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        cache.unwrap_or_else(home).join("dragoman/models")
    })
}

/// The detector; fails with the remedy when its weights are missing.
pub fn vad() -> Vad {
    let folder = models().join("silero-vad");
    Vad::load(&folder).unwrap_or_else(|error| {
        panic!("{error} ({}): fetch the models or set DRAGOMAN_MODELS", folder.display())
    })
}

/// The seed of everything random in a run: `SEED` if it is set, so that other prompts can be drawn.
pub fn seed(default: u64) -> u64 {
    std::env::var("SEED").map_or(default, |seed| seed.parse().expect("SEED is a whole number"))
}
