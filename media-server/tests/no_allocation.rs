//! In steady state our code between an RTP payload in and an RTP payload out allocates nothing.
//! The WebRTC stack below it is not ours and not measured.

#![allow(unsafe_code, reason = "counting allocations takes an allocator, whose trait is unsafe")]
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media_server::media::channel::Channel;
use media_server::media::codec::{Encoder, MAX_PACKET_BYTES};
use media_server::media::conference::Conference;
use media_server::media::frames::{
    HeardReader, PLAYOUT_SAMPLES, PlayoutFrame, heard_ring, playout_ring,
};
use media_server::media::inbound::Inbound;
use media_server::media::outbound::{Outbound, Tuned};
use media_server::media::stats::Counters;
use media_server::media::{ChannelId, GainStep, PeerId, Programme};
use media_server::transport::RtpIn;
use ringbuf::traits::{Consumer as _, Producer as _};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell of the
// calling thread that needs no allocation itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_tick_of_a_speaking_and_listening_peer_allocates_nothing() {
    a_call(false);
}

#[test]
fn neither_does_one_with_a_track_for_the_originals() {
    a_call(true);
}

/// Packets of a tone, one for each 20 ms.
fn speech(packets: u32) -> Vec<Bytes> {
    let mut encoder = Encoder::new().unwrap();
    let mut packet = [0; MAX_PACKET_BYTES];
    let say = |tick: u32| {
        let frame = std::array::from_fn(|n| {
            let at = tick as f32 * PLAYOUT_SAMPLES as f32 + n as f32;
            0.4 * (at * 0.05).sin()
        });
        let length = encoder.encode(&frame, &mut packet).unwrap();
        Bytes::copy_from_slice(&packet[..length])
    };
    (0..packets).map(say).collect()
}

