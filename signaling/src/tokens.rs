//! Participant tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256.
//!
//! The algorithm is pinned on both sides, so a token that names another one (`none` included) is
//! refused before its signature is looked at.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::keys::TokenKey;
use crate::validate::{self, MAX_TTL_S};
use crate::wire::{CreateToken, Grants, Token};

/// The `iss` claim of every token.
pub const ISSUER: &str = "dragoman";

/// Lifetime when the request names none: 6 hours.
pub const DEFAULT_TTL_S: u64 = 6 * 3600;

/// Seconds by which two clocks may differ.
pub const LEEWAY_S: u64 = 5;

/// Why a token could not be made or is not accepted. No variant carries the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A field of the request cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// Not a JWT, or one with claims that are not ours.
    #[error("the access token is malformed: ask for one with POST /v1/rooms/{{room}}/tokens")]
    Malformed,
    /// Another algorithm than HS256.
    #[error("the access token is not signed with HS256")]
    WrongAlgorithm,
    /// The signature does not fit: tampered with, or signed by another server.
    #[error("the access token's signature is not this server's")]
    WrongSignature,
    /// Past its `exp`.
    #[error("the access token has expired: ask for a new one")]
    Expired,
    /// Its `iss` is neither ours nor the name of a key.
    #[error("the access token's issuer is no key of this server: `iss` is the name of an API key")]
    UnknownIssuer,
    /// A claim cannot be used.
    #[error("the access token's {0}")]
    BadClaim(String),
    /// It lives for longer than a removal of its holder is remembered.
    #[error("the access token lives for more than {} days: ask for a shorter one", MAX_TTL_S / 86_400)]
    TooLong,
    /// Its holder was removed from the room after it was issued.
    #[error("the access token was revoked: its holder was removed from the room")]
    Revoked,
    /// Before its `nbf`.
    #[error("the access token is not valid yet: check the clocks")]
    NotYetValid,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Always [`ISSUER`].
    pub(crate) iss: String,
    /// Identity of the participant, or whom an admin token was given to.
    pub(crate) sub: String,
    /// Display name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// Room the token is for; absent in an admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<String>,
    /// Language spoken (BCP 47).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) language: String,
    /// Language heard (BCP 47); absent when it is the one spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hear: Option<String>,
    /// Voice of the interpretations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) voice: Option<String>,
    /// What the participant may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grants: Option<Grants>,
    /// True in a token that stands for the API key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) admin: bool,
    /// Issued at, seconds since the Unix epoch.
    pub(crate) iat: u64,
    /// Not before, seconds since the Unix epoch.
    pub(crate) nbf: u64,
    /// Expiry, seconds since the Unix epoch.
    pub(crate) exp: u64,
}

/// Makes a token for a participant of `room`, valid from now on.
///
/// The room need not exist yet, and whether the language is supported is decided when the
/// participant connects.
///
/// # Errors
/// [`TokenError::Invalid`] names the field that cannot be used.
pub fn mint_token(key: &TokenKey, room: &str, request: &CreateToken) -> Result<Token, TokenError> {
    mint_token_as_of(key, room, request, unix_time_s())
}

/// A token that says to be issued at `issued_at_s`, now or a moment later.
pub(crate) fn mint_token_as_of(
    key: &TokenKey,
    room: &str,
    request: &CreateToken,
    issued_at_s: u64,
) -> Result<Token, TokenError> {
    validate::room_name(room).map_err(TokenError::Invalid)?;
    validate::create_token(request).map_err(TokenError::Invalid)?;
    let now_s = unix_time_s();
    let expires_at_s = now_s + request.ttl_s.unwrap_or(DEFAULT_TTL_S);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: request.identity.clone(),
        name: request.name.clone().unwrap_or_else(|| request.identity.clone()),
        room: Some(room.to_owned()),
        language: request.language.clone(),
        hear: request.hear.clone(),
        voice: request.voice.clone(),
        grants: Some(request.grants.clone()),
        admin: false,
        iat: issued_at_s,
        nbf: now_s,
        exp: expires_at_s,
    };
    Ok(Token { token: sign(key, &claims), identity: claims.sub, expires_at_s })
}

