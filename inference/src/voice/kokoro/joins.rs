//! What happens to a synthesised clause before it is heard: the silence around it goes, a pause
//! that suits its punctuation follows it, its ends are faded, and nothing clips.

/// Kokoro's sample rate in Hz.
pub(super) const SAMPLE_RATE_HZ: u32 = 24_000;
const PER_MS: usize = SAMPLE_RATE_HZ as usize / 1000;
/// Below this a sample counts as silence (about -46 dBFS; the model's floor is lower).
const SILENCE: f32 = 0.005;
/// Kept around the audible part: consonants begin and end softly.
const LEAD_MS: usize = 30;
const TAIL_MS: usize = 60;
const FADE_MS: usize = 5;
/// Loudest sample that leaves.
const PEAK: f32 = 0.97;

/// Trims, fades and limits a clause in place. A clause that is silent throughout becomes empty.
pub(super) fn finish_clause(samples: &mut Vec<f32>) {
    let is_audible = |sample: &f32| sample.abs() > SILENCE;
    let (Some(first), Some(last)) =
        (samples.iter().position(is_audible), samples.iter().rposition(is_audible))
    else {
        samples.clear();
        return;
    };
    samples.truncate((last + 1 + TAIL_MS * PER_MS).min(samples.len()));
    samples.drain(..first.saturating_sub(LEAD_MS * PER_MS));

    let fade = (FADE_MS * PER_MS).min(samples.len() / 2);
    let len = samples.len();
    for index in 0..fade {
        let gain = index as f32 / fade as f32;
        samples[index] *= gain;
        samples[len - 1 - index] *= gain;
    }
    let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    if peak > PEAK {
        let gain = PEAK / peak;
        samples.iter_mut().for_each(|sample| *sample *= gain);
    }
}

/// Samples of silence after a clause that more text follows, over and above the kept tail.
pub(super) fn pause_after(clause: &str, speed: f32) -> usize {
    let mark = clause.trim_end_matches(['"', '\'', ')', '”', '»']).chars().next_back();
    let milliseconds = match mark {
        Some('.' | '!' | '?' | '…' | '।') => 220,
        Some(',' | ';' | ':' | '—' | '–') => 90,
        // Cut within a phrase: no pause that the speaker would not make.
        _ => 0,
    };
    (milliseconds as f32 / speed) as usize * PER_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_trimmed_and_the_ends_are_faded() {
        let mut samples = vec![0.0; 24_000];
        samples.extend(vec![0.5; 12_000]);
        samples.extend(vec![0.001; 24_000]);
        finish_clause(&mut samples);
        assert_eq!(samples.len(), (LEAD_MS + TAIL_MS) * PER_MS + 12_000);
        assert_eq!((samples[0], samples[samples.len() - 1]), (0.0, 0.0));
        assert_eq!(samples[LEAD_MS * PER_MS + 5000], 0.5);
    }

    #[test]
    fn nothing_clips_and_silence_becomes_nothing() {
        let mut samples: Vec<f32> =
            (0..9000).map(|index| 1.8 * (index as f32 * 0.1).sin()).collect();
        finish_clause(&mut samples);
        assert!(samples.iter().all(|sample| sample.abs() <= PEAK + 1e-6));
        let mut silence = vec![0.001; 5000];
        finish_clause(&mut silence);
        assert!(silence.is_empty());
        finish_clause(&mut silence);
    }

    #[test]
    fn a_sentence_is_followed_by_a_longer_pause_than_a_comma() {
        let (sentence, comma) = (pause_after("Sí.\"", 1.0), pause_after("Sí,", 1.0));
        assert!(sentence > comma && comma > pause_after("sí", 1.0));
        assert_eq!(pause_after("Sí.", 2.0), sentence / 2);
    }
}
