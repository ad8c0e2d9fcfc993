//! Request bodies: their content type, their size, the time they may take, and their syntax. Each
//! failure is a problem of its own.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;

use crate::accept::accepts;
use crate::problem::{ApiError, Kind};
use crate::validate;
use crate::wire::{ChangeSession, object};

/// Largest JSON body, bytes.
pub(crate) const MAX_JSON: usize = 64 * 1024;
/// Largest SDP body, bytes; a browser's offer is 5 to 10 KiB.
pub(crate) const MAX_SDP: usize = 64 * 1024;
/// Media type of a fragment about ICE (RFC 8840 §9).
pub(crate) const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Most characters of a session's id that is looked for.
pub(crate) const MAX_SESSION_ID: usize = 128;
/// What a `PATCH` on a session that listens may carry.
pub(crate) const CHANGE_OR_FRAGMENT: &str = "application/trickle-ice-sdpfrag, application/json";
/// Most that is read of a body that is refused for its size.
pub(crate) const MAX_DISCARDED: usize = 1024 * 1024;
/// Time for a body to arrive: a client that trickles bytes must not hold a connection.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_media_type(request.headers(), "application/json")?;
        let body = read(request, MAX_JSON).await?;
        from_json(&body).map(Self).map_err(|error| {
            let kind = match error.classify() {
                serde_json::error::Category::Data => Kind::InvalidField,
                _ => Kind::BadJson,
            };
            ApiError::new(kind, error.to_string())
        })
    }
}

/// One object and nothing after it.
fn from_json<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = object(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// An SDP offer, which is answered with SDP.
pub(crate) struct SdpBody(pub(crate) String);

impl<S: Send + Sync> FromRequest<S> for SdpBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_media_type(request.headers(), "application/sdp")
            .map_err(|error| suggest(error, "accept-post", "application/sdp"))?;
        if !accepts(request.headers(), "application/sdp") {
            return Err(ApiError::new(
                Kind::NotAcceptable,
                "the answer is application/sdp: name it in Accept, or leave the header out",
            ));
        }
        let body = read(request, MAX_SDP).await?;
        let text = String::from_utf8(body)
            .map_err(|_| ApiError::new(Kind::BadSdp, "the offer is not UTF-8 text"))?;
        if text.trim().is_empty() {
            return Err(ApiError::new(Kind::BadSdp, "the body is empty: send the SDP offer in it"));
        }
        Ok(Self(text))
    }
}

/// A fragment with ICE candidates (RFC 8840 §9).
pub(crate) struct SdpFragment(pub(crate) String);

impl<S: Send + Sync> FromRequest<S> for SdpFragment {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        require_media_type(request.headers(), SDP_FRAGMENT)
            .map_err(|error| suggest(error, "accept-patch", SDP_FRAGMENT))?;
        let body = read(request, MAX_SDP).await?;
        let text = String::from_utf8(body)
            .map_err(|_| ApiError::new(Kind::BadFragment, "the fragment is not UTF-8 text"))?;
        let is_sdp = |line: &str| {
            let mut bytes = line.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_lowercase()) && bytes.next() == Some(b'=')
        };
        if text.trim().is_empty() || !text.lines().filter(|line| !line.is_empty()).all(is_sdp) {
            return Err(ApiError::new(
                Kind::BadFragment,
                "a fragment is lines such as `a=mid:0` and `a=candidate:…`",
            ));
        }
        Ok(Self(text))
    }
}

/// What a `PATCH` on a session that listens says.
pub(crate) enum SessionPatch {
    /// About ICE.
    Ice(String),
    /// About what is heard.
    Change(ChangeSession),
}

impl<S: Send + Sync> FromRequest<S> for SessionPatch {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let essence = essence(request.headers()).unwrap_or_default().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => {
                let JsonBody(change) = JsonBody::from_request(request, state).await?;
                Ok(Self::Change(change))
            }
            SDP_FRAGMENT => {
                let SdpFragment(fragment) = SdpFragment::from_request(request, state).await?;
                Ok(Self::Ice(fragment))
            }
            _ => {
                let detail = format!("a session is changed with one of {CHANGE_OR_FRAGMENT}");
                let error = ApiError::new(Kind::UnsupportedMediaType, detail);
                Err(suggest(error, "accept-patch", CHANGE_OR_FRAGMENT))
            }
        }
    }
}

