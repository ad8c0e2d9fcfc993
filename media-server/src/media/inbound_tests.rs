//! Packets in, frames out: losses, pauses and late packets through the real codec.

use bytes::Bytes;
use ringbuf::traits::Consumer as _;

use super::*;
use crate::media::codec::{Encoder, MAX_PACKET_BYTES};
use crate::media::frames::{HeardFrame, HeardReader, TICKS_PER_FRAME, heard_ring};

const FRAME: Duration = Duration::from_millis(20);

/// Packets of a 440 Hz tone.
fn tone(packets: usize) -> Vec<Bytes> {
    let mut encoder = Encoder::new().unwrap();
    let mut packet = [0; MAX_PACKET_BYTES];
    (0..packets)
        .map(|index| {
            let frame = std::array::from_fn(|n| {
                let at = (index * PLAYOUT_SAMPLES + n) as f32;
                0.5 * (at * std::f32::consts::TAU * 440.0 / 48_000.0).sin()
            });
            let length = encoder.encode(&frame, &mut packet).unwrap();
            Bytes::copy_from_slice(&packet[..length])
        })
        .collect()
}

struct Fixture {
    start: Instant,
    inbound: Inbound,
    reader: HeardReader,
    counters: Counters,
}

impl Fixture {
    fn new() -> Self {
        let (writer, reader) = heard_ring(1_000);
        let inbound = Inbound::new(writer).unwrap();
        Self { start: Instant::now(), inbound, reader, counters: Counters::default() }
    }

    /// Sends packet `index`, stamped at its place, `at` after the start.
    fn send(&mut self, index: u16, at: Duration, payload: &Bytes) {
        let packet = RtpIn {
            arrived: self.start + at,
            sequence: 65_530u16.wrapping_add(index),
            timestamp: (u32::MAX - 5_000).wrapping_add(u32::from(index) * 960),
            payload: payload.clone(),
        };
        self.inbound.packet(packet, &self.counters);
    }

    fn tick(&mut self, at: Duration) {
        self.inbound.tick(self.start + at, &self.counters);
    }

    fn frames(&mut self) -> Vec<HeardFrame> {
        std::iter::from_fn(|| self.reader.try_pop()).collect()
    }
}

fn assert_gapless(frames: &[HeardFrame]) {
    for pair in frames.windows(2) {
        assert_eq!(pair[1].rtp_time - pair[0].rtp_time, TICKS_PER_FRAME);
    }
}

fn power(frame: &HeardFrame) -> f32 {
    frame.samples.iter().map(|sample| sample * sample).sum::<f32>() / frame.samples.len() as f32
}

#[test]
fn a_tone_is_heard_at_its_level_across_the_wrap_of_both_counters() {
    let mut fixture = Fixture::new();
    for (index, packet) in (0u16..).zip(&tone(50)) {
        fixture.send(index, FRAME * u32::from(index), packet);
    }
    let frames = fixture.frames();
    assert_eq!(frames.len(), 50);
    assert_gapless(&frames);
    for frame in &frames[5..] {
        assert!((power(frame) - 0.125).abs() < 0.02, "{}", power(frame));
        assert!(!frame.concealed);
    }
    assert_eq!(fixture.counters.packets_in.get(), 50);
    assert_eq!(fixture.counters.lost.get(), 0);
}

#[test]
fn a_lost_packet_leaves_no_hole() {
    let mut fixture = Fixture::new();
    for (index, packet) in (0u16..).zip(&tone(50)) {
        let at = FRAME * u32::from(index);
        if index != 20 {
            fixture.send(index, at, packet);
        }
        fixture.tick(at);
    }
    let frames = fixture.frames();
    assert_eq!(frames.len(), 50);
    assert_gapless(&frames);
    assert!(frames[20].concealed && power(&frames[20]) > 0.03, "{}", power(&frames[20]));
    assert_eq!(fixture.counters.lost.get(), 1);
    let mended = fixture.counters.fec_recovered.get() + fixture.counters.concealed.get() / 960;
    assert_eq!(mended, 1);
}

