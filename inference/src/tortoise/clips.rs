//! Recordings of a person, made ready for the networks that hear a voice out of them.
//!
//! A few clips of 6 to 10 seconds of clean speech do best. What cannot work is refused with a reason
//! that helps to record another; what may work less well is noted. Each network hears a part of a clip:
//! the autoregressive model six seconds from anywhere in it, the diffusion model the first four and a
//! quarter. A shorter clip is continued by silence.

use std::fmt;

use super::mel::{CONDITIONING_RATE_HZ, ConditioningMel, DIFFUSION_RATE_HZ, DiffusionMel, Mel};
use super::random::Random;
use super::resample::Resampler;
use crate::voice::Recording;

/// Samples that the autoregressive model hears of a clip, at [`CONDITIONING_RATE_HZ`].
pub const CONDITIONING_SAMPLES: usize = 132_300;
/// Samples that the diffusion model hears of a clip, at [`DIFFUSION_RATE_HZ`].
pub const DIFFUSION_SAMPLES: usize = 102_400;
/// Most clips of a voice.
pub const MOST_CLIPS: usize = 32;

/// Samples at [`CONDITIONING_RATE_HZ`] that those at [`DIFFUSION_RATE_HZ`] come from, the filter's
/// reach included.
const DIFFUSION_SOURCE_SAMPLES: usize = 94_080 + 64;

const LEAST_RATE_HZ: u32 = 8_000;
const MOST_RATE_HZ: u32 = 192_000;
const LEAST_SECONDS: f64 = 1.0;
const GOOD_SECONDS: f64 = 6.0;
const MOST_SECONDS: f64 = 600.0;
/// Levels are in dB below a square wave at full scale.
const SILENCE_DB: f64 = -50.0;
/// Frames this far below the loudest one count as silence at the ends of a clip.
const QUIET_DB: f64 = 40.0;
/// Levels of speech differ by more than this from one frame to another.
const LEAST_DYNAMIC_DB: f64 = 3.0;
/// Share of the frames at either end of that range which are left out of it.
const OUTLIERS: f64 = 0.05;
const FRAMES_PER_SECOND: f64 = 50.0;
/// Silence that is left around speech.
const MARGIN_SECONDS: f64 = 0.1;
/// Samples from here on are at full scale.
const FULL_SCALE: f32 = 0.999;
/// So many of them in a row are no peak but one that was cut off.
const CLIPPED_RUN: usize = 3;
const MOST_CLIPPED: f64 = 0.001;

/// Why no voice can be heard out of clips. Clips are counted from 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClipError {
    /// There is none: give one.
    #[error("there is no clip: give one or more of 6 to 10 seconds of speech")]
    None,
    /// There are more than are worth hearing: choose the best.
    #[error("there are {0} clips: give the best {MOST_CLIPS} at most")]
    TooMany(usize),
    /// The sample rate is none of a recording of speech: convert or record it with another.
    #[error(
        "clip {clip} has a sample rate of {rate_hz} Hz: give one between {LEAST_RATE_HZ} and \
         {MOST_RATE_HZ} Hz"
    )]
    Rate {
        /// Which clip.
        clip: usize,
        /// Its rate.
        rate_hz: u32,
    },
    /// Some samples are no finite numbers: decode or record it again.
    #[error("clip {clip} is damaged: some of its samples are no numbers")]
    NotNumbers {
        /// Which clip.
        clip: usize,
    },
    /// There is too little sound: record a longer one.
    #[error(
        "clip {clip} has {seconds:.1} seconds of sound: give at least {LEAST_SECONDS} second, \
         better 6 to 10"
    )]
    TooShort {
        /// Which clip.
        clip: usize,
        /// Between the silence at its ends.
        seconds: f64,
    },
    /// It is longer than anything of use: cut out the best part.
    #[error("clip {clip} lasts {seconds:.0} seconds: cut out 6 to 10 seconds of speech")]
    TooLong {
        /// Which clip.
        clip: usize,
        /// As it was given.
        seconds: f64,
    },
    /// There is nothing to hear: check the microphone.
    #[error("clip {clip} is silent: check the microphone and its level")]
    Silent {
        /// Which clip.
        clip: usize,
    },
    /// It sounds the same from beginning to end, as hum, noise and tones do: record speech.
    #[error("clip {clip} is no speech: it is equally loud from beginning to end")]
    NoSpeech {
        /// Which clip.
        clip: usize,
    },
    /// Its peaks are cut off: record it with less gain.
    #[error(
        "clip {clip} is overdriven: {:.1} % of it is cut off at full scale; record it at a lower level",
        share * 100.0
    )]
    Overdriven {
        /// Which clip.
        clip: usize,
        /// Samples at full scale beside others, as a share of all.
        share: f64,
    },
}

