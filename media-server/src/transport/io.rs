//! What goes into a connection and what comes out of it.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::sdp::Flow;

/// What the peer gets back, and what the server remembers of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The SDP answer, with every candidate in it.
    pub sdp: String,
    /// ICE user fragment of the answer: names this connection in the peer's checks.
    pub ice_ufrag: String,
    /// `mid` of the section that carries the interpretation; of a peer that does not listen, of its
    /// microphone.
    pub mid: String,
    /// `mid` of the section that carries the originals, of a peer with a track for them.
    pub originals_mid: Option<String>,
    /// Which ways audio goes.
    pub flow: Flow,
}

/// What an [`super::IceFragment`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IceUpdate {
    /// Its candidates were taken, or not needed.
    Trickled,
    /// ICE starts over, under everything else.
    Restarted {
        /// Our side of it, as `application/trickle-ice-sdpfrag` with every candidate in it.
        fragment: String,
        /// Our new ICE user fragment.
        ice_ufrag: String,
    },
}

/// An RTP packet that arrived (RFC 3550 section 5.1), decrypted, of the negotiated codec.
#[derive(Clone, Debug)]
pub struct RtpIn {
    /// When its datagram was read.
    pub arrived: Instant,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp, 48 kHz ticks (RFC 7587 section 4.1).
    pub timestamp: u32,
    /// The Opus packet; empty when the packet was padding alone.
    pub payload: Bytes,
}

/// An RTP packet to send; payload type and SSRC are filled in.
#[derive(Clone, Copy, Debug)]
pub struct RtpOut<'a> {
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp, 48 kHz ticks.
    pub timestamp: u32,
    /// Marker bit: first packet of a talk spurt (RFC 3551 section 4.1).
    pub marker: bool,
    /// The Opus packet.
    pub payload: &'a [u8],
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer said so: DTLS `close_notify`.
    Peer,
    /// ICE lost the peer: no answer to consent checks, or no pair ever worked.
    Ice,
    /// The stack failed.
    Failure,
}

/// What comes out of a connection.
#[derive(Debug)]
pub enum Output {
    /// A datagram to send.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: BytesMut,
    },
    /// A packet arrived.
    Rtp(RtpIn),
    /// ICE and DTLS are up: media flows. Comes once.
    Connected,
    /// The connection ended. Comes once, and nothing but datagrams after it.
    Closed(ClosedBy),
}
