//! The segmenter's behaviour in numbers. A script is a list of (chunks, probability).

use super::*;

const CHUNK: u64 = CHUNK_SAMPLES as u64;

/// Samples that tell their position, so that a lost or doubled one shows.
fn ramp(at: u64) -> Vec<f32> {
    (at..at + CHUNK).map(|n| n as f32).collect()
}

fn segmenter() -> Segmenter {
    Segmenter::new(SegmenterConfig::default()).unwrap()
}

fn play(segmenter: &mut Segmenter, at: &mut u64, script: &[(u64, f32)]) -> Vec<Event> {
    let mut events = Vec::new();
    for &(chunks, probability) in script {
        for _ in 0..chunks {
            let samples = ramp(*at);
            let chunk = Chunk { at: *at, probability, samples_16k: &samples };
            segmenter.push(chunk, |event| events.push(event));
            *at += CHUNK;
        }
    }
    events
}

fn run(script: &[(u64, f32)]) -> Vec<Event> {
    play(&mut segmenter(), &mut 0, script)
}

fn names(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::Started { .. } => "started",
        Event::SoftEnd { .. } => "soft end",
        Event::Resumed { .. } => "resumed",
        Event::Ended { .. } => "ended",
        Event::Discarded { .. } => "discarded",
    };
    events.iter().map(name).collect()
}

fn ended(events: &[Event]) -> Vec<Arc<Segment>> {
    let segment = |event: &Event| match event {
        Event::Ended { segment, .. } => Some(Arc::clone(segment)),
        _ => None,
    };
    events.iter().filter_map(segment).collect()
}

fn assert_contiguous(segment: &Segment) {
    for (n, &sample) in segment.samples_16k.iter().enumerate() {
        assert_eq!(sample, (segment.start + n as u64) as f32);
    }
}

#[test]
fn a_sentence_starts_pauses_and_ends_with_the_samples_of_the_pause() {
    let events = run(&[(30, 0.01), (40, 0.95), (30, 0.01)]);
    assert_eq!(names(&events), ["started", "soft end", "ended"]);
    assert_eq!(events[0], Event::Started { at: 30 * CHUNK });
    let (Event::SoftEnd { segment: soft }, Event::Ended { segment, speculated: true }) =
        (&events[1], &events[2])
    else {
        panic!("{events:?}");
    };
    assert!(Arc::ptr_eq(soft, segment));
    assert_eq!(segment.first_voiced, 30 * CHUNK);
    assert_eq!(segment.last_voiced, 70 * CHUNK);
    assert_eq!(segment.start, 30 * CHUNK - 300 * 16);
    assert_eq!(segment.end(), 76 * CHUNK);
    assert!(!segment.forced);
    assert_contiguous(segment);
}

#[test]
fn a_segment_opens_with_the_eighth_voiced_chunk() {
    assert_eq!(names(&run(&[(20, 0.0), (7, 0.95)])), [""; 0]);
    assert_eq!(names(&run(&[(20, 0.0), (8, 0.95)])), ["started"]);
}

#[test]
fn the_soft_end_comes_after_six_silent_chunks_and_the_end_after_sixteen() {
    let mut segmenter = segmenter();
    let mut at = 0;
    play(&mut segmenter, &mut at, &[(20, 0.9)]);
    assert_eq!(names(&play(&mut segmenter, &mut at, &[(5, 0.0)])), [""; 0]);
    assert_eq!(names(&play(&mut segmenter, &mut at, &[(1, 0.0)])), ["soft end"]);
    assert_eq!(names(&play(&mut segmenter, &mut at, &[(9, 0.0)])), [""; 0]);
    assert_eq!(names(&play(&mut segmenter, &mut at, &[(1, 0.0)])), ["ended"]);
}

#[test]
fn speech_after_a_soft_end_resumes_the_segment() {
    let events = run(&[(20, 0.9), (10, 0.0), (10, 0.9), (20, 0.0)]);
    assert_eq!(names(&events), ["started", "soft end", "resumed", "soft end", "ended"]);
    assert_eq!(events[2], Event::Resumed { at: 30 * CHUNK });
    let segments = ended(&events);
    assert_eq!((segments[0].start, segments[0].last_voiced), (0, 40 * CHUNK));
    assert_contiguous(&segments[0]);
}

#[test]
fn the_lower_threshold_keeps_speech_going_but_does_not_resume_it() {
    let held = run(&[(10, 0.9), (20, 0.4), (20, 0.0)]);
    assert_eq!(ended(&held)[0].last_voiced, 30 * CHUNK);
    let paused = run(&[(10, 0.9), (7, 0.0), (20, 0.4)]);
    assert_eq!(names(&paused), ["started", "soft end", "ended"]);
    assert_eq!(names(&run(&[(60, 0.4)])), [""; 0]);
}

#[test]
fn blips_and_half_hearted_chunks_open_nothing() {
    let blips: Vec<(u64, f32)> = (0..50).flat_map(|_| [(3, 0.95), (4, 0.01)]).collect();
    assert_eq!(names(&run(&blips)), [""; 0]);
    assert_eq!(names(&run(&[(100, 0.89)])), [""; 0]);
    assert_eq!(names(&run(&[(5, 0.6), (3, 0.95), (5, 0.6), (20, 0.0)])), [""; 0]);
    assert_eq!(names(&run(&[(5, 0.6), (4, 0.95), (5, 0.6), (3, 0.0)])), ["started"]);
}

