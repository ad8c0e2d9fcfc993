//! `/v1/rooms/{room}/sessions`: one WebRTC peer per session, negotiated as WHIP does (RFC 9725):
//! the offer is posted, the answer comes back with every candidate in it.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Access;
use crate::bodies::{RoomPath, SDP_FRAGMENT, SdpBody, SdpFragment, SessionPath};
use crate::house::{House, IceUpdate};
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
        (header::ETAG, entity_tag(&session.etag)?),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::CREATED, headers, session.answer_sdp).into_response())
}

/// `PATCH /v1/rooms/{room}/sessions/{session}` (RFC 9725 §4.3): candidates of the client are taken
/// with 204, new credentials restart ICE with 200, a fragment and a new entity tag.
///
/// `If-Match: *` asks for a restart whatever the ICE session of now (§4.3.3), an entity tag goes
/// with candidates, and with a restart that should not undo somebody else's.
pub(crate) async fn patch<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
    headers: HeaderMap,
    SdpFragment(fragment): SdpFragment,
) -> Result<Response, ApiError> {
    access.require_member(&path.room)?;
    let Some(if_match) = headers.get(header::IF_MATCH) else {
        return Err(ApiError::new(
            Kind::PreconditionRequired,
            "send If-Match with the ETag of the answer, or * to restart ICE",
        ));
    };
    let if_match = if_match.to_str().unwrap_or_default().trim();
    // RFC 9725 §4.3.3 writes the tag of a restart in quotes, RFC 9110 §13.1.1 without.
    let is_any = matches!(if_match, "*" | "\"*\"");
    let names_nothing_new = || {
        ApiError::new(
            Kind::NoIceCredentials,
            "a restart carries an ice-ufrag and an ice-pwd that the session has not seen",
        )
    };
    if is_any && !fragment.lines().any(|line| line.starts_with("a=ice-ufrag:")) {
        return Err(names_nothing_new());
    }
    // Tags are compared as strong ones (RFC 9110 §13.1.1): one that is weak or bare fits none.
    let tag = if_match.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let expected = (!is_any).then(|| tag.unwrap_or_default().to_owned());
    let update = api.house.update_ice(&path.room, &path.session, expected, fragment).await?;
    match update {
        IceUpdate::Trickled if is_any => Err(names_nothing_new()),
        IceUpdate::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        IceUpdate::Restarted { fragment, etag } => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(SDP_FRAGMENT)),
                (header::ETAG, entity_tag(&etag)?),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            Ok((StatusCode::OK, headers, fragment).into_response())
        }
    }
}

fn entity_tag(etag: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(format!("\"{etag}\""))
        .map_err(|_| ApiError::new(Kind::Internal, "the session's tag cannot stand in a header"))
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
