//! Bad networks in virtual time: losses at random and in bursts, jitter, reordering and duplicates,
//! all from seeds, with real Opus packets.
//!
//! What the network did is known here, so every counter has one right value.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media_server::media::codec::{Encoder, MAX_PACKET_BYTES};
use media_server::media::frames::{PLAYOUT_SAMPLES, heard_ring};
use media_server::media::inbound::Inbound;
use media_server::media::reorder::MAX_WAIT;
use media_server::media::stats::Counters;
use media_server::transport::RtpIn;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use ringbuf::traits::Consumer as _;

/// A minute of 20 ms packets.
const PACKETS: usize = 3_000;
/// Ticks between which the mixed sound is judged: after five seconds, and before the sender ends.
const SETTLED: u64 = 250;
const LAST: u64 = PACKETS as u64 - 10;
/// Chance of a packet to leave a burst of losses: bursts of four on average.
const BURST_END: f64 = 0.25;

#[derive(Clone, Copy, Debug)]
struct Network {
    seed: u64,
    /// Share of the packets that never arrive.
    loss: f64,
    /// Whether losses come in bursts (Gilbert's model) or at random.
    bursts: bool,
    /// Every packet is late by up to so much, whatever the others are.
    jitter_ms: f64,
    /// Share of the packets that arrive twice, the second time up to 50 ms later.
    duplicates: f64,
}

/// A copy of packet number `index` arrives.
struct Arrival {
    at_ms: f64,
    index: usize,
}

impl Network {
    fn carry(&self) -> Vec<Arrival> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut arrivals = Vec::new();
        let mut in_burst = false;
        for index in 0..PACKETS {
            let into_burst = self.loss * BURST_END / (1.0 - self.loss);
            in_burst = random.random_bool(if in_burst { 1.0 - BURST_END } else { into_burst });
            let is_lost = if self.bursts { in_burst } else { random.random_bool(self.loss) };
            // The ends arrive, so that it is known how many packets there were.
            if is_lost && index > 0 && index < PACKETS - 1 {
                continue;
            }
            let late = if index == 0 { 0.0 } else { random.random::<f64>() * self.jitter_ms };
            let at_ms = index as f64 * 20.0 + late;
            arrivals.push(Arrival { at_ms, index });
            if random.random_bool(self.duplicates) {
                let at_ms = at_ms + random.random_range(0.1..50.0);
                arrivals.push(Arrival { at_ms, index });
            }
        }
        arrivals.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
        arrivals
    }
}

/// Packets of a tone whose level changes like that of speech.
fn packets() -> Vec<Bytes> {
    let mut encoder = Encoder::new().unwrap();
    let mut packet = [0; MAX_PACKET_BYTES];
    let encode = |index: usize| {
        let frame = std::array::from_fn(|n| {
            let at = (index * PLAYOUT_SAMPLES + n) as f32 / 48_000.0;
            let level = 0.3 + 0.2 * (at * 23.0).sin();
            level * (at * 210.0 * std::f32::consts::TAU).sin()
        });
        let length = encoder.encode(&frame, &mut packet).unwrap();
        Bytes::copy_from_slice(&packet[..length])
    };
    (0..PACKETS).map(encode).collect()
}

struct Outcome {
    counters: Counters,
    /// Copies that arrived, packets of which one did, lengths of the runs of which none did.
    copies: u64,
    arrived: u64,
    lost_runs: Vec<u64>,
    /// Frames that reached the recogniser, and how many of them after more than a moment.
    frames: u64,
    delayed_frames: u64,
    /// Ticks that count, and how often the mixed sound broke off in them.
    ticks: u64,
    underruns: u64,
}

fn receive(network: Network, packets: &[Bytes]) -> Outcome {
    let arrivals = network.carry();
    let start = Instant::now();
    let at = |ms: f64| start + Duration::from_secs_f64(ms / 1000.0);
    let counters = Counters::default();
    let (writer, mut reader) = heard_ring(PACKETS + 100);
    let mut inbound = Inbound::new(writer).unwrap();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    let (mut frames, mut delayed_frames, mut last_time) = (0, 0, None);
    let mut hear = |now: Instant| {
        while let Some(frame) = reader.try_pop() {
            assert!(last_time.is_none_or(|last| frame.rtp_time == last + 960), "{network:?}");
            last_time = Some(frame.rtp_time);
            let delay = now - frame.arrived;
            // It waits for a missing packet at most, and until the next tick to give it up.
            assert!(delay <= MAX_WAIT + Duration::from_millis(20), "{network:?}: {delay:?}");
            frames += 1;
            delayed_frames += u64::from(delay > Duration::ZERO);
        }
    };
    let mut waiting = arrivals.iter().peekable();
    let (mut settled, mut broken_off) = (0, 0);
    for tick in 0..PACKETS as u64 + 10 {
        let now_ms = tick as f64 * 20.0 + 9.0;
        while let Some(arrival) = waiting.next_if(|arrival| arrival.at_ms <= now_ms) {
            let arrived = at(arrival.at_ms);
            let packet = RtpIn {
                arrived,
                sequence: 65_000_u16.wrapping_add(arrival.index as u16),
                timestamp: (u32::MAX - 100_000).wrapping_add(arrival.index as u32 * 960),
                payload: packets[arrival.index].clone(),
            };
            inbound.packet(packet, &counters);
            hear(arrived);
        }
        let now = at(now_ms);
        inbound.tick(now, &counters);
        hear(now);
        inbound.pull_original(now, &mut block);
        match tick {
            SETTLED => settled = counters.underruns.get(),
            LAST => broken_off = counters.underruns.get(),
            _ => {}
        }
    }
    let unique: HashSet<usize> = arrivals.iter().map(|arrival| arrival.index).collect();
    let is_missing: Vec<bool> = (0..PACKETS).map(|index| !unique.contains(&index)).collect();
    let runs = is_missing.chunk_by(|one, other| one == other).filter(|run| run[0]);
    Outcome {
        copies: arrivals.len() as u64,
        arrived: unique.len() as u64,
        lost_runs: runs.map(|run| run.len() as u64).collect(),
        frames,
        delayed_frames,
        ticks: LAST - SETTLED,
        underruns: broken_off - settled,
        counters,
    }
}

