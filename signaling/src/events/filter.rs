//! Which of a room's events a client wants and may have.

use crate::wire::{Event, EventKind, FLOOR};

/// Every type of event.
const TYPES: [&str; 14] = [
    "room.started",
    "room.ended",
    "participant.joined",
    "participant.left",
    "participant.muted",
    "participant.voice",
    "channel.interpreter",
    "utterance.started",
    "utterance.partial",
    "utterance.transcript",
    "utterance.translation",
    "utterance.spoken",
    "utterance.dropped",
    "server.tier",
];

/// A choice of events. The default takes all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Types wanted; `None` wants all.
    types: Option<Vec<&'static str>>,
    /// The language whose captions are wanted; `None` wants all.
    language: Option<String>,
    /// Channels whose captions may be read; `None` allows all.
    channels: Option<Vec<String>>,
}

impl Filter {
    /// # Errors
    /// Names the type that there is not.
    pub(super) fn parse(language: Option<String>, types: Option<&str>) -> Result<Self, String> {
        let types = types.map(parse_types).transpose()?;
        Ok(Self { types, language, channels: None })
    }

    /// Leaves out the captions of channels that the client may not listen to.
    pub(super) fn within(self, channels: Option<&[String]>) -> Self {
        Self { channels: channels.map(<[String]>::to_vec), ..self }
    }

    pub(super) fn takes(&self, event: &Event) -> bool {
        let name = type_of(&event.kind);
        if self.types.as_ref().is_some_and(|types| !types.contains(&name)) {
            return false;
        }
        let Some(language) = caption_language(&event.kind) else { return true };
        let is_wanted = self.language.as_deref().is_none_or(|wanted| wanted == language);
        let is_original = matches!(event.kind, EventKind::UtteranceTranscript { .. });
        let is_allowed = self.channels.as_ref().is_none_or(|channels| {
            channels.iter().any(|channel| channel == language || is_original && channel == FLOOR)
        });
        is_wanted && is_allowed
    }
}

fn parse_types(list: &str) -> Result<Vec<&'static str>, String> {
    let mut wanted = Vec::new();
    for pattern in list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()) {
        let before = wanted.len();
        wanted.extend(TYPES.iter().filter(|name| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => **name == pattern,
        }));
        if wanted.len() == before {
            return Err(format!("types: there is no event {pattern:?}; there are {TYPES:?}"));
        }
    }
    Ok(wanted)
}

/// The type as it stands on the wire.
pub(super) fn type_of(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::RoomStarted { .. } => "room.started",
        EventKind::RoomEnded { .. } => "room.ended",
        EventKind::ParticipantJoined { .. } => "participant.joined",
        EventKind::ParticipantLeft { .. } => "participant.left",
        EventKind::ParticipantMuted { .. } => "participant.muted",
        EventKind::ParticipantVoice { .. } => "participant.voice",
        EventKind::ChannelInterpreter { .. } => "channel.interpreter",
        EventKind::UtteranceStarted { .. } => "utterance.started",
        EventKind::UtterancePartial { .. } => "utterance.partial",
        EventKind::UtteranceTranscript { .. } => "utterance.transcript",
        EventKind::UtteranceTranslation { .. } => "utterance.translation",
        EventKind::UtteranceSpoken { .. } => "utterance.spoken",
        EventKind::UtteranceDropped { .. } => "utterance.dropped",
        EventKind::ServerTier { .. } => "server.tier",
    }
}

/// The language of a text that is shown as a caption.
fn caption_language(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::UtterancePartial { language, .. }
        | EventKind::UtteranceTranscript { language, .. }
        | EventKind::UtteranceTranslation { language, .. } => Some(language),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::{PartialStage, Trace, UtteranceRef};

    fn event(kind: EventKind) -> Event {
        Event { seq: 1, time_ms: 1, room: "r".to_owned(), kind }
    }

    fn utterance() -> UtteranceRef {
        UtteranceRef { utterance: "utt-1".to_owned(), speaker: "ana".to_owned() }
    }

    fn transcript(language: &str) -> Event {
        event(EventKind::UtteranceTranscript {
            utterance: utterance(),
            language: language.to_owned(),
            text: String::new(),
            first_voiced_rtp: 0,
            last_voiced_rtp: 0,
            trace: Trace::default(),
        })
    }

    fn translation(language: &str) -> Event {
        event(EventKind::UtteranceTranslation {
            utterance: utterance(),
            language: language.to_owned(),
            text: String::new(),
            translator: String::new(),
            trace: Trace::default(),
        })
    }

    fn partial(language: &str) -> Event {
        event(EventKind::UtterancePartial {
            utterance: utterance(),
            language: language.to_owned(),
            text: String::new(),
            stage: PartialStage::Transcript,
        })
    }

    fn started() -> Event {
        event(EventKind::UtteranceStarted { utterance: utterance() })
    }

    #[test]
    fn captions_of_another_language_are_left_out_and_nothing_else() {
        let filter = Filter::parse(Some("es".to_owned()), None).unwrap();
        assert!(filter.takes(&started()));
        for (language, wanted) in [("es", true), ("en", false)] {
            assert_eq!(filter.takes(&transcript(language)), wanted);
            assert_eq!(filter.takes(&translation(language)), wanted);
            assert_eq!(filter.takes(&partial(language)), wanted);
        }
    }

    #[test]
    fn captions_of_channels_that_may_not_be_heard_are_left_out() {
        let own = |channels: &[&str]| channels.iter().map(ToString::to_string).collect::<Vec<_>>();
        let spanish = Filter::default().within(Some(&own(&["es"])));
        assert!(spanish.takes(&translation("es")) && !spanish.takes(&translation("fr")));
        assert!(!spanish.takes(&transcript("en")));
        let floor = Filter::default().within(Some(&own(&["es", FLOOR])));
        assert!(floor.takes(&transcript("en")) && !floor.takes(&translation("fr")));
    }

    #[test]
    fn types_are_named_one_by_one_or_by_their_beginning() {
        let filter = Filter::parse(None, Some("utterance.translation, room.*")).unwrap();
        assert!(filter.takes(&translation("es")));
        assert!(filter.takes(&event(EventKind::RoomEnded { reason: "deleted".to_owned() })));
        assert!(!filter.takes(&transcript("es")) && !filter.takes(&started()));
        for wrong in ["utterance.translations", "*.joined", "x"] {
            let error = Filter::parse(None, Some(wrong)).unwrap_err();
            assert!(error.contains(wrong) && error.contains("room.started"), "{error}");
        }
    }

    #[test]
    fn an_event_is_called_what_it_says_on_the_wire() {
        for event in [started(), transcript("es"), translation("es"), partial("es")] {
            let sent = serde_json::to_value(&event).unwrap();
            assert_eq!(sent["type"], type_of(&event.kind));
            assert!(TYPES.contains(&type_of(&event.kind)));
        }
    }
}
