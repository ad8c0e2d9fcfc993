//! What is encoded, passed on and numbered in conferences, tick by tick.

use super::*;
use crate::media::mixer::DUCKED;
use crate::transport::Track;

#[path = "conference_world.rs"]
mod world;

use world::{Got, SPANISH, World, assert_continuous, channel};

#[test]
fn a_hundred_listeners_of_a_channel_share_one_encoding_and_each_has_numbers_of_their_own() {
    let mut world = World::new();
    let listeners: Vec<PeerId> =
        (100..200).map(|id| world.listener(id, channel(0.0), false)).collect();
    world.say(50);
    world.run(50, &[]);
    assert_eq!(world.encodes(), 50);
    let first = world.payloads(listeners[0], Track::Interpretation, 0);
    assert_eq!(first.len(), 50);
    let mut numbers = Vec::new();
    for listener in &listeners {
        assert_eq!(world.payloads(*listener, Track::Interpretation, 0), first);
        assert_continuous(world.got(*listener));
        let got = &world.got(*listener)[0];
        numbers.push((got.sequence, got.timestamp));
        let told = &world.listeners[listener].told;
        let (spoken, finished) = (told[0], told[1]);
        assert_eq!(spoken, (0, Some(got.timestamp), Progress { spoken: Some(1), finished: None }));
        assert_eq!(finished.2, Progress { spoken: None, finished: Some(1) });
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
    assert!(world.level(listeners[0], Track::Interpretation, 2_000.0) > 0.35);
}

#[test]
fn each_step_of_gain_that_somebody_hears_is_encoded_once_and_no_other() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let bare = world.listener(100, channel(0.0), false);
    let quiet = world.listener(101, channel(0.2), false);
    let loud: Vec<PeerId> = (102..112).map(|id| world.listener(id, channel(1.0), false)).collect();
    world.run(30, &[anna]);
    let before = world.encodes();
    world.say(50);
    world.run(50, &[anna]);
    assert_eq!(world.encodes() - before, 150);
    let level = |listener, hertz| world.level(listener, Track::Interpretation, hertz);
    assert!(level(bare, 500.0) < 0.01 && level(bare, 2_000.0) > 0.35);
    let ducked = 0.4 * DUCKED;
    assert!((level(quiet, 500.0) - 0.2 * ducked).abs() < 0.01, "{}", level(quiet, 500.0));
    for listener in loud {
        assert!((level(listener, 500.0) - ducked).abs() < 0.03, "{}", level(listener, 500.0));
    }
}

#[test]
fn a_channel_without_listeners_is_not_encoded_and_its_ring_does_not_stand_still() {
    let mut world = World::new();
    world.say(30);
    world.run(40, &[]);
    assert_eq!(world.encodes(), 0);
    let late = world.listener(100, channel(0.0), false);
    world.run(1, &[]);
    assert!(world.listeners[&late].told.is_empty());
    assert!(!world.conference.is_over());
}

#[test]
fn switching_programmes_leaves_no_hole_in_sequence_or_time() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let listener = world.listener(100, channel(0.0), false);
    world.say(100);
    let programmes = [Programme::Floor, channel(0.4), channel(0.0), Programme::Floor, channel(1.0)];
    for programme in programmes {
        world.run(15, &[anna]);
        world.tune(listener, programme);
        let switched = world.tick;
        world.run(1, &[anna]);
        let first = world.got(listener).iter().find(|got| got.tick == switched).unwrap();
        let is_mix_after_mix = programme == channel(0.0);
        assert_eq!(first.marker, !is_mix_after_mix, "{programme:?}");
    }
    world.run(15, &[anna]);
    assert_continuous(world.got(listener));
    assert!(world.level(listener, Track::Interpretation, 2_000.0) > 0.3);
    let told: Vec<Progress> = world.listeners[&listener].told.iter().map(|told| told.2).collect();
    assert_eq!(told[0].spoken, Some(1));
    assert!(told[1..].iter().all(|progress| progress.finished.is_none()), "it was tuned away");
}

