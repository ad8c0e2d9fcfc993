//! From the published checkpoints to files that are loaded as they are.

pub mod convert;
