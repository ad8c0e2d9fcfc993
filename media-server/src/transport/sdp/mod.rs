//! Offers are read, judged and trimmed here before the WebRTC stack sees them, and what it answers
//! is written out here before the peer sees it.
//!
//! The stack gets one audio section with one codec, Opus, under the payload type that the offer
//! gave it (RFC 3264 section 5.1), and nothing else of what the peer wrote: no video, no data
//! channel, no SSRC lines, no candidates it could not use. It knows one section even where the
//! peer offered several, because the bundled sections share one transport (RFC 8843) and differ in
//! their SSRCs alone. Sections that nobody uses come back in the answer as rejected, port 0, in
//! the offer's order (RFC 3264 section 6, RFC 8843 section 7.3).

mod answer;
mod description;
mod ice;
mod offer;

pub(super) use self::answer::Local;
pub use self::ice::IceFragment;
pub(super) use self::ice::{Credentials, host_candidate};
pub(super) use self::offer::{Offer, Setup};
use super::TransportError;

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

    fn is_none(self) -> bool {
        !self.speak && !self.listen
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

    /// The direction attribute with which it is answered.
    fn answered_direction(self) -> &'static str {
        Self { speak: self.listen, listen: self.speak }.offered_direction()
    }
}

/// One of the tracks that a listener may receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// The interpretation; of a peer with one track, everything it hears.
    Interpretation,
    /// What the others say, as they say it.
    Originals,
}

impl Track {
    /// Every track.
    pub(super) const ALL: [Self; 2] = [Self::Interpretation, Self::Originals];

    /// Its name, on the wire too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Interpretation => "interpretation",
            Self::Originals => "originals",
        }
    }
}

fn unacceptable(why: impl Into<String>) -> TransportError {
    TransportError::Unacceptable(why.into())
}

#[cfg(test)]
pub(super) mod tests;
