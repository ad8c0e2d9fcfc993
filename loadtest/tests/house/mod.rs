//! A house that "interprets" every utterance into a tone of half a second: real peers, real HTTP,
//! no models. What it does with an utterance can be chosen.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opus::{Application, Channels, Decoder, Encoder};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use signaling::ApiConfig;
use signaling::house::{Caller, Feed, House, HouseError, IceUpdate, NewSession, NewVoice};
use signaling::wire::{
    ChangeSession, CreateRoom, Event, EventKind, LanguageInfo, Participant, Room, Trace,
    UtteranceRef, VoiceInfo,
};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCSessionDescription, SettingEngineBuilder,
};

pub const API_KEY: &str = "0123456789abcdef0123456789abcdef";
/// Quiet after which an utterance is over.
pub const ENDPOINT_MS: f64 = 300.0;
const FRAME: usize = 960;
const TONE_FRAMES: usize = 25;

/// What becomes of an utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It is answered with a tone.
    Interpret,
    /// It is announced as spoken, and silence is sent.
    AnnounceSilence,
    /// It is dropped as overloaded.
    Drop,
    /// The same while there are more rooms than these; else it is answered.
    DropBeyond(usize),
    /// Nothing is heard at all.
    Ignore,
}

struct Peer {
    identity: String,
    connection: Arc<dyn PeerConnection>,
    /// Last voiced packet of the utterance that a tone answers.
    tones: mpsc::Sender<(UtteranceRef, Instant, Instant)>,
}

struct Floor {
    shown: Room,
    events: broadcast::Sender<Event>,
    last_seq: u64,
    peers: HashMap<String, Peer>,
}

type Rooms = Arc<Mutex<HashMap<String, Floor>>>;

pub struct ToneHouse {
    rooms: Rooms,
    behaviour: Behaviour,
    delay: Duration,
    killed: watch::Sender<bool>,
}

/// Serves a house on a port of its own; the server lives as long as the test's runtime.
pub async fn serve(behaviour: Behaviour) -> (String, Arc<ToneHouse>) {
    serve_delayed(behaviour, Duration::ZERO).await
}

/// The same, with time that an interpretation takes on top of the endpoint's.
pub async fn serve_delayed(behaviour: Behaviour, delay: Duration) -> (String, Arc<ToneHouse>) {
    let (killed, mut killing) = watch::channel(false);
    let house = Arc::new(ToneHouse { rooms: Rooms::default(), behaviour, delay, killed });
    let config = ApiConfig::new(API_KEY, None, false).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let router = signaling::router(Arc::clone(&house), config);
    tokio::spawn(async move {
        tokio::select! {
            served = signaling::serve(listener, router, std::future::pending()) => served,
            _ = killing.wait_for(|killed| *killed) => Ok(()),
        }
    });
    (format!("http://{address}"), house)
}

impl ToneHouse {
    pub fn peers(&self, room: &str) -> usize {
        self.rooms.lock().unwrap().get(room).map_or(0, |floor| floor.peers.len())
    }

    /// Ends without a goodbye: nobody answers any more, and all events stop.
    pub async fn kill(&self) {
        self.killed.send_replace(true);
        let floors: Vec<Floor> = self.rooms.lock().unwrap().drain().map(|(_, room)| room).collect();
        for floor in floors {
            for peer in floor.peers.into_values() {
                let _ = peer.connection.close().await;
            }
        }
    }

    pub fn rooms_open(&self) -> usize {
        self.rooms.lock().unwrap().len()
    }
}

fn publish(rooms: &Rooms, room: &str, kind: EventKind) {
    if let Some(floor) = rooms.lock().unwrap().get_mut(room) {
        floor.last_seq += 1;
        let seq = floor.last_seq;
        let _ = floor.events.send(Event { seq, time_ms: 0, room: room.to_owned(), kind });
    }
}

impl House for ToneHouse {
    fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError> {
        let mut rooms = self.rooms.lock().unwrap();
        let name = request.name.unwrap_or_else(|| format!("room-{}", rooms.len()));
        let shown = Room {
            name: name.clone(),
            kind: request.kind,
            languages: request.languages,
            original_gain: request.original_gain.unwrap_or_default(),
            max_participants: 2,
            empty_timeout_s: 0,
            departure_timeout_s: 0,
            keep_transcript: false,
            tier: "full".to_owned(),
            record: request.record,
            relay: request.relay,
            created_at_ms: 0,
            participants: Vec::new(),
        };
        let (events, _) = broadcast::channel(64);
        let floor = Floor { shown: shown.clone(), events, last_seq: 0, peers: HashMap::new() };
        rooms.insert(name, floor);
        Ok(shown)
    }

