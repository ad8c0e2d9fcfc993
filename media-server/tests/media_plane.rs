//! Calls over real UDP on loopback between the media plane and callers of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "the numbers are part of the result")]

mod caller;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use caller::house::{House, PATIENCE, loudest, read_frames, until};
use caller::{Heard, Offering, Style, amplitude_of, ice_lines, tone};
use media_server::media::frames::{PLAYOUT_SAMPLES, PlayoutFrame};
use media_server::media::{CloseReason, MediaConfig, MediaPlane, Notice, PeerId};
use media_server::transport::{IceFragment, IceUpdate, TransportError};
use ringbuf::traits::{Consumer as _, Producer as _};

#[test]
fn what_a_caller_says_arrives_in_its_heard_ring_with_its_timestamps() {
    let house = House::new(PATIENCE);
    let (caller, mut connected) = house.call(1, tone(440.0, 3.0, 0.5));
    let frames = read_frames(&mut connected.heard, 100);
    assert!(frames.windows(2).all(|pair| pair[1].rtp_time - pair[0].rtp_time == 960));
    let samples: Vec<f32> = frames[20..90].iter().flat_map(|frame| frame.samples).collect();
    let amplitude = amplitude_of(440.0, &samples, 16_000.0);
    assert!((amplitude - 0.5).abs() < 0.1, "amplitude {amplitude}");
    let stats = house.plane.stats();
    assert!(stats.packets_in >= 100 && stats.peers == 1, "{stats:?}");
    assert!(caller.connected_after().unwrap() < Duration::from_secs(5));
}

#[test]
fn what_is_put_into_the_playout_ring_is_heard_by_the_caller_at_the_time_that_is_told() {
    let house = House::new(PATIENCE);
    let (caller, mut connected) = house.call(1, Vec::new());
    until("silence", || caller.heard().len() > 10);
    let speech = tone(1_000.0, 1.0, 0.5);
    let pieces: Vec<&[f32]> = speech.chunks_exact(PLAYOUT_SAMPLES).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let frame = PlayoutFrame {
            utterance: 42,
            last: index + 1 == pieces.len(),
            samples: (*piece).try_into().unwrap(),
        };
        assert!(connected.playout.try_push(frame).is_ok());
    }
    let spoken = house.await_notice(|notice| matches!(notice, Notice::Spoken { .. }));
    let finished = house.await_notice(|notice| matches!(notice, Notice::Finished { .. }));
    let Notice::Spoken { utterance: 42, rtp_timestamp, sent, .. } = spoken else {
        panic!("{spoken:?}");
    };
    let Notice::Finished { sent: last_sent, .. } = finished else { panic!("{finished:?}") };
    let spread = last_sent - sent;
    assert!(spread > Duration::from_millis(900) && spread < Duration::from_millis(1_200));

    until("the tone", || loudest(1_000.0, &caller.heard()) > 0.4);
    let heard = caller.heard();
    let first = heard.iter().position(|packet| packet.timestamp == rtp_timestamp).unwrap();
    assert!(loudest(1_000.0, &heard[..first]) < 0.01, "nothing is heard before");
    let delay = heard[first].arrived.saturating_duration_since(sent);
    assert!(delay < Duration::from_millis(100), "{delay:?}");
    for pair in heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) % 960, 0);
    }
}

#[test]
fn two_callers_hear_each_other_at_the_level_of_their_routes() {
    let house = House::new(PATIENCE);
    let (anna, _anna_ends) = house.call(1, tone(500.0, 8.0, 0.5));
    let (bert, _bert_ends) = house.call(2, tone(1_300.0, 8.0, 0.5));
    house.plane.set_route(PeerId(1), PeerId(2), 1.0, false);
    house.plane.set_route(PeerId(2), PeerId(1), 0.2, true);
    house.plane.set_route(PeerId(1), PeerId(1), 1.0, false);
    until("Bert at Anna's", || loudest(1_300.0, &anna.heard()) > 0.4);
    until("Anna at Bert's", || loudest(500.0, &bert.heard()) > 0.08);
    let (at_anna, at_bert) = (anna.heard(), bert.heard());
    assert!(loudest(500.0, &at_anna) < 0.02, "nobody hears themselves");
    let ducked = loudest(500.0, &at_bert);
    assert!(ducked < 0.13, "{ducked}");
    house.plane.clear_route(PeerId(1), PeerId(2));
    std::thread::sleep(Duration::from_millis(400));
    let before = anna.heard().len();
    until("more packets", || anna.heard().len() > before + 20);
    assert!(loudest(1_300.0, &anna.heard()[before + 5..]) < 0.02);
}

/// What was heard on the track of that SSRC.
fn on_track(ssrc: u32, heard: &[Heard]) -> Vec<Heard> {
    heard.iter().filter(|packet| packet.ssrc == ssrc).cloned().collect()
}

