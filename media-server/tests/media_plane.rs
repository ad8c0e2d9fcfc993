//! Calls over real UDP on loopback between the media plane and callers of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod caller;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use caller::{Caller, FRAME, Heard, Offering, amplitude_of, tone};
use crossbeam_channel::Receiver;
use media_server::media::frames::{HeardFrame, HeardReader, PLAYOUT_SAMPLES, PlayoutFrame};
use media_server::media::{
    CloseReason, ConnectPeer, Connected, MediaConfig, MediaPlane, Notice, PeerId,
};
use media_server::transport::TransportError;
use ringbuf::traits::{Consumer as _, Producer as _};

const PATIENCE: Duration = Duration::from_secs(15);

struct House {
    plane: MediaPlane,
    notices: Receiver<Notice>,
}

impl House {
    fn new(peer_timeout: Duration) -> Self {
        let (sender, notices) = crossbeam_channel::bounded(1_000);
        let config = MediaConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            announce: Vec::new(),
            workers: 1,
            peer_timeout,
            real_time: true,
        };
        Self { plane: MediaPlane::start(config, sender).unwrap(), notices }
    }

    fn request(peer: u64, offer: &str) -> ConnectPeer {
        ConnectPeer {
            peer: PeerId(peer),
            room: 7,
            offer_sdp: offer.to_owned(),
            speak: true,
            listen: true,
        }
    }

    /// Connects a caller that says `speech`.
    fn call(&self, peer: u64, speech: Vec<f32>) -> (Caller, Connected) {
        let offering = Offering::new();
        let connected = self.plane.connect(Self::request(peer, &offering.offer)).unwrap();
        let caller = offering.answered(&connected.answer_sdp, speech);
        self.await_notice(
            |notice| matches!(notice, Notice::PeerConnected { peer: id } if *id == PeerId(peer)),
        );
        (caller, connected)
    }

    fn await_notice(&self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let notice = self.notices.recv_deadline(deadline).expect("the notice comes in time");
            if wanted(&notice) {
                return notice;
            }
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_frames(reader: &mut HeardReader, count: usize) -> Vec<HeardFrame> {
    let mut frames = Vec::new();
    until("speech", || {
        frames.extend(std::iter::from_fn(|| reader.try_pop()));
        frames.len() >= count
    });
    frames
}

/// The loudest amplitude of the tone in any 100 ms of what was heard.
fn loudest(hertz: f32, heard: &[Heard]) -> f32 {
    let samples: Vec<f32> = heard.iter().flat_map(|packet| packet.samples.clone()).collect();
    samples
        .chunks_exact(5 * FRAME)
        .map(|piece| amplitude_of(hertz, piece, 48_000.0))
        .fold(0.0, f32::max)
}

#[test]
fn what_a_caller_says_arrives_in_its_heard_ring_with_its_timestamps() {
    let house = House::new(PATIENCE);
    let (caller, mut connected) = house.call(1, tone(440.0, 3.0, 0.5));
    let frames = read_frames(&mut connected.heard, 100);
    assert!(frames.windows(2).all(|pair| pair[1].rtp_time - pair[0].rtp_time == 960));
    let samples: Vec<f32> = frames[20..90].iter().flat_map(|frame| frame.samples).collect();
    let amplitude = amplitude_of(440.0, &samples, 16_000.0);
    assert!((amplitude - 0.5).abs() < 0.1, "amplitude {amplitude}");
    let stats = house.plane.stats();
    assert!(stats.packets_in >= 100 && stats.peers == 1, "{stats:?}");
    assert!(caller.connected_after().unwrap() < Duration::from_secs(5));
}

#[test]
fn what_is_put_into_the_playout_ring_is_heard_by_the_caller_at_the_time_that_is_told() {
    let house = House::new(PATIENCE);
    let (caller, mut connected) = house.call(1, Vec::new());
    until("silence", || caller.heard().len() > 10);
    let speech = tone(1_000.0, 1.0, 0.5);
    let pieces: Vec<&[f32]> = speech.chunks_exact(PLAYOUT_SAMPLES).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let frame = PlayoutFrame {
            utterance: 42,
            last: index + 1 == pieces.len(),
            samples: (*piece).try_into().unwrap(),
        };
        assert!(connected.playout.try_push(frame).is_ok());
    }
    let spoken = house.await_notice(|notice| matches!(notice, Notice::Spoken { .. }));
    let finished = house.await_notice(|notice| matches!(notice, Notice::Finished { .. }));
    let Notice::Spoken { utterance: 42, rtp_timestamp, sent, .. } = spoken else {
        panic!("{spoken:?}");
    };
    let Notice::Finished { sent: last_sent, .. } = finished else { panic!("{finished:?}") };
    let spread = last_sent - sent;
    assert!(spread > Duration::from_millis(900) && spread < Duration::from_millis(1_200));

    until("the tone", || loudest(1_000.0, &caller.heard()) > 0.4);
    let heard = caller.heard();
    let first = heard.iter().position(|packet| packet.timestamp == rtp_timestamp).unwrap();
    assert!(loudest(1_000.0, &heard[..first]) < 0.01, "nothing is heard before");
    let delay = heard[first].arrived.saturating_duration_since(sent);
    assert!(delay < Duration::from_millis(100), "{delay:?}");
    for pair in heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) % 960, 0);
    }
}

