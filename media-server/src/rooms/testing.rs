//! Rooms for tests: people come and go, and what the plane and the speaker are told is kept.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use inference::Language;
use signaling::house::{Caller, HouseError, Role};
use signaling::wire::{Event, EventKind, Grants, RoomKind};
use tokio::sync::broadcast;

use super::conference::BoothSpec;
use super::orders::Order;
use super::room::RoomState;
use super::state::{RoomSpec, State};
use super::{HouseConfig, RoomsConfig};
use crate::engine::EngineConfig;
use crate::media::{ChannelId, MediaConfig, PeerId};
use crate::segmenter::SegmenterConfig;

/// The machine knows these, each into each.
pub(super) const KNOWN: [&str; 5] = ["en", "es", "fr", "de", "ja"];

pub(super) fn language(code: &str) -> Language {
    code.parse().expect("a language")
}

pub(super) fn caller(identity: &str, language: &str) -> Caller {
    Caller {
        role: Role::Both { channel: None },
        original_gain: None,
        room: "r".to_owned(),
        identity: identity.to_owned(),
        name: identity.to_owned(),
        language: language.to_owned(),
        hear: language.to_owned(),
        voice: None,
        grants: Grants::default(),
    }
}

/// A house for whole calls in one process: what is said late on a busy machine is still said.
pub(super) fn house_on_loopback() -> HouseConfig {
    HouseConfig {
        rooms: RoomsConfig::default(),
        media: MediaConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            announce: Vec::new(),
            workers: 1,
            peer_timeout: Duration::from_secs(15),
            real_time: false,
        },
        segmenter: SegmenterConfig::default(),
        engine: EngineConfig { deadline_ms: 120_000, ..EngineConfig::default() },
        transcripts: None,
        voices: None,
    }
}

/// Somebody who only listens.
pub(super) fn listener(identity: &str, channel: &str) -> Caller {
    let channel = Some(channel.to_owned());
    Caller { role: Role::Listen { channel }, ..caller(identity, "en") }
}

/// Somebody who only speaks, on the floor.
pub(super) fn speaker(identity: &str, language: &str) -> Caller {
    let role = Role::Publish { channel: None, relay: None };
    Caller { role, ..caller(identity, language) }
}

/// A human who interprets into a channel.
pub(super) fn interpreter(identity: &str, channel: &str) -> Caller {
    let interpret = vec![channel.to_owned()];
    Caller {
        role: Role::Publish { channel: Some(channel.to_owned()), relay: None },
        grants: Grants { interpret, ..Grants::default() },
        ..caller(identity, "en")
    }
}

pub(super) fn booth(code: &str) -> BoothSpec {
    let voices: Vec<String> = (1..=3).map(|number| format!("{code}-{number}")).collect();
    let sources = KNOWN.iter().filter(|known| **known != code).map(|known| language(known));
    BoothSpec {
        language: language(code),
        sources: sources.collect(),
        is_recorded: false,
        relay: None,
        known_voices: voices.iter().cloned().chain([format!("{code}-special")]).collect(),
        voices,
    }
}

/// One room named `r`, and a clock.
pub(super) struct World {
    pub(super) state: State,
    pub(super) now: Instant,
    events: broadcast::Receiver<Event>,
    next_peer: u64,
}

impl World {
    pub(super) fn call() -> Self {
        Self::with(RoomSpec { max_participants: 2, ..Self::spec(RoomKind::Call, &[]) })
    }

    pub(super) fn conference(channels: &[&str]) -> Self {
        Self::with(Self::spec(RoomKind::Conference, channels))
    }

    /// A conference whose channels are changed first.
    pub(super) fn with_booths(channels: &[&str], change: impl FnMut(&mut BoothSpec)) -> Self {
        let mut spec = Self::spec(RoomKind::Conference, channels);
        spec.booths.iter_mut().for_each(change);
        Self::with(spec)
    }

    pub(super) fn spec(kind: RoomKind, channels: &[&str]) -> RoomSpec {
        RoomSpec {
            name: "r".to_owned(),
            kind,
            languages: channels.iter().map(|code| language(code)).collect(),
            booths: channels.iter().map(|code| booth(code)).collect(),
            original_gain: 0.2,
            max_participants: 100,
            empty_timeout_s: 300,
            departure_timeout_s: 20,
            keep_transcript: false,
        }
    }

    pub(super) fn with(spec: RoomSpec) -> Self {
        let (mut state, now) = (State::default(), Instant::now());
        let events = state.subscribe_all();
        state.create_room(spec, now).expect("a new room");
        let mut world = Self { state, now, events, next_peer: 0 };
        world.told();
        world
    }

    pub(super) fn room(&mut self) -> &mut RoomState {
        self.state.room_mut("r").expect("it is there")
    }

    /// Reserves a place.
    pub(super) fn reserve(&mut self, caller: &Caller) -> Result<PeerId, HouseError> {
        let peer = PeerId(self.next_peer + 1);
        self.state.reserve(caller, peer, format!("session-{}", peer.0))?;
        self.next_peer += 1;
        Ok(peer)
    }

    pub(super) fn join(&mut self, caller: &Caller) -> PeerId {
        let peer = self.reserve(caller).expect("a place");
        self.room().connected(peer, Duration::from_millis(100));
        peer
    }

    pub(super) fn leave(&mut self, peer: PeerId) {
        self.state.remove_peer(peer, "left", self.now).expect("was there");
    }

    pub(super) fn start(&mut self, peer: PeerId) -> bool {
        let now = self.now;
        self.room().started(peer, now)
    }

    pub(super) fn stop(&mut self, peer: PeerId) {
        let now = self.now;
        self.room().stopped(peer, now);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// What is to be done by now, voices aside.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        let mut orders = self.room().settle();
        orders.retain(|order| !matches!(order, Order::Prepare { .. }));
        orders
    }

    /// The languages that a peer's words are wanted in.
    pub(super) fn targets(&mut self, peer: PeerId) -> BTreeSet<String> {
        let targets = self.room().targets(peer);
        targets.iter().map(|(language, _)| language.to_string()).collect()
    }

    /// The events since the last time.
    pub(super) fn told(&mut self) -> Vec<EventKind> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.kind).collect()
    }
}

/// Channels are numbered in the order in which the room names them.
pub(super) fn channel(number: u64) -> ChannelId {
    ChannelId(number)
}

pub(super) fn codes(codes: &[&str]) -> BTreeSet<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}
