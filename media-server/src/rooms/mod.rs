//! Rooms: who is in them, who hears whom, and the story of every utterance.
//!
//! [`Rooms`] is the house behind the HTTP face. It connects four parties that know nothing of each
//! other: the media plane (peers), the listener thread (segments), the engine (words) and the
//! speaker thread (playout); what they report becomes the room's events.

mod config;
mod house;
mod minutes;
mod state;
mod story;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};
use inference::{CancelToken, Language};
use parking_lot::Mutex;
use signaling::transcripts::Store;
use signaling::wire::{EventKind, PartialStage, UtteranceRef};

pub use self::config::{BargeIn, Overlap, RoomsConfig};
use self::minutes::Minutes;
use self::state::State;
use self::story::{FirstPacket, Stories};
use crate::engine::{DropReason, Engine, EngineConfig, Job, Models, Partial, UtteranceId};
use crate::listener::{Heard, Listener, SpeechSink};
use crate::media::{CloseReason, MediaConfig, MediaPlane, Notice, PeerId};
use crate::metrics::{Metrics, Now};
use crate::segmenter::SegmenterConfig;
use crate::speaker::{Speaker, SpeakerConfig, SpeakerNotice};
use crate::trace::Times;

/// Notices that may wait. Full: the media workers drop theirs and count them.
const NOTICE_QUEUE: usize = 4096;

/// Everything the house is configured with.
#[derive(Clone, Debug)]
pub struct HouseConfig {
    /// Defaults and limits of rooms.
    pub rooms: RoomsConfig,
    /// How the media plane listens.
    pub media: MediaConfig,
    /// How speech is cut.
    pub segmenter: SegmenterConfig,
    /// Thread budgets and deadlines of the engine.
    pub engine: EngineConfig,
    /// Where transcripts are kept; nowhere when missing.
    pub transcripts: Option<Arc<Store>>,
}

/// Why the house could not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The media plane did not start.
    #[error("the media plane did not start")]
    Media(#[from] crate::transport::TransportError),
    /// The listener did not start.
    #[error(transparent)]
    Listen(#[from] crate::listener::ListenError),
    /// The system refused a thread.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
}

/// The house: all rooms of this server. Cheap to share; ends its threads when dropped.
pub struct Rooms {
    shared: Arc<Shared>,
    _engine: Arc<Engine>,
}

/// What the reporting threads need.
pub(crate) struct Shared {
    config: RoomsConfig,
    models: Arc<Models>,
    plane: MediaPlane,
    speaker: Speaker,
    state: Mutex<State>,
    stories: Mutex<Stories>,
    minutes: Arc<Minutes>,
    metrics: Metrics,
    listener: std::sync::OnceLock<Listener>,
    engine: std::sync::OnceLock<std::sync::Weak<Engine>>,
    next_peer: AtomicU64,
    next_utterance: AtomicU64,
}

impl Rooms {
    /// Opens the house: starts the media plane, the listener, the engine and the speaker.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(models: &Arc<Models>, config: &HouseConfig) -> Result<Self, OpenError> {
        let (notices_in, notices) = bounded(NOTICE_QUEUE);
        let (refusals_in, refusals) = bounded(NOTICE_QUEUE);
        let plane = MediaPlane::start(config.media.clone(), notices_in)?;
        let waits = SpeakerConfig {
            backlog: Duration::from_secs(config.rooms.backlog_s),
            order_wait: Duration::from_millis(config.rooms.order_wait_ms),
        };
        let speaker = Speaker::start(waits, refusals_in)?;
        let minutes = Arc::new(Minutes::new(config.transcripts.clone()));
        let shared = Arc::new(Shared {
            config: config.rooms.clone(),
            models: Arc::clone(models),
            plane,
            speaker,
            state: Mutex::new(State::new(Arc::clone(&minutes))),
            stories: Mutex::new(Stories::default()),
            minutes,
            metrics: Metrics::default(),
            listener: std::sync::OnceLock::new(),
            engine: std::sync::OnceLock::new(),
            next_peer: AtomicU64::new(1),
            next_utterance: AtomicU64::new(1),
        });
        let observer = Arc::new(EngineObserver(Arc::clone(&shared)));
        let engine = Arc::new(Engine::start(Arc::clone(models), &config.engine, observer)?);
        let _ = shared.engine.set(Arc::downgrade(&engine));
        let sink = Arc::new(ListenerSink(Arc::clone(&shared)));
        let listener = Listener::start(models.vad.clone(), config.segmenter.clone(), sink)?;
        let _ = shared.listener.set(listener);
        let reporting = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || report(&reporting, &notices, &refusals))?;
        Ok(Self { shared, _engine: engine })
    }

    /// UDP addresses that callers are offered.
    pub fn media_addresses(&self) -> Vec<std::net::SocketAddr> {
        self.shared.plane.candidates().to_vec()
    }

    /// The numbers of this server; see [`Metrics::render`].
    ///
    /// # Errors
    /// None is known.
    pub fn render_metrics(&self) -> Result<String, std::fmt::Error> {
        let (rooms, participants) = self.shared.state.lock().population();
        let media = self.shared.plane.stats();
        let transcripts = self.shared.minutes.stats();
        self.shared.metrics.render(Now { media, rooms, participants, transcripts })
    }
}

