//! The jitter buffer of a peer's original sound, where it is mixed for others.
//!
//! It holds decoded samples, so losses are concealed already and all that is left is timing: the
//! mixer takes 20 ms at every tick of *our* clock, while samples come at the pace of the sender's
//! clock and of the network. How long they should wait is told by [`Pace`]; the buffer gets there
//! by leaving out or repeating a few milliseconds where that is not heard ([`super::stretch`]). When
//! it runs dry it makes up what follows for 100 ms at most, and starts over.
//!
//! The recogniser does not wait here: its path is [`super::reorder`] alone.

use std::collections::VecDeque;
use std::time::Instant;

use super::frames::PLAYOUT_SAMPLES;
use super::pace::Pace;
use super::stretch::{self, BLEND, Bridge, LONGEST, VIEW};

/// Most samples (48 kHz) that are held: 1 s. When more come, the oldest go.
const CAPACITY: usize = 48_000;
/// Samples beyond the target from which 20 ms are left out at once, heard or not: 200 ms.
const FAR: usize = 9_600;
/// The wait may be so much longer or shorter than its target without anything being done: 20 ms
/// (more than the longest piece, so that one correction never calls for the opposite) and 5 ms.
const TOO_LONG: i64 = 960;
const TOO_SHORT: i64 = 240;
/// Ticks of 20 ms between two corrections.
const PATIENCE: u32 = 5;

/// The buffer of one source.
#[derive(Debug)]
pub struct Jitter {
    samples: VecDeque<f32>,
    pace: Pace,
    bridge: Bridge,
    is_playing: bool,
    pulled: Option<Instant>,
    /// Ticks until the next correction.
    rest: u32,
    underruns: u64,
    skips: u64,
    shortened: u64,
    lengthened: u64,
}

impl Default for Jitter {
    fn default() -> Self {
        Self {
            samples: VecDeque::with_capacity(CAPACITY + LONGEST),
            pace: Pace::default(),
            bridge: Bridge::default(),
            is_playing: false,
            pulled: None,
            rest: 0,
            underruns: 0,
            skips: 0,
            shortened: 0,
            lengthened: 0,
        }
    }
}

impl Jitter {
    /// A packet is decoded at `now`; its extended RTP timestamp is `timestamp` and its samples are
    /// the next to be pushed.
    pub fn packet(&mut self, now: Instant, timestamp: u64) {
        let wait = self.pulled.filter(|_| self.is_playing).map(|pulled| {
            // What was pulled last is being played right now.
            let since = now.saturating_duration_since(pulled).as_micros() * 48 / 1_000;
            let left = (PLAYOUT_SAMPLES as i64).saturating_sub(since as i64);
            self.samples.len() as i64 + left
        });
        self.pace.packet(now, timestamp, wait);
    }

    /// Takes decoded samples (48 kHz mono).
    pub fn push(&mut self, samples: &[f32]) {
        let excess = (self.samples.len() + samples.len()).saturating_sub(CAPACITY);
        self.samples.drain(..excess.min(self.samples.len()));
        let kept = samples.len().min(CAPACITY);
        self.samples.extend(&samples[samples.len() - kept..]);
    }

    /// Fills `block` with the next 20 ms; false when there is only silence to give.
    pub fn pull(&mut self, now: Instant, block: &mut [f32; PLAYOUT_SAMPLES]) -> bool {
        self.pulled = Some(now);
        if !self.is_playing && self.samples.len() < self.target() {
            block.fill(0.0);
            return false;
        }
        let starts = !self.is_playing;
        if starts {
            self.is_playing = true;
            self.pace.restarted();
        }
        self.correct();
        let available = self.samples.len().min(PLAYOUT_SAMPLES);
        let (front, back) = self.samples.as_slices();
        let first = front.len().min(available);
        block[..first].copy_from_slice(&front[..first]);
        block[first..available].copy_from_slice(&back[..available - first]);
        self.samples.drain(..available);
        if starts {
            stretch::fade_in(&mut block[..available]);
        } else if available > 0 {
            self.bridge.arrive(&mut block[..available]);
        }
        self.bridge.remember(&block[..available]);
        if available < PLAYOUT_SAMPLES {
            return self.run_dry(available, block);
        }
        true
    }

