//! A peer of the media plane and a caller on a virtual clock and a network in memory: seconds of a
//! call in a moment, with losses from a seed.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod caller;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use caller::{FRAME, Offering, amplitude_of, send, tone};
use media_server::media::frames::{HeardFrame, HeardReader, heard_ring, playout_ring};
use media_server::media::inbound::Inbound;
use media_server::media::outbound::Outbound;
use media_server::media::peer::{Peer, PeerOutput};
use media_server::media::stats::Counters;
use media_server::media::{CloseReason, PeerId};
use media_server::transport::{Flow, PeerConnection};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use ringbuf::traits::Consumer as _;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

const STEP: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_secs(15);

struct World {
    now: Instant,
    start: Instant,
    server: SocketAddr,
    peer: Peer,
    client: Offering,
    counters: Counters,
    heard: HeardReader,
    /// Datagrams to the server, with the step in which they arrive.
    to_server: VecDeque<(Instant, Vec<u8>)>,
    to_client: VecDeque<(Instant, Vec<u8>)>,
    connected: Option<Duration>,
    closed: Option<(Duration, CloseReason)>,
    client_is_alive: bool,
    tick: u64,
    encoder: opus::Encoder,
    /// Share of the caller's RTP packets that get lost, in percent.
    loss: u32,
    random: StdRng,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let server: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let mut client = Offering::at(now);
        let wanted = Flow { speak: true, listen: true };
        let (connection, answer) =
            PeerConnection::accept(now, &client.offer, wanted, &[server], TIMEOUT).unwrap();
        let answer = RTCSessionDescription::answer(answer.sdp).unwrap();
        client.stack.set_remote_description(now, answer).unwrap();
        let (writer, heard) = heard_ring(10_000);
        let (_playout, reader) = playout_ring(10);
        let inbound = Inbound::new(writer).unwrap();
        let outbound = Outbound::new(reader, false).unwrap();
        let peer = Peer::new(now, PeerId(1), connection, Some(inbound), Some(outbound), TIMEOUT);
        let mono = opus::Channels::Mono;
        let mut encoder = opus::Encoder::new(48_000, mono, opus::Application::Voip).unwrap();
        encoder.set_inband_fec(true).unwrap();
        encoder.set_packet_loss_perc(20).unwrap();
        encoder.set_bitrate(opus::Bitrate::Bits(24_000)).unwrap();
        Self {
            now,
            start: now,
            server,
            peer,
            client,
            counters: Counters::default(),
            heard,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            connected: None,
            closed: None,
            client_is_alive: true,
            tick: 0,
            encoder,
            loss: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while self.to_server.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, datagram) = self.to_server.pop_front().unwrap();
            self.peer.handle_datagram(self.now, self.client.local, &datagram);
            self.drain_peer();
        }
        while self.to_client.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, datagram) = self.to_client.pop_front().unwrap();
            self.show_client(&datagram);
        }
        if self.peer.poll_timeout().is_some_and(|due| due <= self.now) {
            self.peer.handle_timeout(self.now);
        }
        self.drain_peer();
        if self.client_is_alive {
            if self.client.stack.poll_timeout().is_some_and(|due| due <= self.now) {
                self.client.stack.handle_timeout(self.now).unwrap();
            }
            self.drain_client();
        }
        let elapsed = self.now - self.start;
        if elapsed >= Duration::from_millis(20) * u32::try_from(self.tick).unwrap() {
            let mut block = [0.0; FRAME];
            self.peer.listen_to(self.now, &mut block, &self.counters);
            self.peer.speak_to(self.now, self.tick, |_| None, &self.counters).unwrap();
            self.tick += 1;
            self.drain_peer();
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && self.closed.is_none() {
            self.step();
        }
    }

    /// The caller says `speech`, a packet every 20 ms.
    fn say(&mut self, speech: &[f32]) {
        for (index, frame) in (0u16..).zip(speech.chunks_exact(FRAME)) {
            let packet = self.encoder.encode_vec_float(frame, 1_276).unwrap();
            send(&mut self.client, self.now, index, u32::from(index) * 960, packet);
            self.run(Duration::from_millis(20));
        }
    }

    fn frames(&mut self) -> Vec<HeardFrame> {
        std::iter::from_fn(|| self.heard.try_pop()).collect()
    }

    fn drain_peer(&mut self) {
        while let Some(output) = self.peer.poll(self.now, &self.counters) {
            match output {
                PeerOutput::Transmit { bytes, .. } => {
                    self.to_client.push_back((self.now + STEP, bytes.to_vec()));
                }
                PeerOutput::Connected(_) => self.connected = Some(self.now - self.start),
                PeerOutput::Closed(reason) => {
                    self.closed.get_or_insert((self.now - self.start, reason));
                    return;
                }
            }
        }
    }

    fn show_client(&mut self, datagram: &[u8]) {
        if !self.client_is_alive {
            return;
        }
        let transport = TransportContext {
            local_addr: self.client.local,
            peer_addr: self.server,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = BytesMut::from(datagram);
        let tagged = TaggedBytesMut { now: self.now, transport, message };
        let _ = self.client.stack.handle_read(tagged);
        self.drain_client();
    }

    fn drain_client(&mut self) {
        loop {
            let mut idle = true;
            while self.client.stack.poll_event().is_some()
                || self.client.stack.poll_read().is_some()
            {
                idle = false;
            }
            while let Some(datagram) = self.client.stack.poll_write() {
                idle = false;
                let is_media = datagram.message.first().is_some_and(|byte| *byte >= 128);
                if !(is_media && self.random.random_range(0..100) < self.loss) {
                    self.to_server.push_back((self.now + STEP, datagram.message.to_vec()));
                }
            }
            if idle {
                return;
            }
        }
    }
}

