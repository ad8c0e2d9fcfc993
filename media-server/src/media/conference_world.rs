//! A conference for tests, in virtual time: real encoders, and listeners without a network.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringbuf::traits::Producer as _;

use crate::media::channel::Channel;
use crate::media::codec::{Decoder, Encoder, MAX_PACKET_BYTES};
use crate::media::conference::Conference;
use crate::media::frames::{
    HeardReader, PLAYOUT_SAMPLES, PlayoutFrame, PlayoutWriter, heard_ring, playout_ring,
};
use crate::media::inbound::Inbound;
use crate::media::outbound::{Outbound, Progress, Tuned};
use crate::media::stats::Counters;
use crate::media::{ChannelId, GainStep, PeerId, Programme};
use crate::transport::{RtpIn, RtpOut, Track};

pub const SPANISH: ChannelId = ChannelId(1);
const TICK: Duration = Duration::from_millis(20);
const SILENCE: [f32; PLAYOUT_SAMPLES] = [0.0; PLAYOUT_SAMPLES];

/// A packet that a listener got.
#[derive(Clone, Debug)]
pub struct Got {
    pub tick: u64,
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
}

pub struct Speaker {
    pub inbound: Inbound,
    pub _heard: HeardReader,
    pub encoder: Encoder,
    pub hertz: f32,
    pub sequence: u16,
    pub sent: Vec<Vec<u8>>,
    pub original: Option<[f32; PLAYOUT_SAMPLES]>,
}

pub struct Listener {
    pub outbound: Outbound,
    /// By track.
    pub got: [Vec<Got>; 2],
    pub told: Vec<(u64, Option<u32>, Progress)>,
}

/// A conference, its speakers and its listeners.
pub struct World {
    pub start: Instant,
    pub tick: u64,
    pub conference: Conference,
    pub counters: Counters,
    pub speakers: HashMap<PeerId, Speaker>,
    pub listeners: HashMap<PeerId, Listener>,
    pub ring: PlayoutWriter,
    pub said: u64,
}

impl World {
    pub fn new() -> Self {
        let (ring, reader) = playout_ring(100);
        let mut conference = Conference::new().unwrap();
        conference.open(Box::new(Channel::new(SPANISH, reader).unwrap()));
        Self {
            start: Instant::now(),
            tick: 0,
            conference,
            counters: Counters::default(),
            speakers: HashMap::new(),
            listeners: HashMap::new(),
            ring,
            said: 0,
        }
    }

    /// Lets somebody come in who says a tone when they speak.
    pub fn speaker(&mut self, id: u64, hertz: f32) -> PeerId {
        let (writer, heard) = heard_ring(10_000);
        let speaker = Speaker {
            inbound: Inbound::new(writer).unwrap(),
            _heard: heard,
            encoder: Encoder::new().unwrap(),
            hertz,
            sequence: 65_500,
            sent: Vec::new(),
            original: None,
        };
        self.speakers.insert(PeerId(id), speaker);
        PeerId(id)
    }

    pub fn on_floor(&mut self, id: u64, hertz: f32) -> PeerId {
        let id = self.speaker(id, hertz);
        self.conference.set_on_floor(id, true);
        id
    }

    pub fn listener(&mut self, id: u64, programme: Programme, has_originals: bool) -> PeerId {
        let (_, reader) = playout_ring(1);
        let mut outbound = Outbound::new(reader, has_originals).unwrap();
        outbound.tune(Tuned { room: 7, programme, own: PeerId(id) });
        let listener = Listener { outbound, got: [Vec::new(), Vec::new()], told: Vec::new() };
        self.listeners.insert(PeerId(id), listener);
        PeerId(id)
    }

    pub fn tune(&mut self, id: PeerId, programme: Programme) {
        self.tune_without(id, programme, id);
    }

    /// Tunes a listener whose own sound comes from another peer.
    pub fn tune_without(&mut self, id: PeerId, programme: Programme, own: PeerId) {
        self.listeners.get_mut(&id).unwrap().outbound.tune(Tuned { room: 7, programme, own });
    }

    /// Puts an utterance of `frames` frames of a 2 kHz tone into the channel.
    pub fn say(&mut self, frames: usize) {
        self.said += 1;
        for frame in 0..frames {
            let samples = sine(2_000.0, frame as u64);
            let frame = PlayoutFrame { utterance: self.said, last: frame + 1 == frames, samples };
            assert!(self.ring.try_push(frame).is_ok());
        }
    }

