//! Voice activity detection: Silero v6 in plain Rust.

/// Samples of 16 kHz mono in one VAD step (32 ms).
pub const CHUNK_SAMPLES: usize = 512;
