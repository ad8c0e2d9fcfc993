//! One encoder and what it encodes, a packet every 20 ms.
//!
//! A packet is made at every tick, silence included: the receiver's clock and jitter buffer stay
//! warm, and the first packet of an utterance meets no cold start. Who receives it is the matter of
//! [`super::line`]: one listener in a call, in a conference everybody who hears the same.

use super::PeerId;
use super::codec::{Encoder, MAX_PACKET_BYTES};
use super::frames::PLAYOUT_SAMPLES;
use super::mixer::Mixer;
use super::stats::Counters;
use crate::transport::TransportError;

/// Frames of digital silence after which the encoder rests and its last packet is sent again: the
/// encoder's own tail has faded by then, and a silent track costs next to nothing.
const SILENT_FRAMES: u32 = 25;

/// An interpretation in one tick.
#[derive(Clone, Copy, Default)]
pub struct Voice<'a> {
    /// Its samples of this tick.
    pub samples: Option<&'a [f32; PLAYOUT_SAMPLES]>,
    /// Whether more of the same utterance is to come.
    pub is_mid_utterance: bool,
    /// Whether the utterance begins here.
    pub is_first: bool,
}

/// What a listener of a conference hears in one tick, before it is mixed.
#[derive(Clone, Copy, Default)]
pub struct Mix<'a> {
    /// The machine's interpretation.
    pub voice: Voice<'a>,
    /// The human interpreter, and whether they are speaking.
    pub interpreter: Option<(PeerId, bool)>,
    /// Whose original sound is heard.
    pub floor: &'a [PeerId],
    /// How loud that is.
    pub gain: f32,
    /// Whether it is ducked under interpretations.
    pub ducks: bool,
}

/// One encoder.
pub struct Track {
    mixer: Mixer,
    encoder: Encoder,
    mix: [f32; PLAYOUT_SAMPLES],
    packet: [u8; MAX_PACKET_BYTES],
    packet_length: usize,
    is_first: bool,
    silent_frames: u32,
}

impl Track {
    /// A silent track.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder cannot be made.
    pub fn new() -> Result<Self, TransportError> {
        Ok(Self {
            mixer: Mixer::default(),
            encoder: Encoder::new().map_err(failed)?,
            mix: [0.0; PLAYOUT_SAMPLES],
            packet: [0; MAX_PACKET_BYTES],
            packet_length: 0,
            is_first: false,
            silent_frames: 0,
        })
    }

    /// The levels of the originals on it.
    pub fn mixer(&mut self) -> &mut Mixer {
        &mut self.mixer
    }

    /// Makes the packet of the next 20 ms. `original` gives a source's samples of this tick, `None`
    /// when it is silent.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder fails.
    pub fn tick<'a>(
        &mut self,
        voice: Voice<'_>,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<(), TransportError> {
        let Voice { samples, is_mid_utterance, is_first } = voice;
        let is_sounding = self.mixer.mix(&mut self.mix, samples, is_mid_utterance, original);
        self.is_first = is_first;
        self.silent_frames = if is_sounding { 0 } else { self.silent_frames.saturating_add(1) };
        if self.silent_frames <= SILENT_FRAMES {
            self.packet_length =
                self.encoder.encode(&self.mix, &mut self.packet).map_err(failed)?;
            counters.encodes.add(1);
        }
        Ok(())
    }

    /// Makes the packet of the next 20 ms of a conference, without the sound of `except`.
    ///
    /// # Errors
    /// As [`tick`](Self::tick).
    pub fn tick_mix<'a>(
        &mut self,
        mix: &Mix<'_>,
        except: Option<PeerId>,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<(), TransportError> {
        let floor = mix.floor.iter().map(|source| (*source, mix.gain, mix.ducks));
        let interpreter = mix.interpreter.map(|(source, _)| (source, 1.0, false));
        let heard = floor.chain(interpreter).filter(|(source, ..)| Some(*source) != except);
        self.mixer.follow(heard);
        if mix.interpreter.is_some_and(|(_, is_speaking)| is_speaking) {
            self.mixer.duck();
        }
        self.tick(mix.voice, original, counters)
    }

    /// The packet that was made last, and whether a talk spurt begins with it.
    #[must_use]
    pub fn packet(&self) -> (&[u8], bool) {
        (&self.packet[..self.packet_length], self.is_first)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: opus::Error) -> TransportError {
    TransportError::Stack(format!("opus encoder: {error}"))
}
