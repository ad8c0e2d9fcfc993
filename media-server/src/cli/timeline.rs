//! Where the utterances of an interpreted recording stand in the output.

use crate::engine::SPOKEN_RATE_HZ;

/// A growing recording, 48 kHz mono, into which utterances are placed one after the other.
#[derive(Default)]
pub(super) struct Timeline(Vec<f32>);

impl Timeline {
    /// Places samples at a time, or right after the ones before when those take longer: one voice
    /// does not speak over itself.
    pub(super) fn place(&mut self, at_ms: u64, samples_48k: &[f32]) {
        let start = usize::try_from(at_ms * u64::from(SPOKEN_RATE_HZ) / 1000).unwrap_or(usize::MAX);
        if start > self.0.len() {
            self.0.resize(start, 0.0);
        }
        self.0.extend_from_slice(samples_48k);
    }

    pub(super) fn samples_48k(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_utterance_stands_at_its_time_and_waits_for_the_one_before() {
        let mut timeline = Timeline::default();
        timeline.place(10, &[1.0; 960]);
        timeline.place(20, &[2.0; 10]);
        let samples = timeline.samples_48k();
        assert_eq!(samples[479], 0.0);
        assert_eq!(samples[480], 1.0);
        assert_eq!(samples[480 + 960], 2.0);
        assert_eq!(samples.len(), 480 + 970);
    }
}
