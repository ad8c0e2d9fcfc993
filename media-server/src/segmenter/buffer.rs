//! The samples a segmenter holds, with what was measured of each chunk.

use std::collections::VecDeque;

/// What is known of one chunk in the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Position of its first sample.
    pub start: u64,
    /// Position after its last sample.
    pub end: u64,
    pub probability: f32,
    pub voiced: bool,
    /// Mean square of its samples.
    power: f32,
}

impl Mark {
    pub fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// Contiguous samples from [`start`](Self::start) to [`end`](Self::end) on the peer's timeline.
#[derive(Debug, Default)]
pub struct Buffer {
    start: Option<u64>,
    samples: Vec<f32>,
    marks: VecDeque<Mark>,
}

impl Buffer {
    /// Whether no timeline was begun yet.
    pub fn is_untouched(&self) -> bool {
        self.start.is_none()
    }

    /// Empties the buffer; the next sample is at `at`.
    pub fn restart(&mut self, at: u64) {
        self.start = Some(at);
        self.samples.clear();
        self.marks.clear();
    }

    pub fn start(&self) -> u64 {
        self.start.unwrap_or(0)
    }

    pub fn end(&self) -> u64 {
        self.start() + self.samples.len() as u64
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn marks(&self) -> impl DoubleEndedIterator<Item = &Mark> {
        self.marks.iter()
    }

    pub fn push(&mut self, probability: f32, voiced: bool, samples: &[f32]) {
        let start = self.end();
        self.samples.extend_from_slice(samples);
        let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32;
        self.marks.push_back(Mark { start, end: self.end(), probability, voiced, power });
    }

    /// Samples from the start up to `position`.
    pub fn samples_until(&self, position: u64) -> Vec<f32> {
        self.samples[..self.index_of(position)].to_vec()
    }

    /// Drops what lies before `position`.
    pub fn drop_before(&mut self, position: u64) {
        let count = self.index_of(position);
        self.samples.drain(..count);
        let start = self.start() + count as u64;
        self.start = Some(start);
        while self.marks.front().is_some_and(|mark| mark.end <= start) {
            self.marks.pop_front();
        }
        if let Some(first) = self.marks.front_mut() {
            first.start = first.start.max(start);
        }
    }

    /// Drops all but the last `length` samples.
    pub fn keep_last(&mut self, length: u64) {
        self.drop_before(self.end().saturating_sub(length));
    }

    /// Gives back the room of a long segment that is over.
    pub fn release_memory(&mut self) {
        self.samples.shrink_to(2 * self.samples.len());
    }

    /// The border between two chunks where a cut hurts least: among those of the last `search`
    /// samples, at most `max` from the start, the one whose neighbours are quietest and least like
    /// speech.
    pub fn quietest_boundary(&self, search: u64, max: u64) -> u64 {
        let latest = self.start() + max;
        let earliest = self.end().saturating_sub(search).max(self.start() + 1);
        let cost = |left: &Mark, right: &Mark| {
            let speech = left.probability + right.probability;
            // A pause at the microphone's noise level is worth as much as ten decibels.
            (left.power + right.power) * (0.1 + speech / 2.0)
        };
        self.marks
            .iter()
            .zip(self.marks.iter().skip(1))
            .filter(|(left, _)| (earliest..=latest).contains(&left.end))
            .map(|(left, right)| (left.end, cost(left, right)))
            // Of equals the last: the segment that goes on should be short.
            .min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
            .map_or(latest.min(self.end()), |(position, _)| position)
    }

    fn index_of(&self, position: u64) -> usize {
        (position.saturating_sub(self.start()) as usize).min(self.samples.len())
    }
}
