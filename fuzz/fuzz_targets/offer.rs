//! SDP offers: refused for a reason, or answered section by section.

#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dragoman_fuzz::bounded;
use libfuzzer_sys::{Corpus, fuzz_target};
use media_server::transport::{Flow, PeerConnection};

/// What the HTTP face lets through.
const MOST_BYTES: usize = 64 * 1024;
const CONSENT: Duration = Duration::from_secs(15);
/// A peer connection and some copies of the offer.
const MOST_MEMORY: usize = 16 << 20;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(offer) = std::str::from_utf8(data) else { return Corpus::Reject };
    if offer.len() > MOST_BYTES {
        return Corpus::Reject;
    }
    let candidates: [SocketAddr; 1] = [([127, 0, 0, 1], 7_000).into()];
    let wanted = Flow { speak: true, listen: true };
    let accepted = bounded(MOST_MEMORY, || {
        PeerConnection::accept(Instant::now(), offer, wanted, &candidates, CONSENT)
    });
    match accepted {
        Ok((_, answer)) => {
            let sections = |sdp: &str| {
                sdp.lines()
                    .filter(|line| line.starts_with("m="))
                    .map(|line| line.split([' ', '=']).nth(1).unwrap_or_default().to_owned())
                    .collect::<Vec<_>>()
            };
            // As many sections of the same kinds in the same order (RFC 3264 section 6).
            assert_eq!(sections(&answer.sdp), sections(offer), "{}", answer.sdp);
            assert!(answer.sdp.contains(&format!("a=ice-ufrag:{}", answer.ice_ufrag)));
            assert!(answer.sdp.contains("a=fingerprint:sha-256 "));
            assert!(answer.sdp.len() < 2 * offer.len() + 4_096);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
});
