//! What the media plane and the speaker are told when a room changes.
//!
//! A room says what *should* be ([`Picture`]); what is told is the difference to what was told
//! before. So no change of a room has to know what it means for the plane, and nothing is told
//! twice.

use std::collections::{BTreeMap, BTreeSet};

use inference::Language;

use crate::media::{ChannelId, PeerId, Programme};

/// How loud an original is for a listener of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) gain: f32,
    pub(super) duck: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// In a call: `listener` hears the original of `source`.
    Route { listener: PeerId, source: PeerId, level: Level },
    /// In a call: no more.
    ClearRoute { listener: PeerId, source: PeerId },
    /// Somebody listens to the channel now.
    Open(ChannelId),
    /// Nobody does any more.
    Close(ChannelId),
    /// Whether a peer's sound is on the floor.
    OnFloor { peer: PeerId, on_floor: bool },
    /// Whose own sound is on the channel; the machine's when nobody's.
    Carry { channel: ChannelId, source: Option<PeerId> },
    /// What the machine was going to say on the channel is not said.
    Silence(ChannelId),
    /// What a listener hears, without the sound of who is their own.
    Tune { peer: PeerId, programme: Programme, own: PeerId },
    /// Nothing of somebody's own voice is to stay.
    Forget(String),
    /// A voice is going to be needed.
    Prepare { language: Language, voice: Option<String> },
}

/// What should be, or what was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// Of a call: listener and source.
    pub(super) routes: BTreeMap<(PeerId, PeerId), Level>,
    /// Channels that are open, and whose own sound is on each.
    pub(super) open: BTreeMap<ChannelId, Option<PeerId>>,
    /// Who is on the floor.
    pub(super) floor: BTreeSet<PeerId>,
    /// What each listener hears, and who brings their own sound.
    pub(super) tuned: BTreeMap<PeerId, (Programme, PeerId)>,
    pub(super) voices: BTreeSet<(Language, Option<String>)>,
}

impl Picture {
    /// Becomes `wanted` and gives what is to do for it. A peer that is not `present` any more needs
    /// no orders of its own: the plane forgets it by itself.
    pub(super) fn change_to(
        &mut self,
        mut wanted: Self,
        present: impl Fn(PeerId) -> bool,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        for (&(listener, source), &level) in &wanted.routes {
            if self.routes.get(&(listener, source)) != Some(&level) {
                orders.push(Order::Route { listener, source, level });
            }
        }
        for &(listener, source) in self.routes.keys() {
            let is_over = !wanted.routes.contains_key(&(listener, source));
            if is_over && present(listener) && present(source) {
                orders.push(Order::ClearRoute { listener, source });
            }
        }
        let opened = wanted.open.keys().filter(|channel| !self.open.contains_key(channel));
        orders.extend(opened.map(|channel| Order::Open(*channel)));
        let on = wanted.floor.difference(&self.floor).map(|peer| (*peer, true));
        let off = self.floor.difference(&wanted.floor).map(|peer| (*peer, false));
        let changed = on.chain(off).filter(|(peer, _)| present(*peer));
        orders.extend(changed.map(|(peer, on_floor)| Order::OnFloor { peer, on_floor }));
        for (&channel, &source) in &wanted.open {
            // A channel opens with the machine's sound on it.
            if self.open.get(&channel).copied().flatten() != source {
                orders.push(Order::Carry { channel, source });
            }
        }
        for (&peer, &(programme, own)) in &wanted.tuned {
            if self.tuned.get(&peer) != Some(&(programme, own)) {
                orders.push(Order::Tune { peer, programme, own });
            }
        }
        let closed = self.open.keys().filter(|channel| !wanted.open.contains_key(channel));
        orders.extend(closed.map(|channel| Order::Close(*channel)));
        // What was prepared stays so.
        for (language, voice) in wanted.voices.difference(&self.voices) {
            orders.push(Order::Prepare { language: *language, voice: voice.clone() });
        }
        wanted.voices.append(&mut self.voices);
        *self = wanted;
        orders
    }

    /// The channel could not be opened: it is tried again with the next change.
    pub(super) fn not_opened(&mut self, channel: ChannelId) {
        self.open.remove(&channel);
        self.tuned.retain(|_, (programme, _)| {
            !matches!(programme, Programme::Channel { channel: other, .. } if *other == channel)
        });
    }
}
