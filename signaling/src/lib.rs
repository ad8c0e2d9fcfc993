//! The HTTP face of Dragoman: rooms, tokens, sessions, events, health.
//!
//! [`wire`] holds the JSON types and has no dependencies on a server, so that clients (the load
//! test among them) share it. With the `server` feature (the default) [`house`] names the one
//! trait through which the face speaks to the media plane, and the rest serves it over HTTP:
//!
//! - [`keys`]: the server's API key, and the secret that signs tokens;
//! - [`tokens`]: minting and checking participant tokens (HS256 JWT);
//! - [`transcripts`]: what was said, kept in a file;
//! - [`server`]: the configuration, the router and the serving loop.
//!
//! Every error leaves as `application/problem+json` (RFC 9457).

pub mod wire;

#[cfg(feature = "server")]
mod access;
#[cfg(feature = "server")]
mod bodies;
#[cfg(feature = "server")]
mod development;
#[cfg(feature = "server")]
mod events;
#[cfg(feature = "server")]
pub mod house;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
mod middleware;
#[cfg(feature = "server")]
mod problem;
#[cfg(feature = "server")]
mod rooms;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod sessions;
#[cfg(feature = "server")]
mod status;
#[cfg(feature = "server")]
pub mod tokens;
#[cfg(feature = "server")]
pub mod transcripts;
#[cfg(feature = "server")]
mod validate;

#[cfg(feature = "server")]
pub use keys::{ApiKey, KeyError, TokenKey};
#[cfg(feature = "server")]
pub use server::{ApiConfig, router, serve};
#[cfg(feature = "server")]
pub use tokens::{TokenError, mint_admin_token, mint_token};
