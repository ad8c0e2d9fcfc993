//! Errors as `application/problem+json` (RFC 9457): one stable slug, title and status per kind.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::house::HouseError;
use crate::tokens::TokenError;
use crate::wire::Problem;

/// Content type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Longest detail; what a client sent may be quoted in it and is cut here.
const MAX_DETAIL: usize = 400;

/// Seconds after which the server that follows one that ends may be asked.
const DRAINING_RETRY_S: u32 = 10;

/// The kinds of problem. Their slugs are part of the API: clients match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadFragment,
    BadJson,
    BadRequest,
    BadSdp,
    BodyTooLarge,
    Forbidden,
    ChannelTaken,
    Draining,
    IdentityTaken,
    Internal,
    InvalidField,
    InvalidParameter,
    InvalidToken,
    MethodNotAllowed,
    MissingCredentials,
    NoDevelopment,
    NoIceCredentials,
    NoSuchChannel,
    NoSuchParticipant,
    NoSuchPath,
    NoSuchRoom,
    NoSuchSession,
    NoTranscript,
    NotAcceptable,
    NotReady,
    Overloaded,
    PreconditionFailed,
    PreconditionRequired,
    RequestTimeout,
    RoomExists,
    RoomFull,
    TokenRevoked,
    TooManyRequests,
    UnacceptableSdp,
    UnsupportedMediaType,
}

