//! Decides what belongs into the gaps of a peer's speech, so that the recogniser hears a stream
//! without holes whose every sample has a place on the sender's clock.
//!
//! Three kinds of gaps look alike from afar. *Lost packets* leave a jump in the sequence numbers:
//! they are concealed. *Discontinuous transmission* (RFC 7587 section 3.1.3) leaves a jump in the
//! timestamps alone: it is silence. And when nothing arrives at all, nobody knows yet which of the
//! two it is, but the segmenter must hear the pause to close an utterance: after [`PATIENCE`] the
//! gap is filled with silence at the pace of the clock.
//!
//! If the packets come after all, they were late, not absent. Speech is worth more than clock
//! accuracy: it is kept and the stream runs behind the sender by what was filled in vain, its
//! *debt*. Silence pays the debt back: a pause in the sender's timestamps, or quiet frames left
//! out. So time never runs backwards and no sample is heard twice.
//!
//! No clock, no audio: instants and timestamps in, numbers of samples out. All at 48 kHz.

use std::time::{Duration, Instant};

/// Without a packet for so long, silence is fed.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// How far behind the clock the fed silence stays, so that a little jitter costs nothing.
pub const CAUTION: Duration = Duration::from_millis(60);
/// Most silence that fills one gap; an utterance has ended long before.
pub const MAX_SILENCE: u64 = 2 * 48_000;
/// Most that is concealed in one gap; longer extrapolation is noise.
pub const MAX_CONCEALED: u64 = 4_800;
/// More than this behind the sender, the sender's clock was reset.
const MAX_DEBT: u64 = 48_000;
/// Silence is fed in whole frames of 20 ms.
const FRAME: u64 = 960;

/// What goes before a packet's own samples, in this order; numbers of samples at 48 kHz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Time of the first sample of the fill.
    pub start: u64,
    /// Concealed by the decoder's extrapolation.
    pub conceal: u64,
    /// Silence.
    pub silence: u64,
    /// Recovered from the packet's own copy of its predecessor (in-band FEC).
    pub recover: u64,
    /// Time of the packet's first sample. Beyond the fill's end when a gap was too long to fill.
    pub packet_start: u64,
}

/// The clock of one peer's stream.
#[derive(Debug, Default)]
pub struct Timeline {
    state: Option<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Time of the next sample of the stream.
    next: u64,
    /// How far the stream runs behind the sender's clock.
    debt: u64,
    /// Added to timestamps since the sender's clock was reset; whole turns of 32 bits.
    epoch: u64,
    /// Samples of the last packet.
    duration: u64,
    /// When the last packet arrived.
    arrived: Instant,
    /// Silence fed since.
    fed: u64,
}

impl Timeline {
    /// A packet is due: what to put before it. `timestamp` is the extended RTP timestamp,
    /// `duration` its samples, `lost` how many packets are missing before it, `has_fec` whether it
    /// carries a copy of its predecessor.
    pub fn packet(
        &mut self,
        arrived: Instant,
        timestamp: u64,
        duration: u64,
        lost: u64,
        has_fec: bool,
    ) -> Fill {
        let mut state = self.state.unwrap_or(State {
            next: timestamp,
            debt: 0,
            epoch: 0,
            duration,
            arrived,
            fed: 0,
        });
        let start = state.next;
        let mut fill = Fill { start, packet_start: start, ..Fill::default() };
        let place = timestamp + state.epoch + state.debt;
        if let Some(gap) = place.checked_sub(state.next) {
            let paid = gap.min(state.debt);
            state.debt -= paid;
            let gap = gap - paid;
            if lost > 0 {
                fill.recover = if has_fec { gap.min(state.duration) } else { 0 };
                let missing = lost.saturating_mul(state.duration).min(MAX_CONCEALED);
                fill.conceal = missing.min(gap).saturating_sub(fill.recover);
            }
            fill.silence = (gap - fill.recover - fill.conceal).min(MAX_SILENCE);
            fill.packet_start = start + gap;
        } else {
            state.debt += state.next - place;
            if state.debt > MAX_DEBT {
                // The low 32 bits stay those of the wire.
                state.debt = 0;
                state.epoch = 0;
                while timestamp + state.epoch < start {
                    state.epoch += 1 << 32;
                }
                fill.packet_start = timestamp + state.epoch;
            }
        }
        state.next = fill.packet_start + duration;
        state.duration = duration;
        state.arrived = arrived;
        state.fed = 0;
        self.state = Some(state);
        fill
    }

    /// Nothing is due at `now`: the start and the number of silent samples to feed, whole frames.
    pub fn idle(&mut self, now: Instant) -> Option<(u64, u64)> {
        let state = self.state.as_mut()?;
        let since = now.saturating_duration_since(state.arrived);
        if since < PATIENCE {
            return None;
        }
        let behind_clock = since.saturating_sub(CAUTION).as_micros() * 48 / 1_000;
        let wanted = u64::try_from(behind_clock).unwrap_or(u64::MAX).min(MAX_SILENCE);
        let frames = wanted.saturating_sub(state.fed) / FRAME;
        if frames == 0 {
            return None;
        }
        let silence = frames * FRAME;
        let start = state.next;
        state.next += silence;
        state.fed += silence;
        Some((start, silence))
    }

    /// Offers the samples just decoded, the last `duration` of the stream, as payment when they are
    /// quiet: true when they must be left out.
    pub fn pay_with_quiet(&mut self, duration: u64) -> bool {
        match self.state.as_mut() {
            Some(state) if state.debt >= duration => {
                state.debt -= duration;
                state.next -= duration;
                true
            }
            _ => false,
        }
    }

    /// How far the stream runs behind the sender's clock, in samples.
    #[must_use]
    pub fn debt(&self) -> u64 {
        self.state.map_or(0, |state| state.debt)
    }

    /// Samples of the last packet; a frame of 20 ms before the first.
    #[must_use]
    pub fn packet_duration(&self) -> u64 {
        self.state.map_or(FRAME, |state| state.duration)
    }
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
