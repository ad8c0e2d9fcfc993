//! Cuts a peer's speech into segments: a pure state machine over speech probabilities.
//!
//! It knows no clock, thread, network or model. Each call of [`Segmenter::push`] brings one chunk
//! of samples with its probability of speech and its place on the peer's timeline, and what follows
//! from it comes out as [`Event`]s, in this order for each segment:
//!
//! ```text
//! Started  (SoftEnd Resumed)*  SoftEnd?  (Ended | Discarded)
//! ```
//!
//! A segment opens when enough chunks of a short window were voiced, some of them beyond doubt (music
//! makes the detector waver, speech does not), and reaches back to some time before the first of
//! them (the pre-roll). A short pause is a soft end: the samples so far can be
//! transcribed on speculation. If speech goes on, the segment resumes; after a longer pause (the
//! hangover) it ends, with the very samples of the soft end. A segment that grows too long is cut
//! at the quietest place near its end, and what follows the cut becomes the next segment.

mod buffer;
mod config;
mod ear;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use inference::vad::CHUNK_SAMPLES;

use buffer::{Buffer, Mark};
pub use config::{InvalidSegmenterConfig, SegmenterConfig};
pub use ear::Ear;

/// How far before the onset window speech may have begun, half a second: some voices leave the
/// detector half sure for that long.
const ONSET_REACH: u64 = 8_000;
/// What such speech may dip below the threshold and still be one run: three chunks.
const LONGEST_DIP: u64 = 3 * CHUNK_SAMPLES as u64;

/// A stretch of one peer's speech, 16 kHz mono.
///
/// Positions count samples at 16 kHz on the peer's timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The samples, -1 to 1, pre-roll and tail included.
    pub samples_16k: Vec<f32>,
    /// Position of the first sample.
    pub start: u64,
    /// Position of the first sample of the first voiced chunk.
    pub first_voiced: u64,
    /// Position after the last sample of the last voiced chunk: lag counts from here.
    pub last_voiced: u64,
    /// Whether the segment was cut because it grew too long; the next one goes on where it stops.
    pub forced: bool,
}

impl Segment {
    /// Position after the last sample.
    pub fn end(&self) -> u64 {
        self.start + self.samples_16k.len() as u64
    }
}

/// What became of the speech that was pushed.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody speaks.
    Started {
        /// Position of the first voiced sample.
        at: u64,
    },
    /// A short pause: worth transcribing on speculation.
    SoftEnd {
        /// The samples up to shortly after the last voiced chunk.
        segment: Arc<Segment>,
    },
    /// Speech goes on after a soft end: the speculation is void.
    Resumed {
        /// Position of the first voiced sample after the pause.
        at: u64,
    },
    /// The segment is complete.
    Ended {
        /// All of it. After a soft end that was not resumed it is that same allocation.
        segment: Arc<Segment>,
        /// Whether the last soft end already carried this segment.
        speculated: bool,
    },
    /// What had started was no speech; nothing comes of it.
    Discarded {
        /// Position where it had started.
        start: u64,
        /// Position up to which it is dropped.
        end: u64,
    },
}

/// One step of the detector: samples and what it thinks of them.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Position of the first sample on the peer's timeline, in samples at 16 kHz. A gap after the
    /// previous chunk is silence (DTX, lost packets); a chunk that begins before the end of the
    /// previous one is ignored.
    pub at: u64,
    /// Probability of speech, 0 to 1.
    pub probability: f32,
    /// [`CHUNK_SAMPLES`] samples, 16 kHz mono; more or fewer do no harm.
    pub samples_16k: &'a [f32],
}

/// Whether somebody speaks, and what was already said about it.
#[derive(Debug)]
enum State {
    /// Nobody; the buffer keeps the pre-roll.
    Silent,
    /// A segment is open.
    Speaking,
    /// A segment is open, and its soft end was announced.
    Pausing { segment: Arc<Segment> },
}

/// The state machine of one peer. Its memory is bounded by the longest segment.
#[derive(Debug)]
pub struct Segmenter {
    config: SegmenterConfig,
    state: State,
    buffer: Buffer,
    /// Positions of the open segment's voiced speech; meaningless while silent.
    first_voiced: u64,
    last_voiced: u64,
    /// Whether the previous chunk was voiced: the lower threshold then holds.
    voiced: bool,
}