#[test]
fn a_listener_with_two_tracks_has_the_interpretation_on_one_and_the_floor_on_the_other() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let listener = world.listener(100, channel(0.4), true);
    world.say(60);
    world.run(60, &[anna]);
    let level = |track, hertz| world.level(listener, track, hertz);
    assert!(level(Track::Interpretation, 2_000.0) > 0.35);
    assert!(level(Track::Interpretation, 500.0) < 0.01);
    assert!(level(Track::Originals, 500.0) > 0.35);
    assert_continuous(world.got(listener));
    assert_continuous(&world.listeners[&listener].got[1]);
    world.tune(listener, Programme::Floor);
    world.say(30);
    world.run(30, &[anna]);
    assert!(world.level(listener, Track::Interpretation, 500.0) < 0.01, "not twice");
    assert!(world.level(listener, Track::Originals, 500.0) > 0.35);
}

#[test]
fn one_speaker_is_passed_on_byte_by_byte_and_nothing_is_encoded() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let _bert = world.on_floor(2, 1_300.0);
    let listener = world.listener(100, Programme::Floor, false);
    world.run(50, &[]);
    let (encodes, began) = (world.encodes(), world.tick);
    world.run(100, &[anna]);
    // It takes a packet to know that somebody speaks, and that is made up for.
    assert!(world.encodes() - encodes <= 2, "{} encodes", world.encodes() - encodes);
    let sent: Vec<&[u8]> = world.speakers[&anna].sent[50..].iter().map(Vec::as_slice).collect();
    let got = world.payloads(listener, Track::Interpretation, began + 1);
    assert_eq!(got[got.len() - sent.len()..], sent, "every packet of hers, the first one too");
    assert_continuous(world.got(listener));
    assert!(world.forwarded() >= 100);
    let markers = world.got(listener).iter().filter(|got| got.tick >= began && got.marker);
    assert_eq!(markers.count(), 1);
}

#[test]
fn what_is_lost_on_the_way_here_is_a_hole_in_the_numbers_there() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let listener = world.listener(100, Programme::Floor, false);
    world.run(20, &[anna]);
    let began = world.tick;
    world.run_with_loss(100, &[anna], 10);
    let got: Vec<&Got> = world.got(listener).iter().filter(|got| got.tick >= began).collect();
    assert_eq!(got.len(), 90);
    let holes = got.windows(2).filter(|pair| {
        let sequence = pair[1].sequence.wrapping_sub(pair[0].sequence);
        let time = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert_eq!(time, u32::from(sequence) * 960);
        assert!(sequence == 1 || sequence == 2);
        sequence == 2
    });
    assert!((9..=10).contains(&holes.count()));
}

#[test]
fn two_speakers_are_mixed_once_for_all_and_after_them_the_one_is_passed_on_again() {
    let mut world = World::new();
    let (anna, bert) = (world.on_floor(1, 500.0), world.on_floor(2, 1_300.0));
    let listeners: Vec<PeerId> =
        (100..110).map(|id| world.listener(id, Programme::Floor, false)).collect();
    world.run(50, &[anna]);
    let before = world.encodes();
    world.run(50, &[anna, bert]);
    let mixed = world.encodes() - before;
    assert!((46..=50).contains(&mixed), "{mixed} encodes for ten listeners");
    for hertz in [500.0, 1_300.0] {
        assert!(world.level(listeners[0], Track::Interpretation, hertz) > 0.35);
    }
    // Anna goes on without a pause: passed on again when it is sure that Bert has finished.
    world.run(140, &[anna]);
    let before = (world.encodes(), world.forwarded());
    world.run(50, &[anna]);
    assert_eq!((world.encodes(), world.forwarded()), (before.0, before.1 + 500));
    assert!(world.level(listeners[0], Track::Interpretation, 500.0) > 0.35);
    assert!(world.level(listeners[0], Track::Interpretation, 1_300.0) < 0.01);
    // After a pause the other one, at once.
    world.run(60, &[]);
    world.run(10, &[bert]);
    assert!(world.level(listeners[0], Track::Interpretation, 1_300.0) > 0.3);
    assert_eq!(world.encodes(), before.0);
    for listener in listeners {
        assert_continuous(world.got(listener));
    }
}