/// The room in the path; a name that no room can have is not found.
pub(crate) struct RoomPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for RoomPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(room) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_room("the path is not UTF-8"))?;
        validate::room_name(&room).map_err(|detail| no_such_room(&detail))?;
        Ok(Self(room))
    }
}

/// The room and the session in the path.
pub(crate) struct SessionPath {
    pub(crate) room: String,
    pub(crate) session: String,
}

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((room, session)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_room("the path is not UTF-8"))?;
        validate::room_name(&room).map_err(|detail| no_such_room(&detail))?;
        if session.len() > MAX_SESSION_ID || !session.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ApiError::new(Kind::NoSuchSession, "no session has such an id"));
        }
        Ok(Self { room, session })
    }
}

/// The room and the participant in the path.
pub(crate) struct ParticipantPath {
    pub(crate) room: String,
    pub(crate) identity: String,
}

impl<S: Send + Sync> FromRequestParts<S> for ParticipantPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((room, identity)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_room("the path is not UTF-8"))?;
        validate::room_name(&room).map_err(|detail| no_such_room(&detail))?;
        validate::identity(&identity)
            .map_err(|detail| ApiError::new(Kind::NoSuchParticipant, detail))?;
        Ok(Self { room, identity })
    }
}

/// The voice in the path; a name that no voice can have is not found.
pub(crate) struct VoicePath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for VoicePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let no_such_voice = |detail: &str| ApiError::new(Kind::NoSuchVoice, detail);
        let Path(voice) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_voice("the path is not UTF-8"))?;
        validate::voice_name(&voice).map_err(|detail| no_such_voice(&detail))?;
        Ok(Self(voice))
    }
}

fn no_such_room(detail: &str) -> ApiError {
    ApiError::new(Kind::NoSuchRoom, detail)
}

/// Says what would be accepted instead (RFC 5789 §2.2 for `PATCH`, and the same for `POST`).
fn suggest(error: ApiError, header: &'static str, accepted: &'static str) -> ApiError {
    error.with_header(HeaderName::from_static(header), HeaderValue::from_static(accepted))
}

/// The content type without its parameters.
fn essence(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.and_then(|value| value.split(';').next()).map(str::trim)
}

/// Parameters after the media type (`;charset=utf-8`) are allowed, another type is not.
pub(crate) fn require_media_type(headers: &HeaderMap, expected: &str) -> Result<(), ApiError> {
    match essence(headers) {
        Some(essence) if essence.eq_ignore_ascii_case(expected) => Ok(()),
        Some(essence) => Err(ApiError::new(
            Kind::UnsupportedMediaType,
            format!("the content type is {essence:?}: send {expected}"),
        )),
        None => Err(ApiError::new(
            Kind::UnsupportedMediaType,
            format!("there is no content type: send {expected}"),
        )),
    }
}

async fn read(request: Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let too_large =
        || ApiError::new(Kind::BodyTooLarge, format!("at most {limit} bytes are accepted here"));
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        discard(request.into_body(), MAX_DISCARDED).await;
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::new(Kind::BadRequest, "the body broke off")),
        Err(_) => Err(ApiError::new(
            Kind::RequestTimeout,
            format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

/// Reads a body that will not be used, up to `most` bytes: a client that is still sending when it is
/// refused would see a broken connection instead of the reason.
pub(crate) async fn discard(mut body: Body, most: usize) {
    let read_on = async {
        let mut left = most;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
            if left == 0 {
                return;
            }
        }
    };
    // A client that trickles is cut off: the reason it does not wait for is lost on it.
    let _ = tokio::time::timeout(BODY_TIMEOUT, read_on).await;
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}
