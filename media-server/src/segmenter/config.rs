//! The segmenter's numbers, and what they must not say.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Samples in one millisecond at 16 kHz.
const PER_MS: u64 = 16;

/// When speech begins, pauses and ends. Times act in steps of a chunk (32 ms), the nearest one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmenterConfig {
    /// Probability from which a chunk counts as voiced. Default 0.5, as the detector's authors use
    /// it.
    pub onset_threshold: f32,
    /// Probability that keeps voiced speech voiced; lower than the onset, so that speech does not
    /// flicker. Default 0.35.
    pub offset_threshold: f32,
    /// Probability from which the detector is beyond doubt. Default 0.9; see `min_sure_ms`.
    pub sure_threshold: f32,
    /// Time beyond doubt within the onset window that opens a segment. Default 128 ms, four chunks.
    /// Measured on a window of 13 chunks: each of over 700 English and Spanish telephone prompts of at
    /// least a second has 11 or more of them; 18 minutes of instrumental music, heard at five
    /// alignments to the chunks, have at most 2; DTMF, chords, tones and noises have none.
    pub min_sure_ms: u32,
    /// Voiced time that opens a segment. Default 250 ms: clicks and blips are shorter, words are
    /// not.
    pub min_speech_ms: u32,
    /// The time within which that voiced time must come together. Default 416 ms.
    pub onset_window_ms: u32,
    /// Samples kept from before the first voiced chunk: soft consonants come before the detector
    /// is sure. Default 300 ms.
    pub pre_roll_ms: u32,
    /// Samples kept after the last voiced chunk, at most the soft end. Default 200 ms: the burst of a
    /// last t or s follows its closure by up to a tenth of a second, and in noise the detector
    /// misses it. Of 1400 sentences in five languages, at 10 dB of signal to noise and better, none
    /// loses its end with 200 ms; with 100 ms nine do at 10 dB and five at 20 dB.
    pub tail_ms: u32,
    /// Pause after which the segment is worth transcribing on speculation. Default 200 ms.
    pub soft_end_ms: u32,
    /// Pause that ends a segment. Default 500 ms.
    pub hangover_ms: u32,
    /// Length from which the pause of `long_hangover_ms` is enough: a long speech is cut at the
    /// next breath rather than, later, within a word. Default 8 s.
    pub long_after_ms: u32,
    /// Pause that ends a long segment. Default 300 ms.
    pub long_hangover_ms: u32,
    /// Longest segment, pre-roll included. Default 12 s.
    pub max_segment_ms: u32,
    /// How far back the quietest place is sought when a segment grows longer than that. Default
    /// 2 s.
    pub cut_search_ms: u32,
    /// Smallest share of voiced time between the first and the last voiced chunk; below it the
    /// segment is discarded. Default 0.25.
    pub min_voiced_share: f32,
}

impl Default for SegmenterConfig {
    fn default() -> Self {
        Self {
            onset_threshold: 0.5,
            offset_threshold: 0.35,
            sure_threshold: 0.9,
            min_sure_ms: 128,
            min_speech_ms: 250,
            onset_window_ms: 416,
            pre_roll_ms: 300,
            tail_ms: 200,
            soft_end_ms: 200,
            hangover_ms: 500,
            long_after_ms: 8_000,
            long_hangover_ms: 300,
            max_segment_ms: 12_000,
            cut_search_ms: 2_000,
            min_voiced_share: 0.25,
        }
    }
}

/// A configuration that contradicts itself. The text says which rule it breaks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("segmenter configuration: {0}")]
pub struct InvalidSegmenterConfig(&'static str);

impl SegmenterConfig {
    pub(super) fn check(&self) -> Result<(), InvalidSegmenterConfig> {
        let unit = 0.0..=1.0;
        let needed = u64::from(self.pre_roll_ms)
            + u64::from(self.onset_window_ms)
            + u64::from(self.cut_search_ms);
        let rules = [
            (
                [self.onset_threshold, self.sure_threshold, self.min_voiced_share]
                    .iter()
                    .all(|value| unit.contains(value)),
                "thresholds and shares lie between 0 and 1",
            ),
            (
                0.0 < self.offset_threshold && self.offset_threshold <= self.onset_threshold,
                "offset_threshold is above 0 and at most onset_threshold",
            ),
            (
                0 < self.min_speech_ms && self.min_speech_ms <= self.onset_window_ms,
                "min_speech_ms is above 0 and at most onset_window_ms",
            ),
            (self.min_sure_ms <= self.min_speech_ms, "min_sure_ms is at most min_speech_ms"),
            (
                32 <= self.soft_end_ms && self.soft_end_ms <= self.long_hangover_ms,
                "soft_end_ms is at least 32 and at most long_hangover_ms",
            ),
            (self.long_hangover_ms <= self.hangover_ms, "long_hangover_ms is at most hangover_ms"),
            (self.tail_ms <= self.soft_end_ms, "tail_ms is at most soft_end_ms"),
            (self.cut_search_ms >= 100, "cut_search_ms is at least 100"),
            (
                needed < u64::from(self.max_segment_ms),
                "max_segment_ms is more than pre_roll_ms, onset_window_ms and cut_search_ms together",
            ),
            (
                self.max_segment_ms <= 30_000,
                "max_segment_ms is at most 30000, what the recogniser hears at once",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, rule)) => Err(InvalidSegmenterConfig(rule)),
        }
    }

    pub(super) fn min_speech(&self) -> u64 {
        samples(self.min_speech_ms)
    }

    pub(super) fn min_sure(&self) -> u64 {
        samples(self.min_sure_ms)
    }

    pub(super) fn onset_window(&self) -> u64 {
        samples(self.onset_window_ms)
    }

    pub(super) fn pre_roll(&self) -> u64 {
        samples(self.pre_roll_ms)
    }

    pub(super) fn tail(&self) -> u64 {
        samples(self.tail_ms)
    }

    pub(super) fn soft_end(&self) -> u64 {
        samples(self.soft_end_ms)
    }

    /// The pause that ends a segment of `length` samples.
    pub(super) fn hangover(&self, length: u64) -> u64 {
        let long = length >= samples(self.long_after_ms);
        samples(if long { self.long_hangover_ms } else { self.hangover_ms })
    }

    pub(super) fn max_segment(&self) -> u64 {
        samples(self.max_segment_ms)
    }

    pub(super) fn cut_search(&self) -> u64 {
        samples(self.cut_search_ms)
    }
}

fn samples(ms: u32) -> u64 {
    u64::from(ms) * PER_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(SegmenterConfig::default().check(), Ok(()));
    }

    #[test]
    fn a_contradiction_names_its_rule() {
        let broken = |change: fn(&mut SegmenterConfig)| {
            let mut config = SegmenterConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(broken(|c| c.offset_threshold = 0.6).contains("offset_threshold"));
        assert!(broken(|c| c.onset_threshold = f32::NAN).contains("between 0 and 1"));
        assert!(broken(|c| c.soft_end_ms = 400).contains("soft_end_ms"));
        assert!(broken(|c| c.max_segment_ms = 2_000).contains("max_segment_ms"));
        assert!(broken(|c| c.max_segment_ms = 31_000).contains("30000"));
    }

    #[test]
    fn absent_fields_take_their_defaults_and_unknown_ones_are_refused() {
        let config: SegmenterConfig = serde_json::from_str(r#"{"hangover_ms": 700}"#).unwrap();
        assert_eq!(config, SegmenterConfig { hangover_ms: 700, ..SegmenterConfig::default() });
        assert!(serde_json::from_str::<SegmenterConfig>(r#"{"hangover": 700}"#).is_err());
    }
}
