//! What the engine makes of an utterance, on its way into events and to the speaker.

use std::sync::Arc;

use inference::Language;
use inference::translate::Translation;
use inference::whisper::Transcript;
use signaling::wire::{EventKind, PartialStage};

use super::Shared;
use crate::engine::{DropReason, Observer, Partial, Tier, UtteranceId};
use crate::trace::Times;

/// Receives what the engine makes of a segment.
pub(super) struct EngineObserver(pub(super) Arc<Shared>);

impl Observer for EngineObserver {
    fn partial(&self, utterance: UtteranceId, language: Language, text: &str, stage: Partial) {
        let shared = &self.0;
        let Some((room, reference)) = shared.stories.lock().reference(utterance) else { return };
        shared.emit(
            &room,
            EventKind::UtterancePartial {
                utterance: reference,
                language: language.to_string(),
                text: text.to_owned(),
                stage: match stage {
                    Partial::Transcript => PartialStage::Transcript,
                    Partial::Translation => PartialStage::Translation,
                },
            },
        );
    }

    fn transcribed(&self, utterance: UtteranceId, transcript: &Transcript, times: &Times) {
        let shared = &self.0;
        shared.metrics.worked("transcribe");
        let Some((room, reference, first, last)) = shared.stories.lock().spoken_span(utterance)
        else {
            return;
        };
        shared.keep_transcript(&room, &reference, transcript, (first, last));
        shared.emit(
            &room,
            EventKind::UtteranceTranscript {
                utterance: reference,
                language: transcript.language.to_string(),
                text: transcript.text.clone(),
                first_voiced_rtp: first.rtp_timestamp,
                last_voiced_rtp: last.rtp_timestamp,
                trace: times.trace(),
            },
        );
    }

    fn translated(
        &self,
        utterance: UtteranceId,
        language: Language,
        translation: &Translation,
        times: &Times,
    ) {
        let shared = &self.0;
        shared.metrics.worked("translate");
        let Some((room, reference)) = shared.stories.lock().reference(utterance) else { return };
        shared.keep_translation(&room, &reference, language, translation);
        shared.emit(
            &room,
            EventKind::UtteranceTranslation {
                utterance: reference,
                language: language.to_string(),
                text: translation.text.clone(),
                translator: translation.translator.clone(),
                trace: times.trace(),
            },
        );
        shared.translation_told(utterance, language);
    }

    fn speech(
        &self,
        utterance: UtteranceId,
        language: Language,
        at_48k: u64,
        samples_48k: &[f32],
        times: &Times,
    ) {
        let outlets = self.0.stories.lock().speech(utterance, language, times);
        if let Some(outlets) = outlets {
            self.0.speaker.speech(utterance, outlets, at_48k, samples_48k);
        }
    }

    fn spoken(&self, utterance: UtteranceId, language: Language, times: &Times) {
        self.0.metrics.worked("speak");
        let outlets = self.0.stories.lock().speech(utterance, language, times);
        if let Some(outlets) = outlets {
            self.0.speaker.end(utterance, outlets);
        }
    }

    fn dropped(
        &self,
        utterance: UtteranceId,
        language: Option<Language>,
        reason: DropReason,
        detail: &str,
    ) {
        let Some(language) = language else {
            self.0.end_everywhere(utterance);
            self.0.utterance_dropped(utterance, reason, detail);
            return;
        };
        let outlets = self.0.stories.lock().outlets(utterance, language);
        if let Some(outlets) = outlets {
            self.0.speaker.end(utterance, outlets);
        }
        self.0.translation_told(utterance, language);
        self.0.utterance_dropped(utterance, reason, detail);
    }

    fn tier(&self, tier: Tier) {
        let mut state = self.0.state.lock();
        state.tier = tier;
        for room in state.rooms.values_mut() {
            room.events.emit(EventKind::ServerTier { tier: tier.label().to_owned() });
        }
    }
}
