//! The listener thread: drains the heard rings of all peers and finds the segments in them.
//!
//! It runs the VAD over whatever is there and never waits for more; a frame costs some ten
//! microseconds, so one thread serves thousands of peers. What it finds goes to a [`SpeechSink`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ringbuf::traits::{Consumer, Observer};

use crate::engine::{ModelsInUse, UtteranceId};
use crate::media::PeerId;
use crate::media::frames::{HeardFrame, HeardReader};
use crate::segmenter::{Ear, Event, InvalidSegmenterConfig, Segment, SegmenterConfig};

/// How often the rings are looked at: a quarter of a frame, so that the lag it adds is small beside
/// the frame itself.
const POLL: Duration = Duration::from_millis(5);
/// RTP clock ticks (48 kHz) per sample at 16 kHz.
const TICKS_PER_SAMPLE: u64 = 3;
/// Frames whose arrival is remembered: more than the longest segment with its pause.
const REMEMBERED_FRAMES: usize = 2_000;

/// A moment in a peer's stream, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// RTP timestamp on the sender's clock (48 kHz).
    pub rtp_timestamp: u32,
    /// When the packet that carried it arrived.
    pub arrived: Instant,
}

/// A finished segment of a peer's speech.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The samples, 16 kHz mono, with some before the onset and after the end.
    pub samples_16k: Vec<f32>,
    /// The first voiced sample.
    pub first_voiced: Mark,
    /// The last voiced sample.
    pub last_voiced: Mark,
    /// When it was decided that the segment had ended.
    pub ended: Instant,
}

/// Receives what the listener finds. Called on the listener thread, which all peers share: an
/// implementation must not block.
pub trait SpeechSink: Send + Sync {
    /// Whether anybody wants this peer's speech; if not, it costs no VAD.
    fn wanted(&self, peer: PeerId) -> bool;

    /// The peer began to speak; the id names the utterance from now on.
    fn started(&self, peer: PeerId) -> UtteranceId;

    /// The peer pauses; these samples (16 kHz mono) are the utterance if it ends here.
    fn paused(&self, peer: PeerId, utterance: UtteranceId, samples_16k: &[f32]);

    /// The utterance goes on after a pause.
    fn resumed(&self, utterance: UtteranceId);

    /// The utterance ended.
    fn heard(&self, peer: PeerId, utterance: UtteranceId, heard: Heard);

    /// What had started was no speech.
    fn discarded(&self, peer: PeerId, utterance: UtteranceId);

    /// The utterance will never end: its speaker has left, or the last who wanted it has.
    fn abandoned(&self, peer: PeerId, utterance: UtteranceId);
}

/// Why the listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The numbers of the segmenter contradict each other.
    #[error(transparent)]
    Config(#[from] InvalidSegmenterConfig),
    /// The system refused a thread.
    #[error("cannot start the listener thread")]
    Thread(#[from] std::io::Error),
}

/// Joins and leaves that may wait for the thread. Full: whoever joins or leaves waits for the next
/// round of the loop, a few milliseconds.
const QUEUE: usize = 256;

/// Sends peers to the listener thread, which ends with the last handle.
#[derive(Clone)]
pub struct Listener {
    messages: Sender<Message>,
}

enum Message {
    Attach { peer: PeerId, reader: HeardReader },
    Detach { peer: PeerId },
}

impl Listener {
    /// Starts the thread.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn start(
        models: Arc<ModelsInUse>,
        config: SegmenterConfig,
        sink: Arc<dyn SpeechSink>,
    ) -> Result<Self, ListenError> {
        // Checked once here, so that attaching a peer cannot fail on it.
        Ear::new(&models.get().vad, config.clone())?;
        let (messages, inbox) = bounded(QUEUE);
        std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || run(&inbox, &models, &config, sink.as_ref()))?;
        Ok(Self { messages })
    }

    /// Takes over the heard ring of a peer.
    pub fn attach(&self, peer: PeerId, reader: HeardReader) {
        self.send(Message::Attach { peer, reader });
    }

    /// Forgets a peer, in the middle of a word if need be.
    pub fn detach(&self, peer: PeerId) {
        self.send(Message::Detach { peer });
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::error!("the listener thread is gone: nobody is heard any more");
        }
    }
}

