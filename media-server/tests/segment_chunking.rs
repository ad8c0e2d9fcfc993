//! How a stream is cut into frames says nothing about what was said: the segments are the same.
//! Real speech, the real detector.

mod spoken;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use inference::vad::Vad;
use media_server::segmenter::{Ear, Event, Segment, SegmenterConfig};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spoken::corpus::draw;
use spoken::noise::Pink;
use spoken::stream::Stream;

/// Gaps are made of whole frames of 10 ms.
const UNIT: usize = 160;
/// Two chunks of the detector, 64 ms.
const TWO_CHUNKS: u64 = 1_024;

static VAD: LazyLock<Vad> = LazyLock::new(spoken::vad);
/// Some 12 s of speech in a little noise, at a place on the timeline where a real stream may begin.
static SPEECH: LazyLock<Vec<f32>> =
    LazyLock::new(|| Stream::join(&draw("en", 4, 7), 7).with(&Pink(7), 30.0));
const BEGIN: u64 = 4_000_000_123;

#[derive(Clone, Debug)]
struct Framing {
    /// Frame lengths, taken in turn.
    lengths: Vec<usize>,
    /// How many samples of the frame before are sent again, taken in turn.
    overlaps: Vec<usize>,
}

fn framing() -> impl Strategy<Value = Framing> {
    let length = prop_oneof![Just(160usize), Just(320), Just(960), 1usize..2_000];
    let overlap = prop_oneof![4 => Just(0usize), 1 => 1usize..700];
    let lengths = prop::collection::vec(length, 1..12);
    let overlaps = prop::collection::vec(overlap, 1..12);
    (lengths, overlaps).prop_map(|(lengths, overlaps)| Framing { lengths, overlaps })
}

/// Stretches that never arrive, in units: of a frame, of a pause (DTX), and of longer than the
/// detector remembers.
fn gaps() -> impl Strategy<Value = Vec<(usize, usize)>> {
    let length = prop_oneof![1usize..4, 10usize..80, 95usize..250];
    prop::collection::vec((0usize..1_200, length), 0..6)
}

/// What arrives of the stream, as runs without gaps.
fn arriving(gaps: &[(usize, usize)]) -> Vec<Range<usize>> {
    let is_lost = |unit| gaps.iter().any(|&(first, count)| (first..first + count).contains(&unit));
    let mut runs: Vec<Range<usize>> = Vec::new();
    for unit in (0..SPEECH.len() / UNIT).filter(|unit| !is_lost(*unit)) {
        let place = unit * UNIT..(unit + 1) * UNIT;
        match runs.last_mut() {
            Some(run) if run.end == place.start => run.end = place.end,
            _ => runs.push(place),
        }
    }
    runs
}

fn events(runs: &[Range<usize>], framing: &Framing) -> Vec<Event> {
    let mut ear = Ear::new(&VAD, SegmenterConfig::default()).expect("the defaults are valid");
    let mut lengths = framing.lengths.iter().cycle();
    let mut overlaps = framing.overlaps.iter().cycle();
    let mut events = Vec::new();
    for run in runs {
        let mut at = run.start;
        while at < run.end {
            let (Some(length), Some(overlap)) = (lengths.next(), overlaps.next()) else { break };
            let end = (at + length).min(run.end);
            let begin = at.saturating_sub(*overlap).max(run.start);
            let frame = &SPEECH[begin..end];
            ear.hear(BEGIN + begin as u64, frame, |event| events.push(event));
            at = end;
        }
    }
    ear.finish(|event| events.push(event));
    events
}

fn segments(events: &[Event]) -> Vec<Arc<Segment>> {
    let ended = events.iter().filter_map(|event| match event {
        Event::Ended { segment, .. } => Some(Arc::clone(segment)),
        _ => None,
    });
    ended.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn frames_of_any_length_with_gaps_and_repeats_give_the_same_events(
        framing in framing(),
        gaps in gaps(),
    ) {
        let runs = arriving(&gaps);
        let usual = Framing { lengths: vec![320], overlaps: vec![0] };
        let heard = events(&runs, &framing);
        prop_assert_eq!(&heard, &events(&runs, &usual));

        let (mut is_open, mut is_paused) = (false, false);
        for event in &heard {
            match event {
                Event::Started { .. } => {
                    prop_assert!(!is_open);
                    is_open = true;
                }
                Event::SoftEnd { .. } => {
                    prop_assert!(is_open && !is_paused);
                    is_paused = true;
                }
                Event::Resumed { .. } => {
                    prop_assert!(is_open && is_paused);
                    is_paused = false;
                }
                Event::Ended { .. } | Event::Discarded { .. } => {
                    prop_assert!(is_open);
                    (is_open, is_paused) = (false, false);
                }
            }
        }
        prop_assert!(!is_open);

        for segment in segments(&heard) {
            let arrived = |at: u64| runs.iter().any(|run| run.contains(&((at - BEGIN) as usize)));
            for (n, &sample) in segment.samples_16k.iter().enumerate() {
                let at = segment.start + n as u64;
                let expected = if arrived(at) { SPEECH[(at - BEGIN) as usize] } else { 0.0 };
                prop_assert_eq!(sample, expected, "at {}", at - BEGIN);
            }
        }
    }
}

/// The detector hears in chunks, and how they fall depends on the first packet; a timestamp may be
/// rounded. Neither makes another number of segments nor moves a border by more than two chunks.
#[test]
fn alignment_and_rounded_timestamps_move_no_border_far() {
    let usual = Framing { lengths: vec![320], overlaps: vec![0] };
    let whole = 0..SPEECH.len();
    let expected = segments(&events(std::slice::from_ref(&whole), &usual));
    assert!(expected.len() >= 4, "only {} segments", expected.len());
    let assert_close = |heard: &[Arc<Segment>], how: &str| {
        assert_eq!(heard.len(), expected.len(), "{how}");
        for (one, other) in heard.iter().zip(&expected) {
            assert!(one.first_voiced.abs_diff(other.first_voiced) <= TWO_CHUNKS, "{how}");
            assert!(one.last_voiced.abs_diff(other.last_voiced) <= TWO_CHUNKS, "{how}");
        }
    };
    for shift in [1, 67, 160, 255, 320, 401] {
        let later = shift..SPEECH.len();
        let heard = segments(&events(std::slice::from_ref(&later), &usual));
        assert_close(&heard, &format!("begun {shift} samples later"));
    }
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut ear = Ear::new(&VAD, SegmenterConfig::default()).expect("the defaults are valid");
        let mut heard = Vec::new();
        for (n, frame) in SPEECH.chunks(320).enumerate() {
            let at = BEGIN + n as u64 * 320 + random.random_range(0..=2);
            ear.hear(at, frame, |event| heard.push(event));
        }
        ear.finish(|event| heard.push(event));
        assert_close(&segments(&heard), &format!("timestamps jittered by seed {seed}"));
    }
}
