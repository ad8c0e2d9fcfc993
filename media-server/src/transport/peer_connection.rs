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
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::{Registry, configure_rtcp_reports};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::{SettingEngine, SettingEngineBuilder};
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCDtlsTransportState, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::certificate::process_certificate;
use super::sdp::{self, Flow, Offer, Setup};
use super::{TransportError, stun};

/// Between connectivity checks of ours. RFC 8445 section 14.2 paces them at 50 ms; the stack's own
/// 200 ms would be what a peer waits when its first check was lost.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Checks per pair before it rests; the peer's own checks wake it.
const MAX_CHECKS: u16 = 60;
/// Between consent checks (RFC 7675 section 5.1 asks for 5 s at most).
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
/// Without an answer to consent checks the connection counts as interrupted, then as failed (30 s
/// in all, RFC 7675 section 5.1).
const INTERRUPTED_AFTER: Duration = Duration::from_secs(5);
const FAILED_AFTER: Duration = Duration::from_secs(25);

/// What the peer gets back, and what the server remembers of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The SDP answer, with every candidate in it.
    pub sdp: String,
    /// ICE user fragment of the answer: names this connection in the peer's checks.
    pub ice_ufrag: String,
    /// `mid` of the audio section.
    pub mid: String,
    /// Which ways audio goes.
    pub flow: Flow,
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

