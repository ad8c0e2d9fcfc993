//! Rooms: who is in them, who hears whom, and the story of every utterance.
//!
//! [`Rooms`] is the house behind the HTTP face. It connects four parties that know nothing of each
//! other: the media plane (peers), the listener thread (segments), the engine (words) and the
//! speaker thread (playout); what they report becomes the room's events.
//!
//! A change of a room ([`room`], [`membership`]) is bookkeeping alone. What the plane and the
//! speaker should know of it follows from what the room is then, by the rules of a [`call`] or of a
//! [`conference`]; they are told the difference to what they knew ([`orders`]).

mod call;
mod conference;
mod config;
mod connect;
mod create;
mod events;
mod house;
mod learner;
mod membership;
mod minutes;
#[cfg(test)]
mod model_calls_tests;
mod observer;
mod orders;
mod own_voice;
#[cfg(test)]
mod own_voice_tests;
mod preparer;
mod report;
mod room;
mod sink;
mod state;
mod story;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use signaling::Stats as FaceStats;
use signaling::transcripts::Store;
use signaling::wire::OwnVoice;

pub use self::config::{BargeIn, Overlap, RoomsConfig};
use self::learner::Learner;
use self::minutes::Minutes;
use self::observer::EngineObserver;
use self::preparer::Preparer;
use self::sink::ListenerSink;
use self::state::State;
use self::story::Stories;
use crate::engine::{Engine, EngineConfig, Models, ModelsInUse};
use crate::learning::shelf::Shelf;
use crate::listener::Listener;
use crate::media::{MediaConfig, MediaPlane};
use crate::metrics::{Metrics, Now};
use crate::segmenter::SegmenterConfig;
use crate::speaker::{Speaker, SpeakerConfig};

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
    /// The folder that learned voices are stored in; in memory alone when missing.
    pub voices: Option<PathBuf>,
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
    engine: Arc<Engine>,
}

/// What the reporting threads need.
pub(crate) struct Shared {
    config: RoomsConfig,
    models: Arc<ModelsInUse>,
    plane: MediaPlane,
    speaker: Speaker,
    state: Mutex<State>,
    stories: Mutex<Stories>,
    minutes: Arc<Minutes>,
    shelf: Shelf,
    learner: Learner,
    metrics: Metrics,
    listener: OnceLock<Listener>,
    engine: OnceLock<Weak<Engine>>,
    preparer: Preparer,
    next_peer: AtomicU64,
    next_utterance: AtomicU64,
    /// The server is about to end: nothing new is begun.
    draining: AtomicBool,
}

impl Rooms {
    /// Opens the house: starts the media plane, the listener, the engine and the speaker.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(models: &Arc<ModelsInUse>, config: &HouseConfig) -> Result<Self, OpenError> {
        let (notices_in, notices) = bounded(NOTICE_QUEUE);
        let (spoken_in, spoken) = bounded(NOTICE_QUEUE);
        let plane = MediaPlane::start(config.media.clone(), notices_in)?;
        let waits = SpeakerConfig {
            backlog: Duration::from_secs(config.rooms.backlog_s),
            channel_backlog: Duration::from_secs(config.rooms.conference_backlog_s),
            order_wait: Duration::from_millis(config.rooms.order_wait_ms),
            catch_up_speed: config.rooms.catch_up_speed,
        };
        let speaker = Speaker::start(waits, spoken_in)?;
        let minutes = Arc::new(Minutes::new(config.transcripts.clone()));
        let shelf = Shelf::open(config.voices.clone());
        shelf.recall(models);
        let (to_learn, learning) = bounded(learner::QUEUE);
        let shared = Arc::new(Shared {
            config: config.rooms.clone(),
            models: Arc::clone(models),
            plane,
            speaker,
            state: Mutex::new(State::new(
                Arc::clone(&minutes),
                config.engine.overload.pin.unwrap_or_default(),
            )),
            stories: Mutex::new(Stories::default()),
            minutes,
            shelf,
            learner: Learner(to_learn),
            metrics: Metrics::default(),
            listener: OnceLock::new(),
            engine: OnceLock::new(),
            preparer: Preparer::start(Arc::clone(models))?,
            next_peer: AtomicU64::new(1),
            next_utterance: AtomicU64::new(1),
            draining: AtomicBool::new(false),
        });
        let observer = Arc::new(EngineObserver(Arc::clone(&shared)));
        let engine = Arc::new(Engine::start(Arc::clone(models), &config.engine, observer)?);
        let _ = shared.engine.set(Arc::downgrade(&engine));
        let sink = Arc::new(ListenerSink(Arc::clone(&shared)));
        let listener = Listener::start(Arc::clone(models), config.segmenter.clone(), sink)?;
        let _ = shared.listener.set(listener);
        learner::start(&shared, learning)?;
        let reporting = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || report::run(&reporting, &notices, &spoken))?;
        Ok(Self { shared, engine })
    }

    /// Puts other models in the place of those in use, and gives back those before. Whatever they
    /// were asked for they still do. Learned voices are there too, if they can have them; the own
    /// voice of a participant that they cannot have is forgotten.
    pub fn replace_models(&self, models: Models) -> Arc<Models> {
        let (before, lost) = self.shared.shelf.replace(&self.shared.models, models);
        for voice in lost {
            tracing::warn!("a participant's own voice is lost: the models in use cannot have it");
            self.shared.settle_own_voice(&voice, OwnVoice::Forgotten);
        }
        self.shared.preparer.prepare_again();
        before
    }

    /// UDP addresses that callers are offered.
    pub fn media_addresses(&self) -> Vec<std::net::SocketAddr> {
        self.shared.plane.candidates().to_vec()
    }

    /// The numbers of this server, with those of its HTTP face; see [`Metrics::render`].
    ///
    /// # Errors
    /// None is known.
    pub fn render_metrics(&self, face: &Arc<FaceStats>) -> Result<String, std::fmt::Error> {
        let (rooms, participants) = self.shared.state.lock().population();
        let (media, face) = (self.shared.plane.stats(), Arc::clone(face));
        let transcripts = self.shared.minutes.stats();
        let engine = self.engine.stats();
        self.shared.metrics.render(Now { media, face, rooms, participants, transcripts, engine })
    }
}
