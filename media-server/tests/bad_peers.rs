//! Peers that behave badly, over real UDP on loopback, while two others talk on the same worker:
//! their call loses nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "the numbers are part of the result")]

mod caller;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use caller::house::{House, PATIENCE, until};
use caller::{Caller, Heard, tone};
use media_server::media::{CloseReason, Connected, Notice, PeerId, Stats};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// How long each kind of trouble is made.
const TROUBLE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

/// Two callers in a call that nobody should notice anything in.
struct Pair {
    house: House,
    anna: Caller,
    bert: Caller,
    _ends: [Connected; 2],
}

impl Pair {
    fn new(peer_timeout: Duration) -> Self {
        let house = House::new(peer_timeout);
        let (anna, anna_ends) = house.call(1, tone(500.0, 60.0, 0.5));
        let (bert, bert_ends) = house.call(2, Vec::new());
        house.plane.set_route(PeerId(2), PeerId(1), 1.0, false);
        until("sound", || bert.heard().len() > 20);
        Self { house, anna, bert, _ends: [anna_ends, bert_ends] }
    }

    fn port(&self) -> SocketAddr {
        self.house.plane.candidates()[0]
    }

    /// Lets `trouble` happen and judges what the listener of the pair got meanwhile.
    fn endures<R>(&self, what: &str, trouble: impl FnOnce() -> R) -> (R, Stats) {
        let before = self.house.plane.stats();
        let first = self.bert.heard().len();
        let idler = Idler::start();
        let result = trouble();
        let idler_skipped = idler.stop();
        until("more sound", || self.bert.heard().len() > first + 100);
        let after = self.house.plane.stats();
        let heard: Vec<Heard> = self.bert.heard().split_off(first.saturating_sub(1));
        let mut left_out = 0;
        for pair in heard.windows(2) {
            let next = pair[0].sequence.wrapping_add(1);
            assert_eq!(pair[1].sequence, next, "{what}: a packet is missing");
            let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert_eq!(step % 960, 0, "{what}: packets are whole ticks apart");
            left_out += u64::from(step / 960 - 1);
        }
        let skipped = after.ticks_skipped - before.ticks_skipped;
        println!(
            "{what}: {} packets heard, {skipped} ticks skipped ({idler_skipped} by a thread that \
             does nothing), {} datagrams came, {} throttled, {} garbage, tick lateness p99 {:?}",
            heard.len(),
            after.datagrams_in - before.datagrams_in,
            after.throttled - before.throttled,
            after.garbage - before.garbage,
            after.tick_lateness.quantile(0.99),
        );
        // A machine that keeps even an idle thread waiting keeps the worker waiting too.
        assert!(skipped <= 2 * idler_skipped, "{what}: {skipped} ticks skipped");
        assert!(left_out <= skipped, "{what}: {left_out} ticks without a packet");
        assert_eq!(after.peers_failed, 0, "{what}");
        (result, after)
    }
}