fn run(
    inbox: &Receiver<Message>,
    models: &ModelsInUse,
    config: &SegmenterConfig,
    sink: &dyn SpeechSink,
) {
    let mut peers: BTreeMap<PeerId, Peer> = BTreeMap::new();
    loop {
        match inbox.recv_timeout(POLL) {
            Ok(Message::Attach { peer, reader }) => {
                match Ear::new(&models.get().vad, config.clone()) {
                    Ok(ear) => {
                        peers.insert(peer, Peer::new(peer, reader, ear));
                    }
                    Err(error) => tracing::error!(%error, ?peer, "a peer cannot be heard"),
                }
            }
            Ok(Message::Detach { peer }) => {
                let utterance = peers.remove(&peer).and_then(|peer| peer.utterance);
                if let Some(utterance) = utterance {
                    sink.abandoned(peer, utterance);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for peer in peers.values_mut() {
            peer.listen(sink);
        }
    }
}

struct Peer {
    id: PeerId,
    reader: HeardReader,
    ear: Ear,
    arrivals: Arrivals,
    utterance: Option<UtteranceId>,
}

impl Peer {
    fn new(id: PeerId, reader: HeardReader, ear: Ear) -> Self {
        Self { id, reader, ear, arrivals: Arrivals::default(), utterance: None }
    }

    fn listen(&mut self, sink: &dyn SpeechSink) {
        if self.reader.is_empty() {
            return;
        }
        let wanted = sink.wanted(self.id);
        while let Some(frame) = self.reader.try_pop() {
            if !wanted {
                if self.ear.is_speaking() {
                    self.end_unheard(sink);
                }
                continue;
            }
            self.arrivals.note(&frame);
            let mut events = Vec::new();
            let position = frame.rtp_time / TICKS_PER_SAMPLE;
            self.ear.hear(position, &frame.samples, |event| events.push(event));
            for event in events {
                self.take(event, sink);
            }
        }
    }

    fn take(&mut self, event: Event, sink: &dyn SpeechSink) {
        match event {
            Event::Started { .. } => self.utterance = Some(sink.started(self.id)),
            Event::SoftEnd { segment } => {
                if let Some(utterance) = self.utterance {
                    sink.paused(self.id, utterance, &segment.samples_16k);
                }
            }
            Event::Resumed { .. } => {
                if let Some(utterance) = self.utterance {
                    sink.resumed(utterance);
                }
            }
            Event::Ended { segment, speculated } => {
                let Some(utterance) = self.utterance.take() else { return };
                if !speculated {
                    // Not the samples of the last pause.
                    sink.resumed(utterance);
                }
                let ended = Instant::now();
                let segment = Arc::unwrap_or_clone(segment);
                let Some((first_voiced, last_voiced)) = self.arrivals.span(&segment, ended) else {
                    sink.discarded(self.id, utterance);
                    return;
                };
                let samples_16k = segment.samples_16k;
                let heard = Heard { samples_16k, first_voiced, last_voiced, ended };
                sink.heard(self.id, utterance, heard);
            }
            Event::Discarded { .. } => {
                if let Some(utterance) = self.utterance.take() {
                    sink.discarded(self.id, utterance);
                }
            }
        }
    }

    /// The last listener left in the middle of an utterance.
    fn end_unheard(&mut self, sink: &dyn SpeechSink) {
        self.ear.finish(|_| {});
        if let Some(utterance) = self.utterance.take() {
            sink.abandoned(self.id, utterance);
        }
    }
}

/// When the latest frames arrived, so that a sample's position can be turned into a moment.
#[derive(Default)]
struct Arrivals(VecDeque<(u64, Instant)>);

impl Arrivals {
    fn note(&mut self, frame: &HeardFrame) {
        if self.0.len() == REMEMBERED_FRAMES {
            self.0.pop_front();
        }
        self.0.push_back((frame.rtp_time, frame.arrived));
    }

    /// The first and the last voiced sample of a segment. `None` before any frame.
    fn span(&self, segment: &Segment, now: Instant) -> Option<(Mark, Mark)> {
        let first = self.mark(segment.first_voiced * TICKS_PER_SAMPLE, now)?;
        // The segment says where the voice had ended: its last sample lies just before.
        let last = self.mark(segment.last_voiced.saturating_sub(1) * TICKS_PER_SAMPLE, now)?;
        Some((first, last))
    }

    /// The arrival of the frame that holds the tick, or of the last one before it.
    fn mark(&self, rtp_time: u64, now: Instant) -> Option<Mark> {
        let index = self.0.partition_point(|(start, _)| *start <= rtp_time);
        let (_, arrived) = self.0.get(index.saturating_sub(1))?;
        // On the wire the timestamp is the low half of the extended one (RFC 3550, 5.1).
        Some(Mark { rtp_timestamp: rtp_time as u32, arrived: (*arrived).min(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::frames::{HEARD_SAMPLES, TICKS_PER_FRAME};

    fn frame(rtp_time: u64, arrived: Instant) -> HeardFrame {
        HeardFrame { rtp_time, arrived, concealed: false, samples: [0.0; HEARD_SAMPLES] }
    }

    #[test]
    fn a_sample_arrived_with_the_frame_that_holds_it() {
        let start = Instant::now();
        let at = |index: u64| start + Duration::from_millis(20 * index);
        let mut arrivals = Arrivals::default();
        for index in 0..5 {
            arrivals.note(&frame(1_000 + index * TICKS_PER_FRAME, at(index)));
        }
        let now = at(10);
        let mark = |tick| arrivals.mark(tick, now).expect("frames were noted");
        assert_eq!(mark(1_000).arrived, at(0));
        assert_eq!(mark(1_000 + TICKS_PER_FRAME - 1).arrived, at(0));
        assert_eq!(mark(1_000 + TICKS_PER_FRAME).arrived, at(1));
        assert_eq!(mark(1_000 + 40 * TICKS_PER_FRAME).arrived, at(4));
    }

    #[test]
    fn the_wire_timestamp_is_the_low_half_of_the_extended_one() {
        let now = Instant::now();
        let mut arrivals = Arrivals::default();
        let extended = (1_u64 << 32) + 960;
        arrivals.note(&frame(extended, now));
        let mark = arrivals.mark(extended + 3, now).expect("a frame was noted");
        assert_eq!(mark.rtp_timestamp, 963);
    }

    #[test]
    fn before_any_frame_there_is_no_moment() {
        assert_eq!(Arrivals::default().mark(5, Instant::now()), None);
    }
}
