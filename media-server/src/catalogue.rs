//! What the models offer, as the HTTP faces list it.

use inference::Language;
use inference::translate::Translator as _;
use signaling::wire::{LanguageInfo, VoiceInfo, VoiceKind};

use crate::engine::Models;

/// Languages that can be translated from, each with those of its targets that are `wanted`.
pub fn languages(
    models: &Models,
    wanted: impl Fn(Language) -> bool,
) -> Vec<(Language, LanguageInfo)> {
    let wanted: Vec<Language> = Language::all().filter(|to| wanted(*to)).collect();
    Language::all()
        .map(|from| {
            let targets = wanted.iter().copied().filter(|to| *to != from);
            let targets = targets.filter(|to| models.translator.supports(from, *to));
            let targets: Vec<Language> = targets.collect();
            let own_voice = targets.iter().filter(|to| models.voices.learned_speak(**to));
            let info = LanguageInfo {
                code: from.to_string(),
                name: from.english_name().to_owned(),
                own_voice: own_voice.map(ToString::to_string).collect(),
                targets: targets.iter().map(ToString::to_string).collect(),
            };
            (from, info)
        })
        .filter(|(_, info)| !info.targets.is_empty())
        .collect()
}

/// Voices that can be asked for, the preferred engine's first.
pub fn voices(models: &Models) -> Vec<VoiceInfo> {
    let voices = models.voices.voices().into_iter();
    voices
        .map(|voice| VoiceInfo {
            name: voice.name,
            language: voice.language.to_string(),
            engine: voice.engine,
            kind: if voice.learned { VoiceKind::Learned } else { VoiceKind::BuiltIn },
        })
        .collect()
}
