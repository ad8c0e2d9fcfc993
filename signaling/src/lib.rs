//! The HTTP face of Dragoman: rooms, tokens, sessions, events, health.
//!
//! [`wire`] holds the JSON types and has no dependencies on a server, so that clients (the load
//! test among them) share it. With the `server` feature (the default) [`house`] names the one
//! trait through which the face speaks to the media plane, and the rest serves it over HTTP.

pub mod wire;

#[cfg(feature = "server")]
pub mod house;
