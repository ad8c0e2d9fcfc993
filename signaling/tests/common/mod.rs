//! A house without media, for the tests of its HTTP face.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use signaling::house::{Caller, Feed, House, HouseError, IceUpdate, NewSession, NewVoice, Role};
use signaling::wire::{
    ChangeSession, CreateRoom, CreateToken, Event, EventKind, FLOOR, Grants, LanguageInfo,
    OwnVoice, Participant, Problem, Room, Token, VoiceInfo, VoiceKind,
};
use signaling::{ApiConfig, TokenKey, mint_token};
use tokio::sync::broadcast;
use tower::ServiceExt;

pub const API_KEY: &str = "0123456789abcdef0123456789abcdef";
pub const ETAG: &str = "etag-1";
/// Events a subscriber may fall behind.
pub const EVENT_BACKLOG: usize = 8;

#[derive(Default)]
struct FakeRoom {
    shown: Option<Room>,
    events: Option<broadcast::Sender<Event>>,
    sessions: BTreeMap<String, Caller>,
    changes: Vec<ChangeSession>,
    muted: Vec<String>,
    last_seq: u64,
    past: Vec<Event>,
}

impl FakeRoom {
    fn show(&self, caller: &Caller) -> Participant {
        Participant {
            identity: caller.identity.clone(),
            name: caller.name.clone(),
            language: caller.language.clone(),
            hear: caller.hear.clone(),
            voice: caller.voice.clone(),
            own_voice: caller.grants.own_voice.then_some(OwnVoice::Granted),
            muted: self.muted.contains(&caller.identity),
            relay: None,
            interprets: interprets(caller),
            channel: match &caller.role {
                Role::Both { channel } | Role::Listen { channel } => channel.clone(),
                _ => None,
            },
        }
    }

    fn require_channel(&self, channel: &str) -> Result<(), HouseError> {
        let languages = &self.shown.as_ref().unwrap().languages;
        if channel == FLOOR || languages.iter().any(|known| known == channel) {
            return Ok(());
        }
        let (channel, known) = (channel.to_owned(), languages.join(", "));
        Err(HouseError::NoSuchChannel { channel, known })
    }
}

fn interprets(caller: &Caller) -> Option<String> {
    match &caller.role {
        Role::Publish { channel, .. } => channel.clone(),
        _ => None,
    }
}

pub struct FakeHouse {
    rooms: Mutex<BTreeMap<String, FakeRoom>>,
    all: broadcast::Sender<Event>,
    pub loading: AtomicBool,
    pub draining: AtomicBool,
    /// Somebody is being interpreted.
    pub busy: AtomicBool,
    /// Whether rooms keep what is said.
    pub keeps_transcripts: AtomicBool,
    /// Events of a room that are kept.
    pub kept: AtomicUsize,
    /// Whether it can learn voices, and those that it has learned, with their recordings.
    pub learns: AtomicBool,
    pub learned: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
}

impl Default for FakeHouse {
    fn default() -> Self {
        let all = broadcast::channel(EVENT_BACKLOG).0;
        Self {
            rooms: Mutex::default(),
            all,
            loading: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            keeps_transcripts: AtomicBool::new(false),
            kept: AtomicUsize::new(usize::MAX),
            learns: AtomicBool::new(false),
            learned: Mutex::default(),
        }
    }
}

fn learned_voice(name: &str) -> VoiceInfo {
    VoiceInfo {
        name: name.to_owned(),
        language: "en".to_owned(),
        engine: "learner".to_owned(),
        kind: VoiceKind::Learned,
    }
}

impl FakeHouse {
    pub fn publish(&self, room: &str) -> u64 {
        let participant = Participant {
            identity: "ana".to_owned(),
            name: "Ana".to_owned(),
            language: "es".to_owned(),
            hear: "es".to_owned(),
            voice: None,
            own_voice: None,
            muted: false,
            relay: None,
            interprets: None,
            channel: None,
        };
        self.emit(room, EventKind::ParticipantJoined { participant, connect_ms: 1.0 })
    }

    pub fn emit(&self, room: &str, kind: EventKind) -> u64 {
        let mut rooms = self.rooms.lock().unwrap();
        self.tell(rooms.get_mut(room).unwrap(), room, kind)
    }

