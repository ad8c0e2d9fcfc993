//! Who is asking, and what they may do: the server's API key, an admin token, a participant's token
//! or a service's.

use axum::http::Extensions;

use crate::guard;
use crate::house::Caller;
use crate::problem::{ApiError, Kind};

/// Checked credentials.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Access {
    /// The API key, or a token that stands for it.
    Admin,
    /// A participant of one room.
    Participant(Box<Caller>),
    /// Another program, which is no participant.
    Service(Service),
}

/// What a program may do whose token has LiveKit's grants and does not join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    /// `roomCreate`: make and end rooms.
    pub(crate) create_rooms: bool,
    /// `roomList`: see which rooms there are.
    pub(crate) list_rooms: bool,
    /// `roomAdmin`: moderate this room.
    pub(crate) moderates: Option<String>,
}

impl Access {
    /// Tells the access log and the rate limits whom the credentials name.
    pub(crate) fn note(&self, request: &Extensions) {
        if let Some(caller) = request.get::<guard::Caller>() {
            caller.is(match self {
                // No participant can be called that.
                Self::Admin => "(admin)",
                Self::Service(_) => "(service)",
                Self::Participant(participant) => &participant.identity,
            });
        }
    }

    /// Tokens are the administrator's: no participant makes another, or a better one of their own.
    pub(crate) fn require_admin(&self) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::Participant(_) | Self::Service(_) => {
                Err(forbidden("this needs the server's API key or an admin token"))
            }
        }
    }

    /// An administrator, or a service that may make rooms.
    pub(crate) fn require_creator(&self) -> Result<(), ApiError> {
        match self {
            Self::Service(Service { create_rooms: true, .. }) => Ok(()),
            other => other.require_admin(),
        }
    }

    /// An administrator, or a service that may see which rooms there are.
    pub(crate) fn require_lister(&self) -> Result<(), ApiError> {
        match self {
            Self::Service(Service { list_rooms: true, .. }) => Ok(()),
            other => other.require_admin(),
        }
    }

    /// An administrator, or a participant or a moderator of this room.
    pub(crate) fn require_member(&self, room: &str) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::Participant(caller) => require_room(caller, room),
            Self::Service(service) if service.moderates.as_deref() == Some(room) => Ok(()),
            Self::Service(_) => {
                Err(forbidden("the access token grants nothing in this room: it needs `roomAdmin`"))
            }
        }
    }

    /// An administrator, or a participant of this room who may hear it.
    pub(crate) fn require_listener(&self, room: &str) -> Result<(), ApiError> {
        self.require_member(room)?;
        match self {
            Self::Participant(caller) if !caller.grants.listen => {
                Err(forbidden("the access token has no `listen` grant"))
            }
            _ => Ok(()),
        }
    }

    /// The channels that may be listened to; `None` allows every one.
    pub(crate) fn channels(&self) -> Option<&[String]> {
        match self {
            Self::Admin | Self::Service(_) => None,
            Self::Participant(caller) => caller.grants.channels.as_deref(),
        }
    }

    /// An administrator, or a moderator of this room.
    pub(crate) fn require_moderator(&self, room: &str) -> Result<(), ApiError> {
        self.require_member(room)?;
        match self {
            Self::Participant(caller) if !caller.grants.moderate => {
                Err(forbidden("the access token has no `moderate` grant"))
            }
            _ => Ok(()),
        }
    }

    /// Who is behind a session may change it, and so may whoever moderates its room.
    pub(crate) fn require_owner(&self, room: &str, owner: &str) -> Result<(), ApiError> {
        match self {
            Self::Participant(caller) if caller.identity == owner => self.require_member(room),
            _ => self.require_moderator(room).map_err(|_| {
                forbidden("the session is another participant's: it takes the `moderate` grant")
            }),
        }
    }

    /// The name of whoever asks, for what is made for them alone.
    pub(crate) fn identity(&self) -> &str {
        match self {
            Self::Participant(caller) => &caller.identity,
            Self::Admin => "admin",
            Self::Service(_) => "service",
        }
    }

    /// A participant of this room: only a person can hold a session.
    pub(crate) fn into_caller(self, room: &str) -> Result<Caller, ApiError> {
        let Self::Participant(caller) = self else {
            return Err(forbidden(
                "these credentials name no participant: ask for a token with POST /v1/rooms/{room}/tokens",
            ));
        };
        require_room(&caller, room)?;
        if caller.language.is_empty() {
            let detail =
                "the access token names no language: it belongs into `attributes.language`";
            return Err(ApiError::new(Kind::InvalidField, detail));
        }
        Ok(*caller)
    }
}

fn require_room(caller: &Caller, room: &str) -> Result<(), ApiError> {
    if caller.room == room {
        return Ok(());
    }
    Err(forbidden(format!("the access token is for the room {:?}, not for this one", caller.room)))
}

/// 403, and what would be needed.
pub(crate) fn forbidden(detail: impl Into<String>) -> ApiError {
    ApiError::new(Kind::Forbidden, detail)
}
