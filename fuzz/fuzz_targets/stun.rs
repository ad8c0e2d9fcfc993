//! STUN and whose datagram it is: garbage finds nobody, and a peer keeps its address.

#![no_main]

use std::net::SocketAddr;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use media_server::media::PeerId;
use media_server::media::demux::Demux;
use media_server::transport::stun;

const UFRAGS: [&str; 2] = ["anna", "bert"];
/// A peer is known by no more addresses than this, whatever it sends.
const MOST_OWNED: usize = 2 * 16;

#[derive(Arbitrary, Debug)]
struct Step {
    port: u8,
    sent_by_us: bool,
    alive: bool,
    datagram: Datagram,
}

#[derive(Arbitrary, Debug)]
enum Datagram {
    Raw(Vec<u8>),
    /// A Binding message with these attributes, and perhaps a false length.
    Stun {
        success: bool,
        attributes: Vec<(u16, Vec<u8>)>,
        length_off_by: i8,
    },
    /// A request that names one of the two peers.
    Check {
        second: bool,
        sender: String,
    },
    Rtp,
}

impl Datagram {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes.clone(),
            Self::Stun { success, attributes, length_off_by } => {
                message(*success, attributes, *length_off_by)
            }
            Self::Check { second, sender } => {
                let name = format!("{}:{sender}", UFRAGS[usize::from(*second)]);
                message(false, &[(6, name.into_bytes())], 0)
            }
            Self::Rtp => vec![0x80; 12],
        }
    }
}

fn message(success: bool, attributes: &[(u16, Vec<u8>)], length_off_by: i8) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in attributes {
        body.extend(name.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = (body.len() as u16).wrapping_add_signed(i16::from(length_off_by));
    let mut bytes = vec![u8::from(success), 1];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x21, 0x12, 0xa4, 0x42]);
    bytes.extend([7; 12]);
    bytes.extend(body);
    bytes
}

fuzz_target!(|steps: Vec<Step>| {
    let mut demux = Demux::default();
    for (id, ufrag) in (1..).zip(UFRAGS) {
        demux.insert(PeerId(id), ufrag.to_owned());
    }
    for step in &steps {
        let bytes = step.datagram.bytes();
        let from = SocketAddr::from(([127, 0, 0, 1], 1_000 + u16::from(step.port)));
        let _ = (stun::is_nomination(&bytes), stun::is_success(&bytes));
        if step.sent_by_us {
            demux.sent(PeerId(1), from, &bytes);
            continue;
        }
        let named = stun::receiver_ufrag(&bytes).and_then(|ufrag| {
            UFRAGS.iter().position(|known| *known == ufrag).map(|at| PeerId(at as u64 + 1))
        });
        let found = demux.route(from, &bytes, |_| step.alive);
        if let Some(named) = named.filter(|_| stun::kind(&bytes) == stun::Kind::Stun) {
            assert_eq!(found, Some(named), "a check that names a peer goes to it");
        }
        assert!(found.is_none_or(|peer| [PeerId(1), PeerId(2)].contains(&peer)));
        if stun::kind(&bytes) == stun::Kind::Unknown {
            assert_eq!(found, None);
        }
    }
    let owned = (0..=u8::MAX)
        .filter(|port| {
            let from = SocketAddr::from(([127, 0, 0, 1], 1_000 + u16::from(*port)));
            demux.route(from, &[0x80; 12], |_| true).is_some()
        })
        .count();
    assert!(owned <= MOST_OWNED, "{owned} addresses are owned");
    demux.remove(PeerId(1));
    demux.remove(PeerId(2));
    assert_eq!(demux.route(([127, 0, 0, 1], 1_000).into(), &[0x80; 12], |_| true), None);
});
