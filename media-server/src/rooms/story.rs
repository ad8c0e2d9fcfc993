//! What is known of every utterance that is on its way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{CancelToken, Language};
use signaling::wire::UtteranceRef;

use crate::engine::UtteranceId;
use crate::listener::Mark;
use crate::media::PeerId;
use crate::speaker::Outlet;
use crate::trace::Times;

/// A story this old is over, whatever happened to it.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// Languages wanted, and where each is heard: nowhere when its text alone is wanted.
pub(super) type Targets = Vec<(Language, Arc<[Outlet]>)>;

struct Story {
    room: String,
    reference: UtteranceRef,
    speaker: PeerId,
    born: Instant,
    span: Option<(Mark, Mark)>,
    outlets: BTreeMap<Language, Arc<[Outlet]>>,
    voiced: bool,
    times: BTreeMap<Language, Times>,
    /// Languages whose translation was told, or never will be.
    told: BTreeSet<Language>,
    /// First packets that left before the whole translation was there.
    held: Vec<FirstPacket>,
    cancel: CancelToken,
}

/// The first translated packet of an utterance for one listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstPacket {
    pub(super) utterance: UtteranceId,
    pub(super) language: Language,
    pub(super) peer: PeerId,
    pub(super) rtp_timestamp: u32,
    pub(super) sent: Instant,
}

/// All stories that are not forgotten yet.
#[derive(Default)]
pub(super) struct Stories(HashMap<UtteranceId, Story>);

impl Stories {
    /// An utterance began.
    pub(super) fn begin(
        &mut self,
        utterance: UtteranceId,
        speaker: PeerId,
        room: String,
        reference: UtteranceRef,
        voiced: bool,
    ) {
        let now = Instant::now();
        self.0.retain(|_, story| now.duration_since(story.born) < FORGET_AFTER);
        self.0.insert(
            utterance,
            Story {
                room,
                reference,
                speaker,
                born: now,
                span: None,
                outlets: BTreeMap::new(),
                voiced,
                times: BTreeMap::new(),
                told: BTreeSet::new(),
                held: Vec::new(),
                cancel: CancelToken::new(),
            },
        );
    }

    /// It ended and is about to be recognised. Whether it is to be spoken, or captioned only.
    pub(super) fn ended(
        &mut self,
        utterance: UtteranceId,
        targets: Targets,
        first_voiced: Mark,
        last_voiced: Mark,
        cancel: CancelToken,
    ) -> bool {
        let Some(story) = self.0.get_mut(&utterance) else { return true };
        story.outlets = targets.into_iter().collect();
        story.span = Some((first_voiced, last_voiced));
        story.cancel = cancel;
        story.voiced
    }

    /// Room and reference, for an event.
    pub(super) fn reference(&self, utterance: UtteranceId) -> Option<(String, UtteranceRef)> {
        let story = self.0.get(&utterance)?;
        Some((story.room.clone(), story.reference.clone()))
    }

    /// Room, reference and the first and last voiced samples.
    pub(super) fn spoken_span(
        &self,
        utterance: UtteranceId,
    ) -> Option<(String, UtteranceRef, Mark, Mark)> {
        let story = self.0.get(&utterance)?;
        let (first, last) = story.span?;
        Some((story.room.clone(), story.reference.clone(), first, last))
    }

    /// Notes the times of an utterance's speech and says where it is heard.
    pub(super) fn speech(
        &mut self,
        utterance: UtteranceId,
        language: Language,
        times: &Times,
    ) -> Option<Arc<[Outlet]>> {
        let story = self.0.get_mut(&utterance)?;
        story.times.insert(language, *times);
        story.outlets.get(&language).cloned()
    }

    /// Where an utterance is heard in a language.
    pub(super) fn outlets(
        &self,
        utterance: UtteranceId,
        language: Language,
    ) -> Option<Arc<[Outlet]>> {
        self.0.get(&utterance)?.outlets.get(&language).cloned()
    }

    /// Where an utterance is heard, for each language.
    pub(super) fn all_outlets(&self, utterance: UtteranceId) -> Vec<Arc<[Outlet]>> {
        self.0.get(&utterance).map_or(Vec::new(), |story| story.outlets.values().cloned().collect())
    }

    /// Reference and latest times of an utterance in a language.
    pub(super) fn times(
        &self,
        utterance: UtteranceId,
        language: Language,
    ) -> Option<(UtteranceRef, Times)> {
        let story = self.0.get(&utterance)?;
        Some((story.reference.clone(), *story.times.get(&language)?))
    }

    /// Keeps a first packet until the translation was told, so that an utterance's events come in
    /// one order although its first clause is heard before its last is translated. Gives it back
    /// when it can be told now.
    pub(super) fn hold(&mut self, packet: FirstPacket) -> Option<FirstPacket> {
        match self.0.get_mut(&packet.utterance) {
            Some(story) if !story.told.contains(&packet.language) => {
                story.held.push(packet);
                None
            }
            _ => Some(packet),
        }
    }

    /// The translation into a language was told, or will not come: what waited for it goes on.
    pub(super) fn told(&mut self, utterance: UtteranceId, language: Language) -> Vec<FirstPacket> {
        let Some(story) = self.0.get_mut(&utterance) else { return Vec::new() };
        story.told.insert(language);
        story.held.extract_if(.., |packet| packet.language == language).collect()
    }

    /// The speaker left: what they said is not worth finishing.
    pub(super) fn cancel_of(&mut self, speaker: PeerId) {
        for story in self.0.values().filter(|story| story.speaker == speaker) {
            story.cancel.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_packet_waits_until_the_translation_was_told() {
        let utterance = UtteranceId(7);
        let reference =
            UtteranceRef { utterance: utterance.to_string(), speaker: "anna".to_owned() };
        let mut stories = Stories::default();
        stories.begin(utterance, PeerId(1), "room".to_owned(), reference, true);
        let packet = FirstPacket {
            utterance,
            language: Language::ES,
            peer: PeerId(2),
            rtp_timestamp: 960,
            sent: Instant::now(),
        };
        assert!(stories.hold(packet).is_none());
        assert!(stories.told(utterance, Language::EN).is_empty(), "another language's translation");
        assert_eq!(stories.told(utterance, Language::ES).len(), 1);
        assert!(stories.told(utterance, Language::ES).is_empty(), "told once");
        assert!(stories.hold(packet).is_some(), "nothing to wait for any more");
    }
}