impl Segmenter {
    /// A segmenter for one peer.
    ///
    /// # Errors
    /// [`InvalidSegmenterConfig`] when the numbers contradict each other.
    pub fn new(config: SegmenterConfig) -> Result<Self, InvalidSegmenterConfig> {
        config.check()?;
        Ok(Self {
            config,
            state: State::Silent,
            buffer: Buffer::default(),
            first_voiced: 0,
            last_voiced: 0,
            voiced: false,
        })
    }

    /// Whether a segment is open.
    pub fn is_speaking(&self) -> bool {
        !matches!(self.state, State::Silent)
    }

    /// Samples held at present.
    pub fn buffered_samples(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next chunk.
    pub fn push(&mut self, chunk: Chunk<'_>, mut on_event: impl FnMut(Event)) {
        if self.buffer.is_untouched() {
            self.buffer.restart(chunk.at);
        }
        if chunk.at < self.buffer.end() {
            return;
        }
        self.skip_to(chunk.at, &mut on_event);
        for samples in chunk.samples_16k.chunks(CHUNK_SAMPLES) {
            self.take(chunk.probability, samples, &mut on_event);
        }
    }

    /// The stream is over (or a new one begins): ends what is open and forgets the timeline.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event)) {
        if self.is_speaking() {
            self.end(&mut on_event);
        }
        self.buffer = Buffer::default();
        self.voiced = false;
    }

    /// Silence until `at`. An open segment is filled up with zeros until it ends; what is longer
    /// than that is skipped.
    fn skip_to(&mut self, at: u64, on_event: &mut impl FnMut(Event)) {
        const ZEROS: [f32; CHUNK_SAMPLES] = [0.0; CHUNK_SAMPLES];
        while self.is_speaking() && self.buffer.end() < at {
            let missing = (at - self.buffer.end()).min(ZEROS.len() as u64) as usize;
            self.take(0.0, &ZEROS[..missing], on_event);
        }
        if self.buffer.end() < at {
            self.buffer.restart(at);
            self.voiced = false;
        }
    }

    fn take(&mut self, probability: f32, samples: &[f32], on_event: &mut impl FnMut(Event)) {
        let at = self.buffer.end();
        self.voiced = probability >= self.threshold();
        let voiced = self.voiced;
        self.buffer.push(probability, voiced, samples);
        if !self.is_speaking() {
            self.look_for_onset(on_event);
            return;
        }
        if voiced {
            self.last_voiced = self.buffer.end();
            if matches!(self.state, State::Pausing { .. }) {
                self.state = State::Speaking;
                on_event(Event::Resumed { at });
            }
        }
        self.look_for_end(samples.len() as u64, on_event);
        if self.is_speaking() && self.buffer.len() as u64 > self.config.max_segment() {
            self.cut(on_event);
        }
    }

    /// Once voiced, the lower threshold keeps speech going; after an announced pause it takes the
    /// upper one again.
    fn threshold(&self) -> f32 {
        let paused = matches!(self.state, State::Pausing { .. });
        if self.voiced && !paused {
            self.config.offset_threshold
        } else {
            self.config.onset_threshold
        }
    }

    fn look_for_onset(&mut self, on_event: &mut impl FnMut(Event)) {
        let window = self.config.onset_window();
        self.buffer.keep_last(window + ONSET_REACH + self.config.pre_roll());
        let from = self.buffer.end().saturating_sub(window);
        let recent = || self.buffer.marks().filter(|mark| mark.start >= from && mark.voiced);
        let voiced: u64 = recent().map(Mark::len).sum();
        let sure: u64 = recent().filter(|mark| self.is_sure(mark)).map(Mark::len).sum();
        if !reaches(voiced, self.config.min_speech()) || !reaches(sure, self.config.min_sure()) {
            return;
        }
        let (Some(first), Some(last)) = (recent().next(), recent().next_back()) else { return };
        self.last_voiced = last.end;
        self.first_voiced = self.voiced_run_before(first.start);
        let start = self.first_voiced.saturating_sub(self.config.pre_roll());
        self.buffer.drop_before(start);
        self.state = State::Speaking;
        on_event(Event::Started { at: self.first_voiced });
    }

    /// Where the voiced run begins that leads up to `position`, across dips of [`LONGEST_DIP`].
    fn voiced_run_before(&self, position: u64) -> u64 {
        let earlier = self.buffer.marks().rev().filter(|mark| mark.voiced && mark.end <= position);
        let mut begins = position;
        for mark in earlier {
            if begins - mark.end > LONGEST_DIP {
                break;
            }
            begins = mark.start;
        }
        begins
    }