/// SSRC of the section with that `mid`.
fn ssrc_of(mid: &str, answer: &str) -> u32 {
    let section = answer.split("m=audio").find(|part| part.contains(&format!("a=mid:{mid}\r\n")));
    let (_, rest) = section.unwrap().split_once("a=ssrc:").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_caller_with_two_sections_hears_the_interpretation_on_one_and_the_originals_on_the_other() {
    let house = House::new(PATIENCE);
    let style = Style { has_two_sections: true, ..Style::default() };
    let (anna, mut anna_ends) = house.call_in(style, 1, tone(500.0, 8.0, 0.5));
    let (bert, _bert_ends) = house.call(2, tone(1_300.0, 8.0, 0.5));
    let interpretation = ssrc_of(&anna_ends.track_mid, &anna_ends.answer_sdp);
    let originals = ssrc_of(anna_ends.originals_mid.as_ref().unwrap(), &anna_ends.answer_sdp);
    house.plane.set_route(PeerId(1), PeerId(2), 0.2, true);
    house.plane.set_route(PeerId(2), PeerId(1), 1.0, false);
    for (index, piece) in tone(2_000.0, 1.5, 0.5).chunks_exact(PLAYOUT_SAMPLES).enumerate() {
        let samples = piece.try_into().unwrap();
        let frame = PlayoutFrame { utterance: 1, last: index == 74, samples };
        assert!(anna_ends.playout.try_push(frame).is_ok());
    }
    let both = |hertz| {
        let heard = anna.heard();
        (
            loudest(hertz, &on_track(interpretation, &heard)),
            loudest(hertz, &on_track(originals, &heard)),
        )
    };
    until("the interpretation", || both(2_000.0).0 > 0.4);
    until("the original at full level under it", || both(1_300.0).1 > 0.4);
    assert!(both(1_300.0).0 < 0.02 && both(2_000.0).1 < 0.02, "each track has its own");
    assert!(both(500.0).0 < 0.02 && both(500.0).1 < 0.02, "nobody hears themselves");
    until("the speaker at the caller with two sections", || loudest(500.0, &bert.heard()) > 0.4);
    for ssrc in [interpretation, originals] {
        for pair in on_track(ssrc, &anna.heard()).windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        }
    }
}

#[test]
fn callers_connect_over_both_address_families_to_one_port() {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let house = House::at(IpAddr::V6(Ipv6Addr::UNSPECIFIED), vec![v6, v4], PATIENCE);
    let candidates = house.plane.candidates();
    assert_eq!(candidates.len(), 2);
    assert_eq!(candidates[0].port(), candidates[1].port());
    let (anna, _anna_ends) =
        house.call_in(Style { from: v6, ..Style::default() }, 1, tone(500.0, 8.0, 0.5));
    let (bert, _bert_ends) =
        house.call_in(Style { from: v4, ..Style::default() }, 2, tone(1_300.0, 8.0, 0.5));
    house.plane.set_route(PeerId(1), PeerId(2), 1.0, false);
    house.plane.set_route(PeerId(2), PeerId(1), 1.0, false);
    until("IPv4 at IPv6's", || loudest(1_300.0, &anna.heard()) > 0.4);
    until("IPv6 at IPv4's", || loudest(500.0, &bert.heard()) > 0.4);
}

#[test]
fn a_caller_whose_ice_is_lite_is_called_upon() {
    let house = House::new(PATIENCE);
    let style = Style { is_lite: true, ..Style::default() };
    let (_caller, mut ends) = house.call_in(style, 1, tone(440.0, 8.0, 0.5));
    let frames = read_frames(&mut ends.heard, 60);
    let samples: Vec<f32> = frames[20..60].iter().flat_map(|frame| frame.samples).collect();
    assert!(amplitude_of(440.0, &samples, 16_000.0) > 0.4);
}

#[test]
fn an_ice_restart_from_another_port_leaves_the_call_as_it_was() {
    let house = House::new(PATIENCE);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let update = |expected: Option<&str>, fragment: &str| {
        let fragment = IceFragment::read(fragment).unwrap();
        let expected = expected.map(str::to_owned);
        runtime.block_on(house.plane.update_ice(7, PeerId(1), expected, fragment))
    };
    let (anna, mut ends) = house.call(1, tone(440.0, 60.0, 0.5));
    let _ = read_frames(&mut ends.heard, 20);
    let mut tag = ends.ice_ufrag.clone();
    // More often than a peer may have addresses.
    for round in 0..20 {
        let before = anna.heard();
        let asked = Instant::now();
        let fragment = anna.order(|call| call.restart_ice());
        let stale = update(Some("of yore"), &fragment);
        assert!(matches!(stale, Err(TransportError::StaleIce)), "{stale:?}");
        let Ok(IceUpdate::Restarted { fragment: answer, ice_ufrag }) =
            update(Some(&tag), &fragment)
        else {
            panic!("no restart in round {round}")
        };
        assert_ne!(ice_ufrag, tag);
        assert!(ice_lines(&answer).iter().any(|line| line.starts_with("a=candidate:")), "{answer}");
        tag = ice_ufrag;
        let for_call = answer.clone();
        anna.order(move |call| call.restarted(&for_call));
        until("packets by the new path", || anna.heard().len() > before.len() + 10);
        let gap = anna.heard()[before.len()].arrived - asked;
        let (last, next) = (before.last().unwrap(), anna.heard()[before.len()].clone());
        assert_eq!(next.ssrc, last.ssrc);
        let left_out = next.sequence.wrapping_sub(last.sequence);
        let time = next.timestamp.wrapping_sub(last.timestamp);
        assert_eq!(time, u32::from(left_out) * 960, "the track goes on as if nothing had been");
        if round % 5 == 0 {
            println!("restart {round}: {left_out} packets lost, {gap:?} until the next");
        }
    }
    while ends.heard.try_pop().is_some() {}
    let frames = read_frames(&mut ends.heard, 30);
    let samples: Vec<f32> = frames[5..30].iter().flat_map(|frame| frame.samples).collect();
    assert!(amplitude_of(440.0, &samples, 16_000.0) > 0.4, "the microphone goes on");
    let trickled = update(Some(&tag), "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n").unwrap();
    assert_eq!(trickled, IceUpdate::Trickled);
    assert!(house.notices.try_iter().next().is_none(), "nobody was told of any of it");
    let gone = runtime.block_on(house.plane.update_ice(
        7,
        PeerId(99),
        None,
        IceFragment::read("a=mid:0\r\n").unwrap(),
    ));
    assert!(matches!(gone, Err(TransportError::NoSuchPeer)));
}

