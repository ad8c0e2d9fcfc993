//! WebRTC, and the only place that names the `rtc` crate.

/// Why a peer connection could not be made or failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The UDP port is taken: choose another one in the configuration.
    #[error("cannot bind UDP {address}")]
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
    /// The state machine failed.
    #[error("webrtc: {0}")]
    Stack(String),
}
