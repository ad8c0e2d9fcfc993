//! The floor of a conference: the original sound of everybody who speaks there.
//!
//! While one of them has something to say, their packets are passed on as they came, and between two
//! speeches those of who spoke last. While several do, they are mixed and encoded once for all.

use super::PeerId;
use super::frames::PLAYOUT_SAMPLES;
use super::inbound::Inbound;
use super::source::Source;
use super::stats::Counters;
use super::track::{Mix, Track, Voice};
use crate::transport::TransportError;

/// Ticks of 20 ms with one speaker left after which their packets are passed on again although they
/// make no pause: 2 s. What is mixed has waited in a jitter buffer and what is passed on has not, so
/// in the middle of a word some milliseconds of it would be missing.
const SETTLED_TICKS: u32 = 100;

/// How the floor goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Mixed,
    PassedOn(PeerId),
}

/// The floor.
pub struct Floor {
    sources: Vec<Source>,
    mode: Mode,
    /// Who is heard in this tick.
    heard: Vec<PeerId>,
    /// Whether somebody was heard in the tick before.
    was_heard: bool,
    /// Ticks since two spoke at once.
    settled: u32,
    track: Track,
}

impl Floor {
    /// A floor without anybody on it.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder cannot be made.
    pub fn new() -> Result<Self, TransportError> {
        Ok(Self {
            sources: Vec::new(),
            mode: Mode::Mixed,
            heard: Vec::new(),
            was_heard: false,
            settled: 0,
            track: Track::new()?,
        })
    }

    /// Puts a source on the floor or takes it away.
    pub fn set(&mut self, source: PeerId, on_floor: bool) {
        let place = self.sources.iter().position(|other| other.id() == source);
        match (place, on_floor) {
            (None, true) => {
                self.sources.push(Source::new(source));
                self.heard.reserve(self.sources.len());
            }
            (Some(place), false) => {
                self.sources.remove(place);
            }
            _ => {}
        }
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// First part of a tick: who is heard.
    pub fn hear<'a>(&mut self, inbound: impl Fn(PeerId) -> Option<&'a Inbound>) {
        for source in &mut self.sources {
            source.hear(inbound(source.id()));
        }
        self.was_heard = !self.heard.is_empty();
        self.mode = self.decide();
        self.heard.clear();
        match self.mode {
            Mode::Mixed => {
                let speaking = self.sources.iter().filter(|source| source.is_speaking());
                self.heard.extend(speaking.map(Source::id));
            }
            Mode::PassedOn(id) => {
                self.heard.push(id);
                if let Some(source) = self.sources.iter_mut().find(|source| source.id() == id) {
                    source.pass_on();
                }
            }
        }
    }

    fn decide(&mut self) -> Mode {
        let mut speaking = self.sources.iter().filter(|source| source.is_speaking());
        let sole = match (speaking.next(), speaking.next()) {
            (Some(_), Some(_)) => {
                self.settled = 0;
                return Mode::Mixed;
            }
            (Some(one), None) => Some(one),
            (None, _) if self.sources.len() == 1 => self.sources.first(),
            (None, _) => None,
        };
        self.settled = self.settled.saturating_add(1);
        let sole = sole.filter(|source| source.is_present());
        match (self.mode, sole) {
            (Mode::PassedOn(_), Some(sole)) => Mode::PassedOn(sole.id()),
            (Mode::PassedOn(last), None) => {
                let is_present =
                    self.sources.iter().any(|source| source.id() == last && source.is_present());
                if is_present { Mode::PassedOn(last) } else { Mode::Mixed }
            }
            (Mode::Mixed, Some(sole)) => {
                let is_unheard =
                    !self.was_heard || sole.is_pausing() || self.settled >= SETTLED_TICKS;
                if is_unheard { Mode::PassedOn(sole.id()) } else { Mode::Mixed }
            }
            (Mode::Mixed, None) => Mode::Mixed,
        }
    }

    /// Second part of a tick, when somebody shares the mix: makes its packet.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the encoder fails.
    pub fn make<'a>(
        &mut self,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<(), TransportError> {
        let mix = mix_of(&self.heard, self.was_heard);
        self.track.tick_mix(&mix, None, original, counters)
    }

    /// The mix for a listener who must not hear themselves; they leave themselves out.
    #[must_use]
    pub fn mix(&self) -> Mix<'_> {
        mix_of(&self.heard, self.was_heard)
    }

    /// Who is heard.
    #[must_use]
    pub fn heard(&self) -> &[PeerId] {
        &self.heard
    }

    /// The one whose packets are passed on; `None` while there is a mix.
    #[must_use]
    pub fn passed_on(&self) -> Option<&Source> {
        let Mode::PassedOn(id) = self.mode else { return None };
        self.sources.iter().find(|source| source.id() == id)
    }

    /// The packet of the mix, and whether a talk spurt begins with it.
    #[must_use]
    pub fn packet(&self) -> (&[u8], bool) {
        self.track.packet()
    }
}

fn mix_of(heard: &[PeerId], was_heard: bool) -> Mix<'_> {
    let voice = Voice { is_first: !was_heard && !heard.is_empty(), ..Voice::default() };
    Mix { voice, floor: heard, gain: 1.0, ..Mix::default() }
}
