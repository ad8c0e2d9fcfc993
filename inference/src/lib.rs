//! The models of Dragoman. Samples and text go in, text and samples come out; nothing here knows
//! a network or a room, and of time nothing but the deadlines of requests.
//!
//! Each model family has a folder of its own: [`vad`] finds speech, [`whisper`] recognises it,
//! [`translate`] carries it into another language and [`voice`] speaks it. [`store`] is where the
//! weights come from: fetched once, checked by SHA-256, and used offline from then on. [`batch`] lets the
//! requests of all sessions share the steps of a decoder.

mod arena;
pub mod batch;
pub mod cancel;
pub mod device;
mod int8;
pub mod kept;
pub mod language;
mod mapped;
pub mod panics;
pub mod store;
#[cfg(test)]
mod testing;
pub mod text_language;
pub mod tortoise;
pub mod translate;
pub mod vad;
pub mod voice;
pub mod whisper;

pub use cancel::CancelToken;
pub use language::{Language, UnknownLanguage};
