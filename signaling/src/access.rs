//! Who is asking: the server's API key, an admin token or a participant's token.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};

use crate::guard;
use crate::house::{Caller, House, Role};
use crate::problem::{ApiError, Kind};
use crate::server::{Api, ApiConfig};
use crate::tokens::{self, Claims, TokenError};

/// Checked credentials.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Access {
    /// The API key, or a token that stands for it.
    Admin,
    /// A participant of one room.
    Participant(Box<Caller>),
}

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
        if config.api_key.matches(credential) {
            return Ok(Self::Admin);
        }
        Self::from_token(credential, config)
    }

    /// From a JWT alone: the API key has no place in an address, where tokens may stand.
    pub(crate) fn from_token(token: &str, config: &ApiConfig) -> Result<Self, ApiError> {
        let claims = tokens::verify(&config.token_key, token)?;
        Self::from_claims(claims)
    }

    fn from_claims(claims: Claims) -> Result<Self, ApiError> {
        if claims.admin {
            return Ok(Self::Admin);
        }
        let room = claims.room.ok_or(TokenError::Malformed)?;
        let name = if claims.name.is_empty() { claims.sub.clone() } else { claims.name };
        Ok(Self::Participant(Box::new(Caller {
            role: Role::Both,
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

    /// Tells the access log and the rate limits whom the credentials name.
    pub(crate) fn note(&self, request: &Extensions) {
        if let Some(caller) = request.get::<guard::Caller>() {
            caller.is(match self {
                // No participant can be called that.
                Self::Admin => "(admin)",
                Self::Participant(participant) => &participant.identity,
            });
        }
    }

    /// Rooms in general and tokens are the administrator's.
    pub(crate) fn require_admin(&self) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::Participant(_) => Err(ApiError::new(
                Kind::Forbidden,
                "this needs the server's API key or an admin token",
            )),
        }
    }

    /// An administrator, or a participant of this room.
    pub(crate) fn require_member(&self, room: &str) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::Participant(caller) => require_room(caller, room),
        }
    }

    /// An administrator, or a participant of this room who may hear it.
    pub(crate) fn require_listener(&self, room: &str) -> Result<(), ApiError> {
        self.require_member(room)?;
        match self {
            Self::Participant(caller) if !caller.grants.listen => {
                Err(ApiError::new(Kind::Forbidden, "the access token has no `listen` grant"))
            }
            _ => Ok(()),
        }
    }

    /// The channels that may be listened to; `None` allows every one.
    pub(crate) fn channels(&self) -> Option<&[String]> {
        match self {
            Self::Admin => None,
            Self::Participant(caller) => caller.grants.channels.as_deref(),
        }
    }

    /// An administrator, or a moderator of this room.
    pub(crate) fn require_moderator(&self, room: &str) -> Result<(), ApiError> {
        self.require_member(room)?;
        match self {
            Self::Participant(caller) if !caller.grants.moderate => {
                Err(ApiError::new(Kind::Forbidden, "the access token has no `moderate` grant"))
            }
            _ => Ok(()),
        }
    }

    /// A participant of this room: only a person can hold a session.
    pub(crate) fn into_caller(self, room: &str) -> Result<Caller, ApiError> {
        match self {
            Self::Admin => Err(ApiError::new(
                Kind::Forbidden,
                "the API key names no participant: ask for a token with POST /v1/rooms/{room}/tokens",
            )),
            Self::Participant(caller) => {
                require_room(&caller, room)?;
                if !caller.grants.speak && !caller.grants.listen {
                    return Err(ApiError::new(
                        Kind::Forbidden,
                        "the access token grants neither `speak` nor `listen`",
                    ));
                }
                Ok(*caller)
            }
        }
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

fn require_room(caller: &Caller, room: &str) -> Result<(), ApiError> {
    if caller.room == room {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::Forbidden,
        format!("the access token is for the room {:?}, not for this one", caller.room),
    ))
}
