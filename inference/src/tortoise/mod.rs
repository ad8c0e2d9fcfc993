//! Tortoise: expressive speech in any voice that a few seconds of sound are known of (Betker,
//! "Better speech synthesis through scaling", 2023).
//!
//! Text becomes codes, one for every 1024 samples at 22.05 kHz, in an autoregressive model that is
//! conditioned on the voice; a decoder makes sound of what that model thought with each code.
//! [`diffusion`] makes a mel spectrogram of it. [`layers`] holds what several of its networks share,
//! [`random`] what they draw from, and [`import`] makes the files that they are loaded from of the
//! published checkpoints.

pub mod autoregressive;
pub mod diffusion;
pub mod import;
pub mod layers;
pub mod random;