/// One answered connection. See the module's documentation for the loop.
pub struct PeerConnection {
    stack: RTCPeerConnection,
    sender: Option<RTCRtpSenderId>,
    ssrc: u32,
    payload_type: u8,
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
    /// that will feed this connection, the preferred first; `wanted` is which ways audio may go.
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
    ) -> Result<(Self, Answer), TransportError> {
        let offer = Offer::read(offer_sdp, wanted)?;
        let codec = opus_codec(offer.payload_type);
        let mut media_engine = MediaEngine::default();
        media_engine.register_codec(codec.clone(), RtpCodecKind::Audio).map_err(stack_error)?;
        let mut stack = RTCPeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::new()
                    .with_certificates(vec![process_certificate()?])
                    .build(),
            )
            .with_media_engine(media_engine)
            .with_setting_engine(settings(offer.setup))
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .build(now)
            .map_err(stack_error)?;

        let remote = RTCSessionDescription::offer(offer.trimmed.clone()).map_err(stack_error)?;
        stack.set_remote_description(now, remote).map_err(stack_error)?;
        let ssrc = rand::random::<u32>();
        let sender = if offer.flow.listen {
            Some(stack.add_track(voice_track(ssrc, codec.rtp_codec)).map_err(stack_error)?)
        } else {
            None
        };
        let bases = one_per_family(candidates);
        for (index, base) in bases.iter().enumerate() {
            let priority = sdp::host_priority(index);
            let candidate = RTCIceCandidateInit {
                candidate: format!(
                    "candidate:{} 1 udp {priority} {} {} typ host",
                    index + 1,
                    base.ip(),
                    base.port()
                ),
                ..RTCIceCandidateInit::default()
            };
            stack.add_local_candidate(candidate).map_err(stack_error)?;
        }
        let local = stack.create_answer(None).map_err(stack_error)?;
        stack.set_local_description(now, local.clone()).map_err(stack_error)?;

        let sdp = offer.complete_answer(&local.sdp, candidates)?;
        let ice_ufrag = sdp::ice_ufrag(&sdp)
            .ok_or_else(|| TransportError::Stack("the answer has no ice-ufrag".to_owned()))?
            .to_owned();
        let answer = Answer { sdp, ice_ufrag, mid: offer.mid, flow: offer.flow };
        let connection = Self {
            stack,
            sender,
            ssrc,
            payload_type: offer.payload_type,
            bases,
            connected: false,
            closed: false,
            look_at_dtls: false,
            ending: None,
            nomination: None,
        };
        Ok((connection, answer))
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
        self.read(now, from, BytesMut::from(datagram));
        if self.connected || kind != stun::Kind::Stun {
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
    pub fn handle_timeout(&mut self, now: Instant) {
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

    /// Sends a packet on our track.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the peer does not listen or the stack refuses the packet.
    pub fn send_rtp(&mut self, now: Instant, packet: RtpOut<'_>) -> Result<(), TransportError> {
        let sender = self
            .sender
            .and_then(|id| self.stack.rtp_sender(id))
            .ok_or_else(|| TransportError::Stack("the peer does not listen".to_owned()))?;
        let mut sender = sender;
        let header = rtc::rtp::Header {
            version: 2,
            marker: packet.marker,
            payload_type: self.payload_type,
            sequence_number: packet.sequence,
            timestamp: packet.timestamp,
            ssrc: self.ssrc,
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
            RTCPeerConnectionState::Connected if !self.connected => {
                self.connected = true;
                Some(Output::Connected)
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

fn settings(offered: Setup) -> SettingEngine {
    // As DTLS client the server starts the handshake as soon as a pair works, which saves a round
    // trip (RFC 8842 section 5.3).
    let role = match offered {
        Setup::ActPass | Setup::Passive => RTCDtlsRole::Client,
        Setup::Active => RTCDtlsRole::Server,
    };
    SettingEngineBuilder::new()
        .with_answering_dtls_role(role)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_CHECKS))
        .with_ice_timeouts(Some(INTERRUPTED_AFTER), Some(FAILED_AFTER), Some(CONSENT_INTERVAL))
        .build()
}

fn opus_codec(payload_type: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    }
}

fn voice_track(ssrc: u32, codec: RTCRtpCodec) -> MediaStreamTrack {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        codec,
        ..RTCRtpEncodingParameters::default()
    };
    let name = |part: &str| part.to_owned();
    MediaStreamTrack::new(
        name("dragoman"),
        name("interpretation"),
        name("interpretation"),
        RtpCodecKind::Audio,
        vec![encoding],
    )
}

/// The first address of each family.
fn one_per_family(candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = |v4: bool| candidates.iter().copied().find(move |base| base.is_ipv4() == v4);
    first(true).into_iter().chain(first(false)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn stack_error(error: rtc::shared::error::Error) -> TransportError {
    TransportError::Stack(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::sdp::tests::{AIORTC, CHROMIUM};

    fn accept(offer: &str, speak: bool, listen: bool) -> Answer {
        let candidates = ["192.0.2.1:7000".parse().unwrap(), "127.0.0.1:7000".parse().unwrap()];
        let wanted = Flow { speak, listen };
        PeerConnection::accept(Instant::now(), offer, wanted, &candidates).unwrap().1
    }

    #[test]
    fn a_chromium_offer_gets_audio_answered_and_the_rest_rejected() {
        let answer = accept(CHROMIUM, true, true);
        let lines: Vec<&str> = answer.sdp.lines().collect();
        let count = |wanted: &str| lines.iter().filter(|line| **line == wanted).count();
        assert_eq!(count("m=audio 9 UDP/TLS/RTP/SAVPF 111"), 1);
        assert_eq!(count("m=video 0 UDP/TLS/RTP/SAVPF 96 97"), 1);
        assert_eq!(count("a=group:BUNDLE 1"), 1);
        assert_eq!(count("a=setup:active"), 1);
        assert_eq!(count("a=sendrecv"), 1);
        assert_eq!(count("a=rtcp-mux"), 1);
        assert_eq!(count("a=fmtp:111 minptime=10;useinbandfec=1"), 1);
        assert_eq!(lines.iter().filter(|line| line.starts_with("a=candidate:")).count(), 2);
        assert!(answer.sdp.contains(&format!("a=ice-ufrag:{}\r\n", answer.ice_ufrag)));
        assert_eq!(answer.mid, "1");
    }

    #[test]
    fn the_answer_goes_only_the_ways_that_are_wanted() {
        assert!(accept(AIORTC, true, false).sdp.contains("a=recvonly\r\n"));
        assert!(accept(AIORTC, false, true).sdp.contains("a=sendonly\r\n"));
        let listener = AIORTC.replace("a=sendrecv", "a=recvonly");
        assert!(accept(&listener, true, true).sdp.contains("a=sendonly\r\n"));
        let speaker = AIORTC.replace("a=sendrecv", "a=sendonly");
        assert!(accept(&speaker, true, true).sdp.contains("a=recvonly\r\n"));
    }

    #[test]
    fn a_peer_that_insists_on_starting_dtls_may() {
        let active = AIORTC.replace("a=setup:actpass", "a=setup:active");
        assert!(accept(&active, true, true).sdp.contains("a=setup:passive\r\n"));
    }

    #[test]
    fn a_connection_survives_any_datagram() {
        let now = Instant::now();
        let base: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let wanted = Flow { speak: true, listen: true };
        let (mut connection, _) = PeerConnection::accept(now, AIORTC, wanted, &[base]).unwrap();
        for first in 0..=255u8 {
            for length in [0usize, 1, 2, 13, 20, 60, 1_500] {
                let datagram: Vec<u8> = (0..length)
                    .map(|n| first.wrapping_add((n * 7) as u8 * u8::from(n > 0)))
                    .collect();
                connection.handle_datagram(now, base, &datagram);
                while let Some(output) = connection.poll() {
                    assert!(matches!(output, Output::Transmit { .. }), "{output:?}");
                }
            }
        }
        assert!(!connection.is_connected());
    }
}
