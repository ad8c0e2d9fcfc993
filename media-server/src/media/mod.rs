//! The media workers: OS threads that own UDP ports and the peers assigned to them.
//!
//! This file is the border: what the rest of the house asks of the media plane
//! ([`MediaPlane`]) and what it is told ([`Notice`]).

pub mod activity;
pub mod arrivals;
pub mod channel;
pub mod codec;
mod command;
pub mod conference;
mod conferences;
pub mod demux;
pub mod floor;
pub mod frames;
pub mod heard;
pub mod inbound;
pub mod jitter;
pub mod limiter;
pub mod line;
pub mod mixer;
mod originals;
pub mod outbound;
pub mod pace;
pub mod peer;
mod plane;
pub mod reorder;
pub mod sequence;
mod socket;
pub mod source;
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

/// A channel of a conference, chosen by the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

/// Gain of the original under an interpretation, in steps: what is mixed at one step is mixed and
/// encoded once for all who share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GainStep(u8);

impl GainStep {
    /// The gains.
    pub const GAINS: [f32; 5] = [0.0, 0.1, 0.2, 0.4, 1.0];

    /// The step nearest to a gain.
    #[must_use]
    pub fn nearest(gain: f32) -> Self {
        let distance = |step: &u8| (Self::GAINS[usize::from(*step)] - gain).abs();
        let step = (0..Self::GAINS.len() as u8).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        Self(step.unwrap_or(0))
    }

    /// Its gain.
    #[must_use]
    pub fn gain(self) -> f32 {
        Self::GAINS[self.index()]
    }

    /// The step of those who want no original at all.
    pub const NONE: Self = Self(0);

    /// Every step, the quietest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::GAINS.len() as u8).map(Self)
    }

    /// Its place in [`GAINS`](Self::GAINS).
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a listener of a conference hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programme {
    /// The original sound of everybody.
    Floor,
    /// What is interpreted into a language, over the floor.
    Channel {
        /// Which.
        channel: ChannelId,
        /// How loud the floor is under it.
        original: GainStep,
    },
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
