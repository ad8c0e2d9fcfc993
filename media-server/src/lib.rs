//! The media plane of Dragoman and what puts the house together.
//!
//! Datagrams come in at [`media`], whose workers drive the WebRTC state machines of [`transport`];
//! decoded speech passes through rings ([`media::frames`]) to the [`segmenter`], and what the
//! models make of it comes back the same way.

pub mod audio_file;
pub mod cli;
pub mod media;
pub mod resample;
pub mod segmenter;
pub mod transport;
