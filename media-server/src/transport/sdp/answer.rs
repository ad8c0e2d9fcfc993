//! Answers and fragments as the peer gets them, written from what the stack answered.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::TransportError;
use super::description::Description;
use super::ice::{Credentials, host_candidate};
use super::offer::{Offer, Place, Rejected, Taken};
use super::{Flow, OPUS_PARAMETERS};

/// Our side, as the stack chose it.
#[derive(Debug)]
pub(in crate::transport) struct Local {
    /// Our ICE credentials.
    pub(in crate::transport) credentials: Credentials,
    setup: String,
    fingerprint: String,
}

impl Local {
    /// Reads the stack's answer.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when something is missing in it.
    pub(in crate::transport) fn read(stack_answer: &str) -> Result<Self, TransportError> {
        let broken = |_| TransportError::Stack("the answer of the stack is not valid".to_owned());
        let description = Description::read(stack_answer).map_err(broken)?;
        let of = |name: &str| {
            description
                .attribute(name)
                .map(str::to_owned)
                .ok_or_else(|| TransportError::Stack(format!("the stack's answer has no {name}")))
        };
        let credentials = Credentials { ufrag: of("ice-ufrag")?, password: of("ice-pwd")? };
        Ok(Self { credentials, setup: of("setup")?, fingerprint: of("fingerprint")? })
    }
}

impl Offer {
    /// The answer to the offer, with every candidate in it. `ssrcs` are those of the tracks, in
    /// the order of [`Track::ALL`].
    pub(in crate::transport) fn answer(
        &self,
        local: &Local,
        candidates: &[SocketAddr],
        ssrcs: [u32; 2],
    ) -> String {
        let mut answer = String::with_capacity(2048);
        let _ = write!(
            answer,
            "v=0\r\no=- {} 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
            u64::from(ssrcs[0]) << 16 | 1
        );
        self.write_group(&mut answer);
        let _ = write!(answer, "a=fingerprint:{}\r\n", local.fingerprint);
        answer.push_str("a=msid-semantic: WMS *\r\n");
        let mut is_first = true;
        for place in &self.sections {
            match place {
                Place::Rejected(rejected) => rejected.write(&mut answer),
                Place::Taken(taken) => {
                    self.write_taken(&mut answer, taken, local, ssrcs);
                    // Bundled sections share the first one's (RFC 8843 section 7.3).
                    if std::mem::take(&mut is_first) {
                        write_candidates(&mut answer, candidates);
                    }
                }
            }
        }
        answer
    }

    /// The answer to an ICE restart (RFC 9725 section 4.3.3, RFC 8840 section 9).
    pub(in crate::transport) fn answer_fragment(
        &self,
        ours: &Credentials,
        candidates: &[SocketAddr],
    ) -> String {
        let (mid, payload_type) = (self.first_mid(), self.payload_type);
        let mut fragment = String::with_capacity(512);
        self.write_group(&mut fragment);
        let _ = write!(
            fragment,
            "m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}\r\na=mid:{mid}\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            ours.ufrag, ours.password
        );
        write_candidates(&mut fragment, candidates);
        fragment
    }

    fn write_group(&self, text: &mut String) {
        if self.is_bundled {
            let mids: Vec<&str> = self.taken().map(|taken| taken.mid.as_str()).collect();
            let _ = write!(text, "a=group:BUNDLE {}\r\n", mids.join(" "));
        }
    }

    fn write_taken(&self, answer: &mut String, taken: &Taken, local: &Local, ssrcs: [u32; 2]) {
        let Taken { mid, protocol, speak, track } = taken;
        let payload_type = self.payload_type;
        let direction = Flow { speak: *speak, listen: track.is_some() }.answered_direction();
        let Local { credentials, setup, .. } = local;
        let _ = write!(
            answer,
            "m=audio 9 {protocol} {payload_type}\r\n\
             c=IN IP4 0.0.0.0\r\n\
             a=mid:{mid}\r\n\
             a={direction}\r\n\
             a=ice-ufrag:{}\r\n\
             a=ice-pwd:{}\r\n\
             a=setup:{setup}\r\n\
             a=rtcp-mux\r\n\
             a=rtcp-rsize\r\n\
             a=rtpmap:{payload_type} opus/48000/2\r\n\
             a=fmtp:{payload_type} {OPUS_PARAMETERS}\r\n",
            credentials.ufrag, credentials.password
        );
        if let Some(track) = track {
            let (name, ssrc) = (track.name(), ssrcs[*track as usize]);
            // The peer tells the tracks apart by their SSRCs (RFC 8843 section 9.2).
            let _ = write!(
                answer,
                "a=msid:dragoman {name}\r\n\
                 a=ssrc:{ssrc} cname:dragoman\r\n\
                 a=ssrc:{ssrc} msid:dragoman {name}\r\n"
            );
        }
    }
}

impl Rejected {
    fn write(&self, answer: &mut String) {
        let Self { media, protocol, formats, mid } = self;
        let _ = write!(answer, "m={media} 0 {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\n");
        if let Some(mid) = mid {
            let _ = write!(answer, "a=mid:{mid}\r\n");
        }
        answer.push_str("a=inactive\r\n");
    }
}

fn write_candidates(text: &mut String, candidates: &[SocketAddr]) {
    for (index, candidate) in candidates.iter().enumerate() {
        let _ = write!(text, "a={}\r\n", host_candidate(index, *candidate));
    }
    text.push_str("a=end-of-candidates\r\n");
}
