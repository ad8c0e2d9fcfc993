//! Joining and leaving again and again leaves nothing behind: no memory, no thread, no descriptor.
//! Alone in its file, because it looks at its whole process.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "the numbers are part of the result")]

mod caller;

use std::time::{Duration, Instant};

use caller::Style;
use caller::house::{House, until};
use media_server::media::{CloseReason, Notice, PeerId};

/// Joins until everything that is made once has been made.
const WARM_UP: u64 = 100;
/// Most that may be added after those, KiB.
const MAX_GROWTH_KIB: u64 = 5 * 1024;

#[derive(Debug)]
struct Footprint {
    resident_kib: u64,
    threads: u64,
    descriptors: usize,
}

impl Footprint {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            resident_kib: field("VmRSS:"),
            threads: field("Threads:"),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }
}

/// One caller comes and goes: ended by the house, by its own goodbye, or without a word.
fn join_and_leave(house: &House, peer: u64) {
    let style = Style {
        has_two_sections: peer.is_multiple_of(2),
        check_interval: Duration::from_millis(20),
        ..Style::default()
    };
    let (caller, _ends) = house.call_in(style, peer, Vec::new());
    let expected = match peer % 50 {
        0 => {
            drop(caller);
            CloseReason::ConnectionLost
        }
        odd if odd % 2 == 1 => {
            house.plane.disconnect(PeerId(peer));
            CloseReason::Requested
        }
        _ => {
            caller.order(|call| call.hang_up());
            CloseReason::RemoteClosed
        }
    };
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(
        matches!(closed, Notice::PeerClosed { reason, .. } if reason == expected),
        "{closed:?}"
    );
}

#[test]
fn joining_and_leaving_again_and_again_leaves_nothing_behind() {
    let joins = std::env::var("JOINS").map_or(150, |joins| joins.parse().unwrap());
    assert!(joins > WARM_UP, "JOINS is how many, and more than {WARM_UP}");
    let house = House::new(Duration::from_secs(1));
    let started = Instant::now();
    let mut after_warm_up = None;
    for peer in 1..=joins {
        join_and_leave(&house, peer);
        if peer == WARM_UP {
            after_warm_up = Some(Footprint::now());
        }
        if peer % 50 == 0 {
            println!("{peer} joins after {:?}: {:?}", started.elapsed(), Footprint::now());
        }
    }
    let before = after_warm_up.unwrap();
    until("the last thread's end", || Footprint::now().threads <= before.threads);
    let after = Footprint::now();
    let stats = house.plane.stats();
    println!(
        "connected within {:?} at the median, {:?} at the 99th percentile",
        stats.connect_time.quantile(0.5),
        stats.connect_time.quantile(0.99)
    );
    assert_eq!((stats.peers, stats.peers_failed), (0, 0));
    assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
    let growth = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(growth <= MAX_GROWTH_KIB, "{growth} KiB more than after {WARM_UP} joins");
}
