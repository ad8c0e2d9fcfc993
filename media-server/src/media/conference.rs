//! A conference: a floor, its channels, and which of them a listener hears in a tick.
//!
//! A tick has four parts: it is [heard](Conference::hear) what is said, listeners
//! [want](Conference::want) their programmes, what is wanted is [made](Conference::make), and each
//! listener takes what is theirs. What several listeners hear alike is mixed and encoded once. Only
//! who would hear themselves in it has a mix of their own, without what their `own` peer brings.

use super::channel::Channel;
use super::floor::Floor;
use super::frames::PLAYOUT_SAMPLES;
use super::inbound::Inbound;
use super::outbound::Progress;
use super::source::Source;
use super::stats::Counters;
use super::track::Mix;
use super::{ChannelId, GainStep, PeerId, Programme};
use crate::transport::TransportError;

/// What one track of a listener carries in one tick.
#[derive(Clone, Copy)]
pub enum Feed<'a> {
    /// A packet that was made for all who hear the same.
    Shared {
        /// The packet.
        payload: &'a [u8],
        /// Whether a talk spurt begins with it.
        is_first: bool,
    },
    /// The packets of a source, as they came.
    PassedOn(&'a Source),
    /// A mix that leaves the listener out; silence by default.
    Own(Mix<'a>),
}

/// Where a feed comes from.
#[derive(Clone, Copy)]
enum Place {
    Floor,
    Step(usize, GainStep),
}

/// What [`Feed`] is made from, before it is made.
#[derive(Clone, Copy)]
enum Origin<'a> {
    Shared(Place),
    PassedOn(&'a Source),
    Own(Mix<'a>),
}

impl Origin<'_> {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Shared(place) => Some(*place),
            Self::PassedOn(_) | Self::Own(_) => None,
        }
    }
}

/// One conference.
pub struct Conference {
    floor: Floor,
    channels: Vec<Box<Channel>>,
    is_floor_wanted: bool,
    /// Who is tuned to it, connected or not.
    listeners: usize,
}

impl Conference {
    /// A conference without channels, and nobody on the floor.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder cannot be made.
    pub fn new() -> Result<Self, TransportError> {
        let floor = Floor::new()?;
        Ok(Self { floor, channels: Vec::new(), is_floor_wanted: false, listeners: 0 })
    }

    /// Opens a channel, in place of the one with its id.
    pub fn open(&mut self, channel: Box<Channel>) {
        self.close(channel.id());
        self.channels.push(channel);
    }

    /// Closes a channel.
    pub fn close(&mut self, channel: ChannelId) {
        self.channels.retain(|other| other.id() != channel);
    }

    /// Whether a source is on the floor.
    pub fn set_on_floor(&mut self, source: PeerId, on_floor: bool) {
        self.floor.set(source, on_floor);
    }

    /// The sound of this human interpreter goes into a channel, or its ring again.
    pub fn set_interpreter(&mut self, channel: ChannelId, source: Option<PeerId>) {
        match self.channels.iter_mut().find(|other| other.id() == channel) {
            Some(channel) => channel.set_interpreter(source),
            None => tracing::debug!(channel = channel.0, "no such channel to interpret into"),
        }
    }

    /// A peer is gone: it is on the floor no more, and its channel is the machine's again.
    pub fn forget(&mut self, peer: PeerId) {
        self.floor.set(peer, false);
        for channel in &mut self.channels {
            if channel.interpreter().map(Source::id) == Some(peer) {
                channel.set_interpreter(None);
            }
        }
    }

