//! A two-hour call at double length, in virtual time: clocks that drift apart, sequence numbers that
//! wrap eleven times and a timestamp that wraps once.
//!
//! The packets go through everything but the decoder, whose place a tone takes.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_server::media::frames::{PLAYOUT_SAMPLES, heard_ring};
use media_server::media::heard::HeardAssembler;
use media_server::media::jitter::Jitter;
use media_server::media::reorder::{Fate, Packet, Reorder};
use media_server::media::sequence::Extender;
use media_server::media::timeline::Timeline;
use ringbuf::traits::Consumer as _;

const FOUR_HOURS: u64 = 4 * 3_600 * 50;
const FRAME: u64 = PLAYOUT_SAMPLES as u64;
/// The largest step of the tone itself is 0.0098.
const CLICK: f32 = 0.02;

/// Holds the call and returns by how many milliseconds the mixed sound was shortened and lengthened.
fn hold_for_four_hours(ppm: f64) -> (u64, u64) {
    let start = Instant::now();
    let at = |ms: f64| start + Duration::from_nanos((ms * 1e6) as u64);
    // Three periods a packet: every packet is the same, and their joints are smooth.
    let tone: Vec<f32> =
        (0..960).map(|n| 0.5 * (n as f32 * std::f32::consts::TAU / 320.0).sin()).collect();
    let (mut sequences, mut timestamps) = (Extender::<16>::default(), Extender::<32>::default());
    let (mut reorder, mut timeline) = (Reorder::default(), Timeline::default());
    let (writer, mut reader) = heard_ring(4);
    let mut heard = HeardAssembler::new(writer).unwrap();
    let mut jitter = Jitter::default();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    let (mut next_start, mut next_heard, mut frames, mut last_sample) = (None, None, 0, 0.0_f32);
    let (mut largest_step, mut ticks, mut silent_ticks, mut most_waiting) = (0.0_f32, 0, 0, 0);

    for index in 0..FOUR_HOURS {
        let sent_ms = index as f64 * 20.0 / (1.0 + ppm * 1e-6);
        while (ticks as f64) * 20.0 + 7.0 < sent_ms {
            let now = at(ticks as f64 * 20.0 + 7.0);
            assert_eq!(timeline.idle(now), None, "no silence is made up");
            silent_ticks += u64::from(!jitter.pull(now, &mut block));
            let mut step = (block[0] - last_sample).abs();
            for pair in block.windows(2) {
                let next = (pair[1] - pair[0]).abs();
                step = if next > step { next } else { step };
            }
            largest_step = largest_step.max(step);
            last_sample = block[PLAYOUT_SAMPLES - 1];
            most_waiting = most_waiting.max(jitter.waiting());
            ticks += 1;
        }
        let arrived = at(sent_ms);
        let packet = Packet {
            sequence: sequences.extend((60_000 + index) & 0xffff),
            timestamp: timestamps
                .extend((u64::from(u32::MAX) - 240_000 + index * FRAME) & 0xffff_ffff),
            arrived,
            payload: Bytes::new(),
        };
        assert_eq!(reorder.push(packet), Fate::Kept);
        let due = reorder.pop(arrived).unwrap();
        assert!(due.lost == 0 && reorder.pop(arrived).is_none());
        let timestamp = due.packet.timestamp;
        let fill = timeline.packet(arrived, timestamp, FRAME, due.lost, false);
        assert_eq!((fill.conceal, fill.silence, fill.recover), (0, 0, 0), "packet {index}");
        assert_eq!(fill.packet_start, *next_start.get_or_insert(timestamp), "packet {index}");
        next_start = Some(timestamp + FRAME);
        heard.push(fill.packet_start, &tone, arrived, false);
        jitter.packet(arrived, timestamp);
        jitter.push(&tone);
        while let Some(frame) = reader.try_pop() {
            assert_eq!(frame.rtp_time, *next_heard.get_or_insert(frame.rtp_time));
            next_heard = Some(frame.rtp_time + FRAME);
            frames += 1;
        }
    }
    assert_eq!((timeline.debt(), heard.dropped()), (0, 0));
    assert!(frames + 1 >= FOUR_HOURS, "{frames} frames were heard");
    assert_eq!((jitter.underruns(), jitter.skips()), (0, 0));
    assert!(silent_ticks <= 4, "{silent_ticks} silent ticks");
    assert!(largest_step < CLICK, "a step of {largest_step}");
    assert!(most_waiting <= 110 * 48, "{} ms waited", most_waiting / 48);
    let (shortened, lengthened) = jitter.stretched();
    (shortened / 48, lengthened / 48)
}

/// 200 ppm of four hours.
const DRIFT_MS: u64 = 2_880;

#[test]
fn four_hours_with_a_sender_whose_clock_runs_fast_jump_nowhere_and_lose_nothing() {
    let (shortened, lengthened) = hold_for_four_hours(200.0);
    assert!(shortened.abs_diff(DRIFT_MS + lengthened) < 60, "{shortened} and {lengthened} ms");
    assert!(lengthened < 60, "{lengthened} ms the wrong way");
}

#[test]
fn four_hours_with_a_sender_whose_clock_runs_slow_jump_nowhere_and_lose_nothing() {
    let (shortened, lengthened) = hold_for_four_hours(-200.0);
    assert!(lengthened.abs_diff(DRIFT_MS + shortened) < 60, "{shortened} and {lengthened} ms");
    assert!(shortened < 60, "{shortened} ms the wrong way");
}