    fn tell(&self, fake: &mut FakeRoom, room: &str, kind: EventKind) -> u64 {
        fake.last_seq += 1;
        let event = Event { seq: fake.last_seq, time_ms: 1, room: room.to_owned(), kind };
        fake.past.push(event.clone());
        let _ = self.all.send(event.clone());
        let _ = fake.events.as_ref().unwrap().send(event);
        fake.last_seq
    }

    /// What the session was opened with.
    pub fn caller(&self, room: &str, session: &str) -> Option<Caller> {
        self.rooms.lock().unwrap()[room].sessions.get(session).cloned()
    }

    /// What was changed in the room's sessions, oldest first.
    pub fn changes(&self, room: &str) -> Vec<ChangeSession> {
        self.rooms.lock().unwrap()[room].changes.clone()
    }

    fn end(&self, name: &str, reason: &str) -> Result<(), HouseError> {
        let removed = self.rooms.lock().unwrap().remove(name);
        let mut fake = removed.ok_or_else(|| HouseError::NoSuchRoom(name.to_owned()))?;
        self.tell(&mut fake, name, EventKind::RoomEnded { reason: reason.to_owned() });
        Ok(())
    }

    pub fn subscribers(&self, room: &str) -> usize {
        self.rooms.lock().unwrap()[room].events.as_ref().unwrap().receiver_count()
    }

    fn with<T>(
        &self,
        room: &str,
        act: impl FnOnce(&mut FakeRoom) -> Result<T, HouseError>,
    ) -> Result<T, HouseError> {
        let mut rooms = self.rooms.lock().unwrap();
        act(rooms.get_mut(room).ok_or_else(|| HouseError::NoSuchRoom(room.to_owned()))?)
    }
}

impl House for FakeHouse {
    fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError> {
        let mut rooms = self.rooms.lock().unwrap();
        let name = request.name.unwrap_or_else(|| format!("room-{}", rooms.len()));
        if self.is_draining() {
            return Err(HouseError::Draining);
        }
        match name.as_str() {
            "panic" => panic!("a defect that knows a secret"),
            "overload" => return Err(HouseError::Overloaded { retry_after_s: 7 }),
            "broken" => return Err(HouseError::Internal("a secret path".to_owned())),
            _ if rooms.contains_key(&name) => return Err(HouseError::RoomExists(name)),
            _ => {}
        }
        let room = Room {
            name: name.clone(),
            kind: request.kind,
            languages: request.languages,
            original_gain: request.original_gain.unwrap_or(0.2),
            max_participants: request.max_participants.unwrap_or(2),
            empty_timeout_s: 300,
            departure_timeout_s: 20,
            keep_transcript: self.keeps_transcripts.load(Ordering::Relaxed),
            tier: "full".to_owned(),
            record: request.record,
            relay: request.relay,
            created_at_ms: 1,
            participants: Vec::new(),
        };
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let fake =
            FakeRoom { shown: Some(room.clone()), events: Some(events), ..FakeRoom::default() };
        rooms.insert(name, fake);
        Ok(room)
    }

    fn rooms(&self) -> Vec<Room> {
        self.rooms.lock().unwrap().values().filter_map(|fake| fake.shown.clone()).collect()
    }

    fn room(&self, name: &str) -> Result<Room, HouseError> {
        self.with(name, |fake| {
            let participants = fake.sessions.values().map(|caller| fake.show(caller)).collect();
            Ok(Room { participants, ..fake.shown.clone().unwrap() })
        })
    }

    fn delete_room(&self, name: &str) -> Result<(), HouseError> {
        self.end(name, "deleted")
    }

