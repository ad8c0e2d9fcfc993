//! One room and what happens in it: pure bookkeeping, no I/O. Instants are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use inference::Language;
use signaling::house::HouseError;
use signaling::wire::{self, EventKind, RoomKind};

use super::conference::Conference;
use super::events::{Events, now_ms};
use super::membership::Member;
use super::orders::{Order, Picture};
use super::own_voice::Own;
use super::state::RoomSpec;
use super::story::Targets;
use crate::engine::Tier;
use crate::media::{ChannelId, PeerId};
use crate::speaker::Outlet;

/// One room.
pub(super) struct RoomState {
    pub(super) name: String,
    /// Groups the room's peers on one media worker.
    pub(super) key: u64,
    pub(super) kind: RoomKind,
    pub(super) languages: Vec<Language>,
    pub(super) original_gain: f32,
    pub(super) max_participants: usize,
    created_at_ms: u64,
    pub(super) members: Vec<Member>,
    /// Who is speaking, in the order in which they began.
    pub(super) speaking: Vec<PeerId>,
    /// What is known of the own voices of identities on the floor that ask for theirs.
    pub(super) own_voices: BTreeMap<String, Own>,
    /// Identities that a moderator silenced. They stay so when they come back.
    pub(super) silenced: BTreeSet<String>,
    pub(super) conference: Option<Conference>,
    pub(super) events: Events,
    /// What the plane and the speaker know of this room.
    told: Picture,
    /// A channel could not be opened.
    is_behind: bool,
    /// What they are to be told once.
    pub(super) once: Vec<Order>,
    /// Since when nobody is in it, and whether anybody ever was.
    empty_since: Instant,
    was_joined: bool,
    empty_timeout_s: u64,
    departure_timeout_s: u64,
    keep_transcript: bool,
}

/// Why a peer's sound is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// It is not.
    Nothing,
    /// To know when they speak: their own sound goes into a channel then.
    Presence,
    /// For its words too.
    Words,
}

impl RoomState {
    pub(super) fn new(
        key: u64,
        spec: RoomSpec,
        conference: Option<Conference>,
        events: Events,
        now: Instant,
    ) -> Self {
        Self {
            name: spec.name,
            key,
            kind: spec.kind,
            languages: spec.languages,
            original_gain: spec.original_gain,
            max_participants: spec.max_participants,
            created_at_ms: now_ms(),
            members: Vec::new(),
            speaking: Vec::new(),
            own_voices: BTreeMap::new(),
            silenced: BTreeSet::new(),
            conference,
            events,
            told: Picture::default(),
            is_behind: false,
            once: Vec::new(),
            empty_since: now,
            was_joined: false,
            empty_timeout_s: spec.empty_timeout_s,
            departure_timeout_s: spec.departure_timeout_s,
            keep_transcript: spec.keep_transcript,
        }
    }

    /// As the API shows it, on a server in this tier.
    pub(super) fn show(&self, tier: Tier) -> wire::Room {
        wire::Room {
            name: self.name.clone(),
            kind: self.kind,
            languages: self.languages.iter().map(ToString::to_string).collect(),
            original_gain: self.original_gain,
            max_participants: self.max_participants,
            empty_timeout_s: self.empty_timeout_s,
            departure_timeout_s: self.departure_timeout_s,
            keep_transcript: self.keep_transcript,
            record: self.conference.iter().flat_map(Conference::recorded).collect(),
            relay: self.conference.iter().flat_map(Conference::relays).collect(),
            tier: tier.label().to_owned(),
            created_at_ms: self.created_at_ms,
            participants: self.participants(),
        }
    }

    pub(super) fn is_conference(&self) -> bool {
        self.conference.is_some()
    }