    fn rooms(&self) -> Vec<Room> {
        self.rooms.lock().unwrap().values().map(|floor| floor.shown.clone()).collect()
    }

    fn room(&self, name: &str) -> Result<Room, HouseError> {
        let rooms = self.rooms.lock().unwrap();
        let floor = rooms.get(name).ok_or_else(|| HouseError::NoSuchRoom(name.to_owned()))?;
        Ok(floor.shown.clone())
    }

    fn delete_room(&self, name: &str) -> Result<(), HouseError> {
        let removed = self.rooms.lock().unwrap().remove(name);
        removed.map(drop).ok_or_else(|| HouseError::NoSuchRoom(name.to_owned()))
    }

    async fn connect(&self, caller: Caller, offer: String) -> Result<NewSession, HouseError> {
        self.room(&caller.room)?;
        let offer = RTCSessionDescription::offer(offer)
            .map_err(|error| HouseError::BadSdp(error.to_string()))?;
        answer(Arc::clone(&self.rooms), self.behaviour, self.delay, caller, offer)
            .await
            .map_err(|error| HouseError::UnacceptableSdp(error.to_string()))
    }

    async fn update_ice(
        &self,
        _: &str,
        _: &str,
        _: Option<String>,
        _: String,
    ) -> Result<IceUpdate, HouseError> {
        Ok(IceUpdate::Trickled)
    }

    fn session_owner(&self, room: &str, session: &str) -> Result<String, HouseError> {
        let rooms = self.rooms.lock().unwrap();
        let floor = rooms.get(room).ok_or_else(|| HouseError::NoSuchRoom(room.to_owned()))?;
        let peer = floor.peers.get(session);
        let peer = peer.ok_or_else(|| HouseError::NoSuchSession(session.to_owned()))?;
        Ok(peer.identity.clone())
    }

    fn disconnect(&self, room: &str, session: &str) -> Result<(), HouseError> {
        let mut rooms = self.rooms.lock().unwrap();
        let floor = rooms.get_mut(room).ok_or_else(|| HouseError::NoSuchRoom(room.to_owned()))?;
        let peer = floor.peers.remove(session);
        let peer = peer.ok_or_else(|| HouseError::NoSuchSession(session.to_owned()))?;
        tokio::spawn(async move { peer.connection.close().await });
        Ok(())
    }

    fn change_session(&self, _: &str, _: &str, _: ChangeSession) -> Result<(), HouseError> {
        Err(HouseError::Invalid("there are no channels here".to_owned()))
    }

    fn mute(&self, _: &str, identity: &str, _: bool) -> Result<(), HouseError> {
        Err(HouseError::NoSuchParticipant(identity.to_owned()))
    }

    fn remove_participant(&self, _: &str, identity: &str) -> Result<(), HouseError> {
        Err(HouseError::NoSuchParticipant(identity.to_owned()))
    }

    fn events(&self, room: &str, _: Option<u64>) -> Result<Feed, HouseError> {
        let rooms = self.rooms.lock().unwrap();
        let floor = rooms.get(room).ok_or_else(|| HouseError::NoSuchRoom(room.to_owned()))?;
        Ok(Feed { lost: 0, past: Vec::new(), live: floor.events.subscribe() })
    }

    fn all_events(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        Vec::new()
    }

    fn can_learn(&self) -> bool {
        false
    }

    async fn learn_voice(&self, _: NewVoice) -> Result<VoiceInfo, HouseError> {
        Err(HouseError::CannotLearn)
    }

    fn forget_voice(&self, name: &str) -> Result<(), HouseError> {
        Err(HouseError::NoSuchVoice(name.to_owned()))
    }

    fn keep_voice(&self, _: &str, identity: &str, _: &str) -> Result<VoiceInfo, HouseError> {
        Err(HouseError::NoSuchParticipant(identity.to_owned()))
    }

