//! What a listener hears, from the playout ring and the originals to RTP packets.
//!
//! A listener with one track hears the server's mix: the interpretation, and the originals below
//! it. One with two gets the interpretation on the first and the originals, as loud as they came,
//! on the second; how loud they are below the interpretation is the listener's own matter then.
//!
//! A listener in a call has their own ring and their own mix. One who is tuned to a programme of a
//! [`Conference`] takes what was made for all who hear it, and uses the encoder of their own only
//! where they would hear themselves.

use ringbuf::traits::Consumer as _;

use super::conference::{Conference, Feed};
use super::frames::{PLAYOUT_SAMPLES, PlayoutReader};
use super::line::Line;
use super::mixer::Mixer;
use super::stats::Counters;
use super::track::{Track, Voice};
use super::{PeerId, Programme};
use crate::transport::{RtpOut, Track as Section, TransportError};

/// What a tick did to the utterances of this listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// This packet is the first of this utterance.
    pub spoken: Option<u64>,
    /// This packet is the last of this utterance.
    pub finished: Option<u64>,
}

/// The packets of one tick.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// On the track of the interpretation.
    pub interpretation: RtpOut<'a>,
    /// On the track of the originals, for a listener who has one.
    pub originals: Option<RtpOut<'a>>,
}

/// What a listener is tuned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// The room of the conference.
    pub room: u64,
    /// What of it.
    pub programme: Programme,
    /// Who brings the listener's own sound: the same peer, or another of the same person, who
    /// publishes on one connection and listens on another. They do not hear it.
    pub own: PeerId,
}

/// The sending side of one peer.
pub struct Outbound {
    playout: PlayoutReader,
    voice: [f32; PLAYOUT_SAMPLES],
    /// Utterance that has begun and not ended.
    current: Option<u64>,
    interpretation: Part,
    originals: Option<Part>,
    tuned: Option<Tuned>,
}

/// One track: an encoder of the listener's own, and the stream that they receive.
struct Part {
    track: Track,
    line: Line,
}

impl Outbound {
    /// The sending side that reads from `playout`, with a track for the originals of their own or
    /// not.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder cannot be made.
    pub fn new(playout: PlayoutReader, has_originals: bool) -> Result<Self, TransportError> {
        Ok(Self {
            playout,
            voice: [0.0; PLAYOUT_SAMPLES],
            current: None,
            interpretation: Part::new()?,
            originals: has_originals.then(Part::new).transpose()?,
            tuned: None,
        })
    }

    /// The listener hears `source` from now on: at `gain` and ducked or not in the server's mix,
    /// as it is on a track of its own.
    pub fn set_route(&mut self, source: PeerId, gain: f32, duck: bool) {
        match self.originals.as_mut() {
            Some(originals) => originals.track.mixer().set_route(source, 1.0, false),
            None => self.interpretation.track.mixer().set_route(source, gain, duck),
        }
    }

    /// The listener hears `source` no more.
    pub fn clear_route(&mut self, source: PeerId) {
        self.mixer().clear_route(source);
    }

    /// How loud interpretations are from now on, 0 to 1.
    pub fn set_voice_gain(&mut self, gain: f32) {
        self.interpretation.track.mixer().set_voice_gain(gain);
    }

    /// The levels of this listener's originals.
    pub fn mixer(&mut self) -> &mut Mixer {
        self.originals.as_mut().unwrap_or(&mut self.interpretation).track.mixer()
    }

    /// The listener hears this programme from now on, and what is in their own ring no more.
    pub fn tune(&mut self, tuned: Tuned) {
        let channel = |programme| match programme {
            Programme::Channel { channel, .. } => Some(channel),
            Programme::Floor => None,
        };
        let was = self.tuned.and_then(|was| channel(was.programme));
        if was != channel(tuned.programme) {
            self.current = None;
        }
        self.tuned = Some(tuned);
    }

    /// What the listener is tuned to; `None` in a call.
    #[must_use]
    pub fn tuned(&self) -> Option<Tuned> {
        self.tuned
    }

