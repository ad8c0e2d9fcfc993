//! Gaps of every kind, in numbers.

use proptest::prelude::*;

use super::*;

const MS: u64 = 48;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A timeline that has just heard a packet of 20 ms at time 0.
fn heard_one(start: Instant) -> Timeline {
    let mut timeline = Timeline::default();
    timeline.packet(start, 1_000_000, 960, 0, false);
    timeline
}

#[test]
fn packets_that_follow_each_other_need_nothing() {
    let start = Instant::now();
    let mut timeline = heard_one(start);
    let fill = timeline.packet(start + ms(20), 1_000_960, 960, 0, false);
    assert_eq!(fill, Fill { start: 1_000_960, packet_start: 1_000_960, ..Fill::default() });
}

#[test]
fn lost_packets_are_concealed_and_the_last_one_recovered() {
    let start = Instant::now();
    let fill = heard_one(start).packet(start + ms(60), 1_000_000 + 3 * 960, 960, 2, true);
    assert_eq!((fill.conceal, fill.silence, fill.recover), (960, 0, 960));
    let fill = heard_one(start).packet(start + ms(60), 1_000_000 + 3 * 960, 960, 2, false);
    assert_eq!((fill.conceal, fill.silence, fill.recover), (1_920, 0, 0));
}

#[test]
fn concealment_ends_after_100_ms_and_the_rest_is_silence() {
    let start = Instant::now();
    let fill = heard_one(start).packet(start + ms(400), 1_000_000 + 20 * 960, 960, 19, true);
    assert_eq!(fill.conceal + fill.recover, 100 * MS);
    assert_eq!(fill.silence, 280 * MS);
    assert_eq!(fill.packet_start, 1_000_000 + 20 * 960);
}

#[test]
fn a_jump_of_the_timestamp_alone_is_silence() {
    let start = Instant::now();
    let fill = heard_one(start).packet(start + ms(400), 1_000_000 + 20 * 960, 960, 0, true);
    assert_eq!((fill.conceal, fill.silence, fill.recover), (0, 380 * MS, 0));
}

#[test]
fn a_gap_too_long_to_fill_stays_a_gap() {
    let start = Instant::now();
    let fill =
        heard_one(start).packet(start + ms(20), 1_000_000 + 960 + 10 * 48_000, 960, 0, false);
    assert_eq!(fill.silence, MAX_SILENCE);
    assert_eq!(fill.packet_start, fill.start + 10 * 48_000);
}

#[test]
fn when_nothing_comes_silence_is_fed_at_the_pace_of_the_clock() {
    let start = Instant::now();
    let mut timeline = heard_one(start);
    assert_eq!(timeline.idle(start + ms(99)), None);
    assert_eq!(timeline.idle(start + ms(100)), Some((1_000_960, 40 * MS)));
    assert_eq!(timeline.idle(start + ms(110)), None);
    assert_eq!(timeline.idle(start + ms(120)), Some((1_000_960 + 40 * MS, 20 * MS)));
    let (_, rest) = timeline.idle(start + ms(60_000)).unwrap();
    assert_eq!(rest, MAX_SILENCE - 60 * MS);
    assert_eq!(timeline.idle(start + ms(120_000)), None);
}

#[test]
fn a_sender_that_resumes_after_fed_silence_continues_without_overlap() {
    let start = Instant::now();
    let mut timeline = heard_one(start);
    timeline.idle(start + ms(300)).unwrap();
    let fill = timeline.packet(start + ms(320), 1_000_000 + 320 * MS, 960, 0, false);
    assert_eq!(fill.start, 1_000_960 + 240 * MS);
    assert_eq!(fill.silence, 60 * MS);
    assert_eq!(fill.packet_start, 1_000_000 + 320 * MS);
    assert_eq!(timeline.debt(), 0);
}

#[test]
fn late_speech_is_kept_and_the_debt_is_paid_with_quiet_frames() {
    let start = Instant::now();
    let mut timeline = heard_one(start);
    timeline.idle(start + ms(200)).unwrap();
    let fill = timeline.packet(start + ms(210), 1_000_960, 960, 0, false);
    assert_eq!((fill.start, fill.packet_start), (1_000_960 + 140 * MS, 1_000_960 + 140 * MS));
    assert_eq!(timeline.debt(), 140 * MS);
    for quiet in 1..=7 {
        let fill = timeline.packet(start + ms(210), 1_000_960 + quiet * 960, 960, 0, false);
        assert_eq!(fill.packet_start, 1_000_960 + 960 + 140 * MS, "each takes the same place");
        assert!(timeline.pay_with_quiet(960));
    }
    assert_eq!(timeline.debt(), 0);
    assert!(!timeline.pay_with_quiet(960));
    let fill = timeline.packet(start + ms(380), 1_000_960 + 8 * 960, 960, 0, false);
    assert_eq!(fill.packet_start, 1_000_960 + 8 * 960, "on the sender's clock again");
}

#[test]
fn a_pause_in_the_timestamps_pays_the_debt_first() {
    let start = Instant::now();
    let mut timeline = heard_one(start);
    timeline.idle(start + ms(200)).unwrap();
    timeline.packet(start + ms(210), 1_000_960, 960, 0, false);
    let fill = timeline.packet(start + ms(500), 1_000_960 + 960 + 300 * MS, 960, 0, false);
    assert_eq!(fill.silence, 160 * MS);
    assert_eq!(fill.packet_start, 1_000_960 + 960 + 300 * MS);
    assert_eq!(timeline.debt(), 0);
}

#[test]
fn a_reset_clock_is_followed_upwards_with_the_low_bits_of_the_wire() {
    let start = Instant::now();
    let mut timeline = heard_one(start);
    let fill = timeline.packet(start + ms(20), 500, 960, 0, false);
    assert_eq!(fill.packet_start, 500 + (1 << 32));
    assert_eq!(fill.silence + fill.conceal + fill.recover, 0);
    let fill = timeline.packet(start + ms(40), 500 + 960, 960, 0, false);
    assert_eq!(fill.packet_start, 500 + 960 + (1 << 32));
}

proptest! {
    #[test]
    fn time_never_runs_backwards_and_no_sample_is_heard_twice(
        steps in prop::collection::vec(
            (0u64..400, 0u64..200_000, 0u64..5, any::<bool>(), any::<bool>()),
            1..100,
        ),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut timeline = Timeline::default();
        let mut heard_until = 0;
        for (wait, timestamp, lost, has_fec, quiet) in steps {
            now += ms(wait);
            if let Some((from, silence)) = timeline.idle(now) {
                prop_assert!(from >= heard_until);
                prop_assert_eq!(silence % 960, 0);
                heard_until = from + silence;
            }
            let fill = timeline.packet(now, 100_000 + timestamp, 960, lost, has_fec);
            prop_assert!(fill.start >= heard_until);
            let filled = fill.conceal + fill.silence + fill.recover;
            prop_assert!(fill.start + filled <= fill.packet_start);
            prop_assert!(fill.conceal <= MAX_CONCEALED && fill.silence <= MAX_SILENCE);
            heard_until = fill.packet_start + 960;
            if quiet && timeline.pay_with_quiet(960) {
                heard_until -= 960;
            }
        }
    }
}
