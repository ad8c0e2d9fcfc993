//! `/v1/rooms`: making, showing and ending rooms, and minting tokens for them.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Access;
use crate::bodies::{JsonBody, RoomPath};
use crate::house::House;
use crate::livekit;
use crate::parameters::Parameters;
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
    access.require_creator()?;
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
    access.require_lister()?;
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

/// `DELETE /v1/rooms/{room}`: for administrators, services that make rooms, and the room's moderators.
pub(crate) async fn delete<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
) -> Result<StatusCode, ApiError> {
    access.require_creator().or_else(|_| access.require_moderator(&room))?;
    api.house.delete_room(&room)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/rooms/{room}/tokens`; with `?claims=livekit` in the words of LiveKit.
pub(crate) async fn create_token<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    RawQuery(query): RawQuery,
    JsonBody(request): JsonBody<CreateToken>,
) -> Result<Response, ApiError> {
    access.require_admin()?;
    let parameters = Parameters::read(query.as_deref(), &["claims"])?;
    let form = parameters.get("claims", |value| match value {
        "livekit" => Ok(TokenForm::LiveKit),
        "dragoman" => Ok(TokenForm::Ours),
        _ => Err("a token has the claims of dragoman or of livekit".to_owned()),
    })?;
    api.house.room(&room)?;
    mint(&api, &room, &request, form.unwrap_or(TokenForm::Ours))
}

/// In which claims a token says what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenForm {
    Ours,
    LiveKit,
}

/// The answer with a token, once the house has the voice asked for.
pub(crate) fn mint<H: House>(
    api: &Api<H>,
    room: &str,
    request: &CreateToken,
    form: TokenForm,
) -> Result<Response, ApiError> {
    let key = api.config.keys.first();
    // Who was removed a moment ago and is let in again is not removed once more.
    let issued_at_s =
        api.config.revocations.issue_time(room, &request.identity, tokens::unix_time_s());
    let token = match form {
        TokenForm::Ours => tokens::mint_token_as_of(key.token_key(), room, request, issued_at_s)?,
        TokenForm::LiveKit => livekit::mint_livekit_token_as_of(key, room, request, issued_at_s)?,
    };
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
