//! How the WebRTC stack is set up for one peer: one codec, our timers, our tracks.

use std::time::{Duration, Instant};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::{Registry, configure_rtcp_reports};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::{SettingEngine, SettingEngineBuilder};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};

use super::TransportError;
use super::certificate::process_certificate;
use super::sdp::{Setup, Track};

/// Between connectivity checks of ours. RFC 8445 section 14.2 paces them at 50 ms; the stack's own
/// 200 ms would be what a peer waits when its first check was lost.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Checks per pair before it rests; the peer's own checks wake it.
const MAX_CHECKS: u16 = 60;
/// Between consent checks (RFC 7675 section 5.1 asks for 5 s at most).
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time that consent outlives its last check (RFC 7675 section 5.1).
const MAX_CONSENT: Duration = Duration::from_secs(30);

/// A stack that waits for an offer. `consent` is the time without an answer to consent checks
/// after which the peer has failed.
pub(super) fn build(
    now: Instant,
    offered: Setup,
    payload_type: u8,
    consent: Duration,
) -> Result<RTCPeerConnection, TransportError> {
    let codec = RTCRtpCodecParameters { rtp_codec: opus(), payload_type };
    let mut media_engine = MediaEngine::default();
    media_engine.register_codec(codec, RtpCodecKind::Audio).map_err(stack_error)?;
    RTCPeerConnectionBuilder::new()
        .with_configuration(
            RTCConfigurationBuilder::new().with_certificates(vec![process_certificate()?]).build(),
        )
        .with_media_engine(media_engine)
        .with_setting_engine(settings(offered, consent))
        .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
        .build(now)
        .map_err(stack_error)
}

fn settings(offered: Setup, consent: Duration) -> SettingEngine {
    // As DTLS client the server starts the handshake as soon as a pair works, which saves a round
    // trip (RFC 8842 section 5.3).
    let role = match offered {
        Setup::ActPass | Setup::Passive => RTCDtlsRole::Client,
        Setup::Active => RTCDtlsRole::Server,
    };
    // The stack counts a peer as interrupted first and as failed later; nothing hangs on the first.
    let consent = consent.min(MAX_CONSENT);
    let interrupted = consent / 2;
    SettingEngineBuilder::new()
        .with_answering_dtls_role(role)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_CHECKS))
        .with_ice_timeouts(
            Some(interrupted),
            Some(consent - interrupted),
            Some(CONSENT_INTERVAL.min(consent / 4)),
        )
        .build()
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: Vec::new(),
    }
}

/// Our tracks, one stream of packets for each SSRC in the order of [`Track::ALL`].
///
/// To the stack they are the layers of one simulcast track: it then encrypts and reports on each
/// of them, and still knows one section alone, so that it takes a microphone whose SSRC the offer
/// does not name.
pub(super) fn tracks(ssrcs: [u32; 2]) -> MediaStreamTrack {
    let layers = Track::ALL.iter().zip(ssrcs).map(|(track, ssrc)| RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            rid: track.name().to_owned(),
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        codec: opus(),
        ..RTCRtpEncodingParameters::default()
    });
    let [stream, track, label] = ["dragoman", "voices", "voices"].map(str::to_owned);
    MediaStreamTrack::new(stream, track, label, RtpCodecKind::Audio, layers.collect())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn stack_error(error: rtc::shared::error::Error) -> TransportError {
    TransportError::Stack(error.to_string())
}
