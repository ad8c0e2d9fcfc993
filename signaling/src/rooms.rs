//! `/v1/rooms`: making, showing and ending rooms, and minting tokens for them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Access;
use crate::bodies::{JsonBody, RoomPath};
use crate::house::House;
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::tokens;
use crate::validate;
use crate::wire::{CreateRoom, CreateToken, Room};

/// `POST /v1/rooms`.
pub(crate) async fn create<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    JsonBody(request): JsonBody<CreateRoom>,
) -> Result<Response, ApiError> {
    access.require_admin()?;
    validate::create_room(&request).map_err(|detail| ApiError::new(Kind::InvalidField, detail))?;
    let room = api.house.create_room(request)?;
    let location = HeaderValue::try_from(format!("/v1/rooms/{}", room.name))
        .map_err(|_| ApiError::new(Kind::Internal, "the room's name cannot stand in a header"))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(room)).into_response())
}

/// `GET /v1/rooms`: a JSON array, oldest room first.
pub(crate) async fn list<H: House>(
    State(api): State<Api<H>>,
    access: Access,
) -> Result<Json<Vec<Room>>, ApiError> {
    access.require_admin()?;
    Ok(Json(api.house.rooms()))
}

/// `GET /v1/rooms/{room}`: for administrators and the room's own participants.
pub(crate) async fn show<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
) -> Result<Json<Room>, ApiError> {
    access.require_member(&room)?;
    Ok(Json(api.house.room(&room)?))
}

/// `DELETE /v1/rooms/{room}`: for administrators and the room's moderators.
pub(crate) async fn delete<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
) -> Result<StatusCode, ApiError> {
    access.require_moderator(&room)?;
    api.house.delete_room(&room)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/rooms/{room}/tokens`.
pub(crate) async fn create_token<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    JsonBody(request): JsonBody<CreateToken>,
) -> Result<Response, ApiError> {
    access.require_admin()?;
    api.house.room(&room)?;
    mint(&api, &room, &request)
}

/// The answer with a token, once the house has the voice asked for.
pub(crate) fn mint<H: House>(
    api: &Api<H>,
    room: &str,
    request: &CreateToken,
) -> Result<Response, ApiError> {
    let token = tokens::mint_token(&api.config.token_key, room, request)?;
    let hear = request.hear.as_ref().unwrap_or(&request.language);
    require_voice(&*api.house, hear, request.voice.as_deref())?;
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(token)).into_response())
}

/// A problem when the voice does not exist or does not speak the language heard.
pub(crate) fn require_voice<H: House>(
    house: &H,
    hear: &str,
    voice: Option<&str>,
) -> Result<(), ApiError> {
    if voice.is_none() {
        return Ok(());
    }
    validate::voice(&house.voices(), hear, voice)
        .map_err(|detail| ApiError::new(Kind::InvalidField, detail))
}
