//! The UDP port of a media worker.

use std::net::{SocketAddr, UdpSocket};

use super::stats::Counters;

/// The worker's port.
pub struct Socket {
    /// Non-blocking.
    pub udp: UdpSocket,
    is_v6: bool,
}

impl Socket {
    /// The port behind a socket.
    pub fn new(udp: UdpSocket) -> Self {
        let is_v6 = udp.local_addr().is_ok_and(|local| local.is_ipv6());
        Self { udp, is_v6 }
    }

    /// Sends a datagram, or counts that the system did not take it.
    pub fn send(&self, to: SocketAddr, bytes: &[u8], counters: &Counters) {
        let to = match to {
            SocketAddr::V4(v4) if self.is_v6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        };
        if let Err(error) = self.udp.send_to(bytes, to) {
            // A full send buffer or an unreachable candidate: a lost datagram like any other.
            counters.send_errors.add(1);
            tracing::trace!(%error, %to, "datagram not sent");
        }
    }
}
