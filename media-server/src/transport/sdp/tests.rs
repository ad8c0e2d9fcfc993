//! Offers as different stacks write them, and offers that nobody should write.

use proptest::prelude::*;

use super::*;

#[path = "variant_tests.rs"]
mod variants;

const BOTH: Flow = Flow { speak: true, listen: true };

/// The shape that aiortc writes: no fmtp, payload type 96, several hashes, other codecs.
pub(in crate::transport) const AIORTC: &str = "v=0\r\no=- 3 3 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0\r\na=msid-semantic:WMS *\r\n\
    m=audio 41000 UDP/TLS/RTP/SAVPF 96 9 0 8\r\nc=IN IP4 192.0.2.2\r\na=sendrecv\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=mid:0\r\na=msid:s t\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=ssrc:123 cname:x\r\n\
    a=rtpmap:96 opus/48000/2\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=candidate:f 1 udp 2130706431 192.0.2.2 41000 typ host\r\na=end-of-candidates\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
    a=fingerprint:sha-512 00:11\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n";

/// The shape that Chromium writes: many codecs, extensions, video and a data channel beside.
pub(in crate::transport) const CHROMIUM: &str = "v=0\r\no=- 46117 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0 1 2\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS stream\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Rz2x\r\na=ice-pwd:6Tj7oDqGDb5cQAyD0Vq8r6Ss\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:Rz2x\r\na=ice-pwd:6Tj7oDqGDb5cQAyD0Vq8r6Ss\r\n\
    a=ice-options:trickle\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:1\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\n\
    a=msid:stream track\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:111 opus/48000/2\r\n\
    a=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\n\
    a=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
    a=candidate:1 1 udp 2113937151 9f-1.local 50000 typ host generation 0\r\n\
    a=candidate:2 1 tcp 1518280447 192.0.2.2 9 typ host tcptype active\r\n\
    a=candidate:3 1 udp 1677729535 198.51.100.7 50001 typ srflx raddr 0.0.0.0 rport 0\r\n\
    a=ssrc:3735 cname:c\r\na=ssrc:3735 msid:stream track\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Rz2x\r\na=ice-pwd:6Tj7oDqGDb5cQAyD0Vq8r6Ss\r\na=fingerprint:sha-256 AA:BB\r\n\
    a=setup:actpass\r\na=mid:2\r\na=sctp-port:5000\r\n";

fn seen_by_stack(offer: &Offer) -> String {
    offer.for_stack(&offer.credentials, &offer.candidates)
}

