//! Puts a peer's packets back in order, and waits for a missing one only briefly.
//!
//! Packets in order pass at once, without delay. This is all the buffering that the recogniser's
//! path has; the mixed original has a jitter buffer of its own ([`super::jitter`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Packets behind a gap that make the missing one count as lost.
const DEPTH: usize = 4;
/// Longest wait for a missing packet.
pub const MAX_WAIT: Duration = Duration::from_millis(60);
/// A jump ahead of this many packets is a new start, not a loss (RFC 3550 appendix A.1).
const MAX_DROPOUT: u64 = 3_000;
/// A packet this far behind is a late one; farther behind, two in a row are a new start.
const MAX_MISORDER: u64 = 100;

/// A packet with extended counters.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Extended sequence number.
    pub sequence: u64,
    /// Extended RTP timestamp, 48 kHz ticks.
    pub timestamp: u64,
    /// When it arrived.
    pub arrived: Instant,
    /// The Opus packet.
    pub payload: Bytes,
}

/// What became of a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It will come out.
    Kept,
    /// It was given up as lost already, or its place is long past.
    Late,
    /// It came before.
    Duplicate,
}

/// A packet that is due, and how many before it never came.
#[derive(Clone, Debug)]
pub struct Due {
    /// The packet.
    pub packet: Packet,
    /// Missing packets just before it.
    pub lost: u64,
}

/// The reorder buffer of one stream.
#[derive(Debug, Default)]
pub struct Reorder {
    /// Sequence number that is due next.
    next: Option<u64>,
    /// Sorted by sequence number.
    waiting: VecDeque<Packet>,
    /// Which of the packets before `next` came, the last one in the lowest bit.
    came: u128,
    /// What would follow the last packet that was far behind.
    restart_at: Option<u64>,
}

impl Reorder {
    /// Takes a packet that arrived.
    pub fn push(&mut self, packet: Packet) -> Fate {
        let next = *self.next.get_or_insert(packet.sequence);
        let is_restart = if packet.sequence >= next {
            packet.sequence - next > MAX_DROPOUT
        } else if next - packet.sequence > MAX_MISORDER {
            self.restart_at.replace(packet.sequence + 1) == Some(packet.sequence)
        } else {
            false
        };
        if is_restart {
            self.waiting.clear();
            self.next = Some(packet.sequence);
            self.came = 0;
            self.restart_at = None;
        } else if packet.sequence < next {
            return self.too_late(next - packet.sequence - 1);
        }
        match self.waiting.binary_search_by_key(&packet.sequence, |other| other.sequence) {
            Ok(_) => Fate::Duplicate,
            Err(place) => {
                self.waiting.insert(place, packet);
                Fate::Kept
            }
        }
    }

    /// Whether a packet with this number did not come before and was not given up.
    #[must_use]
    pub fn is_new(&self, sequence: u64) -> bool {
        self.next.is_none_or(|next| sequence >= next)
            && self.waiting.binary_search_by_key(&sequence, |other| other.sequence).is_err()
    }

    /// A packet came `behind` places before the one that was due last.
    fn too_late(&mut self, behind: u64) -> Fate {
        let Some(bit) = u32::try_from(behind).ok().and_then(|bits| 1_u128.checked_shl(bits)) else {
            return Fate::Late;
        };
        let came_before = self.came & bit != 0;
        self.came |= bit;
        if came_before { Fate::Duplicate } else { Fate::Late }
    }

