//! How loud audio is, and where the sound in it ends: an estimate for recordings whose last voiced
//! sample nobody has marked.

use std::time::Duration;

use crate::SAMPLE_RATE;

/// Length of the windows the estimate looks at: 10 ms.
const WINDOW: usize = SAMPLE_RATE as usize / 100;

/// Below its loud parts by this much, a recording counts as silent. Speech spans about 30 dB from
/// its strongest vowels to its weakest consonants.
const BELOW_SPEECH_DB: f32 = 30.0;

/// Nothing quieter than this is sound, whatever else is in the recording.
const FLOOR_DBFS: f32 = -60.0;

/// Level of samples in dB relative to full scale: 0 for a square wave of ±1, -120 at least.
#[must_use]
pub fn dbfs(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return -120.0;
    }
    let energy: f64 = samples.iter().map(|&sample| f64::from(sample) * f64::from(sample)).sum();
    let power = energy / samples.len() as f64;
    (10.0 * power.max(1e-12).log10()) as f32
}

/// Estimates when the last voiced sample of a recording is over, by energy: the end of the last
/// 10 ms that are less than 30 dB below the recording's loud parts (the 95th percentile of its
/// windows). `None` when nothing in it is louder than -60 dBFS.
#[must_use]
pub fn end_of_sound(samples_48k: &[f32]) -> Option<Duration> {
    let (_, last) = sounding_windows(samples_48k)?;
    Some(duration_of(((last + 1) * WINDOW).min(samples_48k.len())))
}

/// Estimates when the first voiced sample of a recording begins, by the same measure.
#[must_use]
pub fn begin_of_sound(samples_48k: &[f32]) -> Option<Duration> {
    let (first, _) = sounding_windows(samples_48k)?;
    Some(duration_of(first * WINDOW))
}

/// The first and the last window with sound.
fn sounding_windows(samples_48k: &[f32]) -> Option<(usize, usize)> {
    let levels: Vec<f32> = samples_48k.chunks(WINDOW).map(dbfs).collect();
    let mut sorted = levels.clone();
    sorted.sort_by(f32::total_cmp);
    let loud = *sorted.get(sorted.len().saturating_sub(1) * 95 / 100)?;
    let loudest = *sorted.last()?;
    // A short sound in a long silence leaves the percentile in the silence.
    let reference = if loud > FLOOR_DBFS { loud } else { loudest };
    let threshold = (reference - BELOW_SPEECH_DB).max(FLOOR_DBFS);
    let sounds = |&level: &f32| level > threshold;
    Some((levels.iter().position(sounds)?, levels.iter().rposition(sounds)?))
}

/// The duration of a number of samples at 48 kHz.
#[must_use]
pub fn duration_of(samples_48k: usize) -> Duration {
    Duration::from_secs_f64(samples_48k as f64 / f64::from(SAMPLE_RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(milliseconds: usize, amplitude: f32) -> Vec<f32> {
        (0..milliseconds * 48).map(|n| amplitude * (n as f32 * 0.0575).sin()).collect()
    }

    #[test]
    fn levels_are_decibels_below_full_scale() {
        assert!((dbfs(&[1.0; 100])).abs() < 0.01);
        assert!((dbfs(&[0.1; 100]) + 20.0).abs() < 0.01);
        assert!((dbfs(&tone(1000, 1.0)) + 3.01).abs() < 0.05);
        assert!((dbfs(&[]) + 120.0).abs() < 0.01);
    }

    #[test]
    fn sound_ends_where_the_tone_ends_although_noise_goes_on() {
        let mut samples = vec![0.0; 48 * 300];
        samples.extend(tone(1200, 0.5));
        samples.extend(tone(700, 0.002));
        let end = end_of_sound(&samples).unwrap_or_default();
        assert_eq!(end.as_millis(), 1500);
        assert_eq!(begin_of_sound(&samples).unwrap_or_default().as_millis(), 300);
    }

    #[test]
    fn a_short_sound_in_a_long_silence_is_found() {
        let mut samples = vec![0.0; 48 * 20_000];
        samples.splice(48 * 5000..48 * 5100, tone(100, 0.3));
        assert_eq!(end_of_sound(&samples).unwrap_or_default().as_millis(), 5100);
    }

    #[test]
    fn silence_has_no_end_of_sound() {
        assert_eq!(end_of_sound(&[]), None);
        assert_eq!(end_of_sound(&vec![0.0005; 48_000]), None);
    }
}
