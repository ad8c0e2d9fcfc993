//! The reorder buffer under any sequence of packets and times: it comes out in order, holds only a
//! few, and forgets nothing that it kept.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use dragoman_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use media_server::media::reorder::{Fate, MAX_WAIT, Packet, Reorder};
use media_server::media::sequence::Extender;

/// A few packets, whatever comes.
const MOST_MEMORY: usize = 4 << 10;

#[derive(Arbitrary, Debug)]
struct Step {
    sequence: Sequence,
    wait_ms: u8,
}

#[derive(Arbitrary, Debug)]
enum Sequence {
    Next(i8),
    Any(u16),
}

fuzz_target!(|steps: Vec<Step>| {
    bounded(MOST_MEMORY, || run(&steps));
});

fn run(steps: &[Step]) {
    let mut reorder = Reorder::default();
    let mut extender = Extender::<16>::default();
    let (mut now, mut wire) = (Instant::now(), 0u16);
    let (mut kept, mut popped, mut last) = (0u64, 0u64, None::<u64>);
    for step in steps {
        now += Duration::from_millis(u64::from(step.wait_ms));
        wire = match step.sequence {
            Sequence::Next(skip) => wire.wrapping_add(1).wrapping_add_signed(i16::from(skip)),
            Sequence::Any(any) => any,
        };
        let sequence = extender.extend(u64::from(wire));
        assert_eq!(sequence & 0xffff, u64::from(wire), "the low bits stay those of the wire");
        let packet =
            Packet { sequence, timestamp: sequence * 960, arrived: now, payload: Bytes::new() };
        if reorder.push(packet) == Fate::Kept {
            kept += 1;
        }
        while let Some(due) = reorder.pop(now) {
            popped += 1;
            let this = due.packet.sequence;
            if let Some(last) = last {
                // A step of more than a hundred back is a new start (RFC 3550 appendix A.1).
                assert!(this > last || last - this >= 100, "{this} after {last}");
                if this > last {
                    assert!(due.lost < this - last, "more lost than there is room for");
                }
            }
            last = Some(this);
        }
        if let Some(give_up_at) = reorder.give_up_at() {
            assert!(reorder.is_waiting() && give_up_at <= now + MAX_WAIT && give_up_at > now);
        }
    }
    // Nothing waits for ever.
    while reorder.pop(now + MAX_WAIT).is_some() {
        popped += 1;
    }
    assert!(!reorder.is_waiting());
    assert!(popped <= kept);
}
