//! Rooms and their members: pure bookkeeping, no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use inference::Language;
use signaling::house::{Caller, Feed, HouseError};
use signaling::wire::{self, Event, EventKind, Participant, RoomKind};
use tokio::sync::broadcast;

use super::minutes::Minutes;
use super::story::Targets;
use crate::media::PeerId;

/// Events that may wait for a slow subscriber before it is told that it missed some.
const EVENT_QUEUE: usize = 1024;

/// Events of a room that are kept for subscribers who come back.
const EVENTS_KEPT: usize = 1024;

/// All rooms, and which peer is in which.
pub(super) struct State {
    pub(super) rooms: BTreeMap<String, RoomState>,
    room_of: HashMap<PeerId, String>,
    next_key: u64,
    /// Events of every room.
    all: broadcast::Sender<Event>,
    minutes: Arc<Minutes>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            rooms: BTreeMap::new(),
            room_of: HashMap::new(),
            next_key: 0,
            all: broadcast::channel(EVENT_QUEUE).0,
            minutes: Arc::default(),
        }
    }
}

/// A participant and their peer.
pub(super) struct Member {
    pub(super) peer: PeerId,
    pub(super) session: String,
    pub(super) identity: String,
    /// The language spoken.
    pub(super) language: Language,
    /// The language heard.
    pub(super) hear: Language,
    /// The voice of what is interpreted for them.
    voice: Option<String>,
    pub(super) track: String,
    name: String,
    speak: bool,
    listen: bool,
    connected: bool,
}

/// One room.
pub(super) struct RoomState {
    pub(super) name: String,
    /// Groups the room's peers on one media worker.
    pub(super) key: u64,
    pub(super) kind: RoomKind,
    languages: Vec<Language>,
    original_gain: f32,
    max_participants: usize,
    created_at_ms: u64,
    pub(super) members: Vec<Member>,
    /// Who is speaking.
    speaking: BTreeSet<PeerId>,
    events: broadcast::Sender<Event>,
    all: broadcast::Sender<Event>,
    past: VecDeque<Event>,
    seq: u64,
    empty_timeout_s: u64,
    departure_timeout_s: u64,
    keep_transcript: bool,
}

/// Who hears whose original speech, and how loud.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Route {
    pub(super) listener: PeerId,
    pub(super) source: PeerId,
    pub(super) gain: f32,
    pub(super) duck: bool,
}

/// What a new room is made of, checked.
pub(super) struct RoomSpec {
    pub(super) name: String,
    pub(super) kind: RoomKind,
    pub(super) languages: Vec<Language>,
    pub(super) original_gain: f32,
    pub(super) max_participants: usize,
    pub(super) empty_timeout_s: u64,
    pub(super) departure_timeout_s: u64,
    pub(super) keep_transcript: bool,
}

impl State {
    /// No rooms yet, whose minutes are kept there.
    pub(super) fn new(minutes: Arc<Minutes>) -> Self {
        Self { minutes, ..Self::default() }
    }

    pub(super) fn create_room(&mut self, spec: RoomSpec) -> Result<wire::Room, HouseError> {
        if self.rooms.contains_key(&spec.name) {
            return Err(HouseError::RoomExists(spec.name));
        }
        self.next_key += 1;
        let mut room = RoomState {
            name: spec.name.clone(),
            key: self.next_key,
            kind: spec.kind,
            languages: spec.languages,
            original_gain: spec.original_gain,
            max_participants: spec.max_participants,
            created_at_ms: now_ms(),
            members: Vec::new(),
            speaking: BTreeSet::new(),
            events: broadcast::channel(EVENT_QUEUE).0,
            all: self.all.clone(),
            past: VecDeque::new(),
            seq: 0,
            empty_timeout_s: spec.empty_timeout_s,
            departure_timeout_s: spec.departure_timeout_s,
            keep_transcript: spec.keep_transcript,
        };
        let shown = room.show();
        let (kind, languages) = (shown.kind, shown.languages.clone());
        self.minutes.started(&shown);
        room.emit(EventKind::RoomStarted { kind, languages });
        self.rooms.insert(spec.name, room);
        Ok(shown)
    }

    /// Takes a room out, which nobody is in any more, and tells that it is over.
    pub(super) fn end_room(&mut self, name: &str, reason: &str) {
        if let Some(mut room) = self.rooms.remove(name) {
            room.emit(EventKind::RoomEnded { reason: reason.to_owned() });
            self.minutes.ended(name);
        }
    }

    /// The events of every room from now on.
    pub(super) fn subscribe_all(&self) -> broadcast::Receiver<Event> {
        self.all.subscribe()
    }