#[test]
fn swapped_and_repeated_packets_change_nothing() {
    let packets = tone(20);
    let mut plain = Fixture::new();
    let mut shuffled = Fixture::new();
    for index in 0u16..20 {
        let at = FRAME * u32::from(index);
        plain.send(index, at, &packets[usize::from(index)]);
        shuffled.send(index ^ 1, at, &packets[usize::from(index ^ 1)]);
        shuffled.send(index ^ 1, at, &packets[usize::from(index ^ 1)]);
    }
    let (plain, shuffled_frames) = (plain.frames(), shuffled.frames());
    // The very first packet seen was number 1; number 0 came after it and is late.
    assert_eq!(shuffled_frames.len(), plain.len() - 1);
    assert_gapless(&shuffled_frames);
    assert_eq!(shuffled.counters.lost.get(), 0);
}

#[test]
fn when_the_sender_falls_silent_the_recogniser_hears_the_pause_in_real_time() {
    let mut fixture = Fixture::new();
    for (index, packet) in (0u16..).zip(&tone(10)) {
        fixture.send(index, FRAME * u32::from(index), packet);
    }
    for tick in 10..60 {
        fixture.tick(FRAME * tick);
    }
    let frames = fixture.frames();
    assert_gapless(&frames);
    // At tick 59 one second has passed since the last packet; 60 ms stay back.
    assert_eq!(frames.len(), 10 + 47);
    assert!(frames[12..].iter().all(|frame| power(frame) < 1e-6 && !frame.concealed));
}

#[test]
fn packets_that_were_only_late_are_all_heard() {
    let packets = tone(40);
    let mut fixture = Fixture::new();
    for index in 0u16..10 {
        fixture.send(index, FRAME * u32::from(index), &packets[usize::from(index)]);
    }
    for tick in 10..20 {
        fixture.tick(FRAME * tick);
    }
    for index in 10u16..40 {
        let at = FRAME * u32::from(index.max(20));
        fixture.send(index, at, &packets[usize::from(index)]);
    }
    let frames = fixture.frames();
    assert_gapless(&frames);
    let loud = frames.iter().filter(|frame| power(frame) > 0.05).count();
    assert!(loud >= 39, "{loud} of 40 loud frames");
    assert!(frames.len() > 40);
}

#[test]
fn damaged_packets_are_counted_and_covered() {
    let mut fixture = Fixture::new();
    let packets = tone(10);
    for index in 0u16..10 {
        let damaged = Bytes::from_static(&[0xff, 0xff, 0xff]);
        let packet = if index == 5 { &damaged } else { &packets[usize::from(index)] };
        fixture.send(index, FRAME * u32::from(index), packet);
    }
    let frames = fixture.frames();
    assert_eq!(frames.len(), 10);
    assert_gapless(&frames);
    assert!(frames[5].concealed);
    assert_eq!(fixture.counters.damaged.get(), 1);
}

#[test]
fn the_original_comes_out_of_the_jitter_buffer() {
    let mut fixture = Fixture::new();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    let mut sounding = 0;
    for (index, packet) in (0u16..).zip(&tone(30)) {
        fixture.send(index, FRAME * u32::from(index), packet);
        let now = fixture.start + FRAME * u32::from(index);
        sounding += usize::from(fixture.inbound.pull_original(now, &mut block));
    }
    assert_eq!(sounding, 28);
    assert!(block.iter().any(|sample| sample.abs() > 0.3));
}

#[test]
fn a_long_loss_is_guessed_for_100_ms_and_then_silent_without_a_click() {
    let mut fixture = Fixture::new();
    for (index, packet) in (0u16..).zip(&tone(60)) {
        let at = FRAME * u32::from(index);
        // A burst of 600 ms that is over at once: no silence was fed meanwhile.
        if !(20..50).contains(&index) {
            fixture.send(index, at, packet);
        }
    }
    let frames = fixture.frames();
    assert_gapless(&frames);
    assert_eq!(frames.len(), 60);
    assert_eq!(
        fixture.counters.concealed.get() + 960 * fixture.counters.fec_recovered.get(),
        4_800
    );
    assert!(frames[27..47].iter().all(|frame| power(frame) < 1e-6 && !frame.concealed));
    let samples: Vec<f32> = frames.iter().flat_map(|frame| frame.samples).collect();
    let step = |range: std::ops::Range<usize>| {
        samples[range].windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    };
    // The tone itself has steps of 0.09 at 16 kHz.
    let (tone, around_the_loss) = (step(3_200..6_400), step(6_400..17_600));
    assert!(around_the_loss < 1.5 * tone, "{around_the_loss} beside {tone}");
}
