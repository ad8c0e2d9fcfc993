//! What a listener hears, from the playout ring and the originals to RTP packets.
//!
//! A listener with one track hears the server's mix: the interpretation, and the originals below
//! it. One with two gets the interpretation on the first and the originals, as loud as they came,
//! on the second; how loud they are below the interpretation is the listener's own matter then.

use ringbuf::traits::Consumer as _;

use super::PeerId;
use super::frames::{PLAYOUT_SAMPLES, PlayoutReader};
use super::mixer::Mixer;
use super::track::{Track, Voice};
use crate::transport::{RtpOut, TransportError};

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

/// The sending side of one peer.
pub struct Outbound {
    playout: PlayoutReader,
    voice: [f32; PLAYOUT_SAMPLES],
    /// Utterance that has begun and not ended.
    current: Option<u64>,
    interpretation: Track,
    originals: Option<Track>,
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
            interpretation: Track::new()?,
            originals: has_originals.then(Track::new).transpose()?,
        })
    }

    /// The listener hears `source` from now on: at `gain` and ducked or not in the server's mix,
    /// as it is on a track of its own.
    pub fn set_route(&mut self, source: PeerId, gain: f32, duck: bool) {
        match self.originals.as_mut() {
            Some(originals) => originals.mixer().set_route(source, 1.0, false),
            None => self.interpretation.mixer().set_route(source, gain, duck),
        }
    }

    /// The listener hears `source` no more.
    pub fn clear_route(&mut self, source: PeerId) {
        self.mixer().clear_route(source);
    }

    /// How loud interpretations are from now on, 0 to 1.
    pub fn set_voice_gain(&mut self, gain: f32) {
        self.interpretation.mixer().set_voice_gain(gain);
    }

    /// The levels of this listener's originals.
    pub fn mixer(&mut self) -> &mut Mixer {
        self.originals.as_mut().unwrap_or(&mut self.interpretation).mixer()
    }

    /// Makes the packets of tick number `tick`; ticks are 20 ms apart and may be left out.
    /// `original` gives a source's samples of this tick, `None` when it is silent.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder fails.
    pub fn tick<'a>(
        &mut self,
        tick: u64,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
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
            Some(originals) => Some(originals.tick(tick, Voice::default(), &original)?),
            None => None,
        };
        let interpretation = self.interpretation.tick(tick, voice, original)?;
        Ok((Packets { interpretation, originals }, progress))
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
