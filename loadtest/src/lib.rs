//! Headless callers for Dragoman: they speak recordings over real WebRTC and measure what they
//! hear.
//!
//! - [`api`]: a small client of the HTTP face (rooms, tokens, sessions);
//! - [`caller`]: one participant, a peer on the `webrtc` crate that speaks and records;
//! - [`events`] and [`utterances`]: the room's events with the instant each arrived, and what the
//!   server did with what it heard;
//! - [`call`]: one whole two-party call and its report, which the self-check and the
//!   `dragoman-loadtest call` command run;
//! - [`scenario`] and [`schedule`]: what a load is to be, and the plan drawn from it;
//!   [`corpus`] and [`clip`]: what is said in it;
//! - [`run`]: a whole load, with [`outcome`] judging each sentence, [`canary`] watching the
//!   generator itself, and [`objective`] what has to hold;
//! - [`report`]: what a load found, [`table`], [`html`] and [`distribution`] its forms, and
//!   [`compare`] two of them side by side;
//! - [`impairment`]: a bad network in virtual time, [`relay`] the same on a real socket, and [`detour`] callers' way through it;
//! - [`wav`] and [`level`]: recordings in and out, and where in them there is sound.
//!
//! All audio is 48 kHz, mono, `f32` within -1 to 1, unless a name says otherwise.

pub mod api;
pub mod call;
pub mod caller;
pub mod canary;
pub mod clip;
pub mod compare;
pub mod corpus;
pub mod detour;
pub mod distribution;
pub mod events;
pub mod html;
pub mod impairment;
pub mod level;
mod listening;
mod microphone;
pub mod objective;
pub mod outcome;
mod peer;
pub mod playout;
pub mod plot;
pub mod recording;
pub mod relay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod search;
mod session;
pub mod table;
pub mod utterances;
pub mod wav;
pub mod word_error;

/// The sample rate of all audio in this crate, Hz; also Opus's RTP clock (RFC 7587 §4.1).
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples in one packet of 20 ms.
pub const FRAME: usize = 960;

/// Time from one packet to the next.
pub const PACKET_TIME: std::time::Duration = std::time::Duration::from_millis(20);