    /// Rooms, and participants whose media flows.
    pub(super) fn population(&self) -> (usize, usize) {
        let members = self.rooms.values().flat_map(|room| &room.members);
        (self.rooms.len(), members.filter(|member| member.connected).count())
    }

    pub(super) fn room(&self, name: &str) -> Result<&RoomState, HouseError> {
        self.rooms.get(name).ok_or_else(|| HouseError::NoSuchRoom(name.to_owned()))
    }

    pub(super) fn room_of(&self, peer: PeerId) -> Option<&RoomState> {
        self.rooms.get(self.room_of.get(&peer)?)
    }

    pub(super) fn room_of_mut(&mut self, peer: PeerId) -> Option<&mut RoomState> {
        self.rooms.get_mut(self.room_of.get(&peer)?)
    }

    /// Reserves a place in the room, so that two offers at once cannot both take the last one.
    pub(super) fn reserve(
        &mut self,
        caller: &Caller,
        peer: PeerId,
        session: String,
    ) -> Result<u64, HouseError> {
        let language: Language =
            caller.language.parse().map_err(|error| HouseError::Invalid(format!("{error}")))?;
        let hear: Language =
            caller.hear.parse().map_err(|error| HouseError::Invalid(format!("{error}")))?;
        let Some(room) = self.rooms.get_mut(&caller.room) else {
            return Err(HouseError::NoSuchRoom(caller.room.clone()));
        };
        if !room.languages.is_empty() && !room.languages.contains(&language) {
            let known: Vec<_> = room.languages.iter().map(|language| language.code()).collect();
            let detail = format!("the room speaks {}, not {language}", known.join(", "));
            return Err(HouseError::Invalid(detail));
        }
        if room.members.iter().any(|member| member.identity == caller.identity) {
            return Err(HouseError::IdentityTaken(caller.identity.clone()));
        }
        if room.members.len() >= room.max_participants {
            return Err(HouseError::RoomFull(room.max_participants));
        }
        room.members.push(Member {
            peer,
            session,
            identity: caller.identity.clone(),
            language,
            hear,
            voice: caller.voice.clone(),
            track: String::new(),
            name: caller.name.clone(),
            speak: caller.grants.speak,
            listen: caller.grants.listen,
            connected: false,
        });
        self.room_of.insert(peer, caller.room.clone());
        Ok(room.key)
    }

    /// Takes a peer out and tells its room, unless it never connected. `false` if it was not there.
    pub(super) fn remove_peer(&mut self, peer: PeerId, reason: &str) -> bool {
        let Some(name) = self.room_of.remove(&peer) else { return false };
        let Some(room) = self.rooms.get_mut(&name) else { return true };
        let participant = room.participant(peer);
        let Some(index) = room.members.iter().position(|member| member.peer == peer) else {
            return true;
        };
        let member = room.members.remove(index);
        room.speaking.remove(&peer);
        if let (true, Some(participant)) = (member.connected, participant) {
            room.emit(EventKind::ParticipantLeft { participant, reason: reason.to_owned() });
        }
        true
    }
}

impl RoomState {
    pub(super) fn show(&self) -> wire::Room {
        wire::Room {
            name: self.name.clone(),
            kind: self.kind,
            languages: self.languages.iter().map(ToString::to_string).collect(),
            original_gain: self.original_gain,
            max_participants: self.max_participants,
            empty_timeout_s: self.empty_timeout_s,
            departure_timeout_s: self.departure_timeout_s,
            keep_transcript: self.keep_transcript,
            created_at_ms: self.created_at_ms,
            participants: self.members.iter().map(Member::show).collect(),
        }
    }

    /// What happened after event `after`, as far as it is kept, and what happens from now on.
    pub(super) fn feed(&self, after: Option<u64>) -> Feed {
        let after = after.unwrap_or(self.seq);
        let oldest = self.past.front().map_or(self.seq + 1, |event| event.seq);
        Feed {
            lost: oldest.saturating_sub(after.saturating_add(1)),
            past: self.past.iter().filter(|event| event.seq > after).cloned().collect(),
            live: self.events.subscribe(),
        }
    }

    /// Numbers an event and sends it to whoever listens now.
    pub(super) fn emit(&mut self, kind: EventKind) {
        self.seq += 1;
        let event = Event { seq: self.seq, time_ms: now_ms(), room: self.name.clone(), kind };
        if self.past.len() == EVENTS_KEPT {
            self.past.pop_front();
        }
        self.past.push_back(event.clone());
        // Nobody listening is no error.
        let _ = self.all.send(event.clone());
        let _ = self.events.send(event);
    }

