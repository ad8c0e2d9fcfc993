//! Sentences joined into one long stream, with the pauses of somebody who speaks for a while.

use std::f32::consts::TAU;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::corpus::{Sentence, power};
use super::noise::Noise;
use super::{PER_MS, RATE};

/// The pauses between sentences, from the last voiced sample to the first: log-normal, cut off on
/// both sides. The shortest is longer than the hangover, so each ends a segment.
const MEDIAN_PAUSE_S: f32 = 0.9;
const PAUSE_SPREAD: f32 = 0.35;
const PAUSES_S: Range<f32> = 0.65..2.5;
/// What is kept of the recording around its voiced samples: breath and fading room. Twice this is
/// less than the shortest pause.
const MARGIN: u64 = 200 * PER_MS;
/// Silence before the first sentence and after the last.
const LEAD: u64 = 2 * RATE as u64;

/// A sentence in a stream.
#[derive(Clone, Debug)]
pub struct Placed {
    pub name: String,
    /// Where it is voiced, on the stream's timeline.
    pub voiced: Vec<Range<u64>>,
}

impl Placed {
    pub fn span(&self) -> Range<u64> {
        self.voiced[0].start..self.voiced[self.voiced.len() - 1].end
    }
}

/// A clean stream and where its sentences are.
#[derive(Clone, Debug)]
pub struct Stream {
    pub samples: Vec<f32>,
    pub sentences: Vec<Placed>,
}

impl Stream {
    /// Joins sentences, with pauses that the seed draws.
    pub fn join(sentences: &[Sentence], seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut stream = Self { samples: Vec::new(), sentences: Vec::new() };
        let mut voice_begins = LEAD;
        for sentence in sentences {
            let span = sentence.span();
            let kept = span.start.saturating_sub(MARGIN)
                ..(span.end + MARGIN).min(sentence.samples.len() as u64);
            let begins = voice_begins - (span.start - kept.start);
            stream.samples.resize(begins as usize, 0.0);
            let samples = &sentence.samples[kept.start as usize..kept.end as usize];
            stream.samples.extend(samples);
            let shift = |place: &Range<u64>| {
                place.start + voice_begins - span.start..place.end + voice_begins - span.start
            };
            let voiced = sentence.voiced.iter().map(shift).collect();
            stream.sentences.push(Placed { name: sentence.name.clone(), voiced });
            voice_begins += span.end - span.start + pause(&mut random);
        }
        stream.samples.resize(stream.samples.len() + LEAD as usize, 0.0);
        stream
    }

    /// The stream with noise, `snr_db` below the mean power of what is voiced.
    pub fn with(&self, noise: &dyn Noise, snr_db: f32) -> Vec<f32> {
        let noise = noise.make(self.samples.len());
        let (mut energy, mut length) = (0.0f64, 0u64);
        for place in self.sentences.iter().flat_map(|sentence| &sentence.voiced) {
            let samples = &self.samples[place.start as usize..place.end as usize];
            energy += f64::from(power(samples)) * samples.len() as f64;
            length += samples.len() as u64;
        }
        let speech = (energy / length.max(1) as f64) as f32;
        let gain = (speech / power(&noise) * 10f32.powf(-snr_db / 10.0)).sqrt();
        self.samples.iter().zip(&noise).map(|(sample, noise)| sample + gain * noise).collect()
    }
}

fn pause(random: &mut StdRng) -> u64 {
    loop {
        let seconds = MEDIAN_PAUSE_S * (PAUSE_SPREAD * normal(random)).exp();
        if PAUSES_S.contains(&seconds) {
            return (seconds * RATE as f32) as u64;
        }
    }
}

/// A draw from the standard normal distribution (Box and Muller, 1958).
pub fn normal(random: &mut StdRng) -> f32 {
    let (radius, angle): (f32, f32) =
        (random.random_range(f32::MIN_POSITIVE..1.0), random.random());
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}
