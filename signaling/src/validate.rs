//! The shapes of names and values that cross the border: a check per field, before the house sees
//! it. What depends on the house (which languages exist, how many rooms there may be) is its own.

use crate::wire::{CreateRoom, CreateToken, FLOOR, Grants, OWN_VOICE, VoiceInfo};

/// Most characters of a room's name.
pub(crate) const MAX_ROOM_NAME: usize = 64;
/// Most characters of an identity.
pub(crate) const MAX_IDENTITY: usize = 64;
/// Most characters of a display name.
pub(crate) const MAX_DISPLAY_NAME: usize = 128;
/// Most characters of a language tag (RFC 5646 §4.4.1).
pub(crate) const MAX_LANGUAGE: usize = 35;
/// What [`language`] takes, as a regular expression; its length is [`MAX_LANGUAGE`].
pub(crate) const LANGUAGE_PATTERN: &str = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$";
/// Most characters of a voice's name.
pub(crate) const MAX_VOICE: usize = 64;
/// Most languages a room may name.
pub(crate) const MAX_LANGUAGES: usize = 64;
/// Most participants a room may ask for.
pub(crate) const MAX_PARTICIPANTS: usize = 10_000;
/// Longest that a room may stay empty, seconds: a year.
pub(crate) const MAX_TIMEOUT_S: u64 = 365 * 24 * 3600;
/// Shortest lifetime of a token, seconds.
pub(crate) const MIN_TTL_S: u64 = 10;
/// Longest lifetime of a token, seconds: a week.
pub(crate) const MAX_TTL_S: u64 = 7 * 24 * 3600;

/// `[A-Za-z0-9_-]{1,64}`.
pub(crate) fn room_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.is_empty() || name.len() > MAX_ROOM_NAME || !name.chars().all(allowed) {
        return Err("a room's name is 1 to 64 of A-Z, a-z, 0-9, _ and -".to_owned());
    }
    Ok(())
}

/// `[A-Za-z0-9_.@-]{1,64}`.
pub(crate) fn identity(identity: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    if identity.is_empty() || identity.len() > MAX_IDENTITY || !identity.chars().all(allowed) {
        return Err("an identity is 1 to 64 of A-Z, a-z, 0-9, _, ., @ and -".to_owned());
    }
    Ok(())
}

/// 1 to 128 characters, none of them a control character.
pub(crate) fn display_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if length == 0 || length > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        return Err("a display name is 1 to 128 characters without control characters".to_owned());
    }
    Ok(())
}

/// The shape of a BCP 47 tag: subtags of 1 to 8 letters or digits, the first of 2 to 8 letters.
pub(crate) fn language(tag: &str) -> Result<(), String> {
    let mut subtags = tag.split('-');
    let primary = subtags.next().unwrap_or_default();
    let well_formed = tag.len() <= MAX_LANGUAGE
        && (2..=8).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|subtag| {
            (1..=8).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric())
        });
    if well_formed {
        Ok(())
    } else {
        Err("a language is a BCP 47 tag such as en, es or pt-BR".to_owned())
    }
}

/// The shape of a voice's name: 1 to 64 visible ASCII characters.
pub(crate) fn voice_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_graphic();
    if name.is_empty() || name.len() > MAX_VOICE || !name.chars().all(allowed) {
        return Err("a voice is one of the names of GET /v1/voices".to_owned());
    }
    Ok(())
}

/// The shape of a learned voice's name: letters, digits, `_`, `.` and `-`, of which the last three do
/// not begin it. `own` has another meaning.
pub(crate) fn learned_voice_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins_well || name.len() > MAX_VOICE || !name.chars().all(allowed) {
        let shape = "1 to 64 of A-Z, a-z, 0-9, _, . and -, the first a letter or digit";
        return Err(format!("a learned voice's name is {shape}"));
    }
    if name == OWN_VOICE {
        return Err(format!("{OWN_VOICE:?} means a participant's own voice: take another name"));
    }
    Ok(())
}

/// Two tags are one language when their primary subtags are; the floor is like no language.
pub(crate) fn same_language(one: &str, other: &str) -> bool {
    let primary = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
    primary(one) == primary(other)
}