    pub(super) fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.iter().find(|member| member.peer == peer)
    }

    /// A member begins to speak, or stops. Whether somebody else is speaking.
    pub(super) fn speaks(&mut self, peer: PeerId, speaks: bool) -> bool {
        if speaks {
            self.speaking.insert(peer)
        } else {
            self.speaking.remove(&peer)
        };
        self.speaking.iter().any(|other| *other != peer)
    }

    pub(super) fn participant(&self, peer: PeerId) -> Option<Participant> {
        self.member(peer).map(Member::show)
    }

    /// Notes what the offer was answered with.
    pub(super) fn answered(&mut self, peer: PeerId, track: String) {
        if let Some(member) = self.members.iter_mut().find(|member| member.peer == peer) {
            member.track = track;
        }
    }

    pub(super) fn connected(&mut self, peer: PeerId) {
        if let Some(member) = self.members.iter_mut().find(|member| member.peer == peer) {
            member.connected = true;
        }
    }

    /// Languages that the speech of `speaker` is wanted in, and by whom. Empty when everybody
    /// hears the speaker's own: that costs no inference at all.
    pub(super) fn targets(&self, speaker: PeerId) -> Targets {
        let mut targets: BTreeMap<Language, Vec<PeerId>> = BTreeMap::new();
        for member in self.interpreted_for(speaker) {
            targets.entry(member.hear).or_default().push(member.peer);
        }
        targets.into_iter().map(|(language, peers)| (language, Arc::from(peers))).collect()
    }

    /// Whether anybody wants the speech of `speaker` in another language.
    pub(super) fn is_interpreted(&self, speaker: PeerId) -> bool {
        self.interpreted_for(speaker).next().is_some()
    }

    /// Who hears another language than `speaker` speaks.
    fn interpreted_for(&self, speaker: PeerId) -> impl Iterator<Item = &Member> {
        let language =
            self.member(speaker).filter(|member| member.speak).map(|member| member.language);
        self.members.iter().filter(move |member| {
            let hears = member.listen && member.connected && member.peer != speaker;
            hears && language.is_some_and(|language| member.hear != language)
        })
    }

    /// The voice for each language: the one that its first listener asked for. A language is spoken
    /// once, so a second listener's wish is not heard.
    pub(super) fn voices(&self) -> BTreeMap<Language, String> {
        let mut voices = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.listen && member.connected) {
            if let Some(voice) = &member.voice {
                voices.entry(member.hear).or_insert_with(|| voice.clone());
            }
        }
        voices
    }

    /// The routes to and from a peer that just connected. Never to oneself.
    pub(super) fn routes(&self, peer: PeerId) -> Vec<Route> {
        let Some(newcomer) = self.member(peer) else { return Vec::new() };
        let mut routes = Vec::new();
        for other in &self.members {
            if other.peer == peer || !other.connected {
                continue;
            }
            for (listener, source) in [(newcomer, other), (other, newcomer)] {
                if listener.listen && source.speak {
                    let same = listener.hear == source.language;
                    routes.push(Route {
                        listener: listener.peer,
                        source: source.peer,
                        gain: if same { 1.0 } else { self.original_gain },
                        duck: !same,
                    });
                }
            }
        }
        routes
    }
}

