//! Session descriptions (RFC 8866), split into lines and sections but not judged.

use super::super::TransportError;
use super::{Flow, unacceptable};

/// Most sections an offer may have; a browser with camera, screen and data channel has three.
const MAX_SECTIONS: usize = 64;

/// One `m=` section, borrowed from the text.
pub(super) struct Section<'a> {
    pub(super) media: &'a str,
    port: &'a str,
    pub(super) protocol: &'a str,
    pub(super) formats: &'a str,
    pub(super) lines: Vec<&'a str>,
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

    /// Whether it can carry sound: an audio section that was not stopped or rejected before, which
    /// is port 0 without `bundle-only` (RFC 8843 section 6).
    pub(super) fn is_live_audio(&self) -> bool {
        self.media == "audio" && (self.port != "0" || self.has("bundle-only"))
    }

    pub(super) fn offered_flow(&self) -> Flow {
        // Without an attribute the direction is sendrecv (RFC 8866 section 6.7).
        Flow {
            speak: !(self.has("recvonly") || self.has("inactive")),
            listen: !(self.has("sendonly") || self.has("inactive")),
        }
    }

    /// Payload types of Opus (RFC 7587 section 7), in the offer's order of preference.
    pub(super) fn opus(&self) -> impl Iterator<Item = u8> + '_ {
        self.formats.split_ascii_whitespace().filter_map(|format| {
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

    pub(super) fn mid(&self) -> Option<&'a str> {
        value(&self.lines, "mid")
    }

    /// Whether the property attribute `a=name` is there.
    pub(super) fn has(&self, name: &str) -> bool {
        has(&self.lines, name)
    }
}

/// A session description.
pub(super) struct Description<'a> {
    pub(super) session: Vec<&'a str>,
    pub(super) sections: Vec<Section<'a>>,
}

impl<'a> Description<'a> {
    /// Reads a whole description, lines ended by CRLF or LF.
    pub(super) fn read(text: &'a str) -> Result<Self, TransportError> {
        let mut lines = lines(text).peekable();
        match lines.peek() {
            None => return Err(TransportError::BadSdp("it is empty".to_owned())),
            Some(&"v=0") => {}
            Some(_) => {
                return Err(TransportError::BadSdp("it does not begin with \"v=0\"".to_owned()));
            }
        }
        Self::split(lines)
    }

    /// Reads the lines of a description or of a fragment of one.
    pub(super) fn split(lines: impl Iterator<Item = &'a str>) -> Result<Self, TransportError> {
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
            return Err(unacceptable("it has more than 64 media sections: offer audio alone"));
        }
        Ok(description)
    }

    /// An attribute of the transport: of the section itself, else of the session, else of another
    /// section, because bundled sections share one transport (RFC 8843 section 7).
    pub(super) fn transport_attribute(&self, section: &Section<'a>, name: &str) -> Option<&'a str> {
        value(&section.lines, name).or_else(|| self.attribute(name))
    }

    /// An attribute of the session, else of the first section that has it.
    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        value(&self.session, name)
            .or_else(|| self.sections.iter().find_map(|other| value(&other.lines, name)))
    }

    /// The BUNDLE group that a `mid` is in (RFC 8843 section 5): its members.
    pub(super) fn bundle_of(&self, mid: &str) -> Option<Vec<&'a str>> {
        self.session
            .iter()
            .filter_map(|line| line.strip_prefix("a=group:BUNDLE "))
            .map(|mids| mids.split_ascii_whitespace().collect::<Vec<_>>())
            .find(|mids| mids.contains(&mid))
    }
}

/// The lines of a text that are not empty.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty())
}

/// Value of the attribute `a=name:value`, the first one.
pub(super) fn value<'a>(lines: &[&'a str], name: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| {
        line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':').map(str::trim)
    })
}

/// Whether the property attribute `a=name` is there.
pub(super) fn has(lines: &[&str], name: &str) -> bool {
    lines.iter().any(|line| line.strip_prefix("a=").is_some_and(|attribute| attribute == name))
}
