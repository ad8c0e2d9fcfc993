//! All rooms, and which peer is in which: pure bookkeeping, no I/O. Instants are arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use inference::Language;
use signaling::house::{Caller, HouseError};
use signaling::wire::{self, Event, EventKind, RoomKind};
use tokio::sync::broadcast;

use super::conference::{BoothSpec, Conference};
use super::events::{EVENT_QUEUE, Events};
use super::membership::Member;
use super::minutes::Minutes;
use super::orders::Order;
use super::room::RoomState;
use crate::engine::Tier;
use crate::media::{ChannelId, PeerId};

/// All rooms, and which peer is in which.
pub(super) struct State {
    pub(super) rooms: BTreeMap<String, RoomState>,
    room_of: HashMap<PeerId, String>,
    next_key: u64,
    next_channel: u64,
    /// Events of every room.
    all: broadcast::Sender<Event>,
    minutes: Arc<Minutes>,
    /// What the server leaves out at present.
    pub(super) tier: Tier,
}

impl Default for State {
    fn default() -> Self {
        Self {
            rooms: BTreeMap::new(),
            room_of: HashMap::new(),
            next_key: 0,
            next_channel: 0,
            all: broadcast::channel(EVENT_QUEUE).0,
            minutes: Arc::default(),
            tier: Tier::default(),
        }
    }
}

/// What a new room is made of, checked.
pub(super) struct RoomSpec {
    pub(super) name: String,
    pub(super) kind: RoomKind,
    pub(super) languages: Vec<Language>,
    /// The channels of a conference.
    pub(super) booths: Vec<BoothSpec>,
    pub(super) original_gain: f32,
    pub(super) max_participants: usize,
    pub(super) empty_timeout_s: u64,
    pub(super) departure_timeout_s: u64,
    pub(super) keep_transcript: bool,
}

/// The place that was reserved for a peer.
pub(super) struct Place {
    pub(super) key: u64,
    pub(super) is_conference: bool,
    pub(super) speaks: bool,
    pub(super) listens: bool,
}

/// What is left to do for a room that ended.
pub(super) struct Ended {
    pub(super) key: u64,
    pub(super) peers: Vec<PeerId>,
    pub(super) orders: Vec<Order>,
}

impl State {
    /// No rooms yet, whose minutes are kept there, on a server in this tier.
    pub(super) fn new(minutes: Arc<Minutes>, tier: Tier) -> Self {
        Self { minutes, tier, ..Self::default() }
    }

    pub(super) fn create_room(
        &mut self,
        mut spec: RoomSpec,
        now: Instant,
    ) -> Result<wire::Room, HouseError> {
        if self.rooms.contains_key(&spec.name) {
            return Err(HouseError::RoomExists(spec.name));
        }
        self.next_key += 1;
        let conference = (spec.kind == RoomKind::Conference).then(|| {
            Conference::new(std::mem::take(&mut spec.booths), || {
                self.next_channel += 1;
                ChannelId(self.next_channel)
            })
        });
        let name = spec.name.clone();
        let events = Events::new(name.clone(), self.all.clone());
        let mut room = RoomState::new(self.next_key, spec, conference, events, now);
        let shown = room.show(self.tier);
        let (kind, languages) = (shown.kind, shown.languages.clone());
        self.minutes.started(&shown);
        room.events.emit(EventKind::RoomStarted { kind, languages });
        self.rooms.insert(name, room);
        Ok(shown)
    }

    /// Takes a room out with everybody in it, and tells that it is over.
    pub(super) fn end_room(&mut self, name: &str, reason: &str, now: Instant) -> Option<Ended> {
        let mut room = self.rooms.remove(name)?;
        let peers: Vec<PeerId> = room.members.iter().map(|member| member.peer).collect();
        for peer in &peers {
            self.room_of.remove(peer);
            room.remove(*peer, "room_ended", now);
        }
        room.events.emit(EventKind::RoomEnded { reason: reason.to_owned() });
        self.minutes.ended(name);
        Some(Ended { key: room.key, peers, orders: room.settle() })
    }

    /// Rooms that have been empty for longer than they should, and why they end.
    pub(super) fn expired(&self, now: Instant) -> Vec<(String, &'static str)> {
        let expired = |room: &RoomState| room.expiry(now).map(|why| (room.name.clone(), why));
        self.rooms.values().filter_map(expired).collect()
    }

    /// The events of every room from now on.
    pub(super) fn subscribe_all(&self) -> broadcast::Receiver<Event> {
        self.all.subscribe()
    }

    /// Rooms, and participants whose media flows.
    pub(super) fn population(&self) -> (usize, usize) {
        let connected = |room: &RoomState| {
            let members = room.members.iter().filter(|member| member.connected);
            members.map(|member| member.identity.as_str()).collect::<BTreeSet<_>>().len()
        };
        (self.rooms.len(), self.rooms.values().map(connected).sum())
    }

    pub(super) fn room(&self, name: &str) -> Result<&RoomState, HouseError> {
        self.rooms.get(name).ok_or_else(|| HouseError::NoSuchRoom(name.to_owned()))
    }

    pub(super) fn room_mut(&mut self, name: &str) -> Result<&mut RoomState, HouseError> {
        self.rooms.get_mut(name).ok_or_else(|| HouseError::NoSuchRoom(name.to_owned()))
    }

    pub(super) fn room_of(&self, peer: PeerId) -> Option<&RoomState> {
        self.rooms.get(self.room_of.get(&peer)?)
    }

    pub(super) fn room_of_mut(&mut self, peer: PeerId) -> Option<&mut RoomState> {
        self.rooms.get_mut(self.room_of.get(&peer)?)
    }

    /// Reserves a place for a caller.
    pub(super) fn reserve(
        &mut self,
        caller: &Caller,
        peer: PeerId,
        session: String,
    ) -> Result<Place, HouseError> {
        let room = self.room_mut(&caller.room)?;
        let member = Member::admit(room, caller, peer, session)?;
        let place = Place {
            key: room.key,
            is_conference: room.is_conference(),
            speaks: member.speaks,
            listens: member.listens,
        };
        room.reserve(member)?;
        self.room_of.insert(peer, caller.room.clone());
        Ok(place)
    }

    /// Takes a peer out and gives its room. `None` if it was in none.
    pub(super) fn remove_peer(
        &mut self,
        peer: PeerId,
        reason: &str,
        now: Instant,
    ) -> Option<&mut RoomState> {
        let name = self.room_of.remove(&peer)?;
        let room = self.rooms.get_mut(&name)?;
        room.remove(peer, reason, now);
        Some(room)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
