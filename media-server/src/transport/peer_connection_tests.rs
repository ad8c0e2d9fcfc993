//! Answers as the peer sees them, and connections that nobody treats well.

use super::*;
use crate::transport::sdp::tests::{AIORTC, CHROMIUM};

const CONSENT: Duration = Duration::from_secs(15);

fn accept(offer: &str, speak: bool, listen: bool) -> Answer {
    let candidates = ["192.0.2.1:7000".parse().unwrap(), "127.0.0.1:7000".parse().unwrap()];
    let wanted = Flow { speak, listen };
    PeerConnection::accept(Instant::now(), offer, wanted, &candidates, CONSENT).unwrap().1
}

#[test]
fn a_chromium_offer_gets_audio_answered_and_the_rest_rejected() {
    let answer = accept(CHROMIUM, true, true);
    let lines: Vec<&str> = answer.sdp.lines().collect();
    let count = |wanted: &str| lines.iter().filter(|line| **line == wanted).count();
    assert_eq!(count("m=audio 9 UDP/TLS/RTP/SAVPF 111"), 1);
    assert_eq!(count("m=video 0 UDP/TLS/RTP/SAVPF 96 97"), 1);
    assert_eq!(count("a=group:BUNDLE 1"), 1);
    assert_eq!(count("a=setup:active"), 1);
    assert_eq!(count("a=sendrecv"), 1);
    assert_eq!(count("a=rtcp-mux"), 1);
    assert_eq!(count("a=fmtp:111 minptime=10;useinbandfec=1"), 1);
    assert_eq!(lines.iter().filter(|line| line.starts_with("a=candidate:")).count(), 2);
    assert!(answer.sdp.contains(&format!("a=ice-ufrag:{}\r\n", answer.ice_ufrag)));
    assert_eq!(answer.mid, "1");
}

#[test]
fn the_answer_goes_only_the_ways_that_are_wanted() {
    assert!(accept(AIORTC, true, false).sdp.contains("a=recvonly\r\n"));
    assert!(accept(AIORTC, false, true).sdp.contains("a=sendonly\r\n"));
    let listener = AIORTC.replace("a=sendrecv", "a=recvonly");
    assert!(accept(&listener, true, true).sdp.contains("a=sendonly\r\n"));
    let speaker = AIORTC.replace("a=sendrecv", "a=sendonly");
    assert!(accept(&speaker, true, true).sdp.contains("a=recvonly\r\n"));
}

#[test]
fn a_peer_that_insists_on_starting_dtls_may() {
    let active = AIORTC.replace("a=setup:actpass", "a=setup:active");
    assert!(accept(&active, true, true).sdp.contains("a=setup:passive\r\n"));
}

#[test]
fn a_connection_survives_any_datagram() {
    let now = Instant::now();
    let base: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    let wanted = Flow { speak: true, listen: true };
    let (mut connection, _) =
        PeerConnection::accept(now, AIORTC, wanted, &[base], CONSENT).unwrap();
    for first in 0..=255u8 {
        for length in [0usize, 1, 2, 13, 20, 60, 1_500] {
            let datagram: Vec<u8> =
                (0..length).map(|n| first.wrapping_add((n * 7) as u8 * u8::from(n > 0))).collect();
            connection.handle_datagram(now, base, &datagram);
            while let Some(output) = connection.poll() {
                assert!(matches!(output, Output::Transmit { .. }), "{output:?}");
            }
        }
    }
    assert!(!connection.is_connected());
}

#[test]
fn streams_beyond_the_few_that_a_peer_may_have_never_reach_the_stack() {
    let now = Instant::now();
    let base: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    let wanted = Flow { speak: true, listen: true };
    let (mut connection, _) =
        PeerConnection::accept(now, AIORTC, wanted, &[base], CONSENT).unwrap();
    let mut rtp = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    let mut report = [0x80, 200, 0, 6, 0, 0, 0, 0];
    for n in 0..100u8 {
        rtp[11] = n;
        report[7] = n;
        let is_few = usize::from(n) < MAX_STREAMS;
        assert_eq!(connection.is_known_stream(&rtp), is_few);
        assert_eq!(connection.is_known_stream(&report), is_few);
    }
    rtp[11] = 0;
    assert!(connection.is_known_stream(&rtp), "the first go on");
    assert!(!connection.is_known_stream(&rtp[..11]));
}
