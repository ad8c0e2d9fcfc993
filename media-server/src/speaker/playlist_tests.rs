//! Orders of arrival and what a listener hears of them.

use proptest::prelude::*;
use ringbuf::traits::Consumer;

use super::*;
use crate::media::frames::{PlayoutReader, PlayoutWriter, playout_ring};

const ANNA: PeerId = PeerId(1);
const BEN: PeerId = PeerId(2);
const FIRST: UtteranceId = UtteranceId(1);
const SECOND: UtteranceId = UtteranceId(2);
const TICK: Duration = Duration::from_millis(20);
const WAIT: Duration = Duration::from_millis(1_500);

struct World {
    list: Playlist<PlayoutWriter>,
    reader: PlayoutReader,
    now: Instant,
}

impl World {
    fn new(ring: usize, backlog_48k: usize) -> Self {
        let limits = Limits {
            backlog_48k,
            sheds: Sheds::Newest,
            order_wait: WAIT,
            lead: usize::MAX,
            catch_up: 1.0,
        };
        Self::with(ring, limits)
    }

    /// A channel of a conference.
    fn channel(backlog_48k: usize) -> Self {
        let (lead, catch_up) = (15, 1.25);
        Self::with(
            100,
            Limits { backlog_48k, sheds: Sheds::Oldest, order_wait: WAIT, lead, catch_up },
        )
    }

    fn with(ring: usize, limits: Limits) -> Self {
        let (writer, reader) = playout_ring(ring);
        Self { list: Playlist::new(writer, limits), reader, now: Instant::now() }
    }

    fn expect(&mut self, utterance: UtteranceId, speaker: PeerId) {
        self.list.expect(self.now, utterance, speaker);
    }

    /// Samples of the utterance's own number at a place.
    /// Whether nothing is captioned only because of it.
    fn say(&mut self, utterance: UtteranceId, at_48k: usize, samples: usize) -> bool {
        self.offer(utterance, at_48k, samples).is_empty()
    }

    /// What is captioned only because of it.
    fn offer(&mut self, utterance: UtteranceId, at_48k: usize, samples: usize) -> Vec<u64> {
        let chunk = vec![utterance.0 as f32; samples];
        let unspoken = self.list.accept(self.now, utterance, at_48k as u64, &chunk);
        unspoken.into_iter().map(|(utterance, _)| utterance.0).collect()
    }

    /// A whole utterance of so many frames; what is captioned only because of it.
    fn utter(&mut self, utterance: u64, frames: usize) -> Vec<u64> {
        let utterance = UtteranceId(utterance);
        let unspoken = self.offer(utterance, 0, frames * PLAYOUT_SAMPLES);
        self.list.end(utterance);
        unspoken
    }

    /// Plays for a while; a tick without a frame is an empty one of utterance 0.
    fn play(&mut self, ticks: usize) -> Vec<PlayoutFrame> {
        let silence = PlayoutFrame { utterance: 0, last: false, samples: [0.0; PLAYOUT_SAMPLES] };
        let mut heard = Vec::new();
        for _ in 0..ticks {
            self.list.fill(self.now);
            heard.push(self.reader.try_pop().unwrap_or(silence));
            self.now += TICK;
        }
        heard
    }
}

fn utterances(frames: &[PlayoutFrame]) -> Vec<u64> {
    let mut order: Vec<u64> = frames.iter().map(|frame| frame.utterance).collect();
    order.retain(|utterance| *utterance != 0);
    order.dedup();
    order
}

fn samples(frames: &[PlayoutFrame]) -> Vec<f32> {
    frames.iter().flat_map(|frame| frame.samples).collect()
}

#[test]
fn utterances_stay_whole_although_their_samples_arrive_interleaved() {
    let mut world = World::new(100, usize::MAX);
    world.say(FIRST, 0, PLAYOUT_SAMPLES);
    world.say(SECOND, 0, PLAYOUT_SAMPLES);
    world.say(FIRST, PLAYOUT_SAMPLES, 10);
    world.list.end(SECOND);
    world.list.end(FIRST);
    let heard = world.play(5);
    let told: Vec<_> = heard.iter().map(|frame| (frame.utterance, frame.last)).collect();
    assert_eq!(told[..3], [(1, false), (1, true), (2, true)]);
    assert!(!world.list.has_work());
}

#[test]
fn what_one_speaker_said_is_heard_in_order_whatever_is_ready_first() {
    let mut world = World::new(100, usize::MAX);
    world.expect(FIRST, ANNA);
    world.expect(SECOND, ANNA);
    world.say(SECOND, 0, 3 * PLAYOUT_SAMPLES);
    world.list.end(SECOND);
    assert!(utterances(&world.play(200)).is_empty(), "four seconds, and still in order");
    world.say(FIRST, 0, 3 * PLAYOUT_SAMPLES);
    world.list.end(FIRST);
    assert_eq!(utterances(&world.play(20)), [1, 2]);
}