/// Whether a voice exists and speaks the language heard.
pub(crate) fn voice(known: &[VoiceInfo], hear: &str, name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let mut speakers =
        known.iter().filter(|voice| same_language(&voice.language, hear)).map(|voice| &voice.name);
    if speakers.clone().any(|speaker| speaker == name) {
        return Ok(());
    }
    let some = speakers.by_ref().take(5).cloned().collect::<Vec<_>>().join(", ");
    Err(match (some.as_str(), speakers.next()) {
        ("", _) => format!("voice: no voice speaks {hear}: leave it out"),
        (all, None) => format!("voice: {name:?} does not speak {hear}: take one of {all}"),
        (some, Some(_)) => format!(
            "voice: {name:?} does not speak {hear}: take one of {some} or another of GET /v1/voices"
        ),
    })
}

/// Whether whoever asks for their own voice has agreed to it.
pub(crate) fn own_voice(voice: &str, grants: &Grants) -> Result<(), String> {
    if voice != OWN_VOICE || grants.own_voice {
        return Ok(());
    }
    Err(format!(
        "{OWN_VOICE:?} needs the grant own_voice, which says that the participant has agreed to their \
         voice being learned"
    ))
}

/// A gain is between 0 and 1.
pub(crate) fn gain(gain: f32) -> Result<(), String> {
    if (0.0..=1.0).contains(&gain) { Ok(()) } else { Err("the gain is between 0 and 1".to_owned()) }
}

/// The shape of a channel to listen to: a language or the floor.
pub(crate) fn channel(name: &str) -> Result<(), String> {
    if name == FLOOR || language(name).is_ok() {
        return Ok(());
    }
    Err(format!("a channel is a language such as es or pt-BR, or {FLOOR:?}"))
}

/// The channels that a token may name. An interpreter speaks into a language, never the floor.
pub(crate) fn grants(grants: &Grants) -> Result<(), String> {
    let channels = grants.channels.as_deref().unwrap_or_default();
    if channels.len() > MAX_LANGUAGES || grants.interpret.len() > MAX_LANGUAGES {
        return Err(format!("channels and interpret: at most {MAX_LANGUAGES} can be named"));
    }
    for name in channels {
        channel(name).map_err(|problem| format!("channels: {problem}"))?;
    }
    for name in &grants.interpret {
        let floor = "one interprets into a language: leave the floor out".to_owned();
        let checked = if name == FLOOR { Err(floor) } else { language(name) };
        checked.map_err(|problem| format!("interpret: {problem}"))?;
    }
    Ok(())
}

/// Every field of a request for a room.
pub(crate) fn create_room(request: &CreateRoom) -> Result<(), String> {
    if let Some(name) = &request.name {
        room_name(name).map_err(|problem| format!("name: {problem}"))?;
    }
    if request.languages.len() > MAX_LANGUAGES {
        return Err(format!("languages: at most {MAX_LANGUAGES} can be named"));
    }
    for tag in &request.languages {
        language(tag).map_err(|problem| format!("languages: {problem}"))?;
    }
    if request.record.len() > MAX_LANGUAGES || request.relay.len() > MAX_LANGUAGES {
        return Err(format!("record, relay: at most {MAX_LANGUAGES} channels can be named"));
    }
    for tag in &request.record {
        language(tag).map_err(|problem| format!("record: {problem}"))?;
    }
    for (into, from) in &request.relay {
        language(into)
            .and_then(|()| language(from))
            .map_err(|problem| format!("relay: {problem}"))?;
        if same_language(into, from) {
            return Err("relay: a channel is not interpreted from itself".to_owned());
        }
    }
    if let Some(original_gain) = request.original_gain {
        gain(original_gain).map_err(|problem| format!("original_gain: {problem}"))?;
    }
    if let Some(participants) = request.max_participants
        && !(1..=MAX_PARTICIPANTS).contains(&participants)
    {
        return Err(format!("max_participants: between 1 and {MAX_PARTICIPANTS}"));
    }
    for (field, timeout_s) in [
        ("empty_timeout_s", request.empty_timeout_s),
        ("departure_timeout_s", request.departure_timeout_s),
    ] {
        if timeout_s.is_some_and(|timeout_s| timeout_s > MAX_TIMEOUT_S) {
            return Err(format!("{field}: between 0 and {MAX_TIMEOUT_S} seconds"));
        }
    }
    Ok(())
}