/// Turns the notices of the media plane and the speaker into events, until both are gone.
fn report(
    shared: &std::sync::Weak<Shared>,
    notices: &Receiver<Notice>,
    refusals: &Receiver<SpeakerNotice>,
) {
    loop {
        select! {
            recv(notices) -> notice => {
                let (Ok(notice), Some(shared)) = (notice, shared.upgrade()) else { return };
                shared.media_notice(&notice);
            }
            recv(refusals) -> refusal => {
                let (Ok(refusal), Some(shared)) = (refusal, shared.upgrade()) else { return };
                let SpeakerNotice::Refused { peer: _, utterance } = refusal;
                let detail = "captioned only: too much speech waits for this listener already";
                shared.utterance_dropped(utterance, DropReason::Overloaded, detail);
            }
        }
    }
}

impl Shared {
    fn media_notice(&self, notice: &Notice) {
        match *notice {
            Notice::PeerConnected { peer, after } => self.peer_connected(peer, after),
            Notice::PeerClosed { peer, reason } => {
                let reason = match reason {
                    CloseReason::Requested | CloseReason::RemoteClosed => "left",
                    CloseReason::ConnectionLost => "connection_lost",
                    CloseReason::Failed => "failed",
                };
                self.remove_peer(peer, reason);
            }
            Notice::Spoken { peer, utterance, rtp_timestamp, sent } => {
                self.first_packet_sent(UtteranceId(utterance), peer, rtp_timestamp, sent);
            }
            Notice::Finished { .. } => {}
        }
    }

    fn peer_connected(&self, peer: PeerId, after: Duration) {
        let mut state = self.state.lock();
        let Some(room) = state.room_of_mut(peer) else { return };
        room.connected(peer);
        for route in room.routes(peer) {
            self.plane.set_route(route.listener, route.source, route.gain, route.duck);
        }
        let Some(member) = room.member(peer) else { return };
        let connect_ms = after.as_secs_f64() * 1_000.0;
        // Never the session's id: whoever knows it may end the session.
        tracing::info!(room = room.name, identity = member.identity, connect_ms, "connected");
        let Some(participant) = room.participant(peer) else { return };
        room.emit(EventKind::ParticipantJoined { participant, connect_ms });
    }

    /// Takes a peer out of its room and tells the room. The media plane is asked to close it too.
    fn remove_peer(&self, peer: PeerId, reason: &str) {
        let removed = self.state.lock().remove_peer(peer, reason);
        if removed {
            self.plane.disconnect(peer);
            self.speaker.detach(peer);
            if let Some(listener) = self.listener.get() {
                listener.detach(peer);
            }
            self.stories.lock().cancel_of(peer);
        }
    }

    fn first_packet_sent(
        &self,
        utterance: UtteranceId,
        peer: PeerId,
        rtp_timestamp: u32,
        sent: Instant,
    ) {
        let language = {
            let state = self.state.lock();
            state.room_of(peer).and_then(|room| room.member(peer)).map(|member| member.hear)
        };
        let Some(language) = language else { return };
        let packet = FirstPacket { utterance, language, peer, rtp_timestamp, sent };
        let now_told = self.stories.lock().hold(packet);
        if let Some(packet) = now_told {
            self.tell_spoken(&packet);
        }
    }

    /// Tells what waited for an utterance's translation into a language.
    fn translation_told(&self, utterance: UtteranceId, language: Language) {
        let waiting = self.stories.lock().told(utterance, language);
        for packet in waiting {
            self.tell_spoken(&packet);
        }
    }

