//! The peer connection of a caller: Opus both ways on one audio section, loopback addresses, no
//! multicast DNS, and a handler that hands everything on at once, because it runs on the
//! connection's own task.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use tokio::sync::watch;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
    SettingEngineBuilder, register_default_interceptors,
};
use webrtc::rtp_transceiver::RtpSender;

use crate::SAMPLE_RATE;
use crate::recording::Recorder;

/// The payload type browsers offer Opus with.
const OPUS_PAYLOAD_TYPE: u8 = 111;

/// A connection that has made its offer.
pub(crate) struct Peer {
    connection: Arc<dyn PeerConnection>,
    sender: Arc<dyn RtpSender>,
    pub(crate) track: Arc<TrackLocalStaticRTP>,
    pub(crate) ssrc: u32,
    gathering: watch::Receiver<RTCIceGatheringState>,
    pub(crate) state: watch::Receiver<RTCPeerConnectionState>,
}

impl Peer {
    /// Binds one UDP socket on `address` and sets up one audio section that sends and receives;
    /// what is received goes to `recorder`.
    pub(crate) async fn new(
        address: IpAddr,
        recorder: Arc<Mutex<Recorder>>,
    ) -> Result<Self, webrtc::error::Error> {
        let mut media_engine = MediaEngine::default();
        let parameters =
            RTCRtpCodecParameters { rtp_codec: opus_codec(), payload_type: OPUS_PAYLOAD_TYPE };
        media_engine.register_codec(parameters, RtpCodecKind::Audio)?;
        let registry = register_default_interceptors(Registry::new(), &mut media_engine)?;
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();
        let (gathering_sender, gathering) = watch::channel(RTCIceGatheringState::New);
        let (state_sender, state) = watch::channel(RTCPeerConnectionState::New);
        let handler = Handler {
            gathering: gathering_sender,
            state: state_sender,
            recorder,
            recording: AtomicBool::new(false),
        };
        let connecting = PeerConnectionBuilder::new()
            .with_media_engine(media_engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![(address, 0)])
            .build();
        // The builder is a future of 20 KiB: on the heap, so that callers of callers stay small.
        let connection: Arc<dyn PeerConnection> = Arc::new(Box::pin(connecting).await?);
        let ssrc = rand::random();
        let track = Arc::new(TrackLocalStaticRTP::new(audio_track(ssrc)));
        let sender = connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        Ok(Self { connection, sender, track, ssrc, gathering, state })
    }

    /// The offer with every candidate in it.
    pub(crate) async fn offer(
        &mut self,
        patience: Duration,
    ) -> Result<String, webrtc::error::Error> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        let gathered = self.gathering.wait_for(|state| *state == RTCIceGatheringState::Complete);
        // Candidates found so far are good enough when gathering hangs.
        let _ = tokio::time::timeout(patience, gathered).await;
        let description = self.connection.local_description().await;
        description
            .map(|description| description.sdp)
            .ok_or_else(|| webrtc::error::Error::Other("there is no local description".to_owned()))
    }

    /// Takes the answer; the connection comes up by itself from here.
    pub(crate) async fn accept(&self, answer_sdp: String) -> Result<(), webrtc::error::Error> {
        let answer = RTCSessionDescription::answer(answer_sdp)?;
        self.connection.set_remote_description(answer).await
    }

    /// The payload type that was negotiated for Opus.
    pub(crate) async fn payload_type(&self) -> Result<u8, webrtc::error::Error> {
        let parameters = self.sender.get_parameters().await?;
        let opus = parameters
            .rtp_parameters
            .codecs
            .iter()
            .find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(MIME_TYPE_OPUS));
        Ok(opus.map_or(OPUS_PAYLOAD_TYPE, |codec| codec.payload_type))
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the connection did not close cleanly");
        }
    }
}

/// Opus as RFC 7587 §7 wants it written, with forward error correction.
fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: SAMPLE_RATE,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: Vec::new(),
    }
}

fn audio_track(ssrc: u32) -> MediaStreamTrack {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        codec: opus_codec(),
        ..RTCRtpEncodingParameters::default()
    };
    let (stream, track, label) = ("caller".to_owned(), "speech".to_owned(), "speech".to_owned());
    MediaStreamTrack::new(stream, track, label, RtpCodecKind::Audio, vec![encoding])
}

struct Handler {
    gathering: watch::Sender<RTCIceGatheringState>,
    state: watch::Sender<RTCPeerConnectionState>,
    recorder: Arc<Mutex<Recorder>>,
    recording: AtomicBool,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathering.send_replace(state);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if track.kind().await != RtpCodecKind::Audio || self.recording.swap(true, Ordering::Relaxed)
        {
            return;
        }
        tokio::spawn(record(track, Arc::clone(&self.recorder)));
    }
}

/// Ends by itself: a closed connection ends its tracks.
async fn record(track: Arc<dyn TrackRemote>, recorder: Arc<Mutex<Recorder>>) {
    while let Some(event) = track.poll().await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event {
            let arrival = Instant::now();
            let header = &packet.header;
            recorder.lock().unwrap_or_else(PoisonError::into_inner).receive(
                header.sequence_number,
                header.timestamp,
                &packet.payload,
                arrival,
            );
        }
    }
}
