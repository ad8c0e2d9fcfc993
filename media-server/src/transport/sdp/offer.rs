//! Offers, judged: which sections carry what, and what the stack gets to see of them.

use std::fmt::Write as _;

use super::super::TransportError;
use super::description::{Description, Section, has, value};
use super::ice::{Credentials, usable_candidates};
use super::{Flow, Track, unacceptable};

/// Who starts the DTLS handshake, as the offer says (RFC 8842 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Setup {
    /// The answerer chooses.
    ActPass,
    /// The peer starts it.
    Active,
    /// The peer waits for it.
    Passive,
}

/// An offer that can be answered.
#[derive(Debug)]
pub(in crate::transport) struct Offer {
    /// Which ways audio will go: what was offered and is wanted.
    pub(in crate::transport) flow: Flow,
    /// Payload type of Opus, in every section.
    pub(in crate::transport) payload_type: u8,
    /// Who starts DTLS.
    pub(in crate::transport) setup: Setup,
    /// The peer's ICE credentials.
    pub(in crate::transport) credentials: Credentials,
    /// The peer's candidates that are of use.
    pub(in crate::transport) candidates: Vec<String>,
    /// SHA-256 of the peer's certificate, in hexadecimal.
    fingerprint: String,
    is_lite: bool,
    /// Whether the answer may name a BUNDLE group.
    pub(super) is_bundled: bool,
    /// Every section in order.
    pub(super) sections: Vec<Place>,
}

/// What becomes of a section.
#[derive(Debug)]
pub(super) enum Place {
    /// It is answered.
    Taken(Taken),
    /// It is answered with port 0.
    Rejected(Rejected),
}

/// A section that is answered.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) mid: String,
    pub(super) protocol: String,
    pub(super) speak: bool,
    pub(super) track: Option<Track>,
}

/// What the answer must repeat of a section that is rejected.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) formats: String,
    pub(super) mid: Option<String>,
}

/// Which section carries what, by index.
struct Roles {
    microphone: Option<usize>,
    interpretation: Option<usize>,
    originals: Option<usize>,
    payload_type: u8,
}

impl Offer {
    /// Reads an offer and chooses its sections: the microphone is the first that both sends and
    /// receives, else the first that sends; the interpretation goes to the microphone's section
    /// when that receives, else to the first that does; the originals go to the next one, if there
    /// is one.
    ///
    /// # Errors
    /// [`TransportError::BadSdp`] when the text is no SDP, [`TransportError::Unacceptable`] when it
    /// cannot be answered; both say why.
    pub(in crate::transport) fn read(text: &str, wanted: Flow) -> Result<Self, TransportError> {
        let description = Description::read(text)?;
        let roles = choose(&description, wanted)?;
        let first = roles.microphone.or(roles.interpretation).unwrap_or_default();
        let section = &description.sections[first];
        let setup = match description.transport_attribute(section, "setup") {
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            _ => Setup::ActPass,
        };
        let of_transport = |name: &str, missing: &str| {
            description.transport_attribute(section, name).ok_or_else(|| unacceptable(missing))
        };
        let ufrag = of_transport("ice-ufrag", "it has no ice-ufrag: offer with ICE")?;
        let password = of_transport("ice-pwd", "it has no ice-pwd: offer with ICE")?;
        let credentials = Credentials::checked(ufrag, password).map_err(unacceptable)?;
        let fingerprint = fingerprint(&description, section)?;
        // Bundled sections share one transport, so candidates may stand in any of them.
        let everywhere = description.sections.iter().flat_map(|other| &other.lines);
        let own = section.lines.iter().chain(&description.session);
        let candidates = usable_candidates(own.chain(everywhere).copied());
        let is_bundled = section.mid().is_some_and(|mid| description.bundle_of(mid).is_some());
        let sections: Vec<Place> = description
            .sections
            .iter()
            .enumerate()
            .map(|(index, section)| roles.place(index, section))
            .collect();
        let flow =
            Flow { speak: roles.microphone.is_some(), listen: roles.interpretation.is_some() };
        Ok(Self {
            flow,
            payload_type: roles.payload_type,
            setup,
            credentials,
            candidates,
            fingerprint,
            is_lite: has(&description.session, "ice-lite"),
            is_bundled,
            sections,
        })
    }

    /// `mid` of the section that carries the track.
    pub(in crate::transport) fn mid_of(&self, track: Track) -> Option<&str> {
        self.taken().find(|taken| taken.track == Some(track)).map(|taken| taken.mid.as_str())
    }

    /// `mid` of the first section that is answered.
    pub(in crate::transport) fn first_mid(&self) -> &str {
        self.taken().next().map_or("", |taken| taken.mid.as_str())
    }

    pub(super) fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.sections.iter().filter_map(|place| match place {
            Place::Taken(taken) => Some(taken),
            Place::Rejected(_) => None,
        })
    }

    /// The offer as the stack gets it: one section with everything that goes over the transport.
    /// With other credentials than before it asks the stack for an ICE restart.
    pub(in crate::transport) fn for_stack(
        &self,
        credentials: &Credentials,
        candidates: &[String],
    ) -> String {
        let (mid, payload_type) = (self.first_mid(), self.payload_type);
        let setup = match self.setup {
            Setup::ActPass => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        };
        let direction = self.flow.offered_direction();
        let lite = if self.is_lite { "a=ice-lite\r\n" } else { "" };
        let mut offer = String::with_capacity(1024);
        let _ = write!(
            offer,
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{lite}\
             a=group:BUNDLE {mid}\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}\r\n\
             c=IN IP4 0.0.0.0\r\n\
             a=mid:{mid}\r\n\
             a={direction}\r\n\
             a=ice-ufrag:{}\r\n\
             a=ice-pwd:{}\r\n\
             a=fingerprint:sha-256 {}\r\n\
             a=setup:{setup}\r\n\
             a=rtcp-mux\r\n\
             a=rtpmap:{payload_type} opus/48000/2\r\n",
            credentials.ufrag, credentials.password, self.fingerprint
        );
        if self.flow.speak {
            // Lets the stack take whatever SSRC arrives first on the only section.
            offer.push_str("a=msid:peer voice\r\n");
        }
        for candidate in candidates {
            let _ = write!(offer, "a={candidate}\r\n");
        }
        offer
    }
}