impl Kind {
    /// Status, slug and title.
    const fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadFragment => {
                (StatusCode::BAD_REQUEST, "bad-fragment", "The SDP fragment cannot be read")
            }
            Self::BadJson => (StatusCode::BAD_REQUEST, "bad-json", "The body is not valid JSON"),
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood")
            }
            Self::BadSdp => (StatusCode::BAD_REQUEST, "bad-sdp", "The body is not valid SDP"),
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            }
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "forbidden", "The credentials do not allow this")
            }
            Self::ChannelTaken => {
                (StatusCode::CONFLICT, "channel-taken", "Somebody else interprets into the channel")
            }
            Self::Draining => {
                (StatusCode::SERVICE_UNAVAILABLE, "draining", "The server is shutting down")
            }
            Self::IdentityTaken => {
                (StatusCode::CONFLICT, "identity-taken", "The identity is in the room already")
            }
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong in the server",
            ),
            Self::InvalidField => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", "A field cannot be used")
            }
            Self::InvalidParameter => {
                (StatusCode::BAD_REQUEST, "invalid-parameter", "A parameter cannot be used")
            }
            Self::InvalidToken => {
                (StatusCode::UNAUTHORIZED, "invalid-token", "The access token is not accepted")
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
            ),
            Self::MissingCredentials => {
                (StatusCode::UNAUTHORIZED, "missing-credentials", "Credentials are needed")
            }
            Self::NoDevelopment => {
                (StatusCode::NOT_FOUND, "no-development", "The server is not in development mode")
            }
            Self::NoIceCredentials => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "no-ice-credentials",
                "An ICE restart needs new credentials",
            ),
            Self::NoSuchChannel => {
                (StatusCode::NOT_FOUND, "no-such-channel", "There is no such channel")
            }
            Self::NoSuchParticipant => {
                (StatusCode::NOT_FOUND, "no-such-participant", "There is no such participant")
            }
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no-such-path", "There is nothing here"),
            Self::NoSuchRoom => (StatusCode::NOT_FOUND, "no-such-room", "There is no such room"),
            Self::NoSuchSession => {
                (StatusCode::NOT_FOUND, "no-such-session", "There is no such session")
            }
            Self::NoTranscript => {
                (StatusCode::NOT_FOUND, "no-transcript", "There is no transcript")
            }
            Self::NotAcceptable => (
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "The answer has another type than those accepted",
            ),
            Self::NotReady => {
                (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "The server is still starting")
            }
            Self::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The server is at capacity")
            }
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition-failed",
                "The entity tag is not the session's",
            ),
            Self::PreconditionRequired => (
                StatusCode::PRECONDITION_REQUIRED,
                "precondition-required",
                "An If-Match header is needed",
            ),
            Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The body took too long to arrive")
            }
            Self::RoomExists => {
                (StatusCode::CONFLICT, "room-exists", "A room of this name exists already")
            }
            Self::RoomFull => (StatusCode::CONFLICT, "room-full", "The room is full"),
            Self::TokenRevoked => {
                (StatusCode::UNAUTHORIZED, "token-revoked", "The access token was revoked")
            }
            Self::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::UnacceptableSdp => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "unacceptable-sdp",
                "The offer cannot be accepted",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The content type is not supported here",
            ),
        }
    }
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct ApiError {
    kind: Kind,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// `detail` says what happened here and what to do about it.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((cut, _)) = detail.char_indices().nth(MAX_DETAIL) {
            detail.truncate(cut);
            detail.push('…');
        }
        Self { kind, detail, headers: Vec::new() }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The problem for a status that a library chose.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let kind = match status {
            StatusCode::NOT_FOUND => Kind::NoSuchPath,
            StatusCode::METHOD_NOT_ALLOWED => Kind::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Kind::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Kind::InvalidField,
            StatusCode::REQUEST_TIMEOUT => Kind::RequestTimeout,
            status if status.is_server_error() => Kind::Internal,
            _ => Kind::BadRequest,
        };
        let (_, _, title) = kind.describe();
        Self::new(kind, title)
    }

    /// The server is about to end: 503 with `Retry-After`.
    pub(crate) fn draining() -> Self {
        Self::new(Kind::Draining, HouseError::Draining.to_string())
            .with_header(header::RETRY_AFTER, HeaderValue::from(DRAINING_RETRY_S))
    }

    /// No or unusable credentials: 401 with the challenge of RFC 6750 §3.
    pub(crate) fn missing_credentials(detail: &str) -> Self {
        Self::new(Kind::MissingCredentials, detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.describe();
        let problem = Problem {
            kind: format!("/problems/{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

impl From<HouseError> for ApiError {
    fn from(error: HouseError) -> Self {
        let kind = match &error {
            HouseError::NoSuchRoom(_) => Kind::NoSuchRoom,
            HouseError::NoSuchSession(_) => Kind::NoSuchSession,
            HouseError::NoSuchParticipant(_) => Kind::NoSuchParticipant,
            HouseError::NoSuchChannel { .. } => Kind::NoSuchChannel,
            HouseError::ChannelTaken { .. } => Kind::ChannelTaken,
            HouseError::RoomExists(_) => Kind::RoomExists,
            HouseError::IdentityTaken(_) => Kind::IdentityTaken,
            HouseError::RoomFull(_) => Kind::RoomFull,
            HouseError::Forbidden(_) => Kind::Forbidden,
            HouseError::Invalid(_) => Kind::InvalidField,
            HouseError::BadFragment(_) => Kind::BadFragment,
            HouseError::StaleTag => Kind::PreconditionFailed,
            HouseError::BadSdp(_) => Kind::BadSdp,
            HouseError::UnacceptableSdp(_) => Kind::UnacceptableSdp,
            HouseError::Overloaded { retry_after_s } => {
                return Self::new(Kind::Overloaded, error.to_string())
                    .with_header(header::RETRY_AFTER, HeaderValue::from(*retry_after_s));
            }
            HouseError::Draining => return Self::draining(),
            HouseError::Internal(detail) => {
                tracing::error!(detail, "the house failed a request");
                return Self::new(Kind::Internal, "the cause is in the server's log");
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let kind = match error {
            TokenError::Invalid(detail) => return Self::new(Kind::InvalidField, detail),
            TokenError::Revoked => Kind::TokenRevoked,
            _ => Kind::InvalidToken,
        };
        Self::new(kind, error.to_string()).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer error=\"invalid_token\""),
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn long_details_are_cut_at_a_character() {
        let error = ApiError::new(Kind::BadJson, "ä".repeat(1000));
        assert_eq!(error.detail.chars().count(), MAX_DETAIL + 1);
        assert!(error.detail.ends_with('…'));
    }

    #[test]
    fn internal_details_stay_inside() {
        let error = ApiError::from(HouseError::Internal("a secret path".to_owned()));
        assert!(!error.detail.contains("secret"));
    }
}
