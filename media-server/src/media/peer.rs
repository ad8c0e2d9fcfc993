//! One peer on a media worker: its connection, what it says and what it hears.
//!
//! Sans-IO: a worker drives it with datagrams and ticks, a test with the same and a clock of its
//! own. After every `handle_…` or `tick`, [`Peer::poll`] until it returns `None`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::conference::Conference;
use super::frames::PLAYOUT_SAMPLES;
use super::inbound::Inbound;
use super::limiter::Limiter;
use super::outbound::{Outbound, Progress, Tuned};
use super::stats::Counters;
use super::{CloseReason, PeerId};
use crate::transport::{
    ClosedBy, IceFragment, IceUpdate, Output, PeerConnection, RtpOut, Track, TransportError,
};

/// Time from the answer within which media must flow. A peer that sends datagrams but never
/// finishes the handshake would else stay for ever.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// What comes out of a peer.
#[derive(Debug)]
pub enum PeerOutput {
    /// A datagram to send.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: BytesMut,
    },
    /// Media flows, this long after the offer.
    Connected(Duration),
    /// The peer is gone; remove it.
    Closed(CloseReason),
}

/// A packet's place on the track of the interpretation, and what it did to the utterances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// RTP timestamp of the packet.
    pub rtp_timestamp: u32,
    /// Which utterance it begins or ends.
    pub progress: Progress,
}

/// One peer.
pub struct Peer {
    id: PeerId,
    connection: PeerConnection,
    inbound: Option<Inbound>,
    outbound: Option<Outbound>,
    /// When its offer came.
    offered: Instant,
    /// When the last datagram came, or the peer was made.
    heard_from: Instant,
    timeout: Duration,
    limiter: Limiter,
}

impl Peer {
    /// A peer whose offer came at `now` and is answered; `inbound` when it speaks, `outbound` when
    /// it listens.
    #[must_use]
    pub fn new(
        now: Instant,
        id: PeerId,
        connection: PeerConnection,
        inbound: Option<Inbound>,
        outbound: Option<Outbound>,
        timeout: Duration,
    ) -> Self {
        let limiter = Limiter::new(now);
        Self { id, connection, inbound, outbound, offered: now, heard_from: now, timeout, limiter }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Whether media flows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_connected()
    }

