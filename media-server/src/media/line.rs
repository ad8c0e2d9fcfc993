//! The RTP stream that one listener receives on one track: sequence numbers and timestamps that go
//! on whatever is sent on it.
//!
//! What is *made* here, a packet every 20 ms, is stamped with the tick's number, so that the
//! timestamp advances with real time even when ticks were left out (RFC 3550 section 5.1). What
//! *came* from a source and is passed on keeps its distances: the first packet goes where the line
//! is, and all that follow are moved by as much, so that what was lost stays lost, late stays late
//! and the source's clock is the one that the listener follows.
//!
//! A source whose packets come faster than our ticks runs *ahead* of them. The line remembers by how
//! much, so that what is made afterwards goes on from there. All that is ahead waits in the
//! listener's jitter buffer, so silence is left out until it is little.

use super::PeerId;
use super::arrivals::Arrival;
use super::frames::PLAYOUT_SAMPLES;
use crate::transport::RtpOut;

/// A jump beyond these is a source that starts anew, not loss or reordering (RFC 3550 appendix A.1).
const MAX_DROPOUT: i16 = 3_000;
const MAX_MISORDER: i16 = 100;
/// Samples that a line may be ahead before silence is left out: 40 ms.
const FAR_AHEAD: i32 = 1_920;
/// Timestamps that jump by more are a new start too: 10 s.
const MAX_PAUSE: i32 = 480_000;

/// Where packets of a source are moved to.
#[derive(Clone, Copy, Debug)]
struct Shift {
    source: PeerId,
    sequence: u16,
    timestamp: u32,
    /// The first sequence number on the line; what belongs before it is left out.
    first: u16,
}

/// One listener's stream.
#[derive(Debug)]
pub struct Line {
    /// Next sequence number.
    next: u16,
    /// RTP timestamp of tick 0.
    base: u32,
    /// How far the line is ahead of the ticks, in samples.
    ahead: i32,
    /// RTP timestamp of the end of what was sent.
    end: Option<u32>,
    last_tick: Option<u64>,
    /// Of the source that is passed on at the moment.
    shift: Option<Shift>,
}

impl Default for Line {
    /// Sequence numbers and timestamps start anywhere (RFC 3550 section 5.1).
    fn default() -> Self {
        let (next, base) = (rand::random(), rand::random());
        Self { next, base, ahead: 0, end: None, last_tick: None, shift: None }
    }
}

