//! What holds for every stream of probabilities.

use proptest::prelude::*;

use super::*;

const CHUNK: u64 = CHUNK_SAMPLES as u64;
/// Chunks in a row that are certainly enough to open a segment.
const SURE_RUN: usize = 8;

fn probability() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0.0f32), Just(0.95), Just(0.42), 0.0f32..1.0]
}

/// Runs of one probability, so that speech and pauses of every length occur; sometimes a gap.
fn stream() -> impl Strategy<Value = Vec<(u64, f32)>> {
    let run = (probability(), 1usize..60, prop_oneof![9 => Just(0u64), 1 => 1u64..40_000]);
    prop::collection::vec(run, 1..40).prop_map(|runs| {
        let (mut at, mut chunks) = (1_000, Vec::new());
        for (probability, count, gap) in runs {
            at += gap;
            for _ in 0..count {
                chunks.push((at, probability));
                at += CHUNK;
            }
        }
        chunks
    })
}

/// Samples never reach 2^24, so an `f32` holds each position exactly.
fn events_of(config: SegmenterConfig, stream: &[(u64, f32)]) -> (Vec<Event>, usize) {
    let mut segmenter = Segmenter::new(config).unwrap();
    let (mut events, mut most) = (Vec::new(), 0);
    for &(at, probability) in stream {
        let samples: Vec<f32> = (at..at + CHUNK).map(|n| n as f32).collect();
        let chunk = Chunk { at, probability, samples_16k: &samples };
        segmenter.push(chunk, |event| events.push(event));
        most = most.max(segmenter.buffered_samples());
    }
    segmenter.finish(|event| events.push(event));
    (events, most)
}

/// Short limits, so that cuts and long hangovers occur often.
fn small() -> SegmenterConfig {
    SegmenterConfig {
        max_segment_ms: 3_000,
        cut_search_ms: 1_000,
        long_after_ms: 2_000,
        ..SegmenterConfig::default()
    }
}

proptest! {
    #[test]
    fn events_come_in_order(stream in stream()) {
        let (events, _) = events_of(small(), &stream);
        let mut soft: Option<Arc<Segment>> = None;
        let mut open = false;
        for event in events {
            match event {
                Event::Started { .. } => {
                    prop_assert!(!open);
                    open = true;
                }
                Event::SoftEnd { segment } => {
                    prop_assert!(open && soft.is_none());
                    soft = Some(segment);
                }
                Event::Resumed { .. } => {
                    prop_assert!(open && soft.take().is_some());
                }
                Event::Ended { segment, speculated } => {
                    prop_assert!(open);
                    prop_assert_eq!(speculated, soft.is_some());
                    if let Some(soft) = soft.take() {
                        prop_assert!(Arc::ptr_eq(&soft, &segment));
                    }
                    open = false;
                }
                Event::Discarded { .. } => {
                    prop_assert!(open && soft.is_none());
                    open = false;
                }
            }
        }
        prop_assert!(!open);
    }

    #[test]
    fn segments_are_bounded_ordered_and_true_to_the_stream(stream in stream()) {
        let config = small();
        let (events, most) = events_of(config.clone(), &stream);
        prop_assert!(most as u64 <= config.max_segment() + CHUNK);
        let mut end = 0;
        for event in &events {
            let Event::Ended { segment, .. } = event else { continue };
            prop_assert!(segment.start >= end, "segments overlap");
            end = segment.end();
            prop_assert!(segment.samples_16k.len() as u64 <= config.max_segment());
            prop_assert!(segment.start <= segment.first_voiced);
            prop_assert!(segment.first_voiced < segment.last_voiced);
            prop_assert!(segment.last_voiced <= end);
            for (n, &sample) in segment.samples_16k.iter().enumerate() {
                let position = segment.start + n as u64;
                prop_assert!(sample == position as f32 || sample == 0.0, "not its sample");
            }
        }
    }

    #[test]
    fn speech_that_is_long_enough_is_in_a_segment(stream in stream()) {
        let (events, _) = events_of(small(), &stream);
        let mut covered: Vec<(u64, u64)> = Vec::new();
        for event in &events {
            match event {
                Event::Ended { segment, .. } => covered.push((segment.start, segment.end())),
                Event::Discarded { start, end } => covered.push((*start, *end)),
                _ => {}
            }
        }
        let mut run: Vec<u64> = Vec::new();
        let runs_end = [(u64::MAX, 0.0)];
        for &(at, probability) in stream.iter().chain(&runs_end) {
            let goes_on = run.last().is_none_or(|&last| last + CHUNK == at);
            if probability >= 0.9 && goes_on {
                run.push(at);
                continue;
            }
            if run.len() >= SURE_RUN {
                for &chunk in &run {
                    let inside = |position: u64| {
                        covered.iter().any(|&(start, end)| (start..end).contains(&position))
                    };
                    prop_assert!(inside(chunk) && inside(chunk + CHUNK - 1), "lost {}", chunk);
                }
            }
            run.clear();
            if probability >= 0.9 {
                run.push(at);
            }
        }
    }

    #[test]
    fn wild_input_never_panics(
        chunks in prop::collection::vec((any::<u64>(), any::<f32>(), 0usize..2_000), 0..60),
    ) {
        let mut segmenter = Segmenter::new(small()).unwrap();
        for (at, probability, length) in chunks {
            let samples = vec![f32::NAN; length];
            let chunk = Chunk { at: at / 2, probability, samples_16k: &samples };
            segmenter.push(chunk, |_| {});
        }
        segmenter.finish(|_| {});
    }
}
