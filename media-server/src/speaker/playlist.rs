//! What is heard at one outlet, in which order.
//!
//! An utterance that has begun to play plays to its end before another begins. Those of one speaker
//! come in the order in which they were said. Among different speakers, what is ready first comes
//! first, except that it waits a moment for what began earlier ([`Limits::order_wait`]).
//!
//! A channel can be *held* while somebody else's sound is on it: what plays pauses, what waits goes
//! on waiting. What is in the ring then is taken out by the media worker and not heard, so it is said
//! again. A channel can be *silenced* when a human takes over: whatever it had to say is captioned
//! only. And it may [hurry](super::hurry) when much waits.
//!
//! Inside an utterance time counts: every chunk says where it belongs. A pause that the voice made
//! stays as long as it was; when the next chunk comes too late, silence is played meanwhile and
//! counts as part of the pause.
//!
//! No thread and no clock: instants are arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringbuf::traits::{Observer, Producer};

use super::Unspoken;
use super::hurry::Hurry;
use crate::engine::UtteranceId;
use crate::media::frames::{PLAYOUT_SAMPLES, PlayoutFrame};
use crate::media::{PeerId, stretch};

/// Frames left in the ring when the next utterance is chosen: 200 ms. What is chosen late is chosen
/// well, and this thread is never that late.
const AHEAD: usize = 10;
/// An utterance that was announced and never ended, which no part of the house does, holds up others
/// of its speaker no longer than this.
const GIVE_UP: Duration = Duration::from_secs(15);
/// Longest pause inside an utterance: 2 s. A voice makes none as long.
const LONGEST_PAUSE: u64 = 96_000;

/// How much waits, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Samples (48 kHz) that may wait before the newest utterance.
    pub(super) backlog_48k: usize,
    /// Which utterance is captioned only when more would wait.
    pub(super) sheds: Sheds,
    /// Longest that speech waits for an utterance of another speaker that began earlier.
    pub(super) order_wait: Duration,
    /// Most frames in the ring: what is there can be held back no more.
    pub(super) lead: usize,
    /// Speed, 1 or more, while much waits.
    pub(super) catch_up: f32,
}

/// Which utterance gives way when too much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sheds {
    /// The one that comes.
    Newest,
    /// The one that has waited longest: in a conference what is said now matters more.
    Oldest,
}

/// One utterance on its way to one outlet.
struct Entry {
    utterance: UtteranceId,
    speaker: Option<PeerId>,
    /// When it was first heard of.
    since: Instant,
    /// When its first samples came.
    ready: Option<Instant>,
    samples_48k: VecDeque<f32>,
    /// Place in the utterance of the next sample that is put into the queue.
    next_48k: u64,
    /// Whether some of it is in the ring, or was.
    started: bool,
    ended: bool,
    /// Captioned only: its samples are thrown away until it ends.
    refused: bool,
    /// Why its samples, should any come, are thrown away.
    condemned: Option<Unspoken>,
}

impl Entry {
    fn new(utterance: UtteranceId, speaker: Option<PeerId>, now: Instant) -> Self {
        Self {
            utterance,
            speaker,
            since: now,
            ready: None,
            samples_48k: VecDeque::new(),
            next_48k: 0,
            started: false,
            ended: false,
            refused: false,
            condemned: None,
        }
    }

    /// Whether samples of it wait that nobody has heard yet.
    fn is_waiting(&self) -> bool {
        self.ready.is_some() && !self.refused && !self.started
    }

    fn is_over(&self) -> bool {
        self.ended && self.samples_48k.is_empty()
    }
}

/// The utterances of one outlet, in the order in which they began.
pub(super) struct Playlist<W> {
    ring: W,
    limits: Limits,
    entries: Vec<Entry>,
    playing: Option<UtteranceId>,
    /// Since when the listener hears silence although an utterance is playing.
    dry: Option<Instant>,
    /// Somebody else's sound is on the channel.
    held: bool,
    /// The latest samples of what is playing that may still be in the ring, where they can be held
    /// back.
    sent_48k: VecDeque<f32>,
    hurry: Hurry,
}

impl<W: Producer<Item = PlayoutFrame> + Observer> Playlist<W> {
    pub(super) fn new(ring: W, limits: Limits) -> Self {
        Self {
            ring,
            limits,
            entries: Vec::new(),
            playing: None,
            dry: None,
            held: false,
            sent_48k: VecDeque::new(),
            hurry: Hurry::new(limits.catch_up),
        }
    }

    /// Whether time alone could change something.
    pub(super) fn has_work(&self) -> bool {
        let is_ready = |entry: &Entry| entry.ready.is_some() && !entry.refused;
        self.playing.is_some() || self.entries.iter().any(is_ready)
    }