    /// `ticks` ticks in which these speakers speak and the others send silence. Every packet whose
    /// number is a multiple of `lossy` gets lost, unless that is 0.
    pub fn run_with_loss(&mut self, ticks: u64, speaking: &[PeerId], lossy: u16) {
        for _ in 0..ticks {
            let now = self.start + TICK * u32::try_from(self.tick).unwrap();
            for (id, speaker) in &mut self.speakers {
                let is_speaking = speaking.contains(id);
                let frame = if is_speaking { sine(speaker.hertz, self.tick) } else { SILENCE };
                let mut packet = [0; MAX_PACKET_BYTES];
                let length = speaker.encoder.encode(&frame, &mut packet).unwrap();
                speaker.sent.push(packet[..length].to_vec());
                speaker.sequence = speaker.sequence.wrapping_add(1);
                let packet = RtpIn {
                    arrived: now,
                    sequence: speaker.sequence,
                    timestamp: 7_000 + u32::try_from(self.tick).unwrap() * 960,
                    payload: Bytes::copy_from_slice(&packet[..length]),
                };
                if lossy == 0 || speaker.sequence % lossy != 0 {
                    speaker.inbound.packet(packet, &self.counters);
                }
                speaker.inbound.tick(now, &self.counters);
                let mut block = SILENCE;
                let is_sounding = speaker.inbound.pull_original(now, &mut block);
                speaker.original = is_sounding.then_some(block);
            }
            let (speakers, counters) = (&self.speakers, &self.counters);
            let original = |id| speakers.get(&id).and_then(|speaker| speaker.original.as_ref());
            self.conference.hear(|id| speakers.get(&id).map(|speaker| &speaker.inbound));
            for listener in self.listeners.values() {
                let outbound = &listener.outbound;
                let Tuned { programme, own, .. } = outbound.tuned().unwrap();
                self.conference.want(own, programme, outbound.has_originals(), true);
            }
            self.conference.make(original, counters);
            let (tick, conference) = (self.tick, &self.conference);
            for Listener { outbound, got, told } in self.listeners.values_mut() {
                let send = |track: Track, packet: RtpOut<'_>| {
                    got[track as usize].push(Got {
                        tick,
                        sequence: packet.sequence,
                        timestamp: packet.timestamp,
                        marker: packet.marker,
                        payload: packet.payload.to_vec(),
                    });
                    Ok(())
                };
                let (first, progress) =
                    outbound.tick_tuned(tick, conference, original, counters, send).unwrap();
                if progress != Progress::default() {
                    told.push((tick, first, progress));
                }
            }
            self.tick += 1;
        }
    }

    pub fn run(&mut self, ticks: u64, speaking: &[PeerId]) {
        self.run_with_loss(ticks, speaking, 0);
    }

    pub fn encodes(&self) -> u64 {
        self.counters.encodes.get()
    }

    pub fn forwarded(&self) -> u64 {
        self.counters.forwarded.get()
    }

    pub fn got(&self, id: PeerId) -> &[Got] {
        &self.listeners[&id].got[0]
    }

    /// Payloads of what a listener got on a track since a tick.
    pub fn payloads(&self, id: PeerId, track: Track, since: u64) -> Vec<&[u8]> {
        let got = self.listeners[&id].got[track as usize].iter();
        got.filter(|packet| packet.tick >= since).map(|packet| packet.payload.as_slice()).collect()
    }

    /// How loud a tone is at the end of what a listener got on a track.
    pub fn level(&self, id: PeerId, track: Track, hertz: f32) -> f32 {
        let mut decoder = Decoder::new().unwrap();
        let mut samples = Vec::new();
        for packet in &self.listeners[&id].got[track as usize] {
            decoder.decode(&packet.payload, &mut samples).unwrap();
        }
        amplitude(hertz, &samples[samples.len() - 10 * PLAYOUT_SAMPLES..])
    }
}

pub fn sine(hertz: f32, tick: u64) -> [f32; PLAYOUT_SAMPLES] {
    std::array::from_fn(|n| {
        let at = (tick * PLAYOUT_SAMPLES as u64 + n as u64) as f64;
        0.4 * (at * std::f64::consts::TAU * f64::from(hertz) / 48_000.0).sin() as f32
    })
}

pub fn amplitude(hertz: f32, samples: &[f32]) -> f32 {
    let step = std::f32::consts::TAU * hertz / 48_000.0;
    let (re, im) = samples.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, sample)| {
        let at = n as f32 * step;
        (re + sample * at.cos(), im + sample * at.sin())
    });
    2.0 * f32::hypot(re, im) / samples.len() as f32
}

pub fn channel(gain: f32) -> Programme {
    Programme::Channel { channel: SPANISH, original: GainStep::nearest(gain) }
}

/// Sequence numbers without a hole, and a clock that goes on at the pace of the ticks.
pub fn assert_continuous(got: &[Got]) {
    for pair in got.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        assert_eq!(after.sequence, before.sequence.wrapping_add(1), "at tick {}", after.tick);
        let advance = after.timestamp.wrapping_sub(before.timestamp).cast_signed();
        assert!(advance >= 960, "{advance} at tick {}", after.tick);
    }
    let (first, last) = (got.first().unwrap(), got.last().unwrap());
    let passed = i64::from(last.timestamp.wrapping_sub(first.timestamp).cast_signed());
    let ticks = i64::try_from(last.tick - first.tick).unwrap();
    let drift = passed - ticks * 960;
    assert!(drift.abs() <= 4 * 960, "{drift} samples away from the clock");
}
