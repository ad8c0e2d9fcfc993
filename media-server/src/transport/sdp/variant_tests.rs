//! The variants of offers that are met in the field, and what each is answered with.

use super::*;

/// An audio section as browsers write it.
fn audio(mid: &str, payload_type: u8, direction: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF {payload_type} 0\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:Rz2x\r\na=ice-pwd:6Tj7oDqGDb5cQAyD0Vq8r6Ss\r\na=fingerprint:sha-256 AA:BB\r\n\
         a=setup:actpass\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\n\
         a=rtpmap:{payload_type} opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 100\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\n\
    a=sendrecv\r\na=rtcp-mux\r\na=rtpmap:100 VP8/90000\r\n";

fn offer(group: &str, sections: &[&str]) -> String {
    let sections = sections.concat();
    format!("v=0\r\no=- 46117 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{group}{sections}")
}

fn answer(offer: &str, wanted: Flow) -> String {
    let candidates = ["192.0.2.2:7000".parse().unwrap()];
    Offer::read(offer, wanted).unwrap().answer(&local(), &candidates, [11, 12])
}

/// Each section of an answer: port, mid, direction, and the SSRC of its track.
fn sections(answer: &str) -> Vec<(String, String, String, String)> {
    answer
        .split("\r\nm=")
        .skip(1)
        .map(|section| {
            let after = |prefix: &str| {
                section.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or("").to_owned()
            };
            let port = section.split(' ').nth(1).unwrap().to_owned();
            let direction = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"]
                .into_iter()
                .filter(|direction| section.lines().any(|line| line == *direction))
                .collect::<Vec<_>>()
                .join(" ");
            let ssrc = after("a=ssrc:").split(' ').next().unwrap().to_owned();
            (port, after("a=mid:"), direction.replace("a=", ""), ssrc)
        })
        .collect()
}

fn section(port: &str, mid: &str, direction: &str, ssrc: &str) -> (String, String, String, String) {
    (port.to_owned(), mid.to_owned(), direction.to_owned(), ssrc.to_owned())
}

#[test]
fn two_receiving_sections_get_the_interpretation_and_the_originals() {
    let both = audio("0", 111, "sendrecv") + &audio("1", 111, "recvonly");
    let text = answer(&offer("a=group:BUNDLE 0 1\r\n", &[&both]), BOTH);
    assert_eq!(
        sections(&text),
        [section("9", "0", "sendrecv", "11"), section("9", "1", "sendonly", "12")]
    );
    assert!(text.contains("a=group:BUNDLE 0 1\r\n"));
    assert!(text.contains("a=msid:dragoman interpretation\r\n"));
    assert!(text.contains("a=msid:dragoman originals\r\n"));
    assert_eq!(text.matches("a=candidate:").count(), 1, "in the first section of the bundle");
}

#[test]
fn the_interpretation_stays_with_the_microphone_wherever_that_stands() {
    let both = audio("a", 96, "recvonly") + &audio("b", 96, "sendrecv");
    let text = answer(&offer("a=group:BUNDLE a b\r\n", &[VIDEO, &both]), BOTH);
    assert_eq!(
        sections(&text),
        [
            section("0", "v", "inactive", ""),
            section("9", "a", "sendonly", "12"),
            section("9", "b", "sendrecv", "11"),
        ]
    );
}

#[test]
fn of_three_sections_one_may_be_the_microphone_alone() {
    let three = audio("0", 111, "sendonly")
        + &audio("1", 111, "recvonly")
        + &audio("2", 111, "recvonly")
        + &audio("3", 111, "recvonly");
    let text = answer(&offer("a=group:BUNDLE 0 1 2 3\r\n", &[&three]), BOTH);
    assert_eq!(
        sections(&text),
        [
            section("9", "0", "recvonly", ""),
            section("9", "1", "sendonly", "11"),
            section("9", "2", "sendonly", "12"),
            section("0", "3", "inactive", ""),
        ]
    );
    assert!(text.contains("a=group:BUNDLE 0 1 2\r\n"));
}

#[test]
fn a_second_sending_section_is_answered_as_a_receiving_one() {
    let both = audio("0", 111, "sendrecv") + &audio("1", 111, "sendrecv");
    let text = answer(&offer("a=group:BUNDLE 0 1\r\n", &[&both]), BOTH);
    assert_eq!(
        sections(&text),
        [section("9", "0", "sendrecv", "11"), section("9", "1", "sendonly", "12")]
    );
    let listener = Flow { speak: false, listen: true };
    let text = answer(&offer("a=group:BUNDLE 0 1\r\n", &[&both]), listener);
    assert_eq!(
        sections(&text),
        [section("9", "0", "sendonly", "11"), section("9", "1", "sendonly", "12")]
    );
    let speaker = Flow { speak: true, listen: false };
    let text = answer(&offer("a=group:BUNDLE 0 1\r\n", &[&both]), speaker);
    assert_eq!(
        sections(&text),
        [section("9", "0", "recvonly", ""), section("0", "1", "inactive", "")]
    );
}

#[test]
fn without_a_common_bundle_or_payload_type_a_second_section_is_rejected() {
    let rejected = [section("9", "0", "sendrecv", "11"), section("0", "1", "inactive", "")];
    let both = audio("0", 111, "sendrecv") + &audio("1", 111, "recvonly");
    for group in ["", "a=group:BUNDLE 0\r\n", "a=group:BUNDLE 0\r\na=group:BUNDLE 1\r\n"] {
        let text = answer(&offer(group, &[&both]), BOTH);
        assert_eq!(sections(&text), rejected, "{group:?}");
        assert_eq!(text.contains("a=group:BUNDLE 0\r\n"), !group.is_empty());
    }
    let both = audio("0", 111, "sendrecv") + &audio("1", 96, "recvonly");
    assert_eq!(sections(&answer(&offer("a=group:BUNDLE 0 1\r\n", &[&both]), BOTH)), rejected);
}

#[test]
fn a_microphone_whose_receiving_section_is_apart_is_refused_with_the_cure() {
    let apart = audio("0", 111, "sendonly") + &audio("1", 111, "recvonly");
    let why = why_unacceptable(&offer("", &[&apart]));
    assert!(why.contains("bundle policy max-bundle"), "{why}");
}

#[test]
fn one_section_needs_no_bundle_and_its_answer_names_none() {
    let text = answer(&offer("", &[VIDEO, &audio("0", 96, "sendrecv")]), BOTH);
    assert_eq!(
        sections(&text),
        [section("0", "v", "inactive", ""), section("9", "0", "sendrecv", "11")]
    );
    assert!(!text.contains("BUNDLE"));
}

#[test]
fn a_bundle_only_section_is_alive_although_its_port_is_zero() {
    let bundle_only = audio("0", 111, "sendrecv")
        .replace("m=audio 9", "m=audio 0")
        .replace("a=mid:0\r\n", "a=mid:0\r\na=bundle-only\r\n");
    let offer = offer("a=group:BUNDLE v 0\r\n", &[VIDEO, &bundle_only]);
    assert_eq!(sections(&answer(&offer, BOTH))[1], section("9", "0", "sendrecv", "11"));
}

#[test]
fn opus_may_have_any_dynamic_payload_type_and_any_or_no_parameters() {
    for payload_type in [35, 96, 100, 109, 111, 127] {
        let plain = audio("0", payload_type, "sendrecv");
        for parameters in [
            String::new(),
            format!("a=fmtp:{payload_type} minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1\r\n"),
            format!("a=fmtp:{payload_type} maxplaybackrate=48000; usedtx=1\r\n"),
        ] {
            let text = answer(&offer("a=group:BUNDLE 0\r\n", &[&plain, &parameters]), BOTH);
            assert!(text.contains(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}\r\n")));
            // One channel is what is coded, and FEC is asked for, whatever was offered.
            let ours = format!("a=fmtp:{payload_type} minptime=10;useinbandfec=1\r\n");
            assert!(text.contains(&ours) && !text.contains("stereo"), "{text}");
        }
    }
}

#[test]
fn who_starts_dtls_is_read_wherever_it_stands() {
    let setup_of = |text: &str| Offer::read(text, BOTH).unwrap().setup;
    let plain = offer("a=group:BUNDLE 0\r\n", &[&audio("0", 111, "sendrecv")]);
    assert_eq!(setup_of(&plain), Setup::ActPass);
    assert_eq!(setup_of(&plain.replace("a=setup:actpass", "a=setup:active")), Setup::Active);
    assert_eq!(setup_of(&plain.replace("a=setup:actpass", "a=setup:passive")), Setup::Passive);
    let in_session = plain
        .replace("a=setup:actpass\r\n", "")
        .replace("t=0 0\r\n", "t=0 0\r\na=setup:passive\r\n");
    assert_eq!(setup_of(&in_session), Setup::Passive);
}

#[test]
fn candidates_are_taken_where_they_are_of_use_and_not_needed_at_all() {
    let plain = offer("a=group:BUNDLE 0\r\n", &[&audio("0", 111, "sendrecv")]);
    assert!(Offer::read(&plain, BOTH).unwrap().candidates.is_empty());
    let lines = "a=candidate:1 1 udp 2113937151 9f-1.local 50000 typ host generation 0\r\n\
        a=candidate:2 1 tcp 1518280447 192.0.2.2 9 typ host tcptype active\r\n\
        a=candidate:3 2 udp 2113937151 192.0.2.2 50001 typ host\r\n\
        a=candidate:4 1 udp 2113937151 0.0.0.0 50001 typ host\r\n\
        a=candidate:5 1 udp 2113937151 192.0.2.2\r\n\
        a=candidate:6 1 UDP 2113937151 2001:db8::7 50002 typ host generation 0 ufrag Rz2x\r\n";
    let with = plain.clone() + lines;
    assert_eq!(
        Offer::read(&with, BOTH).unwrap().candidates,
        ["candidate:6 1 udp 2113937151 2001:db8::7 50002 typ host"]
    );
    let many: String =
        (0..100).map(|n| format!("a=candidate:1 1 udp 1 192.0.2.{n} 5000 typ host\r\n")).collect();
    assert_eq!(Offer::read(&(plain + &many), BOTH).unwrap().candidates.len(), 16);
}

#[test]
fn lines_may_end_with_lf_alone_and_an_ice_lite_peer_is_told_to_the_stack() {
    let plain = offer("a=group:BUNDLE 0\r\n", &[&audio("0", 111, "sendrecv")]);
    let read = |text: &str| seen_by_stack(&Offer::read(text, BOTH).unwrap());
    assert_eq!(read(&plain), read(&plain.replace("\r\n", "\n")));
    assert!(!read(&plain).contains("a=ice-lite\r\n"));
    let lite = plain.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n");
    assert!(read(&lite).contains("a=ice-lite\r\n"));
}

#[test]
fn a_fragment_tells_candidates_or_new_credentials() {
    let restart = "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:ysXw\r\n\
        a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=candidate:3471623853 1 udp 2122194687 2001:db8::1 61765 typ host\r\n\
        a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
        a=end-of-candidates\r\n";
    let fragment = IceFragment::read(restart).unwrap();
    assert_eq!(fragment.credentials.unwrap().ufrag, "ysXw");
    assert_eq!(fragment.candidates.len(), 2);
    let trickled = "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\n\
        a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\n";
    let fragment = IceFragment::read(trickled).unwrap();
    assert_eq!((fragment.credentials, fragment.candidates.len()), (None, 1));
    for (broken, reason) in [
        ("a=ice-ufrag:ysXw\r\n", "together"),
        ("a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n", "together"),
        ("a=ice-ufrag:y\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n", "ice-ufrag"),
        ("a=ice-ufrag:ysXw\r\na=ice-pwd:short\r\n", "ice-pwd"),
        ("nonsense", "no line of SDP"),
    ] {
        let Err(TransportError::BadFragment(why)) = IceFragment::read(broken) else {
            panic!("{broken:?} was taken")
        };
        assert!(why.contains(reason), "{why}");
    }
}

#[test]
fn the_answer_to_a_restart_names_what_is_new() {
    let both = audio("0", 111, "sendrecv") + &audio("1", 111, "recvonly");
    let offer = Offer::read(&offer("a=group:BUNDLE 0 1\r\n", &[&both]), BOTH).unwrap();
    let candidates = ["192.0.2.2:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()];
    let fragment = offer.answer_fragment(&local().credentials, &candidates);
    assert_eq!(
        fragment,
        "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
         a=ice-ufrag:ours\r\na=ice-pwd:ourpassword\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.2 7000 typ host\r\n\
         a=candidate:2 1 udp 2130706175 2001:db8::1 7000 typ host\r\n\
         a=end-of-candidates\r\n"
    );
}
