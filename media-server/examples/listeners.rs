//! What listeners cost: `listeners [NUMBER] [SECONDS]`, 100 for 10 s by default.
//!
//! Real listeners (ICE, DTLS, SRTP over loopback) hear one speaker on one media worker, in three
//! ways: a channel that is encoded once for all of them, the same speech encoded for each of them as
//! in a call, and a floor that is passed on as it came. It prints the CPU time of the worker's
//! thread alone, as the system counts it; the listeners have threads of their own. Skipped are the
//! ticks of 20 ms that the worker left out for want of time.

#![allow(clippy::unwrap_used, reason = "a benchmark ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "the numbers are the result")]

#[path = "../tests/caller/mod.rs"]
mod caller;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use caller::house::{House, PATIENCE, until};
use caller::{Caller, Offering};
use media_server::media::frames::{PLAYOUT_SAMPLES, PlayoutFrame, PlayoutWriter};
use media_server::media::{ChannelId, ConnectPeer, GainStep, PeerId, Programme, Stats};
use ringbuf::traits::{Observer as _, Producer as _};

/// The aim: share of a core for each listener, in percent.
const AIM: f64 = 0.5;
/// Packets that a listener gets.
const PACKETS_A_SECOND: f64 = 50.0;
const ROOM: u64 = 7;
const CHANNEL: ChannelId = ChannelId(1);
/// Frames that the feeder keeps in a ring.
const AHEAD: usize = 10;
/// What goes by before the measuring begins.
const WARM_UP: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let number = arguments.next().map_or(100, |number| number.expect("a number of listeners"));
    let seconds = arguments.next().map_or(10, |seconds| seconds.expect("a number of seconds"));
    let window = Duration::from_secs(seconds);
    println!("{number} listeners, {seconds} s each; CPU of the media worker's thread");
    println!(
        "{:<26}{:>8}{:>14}{:>10}{:>11}{:>9}{:>10}{:>9}",
        "", "% core", "% a listener", "encodes", "forwarded", "sent", "received", "skipped"
    );
    let shared = shared(number, window);
    let private = private(number, window);
    floor(number, window);
    let verdict = if shared <= AIM { "held" } else { "missed" };
    println!(
        "encoded once: {shared:.3} % of a core a listener, {:.1} times less than encoded for each; \
         the aim of {AIM} % is {verdict}",
        private / shared
    );
}

/// A channel that is encoded once.
fn shared(number: u64, window: Duration) -> f64 {
    let house = House::new(PATIENCE);
    let listeners = listeners(&house, number);
    let mut ring = [house.plane.open_channel(ROOM, CHANNEL).unwrap()];
    let programme = Programme::Channel { channel: CHANNEL, original: GainStep::nearest(0.0) };
    for id in 0..number {
        house.plane.tune(ROOM, PeerId(id), programme, PeerId(id));
    }
    measure("a channel, encoded once", &house, &listeners, &mut ring, window)
}

/// The same speech in the ring of each listener.
fn private(number: u64, window: Duration) -> f64 {
    let house = House::new(PATIENCE);
    let mut listeners = listeners(&house, number);
    let mut rings: Vec<PlayoutWriter> =
        listeners.iter_mut().filter_map(|listener| listener.1.take()).collect();
    measure("encoded for each", &house, &listeners, &mut rings, window)
}

/// A speaker whose packets are passed on.
fn floor(number: u64, window: Duration) -> f64 {
    let house = House::new(PATIENCE);
    let speech = (0..3_000).flat_map(speech).collect();
    let (_speaker, _ends) = house.call(number, speech);
    house.plane.set_on_floor(ROOM, PeerId(number), true);
    let listeners = listeners(&house, number);
    for id in 0..number {
        house.plane.tune(ROOM, PeerId(id), Programme::Floor, PeerId(id));
    }
    measure("a floor, passed on", &house, &listeners, &mut [], window)
}

fn listeners(house: &House, number: u64) -> Vec<(Caller, Option<PlayoutWriter>)> {
    let connect = |id| {
        let offering = Offering::new();
        let request = ConnectPeer { speak: false, ..House::request(id, &offering.offer) };
        let connected = house.plane.connect(request).unwrap();
        let caller = offering.answered(&connected.answer_sdp, Vec::new());
        caller.order(|call| call.only_counts = true);
        (caller, Some(connected.playout))
    };
    let listeners: Vec<_> = (0..number).map(connect).collect();
    until("every listener", || {
        listeners.iter().all(|(caller, _)| caller.connected_after().is_some())
    });
    listeners
}

/// Speaks into the rings for a while and prints what that cost; gives the share of a core that one
/// listener takes, in percent.
fn measure(
    name: &str,
    house: &House,
    listeners: &[(Caller, Option<PlayoutWriter>)],
    rings: &mut [PlayoutWriter],
    window: Duration,
) -> f64 {
    let worker = worker();
    let state = || {
        let received: u64 = listeners.iter().map(|(caller, _)| caller.counted()).sum();
        (Instant::now(), cpu_time(&worker), house.plane.stats(), received)
    };
    let mut next = 0;
    let mut feed = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if rings.first().is_some_and(|ring| ring.occupied_len() < AHEAD) {
                let frame = PlayoutFrame { utterance: 1, last: false, samples: speech(next) };
                next += 1;
                for ring in rings.iter_mut() {
                    // One that is full loses a frame; the cost is the same.
                    let _ = ring.try_push(frame);
                }
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    };
    feed(WARM_UP);
    let (began, cpu_before, before, received_before) = state();
    feed(window);
    let (ended, cpu_after, after, received_after) = state();
    let difference = |pick: fn(&Stats) -> u64| pick(&after) - pick(&before);
    let share = 100.0 * (cpu_after - cpu_before).as_secs_f64() / (ended - began).as_secs_f64();
    // By the packets that were sent: a worker that is short of time leaves ticks out.
    let packets = difference(|stats| stats.packets_out);
    let each = 100.0 * (cpu_after - cpu_before).as_secs_f64() * PACKETS_A_SECOND / packets as f64;
    println!(
        "{name:<26}{share:>8.1}{each:>14.3}{:>10}{:>11}{packets:>9}{:>10}{:>9}",
        difference(|stats| stats.encodes),
        difference(|stats| stats.forwarded),
        received_after - received_before,
        difference(|stats| stats.ticks_skipped)
    );
    each
}

/// The worker's thread, as the system shows it.
fn worker() -> PathBuf {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let mut paths = threads.map(|thread| thread.unwrap().path());
    let is_worker = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "media-0")
    };
    paths.find(is_worker).unwrap()
}

/// CPU time of a thread: the first number in its `schedstat`, nanoseconds.
fn cpu_time(thread: &std::path::Path) -> Duration {
    let text = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// A frame of something like a voice: harmonics of a pitch that moves, in syllables, with a little
/// noise.
fn speech(frame: u64) -> [f32; PLAYOUT_SAMPLES] {
    std::array::from_fn(|n| {
        let at = (frame * PLAYOUT_SAMPLES as u64 + n as u64) as f64 / 48_000.0;
        let phase = std::f64::consts::TAU * (120.0 * at + 3.0 * (1.3 * at).sin());
        let voice: f64 = (1..20).map(|k| (f64::from(k) * phase).sin() / f64::from(k)).sum();
        let syllable = 0.5 - 0.5 * (std::f64::consts::TAU * 4.0 * at).cos();
        let noise = (at * 1e6 * (1.0 + at)).sin() * 0.05;
        (0.15 * syllable * (voice + noise)) as f32
    })
}
