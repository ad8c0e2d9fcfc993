//! One track of a listener, from what is to be heard on it to RTP packets.
//!
//! One packet leaves at every tick, silence included: the receiver's clock and jitter buffer stay
//! warm, and the first packet of an utterance meets no cold start. The RTP timestamp is the tick's
//! number, so it advances with real time even when ticks were left out (RFC 3550 section 5.1).

use super::PeerId;
use super::codec::{Encoder, MAX_PACKET_BYTES};
use super::frames::PLAYOUT_SAMPLES;
use super::mixer::Mixer;
use crate::transport::{RtpOut, TransportError};

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

/// One track.
pub struct Track {
    mixer: Mixer,
    encoder: Encoder,
    mix: [f32; PLAYOUT_SAMPLES],
    packet: [u8; MAX_PACKET_BYTES],
    packet_length: usize,
    sequence: u16,
    /// RTP timestamp of tick 0.
    timestamp_base: u32,
    last_tick: Option<u64>,
    silent_frames: u32,
}

impl Track {
    /// A silent track. Sequence numbers and timestamps start anywhere (RFC 3550 section 5.1).
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
            sequence: rand::random(),
            timestamp_base: rand::random(),
            last_tick: None,
            silent_frames: 0,
        })
    }

    /// The levels of the originals on it.
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
        voice: Voice<'_>,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
    ) -> Result<RtpOut<'_>, TransportError> {
        let Voice { samples, is_mid_utterance, is_first } = voice;
        let is_sounding = self.mixer.mix(&mut self.mix, samples, is_mid_utterance, original);
        self.silent_frames = if is_sounding { 0 } else { self.silent_frames.saturating_add(1) };
        if self.silent_frames <= SILENT_FRAMES {
            self.packet_length =
                self.encoder.encode(&self.mix, &mut self.packet).map_err(failed)?;
        }
        let follows_a_gap = self.last_tick.is_none_or(|last| tick != last + 1);
        self.last_tick = Some(tick);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        #[expect(clippy::cast_possible_truncation, reason = "RTP timestamps wrap")]
        let elapsed = tick.wrapping_mul(PLAYOUT_SAMPLES as u64) as u32;
        Ok(RtpOut {
            sequence,
            timestamp: self.timestamp_base.wrapping_add(elapsed),
            marker: follows_a_gap || is_first,
            payload: &self.packet[..self.packet_length],
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: opus::Error) -> TransportError {
    TransportError::Stack(format!("opus encoder: {error}"))
}
