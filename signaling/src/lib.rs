//! The HTTP face of Dragoman: rooms, tokens, sessions, events, health.
//!
//! [`wire`] holds the JSON types and has no dependencies on a server, so that clients (the load
//! test among them) share it. With the `server` feature (the default) [`house`] names the one
//! trait through which the face speaks to the media plane, and the rest serves it over HTTP:
//!
//! - [`keys`] and [`key_ring`]: the server's API keys, and the secrets that sign tokens;
//! - [`tokens`]: minting and checking participant tokens (HS256 JWT);
//! - [`server`]: the configuration and the router;
//! - [`Serving`]: the loop that serves it, with or without TLS;
//! - [`webhooks`]: what the operator's other services are told;
//! - [`libretranslate`] and [`openai`]: other programs' interfaces over the same models, which they
//!   reach through the trait of [`studio`];
//! - [`transcripts`]: what was said, kept in a file.
//!
//! Every error leaves as `application/problem+json` (RFC 9457), except on those two.

pub mod wire;

#[cfg(feature = "server")]
mod accept;
#[cfg(feature = "server")]
mod access;
#[cfg(feature = "server")]
mod bodies;
#[cfg(feature = "server")]
mod buckets;
#[cfg(feature = "server")]
mod client;
#[cfg(feature = "server")]
mod credentials;
#[cfg(feature = "server")]
mod development;
#[cfg(feature = "server")]
mod events;
#[cfg(feature = "server")]
mod form;
#[cfg(feature = "server")]
mod guard;
#[cfg(feature = "server")]
pub mod house;
#[cfg(feature = "server")]
pub mod key_ring;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod libretranslate;
#[cfg(feature = "server")]
mod limits;
#[cfg(feature = "server")]
mod livekit;
#[cfg(feature = "server")]
mod middleware;
#[cfg(feature = "server")]
mod negotiation;
#[cfg(feature = "server")]
pub mod openai;
#[cfg(feature = "server")]
mod openapi;
#[cfg(feature = "server")]
mod parameters;
#[cfg(feature = "server")]
mod participants;
#[cfg(feature = "server")]
mod problem;
#[cfg(feature = "server")]
mod revocation;
#[cfg(feature = "server")]
mod rooms;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod serving;
#[cfg(feature = "server")]
mod sessions;
#[cfg(feature = "server")]
mod shutdown;
#[cfg(feature = "server")]
mod stats;
#[cfg(feature = "server")]
mod status;
#[cfg(feature = "server")]
pub mod studio;
#[cfg(feature = "server")]
mod tls;
#[cfg(feature = "server")]
pub mod tokens;
#[cfg(feature = "server")]
pub mod transcripts;
#[cfg(feature = "server")]
mod turn;
#[cfg(feature = "server")]
mod validate;
#[cfg(feature = "server")]
mod voices;
#[cfg(feature = "server")]
pub mod webhooks;
#[cfg(feature = "server")]
mod whep;
#[cfg(feature = "server")]
mod whip;

#[cfg(feature = "server")]
pub use client::Network;
#[cfg(feature = "server")]
pub use key_ring::NamedKey;
#[cfg(feature = "server")]
pub use keys::{ApiKey, KeyError, TokenKey};
#[cfg(feature = "server")]
pub use limits::LimitsConfig;
#[cfg(feature = "server")]
pub use livekit::mint_livekit_token;
#[cfg(feature = "server")]
pub use server::{ApiConfig, router, router_with};
#[cfg(feature = "server")]
pub use serving::{Serving, serve};
#[cfg(feature = "server")]
pub use shutdown::drain;
#[cfg(feature = "server")]
pub use stats::{Count, Stats};
#[cfg(feature = "server")]
pub use tls::{Tls, TlsError, TlsFiles};
#[cfg(feature = "server")]
pub use tokens::{TokenError, mint_admin_token, mint_token};
#[cfg(feature = "server")]
pub use turn::{TurnConfig, TurnError};