    /// `step` is the length of the newest chunk: a pause counts as reached at the chunk that comes
    /// nearest to it.
    fn look_for_end(&mut self, step: u64, on_event: &mut impl FnMut(Event)) {
        let pause = self.buffer.end() - self.last_voiced + step / 2;
        if pause >= self.config.hangover(self.last_voiced - self.buffer.start()) {
            self.end(on_event);
        } else if pause >= self.config.soft_end()
            && matches!(self.state, State::Speaking)
            && self.is_speech()
        {
            let segment = Arc::new(self.segment_until_pause());
            on_event(Event::SoftEnd { segment: Arc::clone(&segment) });
            self.state = State::Pausing { segment };
        }
    }

    fn end(&mut self, on_event: &mut impl FnMut(Event)) {
        let state = std::mem::replace(&mut self.state, State::Silent);
        let end = match state {
            State::Pausing { segment } => {
                let end = segment.end();
                on_event(Event::Ended { segment, speculated: true });
                end
            }
            State::Speaking if self.is_speech() => {
                let segment = self.segment_until_pause();
                let end = segment.end();
                on_event(Event::Ended { segment: Arc::new(segment), speculated: false });
                end
            }
            State::Speaking | State::Silent => {
                let (start, end) = (self.buffer.start(), self.pause_begin());
                on_event(Event::Discarded { start, end });
                end
            }
        };
        self.buffer.drop_before(end);
        self.buffer.release_memory();
        self.voiced = false;
    }

    /// The segment has grown too long: ends it at the quietest place of its last seconds and goes
    /// on with what follows.
    fn cut(&mut self, on_event: &mut impl FnMut(Event)) {
        if matches!(self.state, State::Pausing { .. }) {
            self.end(on_event);
            return;
        }
        let at = self.buffer.quietest_boundary(self.config.cut_search(), self.config.max_segment());
        let is_speech = self.is_speech_until(at);
        let start = self.buffer.start();
        let samples_16k = self.buffer.samples_until(at);
        let voiced_before = self.buffer.marks().rfind(|mark| mark.voiced && mark.end <= at);
        let last_voiced = voiced_before.map_or(self.first_voiced, |mark| mark.end);
        if is_speech {
            let first_voiced = self.first_voiced;
            let segment = Segment { samples_16k, start, first_voiced, last_voiced, forced: true };
            on_event(Event::Ended { segment: Arc::new(segment), speculated: false });
        } else {
            on_event(Event::Discarded { start, end: at });
        }
        self.buffer.drop_before(at);
        match self.buffer.marks().find(|mark| mark.voiced).copied() {
            Some(first) => {
                self.first_voiced = first.start;
                self.state = State::Speaking;
                on_event(Event::Started { at: first.start });
            }
            None => {
                self.state = State::Silent;
                self.voiced = false;
            }
        }
    }

    /// Where a segment stops that ends now: shortly after its last voiced chunk.
    fn pause_begin(&self) -> u64 {
        let longest = self.buffer.start() + self.config.max_segment();
        (self.last_voiced + self.config.tail()).min(self.buffer.end()).min(longest)
    }

    fn segment_until_pause(&self) -> Segment {
        Segment {
            samples_16k: self.buffer.samples_until(self.pause_begin()),
            start: self.buffer.start(),
            first_voiced: self.first_voiced,
            last_voiced: self.last_voiced,
            forced: false,
        }
    }

    fn is_speech(&self) -> bool {
        self.is_speech_until(self.last_voiced)
    }

    /// The last look: speech is voiced much of the time between its pauses, and some of it is beyond
    /// doubt. What opened by the onset rule has that; what a cut left over may be an echo of the
    /// last word.
    fn is_speech_until(&self, end: u64) -> bool {
        let within = |mark: &&Mark| mark.start >= self.first_voiced && mark.end <= end;
        let marks = || self.buffer.marks().filter(within);
        let voiced: u64 = marks().filter(|mark| mark.voiced).map(Mark::len).sum();
        let sure: u64 = marks().filter(|mark| self.is_sure(mark)).map(Mark::len).sum();
        let span = end.saturating_sub(self.first_voiced);
        reaches(sure, self.config.min_sure())
            && voiced as f32 >= self.config.min_voiced_share * span as f32
    }

    fn is_sure(&self, mark: &Mark) -> bool {
        mark.voiced && mark.probability >= self.config.sure_threshold
    }
}

/// Whether a length of whole chunks is the nearest to what is wanted, or more.
fn reaches(length: u64, wanted: u64) -> bool {
    length + CHUNK_SAMPLES as u64 / 2 >= wanted
}
