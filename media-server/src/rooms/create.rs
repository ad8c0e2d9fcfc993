//! Judges the wish for a new room and makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use inference::Language;
use inference::translate::Translator;
use signaling::house::HouseError;
use signaling::wire::{CreateRoom, Room, RoomKind};
use uuid::Uuid;

use super::Shared;
use super::conference::BoothSpec;
use super::membership::check_gain;
use super::state::RoomSpec;
use crate::engine::Models;

impl Shared {
    pub(super) fn create_room(&self, request: CreateRoom) -> Result<Room, HouseError> {
        self.refuse_when_draining()?;
        let config = &self.config;
        let mut languages = Vec::new();
        for tag in &request.languages {
            let language: Language = tag.parse().map_err(|error: inference::UnknownLanguage| {
                HouseError::Invalid(error.to_string())
            })?;
            if !languages.contains(&language) {
                languages.push(language);
            }
        }
        let original_gain = request.original_gain.unwrap_or(config.original_gain);
        check_gain(original_gain)?;
        let most = match request.kind {
            RoomKind::Call => 2,
            RoomKind::Conference => config.max_participants,
        };
        let max_participants = request.max_participants.unwrap_or(most);
        if max_participants == 0 || max_participants > most {
            let detail = format!("max_participants lies between 1 and {most} for this kind");
            return Err(HouseError::Invalid(detail));
        }
        let booths = match request.kind {
            RoomKind::Call if request.record.is_empty() && request.relay.is_empty() => Vec::new(),
            RoomKind::Call => {
                let detail = "record and relay are about channels, and a call has none";
                return Err(HouseError::Invalid(detail.to_owned()));
            }
            RoomKind::Conference => {
                let mut booths = booths(&self.models.get(), &languages)?;
                record(&mut booths, &request.record)?;
                relay(&mut booths, &request.relay)?;
                booths
            }
        };
        let mut state = self.state.lock();
        if state.rooms.len() >= config.max_rooms {
            return Err(HouseError::Overloaded { retry_after_s: 30 });
        }
        let spec = RoomSpec {
            name: request.name.unwrap_or_else(|| Uuid::new_v4().simple().to_string()),
            kind: request.kind,
            languages,
            booths,
            original_gain,
            max_participants,
            empty_timeout_s: request.empty_timeout_s.unwrap_or(config.empty_timeout_s),
            departure_timeout_s: request.departure_timeout_s.unwrap_or(config.departure_timeout_s),
            keep_transcript: request.keep_transcript.unwrap_or(config.keep_transcripts),
        };
        state.create_room(spec, Instant::now())
    }
}

/// What each channel of a conference is made of.
fn booths(models: &Models, languages: &[Language]) -> Result<Vec<BoothSpec>, HouseError> {
    let booth = |language: Language| {
        let sources = sources(models, language);
        let is_possible = models.voices.supports(language) && !sources.is_empty();
        is_possible.then(|| {
            let voices = models.voices.voices();
            let own: Vec<_> = voices.iter().filter(|voice| voice.language == language).collect();
            // Speakers get the voices of the best engine alone, and nobody else's own.
            let built_in = || own.iter().filter(|voice| !voice.learned);
            let best = built_in().next().map(|voice| voice.engine.as_str());
            let in_turn = built_in().filter(|voice| Some(voice.engine.as_str()) == best);
            BoothSpec {
                language,
                sources,
                voices: in_turn.map(|voice| voice.name.clone()).collect(),
                known_voices: own.iter().map(|voice| voice.name.clone()).collect(),
                is_recorded: false,
                relay: None,
            }
        })
    };
    let mut booths = Vec::new();
    for language in languages {
        match booth(*language) {
            Some(booth) => booths.push(booth),
            None => {
                return Err(HouseError::Invalid(format!(
                    "{language} cannot be a channel of this server: {}",
                    possible(models)
                )));
            }
        }
    }
    if booths.is_empty() {
        let possible = possible(models);
        return Err(HouseError::Invalid(format!("a conference needs languages: {possible}")));
    }
    Ok(booths)
}

/// Notes which channels are recorded.
fn record(booths: &mut [BoothSpec], channels: &[String]) -> Result<(), HouseError> {
    for channel in channels {
        let index = index_of(booths, "record", channel)?;
        booths[index].is_recorded = true;
    }
    Ok(())
}

/// Notes which channels take relay from which.
fn relay(booths: &mut [BoothSpec], relays: &BTreeMap<String, String>) -> Result<(), HouseError> {
    for (into, from) in relays {
        let (into, from) = (index_of(booths, "relay", into)?, index_of(booths, "relay", from)?);
        let from = booths[from].language;
        let booth = &mut booths[into];
        if !booth.sources.contains(&from) {
            let detail =
                format!("relay: the machine cannot interpret {from} into {}", booth.language);
            return Err(HouseError::Invalid(detail));
        }
        booth.relay = Some(from);
    }
    Ok(())
}

fn index_of(booths: &[BoothSpec], field: &str, channel: &str) -> Result<usize, HouseError> {
    let language = channel.parse::<Language>().ok();
    let index = booths.iter().position(|booth| Some(booth.language) == language);
    index.ok_or_else(|| {
        let known: Vec<&str> = booths.iter().map(|booth| booth.language.code()).collect();
        let known = known.join(", ");
        HouseError::Invalid(format!(
            "{field}: {channel:?} is none of the room's channels ({known})"
        ))
    })
}

/// Languages that can be interpreted into `language`.
fn sources(models: &Models, language: Language) -> BTreeSet<Language> {
    Language::all()
        .filter(|from| *from != language && models.translator.supports(*from, language))
        .collect()
}

fn possible(models: &Models) -> String {
    let possible: Vec<&str> = Language::all()
        .filter(|language| models.voices.supports(*language))
        .filter(|language| !sources(models, *language).is_empty())
        .map(Language::code)
        .collect();
    format!("expected some of {}", possible.join(", "))
}
