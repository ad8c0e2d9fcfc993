//! What the segmenter made of a stream, held against where the sentences are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use inference::vad::Vad;
use media_server::segmenter::{Ear, Event, Segment, SegmenterConfig};

use super::PER_MS;
use super::stream::{Placed, Stream};

/// Frames come from the media worker in 20 ms.
const FRAME: usize = 320;
/// Of a word, this much may be missing before it counts as lost: labels are made in steps of 10 ms
/// by loudness alone, and three steps are less than the shortest consonant that tells two words
/// apart.
pub const TOLERANCE: u64 = 30 * PER_MS;

/// A segment and what was said about it, each with the position up to which the stream was heard
/// when it was said.
#[derive(Clone, Debug)]
pub struct Heard {
    pub segment: Arc<Segment>,
    pub ended: u64,
    pub last_soft_end: Option<u64>,
    pub soft_ends: usize,
    pub resumes: usize,
}

impl Heard {
    fn voice(&self) -> Range<u64> {
        self.segment.first_voiced..self.segment.last_voiced
    }

    fn all(&self) -> Range<u64> {
        self.segment.start..self.segment.end()
    }
}

/// Hears a stream as the listener does.
pub fn hear(vad: &Vad, config: &SegmenterConfig, samples: &[f32]) -> Vec<Heard> {
    let mut ear = Ear::new(vad, config.clone()).expect("the numbers are valid");
    let mut heard = Vec::new();
    let (mut last_soft_end, mut soft_ends, mut resumes) = (None, 0, 0);
    for (n, frame) in samples.chunks(FRAME).enumerate() {
        let now = (n * FRAME + frame.len()) as u64;
        ear.hear((n * FRAME) as u64, frame, |event| match event {
            Event::SoftEnd { .. } => (last_soft_end, soft_ends) = (Some(now), soft_ends + 1),
            Event::Resumed { .. } => (last_soft_end, resumes) = (None, resumes + 1),
            Event::Ended { segment, .. } => {
                heard.push(Heard { segment, ended: now, last_soft_end, soft_ends, resumes });
                (last_soft_end, soft_ends, resumes) = (None, 0, 0);
            }
            Event::Started { .. } | Event::Discarded { .. } => {}
        });
    }
    ear.finish(|event| assert!(matches!(event, Event::Discarded { .. }), "open: {event:?}"));
    heard
}

/// The verdict on some streams.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub sentences: usize,
    /// In two segments or more although no pause inside is as long as the hangover.
    pub split: Vec<String>,
    /// In one segment with another sentence.
    pub merged: Vec<String>,
    pub missed: Vec<String>,
    /// Segments with nothing said in them.
    pub spurious: Vec<String>,
    /// The first or the last voiced samples, or some between two segments, are in no segment.
    pub first_lost: Vec<String>,
    pub last_lost: Vec<String>,
    pub inner_lost: Vec<String>,
    /// From the last voiced sample to the last soft end, and to the end, ms.
    pub soft_ms: Vec<f64>,
    pub hard_ms: Vec<f64>,
    pub soft_ends: usize,
    pub resumes: usize,
}

impl Verdict {
    /// Adds what was heard of a stream.
    pub fn add(&mut self, stream: &Stream, heard: &[Heard], config: &SegmenterConfig) {
        let placed = &stream.sentences;
        for one in heard {
            self.soft_ends += one.soft_ends;
            self.resumes += one.resumes;
            if !placed.iter().any(|sentence| overlap(&sentence.span(), &one.voice())) {
                let seconds = |position: u64| position as f64 / 16_000.0;
                let (from, to) = (seconds(one.voice().start), seconds(one.voice().end));
                self.spurious.push(format!("{from:.2} to {to:.2} s"));
            }
        }
        for sentence in placed {
            self.judge(sentence, placed, heard, config);
        }
    }

