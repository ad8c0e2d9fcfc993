//! A caller for tests: the client side of a WebRTC call over a real socket on loopback, on a thread
//! of its own, that says what it is told and keeps what it hears.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod house;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

/// Samples of a packet: 20 ms at 48 kHz.
pub const FRAME: usize = 960;
const SSRC: u32 = 0x1234_5678;
/// Not the usual 111, so that nobody may rely on it.
const PAYLOAD_TYPE: u8 = 100;

/// A packet that was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its track.
    pub ssrc: u32,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Its sequence number.
    pub sequence: u16,
    /// When it was read from the socket.
    pub arrived: Instant,
    /// Its samples, 48 kHz mono.
    pub samples: Vec<f32>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    connected: Mutex<Option<Duration>>,
    closed: AtomicBool,
    heard: Mutex<Vec<Heard>>,
    counted: AtomicU64,
}

/// A caller that has offered and waits for the answer.
pub struct Offering {
    /// The WebRTC stack.
    pub stack: RTCPeerConnection,
    /// Its only sender.
    pub sender: RTCRtpSenderId,
    socket: UdpSocket,
    /// Its address.
    pub local: SocketAddr,
    /// The offer, with its candidate in it.
    pub offer: String,
}

/// A caller in a call; dropping it ends the thread without a goodbye.
pub struct Caller {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

type Order = Box<dyn FnOnce(&mut Call) + Send>;

/// How a caller offers.
#[derive(Clone, Copy)]
pub struct Style {
    /// The address it calls from.
    pub from: IpAddr,
    /// Whether it offers a second section that receives.
    pub has_two_sections: bool,
    /// Whether its ICE agent is a lite one.
    pub is_lite: bool,
    /// Between its connectivity checks.
    pub check_interval: Duration,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
            has_two_sections: false,
            is_lite: false,
            check_interval: Duration::from_millis(200),
        }
    }
}

impl Offering {
    /// Makes an offer that sends and receives.
    pub fn new() -> Self {
        Self::at(Instant::now())
    }

    /// The same at an instant of the test's own.
    pub fn at(now: Instant) -> Self {
        Self::styled(now, Style::default())
    }

    /// Makes an offer in a style.
    pub fn styled(now: Instant, style: Style) -> Self {
        let socket = UdpSocket::bind((style.from, 0)).unwrap();
        let local = socket.local_addr().unwrap();
        let codec = RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
            rtcp_feedback: Vec::new(),
        };
        let mut engine = MediaEngine::default();
        let parameters =
            RTCRtpCodecParameters { rtp_codec: codec.clone(), payload_type: PAYLOAD_TYPE };
        engine.register_codec(parameters, RtpCodecKind::Audio).unwrap();
        let mut stack = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(
                SettingEngineBuilder::new()
                    .with_include_loopback_candidate(true)
                    .with_lite(style.is_lite)
                    .with_multicast_dns_mode(MulticastDnsMode::Disabled)
                    .with_discard_local_candidates_during_ice_restart(true)
                    .with_ice_connection_attempts(Some(style.check_interval), None)
                    .build(),
            )
            .build(now)
            .unwrap();
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(SSRC),
                ..RTCRtpCodingParameters::default()
            },
            codec,
            ..RTCRtpEncodingParameters::default()
        };
        let [stream, track, label] = ["caller", "microphone", "microphone"].map(str::to_owned);
        let sender = stack
            .add_track(MediaStreamTrack::new(
                stream,
                track,
                label,
                RtpCodecKind::Audio,
                vec![encoding],
            ))
            .unwrap();
        if style.has_two_sections {
            let receives = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            stack.add_transceiver_from_kind(RtpCodecKind::Audio, Some(receives)).unwrap();
        }
        let offer = stack.create_offer(None).unwrap();
        stack.set_local_description(now, offer).unwrap();
        stack.add_local_candidate(candidate(local)).unwrap();
        let offer = stack.local_description().unwrap().sdp;
        Self { stack, sender, socket, local, offer }
    }

    /// Takes the answer and begins to call, saying `speech` (48 kHz mono) from the moment that
    /// media flows, and silence after it.
    pub fn answered(mut self, answer: &str, speech: Vec<f32>) -> Caller {
        let answer_sdp = answer.to_owned();
        let answer = RTCSessionDescription::answer(answer.to_owned()).unwrap();
        self.stack.set_remote_description(Instant::now(), answer).unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let (orders, to_do) = bounded(16);
        let call = Call::new(self, of_thread, to_do, answer_sdp, speech);
        let thread = std::thread::spawn(move || call.run());
        Caller { shared, orders, thread: Some(thread) }
    }
}

impl Caller {
    /// How long the connection took, once it is up.
    pub fn connected_after(&self) -> Option<Duration> {
        *self.shared.connected.lock()
    }

