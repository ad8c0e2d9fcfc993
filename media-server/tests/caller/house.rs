//! A media plane on loopback, and what the tests ask of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use media_server::media::frames::{HeardFrame, HeardReader};
use media_server::media::{ConnectPeer, Connected, MediaConfig, MediaPlane, Notice, PeerId};
use ringbuf::traits::Consumer as _;

use super::{Caller, FRAME, Heard, Offering, Style, amplitude_of};

pub const PATIENCE: Duration = Duration::from_secs(15);

pub struct House {
    pub plane: MediaPlane,
    pub notices: Receiver<Notice>,
}

impl House {
    pub fn new(peer_timeout: Duration) -> Self {
        Self::at(IpAddr::V4(Ipv4Addr::LOCALHOST), Vec::new(), peer_timeout)
    }

    pub fn at(bind: IpAddr, announce: Vec<IpAddr>, peer_timeout: Duration) -> Self {
        let (sender, notices) = crossbeam_channel::bounded(1_000);
        let config =
            MediaConfig { bind, port: 0, announce, workers: 1, peer_timeout, real_time: true };
        Self { plane: MediaPlane::start(config, sender).unwrap(), notices }
    }

    pub fn request(peer: u64, offer: &str) -> ConnectPeer {
        ConnectPeer {
            peer: PeerId(peer),
            room: 7,
            offer_sdp: offer.to_owned(),
            speak: true,
            listen: true,
        }
    }

    /// Connects a caller that says `speech`.
    pub fn call(&self, peer: u64, speech: Vec<f32>) -> (Caller, Connected) {
        self.call_in(Style::default(), peer, speech)
    }

    pub fn call_in(&self, style: Style, peer: u64, speech: Vec<f32>) -> (Caller, Connected) {
        let offering = Offering::styled(Instant::now(), style);
        let connected = self.plane.connect(Self::request(peer, &offering.offer)).unwrap();
        let caller = offering.answered(&connected.answer_sdp, speech);
        self.await_notice(
            |notice| matches!(notice, Notice::PeerConnected { peer: id, .. } if *id == PeerId(peer)),
        );
        (caller, connected)
    }

    pub fn await_notice(&self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let notice = self.notices.recv_deadline(deadline).expect("the notice comes in time");
            if wanted(&notice) {
                return notice;
            }
        }
    }
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn read_frames(reader: &mut HeardReader, count: usize) -> Vec<HeardFrame> {
    let mut frames = Vec::new();
    until("speech", || {
        frames.extend(std::iter::from_fn(|| reader.try_pop()));
        frames.len() >= count
    });
    frames
}

/// The loudest amplitude of the tone in any 100 ms of what was heard.
pub fn loudest(hertz: f32, heard: &[Heard]) -> f32 {
    let samples: Vec<f32> = heard.iter().flat_map(|packet| packet.samples.clone()).collect();
    samples
        .chunks_exact(5 * FRAME)
        .map(|piece| amplitude_of(hertz, piece, 48_000.0))
        .fold(0.0, f32::max)
}
