//! What the server did with what it heard, put together from a room's events.

use std::collections::BTreeMap;
use std::time::Instant;

use signaling::wire::{Event, EventKind, Trace};

/// One utterance, as far as its events have come.
#[derive(Clone, Debug)]
pub struct Utterance {
    /// Its id.
    pub id: String,
    /// Identity of the speaker.
    pub speaker: String,
    /// When its first event came.
    pub began: Instant,
    /// What was understood.
    pub transcript: Option<Transcript>,
    /// What it became, by language: the text and the translator's name.
    pub translations: BTreeMap<String, (String, String)>,
    /// Where it was spoken, by the listener's identity.
    pub spoken: BTreeMap<String, Spoken>,
    /// Why it was not spoken, and a sentence about it.
    pub dropped: Option<(String, String)>,
    /// Where the time went, as the last event that tells it knew.
    pub trace: Option<Trace>,
}

/// What was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// The text.
    pub text: String,
    /// RTP timestamp, on the speaker's clock, of the last voiced sample.
    pub last_voiced_rtp: u32,
    /// When the event came.
    pub at: Instant,
}

/// The first translated packet for a listener.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spoken {
    /// Its RTP timestamp.
    pub rtp_timestamp: u32,
    /// All stage times.
    pub trace: Trace,
}

/// The utterances of a room, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    utterances: Vec<Utterance>,
    last_at: Option<Instant>,
}

impl Ledger {
    /// Takes an event that arrived at an instant.
    pub fn note(&mut self, event: &Event, at: Instant) {
        let utterance = match &event.kind {
            EventKind::UtteranceStarted { utterance }
            | EventKind::UtterancePartial { utterance, .. }
            | EventKind::UtteranceTranscript { utterance, .. }
            | EventKind::UtteranceTranslation { utterance, .. }
            | EventKind::UtteranceSpoken { utterance, .. }
            | EventKind::UtteranceDropped { utterance, .. } => utterance,
            EventKind::RoomStarted { .. }
            | EventKind::RoomEnded { .. }
            | EventKind::ParticipantJoined { .. }
            | EventKind::ParticipantLeft { .. }
            | EventKind::ParticipantMuted { .. }
            | EventKind::ParticipantVoice { .. }
            | EventKind::ChannelInterpreter { .. }
            | EventKind::ServerTier { .. } => return,
        };
        self.last_at = Some(at);
        let entry = self.entry(&utterance.utterance, &utterance.speaker, at);
        match &event.kind {
            EventKind::UtteranceTranscript { text, last_voiced_rtp, trace, .. } => {
                let last_voiced_rtp = *last_voiced_rtp;
                entry.transcript = Some(Transcript { text: text.clone(), last_voiced_rtp, at });
                entry.trace = Some(*trace);
            }
            EventKind::UtteranceTranslation { language, text, translator, trace, .. } => {
                entry.translations.insert(language.clone(), (text.clone(), translator.clone()));
                // The translation may be whole only after its first clause was spoken.
                if entry.spoken.is_empty() {
                    entry.trace = Some(*trace);
                }
            }
            EventKind::UtteranceSpoken { listener, rtp_timestamp, trace, .. } => {
                let spoken = Spoken { rtp_timestamp: *rtp_timestamp, trace: *trace };
                entry.spoken.insert(listener.clone(), spoken);
                entry.trace = Some(*trace);
            }
            EventKind::UtteranceDropped { reason, detail, .. } => {
                entry.dropped = Some((reason.clone(), detail.clone()));
            }
            _ => {}
        }
    }

    fn entry(&mut self, id: &str, speaker: &str, at: Instant) -> &mut Utterance {
        let known = self.utterances.iter().rposition(|utterance| utterance.id == id);
        let index = known.unwrap_or_else(|| {
            self.utterances.push(Utterance {
                id: id.to_owned(),
                speaker: speaker.to_owned(),
                began: at,
                transcript: None,
                translations: BTreeMap::new(),
                spoken: BTreeMap::new(),
                dropped: None,
                trace: None,
            });
            self.utterances.len() - 1
        });
        &mut self.utterances[index]
    }

    /// The utterances of all.
    pub fn all(&self) -> impl Iterator<Item = &Utterance> {
        self.utterances.iter()
    }

    /// The utterances of one speaker.
    pub fn of<'a>(
        &'a self,
        speaker: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a Utterance> + Clone {
        self.utterances.iter().filter(move |utterance| utterance.speaker == speaker)
    }

    /// When the last event about an utterance came.
    #[must_use]
    pub fn last_at(&self) -> Option<Instant> {
        self.last_at
    }
}

impl Utterance {
    /// Whether this listener has it, or nobody will.
    #[must_use]
    pub fn is_over_for(&self, listener: &str) -> bool {
        self.spoken.contains_key(listener) || self.dropped.is_some()
    }
}
