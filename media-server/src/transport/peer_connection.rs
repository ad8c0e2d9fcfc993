//! One answered WebRTC connection: ICE, DTLS and SRTP behind five calls.
//!
//! Drive it like this: after every [`handle_datagram`](PeerConnection::handle_datagram),
//! [`handle_timeout`](PeerConnection::handle_timeout) or
//! [`send_rtp`](PeerConnection::send_rtp), call [`poll`](PeerConnection::poll) until it returns
//! `None`; then ask [`poll_timeout`](PeerConnection::poll_timeout) when to call again.
//!
//! ICE runs in full mode although the server sits at a public address: with this stack a lite agent
//! takes about three times as long to connect, because it drops the first DTLS flight.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{RTCDtlsTransportState, RTCIceCandidateInit};
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::io::{Answer, ClosedBy, IceUpdate, Output, RtpIn, RtpOut};
use super::sdp::{Credentials, Flow, IceFragment, Local, Offer, Track, host_candidate};
use super::stack::{self, stack_error};
use super::{TransportError, stun};

/// Most streams of a peer that are shown to the stack, each of RTP and RTCP. It keeps a state for
/// every SSRC that it sees, before it knows whether the packet is genuine; an honest peer has one.
const MAX_STREAMS: usize = 16;

/// One answered connection. See the module's documentation for the loop.
pub struct PeerConnection {
    stack: RTCPeerConnection,
    offer: Offer,
    sender: Option<RTCRtpSenderId>,
    /// In the order of [`Track::ALL`].
    ssrcs: [u32; 2],
    payload_type: u8,
    /// What the peer is offered.
    candidates: Vec<SocketAddr>,
    /// The peer's ICE credentials of now, and our user fragment.
    remote: Credentials,
    ice_ufrag: String,
    /// SSRCs of the peer's RTP and RTCP.
    streams: [Vec<u32>; 2],
    /// Whether ICE is looking for a pair.
    is_checking: bool,
    /// How long consent lasts, and when the peer last answered a check of ours.
    consent: Duration,
    consented: Instant,
    /// Local candidates that the ICE agent knows: one per address family.
    bases: Vec<SocketAddr>,
    connected: bool,
    closed: bool,
    /// A DTLS datagram came in: the peer may have closed.
    look_at_dtls: bool,
    /// An end that was noticed but not told yet.
    ending: Option<ClosedBy>,
    /// A nomination that came before our own check of its pair was answered.
    nomination: Option<(SocketAddr, BytesMut)>,
}

impl PeerConnection {
    /// Answers an offer. `candidates` are the addresses under which the peer can reach the socket
    /// that will feed this connection, the preferred first; `wanted` is which ways audio may go;
    /// a peer that answers no consent check (RFC 7675) for `consent` has failed.
    ///
    /// The ICE agent itself knows one address per family. The others are aliases of the same
    /// socket: they stand in the answer, and what arrives through them is taken as arriving at the
    /// first.
    ///
    /// # Errors
    /// [`TransportError::BadSdp`] and [`TransportError::Unacceptable`] for the offer,
    /// [`TransportError::Stack`] when the WebRTC stack refuses what passed our own judgement.
    pub fn accept(
        now: Instant,
        offer_sdp: &str,
        wanted: Flow,
        candidates: &[SocketAddr],
        consent: Duration,
    ) -> Result<(Self, Answer), TransportError> {
        let offer = Offer::read(offer_sdp, wanted)?;
        let mut stack = stack::build(now, offer.setup, offer.payload_type, consent)?;
        let for_stack = offer.for_stack(&offer.credentials, &offer.candidates);
        let remote = RTCSessionDescription::offer(for_stack).map_err(stack_error)?;
        stack.set_remote_description(now, remote).map_err(stack_error)?;
        let first = rand::random::<u32>();
        let ssrcs = [first, first.wrapping_add(1)];
        let sender = if offer.flow.listen {
            Some(stack.add_track(stack::tracks(ssrcs)).map_err(stack_error)?)
        } else {
            None
        };
        let bases = one_per_family(candidates);
        for (index, base) in bases.iter().enumerate() {
            let candidate = RTCIceCandidateInit {
                candidate: host_candidate(index, *base),
                ..RTCIceCandidateInit::default()
            };
            stack.add_local_candidate(candidate).map_err(stack_error)?;
        }
        let local = answer_of(&mut stack, now)?;
        let mid = offer.mid_of(Track::Interpretation).unwrap_or_else(|| offer.first_mid());
        let answer = Answer {
            sdp: offer.answer(&local, candidates, ssrcs),
            ice_ufrag: local.credentials.ufrag.clone(),
            mid: mid.to_owned(),
            originals_mid: offer.mid_of(Track::Originals).map(str::to_owned),
            flow: offer.flow,
        };
        let connection = Self {
            stack,
            sender,
            ssrcs,
            payload_type: offer.payload_type,
            candidates: candidates.to_vec(),
            remote: offer.credentials.clone(),
            ice_ufrag: local.credentials.ufrag,
            offer,
            streams: [Vec::new(), Vec::new()],
            is_checking: true,
            consent,
            consented: now,
            bases,
            connected: false,
            closed: false,
            look_at_dtls: false,
            ending: None,
            nomination: None,
        };
        Ok((connection, answer))
    }

