//! Offers are read, judged and trimmed here before the WebRTC stack sees them, and its answers are
//! completed here before the peer sees them.
//!
//! The stack gets one audio section with one codec, Opus, under the payload type that the offer
//! gave it (RFC 3264 section 5.1), and nothing else of what the peer wrote: no video, no data
//! channel, no SSRC lines, no candidates it could not use. Sections that were left out come back
//! in the answer as rejected, port 0, in the offer's order (RFC 3264 section 6, RFC 8843
//! section 7.3).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::TransportError;

/// Most sections an offer may have; a browser with camera, screen and data channel has three.
const MAX_SECTIONS: usize = 64;
/// Most remote candidates that are passed on: each costs connectivity checks.
const MAX_CANDIDATES: usize = 16;
/// What we ask of an Opus sender (RFC 7587 section 6.1).
const OPUS_PARAMETERS: &str = "minptime=10;useinbandfec=1";

/// Which ways audio goes, seen from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The peer sends its microphone.
    pub speak: bool,
    /// The peer receives our track.
    pub listen: bool,
}

impl Flow {
    fn both(self, other: Self) -> Self {
        Self { speak: self.speak && other.speak, listen: self.listen && other.listen }
    }

    fn count(self) -> u8 {
        u8::from(self.speak) + u8::from(self.listen)
    }

    /// The direction attribute with which the peer would offer this flow (RFC 8866 section 6.7).
    fn offered_direction(self) -> &'static str {
        match (self.speak, self.listen) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }
}

/// Who starts the DTLS handshake, as the offer says (RFC 8842 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// The answerer chooses.
    ActPass,
    /// The peer starts it.
    Active,
    /// The peer waits for it.
    Passive,
}

/// An offer that can be answered.
#[derive(Debug)]
pub(super) struct Offer {
    /// Which ways audio will go: what was offered and is wanted.
    pub(super) flow: Flow,
    /// Payload type of Opus.
    pub(super) payload_type: u8,
    /// Who starts DTLS.
    pub(super) setup: Setup,
    /// `mid` of the audio section.
    pub(super) mid: String,
    /// The trimmed offer for the stack.
    pub(super) trimmed: String,
    /// Every section in order: `None` is the one that is answered, the others are rejected.
    sections: Vec<Option<Rejected>>,
}

/// What the answer must repeat of a section that is rejected.
#[derive(Debug)]
struct Rejected {
    media: String,
    protocol: String,
    formats: String,
    mid: Option<String>,
}

/// One `m=` section, borrowed from the text.
struct Section<'a> {
    media: &'a str,
    port: &'a str,
    protocol: &'a str,
    formats: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn read(line: &'a str) -> Result<Self, TransportError> {
        let mut words = line["m=".len()..].splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(media), Some(port), Some(protocol), Some(formats)) => {
                Ok(Self { media, port, protocol, formats, lines: Vec::new() })
            }
            _ => Err(TransportError::BadSdp(format!("{line:?} is no media line"))),
        }
    }

    /// Stopped or rejected before: port 0 without `bundle-only` (RFC 8843 section 6).
    fn is_dead(&self) -> bool {
        self.port == "0" && !has(&self.lines, "bundle-only")
    }

    fn offered_flow(&self) -> Flow {
        let has = |direction| has(&self.lines, direction);
        // Without an attribute the direction is sendrecv (RFC 8866 section 6.7).
        Flow {
            speak: !(has("recvonly") || has("inactive")),
            listen: !(has("sendonly") || has("inactive")),
        }
    }

    /// Payload type of Opus (RFC 7587 section 7): the first in the offer's order of preference.
    fn opus(&self) -> Option<u8> {
        self.formats.split_ascii_whitespace().find_map(|format| {
            let is_opus = self.lines.iter().any(|line| {
                line.strip_prefix("a=rtpmap:").and_then(|map| map.split_once(' ')).is_some_and(
                    |(payload_type, codec)| {
                        payload_type == format && codec.trim().eq_ignore_ascii_case("opus/48000/2")
                    },
                )
            });
            let payload_type: u8 = format.parse().ok()?;
            (is_opus && payload_type < 128).then_some(payload_type)
        })
    }
}

/// A session description, split but not judged.
struct Description<'a> {
    session: Vec<&'a str>,
    sections: Vec<Section<'a>>,
}

