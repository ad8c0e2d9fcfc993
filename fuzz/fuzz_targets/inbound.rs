//! A peer's packets from RTP to the recogniser's ring and the mixer, whatever it sends: sequence
//! numbers, timestamps, arrival times and payloads.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use dragoman_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use media_server::media::codec::{Encoder, MAX_PACKET_BYTES};
use media_server::media::frames::{HeardFrame, PLAYOUT_SAMPLES, TICKS_PER_FRAME, heard_ring};
use media_server::media::inbound::Inbound;
use media_server::media::stats::{Counters, Stats};
use media_server::transport::RtpIn;
use ringbuf::traits::Consumer as _;

/// More steps are no new situation.
const MOST_STEPS: usize = 400;
/// What one step may make: up to five packets become due at once, each with two seconds of silence,
/// 100 ms of concealment, a recovered packet and its own 120 ms; and the tick fills two seconds.
const MOST_FRAMES: usize = 5 * (100 + 5 + 6 + 6) + 100;
/// All that a peer may hold on to.
const MOST_MEMORY: usize = 4 << 20;
/// Frames that the ring holds: more than a step can make.
const RING: usize = 2 * MOST_FRAMES;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Sequence number and timestamp go on from the last packet's.
    Packet {
        skip: i8,
        pause: i8,
        payload: Payload,
    },
    /// They are anything.
    Wild {
        sequence: u16,
        timestamp: u32,
        payload: Payload,
    },
    Wait {
        milliseconds: u8,
    },
    /// Time that the thread lost.
    Stall {
        milliseconds: u16,
    },
}

#[derive(Arbitrary, Debug)]
enum Payload {
    Speech,
    Raw(Vec<u8>),
    Empty,
    Cut(u8),
}

impl Payload {
    fn bytes(&self, encoder: &mut Encoder, count: &mut usize) -> Bytes {
        let mut packet = [0; MAX_PACKET_BYTES];
        let mut speech = || {
            let frame =
                std::array::from_fn(|n| ((*count * PLAYOUT_SAMPLES + n) as f32 * 0.05).sin() * 0.5);
            *count += 1;
            let length = encoder.encode(&frame, &mut packet).expect("a tone can be encoded");
            packet[..length].to_vec()
        };
        match self {
            Self::Speech => speech().into(),
            Self::Raw(bytes) => bytes.clone().into(),
            Self::Empty => Bytes::new(),
            Self::Cut(length) => {
                let mut bytes = speech();
                bytes.truncate(usize::from(*length));
                bytes.into()
            }
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    bounded(MOST_MEMORY, || run(&steps));
});

fn run(steps: &[Step]) {
    let (writer, mut reader) = heard_ring(RING);
    let mut inbound = Inbound::new(writer).expect("an inbound side can be made");
    let mut encoder = Encoder::new().expect("an encoder can be made");
    let counters = Counters::default();
    let (mut now, mut sequence, mut timestamp, mut spoken) = (Instant::now(), 0u16, 0u32, 0);
    let mut last: Option<HeardFrame> = None;
    let mut packets = 0;
    for step in steps.iter().take(MOST_STEPS) {
        let mut receive = |sequence, timestamp, payload: &Payload| {
            let payload = payload.bytes(&mut encoder, &mut spoken);
            inbound.packet(RtpIn { arrived: now, sequence, timestamp, payload }, &counters);
            packets += 1;
        };
        match step {
            Step::Packet { skip, pause, payload } => {
                sequence = sequence.wrapping_add(1).wrapping_add_signed(i16::from(*skip));
                timestamp =
                    timestamp.wrapping_add(960).wrapping_add_signed(i32::from(*pause) * 960);
                receive(sequence, timestamp, payload);
            }
            Step::Wild { sequence: wild, timestamp: wilder, payload } => {
                (sequence, timestamp) = (*wild, *wilder);
                receive(sequence, timestamp, payload);
            }
            Step::Wait { milliseconds } => now += Duration::from_millis(u64::from(*milliseconds)),
            Step::Stall { milliseconds } => now += Duration::from_millis(u64::from(*milliseconds)),
        }
        inbound.tick(now, &counters);
        let mut block = [0.0_f32; PLAYOUT_SAMPLES];
        inbound.pull_original(now, &mut block);
        assert!(block.iter().all(|sample| sample.is_finite()), "the mixer gets no number");

        let frames: Vec<HeardFrame> = std::iter::from_fn(|| reader.try_pop()).collect();
        assert!(frames.len() <= MOST_FRAMES, "{} frames of one step: {step:?}", frames.len());
        for frame in frames {
            assert!(frame.samples.iter().all(|sample| sample.is_finite()));
            if let Some(last) = last {
                let apart = frame.rtp_time.checked_sub(last.rtp_time);
                assert!(
                    apart >= Some(TICKS_PER_FRAME),
                    "{} after {}",
                    frame.rtp_time,
                    last.rtp_time
                );
            }
            last = Some(frame);
        }
    }
    let stats = Stats::of(&[&counters]);
    assert_eq!(stats.packets_in, packets);
    assert!(stats.late + stats.duplicates + stats.damaged <= packets);
    assert_eq!(stats.heard_dropped, 0);
}
