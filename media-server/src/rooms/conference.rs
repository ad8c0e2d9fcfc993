//! What a conference makes of its members.
//!
//! **What is interpreted.** A channel has work while somebody listens to it or it is recorded, and
//! only with utterances in another language, and only while no human interprets into it. Into one
//! that is recorded and that nobody hears it is translated and not spoken. An utterance that no
//! channel wants is not even recognised.
//!
//! **Whose sound is on a channel.** One source at a time; the floor is below it at the listener's
//! own gain. In this order:
//!
//! 1. the human interpreter, while they speak;
//! 2. whoever speaks the channel's own language on the floor, while they speak: their own sound is
//!    what the listener wants. Of several the one who began first; the others are heard as part of
//!    the floor until then. The machine waits meanwhile, in the middle of a word if need be, and goes
//!    on where it was: what it says can be said later, what is said live cannot;
//! 3. the machine, while it has something to say;
//! 4. nobody speaks: the human interpreter, else who spoke the channel's language last (or came
//!    first), so that their next word is whole although speech is noticed only after its beginning.
//!
//! **Human interpreters** have a channel from their first word until they have been silent for
//! `rooms.interpreter_hold_s`, are muted, or leave. The machine gives up what it was going to say
//! there (captioned only) and interprets nothing into that channel meanwhile. What they say is
//! recognised, as text in the channel's language.
//!
//! **Relay.** A channel may take relay from another: while a human has that one, the machine
//! interprets what the human says and not what is said on the floor, which suits a language of the
//! floor that the machine knows less well. Humans who interpret from a channel listen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use inference::Language;
use signaling::wire::EventKind;

use super::membership::{Member, Station};
use super::orders::{Order, Picture};
use super::room::{RoomState, Want};
use crate::media::{ChannelId, GainStep, PeerId, Programme};

/// Speakers whose place among the voices is remembered. The oldest is forgotten first, who is
/// hardly there any more.
const REMEMBERED: usize = 4_096;

/// What a channel of a new conference is made of.
#[derive(Clone, Debug)]
pub(super) struct BoothSpec {
    pub(super) language: Language,
    /// Languages that the machine can interpret from.
    pub(super) sources: BTreeSet<Language>,
    /// Its text is wanted although nobody listens.
    pub(super) is_recorded: bool,
    /// The channel that the machine interprets from while a human interprets into that one.
    pub(super) relay: Option<Language>,
    /// Voices that speakers get in turn, and all that can be asked for.
    pub(super) voices: Vec<String>,
    pub(super) known_voices: BTreeSet<String>,
}

/// Channels and who speaks on them.
pub(super) struct Conference {
    booths: BTreeMap<Language, Booth>,
    /// Identities by the order in which they appeared on the floor, and how many there were.
    appeared: BTreeMap<String, usize>,
    count: usize,
}

struct Booth {
    id: ChannelId,
    spec: BoothSpec,
    /// The human who has the channel.
    shift: Option<Shift>,
    /// The machine has something to say.
    machine_wants: bool,
    /// Who last spoke the channel's own language on the floor.
    native: Option<PeerId>,
}

struct Shift {
    peer: PeerId,
    /// When they last spoke.
    spoke: Instant,
}

impl Conference {
    pub(super) fn new(specs: Vec<BoothSpec>, mut next: impl FnMut() -> ChannelId) -> Self {
        let booths = specs.into_iter().map(|spec| {
            let language = spec.language;
            let id = next();
            (language, Booth { id, spec, shift: None, machine_wants: false, native: None })
        });
        Self { booths: booths.collect(), appeared: BTreeMap::new(), count: 0 }
    }

    /// The channels that are recorded.
    pub(super) fn recorded(&self) -> impl Iterator<Item = String> {
        let recorded = self.booths.values().filter(|booth| booth.spec.is_recorded);
        recorded.map(|booth| booth.spec.language.to_string())
    }

    /// The channels that take relay, and from which.
    pub(super) fn relays(&self) -> impl Iterator<Item = (String, String)> {
        let pair = |booth: &Booth| {
            let from = booth.spec.relay?;
            Some((booth.spec.language.to_string(), from.to_string()))
        };
        self.booths.values().filter_map(pair)
    }

    /// Whether what is said in a language can be heard on any channel.
    pub(super) fn understands(&self, language: Language) -> bool {
        self.booths.values().any(|booth| booth.spec.language == language)
            || self.booths.values().any(|booth| booth.spec.sources.contains(&language))
    }

    /// Somebody is on the floor: the next voices are theirs for the whole meeting.
    pub(super) fn appears(&mut self, identity: &str) {
        if self.appeared.contains_key(identity) {
            return;
        }
        if self.appeared.len() == REMEMBERED {
            let oldest = self.appeared.iter().min_by_key(|(_, number)| **number);
            if let Some(oldest) = oldest.map(|(identity, _)| identity.clone()) {
                self.appeared.remove(&oldest);
            }
        }
        self.appeared.insert(identity.to_owned(), self.count);
        self.count += 1;
    }