/// What may make a voice worse than it could be. Clips are counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub enum ClipNote {
    /// There is less sound than the networks can hear.
    Short {
        /// Which clip.
        clip: usize,
        /// Between the silence at its ends.
        seconds: f64,
    },
    /// Its sample rate has no room for what the networks hear of a voice's highs.
    Muffled {
        /// Which clip.
        clip: usize,
        /// Its rate.
        rate_hz: u32,
    },
}

impl fmt::Display for ClipNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { clip, seconds } => {
                write!(f, "clip {clip} has {seconds:.1} seconds of sound: 6 to 10 do better")
            }
            Self::Muffled { clip, rate_hz } => write!(
                f,
                "clip {clip} has a sample rate of {rate_hz} Hz and no sound above {} Hz: \
                 {CONDITIONING_RATE_HZ} Hz or more do better",
                rate_hz / 2
            ),
        }
    }
}

/// What the networks hear of a voice.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedClips {
    /// For the autoregressive model: of each clip the spectrogram of [`CONDITIONING_SAMPLES`].
    pub conditioning: Vec<Mel>,
    /// For the diffusion model: of each clip the spectrogram of [`DIFFUSION_SAMPLES`].
    pub diffusion: Vec<Mel>,
    /// What could be better.
    pub notes: Vec<ClipNote>,
}

/// Makes clips ready.
#[derive(Clone, Default)]
pub struct Clips {
    conditioning: ConditioningMel,
    diffusion: DiffusionMel,
}

impl Clips {
    /// For a model that hears that spectrogram.
    pub fn new(conditioning: ConditioningMel) -> Self {
        Self { conditioning, diffusion: DiffusionMel::default() }
    }

    /// Checks recordings of one person, cuts off the silence at their ends, and computes what the
    /// networks hear. `seed` tells which part of a long clip that is; equal ones give equal voices.
    ///
    /// # Errors
    /// The first thing that is wrong with a clip.
    pub fn prepare(&self, recordings: &[Recording], seed: u64) -> Result<PreparedClips, ClipError> {
        if recordings.is_empty() {
            return Err(ClipError::None);
        }
        if recordings.len() > MOST_CLIPS {
            return Err(ClipError::TooMany(recordings.len()));
        }
        let mut random = Random::new(seed);
        let to_diffusion = Resampler::new(CONDITIONING_RATE_HZ, DIFFUSION_RATE_HZ);
        let mut prepared =
            PreparedClips { conditioning: Vec::new(), diffusion: Vec::new(), notes: Vec::new() };
        for (index, recording) in recordings.iter().enumerate() {
            let sound = checked(index + 1, recording, &mut prepared.notes)?;
            let limited: Vec<f32> = sound.iter().map(|sample| sample.clamp(-1.0, 1.0)).collect();
            let samples = Resampler::new(recording.rate_hz, CONDITIONING_RATE_HZ).convert(&limited);

            let spare = samples.len().saturating_sub(CONDITIONING_SAMPLES);
            let start = (random.next_unit() * (spare + 1) as f64) as usize;
            let (conditioning, diffusion) = self.hear(&samples, start, &to_diffusion);
            prepared.conditioning.push(conditioning);
            prepared.diffusion.push(diffusion);
        }
        Ok(prepared)
    }

    /// What either network hears of a clip at [`CONDITIONING_RATE_HZ`], the first one from `start` on.
    fn hear(&self, samples: &[f32], start: usize, to_diffusion: &Resampler) -> (Mel, Mel) {
        let heard = fitted(&samples[start..], CONDITIONING_SAMPLES);
        let conditioning = self.conditioning.compute(&heard).expect("it is long enough");
        let source = &samples[..samples.len().min(DIFFUSION_SOURCE_SAMPLES)];
        let heard = fitted(&to_diffusion.convert(source), DIFFUSION_SAMPLES);
        let diffusion = self.diffusion.compute(&heard).expect("it is long enough");
        (conditioning, diffusion)
    }
}