/// Makes a token that administers rooms and mints tokens, as the API key does, but expires. It is
/// meant for a back office that should not hold the key itself.
///
/// # Errors
/// [`TokenError::Invalid`] names the field that cannot be used.
pub fn mint_admin_token(
    key: &TokenKey,
    identity: &str,
    ttl_s: Option<u64>,
) -> Result<Token, TokenError> {
    let request = CreateToken {
        identity: identity.to_owned(),
        name: None,
        language: "en".to_owned(),
        hear: None,
        voice: None,
        grants: Grants::default(),
        ttl_s,
    };
    validate::create_token(&request).map_err(TokenError::Invalid)?;
    let now_s = unix_time_s();
    let expires_at_s = now_s + ttl_s.unwrap_or(DEFAULT_TTL_S);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: identity.to_owned(),
        name: String::new(),
        room: None,
        language: String::new(),
        hear: None,
        voice: None,
        grants: None,
        admin: true,
        iat: now_s,
        nbf: now_s,
        exp: expires_at_s,
    };
    Ok(Token { token: sign(key, &claims), identity: claims.sub, expires_at_s })
}

/// Checks signature, algorithm, issuer and times; which room a token opens, and whether it was
/// revoked, is the caller's to check.
pub(crate) fn verify(key: &TokenKey, token: &str) -> Result<Claims, TokenError> {
    let claims: Claims = check(key.bytes(), ISSUER, &["exp", "nbf", "iss", "sub"], token)?;
    require_short_life(claims.iat, claims.exp)?;
    Ok(claims)
}

/// Checks signature, algorithm, issuer and times.
pub(crate) fn check<T: DeserializeOwned>(
    secret: &[u8],
    issuer: &str,
    required: &[&str],
    token: &str,
) -> Result<T, TokenError> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(required);
    let decoding_key = DecodingKey::from_secret(secret);
    let data = jsonwebtoken::decode::<T>(token, &decoding_key, &validation)
        .map_err(|error| token_error(error.kind()))?;
    Ok(data.claims)
}

/// A removal is remembered for as long as a token may live; one that lives longer would outlive it.
pub(crate) fn require_short_life(issued_at_s: u64, expires_at_s: u64) -> Result<(), TokenError> {
    if expires_at_s.saturating_sub(issued_at_s) > MAX_TTL_S {
        return Err(TokenError::TooLong);
    }
    Ok(())
}

pub(crate) fn token_error(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYetValid,
        ErrorKind::InvalidSignature => TokenError::WrongSignature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::WrongAlgorithm,
        _ => TokenError::Malformed,
    }
}

/// Checks a token whose payload is signed with our own key: a door for the fuzz targets, which get
/// nowhere without the key. Gives identity and room.
///
/// # Errors
/// [`TokenError`].
#[doc(hidden)]
pub fn verify_signed(
    key: &TokenKey,
    payload: &serde_json::Value,
) -> Result<(String, Option<String>), TokenError> {
    let encoding = EncodingKey::from_secret(key.bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), payload, &encoding)
        .map_err(|_| TokenError::Malformed)?;
    verify(key, &token).map(|claims| (claims.sub, claims.room))
}

pub(crate) fn sign(key: &TokenKey, claims: &Claims) -> String {
    let header = Header { kid: key.id().map(ToOwned::to_owned), ..Header::new(Algorithm::HS256) };
    sign_with(key.bytes(), &header, claims)
}

pub(crate) fn sign_with<T: Serialize>(secret: &[u8], header: &Header, claims: &T) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret))
        .expect("plain claims serialise, and an HMAC takes a key of any length")
}