    /// Whether anything came from it lately.
    #[must_use]
    pub fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_from) < self.timeout / 3
    }

    /// Counts a datagram; false when the peer sends too many, and this one is to be dropped.
    pub fn is_fair(&mut self, now: Instant) -> bool {
        self.limiter.take(now)
    }

    /// Takes a datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.heard_from = now;
        self.connection.handle_datagram(now, from, datagram);
    }

    /// Takes what the peer says about its side of ICE. `expected` is our ICE user fragment that it
    /// goes by, when it goes by one.
    ///
    /// # Errors
    /// [`TransportError::StaleIce`] when that is not the one of now, [`TransportError::Stack`] when
    /// the stack refuses.
    pub fn update_ice(
        &mut self,
        now: Instant,
        expected: Option<&str>,
        fragment: &IceFragment,
    ) -> Result<IceUpdate, TransportError> {
        if expected.is_some_and(|expected| expected != self.connection.ice_ufrag()) {
            return Err(TransportError::StaleIce);
        }
        self.connection.update_ice(now, fragment)
    }

    /// Runs the connection's timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.connection.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    /// The next thing that happened. Packets that arrived are decoded on the way.
    pub fn poll(&mut self, now: Instant, counters: &Counters) -> Option<PeerOutput> {
        while let Some(output) = self.connection.poll() {
            match output {
                Output::Transmit { to, bytes } => return Some(PeerOutput::Transmit { to, bytes }),
                Output::Rtp(packet) => {
                    if let Some(inbound) = self.inbound.as_mut() {
                        inbound.packet(packet, counters);
                    }
                }
                Output::Connected => {
                    let after = now.saturating_duration_since(self.offered);
                    return Some(PeerOutput::Connected(after));
                }
                Output::Closed(by) => return Some(PeerOutput::Closed(by.into())),
            }
        }
        let is_silent = now.saturating_duration_since(self.heard_from) >= self.timeout;
        let is_overdue = !self.connection.is_connected()
            && now.saturating_duration_since(self.offered) >= CONNECT_WITHIN;
        (is_silent || is_overdue).then_some(PeerOutput::Closed(CloseReason::ConnectionLost))
    }

    /// First half of a tick: what the peer said. False when its original is silent.
    pub fn listen_to(
        &mut self,
        now: Instant,
        block: &mut [f32; PLAYOUT_SAMPLES],
        counters: &Counters,
    ) -> bool {
        match self.inbound.as_mut() {
            Some(inbound) if self.connection.is_connected() => {
                inbound.tick(now, counters);
                inbound.pull_original(now, block)
            }
            _ => false,
        }
    }

    /// Second half of a tick: what the peer hears. `None` when it does not listen (yet).
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder or the connection fails.
    pub fn speak_to<'a>(
        &mut self,
        now: Instant,
        tick: u64,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<Option<Sent>, TransportError> {
        if !self.connection.is_connected() {
            return Ok(None);
        }
        let Some(outbound) = self.outbound.as_mut() else {
            return Ok(None);
        };
        let id = self.id;
        // Nobody hears themselves, whatever the routes say.
        let original = |source| if source == id { None } else { original(source) };
        let (packets, progress) = outbound.tick(tick, original, counters)?;
        let rtp_timestamp = packets.interpretation.timestamp;
        self.connection.send_rtp(now, Track::Interpretation, packets.interpretation)?;
        counters.packets_out.add(1);
        if let Some(originals) = packets.originals {
            self.connection.send_rtp(now, Track::Originals, originals)?;
            counters.packets_out.add(1);
        }
        Ok(Some(Sent { rtp_timestamp, progress }))
    }

    /// Second half of a tick for a peer that is tuned to a programme of `conference`.
    ///
    /// # Errors
    /// As [`speak_to`](Self::speak_to).
    pub fn speak_to_tuned<'a>(
        &mut self,
        now: Instant,
        tick: u64,
        conference: &Conference,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<Option<Sent>, TransportError> {
        if !self.connection.is_connected() {
            return Ok(None);
        }
        let (Some(outbound), connection) = (self.outbound.as_mut(), &mut self.connection) else {
            return Ok(None);
        };
        let send = |track, packet: RtpOut<'_>| {
            counters.packets_out.add(1);
            connection.send_rtp(now, track, packet)
        };
        let (first, progress) = outbound.tick_tuned(tick, conference, original, counters, send)?;
        Ok(first.map(|rtp_timestamp| Sent { rtp_timestamp, progress }))
    }

    /// What it says, when it speaks and media flows.
    #[must_use]
    pub fn inbound(&self) -> Option<&Inbound> {
        self.inbound.as_ref().filter(|_| self.connection.is_connected())
    }

    /// What it is tuned to, when it listens to a conference.
    #[must_use]
    pub fn tuned(&self) -> Option<Tuned> {
        self.outbound.as_ref().and_then(Outbound::tuned)
    }

    /// Whether it has a track for the originals.
    #[must_use]
    pub fn has_originals(&self) -> bool {
        self.outbound.as_ref().is_some_and(Outbound::has_originals)
    }

    /// What it hears and how loud, when it listens.
    pub fn outbound(&mut self) -> Option<&mut Outbound> {
        self.outbound.as_mut()
    }

    /// How loud the peer hears interpretations, 0 to 1.
    pub fn set_voice_gain(&mut self, gain: f32) {
        if let Some(outbound) = &mut self.outbound {
            outbound.set_voice_gain(gain);
        }
    }

    /// Says goodbye; what is to be sent comes out of [`poll`](Self::poll).
    pub fn close(&mut self) {
        self.connection.close();
    }
}

impl From<ClosedBy> for CloseReason {
    fn from(by: ClosedBy) -> Self {
        match by {
            ClosedBy::Peer => Self::RemoteClosed,
            ClosedBy::Ice => Self::ConnectionLost,
            ClosedBy::Failure => Self::Failed,
        }
    }
}
