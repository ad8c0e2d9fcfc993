//! The jitter buffer of a peer's original sound, where it is mixed for others.
//!
//! It holds decoded samples, so losses are concealed already and all that is left is timing: the
//! mixer takes 20 ms at every tick of *our* clock, while samples come at the pace of the sender's
//! clock and of the network. It starts to play when [`TARGET`] is buffered, starts over when it
//! runs dry, and leaves out 20 ms, blended, when it has grown beyond [`LIMIT`].
//!
//! The recogniser does not wait here: its path is [`super::reorder`] alone.

use std::collections::VecDeque;

use super::frames::PLAYOUT_SAMPLES;

/// Samples (48 kHz) that are buffered before playing starts: 60 ms.
pub const TARGET: usize = 3 * PLAYOUT_SAMPLES;
/// Samples beyond which some are left out: 140 ms.
pub const LIMIT: usize = 7 * PLAYOUT_SAMPLES;
/// Samples over which two pieces are blended: 5 ms.
const BLEND: usize = 240;

/// The buffer of one source.
#[derive(Debug)]
pub struct Jitter {
    samples: VecDeque<f32>,
    is_playing: bool,
    underruns: u64,
    skips: u64,
}

impl Default for Jitter {
    fn default() -> Self {
        Self {
            samples: VecDeque::with_capacity(4 * LIMIT),
            is_playing: false,
            underruns: 0,
            skips: 0,
        }
    }
}

impl Jitter {
    /// Takes decoded samples (48 kHz mono).
    pub fn push(&mut self, samples: &[f32]) {
        // A burst beyond the capacity: its oldest part would be left out later anyway.
        let excess = (self.samples.len() + samples.len()).saturating_sub(4 * LIMIT);
        self.samples.drain(..excess.min(self.samples.len()));
        let kept = samples.len().min(4 * LIMIT);
        self.samples.extend(&samples[samples.len() - kept..]);
    }

    /// Fills `block` with the next 20 ms; false when there is only silence to give.
    pub fn pull(&mut self, block: &mut [f32; PLAYOUT_SAMPLES]) -> bool {
        if !self.is_playing && self.samples.len() < TARGET {
            block.fill(0.0);
            return false;
        }
        let fade_in = !self.is_playing;
        self.is_playing = true;
        while self.samples.len() > LIMIT {
            self.skip();
        }
        let available = self.samples.len().min(PLAYOUT_SAMPLES);
        for (target, sample) in block.iter_mut().zip(self.samples.drain(..available)) {
            *target = sample;
        }
        if fade_in {
            fade(block[..BLEND].iter_mut());
        }
        if available < PLAYOUT_SAMPLES {
            block[available..].fill(0.0);
            fade(block[available.saturating_sub(BLEND)..available].iter_mut().rev());
            self.is_playing = false;
            self.underruns += 1;
        }
        available > 0
    }

    /// How often the buffer ran dry.
    #[must_use]
    pub fn underruns(&self) -> u64 {
        self.underruns
    }

    /// How often 20 ms were left out.
    #[must_use]
    pub fn skips(&self) -> u64 {
        self.skips
    }

    /// Leaves out 20 ms, blending what comes before into what comes after.
    fn skip(&mut self) {
        for index in 0..BLEND {
            #[expect(clippy::cast_precision_loss, reason = "both are below 241")]
            let weight = (index + 1) as f32 / (BLEND + 1) as f32;
            let before = self.samples[index];
            let after = &mut self.samples[PLAYOUT_SAMPLES + index];
            *after = before + (*after - before) * weight;
        }
        self.samples.drain(..PLAYOUT_SAMPLES);
        self.skips += 1;
    }
}

/// Raises samples from nothing to themselves, in the order given.
fn fade<'a>(samples: impl ExactSizeIterator<Item = &'a mut f32>) {
    let steps = samples.len();
    for (index, sample) in samples.enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
        let level = index as f32 / steps as f32;
        *sample *= level;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tone(length: usize) -> Vec<f32> {
        (0..length).map(|n| 0.5 * (n as f32 * std::f32::consts::TAU / 160.0).sin()).collect()
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn it_plays_once_60_ms_are_there_and_then_in_order() {
        let mut jitter = Jitter::default();
        let mut block = [1.0; PLAYOUT_SAMPLES];
        let sound = tone(5 * PLAYOUT_SAMPLES);
        jitter.push(&sound[..TARGET - 1]);
        assert!(!jitter.pull(&mut block));
        assert!(block.iter().all(|sample| *sample == 0.0));
        jitter.push(&sound[TARGET - 1..]);
        assert!(jitter.pull(&mut block));
        assert_eq!(block[BLEND..], sound[BLEND..PLAYOUT_SAMPLES]);
        assert!(jitter.pull(&mut block));
        assert_eq!(block[..], sound[PLAYOUT_SAMPLES..2 * PLAYOUT_SAMPLES]);
    }

    #[test]
    fn it_fades_out_when_dry_and_waits_for_60_ms_again() {
        let mut jitter = Jitter::default();
        let mut block = [0.0; PLAYOUT_SAMPLES];
        jitter.push(&tone(TARGET + 500));
        for _ in 0..3 {
            assert!(jitter.pull(&mut block));
        }
        assert!(jitter.pull(&mut block));
        assert!(block[500..].iter().all(|sample| *sample == 0.0));
        assert!(largest_step(&block) < 0.05, "{}", largest_step(&block));
        assert_eq!(jitter.underruns(), 1);
        jitter.push(&tone(PLAYOUT_SAMPLES));
        assert!(!jitter.pull(&mut block));
    }

    #[test]
    fn a_burst_is_shortened_without_clicks() {
        let mut jitter = Jitter::default();
        let sound = tone(LIMIT + 3 * PLAYOUT_SAMPLES);
        jitter.push(&sound);
        let mut heard = Vec::new();
        let mut block = [0.0; PLAYOUT_SAMPLES];
        for _ in 0..7 {
            assert!(jitter.pull(&mut block));
            heard.extend_from_slice(&block);
        }
        assert_eq!(jitter.skips(), 3);
        assert!(largest_step(&heard) < 0.05, "{}", largest_step(&heard));
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_its_capacity(
            steps in prop::collection::vec((0usize..6_000, 0usize..4), 1..100),
        ) {
            let mut jitter = Jitter::default();
            let mut block = [0.0; PLAYOUT_SAMPLES];
            for (pushed, pulls) in steps {
                jitter.push(&tone(pushed));
                prop_assert!(jitter.samples.len() <= 4 * LIMIT);
                for _ in 0..pulls {
                    jitter.pull(&mut block);
                    prop_assert!(block.iter().all(|sample| sample.abs() <= 0.51));
                }
            }
        }
    }
}