    fn languages(&self) -> Vec<LanguageInfo> {
        Vec::new()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn drain(&self) {}

    fn is_draining(&self) -> bool {
        false
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn end_all(&self, _: &str) {
        self.rooms.lock().unwrap().clear();
    }
}

async fn answer(
    rooms: Rooms,
    behaviour: Behaviour,
    delay: Duration,
    caller: Caller,
    offer: RTCSessionDescription,
) -> Result<NewSession, webrtc::error::Error> {
    let mut media_engine = MediaEngine::default();
    media_engine.register_default_codecs()?;
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build();
    let (gathering, mut gathered) = watch::channel(RTCIceGatheringState::New);
    let handler = Handler {
        gathering,
        rooms: Arc::clone(&rooms),
        behaviour,
        delay,
        room: caller.room.clone(),
        identity: caller.identity.clone(),
    };
    let connecting = PeerConnectionBuilder::new()
        .with_media_engine(media_engine)
        .with_setting_engine(settings)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build();
    let connection: Arc<dyn PeerConnection> = Arc::new(Box::pin(connecting).await?);
    let ssrc = rand::random();
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec: RTCRtpCodec {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            ..Default::default()
        },
        ..Default::default()
    };
    let name = || "house".to_owned();
    let track = MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]);
    let track = Arc::new(TrackLocalStaticRTP::new(track));
    connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
    connection.set_remote_description(offer).await?;
    let answer = connection.create_answer(None).await?;
    connection.set_local_description(answer).await?;
    let complete = gathered.wait_for(|state| *state == RTCIceGatheringState::Complete);
    tokio::time::timeout(Duration::from_secs(5), complete).await.unwrap().unwrap();
    let answer_sdp = connection.local_description().await.unwrap().sdp;

    let (tones, waiting) = mpsc::channel(4);
    let voice = Voice { track, ssrc, rooms: Arc::clone(&rooms), behaviour, caller: caller.clone() };
    tokio::spawn(voice.run(waiting));
    let id = format!("session-of-{}", caller.identity);
    let peer = Peer { identity: caller.identity, connection, tones };
    rooms.lock().unwrap().get_mut(&caller.room).unwrap().peers.insert(id.clone(), peer);
    Ok(NewSession { id, answer_sdp, etag: "1".to_owned() })
}

struct Handler {
    gathering: watch::Sender<RTCIceGatheringState>,
    rooms: Rooms,
    behaviour: Behaviour,
    delay: Duration,
    room: String,
    identity: String,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathering.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let participant = Participant {
            identity: self.identity.clone(),
            name: self.identity.clone(),
            language: "en".to_owned(),
            hear: "en".to_owned(),
            voice: None,
            own_voice: None,
            muted: false,
            interprets: None,
            relay: None,
            channel: None,
        };
        publish(
            &self.rooms,
            &self.room,
            EventKind::ParticipantJoined { participant, connect_ms: 1.0 },
        );
        if self.behaviour != Behaviour::Ignore {
            let ear = Ear {
                rooms: Arc::clone(&self.rooms),
                behaviour: self.behaviour,
                delay: self.delay,
                room: self.room.clone(),
                identity: self.identity.clone(),
            };
            tokio::spawn(ear.listen(track));
        }
    }
}

struct Ear {
    rooms: Rooms,
    behaviour: Behaviour,
    delay: Duration,
    room: String,
    identity: String,
}

/// When speech was heard, and the RTP timestamps of its first and last sample.
#[derive(Clone, Copy)]
struct Voiced {
    first: Instant,
    last: Instant,
    first_rtp: u32,
    last_rtp: u32,
}

impl Ear {
    async fn listen(self, track: Arc<dyn TrackRemote>) {
        let mut decoder = Decoder::new(48_000, Channels::Mono).unwrap();
        let mut voiced: Option<Voiced> = None;
        let mut count = 0;
        while let Some(event) = track.poll().await {
            let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
            let mut samples = [0.0; FRAME];
            if decoder.decode_float(&packet.payload, &mut samples, false).is_err() {
                continue;
            }
            let utterance = UtteranceRef {
                utterance: format!("{}-{count}", self.identity),
                speaker: self.identity.clone(),
            };
            let now = Instant::now();
            if loadtest::level::dbfs(&samples) > -40.0 {
                if voiced.is_none() {
                    publish(&self.rooms, &self.room, EventKind::UtteranceStarted { utterance });
                }
                let rtp_timestamp = packet.header.timestamp;
                let speech = voiced.get_or_insert(Voiced {
                    first: now,
                    last: now,
                    first_rtp: rtp_timestamp,
                    last_rtp: rtp_timestamp,
                });
                speech.last = now;
                speech.last_rtp = rtp_timestamp.wrapping_add(FRAME as u32 - 1);
            } else if let Some(speech) = voiced
                && speech.last.elapsed().as_secs_f64() * 1000.0 > ENDPOINT_MS
            {
                voiced = None;
                count += 1;
                self.interpret(utterance, speech).await;
            }
        }
    }