/// Two speak by turns and at once, one of them listens; others listen to the floor and to a channel
/// at two gains, which a human interpreter has for a while.
#[test]
fn neither_does_a_conference_with_listeners_on_the_floor_and_on_a_channel() {
    const WARM_UP: u32 = 400;
    const TICKS: u32 = 1_600;
    const SPANISH: ChannelId = ChannelId(1);
    let start = Instant::now();
    let counters = Counters::default();
    let mut speakers: Vec<(PeerId, Inbound, HeardReader, [f32; PLAYOUT_SAMPLES])> = (1..4)
        .map(|id| {
            let (writer, heard) = heard_ring(50);
            (PeerId(id), Inbound::new(writer).unwrap(), heard, [0.0; PLAYOUT_SAMPLES])
        })
        .collect();
    let (mut ring, reader) = playout_ring(50);
    let mut conference = Conference::new().unwrap();
    conference.open(Box::new(Channel::new(SPANISH, reader).unwrap()));
    conference.set_on_floor(PeerId(1), true);
    conference.set_on_floor(PeerId(2), true);
    conference.set_interpreter(SPANISH, Some(PeerId(3)));
    let over = |gain| Programme::Channel { channel: SPANISH, original: GainStep::nearest(gain) };
    let programmes = [
        (1, Programme::Floor, false),
        (10, Programme::Floor, false),
        (11, over(0.0), false),
        (12, over(0.4), false),
        (13, over(0.2), true),
    ];
    let mut listeners: Vec<Outbound> = programmes
        .into_iter()
        .map(|(id, programme, has_originals)| {
            let mut outbound = Outbound::new(playout_ring(1).1, has_originals).unwrap();
            outbound.tune(Tuned { room: 1, programme, own: PeerId(id) });
            outbound
        })
        .collect();
    let (loud, quiet) = (speech(TICKS), Bytes::from_static(&[0x78, 0xff, 0xfe]));
    let mut payloads: Vec<[Bytes; 3]> = (0..TICKS)
        .map(|tick| {
            let says = [tick % 400 < 300, tick % 400 >= 200, true];
            says.map(|says| {
                Bytes::copy_from_slice(if says { &loud[tick as usize] } else { &quiet })
            })
        })
        .collect();
    let mut before = 0;
    for (tick, payloads) in (0u32..).zip(payloads.drain(..)) {
        if tick == WARM_UP {
            before = ALLOCATIONS.get();
        }
        if tick == TICKS / 2 {
            conference.set_interpreter(SPANISH, None);
        }
        let now = start + Duration::from_millis(20) * tick;
        for ((_, inbound, heard, block), payload) in speakers.iter_mut().zip(payloads) {
            let (sequence, timestamp) = (tick as u16, tick * 960);
            if tick % 37 != 36 {
                inbound.packet(RtpIn { arrived: now, sequence, timestamp, payload }, &counters);
            }
            inbound.tick(now, &counters);
            inbound.pull_original(now, block);
            while heard.try_pop().is_some() {}
        }
        if tick / 50 % 2 == 0 {
            let last = tick % 50 == 49;
            let samples = speakers[0].3;
            let frame = PlayoutFrame { utterance: u64::from(tick / 50), last, samples };
            assert!(ring.try_push(frame).is_ok());
        }
        let of = |id| speakers.iter().find(|speaker| speaker.0 == id);
        conference.hear(|id| of(id).map(|speaker| &speaker.1));
        for outbound in &listeners {
            let Tuned { programme, own, .. } = outbound.tuned().unwrap();
            conference.want(own, programme, outbound.has_originals(), true);
        }
        conference.make(|id| of(id).map(|speaker| &speaker.3), &counters);
        for outbound in &mut listeners {
            let original = |id| of(id).map(|speaker| &speaker.3);
            let tick = u64::from(tick);
            outbound.tick_tuned(tick, &conference, original, &counters, |_, _| Ok(())).unwrap();
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(counters.forwarded.get() > 1_000, "{}", counters.forwarded.get());
    assert!(counters.encodes.get() > 2_000, "{}", counters.encodes.get());
}

fn a_call(has_originals: bool) {
    const WARM_UP: u32 = 100;
    const TICKS: u32 = 600;
    let start = Instant::now();
    let counters = Counters::default();
    let (heard_writer, mut heard) = heard_ring(50);
    let (mut playout, playout_reader) = playout_ring(50);
    let mut inbound = Inbound::new(heard_writer).unwrap();
    let mut outbound = Outbound::new(playout_reader, has_originals).unwrap();
    outbound.set_route(PeerId(2), 0.3, true);

    let packets = speech(2 * TICKS);
    let mut original = [0.0; PLAYOUT_SAMPLES];
    let mut before = 0;
    let mut packets = (0u32..).zip(packets);
    for tick in 0..TICKS {
        if tick == WARM_UP {
            before = ALLOCATIONS.get();
        }
        let now = start + Duration::from_millis(20) * tick;
        // The sender's clock runs 5 % fast, and every 37th packet is lost: so sound is concealed
        // and left out all the time.
        let count = if tick % 20 == 0 { 2 } else { 1 };
        for (index, payload) in packets.by_ref().take(count) {
            if index % 37 != 36 {
                let timestamp = index * 960;
                let sequence = index as u16;
                let packet = RtpIn { arrived: now, sequence, timestamp, payload };
                inbound.packet(packet, &counters);
            }
        }
        outbound.mixer().set_voice_gain(if tick % 100 < 50 { 0.35 } else { 1.0 });
        inbound.tick(now, &counters);
        inbound.pull_original(now, &mut original);
        while heard.try_pop().is_some() {}
        // An utterance of a second, then a pause of one.
        if tick / 50 % 2 == 0 {
            let last = tick % 50 == 49;
            let frame = PlayoutFrame { utterance: u64::from(tick / 50), last, samples: original };
            assert!(playout.try_push(frame).is_ok());
        }
        let (packets, _) = outbound.tick(u64::from(tick), |_| Some(&original), &counters).unwrap();
        assert_eq!(packets.originals.is_some(), has_originals);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(counters.lost.get() > 10, "losses were concealed");
}