/// Every field of a request for a token.
pub(crate) fn create_token(request: &CreateToken) -> Result<(), String> {
    identity(&request.identity).map_err(|problem| format!("identity: {problem}"))?;
    if let Some(name) = &request.name {
        display_name(name).map_err(|problem| format!("name: {problem}"))?;
    }
    language(&request.language).map_err(|problem| format!("language: {problem}"))?;
    if let Some(hear) = &request.hear {
        language(hear).map_err(|problem| format!("hear: {problem}"))?;
    }
    if let Some(voice) = &request.voice {
        voice_name(voice).map_err(|problem| format!("voice: {problem}"))?;
        own_voice(voice, &request.grants).map_err(|problem| format!("voice: {problem}"))?;
    }
    grants(&request.grants).map_err(|problem| format!("grants.{problem}"))?;
    if let Some(ttl_s) = request.ttl_s
        && !(MIN_TTL_S..=MAX_TTL_S).contains(&ttl_s)
    {
        return Err(format!("ttl_s: between {MIN_TTL_S} and {MAX_TTL_S} seconds"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::VoiceKind;

    #[test]
    fn room_names_and_identities_keep_to_their_alphabets() {
        for good in ["a", "room-1", "A_b-9", &"x".repeat(64)] {
            assert!(room_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "a.b", "..", "a\n", &"x".repeat(65)] {
            assert!(room_name(bad).is_err(), "{bad:?}");
        }
        assert!(identity("ana.b@example-1_x").is_ok());
        for bad in ["", "a b", "é", "a:b", &"x".repeat(65)] {
            assert!(identity(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn language_tags_have_the_shape_of_bcp_47() {
        for good in ["en", "es", "pt-BR", "zh-Hant-TW", "yue", "de-CH-1996"] {
            assert!(language(good).is_ok(), "{good}");
        }
        for bad in ["", "e", "12", "en_US", "en-", "-en", "en--US", "englishlanguage", "en-é"] {
            assert!(language(bad).is_err(), "{bad:?}");
        }
        assert!(language(&format!("en{}", "-abcdefgh".repeat(4))).is_err());
    }

    #[test]
    fn a_voice_has_to_speak_the_language_heard() {
        let voice_of = |name: &str, language: &str| VoiceInfo {
            name: name.to_owned(),
            language: language.to_owned(),
            engine: "kokoro".to_owned(),
            kind: VoiceKind::BuiltIn,
        };
        let known = [voice_of("ef_dora", "es"), voice_of("af_heart", "en")];
        assert!(voice(&known, "es", None).is_ok());
        assert!(voice(&known, "es-MX", Some("ef_dora")).is_ok());
        let refused = voice(&known, "es", Some("af_heart")).unwrap_err();
        assert!(refused.contains("ef_dora") && !refused.contains("take one of af"), "{refused}");
        assert!(voice(&known, "es", Some("nobody")).unwrap_err().starts_with("voice"));
        assert!(voice(&known, "th", Some("nobody")).unwrap_err().contains("leave it out"));
    }

    #[test]
    fn a_learned_voice_is_called_like_a_file_and_not_own() {
        for good in ["ana", "Ana.2", "a-b_c", &"x".repeat(64)] {
            assert!(learned_voice_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".ana", "-a", "~a", "a b", "a/b", "á", &"x".repeat(65)] {
            assert!(learned_voice_name(bad).is_err(), "{bad:?}");
        }
        assert!(learned_voice_name("own").unwrap_err().contains("own voice"));
    }

    #[test]
    fn the_own_voice_needs_its_grant() {
        assert!(own_voice("own", &Grants::default()).unwrap_err().contains("own_voice"));
        assert!(own_voice("ef_dora", &Grants::default()).is_ok());
        assert!(own_voice("own", &Grants { own_voice: true, ..Grants::default() }).is_ok());
    }

    #[test]
    fn a_gain_outside_its_range_is_named() {
        for gain in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
            let request = CreateRoom { original_gain: Some(gain), ..CreateRoom::default() };
            assert!(create_room(&request).unwrap_err().starts_with("original_gain"), "{gain}");
        }
        for gain in [0.0, 0.2, 1.0] {
            let request = CreateRoom { original_gain: Some(gain), ..CreateRoom::default() };
            assert!(create_room(&request).is_ok(), "{gain}");
        }
    }
}
