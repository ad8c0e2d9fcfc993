//! A conference over real UDP on loopback, between the media plane and callers of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod caller;

use std::time::Duration;

use caller::house::{House, PATIENCE, loudest, until};
use caller::{Caller, Heard, tone};
use media_server::media::frames::{PLAYOUT_SAMPLES, PlayoutFrame, PlayoutWriter};
use media_server::media::{ChannelId, GainStep, Notice, PeerId, Programme};
use ringbuf::traits::{Observer as _, Producer as _};

const ROOM: u64 = 7;
const SPANISH: ChannelId = ChannelId(1);

fn spanish(gain: f32) -> Programme {
    Programme::Channel { channel: SPANISH, original: GainStep::nearest(gain) }
}

/// Puts an utterance of a second of a 2 kHz tone into a channel.
fn say(ring: &mut PlayoutWriter, utterance: u64) {
    let speech = tone(2_000.0, 1.0, 0.5);
    for (index, piece) in speech.chunks_exact(PLAYOUT_SAMPLES).enumerate() {
        let samples = piece.try_into().unwrap();
        let frame = PlayoutFrame { utterance, last: index == 49, samples };
        assert!(ring.try_push(frame).is_ok());
    }
}

/// What was heard from a moment on.
fn since(start: usize, caller: &Caller) -> Vec<Heard> {
    caller.heard().split_off(start)
}

#[test]
fn a_floor_a_channel_and_a_human_interpreter_over_real_udp() {
    let house = House::new(PATIENCE);
    let (_anna, _anna_ends) = house.call(1, tone(500.0, 60.0, 0.4));
    let (_human, _human_ends) = house.call(2, tone(3_000.0, 60.0, 0.4));
    house.plane.set_on_floor(ROOM, PeerId(1), true);
    let mut ring = house.plane.open_channel(ROOM, SPANISH).unwrap();
    let listeners: Vec<_> = (10..13).map(|id| house.call(id, Vec::new())).collect();
    let callers: Vec<&Caller> = listeners.iter().map(|(caller, _)| caller).collect();

    for id in 10..13 {
        house.plane.tune(ROOM, PeerId(id), Programme::Floor, PeerId(id));
    }
    for caller in &callers {
        until("the floor", || loudest(500.0, &caller.heard()) > 0.3);
    }
    // Encoders of who was silent until now rest after half a second.
    until("half a second in which the floor is passed on and nothing is encoded", || {
        let before = house.plane.stats();
        std::thread::sleep(Duration::from_millis(500));
        let after = house.plane.stats();
        after.encodes == before.encodes && after.forwarded >= before.forwarded + 60
    });

    for id in 10..13 {
        house.plane.tune(ROOM, PeerId(id), spanish(0.0), PeerId(id));
    }
    let start = callers[0].heard().len();
    let before = house.plane.stats();
    say(&mut ring, 1);
    let mut spoken = Vec::new();
    while spoken.len() < 3 {
        let notice = house.await_notice(|notice| matches!(notice, Notice::Spoken { .. }));
        if let Notice::Spoken { peer, utterance: 1, rtp_timestamp, .. } = notice {
            spoken.push((peer, rtp_timestamp));
        }
    }
    for (peer, rtp_timestamp) in spoken {
        let caller = callers[usize::try_from(peer.0).unwrap() - 10];
        until("its first packet", || {
            caller.heard().iter().any(|packet| packet.timestamp == rtp_timestamp)
        });
        until("the channel", || loudest(2_000.0, &caller.heard()) > 0.4);
    }
    let after = house.plane.stats();
    let (encodes, packets) =
        (after.encodes - before.encodes, after.packets_out - before.packets_out);
    assert!(encodes * 2 < packets, "{encodes} encodes for {packets} packets");
    until("half a second of it", || callers[0].heard().len() > start + 45);
    assert!(loudest(500.0, &since(start + 20, callers[0])) < 0.02, "the floor is not under it");

    let before: Vec<usize> = callers.iter().map(|caller| caller.heard().len()).collect();
    house.plane.set_interpreter(ROOM, SPANISH, Some(PeerId(2)));
    for (caller, start) in callers.iter().zip(&before) {
        until("the human", || loudest(3_000.0, &since(*start, caller)) > 0.3);
    }
    house.plane.set_interpreter(ROOM, SPANISH, None);
    house.plane.tune(ROOM, PeerId(10), spanish(1.0), PeerId(10));
    let start = callers[0].heard().len();
    say(&mut ring, 2);
    until("the machine again", || loudest(2_000.0, &since(start, callers[0])) > 0.3);
    until("the floor under it", || loudest(500.0, &since(start, callers[0])) > 0.1);
    for caller in &callers {
        for pair in caller.heard().windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let advance = pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed();
            assert!(advance >= 960, "{advance}");
        }
    }
    house.plane.close_channel(ROOM, SPANISH);
    until("the end of the ring", || !ring.read_is_held());
}