    /// Whether there is a track of its own for the originals.
    #[must_use]
    pub fn has_originals(&self) -> bool {
        self.originals.is_some()
    }

    /// Makes the packets of tick number `tick` of a call; ticks are 20 ms apart and may be left out.
    /// `original` gives a source's samples of this tick, `None` when it is silent.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder fails.
    pub fn tick<'a>(
        &mut self,
        tick: u64,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<(Packets<'_>, Progress), TransportError> {
        let mut progress = Progress::default();
        let mut has_voice = false;
        if let Some(frame) = self.playout.try_pop() {
            self.voice = frame.samples;
            has_voice = true;
            if self.current != Some(frame.utterance) {
                progress.spoken = Some(frame.utterance);
                self.current = Some(frame.utterance);
            }
            if frame.last {
                progress.finished = self.current.take();
            }
        }
        let voice = Voice {
            samples: has_voice.then_some(&self.voice),
            is_mid_utterance: self.current.is_some(),
            is_first: progress.spoken.is_some(),
        };
        let originals = match self.originals.as_mut() {
            Some(part) => Some(part.tick(tick, Voice::default(), &original, counters)?),
            None => None,
        };
        let interpretation = self.interpretation.tick(tick, voice, original, counters)?;
        Ok((Packets { interpretation, originals }, progress))
    }

    /// Sends the packets of tick number `tick` of a conference to the listener. Returns the RTP
    /// timestamp of the first one on their first track, if there was one, and what it did to the
    /// utterances: an end is told to who was told the beginning.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder or `send` fails.
    pub fn tick_tuned<'a>(
        &mut self,
        tick: u64,
        conference: &Conference,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
        mut send: impl FnMut(Section, RtpOut<'_>) -> Result<(), TransportError>,
    ) -> Result<(Option<u32>, Progress), TransportError> {
        let Some(Tuned { programme, own, .. }) = self.tuned else {
            return Ok((None, Progress::default()));
        };
        let feed = conference.interpretation(own, programme, self.originals.is_some());
        let mut first = None;
        self.interpretation.play(tick, own, feed, &original, counters, |packet| {
            first.get_or_insert(packet.timestamp);
            send(Section::Interpretation, packet)
        })?;
        if let Some(part) = self.originals.as_mut() {
            let feed = conference.originals(own);
            part.play(tick, own, feed, original, counters, |packet| {
                send(Section::Originals, packet)
            })?;
        }
        let Progress { spoken, finished } = conference.progress(programme);
        self.current = spoken.or(self.current);
        let finished = finished.filter(|_| self.current == finished);
        if finished.is_some() {
            self.current = None;
        }
        Ok((first, Progress { spoken, finished }))
    }
}

impl Part {
    fn new() -> Result<Self, TransportError> {
        Ok(Self { track: Track::new()?, line: Line::default() })
    }

    fn tick<'a>(
        &mut self,
        tick: u64,
        voice: Voice<'_>,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<RtpOut<'_>, TransportError> {
        self.track.tick(voice, original, counters)?;
        let (payload, is_first) = self.track.packet();
        Ok(self.line.made(tick, is_first, payload))
    }

    fn play<'a>(
        &mut self,
        tick: u64,
        own: PeerId,
        feed: Feed<'_>,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
        mut send: impl FnMut(RtpOut<'_>) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        match feed {
            Feed::Shared { payload, is_first } => send(self.line.made(tick, is_first, payload)),
            Feed::Own(mix) => {
                self.track.tick_mix(&mix, Some(own), original, counters)?;
                let (payload, is_first) = self.track.packet();
                send(self.line.made(tick, is_first, payload))
            }
            Feed::PassedOn(source) => {
                let is_silence = source.is_pausing() && !source.is_speaking();
                for packet in source.packets().iter() {
                    if let Some(packet) = self.line.came(tick, source.id(), packet, is_silence) {
                        send(packet)?;
                        counters.forwarded.add(1);
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
