//! The thread that turns what the media plane and the speaker report into events, and looks once a
//! second for what time alone has changed.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select, tick};
use inference::Language;
use signaling::wire::EventKind;

use super::Shared;
use super::membership::Station;
use super::orders::Order;
use super::room::RoomState;
use super::state::Ended;
use super::story::FirstPacket;
use crate::engine::{DropReason, Engine, UtteranceId};
use crate::media::{ChannelId, CloseReason, Notice, PeerId};
use crate::speaker::{Outlet, SpeakerNotice, Unspoken};

/// How often expired rooms and silent interpreters are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Works until the media plane and the speaker are gone.
pub(super) fn run(
    shared: &Weak<Shared>,
    notices: &Receiver<Notice>,
    spoken: &Receiver<SpeakerNotice>,
) {
    let sweep = tick(SWEEP);
    loop {
        select! {
            recv(notices) -> notice => {
                let (Ok(notice), Some(shared)) = (notice, shared.upgrade()) else { return };
                shared.media_notice(&notice);
            }
            recv(spoken) -> notice => {
                let (Ok(notice), Some(shared)) = (notice, shared.upgrade()) else { return };
                shared.speaker_notice(notice);
            }
            recv(sweep) -> now => {
                let (Ok(now), Some(shared)) = (now, shared.upgrade()) else { return };
                shared.sweep(now);
            }
        }
    }
}

impl Shared {
    fn media_notice(&self, notice: &Notice) {
        match *notice {
            Notice::PeerConnected { peer, after } => self.peer_connected(peer, after),
            Notice::PeerClosed { peer, reason } => {
                let reason = match reason {
                    CloseReason::Requested | CloseReason::RemoteClosed => "left",
                    CloseReason::ConnectionLost => "connection_lost",
                    CloseReason::Failed => "failed",
                };
                self.remove_peer(peer, reason);
            }
            Notice::Spoken { peer, utterance, rtp_timestamp, sent } => {
                self.first_packet_sent(UtteranceId(utterance), peer, rtp_timestamp, sent);
            }
            Notice::Finished { .. } => {}
        }
    }

    fn speaker_notice(&self, notice: SpeakerNotice) {
        match notice {
            SpeakerNotice::WantsToSpeak { channel, wants } => {
                let mut state = self.state.lock();
                let room = state.rooms.values_mut().find(|room| room.owns(channel));
                if let Some(room) = room {
                    room.machine_wants(channel, wants);
                    self.settle(room);
                }
            }
            SpeakerNotice::Unspoken { outlet, utterance, why } => {
                let (reason, detail) = match (why, outlet) {
                    (Unspoken::Backlog, Outlet::Peer(_)) => (
                        DropReason::Overloaded,
                        "captioned only: too much speech waits for this listener already",
                    ),
                    (Unspoken::Backlog, Outlet::Channel(_)) => (
                        DropReason::Overloaded,
                        "captioned only: too much speech waits on this channel, and this is the oldest",
                    ),
                    (Unspoken::TakenOver, _) => (
                        DropReason::Overlapped,
                        "captioned only: a human interprets into this channel now",
                    ),
                };
                self.utterance_dropped(utterance, reason, detail);
            }
        }
    }

    /// What time alone has changed: rooms that nobody is in, channels whose interpreter is silent.
    pub(super) fn sweep(&self, now: Instant) {
        let hold = Duration::from_secs(self.config.interpreter_hold_s);
        let mut state = self.state.lock();
        for room in state.rooms.values_mut().filter(|room| room.is_conference()) {
            if room.second(now, hold) {
                self.settle(room);
            }
        }
        for (name, reason) in state.expired(now) {
            tracing::info!(room = name, reason, "the room is over");
            if let Some(ended) = state.end_room(&name, reason, now) {
                self.obey(ended.key, ended.orders, |_| ());
            }
        }
    }

    pub(super) fn peer_connected(&self, peer: PeerId, after: Duration) {
        let mut state = self.state.lock();
        let Some(room) = state.room_of_mut(peer) else { return };
        room.connected(peer, after);
        self.settle(room);
        let Some(member) = room.member(peer) else { return };
        let connect_ms = after.as_secs_f64() * 1_000.0;
        // Never the session's id: whoever knows it may end the session.
        tracing::info!(room = room.name, identity = member.identity, connect_ms, "connected");
    }

    /// Takes a peer out of its room and tells the room. The media plane is asked to close it too.
    /// What they have said is still interpreted: a goodbye is followed by a leave.
    pub(super) fn remove_peer(&self, peer: PeerId, reason: &str) {
        {
            let mut state = self.state.lock();
            let Some(room) = state.remove_peer(peer, reason, Instant::now()) else { return };
            self.settle(room);
        }
        self.forget_peer(peer);
    }

    /// Ends a room and every session in it.
    pub(super) fn end_room(&self, name: &str, reason: &str) -> bool {
        let Some(Ended { key, peers, orders }) =
            self.state.lock().end_room(name, reason, Instant::now())
        else {
            return false;
        };
        self.obey(key, orders, |_| ());
        for peer in peers {
            self.stories.lock().cancel_of(peer);
            self.forget_peer(peer);
        }
        true
    }

