//! Text and a voice to codes: a decoder of the GPT-2 family (Radford et al., "Language Models are
//! Unsupervised Multitask Learners", 2019) over one stream of a voice, the ids of a text, and codes of
//! a mel spectrogram. Its state before each code, the *latent*, is what the decoders of sound are
//! given.
//!
//! The stream is `[voice] [start, text ids, stop, stop] [start, codes]`. Text and codes have positions
//! of their own, counted from zero without a gap: the start of the codes has position 0, the first
//! code 1, as in training, also when keys and values are cached.

mod cache;
mod codes;
mod conditioning;
mod config;
mod decoder;
mod projection;
mod sampler;
mod slots;
mod speaking;

pub use codes::{CALM_RUN, fix_codes, without_calm_end};
pub use conditioning::ConditioningEncoder;
pub use config::AutoregressiveConfig;
pub use decoder::Autoregressive;
pub use sampler::{Row, Sampler, Sampling};
pub use slots::Slots;
pub use speaking::{End, Prediction, Speaking, Spoken};
