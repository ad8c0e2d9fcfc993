//! The jitter buffer against clocks that drift, networks that stutter, and bursts.

use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// A tone whose period is no whole number of samples.
fn sample(index: u64) -> f32 {
    let turns = index as f64 * 147.3 / 48_000.0;
    0.5 * (turns.fract() * std::f64::consts::TAU).sin() as f32
}

fn tone(length: usize) -> Vec<f32> {
    (0..length as u64).map(sample).collect()
}

fn largest_step(samples: &[f32]) -> f32 {
    samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
}

/// The largest step of the tone itself is 0.0096.
const CLICK: f32 = 0.02;

struct World {
    jitter: Jitter,
    start: Instant,
    heard: Vec<f32>,
    silent_ticks: u64,
}

impl World {
    fn new() -> Self {
        Self {
            jitter: Jitter::default(),
            start: Instant::now(),
            heard: Vec::new(),
            silent_ticks: 0,
        }
    }

    /// Packets of a tone, sent every 20 ms of a clock that runs fast by `ppm` and arriving in order
    /// but late by what `lateness_ms` draws, against our ticks.
    fn run(&mut self, seconds: u64, ppm: f64, mut lateness_ms: impl FnMut() -> f64) {
        // A second more than is played, so that a fast sender does not fall silent before the end.
        let mut arrivals = (0..(seconds + 1) * 50).scan(0.0_f64, |last, index| {
            let sent = index as f64 * 20.0 / (1.0 + ppm * 1e-6);
            *last = last.max(sent + lateness_ms());
            Some((index, *last))
        });
        let mut next = arrivals.next();
        let mut block = [0.0; PLAYOUT_SAMPLES];
        for tick in 0..seconds * 50 {
            // Our ticks fall between the packets at first.
            let now = tick as f64 * 20.0 + 7.0;
            while let Some((index, at)) = next.filter(|(_, at)| *at <= now) {
                let arrived = self.start + Duration::from_secs_f64(at / 1000.0);
                self.jitter.packet(arrived, (1 << 32) + index * 960);
                let samples: Vec<f32> = (index * 960..(index + 1) * 960).map(sample).collect();
                self.jitter.push(&samples);
                next = arrivals.next();
            }
            let now = self.start + Duration::from_secs_f64(now / 1000.0);
            self.silent_ticks += u64::from(!self.jitter.pull(now, &mut block));
            self.heard.extend_from_slice(&block);
        }
    }
}

#[test]
fn it_plays_once_50_ms_are_there_and_then_in_order() {
    let now = Instant::now();
    let mut jitter = Jitter::default();
    let mut block = [1.0; PLAYOUT_SAMPLES];
    let sound = tone(5 * PLAYOUT_SAMPLES);
    let target = jitter.target();
    assert_eq!(target, 50 * 48);
    jitter.push(&sound[..target - 1]);
    assert!(!jitter.pull(now, &mut block));
    assert!(block.iter().all(|sample| *sample == 0.0));
    jitter.push(&sound[target - 1..]);
    assert!(jitter.pull(now, &mut block));
    assert_eq!(block[BLEND..], sound[BLEND..PLAYOUT_SAMPLES]);
    assert!(jitter.pull(now, &mut block));
    assert_eq!(block[..], sound[PLAYOUT_SAMPLES..2 * PLAYOUT_SAMPLES]);
}

#[test]
fn a_sound_that_breaks_off_fades_within_100_ms_and_the_buffer_fills_up_again() {
    let now = Instant::now();
    let mut jitter = Jitter::default();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    let mut heard = Vec::new();
    jitter.push(&tone(3 * PLAYOUT_SAMPLES + 500));
    for _ in 0..10 {
        jitter.pull(now, &mut block);
        heard.extend_from_slice(&block);
    }
    assert!(largest_step(&heard) < CLICK, "{}", largest_step(&heard));
    assert_eq!(jitter.underruns(), 1);
    let end = heard.iter().rposition(|sample| sample.abs() > 1e-4).expect("something sounds");
    assert!((7_500..3 * PLAYOUT_SAMPLES + 500 + 4_800).contains(&end), "{end}");
    assert!(!jitter.is_playing());
    jitter.push(&tone(PLAYOUT_SAMPLES));
    assert!(!jitter.pull(now, &mut block), "too little to start with");
}