#[test]
fn who_is_heard_on_the_floor_hears_all_but_themselves_and_who_is_not_shares() {
    let mut world = World::new();
    let (anna, bert) = (world.on_floor(1, 500.0), world.on_floor(2, 1_300.0));
    let carl = world.on_floor(3, 3_000.0);
    for id in [anna, bert, carl] {
        world.listener(id.0, Programme::Floor, false);
    }
    world.run(20, &[anna]);
    let before = world.encodes();
    world.run(50, &[anna, bert]);
    // One each for Anna and Bert, and one for everybody else, of whom there is one.
    assert!(world.encodes() - before <= 150);
    let level = |listener, hertz| world.level(listener, Track::Interpretation, hertz);
    assert!(level(anna, 500.0) < 0.01 && level(anna, 1_300.0) > 0.35);
    assert!(level(bert, 1_300.0) < 0.01 && level(bert, 500.0) > 0.35);
    assert!(level(carl, 500.0) > 0.35 && level(carl, 1_300.0) > 0.35);
    world.run(100, &[]);
    let before = world.encodes();
    world.run(50, &[carl]);
    assert!(world.encodes() - before <= 30, "Carl's own silence, until it rests");
    assert_eq!(
        world.payloads(anna, Track::Interpretation, world.tick - 40),
        world.payloads(bert, Track::Interpretation, world.tick - 40),
        "they share again"
    );
    for id in [anna, bert, carl] {
        assert_continuous(world.got(id));
    }
}

#[test]
fn a_speaker_who_listens_to_a_channel_over_the_floor_does_not_hear_themselves_in_it() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    world.listener(1, channel(1.0), false);
    let other = world.listener(100, channel(1.0), false);
    world.run(10, &[anna]);
    world.say(80);
    world.run(50, &[anna]);
    let level = |listener, hertz| world.level(listener, Track::Interpretation, hertz);
    assert!(level(anna, 500.0) < 0.01 && level(anna, 2_000.0) > 0.3);
    assert!(level(other, 500.0) > 0.1 && level(other, 2_000.0) > 0.3);
    world.tune(anna, channel(0.0));
    let before = world.encodes();
    world.run(20, &[anna]);
    assert_eq!(world.encodes() - before, 40, "without the floor she shares");
    assert_continuous(world.got(anna));
}

#[test]
fn who_publishes_on_one_connection_and_listens_on_another_does_not_hear_themselves() {
    let mut world = World::new();
    let (anna, bert) = (world.on_floor(1, 500.0), world.on_floor(2, 1_300.0));
    let listens = world.listener(11, Programme::Floor, false);
    world.tune_without(listens, Programme::Floor, anna);
    let level = |world: &World, hertz| world.level(listens, Track::Interpretation, hertz);
    world.run(20, &[anna]);
    assert!(level(&world, 500.0) < 0.01, "alone on the floor");
    world.run(20, &[anna, bert]);
    assert!(level(&world, 500.0) < 0.01 && level(&world, 1_300.0) > 0.35);
    // Her own language: what she says is passed on to who else listens there.
    world.tune_without(listens, channel(0.0), anna);
    world.conference.set_interpreter(SPANISH, Some(anna));
    world.run(20, &[anna]);
    assert!(level(&world, 500.0) < 0.01, "on the channel of her own language");
    assert_continuous(world.got(listens));
}