    fn judge(
        &mut self,
        sentence: &Placed,
        all: &[Placed],
        heard: &[Heard],
        config: &SegmenterConfig,
    ) {
        let span = sentence.span();
        let name = &sentence.name;
        self.sentences += 1;
        let own: Vec<&Heard> = heard.iter().filter(|one| overlap(&one.voice(), &span)).collect();
        let (Some(first), Some(last)) = (own.first(), own.last()) else {
            self.missed.push(name.clone());
            return;
        };
        let is_alone = |one: &&&Heard| {
            all.iter().filter(|other| overlap(&one.voice(), &other.span())).count() == 1
        };
        if !own.iter().all(|one| is_alone(&one)) {
            self.merged.push(name.clone());
        } else {
            let since = |at: u64| (at as f64 - span.end as f64) / PER_MS as f64;
            self.hard_ms.push(since(last.ended));
            self.soft_ms.extend(last.last_soft_end.map(since));
        }
        let is_wrong = |pair: &[&Heard]| !may_split(sentence, pair[0], pair[1], config);
        if own.windows(2).any(is_wrong) {
            self.split.push(name.clone());
        }
        let missing = |by: u64| format!("{name} by {} ms", by / PER_MS);
        let late = first.all().start.saturating_sub(span.start);
        if late > TOLERANCE {
            self.first_lost.push(missing(late));
        }
        let early = span.end.saturating_sub(last.all().end);
        if early > TOLERANCE {
            self.last_lost.push(missing(early));
        }
        for pair in own.windows(2) {
            let between = pair[0].all().end..pair[1].all().start;
            let voiced = sentence.voiced.iter().map(|place| shared(place, &between));
            let lost: u64 = voiced.sum();
            if lost > TOLERANCE {
                self.inner_lost.push(missing(lost));
            }
        }
    }

    /// Share of sentences that are not in segments of their own as they should be, 0 to 1.
    pub fn wrong(&self) -> f64 {
        let mut names: Vec<&String> =
            self.split.iter().chain(&self.merged).chain(&self.missed).collect();
        names.sort();
        names.dedup();
        names.len() as f64 / self.sentences.max(1) as f64
    }

    /// Share of soft ends after which the speaker went on, 0 to 1.
    pub fn resumed(&self) -> f64 {
        self.resumes as f64 / self.soft_ends.max(1) as f64
    }

    /// Each fault with the sentence it befell.
    pub fn faults(&self) -> Vec<(&'static str, &String)> {
        let kinds: [(&'static str, &Vec<String>); 7] = [
            ("split", &self.split),
            ("merged", &self.merged),
            ("missed", &self.missed),
            ("spurious", &self.spurious),
            ("first lost", &self.first_lost),
            ("last lost", &self.last_lost),
            ("inner lost", &self.inner_lost),
        ];
        kinds.iter().flat_map(|(kind, names)| names.iter().map(|name| (*kind, name))).collect()
    }
}

/// Head of the table whose rows are verdicts.
pub const HEAD: &str = "                     sent.  split merged missed spur. lost:first last inner | \
                        wrong | soft end ms    p95 | end ms    p95 | resumed";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let soft = (percentile(&self.soft_ms, 0.5), percentile(&self.soft_ms, 0.95));
        let hard = (percentile(&self.hard_ms, 0.5), percentile(&self.hard_ms, 0.95));
        write!(
            f,
            "{:5} {:6} {:6} {:6} {:5} {:10} {:4} {:5} | {:4.1}% | {:11.0} {:6.0} | {:6.0} {:6.0} | {:6.1}%",
            self.sentences,
            self.split.len(),
            self.merged.len(),
            self.missed.len(),
            self.spurious.len(),
            self.first_lost.len(),
            self.last_lost.len(),
            self.inner_lost.len(),
            100.0 * self.wrong(),
            soft.0,
            soft.1,
            hard.0,
            hard.1,
            100.0 * self.resumed(),
        )
    }
}

/// Whether the sentence has a pause between the two segments that is as long as what ends a
/// segment.
fn may_split(sentence: &Placed, before: &Heard, after: &Heard, config: &SegmenterConfig) -> bool {
    let length = before.segment.last_voiced - before.segment.start;
    let is_long = length >= u64::from(config.long_after_ms) * PER_MS;
    let hangover = if is_long { config.long_hangover_ms } else { config.hangover_ms };
    let between = before.voice().end..after.voice().start;
    sentence.voiced.windows(2).any(|pair| {
        let pause = pair[0].end..pair[1].start;
        pause.end - pause.start >= u64::from(hangover) * PER_MS && overlap(&pause, &between)
    })
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn shared(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