    pub(super) fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.iter().find(|member| member.peer == peer)
    }

    fn member_mut(&mut self, peer: PeerId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.peer == peer)
    }

    pub(super) fn is_silenced(&self, member: &Member) -> bool {
        self.silenced.contains(&member.identity)
    }

    /// Notes what the offer was answered with.
    pub(super) fn answered(&mut self, peer: PeerId, track: String) {
        if let Some(member) = self.member_mut(peer) {
            member.track = track;
        }
    }

    /// The peer's media flows.
    pub(super) fn connected(&mut self, peer: PeerId, after: Duration) {
        let Some(member) = self.member_mut(peer) else { return };
        member.connected = true;
        let identity = member.identity.clone();
        let appears = member.is_on_floor();
        self.was_joined = true;
        if let Some(conference) = self.conference.as_mut().filter(|_| appears) {
            conference.appears(&identity);
        }
        if self.connected_sessions(&identity) == 1
            && let Some(participant) = self.participant(&identity)
        {
            let connect_ms = after.as_secs_f64() * 1_000.0;
            self.events.emit(EventKind::ParticipantJoined { participant, connect_ms });
        }
        self.begin_own_voice(peer);
    }

    /// The peer left. Its room is told, unless it never connected.
    pub(super) fn remove(&mut self, peer: PeerId, reason: &str, now: Instant) {
        let Some(index) = self.members.iter().position(|member| member.peer == peer) else {
            return;
        };
        let identity = self.members[index].identity.clone();
        let was_connected = self.members[index].connected;
        let participant = self.participant(&identity);
        self.stopped(peer, now);
        self.relieve(peer);
        self.members.remove(index);
        self.end_own_voice(&identity);
        if self.members.is_empty() {
            self.empty_since = now;
        }
        if let Some(participant) = participant
            && was_connected
            && self.connected_sessions(&identity) == 0
        {
            let reason = reason.to_owned();
            self.events.emit(EventKind::ParticipantLeft { participant, reason });
        }
    }

    fn connected_sessions(&self, identity: &str) -> usize {
        self.members.iter().filter(|member| member.connected && member.identity == identity).count()
    }

    /// Why the room ends now, if it does. Never while anybody is in it or on their way in.
    pub(super) fn expiry(&self, now: Instant) -> Option<&'static str> {
        let (timeout_s, why) = if self.was_joined {
            (self.departure_timeout_s, "departed")
        } else {
            (self.empty_timeout_s, "empty")
        };
        let empty_for = now.saturating_duration_since(self.empty_since);
        let is_over = timeout_s > 0 && empty_for >= Duration::from_secs(timeout_s);
        (is_over && self.members.is_empty()).then_some(why)
    }

    /// Silences somebody, or lets them speak again.
    pub(super) fn mute(&mut self, identity: &str, muted: bool) -> Result<(), HouseError> {
        let own = self.members.iter().filter(|member| member.identity == identity);
        let peers: Vec<PeerId> = own.map(|member| member.peer).collect();
        if peers.is_empty() {
            return Err(HouseError::NoSuchParticipant(identity.to_owned()));
        }
        let changed = if muted {
            self.silenced.insert(identity.to_owned())
        } else {
            self.silenced.remove(identity)
        };
        if changed {
            if muted {
                peers.into_iter().for_each(|peer| self.relieve(peer));
            }
            let identity = identity.to_owned();
            self.events.emit(EventKind::ParticipantMuted { identity, muted });
        }
        Ok(())
    }

    /// A member begins to speak. Whether somebody else is speaking on the floor.
    pub(super) fn started(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.speaking.contains(&peer) {
            self.speaking.push(peer);
        }
        self.take_channel(peer, now);
        let mut others = self.speaking.iter().filter(|other| **other != peer);
        others.any(|other| self.member(*other).is_some_and(Member::is_on_floor))
    }

    /// A member speaks no more.
    pub(super) fn stopped(&mut self, peer: PeerId, now: Instant) {
        self.speaking.retain(|other| *other != peer);
        self.rest(peer, now);
    }

    /// Languages that the speech of a peer is wanted in, and where it comes out.
    pub(super) fn targets(&self, peer: PeerId) -> Targets {
        let Some(speaker) = self.member(peer).filter(|member| !self.is_silenced(member)) else {
            return Vec::new();
        };
        match &self.conference {
            Some(conference) => conference
                .targets(self, speaker)
                .map(|(language, channel, is_heard)| {
                    let outlet = is_heard.then_some(Outlet::Channel(channel));
                    (language, outlet.into_iter().collect())
                })
                .collect(),
            None => {
                let outlets = |peers: Vec<PeerId>| peers.into_iter().map(Outlet::Peer).collect();
                let targets = self.call_targets(speaker).into_iter();
                targets.map(|(language, peers)| (language, outlets(peers))).collect()
            }
        }
    }

    /// Whether a peer's sound is listened to, and what for.
    pub(super) fn wants(&self, peer: PeerId) -> Want {
        let Some(speaker) = self.member(peer) else { return Want::Nothing };
        if self.is_silenced(speaker) || !speaker.speaks {
            return Want::Nothing;
        }
        match &self.conference {
            Some(conference) => conference.wants(self, speaker),
            None if !self.is_interpreted(speaker) => Want::Nothing,
            None => Want::Words,
        }
    }

    /// The voices that a peer's speech is interpreted with.
    pub(super) fn voices(&self, peer: PeerId) -> BTreeMap<Language, String> {
        match (&self.conference, self.member(peer)) {
            (Some(conference), Some(speaker)) => conference.voices(speaker),
            (Some(_), None) => BTreeMap::new(),
            (None, _) => self.call_voices(),
        }
    }

    /// There is another voice, which speaks these languages: speakers of a conference may have asked
    /// for it.
    pub(super) fn know_voice(&mut self, voice: &str, speaks: impl Fn(Language) -> bool) {
        if let Some(conference) = &mut self.conference {
            conference.know_voice(voice, speaks);
        }
    }

    /// What is to be done so that the plane and the speaker know what is.
    pub(super) fn settle(&mut self) -> Vec<Order> {
        let wanted = match &self.conference {
            Some(conference) => conference.picture(self),
            None => Picture { routes: self.call_routes(), ..Picture::default() },
        };
        let members = &self.members;
        let is_present = |peer| members.iter().any(|member| member.peer == peer);
        let mut orders = std::mem::take(&mut self.once);
        orders.extend(self.told.change_to(wanted, is_present));
        for order in &orders {
            if let Order::Close(channel) = order {
                self.machine_wants(*channel, false);
            }
        }
        orders
    }

    /// A channel could not be opened: that is tried again when the room is settled the next time.
    pub(super) fn not_opened(&mut self, channel: ChannelId) {
        self.told.not_opened(channel);
        self.is_behind = true;
    }

    /// What a second may have changed. Whether the room is to be settled.
    pub(super) fn second(&mut self, now: Instant, hold: Duration) -> bool {
        let was_behind = std::mem::take(&mut self.is_behind);
        self.tick(now, hold) || was_behind
    }
}