    async fn interpret(&self, utterance: UtteranceRef, voiced: Voiced) {
        let Voiced { first, last, first_rtp, last_rtp } = voiced;
        let is_overloaded = match self.behaviour {
            Behaviour::Drop => true,
            Behaviour::DropBeyond(rooms) => self.rooms.lock().unwrap().len() > rooms,
            _ => false,
        };
        if is_overloaded {
            let (reason, detail) = ("overloaded".to_owned(), "there is no room for it".to_owned());
            let kind = EventKind::UtteranceDropped { utterance, reason, detail };
            publish(&self.rooms, &self.room, kind);
            return;
        }
        let trace = Trace { speech_ms: (last - first).as_secs_f64() * 1000.0, ..Trace::default() };
        let transcript = EventKind::UtteranceTranscript {
            utterance: utterance.clone(),
            language: "en".to_owned(),
            text: "hello".to_owned(),
            first_voiced_rtp: first_rtp,
            last_voiced_rtp: last_rtp,
            trace,
        };
        publish(&self.rooms, &self.room, transcript);
        let translation = EventKind::UtteranceTranslation {
            utterance: utterance.clone(),
            language: "es".to_owned(),
            text: "hola".to_owned(),
            translator: "tone".to_owned(),
            trace,
        };
        publish(&self.rooms, &self.room, translation);
        let others: Vec<_> = {
            let rooms = self.rooms.lock().unwrap();
            let Some(floor) = rooms.get(&self.room) else { return };
            let others = floor.peers.values().filter(|peer| peer.identity != self.identity);
            others.map(|peer| peer.tones.clone()).collect()
        };
        // The ear goes on listening meanwhile.
        let delay = self.delay;
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            for tones in others {
                // Whoever has left hears nothing.
                let _ = tones.send((utterance.clone(), first, last)).await;
            }
        });
    }
}

struct Voice {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    rooms: Rooms,
    behaviour: Behaviour,
    caller: Caller,
}

impl Voice {
    async fn run(self, mut tones: mpsc::Receiver<(UtteranceRef, Instant, Instant)>) {
        let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Voip).unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let (mut sequence_number, mut timestamp) = (0_u16, rand::random::<u32>());
        let mut left = 0;
        loop {
            tick.tick().await;
            match tones.try_recv() {
                Ok((utterance, first, last)) => {
                    left = TONE_FRAMES;
                    self.announce(utterance, first, last, timestamp);
                }
                Err(mpsc::error::TryRecvError::Empty) => {}
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            }
            let loudness =
                if left > 0 && self.behaviour != Behaviour::AnnounceSilence { 0.3 } else { 0.0 };
            left = left.saturating_sub(1);
            let step = std::f32::consts::TAU * 440.0 / 48_000.0;
            let samples: Vec<f32> =
                (0..FRAME).map(|n| loudness * (n as f32 * step).sin()).collect();
            let mut packet = rtc::rtp::Packet {
                payload: Bytes::from(encoder.encode_vec_float(&samples, 1275).unwrap()),
                ..Default::default()
            };
            packet.header.version = 2;
            packet.header.payload_type = 111;
            packet.header.ssrc = self.ssrc;
            packet.header.sequence_number = sequence_number;
            packet.header.timestamp = timestamp;
            sequence_number = sequence_number.wrapping_add(1);
            timestamp = timestamp.wrapping_add(FRAME as u32);
            if self.track.write_rtp(packet).await.is_err() {
                return;
            }
        }
    }

    fn announce(&self, utterance: UtteranceRef, first: Instant, last: Instant, timestamp: u32) {
        let lag_ms = last.elapsed().as_secs_f64() * 1000.0;
        let trace = Trace {
            speech_ms: (last - first).as_secs_f64() * 1000.0,
            endpoint_ms: Some(ENDPOINT_MS),
            lag_ms: Some(lag_ms),
            ..Trace::default()
        };
        let kind = EventKind::UtteranceSpoken {
            utterance,
            language: "es".to_owned(),
            listener: self.caller.identity.clone(),
            track: "0".to_owned(),
            rtp_timestamp: timestamp,
            trace,
        };
        publish(&self.rooms, &self.caller.room, kind);
    }
}
