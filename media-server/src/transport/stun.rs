//! Just enough of STUN (RFC 8489) to tell whose datagram it is when the address is still unknown.
//!
//! A connectivity check names its receiver: USERNAME is `receiver:sender` in ICE user fragments
//! (RFC 8445 section 7.2.2). The peer's own state machine checks the message's integrity; this
//! reading only decides which state machine sees it.

/// Magic cookie of every STUN message (RFC 8489 section 5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Type of a Binding request.
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
/// Type of a Binding success response.
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
/// Attribute USERNAME (RFC 8489 section 14.3).
const ATTRIBUTE_USERNAME: u16 = 0x0006;
/// Attribute USE-CANDIDATE (RFC 8445 section 16.1).
const ATTRIBUTE_USE_CANDIDATE: u16 = 0x0025;
/// Bytes before the first attribute.
const HEADER_BYTES: usize = 20;
/// Longest USERNAME value that the RFC allows.
const MAX_USERNAME_BYTES: usize = 509;

/// The kinds of datagrams that share a WebRTC port (RFC 7983 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// STUN, first byte 0 to 3.
    Stun,
    /// DTLS, first byte 20 to 63.
    Dtls,
    /// RTP or RTCP, first byte 128 to 191.
    Rtp,
    /// None of them.
    Unknown,
}

/// What a datagram is, by its first byte.
#[must_use]
pub fn kind(datagram: &[u8]) -> Kind {
    match datagram.first() {
        Some(0..=3) => Kind::Stun,
        Some(20..=63) => Kind::Dtls,
        Some(128..=191) => Kind::Rtp,
        _ => Kind::Unknown,
    }
}

/// Whether a datagram is RTCP rather than RTP (RFC 5761 section 4), and the SSRC of its sender;
/// `None` when it is too short to name one.
#[must_use]
pub fn rtp_stream(datagram: &[u8]) -> Option<(bool, u32)> {
    let is_rtcp = (192..=223).contains(datagram.get(1)?);
    let at = if is_rtcp { 4 } else { 8 };
    let ssrc = datagram.get(at..at + 4)?.try_into().ok()?;
    Some((is_rtcp, u32::from_be_bytes(ssrc)))
}

/// The receiver's ICE user fragment that a Binding request names, if the datagram is one.
#[must_use]
pub fn receiver_ufrag(datagram: &[u8]) -> Option<&str> {
    let value = attribute(datagram, BINDING_REQUEST, ATTRIBUTE_USERNAME)?;
    if value.len() > MAX_USERNAME_BYTES {
        return None;
    }
    let (receiver, _sender) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some(receiver)
}

/// Whether the datagram is a Binding request that nominates its pair.
#[must_use]
pub fn is_nomination(datagram: &[u8]) -> bool {
    attribute(datagram, BINDING_REQUEST, ATTRIBUTE_USE_CANDIDATE).is_some()
}

/// Whether the datagram looks like a Binding request.
#[must_use]
pub fn is_request(datagram: &[u8]) -> bool {
    is_message(datagram, BINDING_REQUEST)
}

/// Whether the datagram looks like a Binding success response.
#[must_use]
pub fn is_success(datagram: &[u8]) -> bool {
    is_message(datagram, BINDING_SUCCESS)
}

fn is_message(datagram: &[u8], wanted: [u8; 2]) -> bool {
    datagram.len() >= HEADER_BYTES && datagram[..2] == wanted && datagram[4..8] == MAGIC_COOKIE
}

/// Value of an attribute of a message of the type `wanted`.
fn attribute(datagram: &[u8], wanted: [u8; 2], name: u16) -> Option<&[u8]> {
    let header = datagram.get(..HEADER_BYTES)?;
    if header[..2] != wanted || header[4..8] != MAGIC_COOKIE {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut attributes = datagram.get(HEADER_BYTES..HEADER_BYTES + length)?;
    while let Some((attribute, rest)) = attributes.split_at_checked(4) {
        let kind = u16::from_be_bytes([attribute[0], attribute[1]]);
        let value_length = usize::from(u16::from_be_bytes([attribute[2], attribute[3]]));
        let value = rest.get(..value_length)?;
        if kind == name {
            return Some(value);
        }
        // Values are padded to four bytes.
        attributes = rest.get(value_length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binding_request(username: &[u8]) -> Vec<u8> {
        let mut attributes = vec![0x80, 0x29, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        attributes.extend([0, 6]);
        attributes.extend(u16::try_from(username.len()).unwrap().to_be_bytes());
        attributes.extend(username);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        let mut message = vec![0, 1];
        message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([9; 12]);
        message.extend(attributes);
        message
    }

    #[test]
    fn the_receiver_is_the_text_before_the_colon() {
        assert_eq!(receiver_ufrag(&binding_request(b"abcd:efgh")), Some("abcd"));
        assert_eq!(receiver_ufrag(&binding_request(b"a:")), Some("a"));
    }

    #[test]
    fn a_binding_response_or_a_name_without_colon_names_nobody() {
        let mut response = binding_request(b"abcd:efgh");
        response[0] = 1;
        assert_eq!(receiver_ufrag(&response), None);
        assert_eq!(receiver_ufrag(&binding_request(b"abcd")), None);
        assert_eq!(receiver_ufrag(&binding_request(&[0xff, b':', b'a'])), None);
    }

    #[test]
    fn a_nomination_is_a_request_with_use_candidate() {
        let mut request = binding_request(b"abcd:efgh");
        assert!(!is_nomination(&request) && !is_success(&request));
        request.extend([0, 0x25, 0, 0]);
        request[3] += 4;
        assert!(is_nomination(&request));
        assert_eq!(receiver_ufrag(&request), Some("abcd"));
        request[..2].copy_from_slice(&BINDING_SUCCESS);
        assert!(is_success(&request) && !is_nomination(&request));
    }

    #[test]
    fn first_bytes_tell_the_protocols_apart() {
        assert_eq!(kind(&[0]), Kind::Stun);
        assert_eq!(kind(&[22]), Kind::Dtls);
        assert_eq!(kind(&[128]), Kind::Rtp);
        assert_eq!(kind(&[200]), Kind::Unknown);
        assert_eq!(kind(&[]), Kind::Unknown);
    }

    #[test]
    fn the_sender_of_rtp_and_of_rtcp_is_told() {
        let rtp = [0x80, 111, 0, 1, 0, 0, 0, 2, 0, 0, 1, 2, 9];
        assert_eq!(rtp_stream(&rtp), Some((false, 0x0102)));
        let report = [0x80, 200, 0, 6, 0, 0, 3, 4];
        assert_eq!(rtp_stream(&report), Some((true, 0x0304)));
        assert_eq!((rtp_stream(&rtp[..11]), rtp_stream(&report[..7])), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (receiver_ufrag(&bytes), is_nomination(&bytes), is_success(&bytes));
            let _ = rtp_stream(&bytes);
        }

        #[test]
        fn no_damaged_request_makes_it_panic(
            username in "[a-z]{0,8}:[a-z]{0,8}",
            at in 0usize..64,
            byte in any::<u8>(),
            cut in 0usize..64,
        ) {
            let mut message = binding_request(username.as_bytes());
            let at = at.min(message.len() - 1);
            message[at] = byte;
            message.truncate(message.len().saturating_sub(cut));
            let _ = receiver_ufrag(&message);
        }
    }
}
