//! The speaker thread: the only producer of the playout rings.
//!
//! Synthesised speech arrives in pieces of any length, possibly of several utterances at once. Each
//! listener hears utterances whole and in the order in which their speech began to arrive; what
//! does not fit into the ring waits here, up to a backlog limit beyond which a new utterance is
//! refused for that listener ([`SpeakerNotice::Refused`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ringbuf::traits::{Observer, Producer};

use crate::engine::{SPOKEN_RATE_HZ, UtteranceId};
use crate::media::PeerId;
use crate::media::frames::{PLAYOUT_SAMPLES, PlayoutFrame, PlayoutWriter};

/// How often full rings are tried again: half a frame.
const RETRY: Duration = Duration::from_millis(10);
/// Messages that may wait for this thread. Full: the speaking stage waits, which only slows the
/// synthesis of speech that could not be played yet anyway.
const QUEUE: usize = 1024;

/// What the speaker thread is told.
enum Message {
    Attach { peer: PeerId, writer: PlayoutWriter },
    Detach { peer: PeerId },
    Speech { utterance: UtteranceId, listeners: Arc<[PeerId]>, samples_48k: Arc<[f32]> },
    End { utterance: UtteranceId, listeners: Arc<[PeerId]> },
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
    /// Starts the thread. `backlog` bounds the speech that waits for one listener.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(backlog: Duration, notices: Sender<SpeakerNotice>) -> std::io::Result<Self> {
        let (messages, inbox) = bounded(QUEUE);
        std::thread::Builder::new().name("speaker".to_owned()).spawn(move || {
            let limit = backlog.as_millis() as usize * (SPOKEN_RATE_HZ as usize / 1000);
            run(&inbox, limit, &notices);
        })?;
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

    /// The next samples of an utterance (48 kHz mono), for every listener of its language.
    pub fn speech(&self, utterance: UtteranceId, listeners: Arc<[PeerId]>, samples_48k: &[f32]) {
        self.send(Message::Speech { utterance, listeners, samples_48k: samples_48k.into() });
    }

    /// The utterance is complete, or will get no more samples.
    pub fn end(&self, utterance: UtteranceId, listeners: Arc<[PeerId]>) {
        self.send(Message::End { utterance, listeners });
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::error!("the speaker thread is gone: nothing is played any more");
        }
    }
}

fn run(inbox: &Receiver<Message>, limit: usize, notices: &Sender<SpeakerNotice>) {
    let mut listeners: HashMap<PeerId, Listener> = HashMap::new();
    loop {
        let waiting = listeners.values().any(Listener::has_work);
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
        match message {
            Some(Message::Attach { peer, writer }) => {
                listeners.insert(peer, Listener::new(writer));
            }
            Some(Message::Detach { peer }) => {
                listeners.remove(&peer);
            }
            Some(Message::Speech { utterance, listeners: peers, samples_48k }) => {
                for peer in peers.iter() {
                    let Some(listener) = listeners.get_mut(peer) else { continue };
                    if !listener.accept(utterance, &samples_48k, limit) {
                        // Full: the notice is lost, and with it an event, never speech.
                        let _ = notices.try_send(SpeakerNotice::Refused { peer: *peer, utterance });
                    }
                }
            }
            Some(Message::End { utterance, listeners: peers }) => {
                for peer in peers.iter() {
                    if let Some(listener) = listeners.get_mut(peer) {
                        listener.end(utterance);
                    }
                }
            }
            None => {}
        }
        for listener in listeners.values_mut() {
            listener.fill();
        }
    }
}

/// Speech of one utterance that waits for one listener.
struct Waiting {
    utterance: UtteranceId,
    samples_48k: VecDeque<f32>,
    ended: bool,
    /// Over the backlog limit when it began: its samples are thrown away until it ends.
    refused: bool,
}

/// A listener's ring and the utterances that wait for it, the first one playing.
struct Listener<W = PlayoutWriter> {
    ring: W,
    queue: VecDeque<Waiting>,
}

impl<W: Producer<Item = PlayoutFrame> + Observer> Listener<W> {
    fn new(ring: W) -> Self {
        Self { ring, queue: VecDeque::new() }
    }

    /// Whether something could be pushed as soon as the ring has room.
    fn has_work(&self) -> bool {
        self.queue
            .front()
            .is_some_and(|first| first.ended || first.samples_48k.len() >= PLAYOUT_SAMPLES)
    }

    fn backlog(&self) -> usize {
        self.queue.iter().map(|waiting| waiting.samples_48k.len()).sum()
    }

