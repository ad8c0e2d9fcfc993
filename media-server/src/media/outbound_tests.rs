//! The packets of one listener, tick by tick.

use ringbuf::traits::Producer as _;

use super::*;
use crate::media::codec::Decoder;
use crate::media::frames::{PlayoutFrame, PlayoutWriter, playout_ring};

fn listener() -> (PlayoutWriter, Outbound) {
    let (writer, reader) = playout_ring(100);
    (writer, Outbound::new(reader).unwrap())
}

fn say(writer: &mut PlayoutWriter, utterance: u64, frames: usize) {
    for frame in 0..frames {
        let samples = std::array::from_fn(|n| {
            let index = (frame * PLAYOUT_SAMPLES + n) as f32;
            0.5 * (index * std::f32::consts::TAU * 500.0 / 48_000.0).sin()
        });
        let frame = PlayoutFrame { utterance, last: frame + 1 == frames, samples };
        assert!(writer.try_push(frame).is_ok());
    }
}

fn silent(_: PeerId) -> Option<&'static [f32; PLAYOUT_SAMPLES]> {
    None
}

#[test]
fn every_tick_gives_one_packet_and_timestamps_advance_by_960() {
    let (_writer, mut outbound) = listener();
    let mut last: Option<(u16, u32)> = None;
    for tick in 70..200 {
        let (packet, progress) = outbound.tick(tick, silent).unwrap();
        assert_eq!(packet.marker, tick == 70);
        assert_eq!(progress, Progress::default());
        assert!(!packet.payload.is_empty());
        if let Some((sequence, timestamp)) = last {
            assert_eq!(packet.sequence, sequence.wrapping_add(1));
            assert_eq!(packet.timestamp, timestamp.wrapping_add(960));
        }
        last = Some((packet.sequence, packet.timestamp));
    }
}

#[test]
fn left_out_ticks_are_a_gap_in_time_with_a_marker_but_no_loss() {
    let (_writer, mut outbound) = listener();
    let (first, _) = outbound.tick(5, silent).unwrap();
    let (sequence, timestamp) = (first.sequence, first.timestamp);
    let (second, _) = outbound.tick(12, silent).unwrap();
    assert_eq!(second.sequence, sequence.wrapping_add(1));
    assert_eq!(second.timestamp, timestamp.wrapping_add(7 * 960));
    assert!(second.marker);
}

#[test]
fn the_first_and_the_last_packet_of_an_utterance_are_told() {
    let (mut writer, mut outbound) = listener();
    outbound.tick(0, silent).unwrap();
    say(&mut writer, 7, 3);
    say(&mut writer, 8, 1);
    let mut told = Vec::new();
    for tick in 1..7 {
        let (packet, progress) = outbound.tick(tick, silent).unwrap();
        told.push((packet.marker, progress.spoken, progress.finished));
    }
    assert_eq!(
        told,
        [
            (true, Some(7), None),
            (false, None, None),
            (false, None, Some(7)),
            (true, Some(8), Some(8)),
            (false, None, None),
            (false, None, None),
        ]
    );
}

#[test]
fn speech_is_heard_and_after_it_the_repeated_packet_is_silence() {
    let (mut writer, mut outbound) = listener();
    say(&mut writer, 1, 10);
    let mut decoder = Decoder::new().unwrap();
    let mut pcm = Vec::new();
    for tick in 0..200 {
        let (packet, _) = outbound.tick(tick, silent).unwrap();
        decoder.decode(packet.payload, &mut pcm).unwrap();
    }
    let loudest = |range: std::ops::Range<usize>| {
        pcm[range.start * PLAYOUT_SAMPLES..range.end * PLAYOUT_SAMPLES]
            .iter()
            .fold(0.0f32, |most, sample| most.max(sample.abs()))
    };
    assert!(loudest(3..10) > 0.4);
    assert!(loudest(30..200) < 1e-3, "{}", loudest(30..200));
}
