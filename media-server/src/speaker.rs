//! The speaker thread: the only producer of the playout rings.
//!
//! A ring is an [`Outlet`]: that of one listener in a call, or that of a channel in a conference.
//! Synthesised speech arrives in chunks of any length, possibly of several utterances at once; at an
//! outlet utterances are heard whole, one at a time ([`playlist`]). What does not fit into a ring
//! waits here, up to a backlog limit. Beyond it a call refuses the new utterance and a channel gives
//! up the one that has waited longest; either is captioned only ([`SpeakerNotice::Unspoken`]).

mod hurry;
mod playlist;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::playlist::{Limits, Playlist, Sheds};
use crate::engine::{SPOKEN_RATE_HZ, UtteranceId};
use crate::media::frames::PlayoutWriter;
use crate::media::{ChannelId, PeerId};

/// How often full rings are tried again: half a frame.
const RETRY: Duration = Duration::from_millis(10);
/// Longest that somebody waits for an answer of this thread.
const ANSWER: Duration = Duration::from_millis(100);
/// Messages that may wait for this thread. Full: the speaking stage waits, which only slows the
/// synthesis of speech that could not be played yet anyway.
const QUEUE: usize = 1024;
/// Frames of 20 ms that a channel's speech runs ahead in its ring: 300 ms. They cannot be held back
/// when somebody else takes the channel.
const CHANNEL_LEAD: usize = 15;

/// Where speech comes out: one playout ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outlet {
    /// A listener in a call.
    Peer(PeerId),
    /// A channel of a conference.
    Channel(ChannelId),
}

/// How much speech waits, and how long it waits for what began before it.
#[derive(Clone, Copy, Debug)]
pub struct SpeakerConfig {
    /// Most speech that waits for one listener of a call.
    pub backlog: Duration,
    /// Most speech that waits before the newest utterance of a channel.
    pub channel_backlog: Duration,
    /// Longest that speech waits for an utterance of somebody else that began earlier.
    pub order_wait: Duration,
    /// Speed of a channel's speech, 1 or more, while more than two seconds of other utterances wait.
    pub catch_up_speed: f32,
}

/// Why speech is not heard although it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unspoken {
    /// Too much waits.
    Backlog,
    /// A human interprets into the channel now.
    TakenOver,
}

/// What the speaker thread is told.
enum Message {
    Attach { outlet: Outlet, writer: PlayoutWriter },
    Detach { outlet: Outlet },
    Hold { channel: ChannelId, held: bool },
    Silence { channel: ChannelId },
    Expect { utterance: UtteranceId, speaker: PeerId, outlets: Arc<[Outlet]> },
    Speech { utterance: UtteranceId, outlets: Arc<[Outlet]>, chunk: Arc<Chunk> },
    End { utterance: UtteranceId, outlets: Arc<[Outlet]> },
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
    /// The utterance is not heard there.
    Unspoken {
        /// Where.
        outlet: Outlet,
        /// Which utterance.
        utterance: UtteranceId,
        /// Why.
        why: Unspoken,
    },
    /// A channel has something to say now, or nothing any more. While it has, nothing goes into its
    /// ring as long as it is held.
    WantsToSpeak {
        /// Which channel.
        channel: ChannelId,
        /// Whether it has.
        wants: bool,
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
        std::thread::Builder::new()
            .name("speaker".to_owned())
            .spawn(move || run(&inbox, config, &notices))?;
        Ok(Self { messages })
    }

    /// Takes over a playout ring.
    pub fn attach(&self, outlet: Outlet, writer: PlayoutWriter) {
        self.send(Message::Attach { outlet, writer });
    }

    /// Forgets an outlet and what waits for it.
    pub fn detach(&self, outlet: Outlet) {
        self.send(Message::Detach { outlet });
    }

    /// Whether somebody else's sound is on the channel: nothing goes into its ring then, and what
    /// was playing goes on afterwards.
    pub fn hold(&self, channel: ChannelId, held: bool) {
        self.send(Message::Hold { channel, held });
    }

    /// What the channel was going to say is not said: a human took over.
    pub fn silence(&self, channel: ChannelId) {
        self.send(Message::Silence { channel });
    }

    /// An utterance of `speaker` is on its way: what they say later comes after it, and what others
    /// say waits a moment for it. [`end`](Self::end) must follow, whether or not speech does.
    pub fn expect(&self, utterance: UtteranceId, speaker: PeerId, outlets: Arc<[Outlet]>) {
        self.send(Message::Expect { utterance, speaker, outlets });
    }