#[test]
fn running_dry_in_silence_is_no_underrun() {
    let now = Instant::now();
    let mut jitter = Jitter::default();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    jitter.push(&[0.0; 4 * PLAYOUT_SAMPLES]);
    for _ in 0..6 {
        jitter.pull(now, &mut block);
    }
    assert_eq!((jitter.underruns(), jitter.is_playing()), (0, false));
}

#[test]
fn a_burst_is_shortened_without_clicks() {
    let now = Instant::now();
    let mut jitter = Jitter::default();
    jitter.push(&tone(30 * PLAYOUT_SAMPLES));
    let mut heard = Vec::new();
    let mut block = [0.0; PLAYOUT_SAMPLES];
    for _ in 0..7 {
        assert!(jitter.pull(now, &mut block));
        heard.extend_from_slice(&block);
    }
    assert_eq!(jitter.skips(), 18, "250 ms are left of 600");
    // Twenty milliseconds are no period of the tone: it is blended, not matched.
    assert!(largest_step(&heard) < 2.0 * CLICK, "{}", largest_step(&heard));
}

#[test]
fn clocks_that_drift_by_200_ppm_are_followed_without_a_click() {
    for ppm in [-200.0, 200.0] {
        let mut world = World::new();
        world.run(900, ppm, || 0.0);
        assert_eq!((world.jitter.underruns(), world.jitter.skips()), (0, 0), "{ppm}");
        assert!(world.silent_ticks <= 3, "{ppm}: {} silent ticks", world.silent_ticks);
        let heard = &world.heard[10 * PLAYOUT_SAMPLES..];
        assert!(largest_step(heard) < CLICK, "{ppm}: {}", largest_step(heard));
        let waiting = world.jitter.waiting() / 48;
        assert!((10..=80).contains(&waiting), "{ppm}: {waiting} ms wait at the end");
        // 200 ppm of 900 s are 180 ms.
        let (shortened, lengthened) = world.jitter.stretched();
        let (with, against) =
            if ppm > 0.0 { (shortened, lengthened) } else { (lengthened, shortened) };
        assert!((140 * 48..240 * 48).contains(&with), "{ppm}: {} ms", with / 48);
        assert!(against <= 40 * 48, "{ppm}: {} ms the wrong way", against / 48);
    }
}

#[test]
fn an_uneven_network_gets_a_longer_wait_and_an_even_one_the_shorter_again() {
    let mut random = StdRng::seed_from_u64(11);
    let mut world = World::new();
    let mut packet = 0;
    world.run(90, 0.0, || {
        packet += 1;
        if packet < 30 * 50 { random.random_range(0.0..80.0) } else { 0.0 }
    });
    let underruns = world.jitter.underruns();
    assert!(underruns < 15, "{underruns} underruns in 30 s before the wait was right");
    assert_eq!(world.jitter.target(), 40 * 48);
    let waiting = world.jitter.waiting() / 48;
    assert!(waiting <= 80, "{waiting} ms still wait a minute after the network calmed down");
    let heard = &world.heard[40 * 50 * PLAYOUT_SAMPLES..];
    assert!(largest_step(heard) < CLICK, "{}", largest_step(heard));
}

proptest! {
    #[test]
    fn it_never_holds_more_than_its_capacity_and_never_gets_louder(
        steps in prop::collection::vec((0usize..6_000, 0usize..4, any::<u32>()), 1..100),
    ) {
        let mut now = Instant::now();
        let mut jitter = Jitter::default();
        let room = jitter.samples.capacity();
        let mut block = [0.0; PLAYOUT_SAMPLES];
        for (pushed, pulls, timestamp) in steps {
            jitter.packet(now, u64::from(timestamp));
            jitter.push(&tone(pushed));
            for _ in 0..pulls {
                jitter.pull(now, &mut block);
                prop_assert!(block.iter().all(|sample| sample.abs() <= 0.51));
                now += Duration::from_millis(20);
            }
            prop_assert!(jitter.samples.len() <= CAPACITY + LONGEST);
            prop_assert_eq!(jitter.samples.capacity(), room, "memory never grows");
        }
    }
}
