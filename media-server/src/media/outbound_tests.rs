//! The packets of one listener, tick by tick.

use ringbuf::traits::Producer as _;

use super::*;
use crate::media::codec::Decoder;
use crate::media::frames::{PlayoutFrame, PlayoutWriter, playout_ring};

fn listener() -> (PlayoutWriter, Outbound) {
    let (writer, reader) = playout_ring(100);
    (writer, Outbound::new(reader, false).unwrap())
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
        let (packets, progress) = outbound.tick(tick, silent, &Counters::default()).unwrap();
        let packet = packets.interpretation;
        assert!(packets.originals.is_none());
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
    let first = outbound.tick(5, silent, &Counters::default()).unwrap().0.interpretation;
    let (sequence, timestamp) = (first.sequence, first.timestamp);
    let second = outbound.tick(12, silent, &Counters::default()).unwrap().0.interpretation;
    assert_eq!(second.sequence, sequence.wrapping_add(1));
    assert_eq!(second.timestamp, timestamp.wrapping_add(7 * 960));
    assert!(second.marker);
}

#[test]
fn the_first_and_the_last_packet_of_an_utterance_are_told() {
    let (mut writer, mut outbound) = listener();
    outbound.tick(0, silent, &Counters::default()).unwrap();
    say(&mut writer, 7, 3);
    say(&mut writer, 8, 1);
    let mut told = Vec::new();
    for tick in 1..7 {
        let (packets, progress) = outbound.tick(tick, silent, &Counters::default()).unwrap();
        told.push((packets.interpretation.marker, progress.spoken, progress.finished));
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
        let (packets, _) = outbound.tick(tick, silent, &Counters::default()).unwrap();
        decoder.decode(packets.interpretation.payload, &mut pcm).unwrap();
    }
    let loudest = |range: std::ops::Range<usize>| {
        pcm[range.start * PLAYOUT_SAMPLES..range.end * PLAYOUT_SAMPLES]
            .iter()
            .fold(0.0f32, |most, sample| most.max(sample.abs()))
    };
    assert!(loudest(3..10) > 0.4);
    assert!(loudest(30..200) < 1e-3, "{}", loudest(30..200));
}

#[test]
fn on_a_track_of_their_own_the_originals_are_as_loud_as_they_came_and_never_ducked() {
    const SOURCE: PeerId = PeerId(5);
    let (mut writer, reader) = playout_ring(100);
    let mut outbound = Outbound::new(reader, true).unwrap();
    outbound.set_route(SOURCE, 0.2, true);
    say(&mut writer, 1, 40);
    let mut decoders = [Decoder::new().unwrap(), Decoder::new().unwrap()];
    let mut heard = [Vec::new(), Vec::new()];
    let mut last: Option<(u16, u32)> = None;
    for tick in 0..60u64 {
        let original: [f32; PLAYOUT_SAMPLES] = std::array::from_fn(|n| {
            let at = (tick as usize * PLAYOUT_SAMPLES + n) as f32;
            0.5 * (at * std::f32::consts::TAU * 1_300.0 / 48_000.0).sin()
        });
        let original = |source| (source == SOURCE).then_some(&original);
        let (packets, progress) = outbound.tick(tick, original, &Counters::default()).unwrap();
        assert_eq!(progress.spoken.is_some(), tick == 0);
        let originals = packets.originals.unwrap();
        if let Some((sequence, timestamp)) = last {
            assert_eq!(originals.sequence, sequence.wrapping_add(1));
            assert_eq!(originals.timestamp, timestamp.wrapping_add(960));
        }
        last = Some((originals.sequence, originals.timestamp));
        decoders[0].decode(packets.interpretation.payload, &mut heard[0]).unwrap();
        decoders[1].decode(originals.payload, &mut heard[1]).unwrap();
    }
    let amplitude = |samples: &[f32], hertz: f32| {
        let step = std::f32::consts::TAU * hertz / 48_000.0;
        let (real, imaginary) = samples.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, x)| {
            let at = n as f32 * step;
            (re + x * at.cos(), im + x * at.sin())
        });
        2.0 * f32::hypot(real, imaginary) / samples.len() as f32
    };
    let while_spoken = 15 * PLAYOUT_SAMPLES..35 * PLAYOUT_SAMPLES;
    let (voice, originals) = (&heard[0][while_spoken.clone()], &heard[1][while_spoken]);
    assert!(amplitude(voice, 500.0) > 0.4 && amplitude(voice, 1_300.0) < 0.02);
    assert!(amplitude(originals, 1_300.0) > 0.4 && amplitude(originals, 500.0) < 0.02);
}