    fn tell_spoken(&self, packet: &FirstPacket) {
        let story = self.stories.lock().times(packet.utterance, packet.language);
        let Some((reference, mut times)) = story else { return };
        times.sent = Some(packet.sent);
        let mut state = self.state.lock();
        let Some(room) = state.room_of_mut(packet.peer) else { return };
        let Some(listener) = room.member(packet.peer) else { return };
        let (listener, track) = (listener.identity.clone(), listener.track.clone());
        self.metrics.spoken(&times.trace());
        room.emit(EventKind::UtteranceSpoken {
            utterance: reference,
            language: packet.language.to_string(),
            listener,
            track,
            rtp_timestamp: packet.rtp_timestamp,
            trace: times.trace(),
        });
    }

    /// A participant speaks, or does so no more: what they hear makes room for them.
    fn barge_in(&self, peer: PeerId, speaks: bool) {
        if self.config.barge_in == BargeIn::Duck {
            let gain = if speaks { self.config.barge_in_gain } else { 1.0 };
            self.plane.set_voice_gain(peer, gain);
        }
    }

    /// Nothing more of an utterance comes, in any language.
    fn end_everywhere(&self, utterance: UtteranceId) {
        let listeners = self.stories.lock().all_listeners(utterance);
        for listeners in listeners {
            self.speaker.end(utterance, listeners);
        }
    }

    fn utterance_dropped(&self, utterance: UtteranceId, reason: DropReason, detail: &str) {
        if reason == DropReason::Failed {
            tracing::error!(%utterance, detail, "an utterance failed");
        }
        self.metrics.outcome(reason.label());
        let Some((room, reference)) = self.stories.lock().reference(utterance) else { return };
        self.emit(
            &room,
            EventKind::UtteranceDropped {
                utterance: reference,
                reason: reason.label().to_owned(),
                detail: detail.to_owned(),
            },
        );
    }

    fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.get().and_then(std::sync::Weak::upgrade)
    }

    fn emit(&self, room: &str, kind: EventKind) {
        if let Some(room) = self.state.lock().rooms.get_mut(room) {
            room.emit(kind);
        }
    }
}

/// Receives the segments of the listener thread.
struct ListenerSink(Arc<Shared>);

impl SpeechSink for ListenerSink {
    fn wanted(&self, peer: PeerId) -> bool {
        self.0.state.lock().room_of(peer).is_some_and(|room| room.is_interpreted(peer))
    }

    fn started(&self, peer: PeerId) -> UtteranceId {
        let shared = &self.0;
        let utterance = UtteranceId(shared.next_utterance.fetch_add(1, Ordering::Relaxed));
        shared.barge_in(peer, true);
        let mut state = shared.state.lock();
        if let Some(room) = state.room_of_mut(peer)
            && let Some(member) = room.member(peer)
        {
            let reference =
                UtteranceRef { utterance: utterance.to_string(), speaker: member.identity.clone() };
            let overlaps = room.speaks(peer, true);
            let voiced = !(overlaps && shared.config.overlap == Overlap::First);
            let name = room.name.clone();
            shared.stories.lock().begin(utterance, peer, name, reference.clone(), voiced);
            room.emit(EventKind::UtteranceStarted { utterance: reference });
        }
        utterance
    }

    fn paused(&self, peer: PeerId, utterance: UtteranceId, samples_16k: &[f32]) {
        let language = {
            let state = self.0.state.lock();
            state.room_of(peer).and_then(|room| room.member(peer)).map(|member| member.language)
        };
        if let (Some(language), Some(engine)) = (language, self.0.engine()) {
            engine.speculate(utterance, samples_16k, Some(language));
        }
    }

    fn resumed(&self, utterance: UtteranceId) {
        if let Some(engine) = self.0.engine() {
            engine.retract(utterance);
        }
    }

    fn heard(&self, peer: PeerId, utterance: UtteranceId, heard: Heard) {
        let shared = &self.0;
        shared.barge_in(peer, false);
        let (language, targets, voices) = {
            let mut state = shared.state.lock();
            let Some(room) = state.room_of_mut(peer) else { return };
            room.speaks(peer, false);
            let Some(member) = room.member(peer) else { return };
            (member.language, room.targets(peer), room.voices())
        };
        let Heard { samples_16k, first_voiced, last_voiced, ended } = heard;
        let cancel = CancelToken::new();
        let languages: Vec<Language> = targets.iter().map(|(language, _)| *language).collect();
        let listeners: Vec<Arc<[PeerId]>> =
            targets.iter().map(|(_, listeners)| Arc::clone(listeners)).collect();
        let story = |stories: &mut Stories| {
            stories.ended(utterance, targets, first_voiced, last_voiced, cancel.clone())
        };
        let voiced = story(&mut shared.stories.lock());
        for listeners in listeners {
            shared.speaker.expect(utterance, peer, listeners);
        }
        let job = Job {
            utterance,
            samples_16k,
            from: Some(language),
            targets: languages,
            voices,
            times: Times::new(first_voiced.arrived, last_voiced.arrived, ended),
            voiced,
            cancel,
        };
        let Some(engine) = shared.engine() else { return };
        if engine.submit(job).is_err() {
            shared.end_everywhere(utterance);
            let detail = "not interpreted: the server has more speech than it can recognise";
            shared.utterance_dropped(utterance, DropReason::Overloaded, detail);
        }
    }