    /// Whether nothing is on its way and all of it was played.
    pub(super) fn is_quiet(&self) -> bool {
        self.entries.is_empty() && self.ring.is_empty()
    }

    /// Whether it has something to say now, or something of it is still in the ring.
    pub(super) fn wants_to_speak(&self, now: Instant) -> bool {
        self.playing.is_some() || !self.ring.is_empty() || self.choose(now).is_some()
    }

    /// Whether the outlet is somebody else's for now. The ring is emptied unheard then: what plays
    /// goes on with the first sample that nobody heard.
    pub(super) fn hold(&mut self, held: bool) {
        let begins = held && !self.held;
        self.held = held;
        let playing = self.entries.iter_mut().find(|entry| self.playing == Some(entry.utterance));
        if let Some(entry) = playing.filter(|_| begins) {
            let unheard = (self.ring.occupied_len() * PLAYOUT_SAMPLES).min(self.sent_48k.len());
            for sample in self.sent_48k.drain(self.sent_48k.len() - unheard..).rev() {
                entry.samples_48k.push_front(sample);
            }
        }
    }

    /// Whatever it had to say, and what of that is still on its way here, is captioned only. Gives
    /// those that waited unheard.
    pub(super) fn silence(&mut self, why: Unspoken) -> Vec<UtteranceId> {
        let mut unheard = Vec::new();
        for entry in &mut self.entries {
            if entry.is_waiting() {
                unheard.push(entry.utterance);
            }
            if entry.started && self.playing == Some(entry.utterance) {
                let frame = cut_short(entry);
                // A full ring lacks the word that it was the last frame, which the next one says.
                let _ = self.ring.try_push(frame);
            }
            entry.condemned = entry.ready.is_none().then_some(why);
            entry.refused = true;
            entry.samples_48k.clear();
        }
        self.playing = None;
        self.dry = None;
        self.sent_48k.clear();
        self.entries.retain(|entry| !entry.is_over());
        unheard
    }

    /// An utterance is on its way.
    pub(super) fn expect(&mut self, now: Instant, utterance: UtteranceId, speaker: PeerId) {
        self.entry(now, utterance).speaker = Some(speaker);
    }