    /// Whether the other side said goodbye.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Lets the thread of the call do something, and waits for it.
    pub fn order<R: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Call) -> R + Send + 'static,
    ) -> R {
        let (done, result) = bounded(1);
        let order = Box::new(move |call: &mut Call| done.send(what(call)).unwrap());
        self.orders.send(order).unwrap();
        result.recv().unwrap()
    }

    /// How many packets were heard without being kept.
    pub fn counted(&self) -> u64 {
        self.shared.counted.load(Ordering::Relaxed)
    }

    /// What was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The thread of a call.
pub struct Call {
    offering: Offering,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    answer: String,
    /// Keeps what it sends, when asked to.
    pub sent: Option<Vec<Vec<u8>>>,
    /// Reads nothing any more and reports nothing: its socket's buffer fills.
    pub is_deaf: bool,
    /// Decodes and keeps nothing of what it hears and says nothing: one of very many.
    pub only_counts: bool,
    speech: Vec<f32>,
    said: usize,
    encoder: opus::Encoder,
    decoders: HashMap<u32, opus::Decoder>,
    sequence: u16,
    started: Instant,
    next_packet: Option<Instant>,
}

impl Call {
    fn new(
        offering: Offering,
        shared: Arc<Shared>,
        orders: Receiver<Order>,
        answer: String,
        speech: Vec<f32>,
    ) -> Self {
        let mono = opus::Channels::Mono;
        Self {
            offering,
            shared,
            orders,
            answer,
            sent: None,
            is_deaf: false,
            only_counts: false,
            speech,
            said: 0,
            encoder: opus::Encoder::new(48_000, mono, opus::Application::Voip).unwrap(),
            decoders: HashMap::new(),
            sequence: 65_500,
            started: Instant::now(),
            next_packet: None,
        }
    }

    fn run(mut self) {
        let mut buffer = [0; 2_048];
        while !self.shared.stop.load(Ordering::Relaxed) {
            for order in self.orders.try_iter().collect::<Vec<_>>() {
                order(&mut self);
            }
            self.drain();
            let now = Instant::now();
            if self.next_packet.is_some_and(|due| due <= now) {
                self.say(now);
                continue;
            }
            let timer = self.offering.stack.poll_timeout().unwrap_or(now + FRAME_TIME);
            if timer <= now {
                self.offering.stack.handle_timeout(now).unwrap();
            }
            let due = self.next_packet.unwrap_or(timer).min(timer).min(now + FRAME_TIME);
            let wait = due.saturating_duration_since(now).max(Duration::from_millis(1));
            if self.is_deaf {
                std::thread::sleep(wait);
                continue;
            }
            self.offering.socket.set_read_timeout(Some(wait)).unwrap();
            if let Ok((length, from)) = self.offering.socket.recv_from(&mut buffer) {
                let message = TaggedBytesMut {
                    now: Instant::now(),
                    transport: TransportContext {
                        local_addr: self.offering.local,
                        peer_addr: from,
                        transport_protocol: TransportProtocol::UDP,
                        ecn: None,
                    },
                    message: BytesMut::from(&buffer[..length]),
                };
                let _ = self.offering.stack.handle_read(message);
            }
        }
    }