    /// Queues samples. `false` when this begins an utterance beyond the limit.
    fn accept(&mut self, utterance: UtteranceId, samples_48k: &[f32], limit: usize) -> bool {
        if let Some(waiting) = self.queue.iter_mut().find(|entry| entry.utterance == utterance) {
            if !waiting.refused {
                waiting.samples_48k.extend(samples_48k);
            }
            return true;
        }
        let refused = self.backlog() > limit;
        let samples_48k =
            if refused { VecDeque::new() } else { samples_48k.iter().copied().collect() };
        self.queue.push_back(Waiting { utterance, samples_48k, ended: false, refused });
        !refused
    }

    fn end(&mut self, utterance: UtteranceId) {
        if let Some(waiting) = self.queue.iter_mut().find(|entry| entry.utterance == utterance) {
            waiting.ended = true;
        }
    }

    /// Moves whole frames into the ring, first utterance first, while there is room.
    fn fill(&mut self) {
        while let Some(first) = self.queue.front_mut() {
            let available = first.samples_48k.len();
            if first.ended && available == 0 {
                self.queue.pop_front();
                continue;
            }
            let complete = available >= PLAYOUT_SAMPLES || first.ended;
            if !complete || self.ring.is_full() {
                return;
            }
            let count = available.min(PLAYOUT_SAMPLES);
            let mut samples = [0.0; PLAYOUT_SAMPLES];
            for (slot, sample) in samples.iter_mut().zip(first.samples_48k.drain(..count)) {
                *slot = sample;
            }
            let last = first.ended && first.samples_48k.is_empty();
            let frame = PlayoutFrame { utterance: first.utterance.0, last, samples };
            if self.ring.try_push(frame).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringbuf::traits::Consumer;

    use super::*;
    use crate::media::frames::playout_ring;

    const FIRST: UtteranceId = UtteranceId(1);
    const SECOND: UtteranceId = UtteranceId(2);

    #[test]
    fn utterances_stay_whole_and_in_order_although_their_samples_arrive_interleaved() {
        let (writer, mut reader) = playout_ring(100);
        let mut listener = Listener::new(writer);
        listener.accept(FIRST, &[0.1; PLAYOUT_SAMPLES], usize::MAX);
        listener.accept(SECOND, &[0.2; PLAYOUT_SAMPLES], usize::MAX);
        listener.accept(FIRST, &[0.1; 10], usize::MAX);
        listener.fill();
        listener.end(SECOND);
        listener.end(FIRST);
        listener.fill();

        let frames: Vec<_> = reader.pop_iter().map(|frame| (frame.utterance, frame.last)).collect();
        assert_eq!(frames, [(1, false), (1, true), (2, true)]);
    }

    #[test]
    fn the_last_partial_frame_is_padded_with_silence() {
        let (writer, mut reader) = playout_ring(100);
        let mut listener = Listener::new(writer);
        listener.accept(FIRST, &[0.5; 100], usize::MAX);
        listener.fill();
        assert!(reader.try_pop().is_none(), "a partial frame waits for more samples");
        listener.end(FIRST);
        listener.fill();
        let frame = reader.try_pop().expect("the end releases it");
        assert_eq!(frame.samples[99], 0.5);
        assert_eq!(frame.samples[100], 0.0);
    }

    #[test]
    fn a_full_ring_makes_the_rest_wait_without_loss() {
        let (writer, mut reader) = playout_ring(2);
        let mut listener = Listener::new(writer);
        listener.accept(FIRST, &vec![0.1; 5 * PLAYOUT_SAMPLES], usize::MAX);
        listener.end(FIRST);
        let mut frames = 0;
        for _ in 0..10 {
            listener.fill();
            frames += reader.pop_iter().count();
        }
        assert_eq!(frames, 5);
        assert!(!listener.has_work());
    }

    #[test]
    fn an_utterance_that_begins_beyond_the_backlog_limit_is_refused_as_a_whole() {
        let (writer, mut reader) = playout_ring(100);
        let mut listener = Listener::new(writer);
        assert!(listener.accept(FIRST, &vec![0.1; 2 * PLAYOUT_SAMPLES], PLAYOUT_SAMPLES));
        assert!(!listener.accept(SECOND, &[0.2; PLAYOUT_SAMPLES], PLAYOUT_SAMPLES));
        assert!(listener.accept(SECOND, &[0.2; PLAYOUT_SAMPLES], PLAYOUT_SAMPLES));
        listener.end(FIRST);
        listener.end(SECOND);
        listener.fill();
        assert!(reader.pop_iter().all(|frame| frame.utterance == FIRST.0));
        assert!(!listener.has_work());
    }
}