    /// Channels that a speaker's words go into, and whether anybody hears them there.
    pub(super) fn targets<'a>(
        &'a self,
        room: &'a RoomState,
        speaker: &'a Member,
    ) -> impl Iterator<Item = (Language, ChannelId, bool)> + 'a {
        let booths = self.booths.values().filter(move |booth| {
            self.takes_from(booth, speaker)
                && booth.spec.language != speaker.language
                && booth.spec.sources.contains(&speaker.language)
                && booth.shift.is_none()
        });
        let targets = booths.map(move |booth| {
            let is_heard = has_listeners(room, booth.spec.language, Some(speaker));
            (booth.spec.language, booth.id, is_heard)
        });
        targets.filter(|(language, _, is_heard)| *is_heard || self.is_recorded(*language))
    }

    /// Whether the machine interprets a speaker into this channel: somebody on the floor, unless it
    /// takes relay from a channel that a human has now, or that human.
    fn takes_from(&self, booth: &Booth, speaker: &Member) -> bool {
        if let Some(channel) = speaker.interprets {
            return booth.spec.relay == Some(channel);
        }
        let has_human = |channel| self.booths.get(&channel).is_some_and(|own| own.shift.is_some());
        // Who speaks the relay's language themselves needs no interpreter in between.
        let relay = booth.spec.relay.filter(|channel| *channel != speaker.language);
        speaker.is_on_floor() && !relay.is_some_and(has_human)
    }

    fn is_recorded(&self, language: Language) -> bool {
        self.booths.get(&language).is_some_and(|booth| booth.spec.is_recorded)
    }

    pub(super) fn wants(&self, room: &RoomState, speaker: &Member) -> Want {
        let language = speaker.language;
        let is_heard = has_listeners(room, language, Some(speaker));
        let is_interpreter = speaker.interprets.is_some();
        if self.targets(room, speaker).next().is_some()
            || self.is_recorded(language)
            || (is_interpreter && is_heard)
        {
            Want::Words
        } else if self.booths.contains_key(&language) && is_heard {
            Want::Presence
        } else {
            Want::Nothing
        }
    }

    /// The voice of a speaker on each channel: the one of their token where it speaks the channel's
    /// language, else the next in turn.
    pub(super) fn voices(&self, speaker: &Member) -> BTreeMap<Language, String> {
        let voice = |booth: &Booth| Some((booth.spec.language, self.voice(booth, speaker)?));
        self.booths.values().filter_map(voice).collect()
    }

    /// There is another voice, which speaks these languages.
    pub(super) fn know_voice(&mut self, voice: &str, speaks: impl Fn(Language) -> bool) {
        for booth in self.booths.values_mut().filter(|booth| speaks(booth.spec.language)) {
            booth.spec.known_voices.insert(voice.to_owned());
        }
    }

    /// A voice is forgotten: who asked for it has their turn.
    pub(super) fn forget_voice(&mut self, voice: &str) {
        for booth in self.booths.values_mut() {
            booth.spec.known_voices.remove(voice);
        }
    }

    fn voice(&self, booth: &Booth, speaker: &Member) -> Option<String> {
        let BoothSpec { voices, known_voices, .. } = &booth.spec;
        let wish = speaker.voice.as_ref().filter(|voice| known_voices.contains(*voice));
        let number = *self.appeared.get(&speaker.identity)?;
        let turn = (!voices.is_empty()).then(|| &voices[number % voices.len()]);
        wish.or(turn).cloned()
    }

    /// What the plane and the speaker should know.
    pub(super) fn picture(&self, room: &RoomState) -> Picture {
        let mut picture = Picture::default();
        for member in room.members.iter().filter(|member| member.connected) {
            if member.is_on_floor() && !room.is_silenced(member) {
                picture.floor.insert(member.peer);
            }
            let programme = match member.station.filter(|_| member.listens) {
                Some(Station::Floor) => Programme::Floor,
                Some(Station::Channel(language)) => {
                    let Some(booth) = self.booths.get(&language) else { continue };
                    let original = GainStep::nearest(member.original_gain);
                    Programme::Channel { channel: booth.id, original }
                }
                None => continue,
            };
            picture.tuned.insert(member.peer, (programme, room.own_sound(member)));
        }
        for booth in self.booths.values() {
            let language = booth.spec.language;
            if !has_listeners(room, language, None) {
                continue;
            }
            picture.open.insert(booth.id, booth.source(room));
            // The first voice is needed soon, whoever speaks.
            picture.voices.insert((language, booth.spec.voices.first().cloned()));
            let speakers = room.members.iter().filter(|member| {
                member.connected && member.is_on_floor() && member.language != language
            });
            picture.voices.extend(speakers.map(|speaker| (language, self.voice(booth, speaker))));
        }
        picture
    }

    fn booth_of(&mut self, channel: ChannelId) -> Option<&mut Booth> {
        self.booths.values_mut().find(|booth| booth.id == channel)
    }
}