    /// Whether there is nothing left of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.channels.is_empty() && self.floor.is_empty() && self.listeners == 0
    }

    /// First part of a tick: what is said in it. `inbound` gives what a peer says.
    pub fn hear<'a>(&mut self, inbound: impl Fn(PeerId) -> Option<&'a Inbound>) {
        self.is_floor_wanted = false;
        self.listeners = 0;
        self.floor.hear(&inbound);
        for channel in &mut self.channels {
            channel.hear(&inbound);
        }
    }

    /// Second part, for each who is tuned to it. A listener who `has_originals` has a track of their
    /// own for the floor; who is not connected yet takes nothing.
    pub fn want(
        &mut self,
        own: PeerId,
        programme: Programme,
        has_originals: bool,
        is_connected: bool,
    ) {
        self.listeners += 1;
        if !is_connected {
            return;
        }
        let main = self.main(own, programme, has_originals).place();
        let apart = if has_originals { self.floor_of(own).place() } else { None };
        for place in [main, apart].into_iter().flatten() {
            match place {
                Place::Floor => self.is_floor_wanted = true,
                Place::Step(index, step) => self.channels[index].want(step),
            }
        }
    }

    /// Third part: makes what is wanted. `original` gives a source's samples of this tick, `None`
    /// when it is silent. An encoder that fails leaves its listeners without a new packet.
    pub fn make<'a>(
        &mut self,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) {
        let failed = |error| tracing::error!(%error, "a conference");
        if self.is_floor_wanted {
            self.floor.make(&original, counters).unwrap_or_else(failed);
        }
        for channel in &mut self.channels {
            channel.make(self.floor.heard(), &original, counters).unwrap_or_else(failed);
        }
    }

    /// Fourth part: what a listener hears on their first track.
    #[must_use]
    pub fn interpretation(
        &self,
        own: PeerId,
        programme: Programme,
        has_originals: bool,
    ) -> Feed<'_> {
        self.made(self.main(own, programme, has_originals))
    }

    /// Fourth part: what a listener hears on their track for the originals.
    #[must_use]
    pub fn originals(&self, own: PeerId) -> Feed<'_> {
        self.made(self.floor_of(own))
    }

    /// Which utterances begin and end in this tick for who hears a programme.
    #[must_use]
    pub fn progress(&self, programme: Programme) -> Progress {
        let Programme::Channel { channel, .. } = programme else { return Progress::default() };
        self.find(channel).map_or_else(Progress::default, |(_, channel)| channel.progress())
    }

    fn made<'a>(&'a self, origin: Origin<'a>) -> Feed<'a> {
        let (payload, is_first) = match origin {
            Origin::Shared(Place::Floor) => self.floor.packet(),
            Origin::Shared(Place::Step(index, step)) => self.channels[index].packet(step),
            Origin::PassedOn(source) => return Feed::PassedOn(source),
            Origin::Own(mix) => return Feed::Own(mix),
        };
        Feed::Shared { payload, is_first }
    }

    fn main(&self, own: PeerId, programme: Programme, has_originals: bool) -> Origin<'_> {
        let silence = Origin::Own(Mix::default());
        let (channel, original) = match programme {
            // They have it on the other track.
            Programme::Floor if has_originals => return silence,
            Programme::Floor => return self.floor_of(own),
            Programme::Channel { channel, .. } if has_originals => (channel, GainStep::NONE),
            Programme::Channel { channel, original } => (channel, original),
        };
        let Some((index, channel)) = self.find(channel) else { return silence };
        let heard = if original == GainStep::NONE { &[] } else { self.floor.heard() };
        let interpreter = channel.interpreter();
        if heard.contains(&own) || interpreter.is_some_and(|human| human.id() == own) {
            return Origin::Own(channel.mix(original, heard));
        }
        match interpreter {
            Some(human) if original == GainStep::NONE && human.is_present() => {
                Origin::PassedOn(human)
            }
            _ => Origin::Shared(Place::Step(index, original)),
        }
    }

    fn floor_of(&self, own: PeerId) -> Origin<'_> {
        if self.floor.heard().contains(&own) {
            return Origin::Own(self.floor.mix());
        }
        self.floor.passed_on().map_or(Origin::Shared(Place::Floor), Origin::PassedOn)
    }

    fn find(&self, channel: ChannelId) -> Option<(usize, &Channel)> {
        let index = self.channels.iter().position(|other| other.id() == channel)?;
        Some((index, &self.channels[index]))
    }
}

#[cfg(test)]
#[path = "conference_tests.rs"]
mod tests;