impl<'a> Description<'a> {
    fn read(text: &'a str) -> Result<Self, TransportError> {
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).peekable();
        match lines.peek() {
            None => return Err(TransportError::BadSdp("it is empty".to_owned())),
            Some(&"v=0") => {}
            Some(_) => {
                return Err(TransportError::BadSdp("it does not begin with \"v=0\"".to_owned()));
            }
        }
        let mut description = Self { session: Vec::new(), sections: Vec::new() };
        for line in lines {
            let bytes = line.as_bytes();
            if bytes.len() < 2 || !bytes[0].is_ascii_lowercase() || bytes[1] != b'=' {
                let shown: String = line.chars().take(40).collect();
                return Err(TransportError::BadSdp(format!("{shown:?} is no line of SDP")));
            }
            if line.starts_with("m=") {
                description.sections.push(Section::read(line)?);
            } else {
                match description.sections.last_mut() {
                    Some(section) => section.lines.push(line),
                    None => description.session.push(line),
                }
            }
        }
        if description.sections.len() > MAX_SECTIONS {
            return Err(unacceptable("it has more than 64 media sections"));
        }
        Ok(description)
    }

    /// An attribute of the transport: of the section itself, else of the session, else of another
    /// section, because bundled sections share one transport (RFC 8843 section 7).
    fn transport_attribute(&self, section: &Section<'a>, name: &str) -> Option<&'a str> {
        value(&section.lines, name)
            .or_else(|| value(&self.session, name))
            .or_else(|| self.sections.iter().find_map(|other| value(&other.lines, name)))
    }
}

impl Offer {
    /// Reads an offer and chooses the audio section that carries most of the `wanted` flow.
    ///
    /// # Errors
    /// [`TransportError::BadSdp`] when the text is no SDP, [`TransportError::Unacceptable`] when it
    /// cannot be answered; both say why.
    pub(super) fn read(text: &str, wanted: Flow) -> Result<Self, TransportError> {
        let description = Description::read(text)?;
        let (index, payload_type) = choose(&description, wanted)?;
        let section = &description.sections[index];
        let flow = section.offered_flow().both(wanted);
        if flow.count() == 0 {
            return Err(unacceptable("its audio direction leaves nothing to send or receive"));
        }
        if !section.protocol.contains("RTP/SAVP") {
            return Err(unacceptable("its audio section does not use DTLS-SRTP"));
        }
        let mid = value(&section.lines, "mid")
            .ok_or_else(|| unacceptable("its audio section has no mid"))?;
        let is_bundled = description.session.iter().any(|line| {
            line.strip_prefix("a=group:BUNDLE ")
                .is_some_and(|mids| mids.split_ascii_whitespace().any(|other| other == mid))
        });
        if !is_bundled {
            return Err(unacceptable("its audio section is in no BUNDLE group"));
        }
        if !has(&section.lines, "rtcp-mux") {
            return Err(unacceptable("its audio section lacks rtcp-mux"));
        }
        let trimmed = trim(&description, section, payload_type, mid, flow)?;
        let setup = match description.transport_attribute(section, "setup") {
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            _ => Setup::ActPass,
        };
        let sections = description
            .sections
            .iter()
            .enumerate()
            .map(|(other, section)| (other != index).then(|| Rejected::of(section)))
            .collect();
        Ok(Self { flow, payload_type, setup, mid: mid.to_owned(), trimmed, sections })
    }

    /// Completes the stack's answer: our Opus parameters, every candidate, the rejected sections.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the stack's answer is not one audio section.
    pub(super) fn complete_answer(
        &self,
        stack_answer: &str,
        candidates: &[SocketAddr],
    ) -> Result<String, TransportError> {
        let broken = |_| TransportError::Stack("the answer of the stack is not valid".to_owned());
        let description = Description::read(stack_answer).map_err(broken)?;
        let [audio] = description.sections.as_slice() else {
            return Err(TransportError::Stack("the answer has not one section".to_owned()));
        };
        let mut answer = String::with_capacity(2048);
        for session_line in &description.session {
            line(&mut answer, session_line);
        }
        for rejected in &self.sections {
            match rejected {
                Some(rejected) => rejected.write(&mut answer),
                None => self.write_audio(&mut answer, audio, candidates),
            }
        }
        Ok(answer)
    }

    fn write_audio(&self, answer: &mut String, audio: &Section<'_>, candidates: &[SocketAddr]) {
        let Section { media, protocol, formats, .. } = audio;
        let _ = write!(answer, "m={media} 9 {protocol} {formats}\r\n");
        let ours = ["a=candidate:", "a=end-of-candidates", "a=fmtp:"];
        for audio_line in &audio.lines {
            if !ours.iter().any(|prefix| audio_line.starts_with(prefix)) {
                line(answer, audio_line);
            }
        }
        let _ = write!(answer, "a=fmtp:{} {OPUS_PARAMETERS}\r\n", self.payload_type);
        for (index, candidate) in candidates.iter().enumerate() {
            let foundation = index + 1;
            let priority = host_priority(index);
            let (address, port) = (candidate.ip(), candidate.port());
            let _ = write!(
                answer,
                "a=candidate:{foundation} 1 udp {priority} {address} {port} typ host\r\n"
            );
        }
        line(answer, "a=end-of-candidates");
    }
}

impl Rejected {
    fn of(section: &Section<'_>) -> Self {
        Self {
            media: section.media.to_owned(),
            protocol: section.protocol.to_owned(),
            formats: section.formats.to_owned(),
            mid: value(&section.lines, "mid").map(str::to_owned),
        }
    }

