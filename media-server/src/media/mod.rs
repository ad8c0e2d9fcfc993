//! The media workers: OS threads that own UDP ports and the peers assigned to them.
//!
//! This file is the border: what the rest of the house asks of the media plane
//! ([`MediaPlane`]) and what it is told ([`Notice`]).

pub mod codec;
pub mod demux;
pub mod frames;
pub mod heard;
pub mod inbound;
pub mod jitter;
pub mod limiter;
pub mod mixer;
pub mod outbound;
pub mod pace;
pub mod peer;
mod plane;
pub mod reorder;
pub mod sequence;
pub mod stats;
pub mod stretch;
pub mod timeline;
pub mod track;
mod worker;

use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use plane::MediaPlane;
pub use stats::Stats;

use crate::media::frames::{HeardReader, PlayoutWriter};

/// Identifies a peer (a WebRTC connection) on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// How the media plane listens.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// Address that the UDP sockets bind to; `::` takes IPv4 too.
    pub bind: IpAddr,
    /// First UDP port; each worker takes the next one. 0 takes ephemeral ports.
    pub port: u16,
    /// Addresses that are offered as host candidates; empty offers `bind`, or every address of
    /// this machine when `bind` is unspecified.
    pub announce: Vec<IpAddr>,
    /// Number of media workers.
    pub workers: usize,
    /// Time without any datagram, or without consent (RFC 7675; at most 30 s), after which a peer
    /// counts as lost.
    pub peer_timeout: Duration,
    /// Whether the workers ask for the system's real-time class.
    pub real_time: bool,
}

/// A peer that wants to connect.
#[derive(Clone, Debug)]
pub struct ConnectPeer {
    /// Its id, chosen by the house; a peer that has it already is ended.
    pub peer: PeerId,
    /// Its room, as any number: peers of one room share a worker, since only there one can hear
    /// the other's original.
    pub room: u64,
    /// Its SDP offer.
    pub offer_sdp: String,
    /// Whether its speech is taken. Ignored when the offer sends nothing.
    pub speak: bool,
    /// Whether it gets a track. Ignored when the offer receives nothing.
    pub listen: bool,
}

/// What a new peer is connected to.
pub struct Connected {
    /// The SDP answer, with every candidate in it.
    pub answer_sdp: String,
    /// ICE user fragment of the answer: the session's entity tag.
    pub ice_ufrag: String,
    /// `mid` of the audio section that carries the interpretation.
    pub track_mid: String,
    /// `mid` of the audio section that carries the originals apart, when the offer had one for
    /// them.
    pub originals_mid: Option<String>,
    /// Decoded speech of the peer. Its writer is gone (`write_is_held` is false) when the peer is,
    /// or does not speak.
    pub heard: HeardReader,
    /// Where synthesised speech for the peer goes. Its reader is gone (`read_is_held` is false)
    /// when the peer is, or does not listen: do not wait for room then.
    pub playout: PlayoutWriter,
}

/// What a media worker tells the house. Sent with `try_send` into a bounded channel: a worker never
/// waits; what does not fit is counted and logged.
#[derive(Clone, Debug)]
pub enum Notice {
    /// DTLS is up: media flows.
    PeerConnected {
        /// Which peer.
        peer: PeerId,
        /// Time since its offer came.
        after: Duration,
    },
    /// The peer is gone; its rings are closed.
    PeerClosed {
        /// Which peer.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
    /// The first packet of an utterance left.
    Spoken {
        /// Listener.
        peer: PeerId,
        /// Which utterance.
        utterance: u64,
        /// RTP timestamp of the packet on the listener's track.
        rtp_timestamp: u32,
        /// When it was sent.
        sent: Instant,
    },
    /// The last packet of an utterance left.
    Finished {
        /// Listener.
        peer: PeerId,
        /// Which utterance.
        utterance: u64,
        /// When it was sent.
        sent: Instant,
    },
}

/// Why a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The house asked for it.
    Requested,
    /// Nothing arrived for the timeout, or ICE consent expired.
    ConnectionLost,
    /// The peer closed the connection.
    RemoteClosed,
    /// The peer's state machine failed; the log says how.
    Failed,
}