impl Roles {
    fn place(&self, index: usize, section: &Section<'_>) -> Place {
        let is = |role: Option<usize>| role == Some(index);
        let track = if is(self.interpretation) {
            Some(Track::Interpretation)
        } else {
            is(self.originals).then_some(Track::Originals)
        };
        let speak = is(self.microphone);
        let mid = section.mid().map(str::to_owned);
        let protocol = section.protocol.to_owned();
        match mid {
            Some(mid) if speak || track.is_some() => {
                Place::Taken(Taken { mid, protocol, speak, track })
            }
            mid => Place::Rejected(Rejected {
                media: section.media.to_owned(),
                protocol,
                formats: section.formats.to_owned(),
                mid,
            }),
        }
    }
}

fn choose(description: &Description<'_>, wanted: Flow) -> Result<Roles, TransportError> {
    let audio = || description.sections.iter().enumerate().filter(|(_, s)| s.is_live_audio());
    if audio().next().is_none() {
        return Err(unacceptable("it has no audio section: offer one with Opus"));
    }
    let with_opus: Vec<(usize, Flow)> = audio()
        .filter(|(_, section)| section.opus().next().is_some())
        .map(|(index, section)| (index, section.offered_flow().both(wanted)))
        .collect();
    if with_opus.is_empty() {
        return Err(unacceptable("its audio sections do not offer Opus (opus/48000/2)"));
    }
    let first = |fits: &dyn Fn(Flow) -> bool| {
        with_opus.iter().find(|(_, flow)| fits(*flow)).map(|(index, _)| *index)
    };
    let microphone = first(&|flow| flow.speak && flow.listen).or_else(|| first(&|flow| flow.speak));
    let Some(leading) = microphone.or_else(|| first(&|flow| !flow.is_none())) else {
        return Err(unacceptable(
            "its audio direction leaves nothing to send or receive: offer sendrecv",
        ));
    };
    let section = &description.sections[leading];
    require_fit(section)?;
    let payload_type = section.opus().next().unwrap_or_default();
    // Without a group every section wants a transport of its own, and there is one.
    let bundle = section.mid().and_then(|mid| description.bundle_of(mid)).unwrap_or_default();
    let joins = |index: usize| {
        let other = &description.sections[index];
        require_fit(other).is_ok()
            && other.opus().any(|other| other == payload_type)
            && other.mid().is_some_and(|mid| bundle.contains(&mid))
    };
    let mut receiving = with_opus
        .iter()
        .filter(|(index, flow)| flow.listen && (*index == leading || joins(*index)))
        .map(|(index, _)| *index);
    let leads = with_opus.iter().any(|(index, flow)| *index == leading && flow.listen);
    let interpretation = if leads { Some(leading) } else { receiving.next() };
    let originals = receiving.find(|index| Some(*index) != interpretation);
    if interpretation.is_none() && first(&|flow| flow.listen).is_some() {
        return Err(unacceptable(
            "its receiving audio section is not bundled with the sending one under the same \
             payload type: offer with the bundle policy max-bundle",
        ));
    }
    Ok(Roles { microphone, interpretation, originals, payload_type })
}

/// Whether a section has what WebRTC asks of it.
fn require_fit(section: &Section<'_>) -> Result<(), TransportError> {
    if !section.protocol.contains("RTP/SAVP") {
        return Err(unacceptable(
            "its audio section does not use DTLS-SRTP: offer UDP/TLS/RTP/SAVPF",
        ));
    }
    if section.mid().is_none_or(str::is_empty) {
        return Err(unacceptable("its audio section has no mid: offer with a=mid"));
    }
    if !section.has("rtcp-mux") {
        return Err(unacceptable(
            "its audio section lacks rtcp-mux: offer with the RTCP mux policy require",
        ));
    }
    Ok(())
}

/// The SHA-256 fingerprint; an offer may carry several hashes of one certificate (RFC 8122
/// section 5).
fn fingerprint(
    description: &Description<'_>,
    section: &Section<'_>,
) -> Result<String, TransportError> {
    let own = section.lines.iter().chain(&description.session);
    let all = own.chain(description.sections.iter().flat_map(|other| &other.lines));
    let mut fingerprints = all.filter_map(|line| value(&[*line], "fingerprint")).peekable();
    if fingerprints.peek().is_none() {
        return Err(unacceptable("it has no certificate fingerprint: offer with DTLS"));
    }
    fingerprints
        .find_map(|fingerprint| {
            let (hash, hex) = fingerprint.split_once(' ')?;
            hash.eq_ignore_ascii_case("sha-256").then(|| hex.trim().to_owned())
        })
        .ok_or_else(|| unacceptable("it has no SHA-256 certificate fingerprint"))
}