    /// The next packet that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Due> {
        let next = self.next?;
        let first = self.waiting.front()?.sequence;
        let lost = first - next;
        if lost > 0 && self.waiting.len() < DEPTH && self.give_up_at()? > now {
            return None;
        }
        let packet = self.waiting.pop_front()?;
        self.next = Some(packet.sequence + 1);
        let passed = u32::try_from(lost + 1).unwrap_or(u32::MAX);
        self.came = self.came.checked_shl(passed).unwrap_or(0) | 1;
        Some(Due { packet, lost })
    }

    /// When the wait for a missing packet ends; `None` when nothing waits.
    #[must_use]
    pub fn give_up_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|packet| packet.arrived).min().map(|since| since + MAX_WAIT)
    }

    /// Whether packets wait for a missing one.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn packet(sequence: u64, arrived: Instant) -> Packet {
        Packet { sequence, timestamp: sequence * 960, arrived, payload: Bytes::new() }
    }

    fn pop_all(reorder: &mut Reorder, now: Instant) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| reorder.pop(now)).map(|due| (due.packet.sequence, due.lost)).collect()
    }

    #[test]
    fn packets_in_order_pass_at_once() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        for sequence in 7..10 {
            assert_eq!(reorder.push(packet(sequence, now)), Fate::Kept);
            assert_eq!(pop_all(&mut reorder, now), [(sequence, 0)]);
        }
        assert!(!reorder.is_waiting());
    }

    #[test]
    fn swapped_packets_come_out_in_order_without_loss() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(packet(1, now));
        reorder.push(packet(3, now));
        assert_eq!(pop_all(&mut reorder, now), [(1, 0)]);
        reorder.push(packet(2, now));
        assert_eq!(pop_all(&mut reorder, now), [(2, 0), (3, 0)]);
    }

    #[test]
    fn a_missing_packet_is_given_up_after_four_others_or_60_ms() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(packet(1, start));
        for sequence in 3..6 {
            reorder.push(packet(sequence, start));
        }
        assert_eq!(pop_all(&mut reorder, start), [(1, 0)]);
        assert_eq!(reorder.give_up_at(), Some(start + MAX_WAIT));
        reorder.push(packet(6, start));
        assert_eq!(pop_all(&mut reorder, start), [(3, 1), (4, 0), (5, 0), (6, 0)]);
        reorder.push(packet(9, start));
        assert_eq!(pop_all(&mut reorder, start + MAX_WAIT - Duration::from_millis(1)), []);
        assert_eq!(pop_all(&mut reorder, start + MAX_WAIT), [(9, 2)]);
    }

    #[test]
    fn late_and_duplicate_packets_are_told_apart_and_dropped() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(packet(200, now));
        pop_all(&mut reorder, now);
        assert!(reorder.is_new(202) && !reorder.is_new(200));
        reorder.push(packet(202, now));
        assert!(reorder.is_new(201) && !reorder.is_new(202));
        assert_eq!(reorder.push(packet(202, now)), Fate::Duplicate, "it waits");
        assert_eq!(reorder.push(packet(200, now)), Fate::Duplicate, "it has come out");
        pop_all(&mut reorder, now + MAX_WAIT);
        assert_eq!(reorder.push(packet(201, now)), Fate::Late, "it was given up");
        assert_eq!(reorder.push(packet(201, now)), Fate::Duplicate);
        assert_eq!(reorder.push(packet(150, now)), Fate::Late);
    }

    #[test]
    fn a_sender_that_starts_again_is_followed() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(packet(70_000, now));
        pop_all(&mut reorder, now);
        reorder.push(packet(80_000, now));
        assert_eq!(pop_all(&mut reorder, now), [(80_000, 0)]);
        assert_eq!(reorder.push(packet(50_000, now)), Fate::Late);
        assert_eq!(reorder.push(packet(50_001, now)), Fate::Kept);
        assert_eq!(pop_all(&mut reorder, now), [(50_001, 0)]);
    }

    proptest! {
        #[test]
        fn output_is_ascending_and_lost_counts_add_up(
            order in prop::collection::vec(1_000u64..1_080, 1..200),
        ) {
            let start = Instant::now();
            let mut reorder = Reorder::default();
            let mut out = Vec::new();
            let mut kept = BTreeSet::new();
            for (step, sequence) in (0u64..).zip(order) {
                let now = start + Duration::from_millis(step * 5);
                if reorder.push(packet(sequence, now)) == Fate::Kept {
                    prop_assert!(kept.insert(sequence), "kept twice: {}", sequence);
                }
                while let Some(due) = reorder.pop(now) {
                    out.push((due.packet.sequence, due.lost));
                }
            }
            out.extend(pop_all(&mut reorder, start + Duration::from_secs(60)));
            prop_assert!(out.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1 + pair[1].1));
            prop_assert_eq!(out.len(), kept.len());
        }
    }
}