#[test]
fn a_call_connects_within_a_few_round_trips() {
    let mut world = World::new(1);
    world.run(Duration::from_secs(2));
    let connected = world.connected.unwrap();
    // A check each way, its answers, and two and a half round trips of DTLS, at 10 ms each; the
    // caller's own pacing of 200 ms is the rest.
    assert!(connected <= Duration::from_millis(300), "{connected:?}");
}

#[test]
fn one_packet_in_ten_lost_leaves_no_hole_and_the_tone_goes_on() {
    let mut world = World::new(7);
    world.run(Duration::from_secs(1));
    world.loss = 10;
    world.say(&tone(440.0, 10.0, 0.5));
    world.loss = 0;
    world.run(Duration::from_millis(100));
    let frames = world.frames();
    assert!(frames.windows(2).all(|pair| pair[1].rtp_time - pair[0].rtp_time == 960));
    let lost = world.counters.lost.get();
    assert!((20..90).contains(&lost), "{lost} lost");
    assert!(world.counters.fec_recovered.get() > 0);
    let samples: Vec<f32> = frames[50..450].iter().flat_map(|frame| frame.samples).collect();
    let weakest = samples
        .chunks_exact(1_600)
        .map(|piece| amplitude_of(440.0, piece, 16_000.0))
        .fold(1.0, f32::min);
    assert!(weakest > 0.2, "{weakest}");
}

#[test]
fn a_silent_caller_stays_connected_and_a_vanished_one_is_lost_after_the_timeout() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(120));
    assert_eq!(world.closed, None, "consent checks keep it");
    let vanished = world.now - world.start;
    world.client_is_alive = false;
    world.run(Duration::from_secs(60));
    let (at, reason) = world.closed.unwrap();
    assert_eq!(reason, CloseReason::ConnectionLost);
    let after = at - vanished;
    // The last datagram may have come up to one consent interval before.
    assert!(after <= TIMEOUT + STEP && after >= TIMEOUT - Duration::from_secs(3), "{after:?}");
}

#[test]
fn a_goodbye_ends_the_peer_at_once() {
    let mut world = World::new(4);
    world.run(Duration::from_secs(1));
    world.client.stack.close().unwrap();
    world.run(Duration::from_millis(100));
    assert_eq!(world.closed.unwrap().1, CloseReason::RemoteClosed);
}
