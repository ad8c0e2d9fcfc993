//! Tortoise: expressive speech in any voice that a few seconds of sound are known of (Betker,
//! "Better speech synthesis through scaling", 2023).
//!
//! [`text`] becomes codes, one for every 1024 samples at 22.05 kHz, in an [autoregressive] model that
//! is conditioned on the voice; a decoder makes sound of what that model thought with each code.
//! [`hifigan`] does that at once, while codes still come. The other way leads over a mel spectrogram,
//! which [`diffusion`] makes and [`univnet`] gives a sound; on that way [`clvp`] can choose among
//! several sequences of codes. A voice is learned from [`clips`], through the spectrograms of [`mel`];
//! [`random_voice`] makes voices that nobody has. [`layers`] holds what several of the networks share,
//! [`random`] what they draw from, [`import`] makes the files that they are loaded from of the published
//! checkpoints, and [`fetch`] brings those. [`Tortoise`] puts them together, for many sessions at a time.

pub mod autoregressive;
pub mod clips;
pub mod clvp;
mod convolution;
pub mod diffusion;
mod engine;
pub mod fetch;
pub mod hifigan;
pub mod import;
pub mod latents;
pub mod layers;
mod measuring;
pub mod mel;
mod networks;
mod preset;
mod quality;
pub mod random;
pub mod random_voice;
mod resample;
mod sound;
mod tempo;
pub mod text;
pub mod univnet;
mod voices;
mod weights;

pub use engine::{LoadError, NAME, Tortoise, TortoiseConfig};
pub use measuring::{PartCost, parts, random_weights};
pub use networks::{Source, TortoiseSizes};
pub use preset::{Preset, Quality};