impl Member {
    fn show(&self) -> Participant {
        Participant {
            identity: self.identity.clone(),
            name: self.name.clone(),
            language: self.language.to_string(),
            hear: self.hear.to_string(),
            voice: self.voice.clone(),
            muted: false,
            interprets: None,
            channel: None,
        }
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use signaling::house::Role;
    use signaling::wire::Grants;

    use super::*;

    fn spec(name: &str) -> RoomSpec {
        RoomSpec {
            name: name.to_owned(),
            kind: RoomKind::Call,
            languages: Vec::new(),
            original_gain: 0.2,
            max_participants: 2,
            empty_timeout_s: 0,
            departure_timeout_s: 0,
            keep_transcript: false,
        }
    }

    fn caller(identity: &str, language: &str) -> Caller {
        Caller {
            role: Role::Both,
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

    fn join(state: &mut State, peer: u64, caller: &Caller) {
        state.reserve(caller, PeerId(peer), caller.identity.clone()).expect("place");
        state.room_of_mut(PeerId(peer)).expect("in the room").connected(PeerId(peer));
    }

    fn room_with(people: &[(&str, &str)]) -> State {
        let mut state = State::default();
        state.create_room(spec("r")).expect("a new room");
        for (index, (identity, language)) in people.iter().enumerate() {
            let peer = PeerId(index as u64);
            state.reserve(&caller(identity, language), peer, identity.to_string()).expect("place");
            state.room_of_mut(peer).expect("in the room").connected(peer);
        }
        state
    }

    #[test]
    fn a_call_interprets_each_for_the_other() {
        let state = room_with(&[("anna", "en"), ("beto", "es")]);
        let room = state.room("r").expect("exists");
        let targets = room.targets(PeerId(0));
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].0, Language::ES);
        assert_eq!(&*targets[0].1, [PeerId(1)]);
    }

    #[test]
    fn one_language_on_both_sides_costs_no_inference_and_is_forwarded_at_full_gain() {
        let state = room_with(&[("anna", "en"), ("ben", "en-GB")]);
        let room = state.room("r").expect("exists");
        assert!(room.targets(PeerId(0)).is_empty());
        let routes = room.routes(PeerId(1));
        assert_eq!(routes.len(), 2);
        assert!(routes.iter().all(|route| route.gain == 1.0 && !route.duck));
    }

    #[test]
    fn whoever_hears_the_speakers_language_hears_the_original_at_full_gain() {
        let mut state = room_with(&[("anna", "en")]);
        let beto = Caller { hear: "en".to_owned(), ..caller("beto", "es") };
        join(&mut state, 1, &beto);
        let room = state.room("r").expect("exists");
        assert!(room.targets(PeerId(0)).is_empty(), "beto understands anna as she is");
        let to_anna = room.targets(PeerId(1));
        assert_eq!(to_anna[0].0, Language::EN);
        for route in room.routes(PeerId(1)) {
            let original = route.listener == PeerId(1);
            assert_eq!((route.gain, route.duck), if original { (1.0, false) } else { (0.2, true) });
        }
        let shown = room.participant(PeerId(1)).expect("is there");
        assert_eq!((shown.language.as_str(), shown.hear.as_str()), ("es", "en"));
    }

    #[test]
    fn the_first_listener_of_a_language_chooses_its_voice() {
        let mut state = room_with(&[]);
        state.rooms.get_mut("r").expect("exists").max_participants = 4;
        let with = |identity: &str, language: &str, voice: &str| Caller {
            voice: Some(voice.to_owned()),
            ..caller(identity, language)
        };
        join(&mut state, 0, &caller("anna", "en"));
        join(&mut state, 1, &caller("beto", "es"));
        join(&mut state, 2, &with("carla", "es", "ef_dora"));
        join(&mut state, 3, &with("diego", "es", "em_alex"));
        let voices = state.room("r").expect("exists").voices();
        assert_eq!(voices, BTreeMap::from([(Language::ES, "ef_dora".to_owned())]));
    }

    #[test]
    fn nobody_is_routed_to_themselves() {
        let state = room_with(&[("anna", "en"), ("beto", "es")]);
        let room = state.room("r").expect("exists");
        for route in room.routes(PeerId(0)) {
            assert_ne!(route.listener, route.source);
            assert!(route.duck);
        }
    }

    #[test]
    fn who_begins_while_another_speaks_speaks_over_them() {
        let mut state = room_with(&[("anna", "en"), ("beto", "es")]);
        let (anna, beto) = (PeerId(0), PeerId(1));
        let room = state.room_of_mut(anna).expect("in the room");
        assert!(!room.speaks(anna, true));
        assert!(room.speaks(beto, true));
        assert!(room.speaks(anna, false), "beto goes on");
        assert!(!room.speaks(beto, false));
        assert!(!room.speaks(beto, true));
        state.remove_peer(beto, "left");
        assert!(!state.room_of_mut(anna).expect("in the room").speaks(anna, true), "beto left");
    }

    #[test]
    fn a_third_participant_does_not_fit_into_a_call() {
        let mut state = room_with(&[("anna", "en"), ("beto", "es")]);
        let error = state.reserve(&caller("carl", "de"), PeerId(9), "s".to_owned());
        assert!(matches!(error, Err(HouseError::RoomFull(2))));
    }

    #[test]
    fn the_same_identity_cannot_join_twice() {
        let mut state = room_with(&[("anna", "en")]);
        let error = state.reserve(&caller("anna", "en"), PeerId(9), "s".to_owned());
        assert!(matches!(error, Err(HouseError::IdentityTaken(_))));
    }

    #[test]
    fn events_are_numbered_without_gaps_and_a_peer_that_never_connected_leaves_silently() {
        let mut state = room_with(&[("anna", "en")]);
        let mut events = state.room("r").expect("exists").feed(None).live;
        state.reserve(&caller("beto", "es"), PeerId(5), "s".to_owned()).expect("place");
        assert!(state.remove_peer(PeerId(5), "left"));
        assert!(state.remove_peer(PeerId(0), "left"));
        assert!(!state.remove_peer(PeerId(0), "left"));
        let event = events.try_recv().expect("one event");
        // The first event is the room's own.
        assert_eq!(event.seq, 2);
        assert!(matches!(event.kind, EventKind::ParticipantLeft { .. }));
        assert!(events.try_recv().is_err());
    }
}
