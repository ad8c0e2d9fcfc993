//! `/v1/rooms/{room}/sessions`: one WebRTC peer per session, negotiated as WHIP does (RFC 9725):
//! the offer is posted, the answer comes back with every candidate in it.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Access;
use crate::bodies::{RoomPath, SdpBody, SdpFragment, SessionPath};
use crate::house::House;
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::{rooms, status};

/// `POST /v1/rooms/{room}/sessions`: 201 with the answer, its address and its entity tag.
pub(crate) async fn create<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    SdpBody(offer): SdpBody,
) -> Result<Response, ApiError> {
    let caller = access.into_caller(&room)?;
    status::require_ready(&*api.house)?;
    // A token may have been minted without this server, or before it was configured anew.
    rooms::require_voice(&*api.house, &caller.hear, caller.voice.as_deref())?;
    let session = api.house.connect(caller, offer).await?;
    let unfit = |_| ApiError::new(Kind::Internal, "the session's id cannot stand in a header");
    let location = format!("/v1/rooms/{room}/sessions/{}", session.id);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/sdp")),
        (header::LOCATION, HeaderValue::try_from(location).map_err(unfit)?),
        (header::ETAG, HeaderValue::try_from(format!("\"{}\"", session.etag)).map_err(unfit)?),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::CREATED, headers, session.answer_sdp).into_response())
}

/// `PATCH /v1/rooms/{room}/sessions/{session}`: trickled candidates are accepted and not needed,
/// because a server with a known address learns the client's from its connectivity checks
/// (peer-reflexive candidates, RFC 8445 §7.3.1.3). An ICE restart is refused, as RFC 9725 §4.3
/// allows.
pub(crate) async fn patch<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
    headers: HeaderMap,
    SdpFragment(fragment): SdpFragment,
) -> Result<StatusCode, ApiError> {
    access.require_member(&path.room)?;
    let current = api.house.session_etag(&path.room, &path.session)?;
    let Some(if_match) = headers.get(header::IF_MATCH) else {
        return Err(ApiError::new(
            Kind::PreconditionRequired,
            "send If-Match with the ETag of the answer",
        ));
    };
    let if_match = if_match.to_str().unwrap_or_default().trim();
    // RFC 9725 §4.3.3 writes the tag of a restart in quotes, RFC 9110 §13.1.1 without.
    if matches!(if_match, "*" | "\"*\"") {
        return Err(ApiError::new(
            Kind::IceRestartUnsupported,
            "end this session and post a new offer instead",
        ));
    }
    if current.is_some_and(|etag| if_match != format!("\"{etag}\"")) {
        return Err(ApiError::new(
            Kind::PreconditionFailed,
            "If-Match is not the session's ETag: it belongs to another answer",
        ));
    }
    let candidates = fragment.lines().filter(|line| line.starts_with("a=candidate:")).count();
    tracing::debug!(candidates, "ignoring trickled candidates");
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/rooms/{room}/sessions/{session}`: 200 (RFC 9725 §4.2).
pub(crate) async fn delete<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
) -> Result<StatusCode, ApiError> {
    access.require_member(&path.room)?;
    api.house.disconnect(&path.room, &path.session)?;
    Ok(StatusCode::OK)
}
