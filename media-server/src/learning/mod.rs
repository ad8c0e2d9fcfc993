//! Voices that are learned: which of what somebody says is clean enough to learn from ([`collect`]),
//! and what was learned, in memory and on disk ([`shelf`]). Learning itself is the voice engine's.

pub mod collect;
mod config;
pub mod shelf;
#[cfg(test)]
pub(crate) mod testing;

pub use config::VoicesConfig;
