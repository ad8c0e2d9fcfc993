//! What a call makes of its members: each hears the others' originals and, in another language,
//! their interpretation.

use std::collections::BTreeMap;

use inference::Language;

use super::membership::Member;
use super::orders::Level;
use super::room::RoomState;
use crate::media::PeerId;

impl RoomState {
    /// Languages that the speech of `speaker` is wanted in, and by whom.
    pub(super) fn call_targets(&self, speaker: &Member) -> BTreeMap<Language, Vec<PeerId>> {
        let mut targets: BTreeMap<Language, Vec<PeerId>> = BTreeMap::new();
        for member in self.interpreted_for(speaker) {
            targets.entry(member.hear).or_default().push(member.peer);
        }
        targets
    }

    /// Whether anybody wants the speech of `speaker` in another language.
    pub(super) fn is_interpreted(&self, speaker: &Member) -> bool {
        self.interpreted_for(speaker).next().is_some()
    }

    /// Who hears another language than `speaker` speaks.
    fn interpreted_for<'a>(&'a self, speaker: &'a Member) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| {
            let hears = member.listens && member.connected && member.identity != speaker.identity;
            speaker.speaks && hears && member.hear != speaker.language
        })
    }

    /// The voice for each language: the one that its first listener asked for. A language is spoken
    /// once, so a second listener's wish is not heard.
    pub(super) fn call_voices(&self) -> BTreeMap<Language, String> {
        let mut voices = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.listens && member.connected) {
            if let Some(voice) = &member.voice {
                voices.entry(member.hear).or_insert_with(|| voice.clone());
            }
        }
        voices
    }

    /// Who hears whose original, and how loud. Never oneself, and nobody who is muted.
    pub(super) fn call_routes(&self) -> BTreeMap<(PeerId, PeerId), Level> {
        let connected = |member: &&Member| member.connected;
        let mut routes = BTreeMap::new();
        for listener in self.members.iter().filter(connected).filter(|member| member.listens) {
            for source in self.members.iter().filter(connected).filter(|member| member.speaks) {
                if source.identity != listener.identity && !self.is_silenced(source) {
                    let same = listener.hear == source.language;
                    let gain = if same { 1.0 } else { listener.original_gain };
                    routes.insert((listener.peer, source.peer), Level { gain, duck: !same });
                }
            }
        }
        routes
    }
}