#[test]
fn speech_waits_a_second_and_a_half_for_somebody_who_began_earlier() {
    for (ready_after, order) in [(50, [1, 2]), (100, [2, 1])] {
        let mut world = World::new(100, usize::MAX);
        world.expect(FIRST, ANNA);
        world.expect(SECOND, BEN);
        world.say(SECOND, 0, 3 * PLAYOUT_SAMPLES);
        world.list.end(SECOND);
        let mut heard = world.play(ready_after);
        world.say(FIRST, 0, 3 * PLAYOUT_SAMPLES);
        world.list.end(FIRST);
        heard.extend(world.play(100));
        assert_eq!(utterances(&heard), order, "ready after {ready_after} ticks");
        let begins = heard.iter().position(|frame| frame.utterance != 0);
        assert!(begins.is_some_and(|tick| tick <= 76), "{begins:?}");
    }
}

#[test]
fn an_utterance_that_is_dropped_holds_up_nobody() {
    let mut world = World::new(100, usize::MAX);
    world.expect(FIRST, ANNA);
    world.expect(SECOND, ANNA);
    world.say(SECOND, 0, PLAYOUT_SAMPLES);
    world.list.end(FIRST);
    assert_eq!(world.play(1)[0].utterance, 2);
}

#[test]
fn an_utterance_that_nobody_ends_holds_up_its_speaker_for_15_s_at_most() {
    let mut world = World::new(100, usize::MAX);
    world.expect(FIRST, ANNA);
    world.expect(SECOND, ANNA);
    world.say(SECOND, 0, PLAYOUT_SAMPLES);
    let begins = world.play(800).iter().position(|frame| frame.utterance == 2);
    assert!(begins.is_some_and(|tick| (750..=752).contains(&tick)), "{begins:?}");
}

#[test]
fn a_pause_of_the_voice_is_as_long_as_it_was() {
    let mut world = World::new(100, usize::MAX);
    world.say(FIRST, 0, 1_000);
    world.say(FIRST, 1_000 + 4_320, 1_000);
    world.list.end(FIRST);
    let heard = samples(&world.play(10));
    let silent = heard.iter().skip(1_000).take_while(|sample| **sample == 0.0).count();
    assert_eq!(silent, 4_320);
}

#[test]
fn silence_that_was_played_for_want_of_speech_counts_as_pause() {
    // The pause is 90 ms; the next clause comes 40 ms, 60 ms and a second after the first ended.
    for late_ticks in [2, 3, 50] {
        let mut world = World::new(100, usize::MAX);
        world.say(FIRST, 0, 1_000);
        let mut heard = world.play(2 + late_ticks);
        world.say(FIRST, 1_000 + 4_320, 1_000);
        world.list.end(FIRST);
        heard.extend(world.play(10));
        let heard = samples(&heard);
        let ended = 1_000;
        assert!(heard[..ended].iter().all(|sample| *sample == 1.0), "not kept back");
        let silent = heard[ended..].iter().take_while(|sample| **sample == 0.0).count();
        let wanted = 4_320.max((2 + late_ticks) * PLAYOUT_SAMPLES - ended);
        assert!(silent.abs_diff(wanted) <= PLAYOUT_SAMPLES, "{late_ticks}: {silent} of {wanted}");
    }
}

#[test]
fn a_full_ring_makes_the_rest_wait_without_loss() {
    let mut world = World::new(2, usize::MAX);
    world.say(FIRST, 0, 5 * PLAYOUT_SAMPLES);
    world.list.end(FIRST);
    let heard = world.play(10);
    assert_eq!(heard.iter().filter(|frame| frame.utterance == 1).count(), 5);
    assert!(!world.list.has_work());
}

#[test]
fn an_utterance_that_begins_beyond_the_backlog_limit_is_refused_as_a_whole() {
    let mut world = World::new(100, PLAYOUT_SAMPLES);
    assert!(world.say(FIRST, 0, 2 * PLAYOUT_SAMPLES));
    assert!(!world.say(SECOND, 0, PLAYOUT_SAMPLES));
    assert!(world.say(SECOND, PLAYOUT_SAMPLES, PLAYOUT_SAMPLES), "told once");
    world.list.end(FIRST);
    world.list.end(SECOND);
    assert_eq!(utterances(&world.play(10)), [1]);
    assert!(!world.list.has_work());
}

#[test]
fn a_channel_captions_the_oldest_that_waits_when_the_newest_would_wait_too_long() {
    let mut world = World::channel(400 * PLAYOUT_SAMPLES);
    assert!(world.utter(1, 200).is_empty());
    world.play(50);
    // What plays has 136 frames left here, beside those in the ring.
    assert!(world.utter(2, 200).is_empty());
    assert!(world.utter(3, 150).is_empty(), "336 wait before it");
    assert_eq!(world.utter(4, 50), [2], "486 would wait before it, and 286 without the oldest");
    assert!(world.utter(5, 50).is_empty());
    assert_eq!(utterances(&world.play(500)), [1, 3, 4, 5]);
    assert!(!world.list.has_work());
}

