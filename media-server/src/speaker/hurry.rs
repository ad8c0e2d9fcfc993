//! Catching up: the voice speaks a little faster while others wait for it.
//!
//! Whole pieces of a few milliseconds are left out where that is hardly heard
//! ([`stretch`]), so the pitch stays as it is. No clock: frames are counted.

use std::collections::VecDeque;

use crate::media::frames::PLAYOUT_SAMPLES;
use crate::media::stretch::{self, BLEND, LONGEST, VIEW};

/// Samples (48 kHz) of other utterances that may wait before the voice hurries: 2 s.
const PATIENCE: usize = 96_000;
/// Likeness of the two ends that are joined from which the joint is not heard.
const ALIKE: f32 = 0.6;

/// How much may be left out yet.
pub(super) struct Hurry {
    /// Samples that are gained with each frame that is played.
    gain: f32,
    credit: f32,
}

impl Hurry {
    /// At most `speed` times as fast, 1 or more.
    #[expect(clippy::cast_precision_loss, reason = "960 is exact")]
    pub(super) fn new(speed: f32) -> Self {
        Self { gain: PLAYOUT_SAMPLES as f32 * (speed - 1.0).max(0.0), credit: 0.0 }
    }

    /// The next frame is going to be taken from the front of `samples` (48 kHz) while `waiting`
    /// samples of other utterances wait: leaves out a piece there if its time has come.
    #[expect(clippy::cast_precision_loss, reason = "pieces are below 721 samples")]
    pub(super) fn advance(&mut self, samples: &mut VecDeque<f32>, waiting: usize) {
        if waiting <= PATIENCE || self.gain <= 0.0 {
            self.credit = 0.0;
            return;
        }
        self.credit = (self.credit + self.gain).min(2.0 * LONGEST as f32);
        if self.credit < LONGEST as f32 {
            return;
        }
        let contiguous = samples.make_contiguous();
        let Some(view) = contiguous.first_chunk::<VIEW>() else { return };
        let piece = stretch::piece_at_start(view);
        if piece.likeness < ALIKE || contiguous.len() < piece.length + BLEND {
            return;
        }
        let (before, after) = contiguous.split_at_mut(piece.length);
        stretch::blend(before.iter().copied(), after.iter_mut());
        samples.drain(..piece.length);
        self.credit -= piece.length as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A voice of 150 Hz with overtones, 48 kHz.
    fn voice(samples: usize) -> VecDeque<f32> {
        let at = |n: usize, hertz: f32| (n as f32 * std::f32::consts::TAU * hertz / 48_000.0).sin();
        (0..samples)
            .map(|n| 0.3 * at(n, 150.0) + 0.1 * at(n, 300.0) + 0.05 * at(n, 1_200.0))
            .collect()
    }

    /// What is played of ten seconds while so much waits.
    fn played(speed: f32, waiting: usize) -> Vec<f32> {
        let mut hurry = Hurry::new(speed);
        let mut samples = voice(480_000);
        let mut heard = Vec::new();
        while samples.len() >= PLAYOUT_SAMPLES {
            hurry.advance(&mut samples, waiting);
            let count = samples.len().min(PLAYOUT_SAMPLES);
            heard.extend(samples.drain(..count));
        }
        heard
    }

    #[test]
    fn up_to_two_seconds_of_others_the_voice_takes_its_time() {
        assert_eq!(played(1.25, PATIENCE).len(), 480_000);
        assert_eq!(played(1.0, 10 * PATIENCE).len(), 480_000);
    }

    #[test]
    fn beyond_it_ten_seconds_are_said_in_eight_without_a_click() {
        let heard = played(1.25, PATIENCE + 1);
        let speed = 480_000.0 / heard.len() as f32;
        assert!((1.23..=1.25).contains(&speed), "{speed}");
        let step = |samples: &[f32]| {
            samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
        };
        let natural = step(&Vec::from(voice(48_000)));
        assert!(step(&heard) < 1.2 * natural, "{} after {natural}", step(&heard));
    }
}