    fn write(&self, answer: &mut String) {
        let Self { media, protocol, formats, mid } = self;
        let _ = write!(answer, "m={media} 0 {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\n");
        if let Some(mid) = mid {
            let _ = write!(answer, "a=mid:{mid}\r\n");
        }
        line(answer, "a=inactive");
    }
}

/// Priority of the host candidate at `index` (RFC 8445 section 5.1.2.1): type preference 126,
/// earlier addresses preferred, component 1.
pub(super) fn host_priority(index: usize) -> u32 {
    let local_preference = u32::from(u16::MAX).saturating_sub(u32::try_from(index).unwrap_or(0));
    (126 << 24) | (local_preference << 8) | 255
}

/// The audio section with Opus that carries most of the wanted flow, the first of equals.
fn choose(description: &Description<'_>, wanted: Flow) -> Result<(usize, u8), TransportError> {
    let audio = |section: &&Section<'_>| section.media == "audio" && !section.is_dead();
    if !description.sections.iter().any(|section| audio(&section)) {
        return Err(unacceptable("it has no audio section"));
    }
    let mut best: Option<(usize, u8, u8)> = None;
    for (index, section) in description.sections.iter().enumerate() {
        if !audio(&section) {
            continue;
        }
        if let Some(payload_type) = section.opus() {
            let flows = section.offered_flow().both(wanted).count();
            if best.is_none_or(|(_, _, most)| flows > most) {
                best = Some((index, payload_type, flows));
            }
        }
    }
    best.map(|(index, payload_type, _)| (index, payload_type))
        .ok_or_else(|| unacceptable("its audio sections do not offer Opus (opus/48000/2)"))
}

/// The offer as the stack gets it.
fn trim(
    description: &Description<'_>,
    section: &Section<'_>,
    payload_type: u8,
    mid: &str,
    flow: Flow,
) -> Result<String, TransportError> {
    let of_transport = |name: &str, missing: &str| {
        description.transport_attribute(section, name).ok_or_else(|| unacceptable(missing))
    };
    let ufrag = of_transport("ice-ufrag", "it has no ice-ufrag")?;
    let password = of_transport("ice-pwd", "it has no ice-pwd")?;
    of_transport("fingerprint", "it has no certificate fingerprint")?;
    // An offer may carry several hashes of one certificate (RFC 8122 section 5).
    let fingerprint = section
        .lines
        .iter()
        .chain(&description.session)
        .chain(description.sections.iter().flat_map(|other| &other.lines))
        .filter_map(|line| line.strip_prefix("a=fingerprint:"))
        .find_map(|fingerprint| {
            let (hash, hex) = fingerprint.split_once(' ')?;
            hash.eq_ignore_ascii_case("sha-256").then_some(hex.trim())
        })
        .ok_or_else(|| unacceptable("it has no SHA-256 certificate fingerprint"))?;
    let setup = description.transport_attribute(section, "setup").unwrap_or("actpass");
    let direction = flow.offered_direction();

    let mut offer = String::with_capacity(1024);
    offer.push_str("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    if has(&description.session, "ice-lite") {
        line(&mut offer, "a=ice-lite");
    }
    let _ = write!(
        offer,
        "a=group:BUNDLE {mid}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}\r\n\
         c=IN IP4 0.0.0.0\r\n\
         a=mid:{mid}\r\n\
         a={direction}\r\n\
         a=ice-ufrag:{ufrag}\r\n\
         a=ice-pwd:{password}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:{setup}\r\n\
         a=rtcp-mux\r\n\
         a=rtpmap:{payload_type} opus/48000/2\r\n"
    );
    if flow.speak {
        // Lets the stack take whatever SSRC arrives first on the only section.
        line(&mut offer, "a=msid:peer voice");
    }
    let candidates =
        section.lines.iter().chain(&description.session).filter_map(|line| candidate(line));
    for candidate in candidates.take(MAX_CANDIDATES) {
        line(&mut offer, &candidate);
    }
    Ok(offer)
}

/// A remote candidate that our socket can reach, rewritten (RFC 8839 section 5.1); `None` for TCP,
/// names of multicast DNS, and what is malformed. The peer's checks teach us its address anyway.
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
    Some(format!("a=candidate:{foundation} 1 udp {priority} {address} {port} typ {kind}{related}"))
}

/// The ICE user fragment that an SDP text names first.
pub(super) fn ice_ufrag(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"))
}

/// Value of the attribute `a=name:value`, the first one.
fn value<'a>(lines: &[&'a str], name: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| {
        line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':').map(str::trim)
    })
}

/// Whether the property attribute `a=name` is there.
fn has(lines: &[&str], name: &str) -> bool {
    lines.iter().any(|line| line.strip_prefix("a=").is_some_and(|attribute| attribute == name))
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

fn unacceptable(why: &str) -> TransportError {
    TransportError::Unacceptable(why.to_owned())
}

#[cfg(test)]
#[path = "sdp_tests.rs"]
pub(super) mod tests;
