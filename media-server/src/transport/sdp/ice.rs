//! What offers, answers and fragments (RFC 8840) say about ICE: credentials and candidates.

use std::net::{IpAddr, SocketAddr};

use super::super::TransportError;
use super::description::{Description, lines};

/// Most remote candidates that are passed on: each costs connectivity checks.
const MAX_CANDIDATES: usize = 16;

/// The user fragment and the password of one side (RFC 8839 section 5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::transport) struct Credentials {
    pub(in crate::transport) ufrag: String,
    pub(in crate::transport) password: String,
}

impl Credentials {
    /// Checks what a peer wrote.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn checked(ufrag: &str, password: &str) -> Result<Self, &'static str> {
        let is_fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !(4..=256).contains(&ufrag.len()) || !is_fit(ufrag) || ufrag.contains(':') {
            return Err("its ice-ufrag is not 4 to 256 characters without colons and blanks");
        }
        if !(22..=256).contains(&password.len()) || !is_fit(password) {
            return Err("its ice-pwd is not 22 to 256 characters without blanks");
        }
        Ok(Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }
}

/// What a peer says about its side of ICE after the offer (RFC 8840 section 9, RFC 9725 section
/// 4.3): more candidates, or new credentials, which ask for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceFragment {
    pub(in crate::transport) credentials: Option<Credentials>,
    pub(in crate::transport) candidates: Vec<String>,
}

impl IceFragment {
    /// Reads the body of an `application/trickle-ice-sdpfrag`.
    ///
    /// # Errors
    /// [`TransportError::BadFragment`] says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, TransportError> {
        let bad = |why: &str| TransportError::BadFragment(why.to_owned());
        let description = Description::split(lines(text)).map_err(|error| match error {
            TransportError::BadSdp(why) => TransportError::BadFragment(why),
            other => other,
        })?;
        let of = |name| description.attribute(name);
        let credentials = match (of("ice-ufrag"), of("ice-pwd")) {
            (Some(ufrag), Some(password)) => {
                Some(Credentials::checked(ufrag, password).map_err(bad)?)
            }
            (None, None) => None,
            _ => return Err(bad("ice-ufrag and ice-pwd come together or not at all")),
        };
        let everywhere = description.sections.iter().flat_map(|section| &section.lines);
        let candidates = usable_candidates(description.session.iter().chain(everywhere).copied());
        Ok(Self { credentials, candidates })
    }
}

/// The remote candidates among the lines that our socket can reach, as the stack gets them; at
/// most [`MAX_CANDIDATES`].
pub(super) fn usable_candidates<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut candidates = Vec::new();
    for candidate in lines.filter_map(candidate) {
        if candidates.len() < MAX_CANDIDATES && !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    candidates
}

/// A remote candidate that our socket can reach, rewritten (RFC 8839 section 5.1) from
/// `candidate:` on; `None` for TCP, names of multicast DNS, and what is malformed. The peer's
/// checks teach us its address anyway (peer-reflexive candidates, RFC 8445 section 7.3.1.3).
fn candidate(line: &str) -> Option<String> {
    let mut words = line.strip_prefix("a=candidate:")?.split_ascii_whitespace();
    let foundation = words.next()?;
    let component = words.next()?;
    let transport = words.next()?;
    let priority: u32 = words.next()?.parse().ok()?;
    let address: IpAddr = words.next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    if words.next()? != "typ" {
        return None;
    }
    let kind = words.next()?;
    let is_reachable = !address.is_unspecified() && !address.is_multicast() && port != 0;
    if component != "1" || !transport.eq_ignore_ascii_case("udp") || !is_reachable {
        return None;
    }
    let related = match kind {
        "host" => "",
        "srflx" | "prflx" | "relay" => " raddr 0.0.0.0 rport 0",
        _ => return None,
    };
    Some(format!("candidate:{foundation} 1 udp {priority} {address} {port} typ {kind}{related}"))
}

/// Our host candidate at `index`, from `candidate:` on (RFC 8839 section 5.1).
pub(in crate::transport) fn host_candidate(index: usize, address: SocketAddr) -> String {
    let (foundation, priority) = (index + 1, host_priority(index));
    let (ip, port) = (address.ip(), address.port());
    format!("candidate:{foundation} 1 udp {priority} {ip} {port} typ host")
}

/// Priority of the host candidate at `index` (RFC 8445 section 5.1.2.1): type preference 126,
/// earlier addresses preferred, component 1.
fn host_priority(index: usize) -> u32 {
    let local_preference = u32::from(u16::MAX).saturating_sub(u32::try_from(index).unwrap_or(0));
    (126 << 24) | (local_preference << 8) | 255
}