pub(crate) fn unix_time_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::from_secret("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn request() -> CreateToken {
        CreateToken {
            identity: "ana".to_owned(),
            name: None,
            language: "es".to_owned(),
            hear: None,
            voice: None,
            grants: Grants::default(),
            ttl_s: None,
        }
    }

    fn claims(from: impl FnOnce(&mut Claims)) -> Claims {
        let token = mint_token(&key(), "lobby", &request()).unwrap();
        let mut claims = verify(&key(), &token.token).unwrap();
        from(&mut claims);
        claims
    }

    #[test]
    fn a_minted_token_says_what_was_asked() {
        let token = mint_token(&key(), "lobby", &request()).unwrap();
        let claims = verify(&key(), &token.token).unwrap();
        assert_eq!(claims.iss, ISSUER);
        assert_eq!(claims.sub, "ana");
        assert_eq!(claims.name, "ana");
        assert_eq!(claims.room.as_deref(), Some("lobby"));
        assert_eq!(claims.language, "es");
        assert_eq!(claims.grants, Some(Grants::default()));
        assert!(!claims.admin);
        assert_eq!(claims.exp - claims.iat, DEFAULT_TTL_S);
        assert_eq!(claims.nbf, claims.iat);
        assert_eq!(token.expires_at_s, claims.exp);
    }

    #[test]
    fn a_token_carries_what_is_heard_and_in_which_voice() {
        let request = CreateToken {
            hear: Some("en".to_owned()),
            voice: Some("af_heart".to_owned()),
            ..request()
        };
        let token = mint_token(&key(), "lobby", &request).unwrap();
        let claims = verify(&key(), &token.token).unwrap();
        assert_eq!(claims.language, "es");
        assert_eq!(claims.hear.as_deref(), Some("en"));
        assert_eq!(claims.voice.as_deref(), Some("af_heart"));
    }

    #[test]
    fn an_admin_token_names_no_room() {
        let token = mint_admin_token(&key(), "office", Some(60)).unwrap();
        let claims = verify(&key(), &token.token).unwrap();
        assert!(claims.admin && claims.room.is_none() && claims.grants.is_none());
    }

    #[test]
    fn fields_that_cannot_be_used_are_named() {
        let cases: [(CreateToken, &str); 6] = [
            (CreateToken { identity: "a b".to_owned(), ..request() }, "identity"),
            (CreateToken { language: "?".to_owned(), ..request() }, "language"),
            (CreateToken { hear: Some("?".to_owned()), ..request() }, "hear"),
            (CreateToken { voice: Some("a b".to_owned()), ..request() }, "voice"),
            (CreateToken { name: Some("\u{7}".to_owned()), ..request() }, "name"),
            (CreateToken { ttl_s: Some(0), ..request() }, "ttl_s"),
        ];
        for (request, field) in cases {
            let error = mint_token(&key(), "lobby", &request).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(mint_token(&key(), "not a room", &request()).is_err());
    }

    #[test]
    fn a_tampered_token_is_refused() {
        let token = mint_token(&key(), "lobby", &request()).unwrap().token;
        let other = mint_token(&key(), "other", &request()).unwrap().token;
        let parts: Vec<&str> = token.split('.').collect();
        let other_parts: Vec<&str> = other.split('.').collect();
        let spliced = format!("{}.{}.{}", parts[0], other_parts[1], parts[2]);
        assert_eq!(verify(&key(), &spliced).unwrap_err(), TokenError::WrongSignature);
    }

    #[test]
    fn a_token_of_another_server_is_refused() {
        let other_key = TokenKey::from_secret("another secret of thirty-two chars").unwrap();
        let token = mint_token(&other_key, "lobby", &request()).unwrap().token;
        assert_eq!(verify(&key(), &token).unwrap_err(), TokenError::WrongSignature);
    }

    #[test]
    fn the_algorithm_is_pinned() {
        let claims = claims(|_| {});
        let secret = EncodingKey::from_secret(key().bytes());
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &secret).unwrap();
            assert_eq!(verify(&key(), &token).unwrap_err(), TokenError::WrongAlgorithm);
        }
        // {"alg":"none","typ":"JWT"} with the payload of a good token and no signature.
        let good = sign(&key(), &claims);
        let payload = good.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
        assert_eq!(verify(&key(), &unsigned).unwrap_err(), TokenError::Malformed);
    }

    #[test]
    fn times_are_checked_with_five_seconds_of_leeway() {
        let now_s = unix_time_s();
        let just_over = claims(|claims| claims.exp = now_s - 2);
        assert!(verify(&key(), &sign(&key(), &just_over)).is_ok());
        let expired = claims(|claims| claims.exp = now_s - 10);
        assert_eq!(verify(&key(), &sign(&key(), &expired)).unwrap_err(), TokenError::Expired);
        let future = claims(|claims| claims.nbf = now_s + 60);
        assert_eq!(verify(&key(), &sign(&key(), &future)).unwrap_err(), TokenError::NotYetValid);
    }

    #[test]
    fn a_foreign_issuer_and_missing_claims_are_refused() {
        let foreign = claims(|claims| claims.iss = "elsewhere".to_owned());
        assert_eq!(verify(&key(), &sign(&key(), &foreign)).unwrap_err(), TokenError::Malformed);
        let secret = EncodingKey::from_secret(key().bytes());
        let bare = serde_json::json!({ "sub": "ana", "iss": ISSUER, "iat": 1, "exp": u64::MAX });
        let token = jsonwebtoken::encode(&Header::default(), &bare, &secret).unwrap();
        assert_eq!(verify(&key(), &token).unwrap_err(), TokenError::Malformed);
    }

    #[test]
    fn garbage_is_malformed() {
        for garbage in ["", ".", "..", "a.b.c", &"x".repeat(9000)] {
            assert_eq!(verify(&key(), garbage).unwrap_err(), TokenError::Malformed, "{garbage:?}");
        }
    }

    #[test]
    fn a_token_that_outlives_the_memory_of_removals_is_refused() {
        let long = claims(|claims| claims.exp = claims.iat + MAX_TTL_S + 1);
        assert_eq!(verify(&key(), &sign(&key(), &long)).unwrap_err(), TokenError::TooLong);
    }
}