    /// The next samples of an utterance (48 kHz mono), for every outlet of its language. The first
    /// of them comes `at_48k` samples after the utterance's first; what lies between chunks is
    /// silence.
    pub fn speech(
        &self,
        utterance: UtteranceId,
        outlets: Arc<[Outlet]>,
        at_48k: u64,
        samples_48k: &[f32],
    ) {
        let chunk = Arc::new(Chunk { at_48k, samples_48k: samples_48k.to_vec() });
        self.send(Message::Speech { utterance, outlets, chunk });
    }

    /// The utterance is complete, or will get no more samples.
    pub fn end(&self, utterance: UtteranceId, outlets: Arc<[Outlet]>) {
        self.send(Message::End { utterance, outlets });
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

/// The playlist of an outlet, and what was last told of it.
struct Booth {
    list: Playlist<PlayoutWriter>,
    told_wants: bool,
}

fn run(inbox: &Receiver<Message>, config: SpeakerConfig, notices: &Sender<SpeakerNotice>) {
    let mut booths: HashMap<Outlet, Booth> = HashMap::new();
    loop {
        let waiting = booths.values().any(|booth| booth.told_wants || booth.list.has_work());
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
        if let Some(message) = message {
            take(message, now, &mut booths, config, notices);
        }
        for (outlet, booth) in &mut booths {
            booth.list.fill(now);
            if let Outlet::Channel(channel) = *outlet {
                let wants = booth.list.wants_to_speak(now);
                if wants != booth.told_wants {
                    let notice = SpeakerNotice::WantsToSpeak { channel, wants };
                    // Full: tried again in a moment, since the booth keeps this thread awake.
                    if notices.try_send(notice).is_ok() {
                        booth.told_wants = wants;
                    }
                }
            }
        }
    }
}

fn take(
    message: Message,
    now: Instant,
    booths: &mut HashMap<Outlet, Booth>,
    config: SpeakerConfig,
    notices: &Sender<SpeakerNotice>,
) {
    // Full: the notice is lost, and with it an event, never speech.
    let unspoken = |outlet, utterance, why| {
        let _ = notices.try_send(SpeakerNotice::Unspoken { outlet, utterance, why });
    };
    match message {
        Message::Attach { outlet, writer } => {
            let list = Playlist::new(writer, limits(outlet, config));
            booths.insert(outlet, Booth { list, told_wants: false });
        }
        Message::Detach { outlet } => {
            booths.remove(&outlet);
        }
        Message::Hold { channel, held } => {
            if let Some(booth) = booths.get_mut(&Outlet::Channel(channel)) {
                booth.list.hold(held);
            }
        }
        Message::Silence { channel } => {
            let outlet = Outlet::Channel(channel);
            if let Some(booth) = booths.get_mut(&outlet) {
                for utterance in booth.list.silence(Unspoken::TakenOver) {
                    unspoken(outlet, utterance, Unspoken::TakenOver);
                }
            }
        }
        Message::Expect { utterance, speaker, outlets } => {
            for_each(booths, &outlets, |_, list| list.expect(now, utterance, speaker));
        }
        Message::Speech { utterance, outlets, chunk } => {
            let Chunk { at_48k, samples_48k } = &*chunk;
            for_each(booths, &outlets, |outlet, list| {
                for (utterance, why) in list.accept(now, utterance, *at_48k, samples_48k) {
                    unspoken(outlet, utterance, why);
                }
            });
        }
        Message::End { utterance, outlets } => {
            for_each(booths, &outlets, |_, list| list.end(utterance));
        }
        Message::IsQuiet { answer } => {
            // Nobody waits for it any more: no matter.
            let _ = answer.try_send(booths.values().all(|booth| booth.list.is_quiet()));
        }
    }
}

fn limits(outlet: Outlet, config: SpeakerConfig) -> Limits {
    let samples = |time: Duration| time.as_millis() as usize * (SPOKEN_RATE_HZ as usize / 1000);
    let order_wait = config.order_wait;
    match outlet {
        Outlet::Peer(_) => Limits {
            backlog_48k: samples(config.backlog),
            sheds: Sheds::Newest,
            order_wait,
            lead: usize::MAX,
            catch_up: 1.0,
        },
        Outlet::Channel(_) => Limits {
            backlog_48k: samples(config.channel_backlog),
            sheds: Sheds::Oldest,
            order_wait,
            lead: CHANNEL_LEAD,
            catch_up: config.catch_up_speed,
        },
    }
}

fn for_each(
    booths: &mut HashMap<Outlet, Booth>,
    outlets: &[Outlet],
    mut act: impl FnMut(Outlet, &mut Playlist<PlayoutWriter>),
) {
    for outlet in outlets {
        if let Some(booth) = booths.get_mut(outlet) {
            act(*outlet, &mut booth.list);
        }
    }
}