#[test]
fn a_human_interpreter_takes_a_channel_over_and_gives_it_back() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let human = world.speaker(2, 3_000.0);
    let bare = world.listener(100, channel(0.0), false);
    let over = world.listener(101, channel(0.4), false);
    world.listener(2, channel(0.4), false);
    world.run(10, &[anna]);
    world.say(60);
    world.run(20, &[anna]);
    world.conference.set_interpreter(SPANISH, Some(human));
    let taken = world.tick;
    world.run(60, &[anna, human]);
    let sent = &world.speakers[&human].sent;
    let got = world.payloads(bare, Track::Interpretation, taken);
    assert_eq!(got, sent[sent.len() - got.len()..], "passed on as it came");
    assert_eq!(got.len(), 60);
    let level =
        |world: &World, listener, hertz| world.level(listener, Track::Interpretation, hertz);
    assert!(level(&world, bare, 2_000.0) < 0.01 && level(&world, bare, 500.0) < 0.01);
    assert!(level(&world, over, 3_000.0) > 0.35 && level(&world, over, 2_000.0) < 0.01);
    let ducked = 0.4 * 0.4 * DUCKED;
    assert!((level(&world, over, 500.0) - ducked).abs() < 0.01);
    assert!(level(&world, human, 3_000.0) < 0.01, "interpreters do not hear themselves");
    let told: Vec<Progress> = world.listeners[&bare].told.iter().map(|told| told.2).collect();
    let (begun, ended) = (
        Progress { spoken: Some(1), finished: None },
        Progress { spoken: None, finished: Some(1) },
    );
    assert_eq!(told, [begun, ended], "what was cut short has ended");
    world.say(10);
    world.run(20, &[anna, human]);
    assert_eq!(world.listeners[&bare].told.len(), 2, "nobody hears it, nobody is told");
    world.conference.set_interpreter(SPANISH, None);
    world.run(10, &[anna]);
    world.say(50);
    world.run(50, &[anna]);
    assert!(level(&world, bare, 2_000.0) > 0.35 && level(&world, over, 2_000.0) > 0.3);
    assert!(level(&world, over, 3_000.0) < 0.01);
    assert_continuous(world.got(bare));
    assert_continuous(world.got(over));
}

#[test]
fn an_interpreter_who_leaves_gives_the_channel_back_and_a_closed_channel_is_silent() {
    let mut world = World::new();
    let human = world.speaker(2, 3_000.0);
    let listener = world.listener(100, channel(0.0), false);
    world.conference.set_interpreter(SPANISH, Some(human));
    world.run(20, &[human]);
    world.speakers.clear();
    world.conference.forget(human);
    world.say(90);
    world.run(50, &[]);
    assert!(world.level(listener, Track::Interpretation, 2_000.0) > 0.35);
    world.conference.close(SPANISH);
    let closed = world.tick;
    world.run(50, &[]);
    assert!(world.level(listener, Track::Interpretation, 2_000.0) < 0.01);
    assert_eq!(world.payloads(listener, Track::Interpretation, closed).len(), 50);
    assert_continuous(world.got(listener));
    world.listeners.clear();
    world.run(1, &[]);
    assert!(world.conference.is_over());
}

#[test]
fn a_floor_whose_speaker_is_cut_off_is_silent_and_goes_on_with_the_next() {
    let mut world = World::new();
    let anna = world.on_floor(1, 500.0);
    let listener = world.listener(100, Programme::Floor, false);
    world.run(20, &[anna]);
    world.speakers.clear();
    world.run(100, &[]);
    let quiet = world.payloads(listener, Track::Interpretation, 50);
    assert_eq!(quiet.len() as u64, world.tick - 50, "a packet every tick again");
    let bert = world.on_floor(2, 1_300.0);
    world.run(20, &[bert]);
    assert!(world.level(listener, Track::Interpretation, 1_300.0) > 0.35);
    for pair in world.got(listener).windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
    }
}