    /// The wait that is aimed at, in samples.
    #[must_use]
    pub fn target(&self) -> usize {
        usize::try_from(self.pace.target()).unwrap_or(usize::MAX)
    }

    /// Samples that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.samples.len()
    }

    /// Whether sound comes out.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.is_playing
    }

    /// How often the buffer ran dry in the middle of a sound.
    #[must_use]
    pub fn underruns(&self) -> u64 {
        self.underruns
    }

    /// How often 20 ms were left out because far too much had come at once.
    #[must_use]
    pub fn skips(&self) -> u64 {
        self.skips
    }

    /// Samples left out and repeated to hold the wait at its target.
    #[must_use]
    pub fn stretched(&self) -> (u64, u64) {
        (self.shortened, self.lengthened)
    }

    /// Nothing is left after `available` samples of the block.
    fn run_dry(&mut self, available: usize, block: &mut [f32; PLAYOUT_SAMPLES]) -> bool {
        let missing = &mut block[available..];
        if !self.bridge.is_running() {
            if self.bridge.is_quiet() {
                missing.fill(0.0);
                self.is_playing = false;
                return available > 0;
            }
            self.underruns += 1;
        }
        self.is_playing = self.bridge.go_on(missing);
        true
    }

    /// Brings the wait a little closer to its target.
    fn correct(&mut self) {
        while self.samples.len() > self.target() + FAR {
            self.leave_out(PLAYOUT_SAMPLES);
            self.skips += 1;
        }
        self.rest = self.rest.saturating_sub(1);
        let Some(wait) = self.pace.wait() else { return };
        let beyond = wait - self.target() as i64;
        let is_right = beyond < TOO_LONG && beyond > -TOO_SHORT;
        if is_right || self.rest > 0 || self.bridge.is_running() || self.samples.len() < VIEW {
            return;
        }
        let contiguous = self.samples.make_contiguous();
        let Some(view) = contiguous.first_chunk::<VIEW>() else { return };
        let piece = stretch::piece_at_start(view);
        // The farther off, the less it may matter that something is heard.
        let wanted = match beyond.abs() {
            far if far > 6 * PLAYOUT_SAMPLES as i64 => -1.0,
            off if off > 3 * PLAYOUT_SAMPLES as i64 => 0.6,
            _ => 0.85,
        };
        if piece.likeness < wanted {
            return;
        }
        self.rest = PATIENCE;
        if beyond > 0 {
            self.leave_out(piece.length);
            self.shortened += piece.length as u64;
        } else {
            self.repeat(piece.length);
            self.lengthened += piece.length as u64;
        }
    }

    /// Leaves out `length` samples, blending what comes before into what comes after.
    fn leave_out(&mut self, length: usize) {
        let contiguous = self.samples.make_contiguous();
        if contiguous.len() < length + BLEND {
            return;
        }
        let (before, after) = contiguous.split_at_mut(length);
        stretch::blend(before.iter().copied(), after.iter_mut());
        self.samples.drain(..length);
        self.pace.shifted(-(length as i64));
    }

    /// Plays the first `length` samples twice, blending the end of the first time into the second.
    fn repeat(&mut self, length: usize) {
        let mut first = [0.0; LONGEST];
        let contiguous = self.samples.make_contiguous();
        let (again, after) = contiguous.split_at_mut(length);
        first[..length].copy_from_slice(again);
        stretch::blend(after.iter().copied(), again.iter_mut());
        for sample in first[..length].iter().rev() {
            self.samples.push_front(*sample);
        }
        self.pace.shifted(length as i64);
    }
}

#[cfg(test)]
#[path = "jitter_tests.rs"]
mod tests;