/// The first `length` samples, with silence for what is not there.
fn fitted(samples: &[f32], length: usize) -> Vec<f32> {
    let mut fitted = samples[..samples.len().min(length)].to_vec();
    fitted.resize(length, 0.0);
    fitted
}

/// What there is to hear in a recording that is fit for it.
fn checked<'a>(
    clip: usize,
    recording: &'a Recording,
    notes: &mut Vec<ClipNote>,
) -> Result<&'a [f32], ClipError> {
    let Recording { samples, rate_hz } = recording;
    let (rate_hz, rate) = (*rate_hz, f64::from(*rate_hz));
    if !(LEAST_RATE_HZ..=MOST_RATE_HZ).contains(&rate_hz) {
        return Err(ClipError::Rate { clip, rate_hz });
    }
    let seconds = samples.len() as f64 / rate;
    if seconds < LEAST_SECONDS {
        return Err(ClipError::TooShort { clip, seconds });
    }
    if seconds > MOST_SECONDS {
        return Err(ClipError::TooLong { clip, seconds });
    }
    if samples.iter().any(|sample| !sample.is_finite()) {
        return Err(ClipError::NotNumbers { clip });
    }
    let frame = (rate / FRAMES_PER_SECOND) as usize;
    let levels = levels(samples, frame);
    let loudest = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if loudest < SILENCE_DB || level(samples, mean(samples)) < SILENCE_DB {
        return Err(ClipError::Silent { clip });
    }
    let share = clipped(samples);
    if share > MOST_CLIPPED {
        return Err(ClipError::Overdriven { clip, share });
    }
    if dynamic(&levels) < LEAST_DYNAMIC_DB {
        return Err(ClipError::NoSpeech { clip });
    }
    let floor = SILENCE_DB.max(loudest - QUIET_DB);
    let is_sound = |level: &f64| *level >= floor;
    let first = levels.iter().position(is_sound).unwrap_or(0);
    let last = levels.iter().rposition(is_sound).unwrap_or(0);
    let seconds = (last + 1 - first) as f64 / FRAMES_PER_SECOND;
    if seconds < LEAST_SECONDS {
        return Err(ClipError::TooShort { clip, seconds });
    }
    if seconds < GOOD_SECONDS {
        notes.push(ClipNote::Short { clip, seconds });
    }
    if rate_hz < CONDITIONING_RATE_HZ {
        notes.push(ClipNote::Muffled { clip, rate_hz });
    }
    let margin = (MARGIN_SECONDS * rate) as usize;
    let start = (first * frame).saturating_sub(margin);
    let end = ((last + 1) * frame + margin).min(samples.len());
    Ok(&samples[start..end])
}

/// Levels of the frames in dB, what is left at the end with the last one. A constant offset of the whole
/// clip is no sound.
fn levels(samples: &[f32], frame: usize) -> Vec<f64> {
    let offset = mean(samples);
    let frames = samples.len() / frame;
    let bounds = |index: usize| {
        let end = if index + 1 == frames { samples.len() } else { (index + 1) * frame };
        index * frame..end
    };
    (0..frames).map(|index| level(&samples[bounds(index)], offset)).collect()
}

fn mean(samples: &[f32]) -> f64 {
    samples.iter().copied().map(f64::from).sum::<f64>() / samples.len() as f64
}

/// Root of the mean square around `offset`, in dB.
fn level(samples: &[f32], offset: f64) -> f64 {
    let power: f64 = samples.iter().map(|&sample| (f64::from(sample) - offset).powi(2)).sum();
    10.0 * (power / samples.len() as f64).log10()
}

/// How far the levels of quiet and loud frames are apart, without the few that are quietest and
/// loudest.
fn dynamic(levels: &[f64]) -> f64 {
    let mut sorted = levels.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let outliers = (OUTLIERS * sorted.len() as f64) as usize;
    sorted[sorted.len() - 1 - outliers] - sorted[outliers]
}

/// Share of the samples that are at full scale together with others beside them.
fn clipped(samples: &[f32]) -> f64 {
    let runs = samples.chunk_by(|a, b| side(*a) == side(*b));
    let cut = runs.filter(|run| side(run[0]) != 0 && run.len() >= CLIPPED_RUN);
    cut.map(<[f32]>::len).sum::<usize>() as f64 / samples.len() as f64
}

