//! From what a request brings to who is asking: keys and tokens, checked.
//!
//! Which of the server's keys a token is checked under is told by its `kid`, or by its `iss` when it
//! has LiveKit's claims.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use crate::access::Access;
use crate::house::{Caller, House, Role};
use crate::key_ring::KeyRing;
use crate::livekit::LiveKitClaims;
use crate::problem::ApiError;
use crate::server::{Api, ApiConfig};
use crate::tokens::{self, Claims, ISSUER, TokenError};

/// Longest token that is looked at, bytes; ours are around 400.
const MAX_TOKEN_LENGTH: usize = 8192;

impl Access {
    /// From the `Authorization` header alone.
    pub(crate) fn from_headers(headers: &HeaderMap, config: &ApiConfig) -> Result<Self, ApiError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(ApiError::missing_credentials(
                "send `Authorization: Bearer` with an access token or the server's API key",
            ));
        };
        let malformed =
            || ApiError::missing_credentials("the Authorization header is not `Bearer <token>`");
        let value = value.to_str().map_err(|_| malformed())?;
        let (scheme, credential) = value.split_once(' ').ok_or_else(malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(malformed());
        }
        let credential = credential.trim();
        if config.keys.matches(credential) {
            return Ok(Self::Admin);
        }
        Self::from_token(credential, config)
    }

    /// From a JWT alone: the API key has no place in an address, where tokens may stand.
    pub(crate) fn from_token(token: &str, config: &ApiConfig) -> Result<Self, ApiError> {
        let (access, issued_at_s) = verify(&config.keys, token)?;
        if let Self::Participant(caller) = &access
            && config.revocations.covers(&caller.room, &caller.identity, issued_at_s)
        {
            return Err(TokenError::Revoked.into());
        }
        Ok(access)
    }
}

impl<H: House> FromRequestParts<Api<H>> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api<H>) -> Result<Self, ApiError> {
        let access = Self::from_headers(&parts.headers, &api.config)?;
        access.note(&parts.extensions);
        Ok(access)
    }
}

/// What is read of a token before its signature is checked, to find the key for that.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// Whom a token names, and when it was issued (Unix time). Signature, algorithm, issuer and times
/// are checked.
fn verify(ring: &KeyRing, token: &str) -> Result<(Access, u64), TokenError> {
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(TokenError::Malformed);
    }
    let seen = jsonwebtoken::dangerous::insecure_decode::<Issuer>(token)
        .map_err(|error| tokens::token_error(error.kind()))?;
    if seen.header.alg != Algorithm::HS256 {
        return Err(TokenError::WrongAlgorithm);
    }
    if seen.claims.iss != ISSUER {
        let key = ring.named(&seen.claims.iss).ok_or(TokenError::UnknownIssuer)?;
        let claims = LiveKitClaims::verify(key, token)?;
        let issued_at_s = claims.issued_at_s()?;
        return Ok((claims.into_access()?, issued_at_s));
    }
    let named = seen.header.kid.as_deref().and_then(|id| ring.named(id));
    let claims = match named {
        Some(key) => tokens::verify(key.token_key(), token)?,
        None => verify_under_any(ring, token)?,
    };
    let issued_at_s = claims.iat;
    Ok((from_claims(claims)?, issued_at_s))
}

/// For a token that names no key of ours: it was minted from a key alone, without its name here.
fn verify_under_any(ring: &KeyRing, token: &str) -> Result<Claims, TokenError> {
    ring.iter()
        .map(|key| tokens::verify(key.token_key(), token))
        .find(|result| result.as_ref().err() != Some(&TokenError::WrongSignature))
        .unwrap_or(Err(TokenError::WrongSignature))
}

fn from_claims(claims: Claims) -> Result<Access, TokenError> {
    if claims.admin {
        return Ok(Access::Admin);
    }
    let room = claims.room.ok_or(TokenError::Malformed)?;
    let name = if claims.name.is_empty() { claims.sub.clone() } else { claims.name };
    Ok(Access::Participant(Box::new(Caller {
        role: Role::Both { channel: None },
        original_gain: None,
        room,
        identity: claims.sub,
        name,
        hear: claims.hear.unwrap_or_else(|| claims.language.clone()),
        language: claims.language,
        voice: claims.voice,
        grants: claims.grants.unwrap_or_default(),
    })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::key_ring::NamedKey;
    use crate::keys::{ApiKey, TokenKey};
    use crate::wire::{CreateToken, Grants};

    fn named(name: &str, secret: &str) -> NamedKey {
        NamedKey::new(name, ApiKey::parse(secret, false).unwrap()).unwrap()
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

    #[test]
    fn tokens_of_every_key_are_taken_and_the_first_signs() {
        let (new, old) = (named("new", &"n".repeat(32)), named("old", &"o".repeat(32)));
        let unnamed = TokenKey::derive(&ApiKey::parse(&"o".repeat(32), false).unwrap());
        let gone = named("gone", &"g".repeat(32));
        let renamed = named("renamed", &"o".repeat(32));
        let ring = KeyRing::new(vec![new, old]).unwrap();
        let cases = [
            (ring.first().token_key(), Ok("new")),
            (ring.named("old").unwrap().token_key(), Ok("old")),
            (&unnamed, Ok("")),
            (renamed.token_key(), Ok("renamed")),
            (gone.token_key(), Err(TokenError::WrongSignature)),
        ];
        for (key, expected) in cases {
            let token = tokens::mint_token(key, "lobby", &request()).unwrap().token;
            let id = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap_or_default();
            match (verify(&ring, &token), expected) {
                (Ok((access, _)), Ok(name)) => {
                    assert_eq!((access.identity(), id.as_str()), ("ana", name));
                }
                (Err(error), Err(expected)) => assert_eq!(error, expected),
                (other, expected) => panic!("{id}: {other:?} where {expected:?} was expected"),
            }
        }
    }

    #[test]
    fn a_token_that_names_one_key_and_is_signed_under_another_is_refused() {
        let (a, b) = (named("a", &"n".repeat(32)), named("b", &"o".repeat(32)));
        let liar = a.token_key().clone().with_id("b");
        let ring = KeyRing::new(vec![a, b]).unwrap();
        let token = tokens::mint_token(&liar, "lobby", &request()).unwrap().token;
        assert_eq!(verify(&ring, &token).unwrap_err(), TokenError::WrongSignature);
    }

    #[test]
    fn an_issuer_that_is_no_key_is_refused_before_any_signature_is_tried() {
        let key = named("a", &"n".repeat(32));
        let ring = KeyRing::new(vec![named("b", &"n".repeat(32))]).unwrap();
        let token = crate::livekit::mint_livekit_token(&key, "lobby", &request()).unwrap().token;
        assert_eq!(verify(&ring, &token).unwrap_err(), TokenError::UnknownIssuer);
    }

    #[test]
    fn a_token_of_any_length_is_answered() {
        let ring = KeyRing::new(vec![named("a", &"n".repeat(32))]).unwrap();
        for length in [0, 1, MAX_TOKEN_LENGTH, MAX_TOKEN_LENGTH + 1] {
            assert_eq!(verify(&ring, &"x".repeat(length)).unwrap_err(), TokenError::Malformed);
        }
    }
}