    /// Queues samples. Gives the utterances that are captioned only because of that, each once.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        utterance: UtteranceId,
        at_48k: u64,
        samples_48k: &[f32],
    ) -> Vec<(UtteranceId, Unspoken)> {
        let backlog: usize = self.entries.iter().map(|entry| entry.samples_48k.len()).sum();
        let sheds = self.limits.sheds;
        let is_too_much = sheds == Sheds::Newest && backlog > self.limits.backlog_48k;
        let dry = if self.playing == Some(utterance) { self.dry.take() } else { None };
        let entry = self.entry(now, utterance);
        if entry.ready.is_none() {
            entry.ready = Some(now);
            entry.next_48k = at_48k;
            let refused = entry.condemned.or(is_too_much.then_some(Unspoken::Backlog));
            if let Some(why) = refused {
                entry.refused = true;
                return vec![(utterance, why)];
            }
        }
        if entry.refused {
            return Vec::new();
        }
        let heard = dry.map_or(0, |since| samples_in(now.saturating_duration_since(since)));
        let pause = at_48k.saturating_sub(entry.next_48k).saturating_sub(heard);
        let pause = usize::try_from(pause.min(LONGEST_PAUSE)).unwrap_or(0);
        entry.samples_48k.extend(std::iter::repeat_n(0.0, pause));
        entry.samples_48k.extend(samples_48k);
        entry.next_48k = entry.next_48k.max(at_48k) + samples_48k.len() as u64;
        if sheds == Sheds::Oldest { self.shed() } else { Vec::new() }
    }

    /// Gives up what has waited longest until the newest utterance need not wait too long.
    fn shed(&mut self) -> Vec<(UtteranceId, Unspoken)> {
        let mut unspoken = Vec::new();
        loop {
            let is_kept = |entry: &&Entry| entry.ready.is_some() && !entry.refused;
            let before_newest: usize = self
                .entries
                .iter()
                .rev()
                .filter(is_kept)
                .skip(1)
                .map(|entry| entry.samples_48k.len())
                .sum();
            let oldest = self.entries.iter_mut().find(|entry| entry.is_waiting());
            let Some(oldest) = oldest.filter(|_| before_newest > self.limits.backlog_48k) else {
                break;
            };
            oldest.refused = true;
            oldest.samples_48k.clear();
            unspoken.push((oldest.utterance, Unspoken::Backlog));
        }
        let playing = self.playing;
        self.entries.retain(|entry| !entry.is_over() || playing == Some(entry.utterance));
        unspoken
    }

    /// An utterance will get no more samples.
    pub(super) fn end(&mut self, utterance: UtteranceId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.utterance == utterance) {
            entry.ended = true;
        }
        let playing = self.playing;
        self.entries.retain(|entry| !entry.is_over() || playing == Some(entry.utterance));
    }

    /// Moves whole frames into the ring while there is room.
    pub(super) fn fill(&mut self, now: Instant) {
        while !self.held {
            let Some(index) = self.current(now) else { return };
            let waiting: usize = self
                .entries
                .iter()
                .filter(|entry| entry.is_waiting())
                .map(|entry| entry.samples_48k.len())
                .sum();
            let entry = &mut self.entries[index];
            if entry.is_over() {
                self.entries.remove(index);
                self.playing = None;
                self.dry = None;
                self.sent_48k.clear();
                continue;
            }
            let available = entry.samples_48k.len();
            // What the listener is about to miss is not kept back for want of a whole frame.
            let is_needed = entry.started && available > 0 && self.ring.occupied_len() <= 1;
            if available < PLAYOUT_SAMPLES && !entry.ended && !is_needed {
                if available == 0 && self.ring.is_empty() {
                    self.dry.get_or_insert(now);
                }
                return;
            }
            if self.ring.is_full() || self.ring.occupied_len() >= self.limits.lead {
                return;
            }
            self.hurry.advance(&mut entry.samples_48k, waiting);
            let count = entry.samples_48k.len().min(PLAYOUT_SAMPLES);
            let mut samples = [0.0; PLAYOUT_SAMPLES];
            for (slot, sample) in samples.iter_mut().zip(entry.samples_48k.drain(..count)) {
                *slot = sample;
            }
            if !entry.ended {
                entry.next_48k += (PLAYOUT_SAMPLES - count) as u64;
            }
            let last = entry.is_over();
            let frame = PlayoutFrame { utterance: entry.utterance.0, last, samples };
            entry.started = true;
            if self.ring.try_push(frame).is_err() {
                return;
            }
            if self.limits.lead != usize::MAX {
                self.sent_48k.extend(samples);
                let too_many =
                    self.sent_48k.len().saturating_sub(self.limits.lead * PLAYOUT_SAMPLES);
                self.sent_48k.drain(..too_many);
            }
        }
    }

    /// The utterance that is playing, or the next one if its time has come.
    fn current(&mut self, now: Instant) -> Option<usize> {
        if self.playing.is_none() && self.ring.occupied_len() <= AHEAD {
            let is_lost = |entry: &Entry| {
                entry.ready.is_none() && now.saturating_duration_since(entry.since) > GIVE_UP
            };
            self.entries.retain(|entry| !is_lost(entry));
            self.playing = self.choose(now);
        }
        let playing = self.playing?;
        self.entries.iter().position(|entry| entry.utterance == playing)
    }

    fn choose(&self, now: Instant) -> Option<UtteranceId> {
        let may_play = |(index, entry): (usize, &Entry)| {
            let ready = entry.ready.filter(|_| !entry.refused)?;
            let mut earlier =
                self.entries[..index].iter().filter(|other| !other.refused).peekable();
            let waited = now.saturating_duration_since(ready) >= self.limits.order_wait;
            let in_order = earlier.peek().is_none()
                || waited && earlier.all(|other| other.speaker != entry.speaker);
            in_order.then_some((ready, entry.utterance))
        };
        self.entries.iter().enumerate().filter_map(may_play).min().map(|(_, utterance)| utterance)
    }

    fn entry(&mut self, now: Instant, utterance: UtteranceId) -> &mut Entry {
        let found = self.entries.binary_search_by_key(&utterance, |entry| entry.utterance);
        let index = found.unwrap_or_else(|place| {
            self.entries.insert(place, Entry::new(utterance, None, now));
            place
        });
        &mut self.entries[index]
    }
}

/// The last frame of an utterance that is cut short: what would have come next, fading out.
fn cut_short(entry: &Entry) -> PlayoutFrame {
    let mut samples = [0.0; PLAYOUT_SAMPLES];
    let mut rest = entry.samples_48k.iter().take(stretch::BLEND);
    let count = rest.len();
    for (slot, sample) in samples.iter_mut().zip(&mut rest) {
        *slot = *sample;
    }
    stretch::fade_out(&mut samples[..count]);
    PlayoutFrame { utterance: entry.utterance.0, last: true, samples }
}

fn samples_in(time: Duration) -> u64 {
    u64::try_from(time.as_micros() * 48 / 1_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "playlist_tests.rs"]
mod tests;
