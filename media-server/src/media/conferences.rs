//! The conferences of a media worker, and the part of its tick that belongs to all of their listeners.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::PeerId;
use super::conference::Conference;
use super::originals::Originals;
use super::outbound::Tuned;
use super::peer::Peer;
use super::stats::Counters;

/// By room.
#[derive(Default)]
pub struct Conferences(HashMap<u64, Conference>);

impl Conferences {
    /// Does something with the conference of a room, which begins when it is first spoken of.
    pub fn with(&mut self, room: u64, act: impl FnOnce(&mut Conference)) {
        match self.0.entry(room) {
            Entry::Occupied(mut known) => act(known.get_mut()),
            Entry::Vacant(vacant) => match Conference::new() {
                Ok(conference) => act(vacant.insert(conference)),
                Err(error) => tracing::error!(room, %error, "no conference"),
            },
        }
    }

    /// The conference of a room.
    pub fn get(&self, room: u64) -> Option<&Conference> {
        self.0.get(&room)
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerId) {
        self.0.values_mut().for_each(|conference| conference.forget(peer));
    }

    /// Makes what listeners share in this tick, and ends what is over.
    pub fn tick(
        &mut self,
        peers: &HashMap<PeerId, Peer>,
        originals: &Originals,
        counters: &Counters,
    ) {
        for conference in self.0.values_mut() {
            conference.hear(|id| peers.get(&id).and_then(Peer::inbound));
        }
        for peer in peers.values() {
            let Some(Tuned { room, programme, own }) = peer.tuned() else { continue };
            if let Some(conference) = self.0.get_mut(&room) {
                conference.want(own, programme, peer.has_originals(), peer.is_connected());
            }
        }
        for conference in self.0.values_mut() {
            conference.make(|source| originals.get(source), counters);
        }
        self.0.retain(|_, conference| !conference.is_over());
    }
}