#[test]
fn what_plays_is_not_given_up_and_neither_is_all_that_waits() {
    let mut world = World::channel(100 * PLAYOUT_SAMPLES);
    world.utter(1, 300);
    world.play(1);
    assert_eq!(world.utter(2, 10), [2], "285 of what plays are too much by themselves");
    world.play(250);
    assert!(world.utter(3, 10).is_empty());
    assert_eq!(utterances(&world.play(100)), [1, 3]);
}

#[test]
fn a_held_channel_pauses_and_goes_on_with_the_first_sample_that_nobody_heard() {
    let mut world = World::channel(usize::MAX);
    let said: Vec<f32> = (1..=100 * PLAYOUT_SAMPLES).map(|number| number as f32).collect();
    assert!(world.list.accept(world.now, FIRST, 0, &said).is_empty());
    world.list.end(FIRST);
    let mut heard = samples(&world.play(20));
    world.list.hold(true);
    // The media worker empties the ring meanwhile, which nobody hears.
    let held = world.play(200);
    assert_eq!(held.iter().filter(|frame| frame.utterance == 1).count(), 14);
    world.list.hold(true);
    assert!(world.list.wants_to_speak(world.now));
    world.list.hold(false);
    heard.extend(samples(&world.play(100)));
    heard.retain(|sample| *sample != 0.0);
    assert_eq!(heard, said);
    assert!(!world.list.wants_to_speak(world.now));
}

#[test]
fn a_held_channel_says_that_it_wants_to_speak_but_not_before_its_turn() {
    let mut world = World::channel(usize::MAX);
    world.list.hold(true);
    world.expect(FIRST, ANNA);
    world.expect(SECOND, BEN);
    assert!(!world.list.wants_to_speak(world.now));
    world.utter(2, 10);
    assert!(!world.list.wants_to_speak(world.now), "anna began earlier");
    world.now += WAIT;
    assert!(world.list.wants_to_speak(world.now));
    assert!(utterances(&world.play(10)).is_empty());
}

#[test]
fn a_silenced_channel_says_nothing_of_what_had_begun_before() {
    let mut world = World::channel(usize::MAX);
    let (third, fourth) = (UtteranceId(3), UtteranceId(4));
    world.expect(FIRST, ANNA);
    world.expect(SECOND, BEN);
    world.expect(third, ANNA);
    world.utter(1, 100);
    let before = world.play(20);
    world.utter(2, 10);
    assert_eq!(world.list.silence(Unspoken::TakenOver), [SECOND], "nobody heard it");
    let cut = world.play(40);
    assert_eq!(utterances(&[before, cut.clone()].concat()), [1]);
    let last = cut.iter().rfind(|frame| frame.utterance == 1).expect("it ends");
    assert!(last.last && last.samples[PLAYOUT_SAMPLES - 1] == 0.0, "faded out");
    assert_eq!(world.offer(third, 0, 10), [3], "told when it would have been heard");
    assert!(world.say(third, 10, 10), "told once");
    world.list.end(third);
    assert!(world.utter(4, 5).is_empty());
    assert_eq!(utterances(&world.play(20)), [fourth.0]);
    assert!(!world.list.has_work());
}

#[test]
fn a_channel_hurries_while_more_than_two_seconds_of_others_wait() {
    for (waits, ticks) in [(99, 400..=401), (101, 320..=330)] {
        let mut world = World::channel(usize::MAX);
        world.utter(1, 400);
        world.play(1);
        world.utter(2, waits);
        let heard = world.play(600);
        let ends = heard.iter().position(|frame| frame.utterance == 2).expect("it is heard");
        assert!(ticks.contains(&(ends + 1)), "{waits} frames wait: {ends}");
    }
}

proptest! {
    /// Utterance `n` of speaker `n % 3`, whose chunks come in any interleaving.
    #[test]
    fn everything_is_heard_once_whole_and_in_each_speakers_order(
        turns in prop::collection::vec(0usize..9, 1..150),
        ring in 1usize..30,
    ) {
        const CHUNK: usize = 700;
        let mut world = World::new(ring, usize::MAX);
        let mut said = [0usize; 9];
        for index in 0..9 {
            world.expect(UtteranceId(index + 1), PeerId(index % 3));
        }
        let mut heard = Vec::new();
        for index in turns {
            world.say(UtteranceId(index as u64 + 1), said[index], CHUNK);
            said[index] += CHUNK;
            heard.extend(world.play(3));
        }
        for index in 0..9 {
            world.list.end(UtteranceId(index + 1));
        }
        heard.extend(world.play(400));
        let order = utterances(&heard);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), order.len(), "each is whole: {:?}", order);
        for speaker in 0..3 {
            let own: Vec<u64> =
                order.iter().copied().filter(|utterance| (utterance - 1) % 3 == speaker).collect();
            prop_assert!(own.is_sorted(), "{:?}", order);
        }
        let heard = samples(&heard);
        for (index, said) in said.iter().enumerate() {
            let count = heard.iter().filter(|sample| **sample == (index + 1) as f32).count();
            prop_assert_eq!(count, *said);
        }
        prop_assert!(!world.list.has_work());
    }
}
