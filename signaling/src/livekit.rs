//! Tokens with LiveKit's claims, so that the server SDKs made for LiveKit mint tokens for us, and
//! ours can be read by what reads theirs.
//!
//! `iss` is the name of an API key and the key itself signs (HS256). `sub` is the identity, `video`
//! holds the grants, and what LiveKit has no word for stands in `attributes`, as text: `language`,
//! `hear`, `voice`, `own_voice` (`true` where it is granted), and with commas between them `channels`
//! and `interpret`. `metadata` and other
//! claims are accepted and not used.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, Header};
use serde::{Deserialize, Serialize};

use crate::access::{Access, Service};
use crate::house::{Caller, Role};
use crate::key_ring::NamedKey;
use crate::tokens::{DEFAULT_TTL_S, TokenError, check, require_short_life, sign_with, unix_time_s};
use crate::validate;
use crate::wire::{CreateToken, Grants, Token};

/// What such a token says. Times are seconds since the Unix epoch, whole or not (RFC 7519 §2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LiveKitClaims {
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
    exp: f64,
    #[serde(default)]
    video: VideoGrants,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
}

/// The grants that have a meaning here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VideoGrants {
    room: String,
    room_join: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    room_create: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    room_list: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    room_admin: bool,
    /// Allowed when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    can_publish: Option<bool>,
    /// Allowed when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    can_subscribe: Option<bool>,
}

/// Makes a token for a participant of `room` with LiveKit's claims, valid from now on.
///
/// # Errors
/// [`TokenError::Invalid`] names the field that cannot be used.
pub fn mint_livekit_token(
    key: &NamedKey,
    room: &str,
    request: &CreateToken,
) -> Result<Token, TokenError> {
    mint_livekit_token_as_of(key, room, request, unix_time_s())
}

/// A token that says to be issued at `issued_at_s`, now or a moment later.
pub(crate) fn mint_livekit_token_as_of(
    key: &NamedKey,
    room: &str,
    request: &CreateToken,
    issued_at_s: u64,
) -> Result<Token, TokenError> {
    validate::room_name(room).map_err(TokenError::Invalid)?;
    validate::create_token(request).map_err(TokenError::Invalid)?;
    let now_s = unix_time_s();
    let expires_at_s = now_s + request.ttl_s.unwrap_or(DEFAULT_TTL_S);
    let grants = &request.grants;
    let attributes = [
        ("language", Some(request.language.clone())),
        ("hear", request.hear.clone()),
        ("voice", request.voice.clone()),
        ("channels", grants.channels.as_ref().map(|channels| channels.join(","))),
        ("own_voice", grants.own_voice.then(|| "true".to_owned())),
        ("interpret", (!grants.interpret.is_empty()).then(|| grants.interpret.join(","))),
    ];
    let claims = LiveKitClaims {
        iss: key.name().to_owned(),
        sub: request.identity.clone(),
        name: request.name.clone().unwrap_or_else(|| request.identity.clone()),
        iat: Some(seconds(issued_at_s)),
        nbf: Some(seconds(now_s)),
        exp: seconds(expires_at_s),
        video: VideoGrants {
            room: room.to_owned(),
            room_join: true,
            room_admin: grants.moderate,
            can_publish: Some(grants.speak),
            can_subscribe: Some(grants.listen),
            ..VideoGrants::default()
        },
        attributes: attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect(),
    };
    let header = Header::new(Algorithm::HS256);
    let token = sign_with(key.api_key().expose().as_bytes(), &header, &claims);
    Ok(Token { token, identity: claims.sub, expires_at_s })
}

impl LiveKitClaims {
    /// Checks signature, algorithm, issuer and times.
    pub(crate) fn verify(key: &NamedKey, token: &str) -> Result<Self, TokenError> {
        let secret = key.api_key().expose().as_bytes();
        let claims: Self = check(secret, key.name(), &["exp", "iss"], token)?;
        require_short_life(claims.issued_at_s()?, whole(claims.exp))?;
        Ok(claims)
    }

