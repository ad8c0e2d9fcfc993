//! The media plane of Dragoman and what puts the house together.
//!
//! Datagrams come in at [`media`], whose workers drive the WebRTC state machines of [`transport`];
//! decoded speech passes through rings ([`media::frames`]) to the [`listener`], whose [`segmenter`]
//! cuts it; the [`engine`] recognises, translates and speaks; the [`speaker`] fills the playout
//! rings; and [`rooms`] knows who hears whom. The [`studio`] has the models without a room, the
//! [`catalogue`] lists what they offer, [`learning`] is about voices that are learned. [`cli`] puts them together.

pub mod audio_file;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod engine;
pub mod learning;
pub mod listener;
pub mod media;
pub mod metrics;
pub mod priority;
pub mod resample;
pub mod rooms;
pub mod segmenter;
pub mod speaker;
pub mod studio;
pub mod trace;
pub mod transcripts;
pub mod transport;