impl Line {
    /// Addresses the packet of 20 ms that was made for tick number `tick`; `is_first` when a talk
    /// spurt begins with it.
    pub fn made<'a>(&mut self, tick: u64, is_first: bool, payload: &'a [u8]) -> RtpOut<'a> {
        let follows_a_gap = self.last_tick.is_none_or(|last| tick != last + 1);
        let follows_a_source = self.shift.take().is_some();
        let timestamp = self.place(tick);
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        self.end = Some(timestamp.wrapping_add(PLAYOUT_SAMPLES as u32));
        self.last_tick = Some(tick);
        RtpOut {
            sequence,
            timestamp,
            marker: follows_a_gap || follows_a_source || is_first,
            payload,
        }
    }

    /// Addresses a packet that came from `source` and is passed on at tick number `tick`, one that
    /// `is_silence` or may be more. `None` when it is not to be sent: its place has passed because
    /// something else was sent there, or it is silence that nobody misses.
    pub fn came<'a>(
        &mut self,
        tick: u64,
        source: PeerId,
        packet: Arrival<'a>,
        is_silence: bool,
    ) -> Option<RtpOut<'a>> {
        let known = self.shift.filter(|shift| shift.source == source && self.fits(shift, &packet));
        let shift = known.unwrap_or_else(|| Shift {
            source,
            sequence: self.next.wrapping_sub(packet.sequence),
            timestamp: self.place(tick).wrapping_sub(packet.timestamp),
            first: self.next,
        });
        self.shift = Some(shift);
        let sequence = packet.sequence.wrapping_add(shift.sequence);
        let timestamp = packet.timestamp.wrapping_add(shift.timestamp);
        if signed(sequence, shift.first) < 0 {
            return None;
        }
        if is_silence && sequence == self.next && self.ahead >= FAR_AHEAD {
            self.ahead -= packet.samples.cast_signed();
            self.shift = Some(Shift {
                sequence: shift.sequence.wrapping_sub(1),
                timestamp: shift.timestamp.wrapping_sub(packet.samples),
                ..shift
            });
            return None;
        }
        let before = self.end;
        let is_newest = signed(sequence, self.next) >= 0;
        let is_next = sequence == self.next;
        if is_newest {
            self.next = sequence.wrapping_add(1);
            self.end = Some(timestamp.wrapping_add(packet.samples));
        }
        // The fastest packets tell how the two clocks stand to each other; old ones fade away.
        let ahead = difference(timestamp, self.of_tick(tick));
        self.ahead = (self.ahead - 1).max(ahead);
        self.last_tick = Some(tick);
        let follows_a_pause =
            is_next && before.is_some_and(|before| difference(timestamp, before) > 0);
        Some(RtpOut {
            sequence,
            timestamp,
            marker: known.is_none() || follows_a_pause,
            payload: packet.payload,
        })
    }

    /// Whether a packet continues what was passed on.
    fn fits(&self, shift: &Shift, packet: &Arrival<'_>) -> bool {
        let sequence = packet.sequence.wrapping_add(shift.sequence);
        let timestamp = packet.timestamp.wrapping_add(shift.timestamp);
        let pause = self.end.map_or(0, |end| difference(timestamp, end));
        (-MAX_MISORDER..=MAX_DROPOUT).contains(&signed(sequence, self.next))
            && (-MAX_PAUSE..=MAX_PAUSE).contains(&pause)
    }

    /// Where on the line something of this tick goes: never before the end of what was sent.
    fn place(&mut self, tick: u64) -> u32 {
        let place = self.of_tick(tick).wrapping_add_signed(self.ahead);
        let overlap = self.end.map_or(0, |end| difference(end, place)).max(0);
        self.ahead += overlap;
        place.wrapping_add_signed(overlap)
    }

    #[expect(clippy::cast_possible_truncation, reason = "RTP timestamps wrap")]
    fn of_tick(&self, tick: u64) -> u32 {
        self.base.wrapping_add(tick.wrapping_mul(PLAYOUT_SAMPLES as u64) as u32)
    }
}

/// How far sequence number `a` is after `b`.
fn signed(a: u16, b: u16) -> i16 {
    a.wrapping_sub(b).cast_signed()
}

