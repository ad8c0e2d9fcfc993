//! What a listener hears, from the playout ring and the originals to RTP packets.
//!
//! One packet leaves at every tick, silence included: the receiver's clock and jitter buffer stay
//! warm, and the first packet of an utterance meets no cold start. The RTP timestamp is the tick's
//! number, so it advances with real time even when ticks were left out (RFC 3550 section 5.1).

use ringbuf::traits::Consumer as _;

use super::PeerId;
use super::codec::{Encoder, MAX_PACKET_BYTES};
use super::frames::{PLAYOUT_SAMPLES, PlayoutReader};
use super::mixer::Mixer;
use crate::transport::{RtpOut, TransportError};

/// Frames of digital silence after which the encoder rests and its last packet is sent again: the
/// encoder's own tail has faded by then, and a silent listener costs next to nothing.
const SILENT_FRAMES: u32 = 25;

/// What a tick did to the utterances of this listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// This packet is the first of this utterance.
    pub spoken: Option<u64>,
    /// This packet is the last of this utterance.
    pub finished: Option<u64>,
}

/// The sending side of one peer.
pub struct Outbound {
    playout: PlayoutReader,
    mixer: Mixer,
    encoder: Encoder,
    mix: [f32; PLAYOUT_SAMPLES],
    voice: [f32; PLAYOUT_SAMPLES],
    packet: [u8; MAX_PACKET_BYTES],
    packet_length: usize,
    sequence: u16,
    /// RTP timestamp of tick 0.
    timestamp_base: u32,
    last_tick: Option<u64>,
    /// Utterance that has begun and not ended.
    current: Option<u64>,
    silent_frames: u32,
}

impl Outbound {
    /// The sending side that reads from `playout`. Sequence numbers and timestamps start anywhere
    /// (RFC 3550 section 5.1).
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder cannot be made.
    pub fn new(playout: PlayoutReader) -> Result<Self, TransportError> {
        Ok(Self {
            playout,
            mixer: Mixer::default(),
            encoder: Encoder::new()
                .map_err(|error| TransportError::Stack(format!("opus encoder: {error}")))?,
            mix: [0.0; PLAYOUT_SAMPLES],
            voice: [0.0; PLAYOUT_SAMPLES],
            packet: [0; MAX_PACKET_BYTES],
            packet_length: 0,
            sequence: rand::random(),
            timestamp_base: rand::random(),
            last_tick: None,
            current: None,
            silent_frames: 0,
        })
    }

    /// The levels of this listener's originals.
    pub fn mixer(&mut self) -> &mut Mixer {
        &mut self.mixer
    }

    /// Makes the packet of tick number `tick`; ticks are 20 ms apart and may be left out.
    /// `original` gives a source's samples of this tick, `None` when it is silent.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder fails.
    pub fn tick<'a>(
        &mut self,
        tick: u64,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
    ) -> Result<(RtpOut<'_>, Progress), TransportError> {
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
        let voice = has_voice.then_some(&self.voice);
        let is_mid_utterance = self.current.is_some();
        let is_sounding = self.mixer.mix(&mut self.mix, voice, is_mid_utterance, original);
        self.silent_frames = if is_sounding { 0 } else { self.silent_frames.saturating_add(1) };
        if self.silent_frames <= SILENT_FRAMES {
            self.packet_length = self
                .encoder
                .encode(&self.mix, &mut self.packet)
                .map_err(|error| TransportError::Stack(format!("opus encoder: {error}")))?;
        }

        let follows_a_gap = self.last_tick.is_none_or(|last| tick != last + 1);
        self.last_tick = Some(tick);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        #[expect(clippy::cast_possible_truncation, reason = "RTP timestamps wrap")]
        let elapsed = tick.wrapping_mul(PLAYOUT_SAMPLES as u64) as u32;
        let packet = RtpOut {
            sequence,
            timestamp: self.timestamp_base.wrapping_add(elapsed),
            marker: follows_a_gap || progress.spoken.is_some(),
            payload: &self.packet[..self.packet_length],
        };
        Ok((packet, progress))
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