    fn drain(&mut self) {
        loop {
            let mut idle = true;
            while let Some(event) = self.offering.stack.poll_event() {
                idle = false;
                if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event
                    && state == RTCPeerConnectionState::Connected
                {
                    *self.shared.connected.lock() = Some(self.started.elapsed());
                    self.next_packet = (!self.only_counts).then(Instant::now);
                }
            }
            while let Some(message) = self.offering.stack.poll_read() {
                idle = false;
                if let RTCMessage::RtpPacket(_, packet) = message.message {
                    if self.only_counts {
                        self.shared.counted.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let mut samples = vec![0.0; FRAME];
                    let ssrc = packet.header.ssrc;
                    let decoder = self.decoders.entry(ssrc).or_insert_with(|| {
                        opus::Decoder::new(48_000, opus::Channels::Mono).unwrap()
                    });
                    decoder.decode_float(&packet.payload, &mut samples, false).unwrap();
                    self.shared.heard.lock().push(Heard {
                        ssrc,
                        timestamp: packet.header.timestamp,
                        sequence: packet.header.sequence_number,
                        arrived: message.now,
                        samples,
                    });
                }
            }
            while let Some(datagram) = self.offering.stack.poll_write() {
                idle = false;
                if let Some(sent) = self.sent.as_mut() {
                    sent.push(datagram.message.to_vec());
                }
                let is_rtcp = datagram.message.get(1).is_some_and(|kind| (192..224).contains(kind));
                if self.is_deaf && is_rtcp {
                    continue;
                }
                let _ =
                    self.offering.socket.send_to(&datagram.message, datagram.transport.peer_addr);
            }
            if idle {
                break;
            }
        }
        let sender = self.offering.stack.rtp_sender(self.offering.sender).unwrap();
        let state = sender.transport().map(|transport| transport.state());
        if state == Some(rtc::peer_connection::transport::RTCDtlsTransportState::Closed) {
            self.shared.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Its socket, to send bytes as they are.
    pub fn socket(&self) -> UdpSocket {
        self.offering.socket.try_clone().unwrap()
    }

    /// Packets of sound that it has sent.
    pub fn packets_sent(&self) -> u64 {
        (self.said / FRAME) as u64
    }

    /// Moves to another port and asks for an ICE restart: gives the fragment to send.
    pub fn restart_ice(&mut self) -> String {
        let now = Instant::now();
        self.offering.socket = UdpSocket::bind((self.offering.local.ip(), 0)).unwrap();
        self.offering.local = self.offering.socket.local_addr().unwrap();
        self.offering.stack.restart_ice();
        let offer = self.offering.stack.create_offer(None).unwrap();
        self.offering.stack.set_local_description(now, offer).unwrap();
        self.offering.stack.add_local_candidate(candidate(self.offering.local)).unwrap();
        let offer = self.offering.stack.local_description().unwrap().sdp;
        ice_lines(&offer).join("\r\n") + "\r\n"
    }

    /// Takes the fragment that the restart was answered with.
    pub fn restarted(&mut self, fragment: &str) {
        let mut answer = self.answer.clone();
        for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
            let of =
                |text: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            answer = answer.replace(&of(&self.answer), &of(fragment));
        }
        self.answer.clone_from(&answer);
        let answer = RTCSessionDescription::answer(answer).unwrap();
        self.offering.stack.set_remote_description(Instant::now(), answer).unwrap();
    }

    /// Says goodbye.
    pub fn hang_up(&mut self) {
        self.offering.stack.close().unwrap();
    }

    fn say(&mut self, now: Instant) {
        let mut frame = [0.0; FRAME];
        let left = &self.speech[self.said.min(self.speech.len())..];
        let length = left.len().min(FRAME);
        frame[..length].copy_from_slice(&left[..length]);
        self.said += FRAME;
        let payload = self.encoder.encode_vec_float(&frame, 1_276).unwrap();
        let timestamp = (u32::MAX - 10_000).wrapping_add(u32::try_from(self.said).unwrap());
        send(&mut self.offering, now, self.sequence, timestamp, payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.next_packet = self.next_packet.map(|due| due + FRAME_TIME);
    }
}

fn candidate(local: SocketAddr) -> RTCIceCandidateInit {
    let (ip, port) = (local.ip(), local.port());
    RTCIceCandidateInit {
        candidate: format!("candidate:1 1 udp 2130706431 {ip} {port} typ host"),
        ..RTCIceCandidateInit::default()
    }
}

/// What a description says about ICE, as a fragment says it.
pub fn ice_lines(description: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in description.lines() {
        let is_ice = ["a=ice-ufrag:", "a=ice-pwd:", "a=candidate:"]
            .iter()
            .any(|prefix| line.starts_with(prefix));
        if is_ice && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Hands a packet to the stack.
pub fn send(
    offering: &mut Offering,
    now: Instant,
    sequence_number: u16,
    timestamp: u32,
    payload: Vec<u8>,
) {
    let header = rtc::rtp::Header {
        version: 2,
        payload_type: PAYLOAD_TYPE,
        sequence_number,
        timestamp,
        ssrc: SSRC,
        ..rtc::rtp::Header::default()
    };
    let packet = rtc::rtp::Packet { header, payload: Bytes::from(payload) };
    let mut sender = offering.stack.rtp_sender(offering.sender).unwrap();
    let _ = sender.write_rtp(now, packet);
}

const FRAME_TIME: Duration = Duration::from_millis(20);

/// A sine, 48 kHz mono.
pub fn tone(hertz: f32, seconds: f32, amplitude: f32) -> Vec<f32> {
    let step = std::f32::consts::TAU * hertz / 48_000.0;
    (0..(seconds * 48_000.0) as usize).map(|n| amplitude * (n as f32 * step).sin()).collect()
}

/// Amplitude of the sine of `hertz` in `samples` at `rate`, by correlation.
pub fn amplitude_of(hertz: f32, samples: &[f32], rate: f32) -> f32 {
    let step = std::f32::consts::TAU * hertz / rate;
    let (mut real, mut imaginary) = (0.0f32, 0.0f32);
    for (index, sample) in samples.iter().enumerate() {
        real += sample * (index as f32 * step).cos();
        imaginary += sample * (index as f32 * step).sin();
    }
    2.0 * real.hypot(imaginary) / samples.len() as f32
}