fn why_unacceptable(offer: &str) -> String {
    match Offer::read(offer, BOTH) {
        Err(TransportError::Unacceptable(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn opus_is_taken_by_the_payload_type_that_the_offer_gave_it() {
    let aiortc = Offer::read(AIORTC, BOTH).unwrap();
    assert_eq!((aiortc.payload_type, aiortc.first_mid(), aiortc.flow), (96, "0", BOTH));
    let chromium = Offer::read(CHROMIUM, BOTH).unwrap();
    assert_eq!((chromium.payload_type, chromium.first_mid()), (111, "1"));
}

#[test]
fn the_stack_sees_one_audio_section_one_codec_one_hash_and_reachable_candidates() {
    let trimmed = seen_by_stack(&Offer::read(CHROMIUM, BOTH).unwrap());
    assert_eq!(trimmed.matches("m=").count(), 1);
    assert_eq!(trimmed.matches("a=rtpmap:").count(), 1);
    assert_eq!(trimmed.matches("a=candidate:").count(), 1);
    assert!(trimmed.contains("a=candidate:3 1 udp 1677729535 198.51.100.7 50001 typ srflx"));
    assert!(!trimmed.contains("a=ssrc"));
    let trimmed = seen_by_stack(&Offer::read(AIORTC, BOTH).unwrap());
    assert!(trimmed.contains("a=fingerprint:sha-256 AA:BB") && !trimmed.contains("sha-512"));
}

#[test]
fn transport_attributes_may_stand_in_the_session_or_in_a_bundled_section() {
    let attributes = ["a=ice-ufrag:abcd\r\n", "a=ice-pwd:0123456789012345678901\r\n"];
    let mut offer = AIORTC.to_owned();
    for attribute in attributes {
        offer = offer.replace(attribute, "");
    }
    assert!(why_unacceptable(&offer).contains("ice-ufrag"));
    let in_session = offer.replace("m=audio", &format!("{}m=audio", attributes.concat()));
    assert!(Offer::read(&in_session, BOTH).is_ok());
    let in_other = format!("{offer}m=video 9 UDP/TLS/RTP/SAVPF 97\r\n{}", attributes.concat());
    assert!(Offer::read(&in_other, BOTH).is_ok());
}

#[test]
fn what_is_no_sdp_is_bad_sdp() {
    let texts = ["", " \r\n", "hello", "{\"type\":\"offer\"}", "v=1\r\n", "v=0\r\nnonsense\r\n"];
    for text in texts {
        assert!(matches!(Offer::read(text, BOTH), Err(TransportError::BadSdp(_))), "{text:?}");
    }
}

#[test]
fn what_cannot_be_answered_is_refused_with_the_reason() {
    let cases = [
        ("m=audio", "m=video", "no audio section"),
        ("opus/48000/2", "speex/16000", "Opus"),
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("a=ice-pwd:0123456789012345678901", "a=ice-pwd:short", "ice-pwd"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:a b:cd", "ice-ufrag"),
        ("a=ice-pwd:0123456789012345678901\r\n", "", "ice-pwd"),
        ("a=mid:0\r\n", "", "a=mid"),
        ("a=mid:0\r\n", "a=mid:\r\n", "a=mid"),
        ("a=sendrecv", "a=inactive", "direction"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "DTLS-SRTP"),
        ("a=fingerprint:sha-256 AA:BB\r\n", "", "SHA-256"),
        ("m=audio 41000", "m=audio 0", "no audio section"),
    ];
    for (from, to, reason) in cases {
        let why = why_unacceptable(&AIORTC.replace(from, to));
        assert!(why.contains(reason), "{from:?} to {to:?} gave {why:?}");
    }
    let without_hash = AIORTC
        .replace("a=fingerprint:sha-256 AA:BB\r\n", "")
        .replace("a=fingerprint:sha-512 00:11\r\n", "");
    assert!(why_unacceptable(&without_hash).contains("fingerprint"));
    assert!(why_unacceptable("v=0\r\ns=-\r\n").contains("no audio section"));
}

#[test]
fn the_flow_is_what_is_offered_and_wanted() {
    let flow = |direction: &str, wanted| {
        let offer = AIORTC.replace("a=sendrecv", direction);
        Offer::read(&offer, wanted).map(|offer| offer.flow)
    };
    let speaks = Flow { speak: true, listen: false };
    let listens = Flow { speak: false, listen: true };
    assert_eq!(flow("a=sendonly", BOTH).unwrap(), speaks);
    assert_eq!(flow("a=recvonly", BOTH).unwrap(), listens);
    assert_eq!(flow("a=x", BOTH).unwrap(), BOTH);
    assert_eq!(flow("a=sendrecv", listens).unwrap(), listens);
    assert!(flow("a=sendonly", listens).is_err());
}

#[test]
fn rejected_sections_come_back_in_order_with_port_zero() {
    let offer = Offer::read(CHROMIUM, BOTH).unwrap();
    let candidates = ["192.0.2.2:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()];
    let answer = offer.answer(&local(), &candidates, [7, 8]);
    let media: Vec<&str> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        media,
        [
            "m=video 0 UDP/TLS/RTP/SAVPF 96 97",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
    assert!(answer.contains("a=group:BUNDLE 1\r\n"));
    assert!(answer.contains("a=fmtp:111 minptime=10;useinbandfec=1\r\n"));
    assert!(answer.contains("a=candidate:1 1 udp 2130706431 192.0.2.2 7000 typ host\r\n"));
    assert!(answer.contains("a=candidate:2 1 udp 2130706175 2001:db8::1 7000 typ host\r\n"));
    assert!(answer.contains("a=ssrc:7 cname:dragoman\r\n") && !answer.contains("a=ssrc:8"));
    assert!(answer.lines().all(|line| line.as_bytes()[1] == b'='));
}

fn local() -> Local {
    let stack_answer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 1\r\n\
        a=fingerprint:sha-256 CC:DD\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n\
        a=setup:active\r\na=ice-ufrag:ours\r\na=ice-pwd:ourpassword\r\n";
    Local::read(stack_answer).unwrap()
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(v=0\r\n)?([a-z]?=?[ -~]{0,30}\r?\n?){0,20}") {
        let _ = Offer::read(&text, BOTH);
    }

    #[test]
    fn no_fragment_makes_it_panic(text in "(a=(ice-ufrag|ice-pwd|candidate|mid):[ -~]{0,40}\r?\n|[ -~]{0,9}\n){0,9}") {
        let _ = IceFragment::read(&text);
    }

    #[test]
    fn no_offer_with_a_broken_line_makes_it_panic(
        at in 0usize..60,
        replacement in "[ -~]{0,40}",
        chromium in any::<bool>(),
    ) {
        let offer = if chromium { CHROMIUM } else { AIORTC };
        let mut lines: Vec<&str> = offer.lines().collect();
        let at = at.min(lines.len() - 1);
        lines[at] = &replacement;
        if let Ok(offer) = Offer::read(&lines.join("\r\n"), BOTH) {
            let trimmed_is_ours = seen_by_stack(&offer).starts_with("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n");
            prop_assert!(trimmed_is_ours);
        }
    }
}