    async fn connect(&self, caller: Caller, offer: String) -> Result<NewSession, HouseError> {
        if !offer.starts_with("v=0") {
            return Err(HouseError::BadSdp("the first line is not v=0".to_owned()));
        }
        if !offer.contains("m=audio") {
            return Err(HouseError::UnacceptableSdp("it has no audio".to_owned()));
        }
        if offer.contains("s=overload") {
            return Err(HouseError::Overloaded { retry_after_s: 7 });
        }
        self.with(&caller.room.clone(), |fake| {
            if let Role::Publish { channel: Some(channel), .. }
            | Role::Listen { channel: Some(channel) }
            | Role::Both { channel: Some(channel) } = &caller.role
            {
                fake.require_channel(channel)?;
            }
            let into = interprets(&caller);
            if let Some(other) =
                fake.sessions.values().find(|other| into.is_some() && interprets(other) == into)
            {
                let (channel, by) = (into.unwrap(), other.identity.clone());
                return Err(HouseError::ChannelTaken { channel, by });
            }
            if fake.sessions.values().any(|other| other.identity == caller.identity) {
                return Err(HouseError::IdentityTaken(caller.identity));
            }
            let most = fake.shown.as_ref().unwrap().max_participants;
            if fake.sessions.len() == most {
                return Err(HouseError::RoomFull(most));
            }
            let id = format!("session-of-{}", caller.identity);
            fake.sessions.insert(id.clone(), caller);
            Ok(NewSession { id, answer_sdp: "v=0\r\n".to_owned(), etag: ETAG.to_owned() })
        })
    }

    async fn update_ice(
        &self,
        room: &str,
        session: &str,
        expected: Option<String>,
        fragment: String,
    ) -> Result<IceUpdate, HouseError> {
        self.with(room, |fake| {
            if !fake.sessions.contains_key(session) {
                return Err(HouseError::NoSuchSession(session.to_owned()));
            }
            if expected.is_some_and(|expected| expected != ETAG) {
                return Err(HouseError::StaleTag);
            }
            if !fragment.contains("a=ice-ufrag:new") {
                return Ok(IceUpdate::Trickled);
            }
            if !fragment.contains("a=ice-pwd:") {
                return Err(HouseError::BadFragment("it has no ice-pwd".to_owned()));
            }
            let fragment = "a=ice-ufrag:ours\r\na=ice-pwd:secret\r\n".to_owned();
            Ok(IceUpdate::Restarted { fragment, etag: "etag-2".to_owned() })
        })
    }

    fn session_owner(&self, room: &str, session: &str) -> Result<String, HouseError> {
        self.with(room, |fake| {
            let caller = fake.sessions.get(session);
            let gone = || HouseError::NoSuchSession(session.to_owned());
            Ok(caller.ok_or_else(gone)?.identity.clone())
        })
    }

    fn disconnect(&self, room: &str, session: &str) -> Result<(), HouseError> {
        self.with(room, |fake| {
            let removed = fake.sessions.remove(session);
            removed.map(drop).ok_or_else(|| HouseError::NoSuchSession(session.to_owned()))
        })
    }

    fn change_session(
        &self,
        room: &str,
        id: &str,
        change: ChangeSession,
    ) -> Result<(), HouseError> {
        self.with(room, |fake| {
            if !fake.sessions.contains_key(id) {
                return Err(HouseError::NoSuchSession(id.to_owned()));
            }
            if let Some(channel) = &change.channel {
                fake.require_channel(channel)?;
            }
            fake.changes.push(change);
            Ok(())
        })
    }

    fn mute(&self, room: &str, identity: &str, muted: bool) -> Result<(), HouseError> {
        self.with(room, |fake| {
            if !fake.sessions.values().any(|caller| caller.identity == identity) {
                return Err(HouseError::NoSuchParticipant(identity.to_owned()));
            }
            fake.muted.retain(|other| other != identity);
            if muted {
                fake.muted.push(identity.to_owned());
            }
            Ok(())
        })
    }

    fn remove_participant(&self, room: &str, identity: &str) -> Result<(), HouseError> {
        self.mute(room, identity, true)?;
        self.with(room, |fake| {
            fake.sessions.retain(|_, caller| caller.identity != identity);
            Ok(())
        })
    }

    fn events(&self, room: &str, after: Option<u64>) -> Result<Feed, HouseError> {
        self.with(room, |fake| {
            let live = fake.events.as_ref().unwrap().subscribe();
            let after = after.unwrap_or(fake.last_seq);
            let mut past: Vec<Event> =
                fake.past.iter().filter(|event| event.seq > after).cloned().collect();
            let lost = past.len().saturating_sub(self.kept.load(Ordering::Relaxed));
            past.drain(..lost);
            Ok(Feed { lost: lost as u64, past, live })
        })
    }

    fn all_events(&self) -> broadcast::Receiver<Event> {
        self.all.subscribe()
    }