    /// Takes what the peer says about its side of ICE: candidates, or the wish to start over
    /// (RFC 8445 section 9), which it makes known by new credentials.
    ///
    /// A restart leaves DTLS, SRTP and the tracks as they are. The stack forgets the old path at
    /// once, so until the peer has nominated a new one, packets get lost both ways.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the stack refuses.
    pub fn update_ice(
        &mut self,
        now: Instant,
        fragment: &IceFragment,
    ) -> Result<IceUpdate, TransportError> {
        let Some(credentials) = fragment.credentials.as_ref().filter(|new| **new != self.remote)
        else {
            for candidate in &fragment.candidates {
                let candidate = RTCIceCandidateInit {
                    candidate: candidate.clone(),
                    ..RTCIceCandidateInit::default()
                };
                self.stack.add_remote_candidate(candidate).map_err(stack_error)?;
            }
            return Ok(IceUpdate::Trickled);
        };
        // An offer with new credentials is what restarts ICE at the answering side (RFC 8839
        // section 4.4.1.1.1); all the rest of it is as it was.
        let again = self.offer.for_stack(credentials, &fragment.candidates);
        let again = RTCSessionDescription::offer(again).map_err(stack_error)?;
        self.stack.set_remote_description(now, again).map_err(stack_error)?;
        let local = answer_of(&mut self.stack, now)?;
        self.remote = credentials.clone();
        self.ice_ufrag.clone_from(&local.credentials.ufrag);
        self.is_checking = true;
        self.consented = now;
        self.nomination = None;
        Ok(IceUpdate::Restarted {
            fragment: self.offer.answer_fragment(&local.credentials, &self.candidates),
            ice_ufrag: local.credentials.ufrag,
        })
    }

    /// Our ICE user fragment: names this connection in the peer's checks.
    #[must_use]
    pub fn ice_ufrag(&self) -> &str {
        &self.ice_ufrag
    }

