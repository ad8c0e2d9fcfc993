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

/// Declares the kinds of problem, each with its status, slug and title.
macro_rules! kinds {
    ($($kind:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        /// The kinds of problem. Their slugs are part of the API: clients match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind { $($kind),* }

        impl Kind {
            /// Every kind.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// Status, slug and title.
            pub(crate) const fn describe(self) -> (StatusCode, &'static str, &'static str) {
                match self {
                    $(Self::$kind => (StatusCode::$status, $slug, $title)),*
                }
            }
        }
    };
}

kinds! {
    BadFragment = BAD_REQUEST, "bad-fragment", "The SDP fragment cannot be read";
    BadJson = BAD_REQUEST, "bad-json", "The body is not valid JSON";
    BadRecording = UNPROCESSABLE_ENTITY, "bad-recording", "No voice can be learned from the recordings";
    BadRequest = BAD_REQUEST, "bad-request", "The request cannot be understood";
    BadSdp = BAD_REQUEST, "bad-sdp", "The body is not valid SDP";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    BuiltInVoice = CONFLICT, "built-in-voice", "The voice is built in";
    CannotLearn = CONFLICT, "cannot-learn", "The server cannot learn voices";
    Forbidden = FORBIDDEN, "forbidden", "The credentials do not allow this";
    ChannelTaken = CONFLICT, "channel-taken", "Somebody else interprets into the channel";
    Draining = SERVICE_UNAVAILABLE, "draining", "The server is shutting down";
    IdentityTaken = CONFLICT, "identity-taken", "The identity is in the room already";
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong in the server";
    InvalidField = UNPROCESSABLE_ENTITY, "invalid-field", "A field cannot be used";
    InvalidParameter = BAD_REQUEST, "invalid-parameter", "A parameter cannot be used";
    InvalidToken = UNAUTHORIZED, "invalid-token", "The access token is not accepted";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here";
    MissingCredentials = UNAUTHORIZED, "missing-credentials", "Credentials are needed";
    MissingConsent = UNPROCESSABLE_ENTITY, "missing-consent", "It is not stated that the speaker has agreed";
    NoDevelopment = NOT_FOUND, "no-development", "The server is not in development mode";
    NoIceCredentials = UNPROCESSABLE_ENTITY, "no-ice-credentials", "An ICE restart needs new credentials";
    NoSuchChannel = NOT_FOUND, "no-such-channel", "There is no such channel";
    NoSuchParticipant = NOT_FOUND, "no-such-participant", "There is no such participant";
    NoSuchPath = NOT_FOUND, "no-such-path", "There is nothing here";
    NoSuchRoom = NOT_FOUND, "no-such-room", "There is no such room";
    NoSuchSession = NOT_FOUND, "no-such-session", "There is no such session";
    NoSuchVoice = NOT_FOUND, "no-such-voice", "There is no such voice";
    NoTranscript = NOT_FOUND, "no-transcript", "There is no transcript";
    NotAcceptable = NOT_ACCEPTABLE, "not-acceptable", "The answer has another type than those accepted";
    NotLearned = CONFLICT, "not-learned", "The participant's own voice is not learned";
    NotReady = SERVICE_UNAVAILABLE, "not-ready", "The server is still starting";
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "The server is at capacity";
    PreconditionFailed = PRECONDITION_FAILED, "precondition-failed", "The entity tag is not the session's";
    PreconditionRequired = PRECONDITION_REQUIRED, "precondition-required", "An If-Match header is needed";
    RequestTimeout = REQUEST_TIMEOUT, "request-timeout", "The body took too long to arrive";
    RoomExists = CONFLICT, "room-exists", "A room of this name exists already";
    RoomFull = CONFLICT, "room-full", "The room is full";
    TokenRevoked = UNAUTHORIZED, "token-revoked", "The access token was revoked";
    TooManyRequests = TOO_MANY_REQUESTS, "too-many-requests", "Too many requests";
    UnacceptableSdp = UNPROCESSABLE_ENTITY, "unacceptable-sdp", "The offer cannot be accepted";
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The content type is not supported here";
    VoiceExists = CONFLICT, "voice-exists", "A voice of this name exists already";
}

impl Kind {
    /// What names it in a problem: a reference to the address of the kind.
    pub(crate) fn reference(self) -> String {
        format!("/problems/{}", self.describe().1)
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
        let (status, _, title) = self.kind.describe();
        let problem = Problem {
            kind: self.kind.reference(),
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
            HouseError::CannotLearn => Kind::CannotLearn,
            HouseError::NoSuchVoice(_) => Kind::NoSuchVoice,
            HouseError::VoiceExists(_) => Kind::VoiceExists,
            HouseError::BuiltInVoice(_) => Kind::BuiltInVoice,
            HouseError::BadRecording(_) => Kind::BadRecording,
            HouseError::NotLearned(_) => Kind::NotLearned,
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