/// How far timestamp `a` is after `b`.
fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANNA: PeerId = PeerId(1);
    const BERT: PeerId = PeerId(2);

    fn packet(sequence: u16, timestamp: u32) -> Arrival<'static> {
        Arrival { sequence, timestamp, samples: 960, payload: b"opus" }
    }

    fn numbers(packet: RtpOut<'_>) -> (u16, u32, bool) {
        (packet.sequence, packet.timestamp, packet.marker)
    }

    #[test]
    fn what_is_made_and_what_came_follow_each_other_without_a_seam() {
        let mut line = Line::default();
        let (sequence, timestamp, marker) = numbers(line.made(5, false, b""));
        assert!(marker);
        let at = |n: u16, marker| {
            (sequence.wrapping_add(n), timestamp.wrapping_add(u32::from(n) * 960), marker)
        };
        assert_eq!(numbers(line.made(6, false, b"")), at(1, false));
        assert_eq!(numbers(line.came(7, ANNA, packet(65_535, 77), false).unwrap()), at(2, true));
        assert_eq!(numbers(line.came(8, ANNA, packet(0, 77 + 960), false).unwrap()), at(3, false));
        assert_eq!(numbers(line.came(9, BERT, packet(500, 3), false).unwrap()), at(4, true));
        assert_eq!(numbers(line.made(10, false, b"")), at(5, true));
        assert_eq!(numbers(line.made(11, false, b"")), at(6, false));
    }

    #[test]
    fn what_was_lost_stays_lost_and_a_pause_of_the_sender_is_a_gap_in_time_alone() {
        let mut line = Line::default();
        let (sequence, timestamp, _) = numbers(line.came(0, ANNA, packet(10, 0), false).unwrap());
        let lost = numbers(line.came(3, ANNA, packet(13, 3 * 960), false).unwrap());
        assert_eq!(lost, (sequence.wrapping_add(3), timestamp.wrapping_add(3 * 960), false));
        let late = numbers(line.came(3, ANNA, packet(12, 2 * 960), false).unwrap());
        assert_eq!(late, (sequence.wrapping_add(2), timestamp.wrapping_add(2 * 960), false));
        let paused = numbers(line.came(24, ANNA, packet(14, 24 * 960), false).unwrap());
        assert_eq!(paused, (sequence.wrapping_add(4), timestamp.wrapping_add(24 * 960), true));
        assert!(line.came(25, ANNA, packet(9, 0), false).is_none(), "it belongs before the first");
    }

    #[test]
    fn a_source_that_starts_anew_is_followed_where_the_line_is() {
        let mut line = Line::default();
        let (sequence, timestamp, _) = numbers(line.came(0, ANNA, packet(10, 0), false).unwrap());
        let restarted = numbers(line.came(1, ANNA, packet(40_000, 9_999_999), false).unwrap());
        assert_eq!(restarted, (sequence.wrapping_add(1), timestamp.wrapping_add(960), true));
    }

    #[test]
    fn of_what_came_too_early_silence_is_left_out_and_sound_is_not() {
        let mut line = Line::default();
        let (sequence, timestamp, _) = numbers(line.made(0, false, b""));
        for early in 0..4u16 {
            let packet = packet(early, u32::from(early) * 960);
            assert!(line.came(1, ANNA, packet, false).is_some());
        }
        let mut sent = Vec::new();
        for index in 4..10u16 {
            let packet = packet(index, u32::from(index) * 960);
            sent.extend(line.came(u64::from(index) - 2, ANNA, packet, true).map(numbers));
        }
        let at =
            |n: u16| (sequence.wrapping_add(n), timestamp.wrapping_add(u32::from(n) * 960), false);
        assert_eq!(sent, [at(5), at(6), at(7), at(8)]);
    }

    proptest! {
        #[test]
        fn whatever_is_switched_sequences_have_no_hole_and_time_never_goes_back(
            steps in prop::collection::vec((0u8..3, 0u64..4, 0usize..4, any::<bool>()), 1..300),
            drift in 940u32..980,
        ) {
            let mut line = Line::default();
            let mut sources = [(7u16, 1_000_000u32), (65_000, u32::MAX - 5_000)];
            let mut tick = 0;
            let mut last: Option<(u16, u32)> = None;
            let mut check = |packet: RtpOut<'_>| {
                if let Some((sequence, timestamp)) = last {
                    assert_eq!(packet.sequence, sequence.wrapping_add(1));
                    assert!(difference(packet.timestamp, timestamp) >= 940);
                }
                last = Some((packet.sequence, packet.timestamp));
            };
            for (kind, wait, burst, is_silence) in steps {
                tick += 1 + wait;
                if kind == 2 {
                    check(line.made(tick, false, b""));
                    continue;
                }
                let source = usize::from(kind);
                for _ in 0..burst {
                    let (sequence, timestamp) = &mut sources[source];
                    let packet = Arrival { samples: drift, ..packet(*sequence, *timestamp) };
                    let sent = line.came(tick, PeerId(source as u64), packet, is_silence);
                    prop_assert!(sent.is_some() || is_silence);
                    sent.into_iter().for_each(&mut check);
                    *sequence = sequence.wrapping_add(1);
                    *timestamp = timestamp.wrapping_add(drift);
                }
            }
        }
    }
}