#[test]
fn speech_that_was_doubtful_for_long_is_kept_from_its_beginning() {
    let doubtful = run(&[(30, 0.0), (4, 0.6), (2, 0.2), (18, 0.6), (4, 0.95), (20, 0.0)]);
    assert_eq!(doubtful[0], Event::Started { at: 30 * CHUNK });
    assert_eq!(ended(&doubtful)[0].start, 30 * CHUNK - 300 * 16);
    let apart = run(&[(30, 0.0), (4, 0.6), (4, 0.2), (18, 0.6), (4, 0.95), (20, 0.0)]);
    assert_eq!(apart[0], Event::Started { at: 38 * CHUNK });
}

#[test]
fn the_pre_roll_does_not_reach_into_the_segment_before() {
    let events = run(&[(20, 0.9), (17, 0.0), (20, 0.9), (20, 0.0)]);
    let segments = ended(&events);
    assert_eq!(segments.len(), 2);
    assert!(segments[1].start >= segments[0].end());
    assert_eq!(segments[1].start, 37 * CHUNK - 300 * 16);
}

#[test]
fn a_long_speech_is_cut_at_its_quietest_place_and_goes_on() {
    let mut segmenter = segmenter();
    let mut events = Vec::new();
    // Chunk 340 (10.9 s) is a short dip in continuous speech.
    for n in 0..500u64 {
        let level = if (340..342).contains(&n) { 0.01 } else { 0.3 };
        let at = n * CHUNK;
        let samples: Vec<f32> =
            (0..CHUNK).map(|k| if k % 2 == 0 { level } else { -level }).collect();
        let chunk = Chunk { at, probability: 0.99, samples_16k: &samples };
        segmenter.push(chunk, |event| events.push(event));
    }
    segmenter.finish(|event| events.push(event));
    assert_eq!(names(&events), ["started", "ended", "started", "ended"]);
    let segments = ended(&events);
    assert!(segments[0].forced && !segments[1].forced);
    assert_eq!(segments[0].end(), 341 * CHUNK);
    assert_eq!(segments[1].start, 341 * CHUNK);
    assert_eq!(segments[1].end(), 500 * CHUNK);
}

#[test]
fn what_a_cut_leaves_of_the_last_word_is_no_segment() {
    let mut segmenter = segmenter();
    let mut events = Vec::new();
    for n in 0..400u64 {
        let (probability, level) = match n {
            0..372 => (0.99, 0.3),
            372..376 => (0.6, 0.001),
            _ => (0.0, 0.0),
        };
        let samples = [level; CHUNK_SAMPLES];
        let chunk = Chunk { at: n * CHUNK, probability, samples_16k: &samples };
        segmenter.push(chunk, |event| events.push(event));
    }
    assert_eq!(names(&events), ["started", "ended", "started", "discarded"]);
    assert_eq!(ended(&events)[0].end(), 375 * CHUNK);
}

#[test]
fn a_long_speech_ends_at_a_breath() {
    let events = run(&[(260, 0.9), (10, 0.0), (20, 0.9)]);
    assert_eq!(names(&events), ["started", "soft end", "ended", "started"]);
    assert!(!ended(&events)[0].forced);
}

#[test]
fn a_gap_is_silence() {
    let mut segmenter = segmenter();
    let mut at = 0;
    let mut events = play(&mut segmenter, &mut at, &[(20, 0.9)]);
    let mut push = |at: u64| {
        let mut events = Vec::new();
        let samples = ramp(at);
        let chunk = Chunk { at, probability: 0.9, samples_16k: &samples };
        segmenter.push(chunk, |event| events.push(event));
        events
    };
    events.extend(push(20 * CHUNK + 4_000));
    assert_eq!(names(&events), ["started", "soft end", "resumed"]);
    let late = push(2_000_000);
    assert_eq!(names(&late), ["soft end", "ended"]);
    let segment = &ended(&late)[0];
    assert_eq!(segment.last_voiced, 21 * CHUNK + 4_000);
    let gap = &segment.samples_16k[20 * CHUNK as usize..][..4_000];
    assert!(gap.iter().all(|&sample| sample == 0.0));
}

#[test]
fn a_chunk_from_the_past_is_ignored() {
    let mut segmenter = segmenter();
    let mut at = 10 * CHUNK;
    play(&mut segmenter, &mut at, &[(20, 0.9)]);
    let before = segmenter.buffered_samples();
    let past = play(&mut segmenter, &mut 0, &[(5, 0.9)]);
    assert!(past.is_empty());
    assert_eq!(segmenter.buffered_samples(), before);
}

#[test]
fn mostly_silent_segments_are_discarded() {
    let sparse: Vec<(u64, f32)> = (0..12).flat_map(|_| [(13, 0.01), (1, 0.6)]).collect();
    let script = [vec![(9, 0.9)], sparse, vec![(20, 0.0)]].concat();
    let events = run(&script);
    assert_eq!(names(&events).last(), Some(&"discarded"));
}

#[test]
fn memory_is_given_back_after_a_segment() {
    let mut segmenter = segmenter();
    let mut at = 0;
    play(&mut segmenter, &mut at, &[(300, 0.9), (40, 0.0)]);
    assert!(segmenter.buffered_samples() < 20_000);
}