/// At which end of the scale a sample is, if at one.
fn side(sample: f32) -> i8 {
    i8::from(sample >= FULL_SCALE) - i8::from(sample <= -FULL_SCALE)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::super::mel::tests::{apart, numbers, reference};
    use super::*;

    /// A tone with some hiss, whose loudness comes and goes four times a second, as that of speech does.
    fn voiced(rate_hz: u32, seconds: f64) -> Vec<f32> {
        let count = (f64::from(rate_hz) * seconds) as usize;
        let mut state = 1u64;
        let sample = |n: usize| {
            let time = n as f64 / f64::from(rate_hz);
            let loudness = 0.05 + 0.3 * (TAU * 2.0 * time).sin().powi(2);
            state = (1_103_515_245 * state + 12_345) % (1 << 31);
            let hiss = state as f64 / f64::from(1 << 30) - 1.0;
            (loudness * ((TAU * 220.0 * time).sin() + 0.1 * hiss)) as f32
        };
        (0..count).map(sample).collect()
    }

    fn recording(samples: Vec<f32>, rate_hz: u32) -> Recording {
        Recording { samples, rate_hz }
    }

    fn prepare(samples: Vec<f32>, rate_hz: u32) -> Result<PreparedClips, ClipError> {
        Clips::default().prepare(&[recording(samples, rate_hz)], 7)
    }

    #[test]
    fn clips_of_any_rate_and_length_become_spectrograms_of_one_size() {
        let clips = [(22_050, 8.0), (48_000, 6.0), (44_100, 2.0), (16_000, 20.0), (8_000, 1.0)];
        let recordings: Vec<Recording> =
            clips.iter().map(|&(rate, seconds)| recording(voiced(rate, seconds), rate)).collect();
        let prepared = Clips::default().prepare(&recordings, 1).expect("good clips");
        let sizes = |mels: &[Mel]| -> Vec<(usize, usize)> {
            mels.iter().map(|mel| (mel.bands(), mel.frames())).collect()
        };
        assert_eq!(sizes(&prepared.conditioning), [(80, 517); 5]);
        assert_eq!(sizes(&prepared.diffusion), [(100, 401); 5]);
        let notes: Vec<String> = prepared.notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            [
                "clip 3 has 2.0 seconds of sound: 6 to 10 do better",
                "clip 4 has a sample rate of 16000 Hz and no sound above 8000 Hz: 22050 Hz or more do \
                 better",
                "clip 5 has 1.0 seconds of sound: 6 to 10 do better",
                "clip 5 has a sample rate of 8000 Hz and no sound above 4000 Hz: 22050 Hz or more do \
                 better",
            ]
        );
    }

    #[test]
    fn a_clip_is_heard_as_in_the_reference() {
        let clip = numbers(&reference("clip"));
        let to_diffusion = Resampler::new(CONDITIONING_RATE_HZ, DIFFUSION_RATE_HZ);
        let (conditioning, diffusion) = Clips::default().hear(&clip, 0, &to_diffusion);
        for (name, mel) in [("clip_mel80", conditioning), ("clip_mel100", diffusion)] {
            // The first frames are kept, and how many there are.
            let expected = reference(name);
            let frames = reference(&format!("{name}_frames")).to_scalar::<i64>().expect("a number");
            assert_eq!(mel.frames(), usize::try_from(frames).expect("a count"));
            let kept = expected.dim(2).expect("frames");
            let actual: Vec<f32> = mel
                .values()
                .chunks_exact(mel.frames())
                .flat_map(|band| band[..kept].iter().copied())
                .collect();
            assert!(apart(&actual, &numbers(&expected)) < 1e-4, "{name}");
            let ends = mel.values().chunks_exact(mel.frames());
            assert!(
                ends.map(|band| &band[kept..]).all(|end| end.iter().all(|&value| value == end[0]))
            );
        }
    }

    #[test]
    fn silence_at_the_ends_is_cut_off() {
        let sound = voiced(22_050, 3.0);
        let silence = vec![0.0; 22_050 * 5];
        let whole = [silence.clone(), sound.clone(), silence].concat();
        let mut notes = Vec::new();
        let cut = recording(whole, 22_050);
        let heard = checked(1, &cut, &mut notes).expect("a good clip");
        let margins = 2 * 22_050 / 10;
        assert!(heard.len().abs_diff(sound.len() + margins) <= 441, "{}", heard.len());
        assert!(matches!(notes[..], [ClipNote::Short { clip: 1, seconds }] if seconds < 3.1));
    }

    #[test]
    fn the_seed_chooses_the_part_of_a_long_clip() {
        let clip = [recording(voiced(22_050, 30.0), 22_050)];
        let heard = |seed| Clips::default().prepare(&clip, seed).expect("a good clip");
        assert_eq!(heard(1), heard(1));
        assert_ne!(heard(1).conditioning, heard(2).conditioning);
        assert_eq!(heard(1).diffusion, heard(2).diffusion);
        assert!(heard(1).notes.is_empty());
    }

    #[test]
    fn what_no_voice_can_be_heard_in_is_refused_with_a_reason() {
        assert_eq!(Clips::default().prepare(&[], 0), Err(ClipError::None));
        let many = vec![recording(voiced(8_000, 1.0), 8_000); MOST_CLIPS + 1];
        assert_eq!(Clips::default().prepare(&many, 0), Err(ClipError::TooMany(MOST_CLIPS + 1)));
        for rate_hz in [0, 7_999, 192_001, u32::MAX] {
            let refused = Err(ClipError::Rate { clip: 1, rate_hz });
            assert_eq!(prepare(vec![0.1; 100], rate_hz), refused);
        }
        let short = |seconds| Err(ClipError::TooShort { clip: 1, seconds });
        assert_eq!(prepare(Vec::new(), 22_050), short(0.0));
        assert_eq!(prepare(voiced(22_050, 0.5), 22_050), short(0.5));
        let mostly_silent = [voiced(22_050, 0.5), vec![0.0; 22_050]].concat();
        assert_eq!(prepare(mostly_silent, 22_050), short(0.5));
        let long = prepare(vec![0.1; 8_000 * 601], 8_000);
        assert_eq!(long, Err(ClipError::TooLong { clip: 1, seconds: 601.0 }));
        for (sample, refused) in [
            (f32::NAN, ClipError::NotNumbers { clip: 1 }),
            (f32::INFINITY, ClipError::NotNumbers { clip: 1 }),
        ] {
            let mut samples = voiced(22_050, 2.0);
            samples[30_000] = sample;
            assert_eq!(prepare(samples, 22_050), Err(refused));
        }
        let quiet = voiced(22_050, 2.0).iter().map(|sample| sample * 0.005).collect();
        for silent in [vec![0.0; 44_100], vec![0.3; 44_100], quiet] {
            assert_eq!(prepare(silent, 22_050), Err(ClipError::Silent { clip: 1 }));
        }
        let hum = (0..44_100).map(|n| (n as f32 * 0.0142).sin() * 0.2).collect();
        assert_eq!(prepare(hum, 22_050), Err(ClipError::NoSpeech { clip: 1 }));
    }

    #[test]
    fn noise_is_no_speech() {
        let noise = Random::new(3).normals(44_100).iter().map(|sample| sample * 0.1).collect();
        assert_eq!(prepare(noise, 22_050), Err(ClipError::NoSpeech { clip: 1 }));
    }

    #[test]
    fn an_overdriven_clip_is_refused_and_single_peaks_are_not() {
        let loud =
            voiced(22_050, 2.0).iter().map(|sample| (sample * 5.0).clamp(-1.0, 1.0)).collect();
        let refused = prepare(loud, 22_050).expect_err("it is cut off");
        assert!(matches!(refused, ClipError::Overdriven { clip: 1, share } if share > 0.2));
        assert!(refused.to_string().contains("% of it is cut off"), "{refused}");
        let mut peaks = voiced(22_050, 2.0);
        for peak in peaks.iter_mut().step_by(100) {
            *peak = 1.0;
        }
        assert!(prepare(peaks, 22_050).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn wild_clips_are_refused_or_heard(
            start in prop::collection::vec(any::<f32>(), 0..20),
            scale in prop_oneof![0.0f32..4.0, any::<f32>()],
            seconds in 0.0f64..3.0,
            rate_hz in prop_oneof![8_000u32..48_000, any::<u32>()],
            seed in any::<u64>(),
        ) {
            let rate = rate_hz.min(48_000);
            let mut samples = start;
            samples.extend(voiced(rate, seconds).iter().map(|sample| sample * scale));
            if let Ok(prepared) = Clips::default().prepare(&[recording(samples, rate_hz)], seed) {
                for mel in prepared.conditioning.iter().chain(&prepared.diffusion) {
                    prop_assert!(mel.values().iter().all(|value| value.is_finite()));
                }
            }
        }
    }
}