#[test]
fn garbage_on_the_port_is_counted_and_changes_nothing() {
    let house = House::new(PATIENCE);
    let (_caller, mut connected) = house.call(1, tone(440.0, 5.0, 0.5));
    let port = house.plane.candidates()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0u64;
    for first in 0..=255u8 {
        for length in [1usize, 12, 20, 60, 1_400] {
            let mut datagram: Vec<u8> =
                (0..length).map(|n| (n as u8).wrapping_mul(31) ^ first).collect();
            datagram[0] = first;
            socket.send_to(&datagram, port).unwrap();
            sent += 1;
        }
        if first % 16 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    until("the garbage count", || house.plane.stats().garbage >= sent * 9 / 10);
    let _ = read_frames(&mut connected.heard, 1);
    let frames = read_frames(&mut connected.heard, 20);
    let samples: Vec<f32> = frames[5..20].iter().flat_map(|frame| frame.samples).collect();
    assert!(amplitude_of(440.0, &samples, 16_000.0) > 0.4);
    assert_eq!(house.plane.stats().peers_failed, 0);
}

#[test]
fn offers_that_cannot_be_answered_get_their_error_and_no_peer() {
    let house = House::new(PATIENCE);
    let refuse = |offer: &str| house.plane.connect(House::request(1, offer)).err().unwrap();
    assert!(matches!(refuse("hello"), TransportError::BadSdp(_)));
    assert!(matches!(refuse(""), TransportError::BadSdp(_)));
    let offer = Offering::new().offer;
    let without_opus = offer.replace("opus/48000/2", "speex/8000");
    assert!(matches!(refuse(&without_opus), TransportError::Unacceptable(_)));
    let without_audio = offer.replace("m=audio", "m=video");
    assert!(matches!(refuse(&without_audio), TransportError::Unacceptable(_)));
    assert_eq!(house.plane.stats().peers, 0);
}

#[test]
fn a_requested_end_says_goodbye_to_the_caller() {
    let house = House::new(PATIENCE);
    let (caller, _ends) = house.call(1, Vec::new());
    house.plane.disconnect(PeerId(1));
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(matches!(closed, Notice::PeerClosed { reason: CloseReason::Requested, .. }));
    until("the goodbye", || caller.is_closed());
    assert_eq!(house.plane.stats().peers, 0);
}

#[test]
fn a_caller_that_vanishes_is_noticed_after_the_timeout() {
    let house = House::new(Duration::from_secs(1));
    let (caller, _ends) = house.call(1, Vec::new());
    let vanished = Instant::now();
    drop(caller);
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(matches!(closed, Notice::PeerClosed { reason: CloseReason::ConnectionLost, .. }));
    let after = vanished.elapsed();
    assert!(after > Duration::from_millis(900) && after < Duration::from_secs(5), "{after:?}");
}

#[test]
fn a_peer_that_never_connects_is_given_up() {
    let house = House::new(Duration::from_millis(300));
    let offer = Offering::new().offer;
    house.plane.connect(House::request(1, &offer)).unwrap();
    let closed = house.await_notice(|notice| matches!(notice, Notice::PeerClosed { .. }));
    assert!(matches!(closed, Notice::PeerClosed { reason: CloseReason::ConnectionLost, .. }));
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = MediaConfig {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: taken.local_addr().unwrap().port(),
        announce: Vec::new(),
        workers: 1,
        peer_timeout: PATIENCE,
        real_time: false,
    };
    let (sender, _notices) = crossbeam_channel::bounded(1);
    let error = MediaPlane::start(config, sender).err().unwrap();
    assert!(matches!(error, TransportError::Bind { .. }));
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()));
}