impl Booth {
    /// Whose own sound is on the channel; the machine's when nobody's.
    fn source(&self, room: &RoomState) -> Option<PeerId> {
        let language = self.spec.language;
        let can_be_heard =
            |member: &&Member| member.connected && member.speaks && !room.is_silenced(member);
        let humans = || room.members.iter().filter(can_be_heard);
        let interpreter = humans().find(|member| member.interprets == Some(language));
        let is_native = |member: &&Member| member.is_on_floor() && member.language == language;
        let speaks = |member: &&Member| room.speaking.contains(&member.peer);

        if let Some(interpreter) = interpreter.filter(speaks) {
            return Some(interpreter.peer);
        }
        let first = room.speaking.iter().find_map(|speaking| {
            humans().filter(is_native).find(|member| member.peer == *speaking)
        });
        if let Some(native) = first {
            return Some(native.peer);
        }
        if self.machine_wants {
            return None;
        }
        let last = humans().filter(is_native).find(|member| self.native == Some(member.peer));
        let idle = interpreter.or(last).or_else(|| humans().find(is_native));
        idle.map(|member| member.peer)
    }
}

impl RoomState {
    /// Who brings a listener's own sound: the one session in which the same person speaks.
    fn own_sound(&self, listener: &Member) -> PeerId {
        let speaks = |member: &&Member| member.speaks && member.identity == listener.identity;
        self.members.iter().find(speaks).unwrap_or(listener).peer
    }

    /// A human interpreter begins to speak: the channel is theirs. Who speaks a channel's own
    /// language is remembered.
    pub(super) fn take_channel(&mut self, peer: PeerId, now: Instant) {
        let Some(member) = self.members.iter().find(|member| member.peer == peer) else { return };
        let Some(conference) = self.conference.as_mut() else { return };
        let Some(booth) = conference.booths.get_mut(&member.language) else { return };
        if member.interprets.is_none() {
            booth.native = Some(peer);
            return;
        }
        if booth.shift.is_none() {
            self.once.push(Order::Silence(booth.id));
            self.events.emit(EventKind::ChannelInterpreter {
                channel: member.language.to_string(),
                interpreter: Some(member.identity.clone()),
            });
        }
        booth.shift = Some(Shift { peer, spoke: now });
    }

    /// A human interpreter makes a pause.
    pub(super) fn rest(&mut self, peer: PeerId, now: Instant) {
        let shifts = self.conference.iter_mut().flat_map(|conference| {
            conference.booths.values_mut().filter_map(|booth| booth.shift.as_mut())
        });
        for shift in shifts.filter(|shift| shift.peer == peer) {
            shift.spoke = now;
        }
    }

    /// A human interpreter cannot be heard any more: the machine has the channel again.
    pub(super) fn relieve(&mut self, peer: PeerId) {
        self.end_shifts(|shift| shift.peer == peer);
    }

    /// Gives channels back whose human has been silent for `hold`. Whether there were any.
    pub(super) fn tick(&mut self, now: Instant, hold: Duration) -> bool {
        let speaking = self.speaking.clone();
        self.end_shifts(|shift| {
            let silent = now.saturating_duration_since(shift.spoke);
            silent >= hold && !speaking.contains(&shift.peer)
        })
    }

    fn end_shifts(&mut self, is_over: impl Fn(&Shift) -> bool) -> bool {
        let Some(conference) = self.conference.as_mut() else { return false };
        let mut any = false;
        for booth in conference.booths.values_mut() {
            if booth.shift.take_if(|shift| is_over(shift)).is_some() {
                any = true;
                let channel = booth.spec.language.to_string();
                self.events.emit(EventKind::ChannelInterpreter { channel, interpreter: None });
            }
        }
        any
    }

    /// The machine has something to say on a channel, or nothing any more.
    pub(super) fn machine_wants(&mut self, channel: ChannelId, wants: bool) {
        let conference = self.conference.as_mut();
        if let Some(booth) = conference.and_then(|conference| conference.booth_of(channel)) {
            booth.machine_wants = wants;
        }
    }

    /// Whether the room has this channel.
    pub(super) fn owns(&self, channel: ChannelId) -> bool {
        let mut booths = self.conference.iter().flat_map(|conference| conference.booths.values());
        booths.any(|booth| booth.id == channel)
    }
}

/// Whether anybody but `speaker` themselves listens to a channel.
fn has_listeners(room: &RoomState, language: Language, speaker: Option<&Member>) -> bool {
    room.members.iter().any(|member| {
        member.connected
            && member.listens
            && member.station == Some(Station::Channel(language))
            && speaker.is_none_or(|speaker| speaker.identity != member.identity)
    })
}

#[cfg(test)]
#[path = "conference_tests.rs"]
mod tests;