    fn discarded(&self, peer: PeerId, utterance: UtteranceId) {
        let detail = "what began like speech was none";
        self.end_unheard(peer, utterance, DropReason::NoSpeech, detail);
    }

    fn abandoned(&self, peer: PeerId, utterance: UtteranceId) {
        let detail = "the speaker or the last listener left before the end";
        self.end_unheard(peer, utterance, DropReason::Cancelled, detail);
    }
}

impl ListenerSink {
    /// An utterance began that nothing will be made of.
    fn end_unheard(&self, peer: PeerId, utterance: UtteranceId, reason: DropReason, detail: &str) {
        self.resumed(utterance);
        self.0.barge_in(peer, false);
        if let Some(room) = self.0.state.lock().room_of_mut(peer) {
            room.speaks(peer, false);
        }
        self.0.utterance_dropped(utterance, reason, detail);
    }
}

/// Receives what the engine makes of a segment.
struct EngineObserver(Arc<Shared>);

impl crate::engine::Observer for EngineObserver {
    fn partial(&self, utterance: UtteranceId, language: Language, text: &str, stage: Partial) {
        let shared = &self.0;
        let Some((room, reference)) = shared.stories.lock().reference(utterance) else { return };
        shared.emit(
            &room,
            EventKind::UtterancePartial {
                utterance: reference,
                language: language.to_string(),
                text: text.to_owned(),
                stage: match stage {
                    Partial::Transcript => PartialStage::Transcript,
                    Partial::Translation => PartialStage::Translation,
                },
            },
        );
    }

    fn transcribed(
        &self,
        utterance: UtteranceId,
        transcript: &inference::whisper::Transcript,
        times: &Times,
    ) {
        let shared = &self.0;
        let Some((room, reference, first, last)) = shared.stories.lock().spoken_span(utterance)
        else {
            return;
        };
        shared.keep_transcript(&room, &reference, transcript, (first, last));
        shared.emit(
            &room,
            EventKind::UtteranceTranscript {
                utterance: reference,
                language: transcript.language.to_string(),
                text: transcript.text.clone(),
                first_voiced_rtp: first.rtp_timestamp,
                last_voiced_rtp: last.rtp_timestamp,
                trace: times.trace(),
            },
        );
    }

    fn translated(
        &self,
        utterance: UtteranceId,
        language: Language,
        translation: &inference::translate::Translation,
        times: &Times,
    ) {
        let shared = &self.0;
        let Some((room, reference)) = shared.stories.lock().reference(utterance) else { return };
        shared.keep_translation(&room, &reference, language, translation);
        shared.emit(
            &room,
            EventKind::UtteranceTranslation {
                utterance: reference,
                language: language.to_string(),
                text: translation.text.clone(),
                translator: translation.translator.clone(),
                trace: times.trace(),
            },
        );
        shared.translation_told(utterance, language);
    }

    fn speech(
        &self,
        utterance: UtteranceId,
        language: Language,
        at_48k: u64,
        samples_48k: &[f32],
        times: &Times,
    ) {
        let listeners = self.0.stories.lock().speech(utterance, language, times);
        if let Some(listeners) = listeners {
            self.0.speaker.speech(utterance, listeners, at_48k, samples_48k);
        }
    }

    fn spoken(&self, utterance: UtteranceId, language: Language, times: &Times) {
        let listeners = self.0.stories.lock().speech(utterance, language, times);
        if let Some(listeners) = listeners {
            self.0.speaker.end(utterance, listeners);
        }
    }

    fn dropped(
        &self,
        utterance: UtteranceId,
        language: Option<Language>,
        reason: DropReason,
        detail: &str,
    ) {
        let Some(language) = language else {
            self.0.end_everywhere(utterance);
            self.0.utterance_dropped(utterance, reason, detail);
            return;
        };
        let listeners = self.0.stories.lock().listeners(utterance, language);
        if let Some(listeners) = listeners {
            self.0.speaker.end(utterance, listeners);
        }
        self.0.translation_told(utterance, language);
        self.0.utterance_dropped(utterance, reason, detail);
    }
}