    fn languages(&self) -> Vec<LanguageInfo> {
        vec![LanguageInfo {
            code: "en".to_owned(),
            name: "English".to_owned(),
            targets: vec!["es".to_owned()],
            own_voice: Vec::new(),
        }]
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        let dora = VoiceInfo {
            name: "ef_dora".to_owned(),
            language: "es".to_owned(),
            engine: "kokoro".to_owned(),
            kind: VoiceKind::BuiltIn,
        };
        let learned = self.learned.lock().unwrap();
        std::iter::once(dora).chain(learned.keys().map(|name| learned_voice(name))).collect()
    }

    fn can_learn(&self) -> bool {
        self.learns.load(Ordering::Relaxed)
    }

    async fn learn_voice(&self, voice: NewVoice) -> Result<VoiceInfo, HouseError> {
        if voice.language.is_some_and(|language| language != "en") {
            return Err(HouseError::Invalid("language: learned voices speak en".to_owned()));
        }
        let clips: Vec<Vec<u8>> =
            voice.clips.iter().map(|path| std::fs::read(path).unwrap()).collect();
        if clips.iter().any(|clip| clip == b"noise") {
            return Err(HouseError::BadRecording("there is no speech in it".to_owned()));
        }
        if self.voices().iter().any(|known| known.name == voice.name) {
            return Err(HouseError::VoiceExists(voice.name));
        }
        let learned = learned_voice(&voice.name);
        self.learned.lock().unwrap().insert(voice.name, clips);
        Ok(learned)
    }

    fn forget_voice(&self, name: &str) -> Result<(), HouseError> {
        if name == "ef_dora" {
            return Err(HouseError::BuiltInVoice(name.to_owned()));
        }
        let forgotten = self.learned.lock().unwrap().remove(name);
        forgotten.map(drop).ok_or_else(|| HouseError::NoSuchVoice(name.to_owned()))
    }

    fn keep_voice(&self, room: &str, identity: &str, name: &str) -> Result<VoiceInfo, HouseError> {
        let granted = self.with(room, |fake| {
            let caller = fake.sessions.values().find(|caller| caller.identity == identity);
            let gone = || HouseError::NoSuchParticipant(identity.to_owned());
            Ok(caller.ok_or_else(gone)?.grants.own_voice)
        })?;
        if !granted {
            return Err(HouseError::NotLearned("they have not agreed".to_owned()));
        }
        self.learned.lock().unwrap().insert(name.to_owned(), Vec::new());
        Ok(learned_voice(name))
    }

    fn ready(&self) -> Result<(), String> {
        if self.loading.load(Ordering::Relaxed) {
            return Err("whisper-base is still loading".to_owned());
        }
        Ok(())
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }

    fn end_all(&self, reason: &str) {
        let names: Vec<String> = self.rooms.lock().unwrap().keys().cloned().collect();
        for name in names {
            self.end(&name, reason).unwrap();
        }
    }
}

/// A house with the room `lobby`, and its face.
pub struct Face {
    pub house: Arc<FakeHouse>,
    pub router: Router,
    pub token_key: TokenKey,
}

impl Face {
    pub fn new() -> Self {
        Self::with_config(ApiConfig::new(API_KEY, None, false).unwrap())
    }

    pub fn with_config(config: ApiConfig) -> Self {
        let house = Arc::new(FakeHouse::default());
        let lobby = CreateRoom { name: Some("lobby".to_owned()), ..CreateRoom::default() };
        house.create_room(lobby).unwrap();
        let token_key = config.token_key().clone();
        Self { router: signaling::router(Arc::clone(&house), config), house, token_key }
    }

    pub fn token(&self, room: &str, identity: &str, grants: Grants) -> Token {
        let request = CreateToken {
            identity: identity.to_owned(),
            name: None,
            language: "es".to_owned(),
            hear: None,
            voice: None,
            grants,
            ttl_s: Some(60),
        };
        mint_token(&self.token_key, room, &request).unwrap()
    }

    /// Sends a request with these headers.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem, once its form is checked.
    pub fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem: Problem = self.json();
        assert_eq!(problem.status, self.status.as_u16());
        assert!(problem.kind.starts_with("/problems/"), "{}", problem.kind);
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        problem
    }
}

/// Where a test's log lines go.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
