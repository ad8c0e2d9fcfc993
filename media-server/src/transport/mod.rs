//! WebRTC, and the only place that names the `rtc` crate.
//!
//! Everything here is sans-IO: it owns no socket, no thread and no clock. Bytes and instants come
//! in as arguments, and what should be sent comes out of [`PeerConnection::poll`].

mod addresses;
mod certificate;
mod io;
mod peer_connection;
mod sdp;
mod stack;
pub mod stun;

pub use addresses::host_addresses;
pub use io::{Answer, ClosedBy, IceUpdate, Output, RtpIn, RtpOut};
pub use peer_connection::PeerConnection;
pub use sdp::{Flow, IceFragment, Track};

/// Why a peer connection could not be made or failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The UDP port is taken: choose another one in the configuration.
    #[error("cannot bind UDP {address}: choose another media port or address")]
    Bind {
        /// Address and port.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The offer is no SDP.
    #[error("the offer is not valid SDP: {0}")]
    BadSdp(String),
    /// The offer is SDP but cannot be answered: no audio section, no Opus, no bundle.
    #[error("the offer cannot be accepted: {0}")]
    Unacceptable(String),
    /// The fragment about ICE cannot be used; the session is as it was.
    #[error("the fragment cannot be used: {0}")]
    BadFragment(String),
    /// The fragment is about an ICE session that was replaced meanwhile.
    #[error("the entity tag belongs to another ICE session than the one of now")]
    StaleIce,
    /// The peer is gone.
    #[error("there is no such peer any more")]
    NoSuchPeer,
    /// The state machine failed.
    #[error("webrtc: {0}")]
    Stack(String),
    /// The media worker that should serve the peer is stopped or has too many commands waiting;
    /// try again later.
    #[error("the media worker takes no more peers now; try again later")]
    WorkerBusy,
}