/// A thread with the worker's schedule and priority and nothing to do: what it misses, the machine
/// is to blame for.
struct Idler {
    skipped: Arc<AtomicU64>,
    stop: crossbeam_channel::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Idler {
    fn start() -> Self {
        let skipped = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let counted = Arc::clone(&skipped);
        let thread = std::thread::spawn(move || {
            // Where the worker may be real-time, so may this: what it misses then is the machine's
            // doing alone.
            let _ = media_server::priority::enter_real_time();
            let mut due = Instant::now();
            loop {
                due += TICK;
                let wait = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(wait).is_err_and(|error| error.is_disconnected()) {
                    return;
                }
                let behind = (due.elapsed().as_millis() / TICK.as_millis()) as u64;
                if behind > 3 {
                    counted.fetch_add(behind - 3, Ordering::Relaxed);
                    due += TICK * u32::try_from(behind - 3).unwrap();
                }
            }
        });
        Self { skipped, stop, thread }
    }

    fn stop(self) -> u64 {
        drop(self.stop);
        self.thread.join().unwrap();
        self.skipped.load(Ordering::Relaxed)
    }
}

/// Sends `next()` at a steady pace for as long as trouble lasts; returns how many.
fn send_at(
    per_second: u32,
    mut next: impl FnMut() -> (usize, Vec<u8>),
    sockets: &[UdpSocket],
    to: SocketAddr,
) -> u64 {
    let start = Instant::now();
    let mut sent = 0u32;
    while start.elapsed() < TROUBLE {
        let due = (start.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
        while sent < due {
            let (socket, datagram) = next();
            // A full buffer loses what a network would.
            let _ = sockets[socket % sockets.len()].send_to(&datagram, to);
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    u64::from(sent)
}

/// Genuine packets of a caller's microphone, as they go over the wire.
fn record(caller: &Caller) -> Vec<Vec<u8>> {
    caller.order(|call| call.sent = Some(Vec::new()));
    std::thread::sleep(Duration::from_secs(1));
    let sent = caller.order(|call| call.sent.take().unwrap());
    sent.into_iter().filter(|datagram| (128..192).contains(&datagram[0])).collect()
}

#[test]
fn replayed_truncated_and_damaged_packets_from_a_peers_own_address() {
    let pair = Pair::new(PATIENCE);
    let (carl, _ends) = pair.house.call(3, tone(900.0, 60.0, 0.5));
    let genuine = record(&carl);
    assert!(genuine.len() > 20);
    let sockets = [carl.order(|call| call.socket())];
    let mut random = StdRng::seed_from_u64(3);
    let mut index = 0;
    let draw = move || {
        index += 1;
        let mut datagram = genuine[index % genuine.len()].clone();
        match index % 4 {
            // As it was.
            0 | 1 => {}
            2 => datagram.truncate(random.random_range(0..datagram.len())),
            _ => {
                let at = random.random_range(0..datagram.len());
                datagram[at] ^= 1 << random.random_range(0..8);
            }
        }
        (0, datagram)
    };
    let sent = |caller: &Caller| caller.order(|call| call.packets_sent());
    let ((), stats) = pair.endures("replays", || {
        send_at(300, draw, &sockets, pair.port());
    });
    let honest = sent(&pair.anna) + sent(&pair.bert) + sent(&carl);
    assert!(stats.packets_in <= honest, "{} packets of {honest} were taken", stats.packets_in);
    assert_eq!(stats.duplicates, 0, "replays end at SRTP");
    assert_eq!(stats.peers, 3, "the victim of the replays is still there");
}

#[test]
fn a_flood_from_a_peer_and_from_strangers() {
    let pair = Pair::new(PATIENCE);
    let (carl, mut ends) = pair.house.call(3, tone(900.0, 60.0, 0.5));
    let genuine = record(&carl);
    let strangers = |_| UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sockets: Vec<UdpSocket> = (0..9).map(strangers).collect();
    sockets.insert(0, carl.order(|call| call.socket()));
    let mut random = StdRng::seed_from_u64(4);
    // Well-formed headers, other streams now and then, and tags that fit nothing.
    let mut forge = move || {
        let mut datagram = genuine[random.random_range(0..genuine.len())].clone();
        datagram[2..4].copy_from_slice(&random.random::<[u8; 2]>());
        if random.random_range(0..4) == 0 {
            datagram[8..12].copy_from_slice(&random.random::<[u8; 4]>());
        }
        datagram
    };
    let (sent, stats) = pair
        .endures("a peer that floods", || send_at(10_000, || (0, forge()), &sockets, pair.port()));
    assert!(sent > 20_000, "{sent} sent");
    assert!(stats.throttled > sent / 2, "{} of {sent} throttled", stats.throttled);

    let mut at = 0;
    let (sent, stats) = pair.endures("strangers that flood", || {
        let next = || {
            at += 1;
            (1 + at % 9, forge())
        };
        send_at(10_000, next, &sockets, pair.port())
    });
    assert!(sent > 20_000 && stats.garbage > sent / 2, "{} of {sent} garbage", stats.garbage);
    until("the end of the punishment", || {
        use ringbuf::traits::Consumer as _;
        while ends.heard.try_pop().is_some() {}
        std::thread::sleep(Duration::from_millis(500));
        ends.heard.try_pop().is_some()
    });
}

#[test]
fn peers_that_read_nothing_and_that_vanish_are_freed_by_their_consent() {
    let timeout = Duration::from_secs(2);
    let pair = Pair::new(timeout);
    let (deaf, _deaf_ends) = pair.house.call(3, tone(900.0, 60.0, 0.5));
    let (gone, _gone_ends) = pair.house.call(4, Vec::new());
    pair.endures("a deaf and a vanished peer", || {
        let started = Instant::now();
        deaf.order(|call| call.is_deaf = true);
        drop(gone);
        for _ in 0..2 {
            let lost = pair.house.await_notice(|n| matches!(n, Notice::PeerClosed { .. }));
            let Notice::PeerClosed { peer, reason } = lost else { unreachable!() };
            assert!(peer == PeerId(3) || peer == PeerId(4), "{peer:?}");
            assert_eq!(reason, CloseReason::ConnectionLost);
            let after = started.elapsed();
            println!("{peer:?} was freed after {after:?}");
            assert!(after > timeout / 2 && after < 2 * timeout + Duration::from_secs(1));
        }
    });
    assert_eq!(pair.house.plane.stats().peers, 2);
}
