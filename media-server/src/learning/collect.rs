//! Collects clean speech of one person, until there is enough to learn their voice from.
//!
//! A segment counts from its first to its last voiced chunk, if most of that is voiced, stands well
//! above the noise of the pauses around it, and was not clipped by the microphone. What counts is
//! joined, and cut into clips of the same length in the end. All of it is pure: samples and
//! probabilities of speech in, samples out.

use std::ops::Range;

use inference::vad::CHUNK_SAMPLES;
use inference::voice::Recording;

/// Rate of everything here, in Hz (mono).
const RATE_HZ: u32 = 16_000;
const SAMPLES_PER_MS: usize = RATE_HZ as usize / 1000;
/// Clips that a voice is learned from.
const CLIPS: usize = 3;
/// Length of a clip: 6 s.
const CLIP_SAMPLES: usize = 6_000 * SAMPLES_PER_MS;
/// Speech that is needed as a whole, in milliseconds.
pub const NEEDED_MS: u64 = (CLIPS * CLIP_SAMPLES / SAMPLES_PER_MS) as u64;

/// Probability from which a chunk is voiced, and below which it is a pause.
const VOICED: f32 = 0.5;
const PAUSE: f32 = 0.2;
/// Least voiced chunks of a segment: about a second.
const LEAST_VOICED: usize = RATE_HZ as usize / CHUNK_SAMPLES;
/// Least share of voiced chunks between the first and the last.
const LEAST_SHARE: f64 = 0.7;
/// Least that speech stands above the noise, in decibels.
const LEAST_SNR_DB: f64 = 20.0;
/// Chunks of pauses that tell the noise; with fewer, the quietest tenth of all chunks does.
const ENOUGH_PAUSES: usize = 3;
/// Power below which noise is none: -90 dBFS.
const SILENCE: f64 = 1e-9;
/// Magnitude from which a sample is at the end of its range, and the share of such samples that makes
/// a segment clipped.
const FULL_SCALE: f32 = 0.985;
const MOST_CLIPPED: f64 = 0.0005;
/// What is kept around the voiced chunks: 50 ms.
const MARGIN: usize = 50 * SAMPLES_PER_MS;
/// What two spans fade by where they are joined: 5 ms.
const FADE: usize = 5 * SAMPLES_PER_MS;

/// Why a segment does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclean {
    /// There is too little speech in it.
    #[error("too little speech")]
    TooShort,
    /// Too much of it is no speech.
    #[error("too much of it is no speech")]
    Unvoiced,
    /// It is too loud for its microphone.
    #[error("clipped")]
    Clipped,
    /// Speech does not stand far enough above the noise.
    #[error("noisy")]
    Noisy,
}

/// The clean speech in a segment (16 kHz mono, -1 to 1), of which each chunk of [`CHUNK_SAMPLES`] is
/// speech with these probabilities.
///
/// # Errors
/// [`Unclean`] says why there is none.
pub fn clean_span(samples_16k: &[f32], probabilities: &[f32]) -> Result<Range<usize>, Unclean> {
    let chunks = || samples_16k.chunks_exact(CHUNK_SAMPLES).zip(probabilities);
    let is_voiced = |probability: &f32| *probability >= VOICED;
    let first = probabilities.iter().position(is_voiced).ok_or(Unclean::TooShort)?;
    let last = probabilities.iter().rposition(is_voiced).ok_or(Unclean::TooShort)?;
    let voiced = probabilities.iter().filter(|probability| is_voiced(probability)).count();
    if voiced < LEAST_VOICED {
        return Err(Unclean::TooShort);
    }
    if (voiced as f64) < LEAST_SHARE * (last + 1 - first) as f64 {
        return Err(Unclean::Unvoiced);
    }
    let clipped = samples_16k.iter().filter(|sample| sample.abs() >= FULL_SCALE).count();
    if clipped as f64 > MOST_CLIPPED * samples_16k.len() as f64 {
        return Err(Unclean::Clipped);
    }
    let powers = |wanted: fn(f32) -> bool| -> Vec<f64> {
        let wanted = chunks().filter(|(_, probability)| wanted(**probability));
        wanted.map(|(chunk, _)| power(chunk)).collect()
    };
    let speech = powers(|probability| probability >= VOICED);
    let speech = speech.iter().sum::<f64>() / speech.len().max(1) as f64;
    let pauses = powers(|probability| probability < PAUSE);
    let noise = if pauses.len() >= ENOUGH_PAUSES {
        at_share(pauses, 0.5)
    } else {
        at_share(powers(|_| true), 0.1)
    };
    let snr_db = 10.0 * (speech / noise.max(SILENCE)).log10();
    // Samples that are no numbers have no power: they are not clean either.
    if snr_db.is_nan() || snr_db < LEAST_SNR_DB {
        return Err(Unclean::Noisy);
    }
    let begin = (first * CHUNK_SAMPLES).saturating_sub(MARGIN);
    let end = ((last + 1) * CHUNK_SAMPLES + MARGIN).min(samples_16k.len());
    Ok(begin.min(end)..end)
}

/// Mean power of some samples.
fn power(samples: &[f32]) -> f64 {
    let sum: f64 = samples.iter().map(|sample| f64::from(*sample) * f64::from(*sample)).sum();
    sum / samples.len().max(1) as f64
}