    /// Takes a datagram that is for this connection. Whatever its bytes are, the connection
    /// survives.
    ///
    /// The stack does not answer a nomination while its own check of the pair is under way, as
    /// RFC 8445 section 7.3.1.5 has it, but forgets it too. A peer that nominates with its first
    /// check would then wait for its retransmission, half a second. So the nomination is shown to
    /// the stack once more when the answer to our check has come.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let kind = stun::kind(datagram);
        self.look_at_dtls |= kind == stun::Kind::Dtls;
        if kind == stun::Kind::Rtp && !self.is_known_stream(datagram) {
            return;
        }
        if stun::is_success(datagram) {
            self.consented = now;
        }
        self.read(now, from, BytesMut::from(datagram));
        if !self.is_checking || kind != stun::Kind::Stun {
            return;
        }
        if stun::is_nomination(datagram) {
            self.nomination = Some((from, BytesMut::from(datagram)));
        } else if stun::is_success(datagram)
            && let Some((_, nomination)) = self.nomination.take_if(|(by, _)| *by == from)
        {
            self.read(now, from, nomination);
        }
    }

    /// Whether an RTP or RTCP packet belongs to one of the few streams that a peer may have.
    fn is_known_stream(&mut self, datagram: &[u8]) -> bool {
        let Some((is_rtcp, ssrc)) = stun::rtp_stream(datagram) else { return false };
        let streams = &mut self.streams[usize::from(is_rtcp)];
        if streams.contains(&ssrc) {
            return true;
        }
        let has_room = streams.len() < MAX_STREAMS;
        if has_room {
            streams.push(ssrc);
        }
        has_room
    }

    fn read(&mut self, now: Instant, from: SocketAddr, message: BytesMut) {
        let Some(&local_addr) = self.bases.iter().find(|base| base.is_ipv4() == from.is_ipv4())
        else {
            return;
        };
        let transport = TransportContext {
            local_addr,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        if let Err(error) = self.stack.handle_read(TaggedBytesMut { now, transport, message }) {
            tracing::debug!(%error, %from, "datagram refused");
        }
    }

    /// Lets the timers of ICE, DTLS and RTCP run.
    ///
    /// The stack takes checks of the peer for consent too; by RFC 7675 section 5.1 only answers to
    /// ours are. A peer that sends and does not listen is told apart here.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.connected && now.saturating_duration_since(self.consented) > self.consent {
            self.ending.get_or_insert(ClosedBy::Ice);
        }
        if let Err(error) = self.stack.handle_timeout(now) {
            tracing::warn!(%error, "webrtc timer failed");
            self.ending.get_or_insert(ClosedBy::Failure);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; may be in the past.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.stack.poll_timeout()
    }

    /// The next thing that happened, `None` when there is no more for now.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(datagram) = self.stack.poll_write() {
                let to = datagram.transport.peer_addr;
                return Some(Output::Transmit { to, bytes: datagram.message });
            }
            // Polling events lets the handshakes proceed, which may queue datagrams: look again.
            if let Some(event) = self.stack.poll_event() {
                match self.noticed(&event) {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if let Some(message) = self.stack.poll_read() {
                if let RTCMessage::RtpPacket(_, packet) = message.message
                    && packet.header.payload_type == self.payload_type
                {
                    return Some(Output::Rtp(RtpIn {
                        arrived: message.now,
                        sequence: packet.header.sequence_number,
                        timestamp: packet.header.timestamp,
                        payload: packet.payload,
                    }));
                }
                continue;
            }
            if std::mem::take(&mut self.look_at_dtls) && self.is_dtls_closed() {
                self.ending.get_or_insert(ClosedBy::Peer);
            }
            let by = self.ending.take()?;
            if !std::mem::replace(&mut self.closed, true) {
                return Some(Output::Closed(by));
            }
        }
    }

    /// Sends a packet on one of our tracks.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the peer does not listen or the stack refuses the packet.
    pub fn send_rtp(
        &mut self,
        now: Instant,
        track: Track,
        packet: RtpOut<'_>,
    ) -> Result<(), TransportError> {
        let mut sender = self
            .sender
            .and_then(|id| self.stack.rtp_sender(id))
            .ok_or_else(|| TransportError::Stack("the peer does not listen".to_owned()))?;
        let header = rtc::rtp::Header {
            version: 2,
            marker: packet.marker,
            payload_type: self.payload_type,
            sequence_number: packet.sequence,
            timestamp: packet.timestamp,
            ssrc: self.ssrcs[track as usize],
            ..rtc::rtp::Header::default()
        };
        let payload = Bytes::copy_from_slice(packet.payload);
        sender.write_rtp(now, rtc::rtp::Packet { header, payload }).map_err(stack_error)
    }

    /// Whether media flows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected && !self.closed
    }

    /// Ends the connection; the farewell (DTLS `close_notify`) comes out of
    /// [`poll`](Self::poll).
    pub fn close(&mut self) {
        self.closed = true;
        if let Err(error) = self.stack.close() {
            tracing::debug!(%error, "closing");
        }
    }

    fn noticed(&mut self, event: &RTCPeerConnectionEvent) -> Option<Output> {
        let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else {
            return None;
        };
        match state {
            RTCPeerConnectionState::Connected => {
                self.is_checking = false;
                (!std::mem::replace(&mut self.connected, true)).then_some(Output::Connected)
            }
            RTCPeerConnectionState::Failed => {
                self.ending.get_or_insert(ClosedBy::Ice);
                None
            }
            _ => None,
        }
    }

    /// The stack raises no event when the peer's `close_notify` arrives, so its state is asked.
    fn is_dtls_closed(&mut self) -> bool {
        let receiver = self.stack.get_receivers().next();
        let state = match (self.sender, receiver) {
            (Some(id), _) => self
                .stack
                .rtp_sender(id)
                .and_then(|sender| sender.transport().map(|transport| transport.state())),
            (None, Some(id)) => self
                .stack
                .rtp_receiver(id)
                .and_then(|receiver| receiver.transport().map(|transport| transport.state())),
            (None, None) => None,
        };
        state == Some(RTCDtlsTransportState::Closed)
    }
}

/// Lets the stack answer the offer that it was given.
fn answer_of(stack: &mut RTCPeerConnection, now: Instant) -> Result<Local, TransportError> {
    let answer = stack.create_answer(None).map_err(stack_error)?;
    stack.set_local_description(now, answer.clone()).map_err(stack_error)?;
    Local::read(&answer.sdp)
}

/// The first address of each family.
fn one_per_family(candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = |v4: bool| candidates.iter().copied().find(move |base| base.is_ipv4() == v4);
    first(true).into_iter().chain(first(false)).collect()
}

#[cfg(test)]
#[path = "peer_connection_tests.rs"]
mod tests;
