//! The speaker thread: the only producer of the playout rings.
//!
//! Synthesised speech arrives in chunks of any length, possibly of several utterances at once; each
//! listener hears utterances whole, one at a time ([`playlist`]). What does not fit into a ring waits
//! here, up to a backlog limit beyond which a new utterance is refused for that listener
//! ([`SpeakerNotice::Refused`]).

mod playlist;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::playlist::{Limits, Playlist};
use crate::engine::{SPOKEN_RATE_HZ, UtteranceId};
use crate::media::PeerId;
use crate::media::frames::PlayoutWriter;

/// How often full rings are tried again: half a frame.
const RETRY: Duration = Duration::from_millis(10);
/// Longest that somebody waits for an answer of this thread.
const ANSWER: Duration = Duration::from_millis(100);
/// Messages that may wait for this thread. Full: the speaking stage waits, which only slows the
/// synthesis of speech that could not be played yet anyway.
const QUEUE: usize = 1024;

/// How much speech waits, and how long it waits for what began before it.
#[derive(Clone, Copy, Debug)]
pub struct SpeakerConfig {
    /// Most speech that waits for one listener.
    pub backlog: Duration,
    /// Longest that speech waits for an utterance of somebody else that began earlier.
    pub order_wait: Duration,
}

/// What the speaker thread is told.
enum Message {
    Attach { peer: PeerId, writer: PlayoutWriter },
    Detach { peer: PeerId },
    Expect { utterance: UtteranceId, speaker: PeerId, listeners: Arc<[PeerId]> },
    Speech { utterance: UtteranceId, listeners: Arc<[PeerId]>, chunk: Arc<Chunk> },
    End { utterance: UtteranceId, listeners: Arc<[PeerId]> },
    IsQuiet { answer: Sender<bool> },
}

/// Samples of an utterance and their place in it.
struct Chunk {
    /// Samples (48 kHz) from the utterance's first to this chunk's first.
    at_48k: u64,
    samples_48k: Vec<f32>,
}

/// What the speaker thread reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeakerNotice {
    /// The listener's backlog was over the limit: this utterance is not played to them.
    Refused {
        /// Listener.
        peer: PeerId,
        /// Which utterance.
        utterance: UtteranceId,
    },
}

/// Sends to the speaker thread; cheap to clone. The thread ends with the last handle.
#[derive(Clone)]
pub struct Speaker {
    messages: Sender<Message>,
}

impl Speaker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(config: SpeakerConfig, notices: Sender<SpeakerNotice>) -> std::io::Result<Self> {
        let (messages, inbox) = bounded(QUEUE);
        let limits = Limits {
            backlog_48k: config.backlog.as_millis() as usize * (SPOKEN_RATE_HZ as usize / 1000),
            order_wait: config.order_wait,
        };
        std::thread::Builder::new()
            .name("speaker".to_owned())
            .spawn(move || run(&inbox, limits, &notices))?;
        Ok(Self { messages })
    }

    /// Takes over the playout ring of a listener.
    pub fn attach(&self, peer: PeerId, writer: PlayoutWriter) {
        self.send(Message::Attach { peer, writer });
    }

    /// Forgets a listener and what waits for them.
    pub fn detach(&self, peer: PeerId) {
        self.send(Message::Detach { peer });
    }

    /// An utterance of `speaker` is on its way: what they say later comes after it, and what others
    /// say waits a moment for it. [`end`](Self::end) must follow, whether or not speech does.
    pub fn expect(&self, utterance: UtteranceId, speaker: PeerId, listeners: Arc<[PeerId]>) {
        self.send(Message::Expect { utterance, speaker, listeners });
    }

    /// The next samples of an utterance (48 kHz mono), for every listener of its language. The
    /// first of them comes `at_48k` samples after the utterance's first; what lies between chunks
    /// is silence.
    pub fn speech(
        &self,
        utterance: UtteranceId,
        listeners: Arc<[PeerId]>,
        at_48k: u64,
        samples_48k: &[f32],
    ) {
        let chunk = Arc::new(Chunk { at_48k, samples_48k: samples_48k.to_vec() });
        self.send(Message::Speech { utterance, listeners, chunk });
    }

    /// The utterance is complete, or will get no more samples.
    pub fn end(&self, utterance: UtteranceId, listeners: Arc<[PeerId]>) {
        self.send(Message::End { utterance, listeners });
    }

    /// Whether nothing is expected, waits or plays. Waits for the thread, which takes microseconds.
    pub fn is_quiet(&self) -> bool {
        let (answer, answered) = bounded(1);
        self.send(Message::IsQuiet { answer });
        answered.recv_timeout(ANSWER).unwrap_or(false)
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::error!("the speaker thread is gone: nothing is played any more");
        }
    }
}

fn run(inbox: &Receiver<Message>, limits: Limits, notices: &Sender<SpeakerNotice>) {
    let mut listeners: HashMap<PeerId, Playlist<PlayoutWriter>> = HashMap::new();
    loop {
        let waiting = listeners.values().any(Playlist::has_work);
        let message = if waiting {
            match inbox.recv_timeout(RETRY) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else {
            match inbox.recv() {
                Ok(message) => Some(message),
                Err(_) => return,
            }
        };
        let now = Instant::now();
        match message {
            Some(Message::Attach { peer, writer }) => {
                listeners.insert(peer, Playlist::new(writer, limits));
            }
            Some(Message::Detach { peer }) => {
                listeners.remove(&peer);
            }
            Some(Message::Expect { utterance, speaker, listeners: peers }) => {
                for_each(&mut listeners, &peers, |_, list| list.expect(now, utterance, speaker));
            }
            Some(Message::Speech { utterance, listeners: peers, chunk }) => {
                let Chunk { at_48k, samples_48k } = &*chunk;
                for_each(&mut listeners, &peers, |peer, list| {
                    if !list.accept(now, utterance, *at_48k, samples_48k) {
                        // Full: the notice is lost, and with it an event, never speech.
                        let _ = notices.try_send(SpeakerNotice::Refused { peer, utterance });
                    }
                });
            }
            Some(Message::End { utterance, listeners: peers }) => {
                for_each(&mut listeners, &peers, |_, list| list.end(utterance));
            }
            Some(Message::IsQuiet { answer }) => {
                // Nobody waits for it any more: no matter.
                let _ = answer.try_send(listeners.values().all(Playlist::is_quiet));
            }
            None => {}
        }
        for listener in listeners.values_mut() {
            listener.fill(now);
        }
    }
}

fn for_each(
    listeners: &mut HashMap<PeerId, Playlist<PlayoutWriter>>,
    peers: &[PeerId],
    mut act: impl FnMut(PeerId, &mut Playlist<PlayoutWriter>),
) {
    for peer in peers {
        if let Some(listener) = listeners.get_mut(peer) {
            act(*peer, listener);
        }
    }
}