    /// Everybody else forgets a peer that is in no room any more.
    pub(super) fn forget_peer(&self, peer: PeerId) {
        self.plane.disconnect(peer);
        self.speaker.detach(Outlet::Peer(peer));
        if let Some(listener) = self.listener.get() {
            listener.detach(peer);
        }
    }

    /// Tells the plane and the speaker what has changed. The state stays locked meanwhile, so that
    /// they are told in the order in which it happened; neither ever waits for the state.
    pub(super) fn settle(&self, room: &mut RoomState) {
        let orders = room.settle();
        let mut failed = Vec::new();
        self.obey(room.key, orders, |channel| failed.push(channel));
        failed.into_iter().for_each(|channel| room.not_opened(channel));
    }

    fn obey(&self, room: u64, orders: Vec<Order>, mut not_opened: impl FnMut(ChannelId)) {
        for order in orders {
            match order {
                Order::Route { listener, source, level } => {
                    self.plane.set_route(listener, source, level.gain, level.duck);
                }
                Order::ClearRoute { listener, source } => self.plane.clear_route(listener, source),
                Order::Open(channel) => match self.plane.open_channel(room, channel) {
                    Ok(writer) => self.speaker.attach(Outlet::Channel(channel), writer),
                    Err(error) => {
                        tracing::error!(%error, ?channel, "a channel could not be opened");
                        not_opened(channel);
                    }
                },
                Order::Close(channel) => {
                    self.speaker.detach(Outlet::Channel(channel));
                    self.plane.close_channel(room, channel);
                }
                Order::OnFloor { peer, on_floor } => self.plane.set_on_floor(room, peer, on_floor),
                Order::Carry { channel, source } => {
                    self.plane.set_interpreter(room, channel, source);
                    self.speaker.hold(channel, source.is_some());
                }
                Order::Silence(channel) => self.speaker.silence(channel),
                Order::Tune { peer, programme, own } => self.plane.tune(room, peer, programme, own),
                Order::Forget(voice) => {
                    self.shelf.forget(&self.models, &voice);
                }
                Order::Prepare { language, voice } => self.preparer.prepare(language, voice),
            }
        }
    }

    fn first_packet_sent(
        &self,
        utterance: UtteranceId,
        peer: PeerId,
        rtp_timestamp: u32,
        sent: Instant,
    ) {
        let language = {
            let state = self.state.lock();
            let member = state.room_of(peer).and_then(|room| room.member(peer));
            member.and_then(|member| match member.station {
                Some(Station::Channel(language)) => Some(language),
                Some(Station::Floor) => None,
                None => Some(member.hear),
            })
        };
        let Some(language) = language else { return };
        let packet = FirstPacket { utterance, language, peer, rtp_timestamp, sent };
        let now_told = self.stories.lock().hold(packet);
        if let Some(packet) = now_told {
            self.tell_spoken(&packet);
        }
    }

    /// Tells what waited for an utterance's translation into a language.
    pub(super) fn translation_told(&self, utterance: UtteranceId, language: Language) {
        let waiting = self.stories.lock().told(utterance, language);
        for packet in waiting {
            self.tell_spoken(&packet);
        }
    }

    fn tell_spoken(&self, packet: &FirstPacket) {
        let story = self.stories.lock().times(packet.utterance, packet.language);
        let Some((reference, mut times)) = story else { return };
        times.sent = Some(packet.sent);
        let mut state = self.state.lock();
        let Some(room) = state.room_of_mut(packet.peer) else { return };
        let Some(listener) = room.member(packet.peer) else { return };
        let (listener, track) = (listener.identity.clone(), listener.track.clone());
        self.metrics.spoken(&times.trace());
        room.events.emit(EventKind::UtteranceSpoken {
            utterance: reference,
            language: packet.language.to_string(),
            listener,
            track,
            rtp_timestamp: packet.rtp_timestamp,
            trace: times.trace(),
        });
    }

    /// Nothing more of an utterance comes, in any language.
    pub(super) fn end_everywhere(&self, utterance: UtteranceId) {
        let outlets = self.stories.lock().all_outlets(utterance);
        for outlets in outlets {
            self.speaker.end(utterance, outlets);
        }
    }

    pub(super) fn utterance_dropped(
        &self,
        utterance: UtteranceId,
        reason: DropReason,
        detail: &str,
    ) {
        if reason == DropReason::Failed {
            tracing::error!(%utterance, detail, "an utterance failed");
        }
        self.metrics.outcome(reason.label());
        let Some((room, reference)) = self.stories.lock().reference(utterance) else { return };
        self.emit(
            &room,
            EventKind::UtteranceDropped {
                utterance: reference,
                reason: reason.label().to_owned(),
                detail: detail.to_owned(),
            },
        );
    }

    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.get().and_then(Weak::upgrade)
    }

    pub(super) fn emit(&self, room: &str, kind: EventKind) {
        if let Ok(room) = self.state.lock().room_mut(room) {
            room.events.emit(kind);
        }
    }
}