#[test]
fn two_callers_hear_each_other_at_the_level_of_their_routes() {
    let house = House::new(PATIENCE);
    let (anna, _anna_ends) = house.call(1, tone(500.0, 8.0, 0.5));
    let (bert, _bert_ends) = house.call(2, tone(1_300.0, 8.0, 0.5));
    house.plane.set_route(PeerId(1), PeerId(2), 1.0, false);
    house.plane.set_route(PeerId(2), PeerId(1), 0.2, true);
    house.plane.set_route(PeerId(1), PeerId(1), 1.0, false);
    until("Bert at Anna's", || loudest(1_300.0, &anna.heard()) > 0.4);
    until("Anna at Bert's", || loudest(500.0, &bert.heard()) > 0.08);
    let (at_anna, at_bert) = (anna.heard(), bert.heard());
    assert!(loudest(500.0, &at_anna) < 0.02, "nobody hears themselves");
    let ducked = loudest(500.0, &at_bert);
    assert!(ducked < 0.13, "{ducked}");
    house.plane.clear_route(PeerId(1), PeerId(2));
    std::thread::sleep(Duration::from_millis(400));
    let before = anna.heard().len();
    until("more packets", || anna.heard().len() > before + 20);
    assert!(loudest(1_300.0, &anna.heard()[before + 5..]) < 0.02);
}

#[test]
fn garbage_on_the_port_is_counted_and_changes_nothing() {
    let house = House::new(PATIENCE);
    let (_caller, mut connected) = house.call(1, tone(440.0, 5.0, 0.5));
    let port = house.plane.candidates()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0u64;
    for first in 0..=255u8 {
        for length in [1usize, 12, 20, 60, 1_400] {
            let mut datagram: Vec<u8> =
                (0..length).map(|n| (n as u8).wrapping_mul(31) ^ first).collect();
            datagram[0] = first;
            socket.send_to(&datagram, port).unwrap();
            sent += 1;
        }
        if first % 16 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    until("the garbage count", || house.plane.stats().garbage >= sent * 9 / 10);
    let _ = read_frames(&mut connected.heard, 1);
    let frames = read_frames(&mut connected.heard, 20);
    let samples: Vec<f32> = frames[5..20].iter().flat_map(|frame| frame.samples).collect();
    assert!(amplitude_of(440.0, &samples, 16_000.0) > 0.4);
    assert_eq!(house.plane.stats().peers_failed, 0);
}

#[test]
fn offers_that_cannot_be_answered_get_their_error_and_no_peer() {
    let house = House::new(PATIENCE);
    let refuse = |offer: &str| house.plane.connect(House::request(1, offer)).err().unwrap();
    assert!(matches!(refuse("hello"), TransportError::BadSdp(_)));
    assert!(matches!(refuse(""), TransportError::BadSdp(_)));
    let offer = Offering::new().offer;
    let without_opus = offer.replace("opus/48000/2", "speex/8000");
    assert!(matches!(refuse(&without_opus), TransportError::Unacceptable(_)));
    let without_audio = offer.replace("m=audio", "m=video");
    assert!(matches!(refuse(&without_audio), TransportError::Unacceptable(_)));
    assert_eq!(house.plane.stats().peers, 0);
}

#[test]
fn a_requested_end_says_goodbye_to_the_caller() {
    let house = House::new(PATIENCE);
    let (caller, _ends) = house.call(1, Vec::new());
    house.plane.disconnect(PeerId(1));
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(matches!(closed, Notice::PeerClosed { reason: CloseReason::Requested, .. }));
    until("the goodbye", || caller.is_closed());
    assert_eq!(house.plane.stats().peers, 0);
}

#[test]
fn a_caller_that_vanishes_is_noticed_after_the_timeout() {
    let house = House::new(Duration::from_secs(1));
    let (caller, _ends) = house.call(1, Vec::new());
    let vanished = Instant::now();
    drop(caller);
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(matches!(closed, Notice::PeerClosed { reason: CloseReason::ConnectionLost, .. }));
    let after = vanished.elapsed();
    assert!(after > Duration::from_millis(900) && after < Duration::from_secs(5), "{after:?}");
}

#[test]
fn a_peer_that_never_connects_is_given_up() {
    let house = House::new(Duration::from_millis(300));
    let offer = Offering::new().offer;
    house.plane.connect(House::request(1, &offer)).unwrap();
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(matches!(closed, Notice::PeerClosed { reason: CloseReason::ConnectionLost, .. }));
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = MediaConfig {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: taken.local_addr().unwrap().port(),
        announce: Vec::new(),
        workers: 1,
        peer_timeout: PATIENCE,
        real_time: false,
    };
    let (sender, _notices) = crossbeam_channel::bounded(1);
    let error = MediaPlane::start(config, sender).err().unwrap();
    assert!(matches!(error, TransportError::Bind { .. }));
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()));
}
