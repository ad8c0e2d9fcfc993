//! What the listener thread finds, on its way to the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use inference::CancelToken;
use signaling::wire::{EventKind, UtteranceRef};

use super::room::{RoomState, Want};
use super::{BargeIn, Overlap, Shared};
use crate::engine::{DropReason, Job, Target, UtteranceId};
use crate::listener::{Heard, SpeechSink};
use crate::media::PeerId;
use crate::speaker::Outlet;
use crate::trace::Times;

/// Receives the segments of the listener thread.
pub(super) struct ListenerSink(pub(super) Arc<Shared>);

impl SpeechSink for ListenerSink {
    fn wanted(&self, peer: PeerId) -> bool {
        let state = self.0.state.lock();
        let Some(room) = state.room_of(peer) else { return false };
        // Whoever is speaking when the server is about to end is heard out.
        let begins = !room.speaking.contains(&peer);
        room.wants(peer) != Want::Nothing && !(begins && self.0.draining.load(Ordering::Relaxed))
    }

    fn started(&self, peer: PeerId) -> UtteranceId {
        let shared = &self.0;
        let utterance = UtteranceId(shared.next_utterance.fetch_add(1, Ordering::Relaxed));
        let mut state = shared.state.lock();
        let Some(room) = state.room_of_mut(peer) else { return utterance };
        shared.barge_in(room, peer, true);
        let overlaps = room.started(peer, Instant::now());
        shared.settle(room);
        if room.wants(peer) == Want::Words {
            let voiced = !(overlaps && shared.config.overlap == Overlap::First);
            shared.announce(room, peer, utterance, voiced);
        }
        utterance
    }

    fn paused(&self, peer: PeerId, utterance: UtteranceId, samples_16k: &[f32]) {
        if self.0.stories.lock().reference(utterance).is_none() {
            return;
        }
        let language = {
            let state = self.0.state.lock();
            state.room_of(peer).and_then(|room| room.member(peer)).map(|member| member.language)
        };
        if let (Some(language), Some(engine)) = (language, self.0.engine()) {
            engine.speculate(utterance, samples_16k, Some(language));
        }
    }

    fn resumed(&self, utterance: UtteranceId) {
        if let Some(engine) = self.0.engine() {
            engine.retract(utterance);
        }
    }

    fn heard(&self, peer: PeerId, utterance: UtteranceId, heard: Heard) {
        let shared = &self.0;
        let Some(engine) = shared.engine() else { return };
        let (language, targets, mut voices, own, is_conference) = {
            let mut state = shared.state.lock();
            let Some(room) = state.room_of_mut(peer) else { return };
            shared.barge_in(room, peer, false);
            room.stopped(peer, Instant::now());
            shared.settle(room);
            let is_announced = shared.stories.lock().reference(utterance).is_some();
            if room.wants(peer) != Want::Words {
                drop(state);
                if is_announced {
                    self.resumed(utterance);
                    let detail = "the last listener left before the end";
                    shared.utterance_dropped(utterance, DropReason::Cancelled, detail);
                }
                return;
            }
            if !is_announced {
                // The first listener came in the middle of it.
                shared.announce(room, peer, utterance, true);
            }
            let Some(member) = room.member(peer) else { return };
            let (targets, voices) = (room.targets(peer), room.voices(peer));
            (member.language, targets, voices, room.own_voice(peer), room.is_conference())
        };
        let Heard { samples_16k, first_voiced, last_voiced, ended } = heard;
        if let Some(own) = own {
            shared.use_own_voice(own, &samples_16k, &targets, &mut voices);
        }
        let cancel = CancelToken::new();
        let wanted = targets.iter().map(|(language, outlets)| Target {
            language: *language,
            voice: voices.remove(language),
            is_heard: !outlets.is_empty(),
        });
        let wanted: Vec<Target> = wanted.collect();
        let outlets: Vec<Arc<[Outlet]>> =
            targets.iter().map(|(_, outlets)| Arc::clone(outlets)).collect();
        let voiced = shared.stories.lock().ended(
            utterance,
            targets,
            first_voiced,
            last_voiced,
            cancel.clone(),
        );
        for outlets in outlets.into_iter().filter(|outlets| !outlets.is_empty()) {
            shared.speaker.expect(utterance, peer, outlets);
        }
        let job = Job {
            utterance,
            samples_16k,
            from: Some(language),
            targets: wanted,
            times: Times::new(first_voiced.arrived, last_voiced.arrived, ended),
            voiced,
            deadline: engine.deadline(is_conference),
            cancel,
        };
        if engine.submit(job).is_err() {
            shared.end_everywhere(utterance);
            let detail = "not interpreted: the server has more speech than it can recognise";
            shared.utterance_dropped(utterance, DropReason::Overloaded, detail);
        }
    }

    fn discarded(&self, peer: PeerId, utterance: UtteranceId) {
        let detail = "what began like speech was none";
        self.end_unheard(peer, utterance, DropReason::NoSpeech, detail);
    }

    fn abandoned(&self, peer: PeerId, utterance: UtteranceId) {
        let detail = "before the end the speaker left or was muted, or the last listener left";
        self.end_unheard(peer, utterance, DropReason::Cancelled, detail);
    }
}

impl ListenerSink {
    /// An utterance began that nothing will be made of.
    fn end_unheard(&self, peer: PeerId, utterance: UtteranceId, reason: DropReason, detail: &str) {
        self.resumed(utterance);
        if let Some(room) = self.0.state.lock().room_of_mut(peer) {
            self.0.barge_in(room, peer, false);
            room.stopped(peer, Instant::now());
            self.0.settle(room);
        }
        if self.0.stories.lock().reference(utterance).is_some() {
            self.0.utterance_dropped(utterance, reason, detail);
        }
    }
}

impl Shared {
    /// An utterance begins whose words are wanted.
    fn announce(&self, room: &mut RoomState, peer: PeerId, utterance: UtteranceId, voiced: bool) {
        let Some(member) = room.member(peer) else { return };
        let speaker = member.identity.clone();
        let reference = UtteranceRef { utterance: utterance.to_string(), speaker };
        let name = room.name.clone();
        self.stories.lock().begin(utterance, peer, name, reference.clone(), voiced);
        room.events.emit(EventKind::UtteranceStarted { utterance: reference });
    }

    /// A participant of a call speaks, or does so no more: what they hear makes room for them. What
    /// is heard on a channel is the same for all who listen to it.
    fn barge_in(&self, room: &RoomState, peer: PeerId, speaks: bool) {
        if self.config.barge_in == BargeIn::Duck && !room.is_conference() {
            let gain = if speaks { self.config.barge_in_gain } else { 1.0 };
            self.plane.set_voice_gain(peer, gain);
        }
    }
}