/// The value below which this share of the values lies; 0 of none.
fn at_share(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// What was collected of one person: never more than is needed.
#[derive(Debug, Default)]
pub struct Collector {
    samples_16k: Vec<f32>,
}

impl Collector {
    /// Adds clean speech, 16 kHz mono.
    pub fn add(&mut self, clean_16k: &[f32]) {
        let begin = self.samples_16k.len();
        let room = (CLIPS * CLIP_SAMPLES).saturating_sub(begin);
        self.samples_16k.extend(clean_16k.iter().take(room));
        let added = &mut self.samples_16k[begin..];
        let fade = FADE.min(added.len() / 2);
        for index in 0..fade {
            let gain = index as f32 / fade as f32;
            let mirrored = added.len() - 1 - index;
            added[index] *= gain;
            added[mirrored] *= gain;
        }
    }

    /// Milliseconds of clean speech so far.
    pub fn collected_ms(&self) -> u64 {
        (self.samples_16k.len() / SAMPLES_PER_MS) as u64
    }

    /// Whether there is enough.
    pub fn is_complete(&self) -> bool {
        self.samples_16k.len() >= CLIPS * CLIP_SAMPLES
    }

    /// What was collected, as clips.
    pub fn clips(&self) -> Vec<Recording> {
        let clip = |clip: &[f32]| Recording { samples: clip.to_vec(), rate_hz: RATE_HZ };
        self.samples_16k.chunks(CLIP_SAMPLES).map(clip).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Chunks of a square wave of this amplitude.
    fn chunks(amplitude: f32, count: usize) -> Vec<f32> {
        (0..count * CHUNK_SAMPLES)
            .map(|index| if index % 64 < 32 { amplitude } else { -amplitude })
            .collect()
    }

    /// A pause, speech and a pause, and their probabilities.
    fn segment(noise: f32, speech: f32, voiced: usize) -> (Vec<f32>, Vec<f32>) {
        let samples = [chunks(noise, 10), chunks(speech, voiced), chunks(noise, 10)].concat();
        let probabilities = [vec![0.01; 10], vec![0.9; voiced], vec![0.01; 10]].concat();
        (samples, probabilities)
    }

    fn judge((samples, probabilities): &(Vec<f32>, Vec<f32>)) -> Result<Range<usize>, Unclean> {
        clean_span(samples, probabilities)
    }

    #[test]
    fn clean_speech_is_kept_from_its_first_to_its_last_voiced_chunk() {
        let span = judge(&segment(0.001, 0.3, 60)).expect("it is clean");
        assert_eq!(span, 10 * CHUNK_SAMPLES - MARGIN..70 * CHUNK_SAMPLES + MARGIN);
    }

    #[test]
    fn speech_in_noise_does_not_count() {
        // 10 and 30 dB above the noise.
        assert_eq!(judge(&segment(0.095, 0.3, 60)), Err(Unclean::Noisy));
        assert!(judge(&segment(0.0095, 0.3, 60)).is_ok());
        // Noise without any pause: the quietest chunks tell it.
        let probabilities = vec![0.9; 60];
        assert_eq!(judge(&(chunks(0.3, 60), probabilities)), Err(Unclean::Noisy));
    }

    #[test]
    fn short_sparse_and_clipped_segments_do_not_count() {
        assert_eq!(judge(&segment(0.001, 0.3, 20)), Err(Unclean::TooShort));
        assert_eq!(judge(&segment(0.001, 1.0, 60)), Err(Unclean::Clipped));
        let (samples, mut probabilities) = segment(0.001, 0.3, 100);
        probabilities[40..80].fill(0.3);
        assert_eq!(judge(&(samples, probabilities)), Err(Unclean::Unvoiced));
        assert_eq!(judge(&(Vec::new(), Vec::new())), Err(Unclean::TooShort));
        let (mut samples, probabilities) = segment(0.001, 0.3, 60);
        samples[20 * CHUNK_SAMPLES] = f32::NAN;
        assert_eq!(judge(&(samples, probabilities)), Err(Unclean::Noisy));
    }

    #[test]
    fn what_is_collected_becomes_three_clips_and_no_more() {
        let mut collector = Collector::default();
        for second in 1..=18 {
            assert!(!collector.is_complete());
            collector.add(&vec![0.1; 16_000]);
            assert_eq!(collector.collected_ms(), second * 1_000);
        }
        collector.add(&[0.1; 16_000]);
        assert_eq!((collector.collected_ms(), collector.is_complete()), (NEEDED_MS, true));
        let clips = collector.clips();
        assert_eq!(clips.iter().map(|clip| clip.samples.len()).collect::<Vec<_>>(), [96_000; 3]);
        assert_eq!((clips[0].samples[0], clips[0].samples[8_000]), (0.0, 0.1));
    }

    proptest! {
        #[test]
        fn nothing_leaves_its_bounds(
            samples in prop::collection::vec(prop_oneof![-2.0f32..2.0, Just(f32::NAN)], 0..40_000),
            probabilities in prop::collection::vec(-1.0f32..2.0, 0..100),
        ) {
            if let Ok(span) = clean_span(&samples, &probabilities) {
                prop_assert!(span.start <= span.end && span.end <= samples.len());
                let mut collector = Collector::default();
                collector.add(&samples[span]);
            }
        }
    }
}