    /// When it was issued, seconds since the Unix epoch; their SDKs write `nbf` for it.
    pub(crate) fn issued_at_s(&self) -> Result<u64, TokenError> {
        let issued = self.iat.or(self.nbf);
        issued.map(whole).ok_or_else(|| {
            TokenError::BadClaim("claims hold neither `iat` nor `nbf`: one is needed".to_owned())
        })
    }

    /// What its holder may do.
    pub(crate) fn into_access(self) -> Result<Access, TokenError> {
        let bad = |claim: &str| {
            let claim = claim.to_owned();
            move |detail: String| {
                TokenError::BadClaim(format!("`{claim}` cannot be used: {detail}"))
            }
        };
        let room = (!self.video.room.is_empty()).then_some(self.video.room);
        if let Some(room) = &room {
            validate::room_name(room).map_err(bad("video.room"))?;
        }
        if !self.video.room_join {
            return Ok(Access::Service(Service {
                create_rooms: self.video.room_create,
                list_rooms: self.video.room_list,
                moderates: room.filter(|_| self.video.room_admin),
            }));
        }
        let room = room.ok_or_else(|| bad("video.room")("a token to join names one".to_owned()))?;
        validate::identity(&self.sub).map_err(bad("sub"))?;
        let name = if self.name.is_empty() { self.sub.clone() } else { self.name };
        validate::display_name(&name).map_err(bad("name"))?;
        let attribute = |name: &str, check: fn(&str) -> Result<(), String>| {
            let value = self.attributes.get(name).filter(|value| !value.is_empty()).cloned();
            if let Some(value) = &value {
                check(value).map_err(bad(&format!("attributes.{name}")))?;
            }
            Ok::<_, TokenError>(value)
        };
        let list = |name: &str| {
            let text = self.attributes.get(name)?;
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(items.map(ToOwned::to_owned).collect::<Vec<_>>())
        };
        let grants = Grants {
            speak: self.video.can_publish.unwrap_or(true),
            listen: self.video.can_subscribe.unwrap_or(true),
            channels: list("channels"),
            interpret: list("interpret").unwrap_or_default(),
            moderate: self.video.room_admin,
            own_voice: self.attributes.get("own_voice").is_some_and(|granted| granted == "true"),
        };
        validate::grants(&grants).map_err(bad("attributes"))?;
        // A session needs a language, a look at the room does not.
        let language = attribute("language", validate::language)?.unwrap_or_default();
        let hear = attribute("hear", validate::language)?.unwrap_or_else(|| language.clone());
        let voice = attribute("voice", validate::voice_name)?;
        Ok(Access::Participant(Box::new(Caller {
            role: Role::Both { channel: None },
            original_gain: None,
            room,
            identity: self.sub,
            name,
            language,
            hear,
            voice,
            grants,
        })))
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
fn seconds(whole: u64) -> f64 {
    whole as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time before 1970 or after the end of time is the nearest that there is"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::keys::ApiKey;
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn key() -> NamedKey {
        NamedKey::new("main", ApiKey::parse(SECRET, false).unwrap()).unwrap()
    }

    fn access(change: impl FnOnce(&mut Value)) -> Result<Access, TokenError> {
        let now_s = unix_time_s();
        let mut claims = json!({
            "iss": "main", "sub": "ana", "name": "Ana", "nbf": now_s, "exp": now_s + 60,
            "video": { "room": "lobby", "roomJoin": true },
            "attributes": { "language": "es", "hear": "en", "voice": "af_heart" },
            "metadata": "anything", "sha256": "",
        });
        change(&mut claims);
        let token = sign_with(SECRET.as_bytes(), &Header::new(Algorithm::HS256), &claims);
        LiveKitClaims::verify(&key(), &token)?.into_access()
    }

    fn caller(change: impl FnOnce(&mut Value)) -> Caller {
        match access(change).unwrap() {
            Access::Participant(caller) => *caller,
            other => panic!("no participant: {other:?}"),
        }
    }

    #[test]
    fn the_claims_of_their_sdks_name_a_participant() {
        let ana = caller(|_| {});
        assert_eq!(
            (ana.room.as_str(), ana.identity.as_str(), ana.name.as_str()),
            ("lobby", "ana", "Ana")
        );
        assert_eq!((ana.language.as_str(), ana.hear.as_str()), ("es", "en"));
        assert_eq!(ana.voice.as_deref(), Some("af_heart"));
        assert_eq!(ana.grants, Grants::default());

        let ana = caller(|claims| {
            claims["video"]["canPublish"] = json!(false);
            claims["video"]["roomAdmin"] = json!(true);
            claims["attributes"] = json!({ "channels": "es, floor", "interpret": "fr" });
        });
        assert!(!ana.grants.speak && ana.grants.listen && ana.grants.moderate);
        assert_eq!(ana.grants.channels.unwrap(), ["es", "floor"]);
        assert_eq!(ana.grants.interpret, ["fr"]);
        assert_eq!(ana.language, "");
    }

    #[test]
    fn a_token_that_does_not_join_is_a_services() {
        let service = access(|claims| {
            claims["video"] = json!({ "roomCreate": true, "roomAdmin": true, "room": "lobby" });
            claims["sub"] = json!(null);
            claims.as_object_mut().unwrap().remove("sub");
        });
        let expected =
            Service { create_rooms: true, list_rooms: false, moderates: Some("lobby".to_owned()) };
        assert_eq!(service.unwrap(), Access::Service(expected));
    }

    #[test]
    fn what_is_minted_here_reads_back() {
        let request = CreateToken {
            identity: "ana".to_owned(),
            name: None,
            language: "es".to_owned(),
            hear: Some("en".to_owned()),
            voice: None,
            grants: Grants {
                listen: false,
                channels: Some(vec!["fr".to_owned()]),
                interpret: vec!["fr".to_owned(), "en".to_owned()],
                own_voice: true,
                ..Grants::default()
            },
            ttl_s: None,
        };
        let token = mint_livekit_token(&key(), "lobby", &request).unwrap();
        let claims = LiveKitClaims::verify(&key(), &token.token).unwrap();
        let Access::Participant(caller) = claims.into_access().unwrap() else { panic!("it joins") };
        assert_eq!(caller.grants, request.grants);
        assert_eq!((caller.language.as_str(), caller.hear.as_str()), ("es", "en"));
    }

    #[test]
    fn claims_that_cannot_be_used_are_named() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 7] = [
            (|claims| claims["sub"] = json!("a b"), "sub"),
            (|claims| claims["video"]["room"] = json!("a b"), "video.room"),
            (|claims| claims["video"]["room"] = json!(""), "video.room"),
            (|claims| claims["name"] = json!("\u{7}"), "name"),
            (|claims| claims["attributes"]["language"] = json!("?"), "attributes.language"),
            (|claims| claims["attributes"]["interpret"] = json!("floor"), "interpret"),
            (|claims| drop(claims.as_object_mut().unwrap().remove("nbf")), "nbf"),
        ];
        for (change, named) in cases {
            let error = access(change).unwrap_err();
            assert!(matches!(error, TokenError::BadClaim(_)), "{error:?}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn signature_and_times_are_checked_as_those_of_our_own() {
        let now_s = unix_time_s();
        let expired = access(|claims| claims["exp"] = json!(now_s - 10));
        assert_eq!(expired.unwrap_err(), TokenError::Expired);
        let future = access(|claims| claims["nbf"] = json!(now_s + 60));
        assert_eq!(future.unwrap_err(), TokenError::NotYetValid);
        let long = access(|claims| claims["exp"] = json!(now_s + 30 * 86_400));
        assert_eq!(long.unwrap_err(), TokenError::TooLong);
        let foreign = access(|claims| claims["iss"] = json!("other"));
        assert_eq!(foreign.unwrap_err(), TokenError::Malformed);
        assert!(access(|claims| claims["exp"] = json!(now_s as f64 + 60.5)).is_ok());
        // Signed with the secret of our own tokens, which is another.
        let token = sign_with(
            key().token_key().bytes(),
            &Header::new(Algorithm::HS256),
            &json!({ "iss": "main", "sub": "ana", "nbf": now_s, "exp": now_s + 60 }),
        );
        let error = LiveKitClaims::verify(&key(), &token).unwrap_err();
        assert_eq!(error, TokenError::WrongSignature);
    }
}
