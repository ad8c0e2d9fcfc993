//! What a microphone picks up beside the voice. Levels are set by the mixer; only the colour counts.

use std::f32::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::RATE;
use super::corpus::Sentence;
use super::stream::normal;

pub trait Noise {
    /// `length` samples.
    fn make(&self, length: usize) -> Vec<f32>;
}

/// Equal power in each octave: rain, traffic, a crowd far away.
pub struct Pink(pub u64);

impl Noise for Pink {
    fn make(&self, length: usize) -> Vec<f32> {
        // One row of random values for each octave, each held twice as long as the row before
        // (Voss' method).
        const OCTAVES: usize = 12;
        let mut random = StdRng::seed_from_u64(self.0);
        let mut rows = [0.0f32; OCTAVES];
        (0..length)
            .map(|n| {
                let row = (n.trailing_zeros() as usize).min(OCTAVES - 1);
                rows[row] = normal(&mut random);
                rows.iter().sum::<f32>() + normal(&mut random)
            })
            .collect()
    }
}

/// A room with a fan: mains hum with its harmonics over a rumble below some 300 Hz, both breathing
/// slowly.
pub struct Room(pub u64);

impl Noise for Room {
    fn make(&self, length: usize) -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(self.0);
        let harmonics: Vec<(f32, f32)> =
            (1..=8).map(|n| (50.0 * n as f32, random.random::<f32>() * TAU)).collect();
        let mut rumble = 0.0;
        (0..length)
            .map(|n| {
                let time = n as f32 / RATE as f32;
                let hum: f32 = harmonics
                    .iter()
                    .map(|(hz, phase)| (TAU * hz * time + phase).sin() * 50.0 / hz)
                    .sum();
                rumble = 0.9 * rumble + normal(&mut random);
                (hum + rumble) * (1.0 + 0.2 * (TAU * 0.3 * time).sin())
            })
            .collect()
    }
}

/// Many people at once, as in a restaurant: sentences over each other, without pauses.
pub struct Babble {
    pub sentences: Vec<Sentence>,
    pub talkers: usize,
}

impl Noise for Babble {
    fn make(&self, length: usize) -> Vec<f32> {
        let mut noise = vec![0.0; length];
        for talker in 0..self.talkers {
            let spoken = self.sentences.iter().skip(talker).step_by(self.talkers);
            let mut voice = spoken.cycle().flat_map(|sentence| &sentence.samples);
            // So that nobody begins together with the stream.
            let voice = voice.by_ref().skip(talker * RATE);
            for (sum, sample) in noise.iter_mut().zip(voice) {
                *sum += sample;
            }
        }
        noise
    }
}