/// What holds on every network.
fn check(network: Network, outcome: &Outcome) {
    let Outcome { counters, copies, arrived, .. } = outcome;
    let never_came = PACKETS as u64 - arrived;
    assert_eq!(counters.packets_in.get(), *copies, "{network:?}");
    assert_eq!(counters.duplicates.get(), copies - arrived, "{network:?}");
    assert_eq!(counters.lost.get(), never_came + counters.late.get(), "{network:?}");
    assert_eq!((counters.damaged.get(), counters.heard_dropped.get()), (0, 0), "{network:?}");
}

#[test]
fn on_an_even_network_every_loss_is_counted_and_every_hole_is_filled() {
    let packets = packets();
    for (seed, loss) in [(1, 0.02), (2, 0.05), (3, 0.10)] {
        for bursts in [false, true] {
            let network = Network { seed, loss, bursts, jitter_ms: 0.0, duplicates: 0.0 };
            let outcome = receive(network, &packets);
            check(network, &outcome);
            let counters = &outcome.counters;
            assert_eq!(counters.late.get(), 0, "{network:?}");
            // Up to 100 ms of a gap are guessed or recovered, the rest is silence. In a burst of
            // five and more, silence may have been fed before it was known to be one.
            let mended = counters.concealed.get() + counters.fec_recovered.get() * 960;
            let certain: u64 = outcome.lost_runs.iter().filter(|run| **run < 5).sum();
            let most: u64 = outcome.lost_runs.iter().map(|run| (*run).min(5)).sum();
            assert!((certain * 960..=most * 960).contains(&mended), "{network:?}: {mended}");
            assert!(outcome.frames >= PACKETS as u64 - 1, "{network:?}: {}", outcome.frames);
            let share = outcome.underruns as f64 / outcome.ticks as f64;
            println!(
                "{network:?}: {} lost, {:.2} % of the ticks broke off",
                counters.lost.get(),
                100.0 * share
            );
            assert!(share < 0.02, "{network:?}: {share}");
        }
    }
}

#[test]
fn without_losses_the_recogniser_hears_every_packet_at_the_moment_it_arrives() {
    let network = Network { seed: 4, loss: 0.0, bursts: false, jitter_ms: 0.0, duplicates: 0.05 };
    let outcome = receive(network, &packets());
    check(network, &outcome);
    assert_eq!((outcome.counters.lost.get(), outcome.counters.concealed.get()), (0, 0));
    assert_eq!(outcome.delayed_frames, 0);
    assert_eq!(outcome.underruns, 0);
}

#[test]
fn with_jitter_reordering_and_duplicates_every_counter_adds_up() {
    let packets = packets();
    for (seed, jitter_ms) in [(5, 10.0), (6, 40.0), (7, 80.0)] {
        for (loss, bursts) in [(0.0, false), (0.02, false), (0.05, true), (0.10, true)] {
            let network = Network { seed, loss, bursts, jitter_ms, duplicates: 0.02 };
            let outcome = receive(network, &packets);
            check(network, &outcome);
            let share = outcome.underruns as f64 / outcome.ticks as f64;
            println!(
                "{network:?}: {} lost, {} late, {:.2} % of the ticks broke off",
                outcome.counters.lost.get(),
                outcome.counters.late.get(),
                100.0 * share
            );
            // Packets are 20 ms apart: less jitter than that reorders nothing.
            if jitter_ms < 20.0 {
                assert_eq!(outcome.counters.late.get(), 0, "{network:?}");
            }
            assert!(share < 0.03, "{network:?}: {share}");
            let late = outcome.counters.late.get() as f64 / PACKETS as f64;
            assert!(late < 0.05, "{network:?}: {late}");
        }
    }
}

#[test]
fn packets_that_come_after_they_were_given_up_are_counted_as_lost_and_late() {
    let network =
        Network { seed: 8, loss: 0.05, bursts: false, jitter_ms: 200.0, duplicates: 0.02 };
    let outcome = receive(network, &packets());
    check(network, &outcome);
    let late = outcome.counters.late.get();
    assert!((100..1_500).contains(&late), "{late} of {PACKETS} late");
}
