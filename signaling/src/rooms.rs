//! `/v1/rooms`: making, showing and ending rooms, and minting tokens for them.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa::openapi::link::LinkBuilder;

use crate::access::Access;
use crate::bodies::{JsonBody, RoomPath};
use crate::house::{House, HouseError};
use crate::livekit;
use crate::openapi::{Answer, Asks, Doc, Routes, one_of, tags};
use crate::parameters::Parameters;
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::tokens;
use crate::validate;
use crate::wire::{CreateRoom, CreateToken, OWN_VOICE, Room, Token};

pub(crate) fn routes<H: House>() -> Routes<H> {
    Routes::new()
        .at("/v1/rooms", |at| at.get(list::<H>, list_doc()).post(create::<H>, create_doc()))
        .at("/v1/rooms/{room}", |at| {
            at.get(show::<H>, show_doc()).delete(delete::<H>, delete_doc())
        })
        .at("/v1/rooms/{room}/tokens", |at| at.post(create_token::<H>, create_token_doc()))
}

fn create_doc() -> Doc {
    let next = |operation: &str, about: &str| {
        LinkBuilder::new()
            .operation_id(operation)
            .parameter("room", "$response.body#/name")
            .description(about)
            .build()
    };
    Doc::new(
        "createRoom",
        tags::ROOMS,
        "Make a room",
        "Every field may be left out: the server then takes its defaults, and invents a name. A \
         room ends by itself after it was empty for a while.",
        Asks::Key,
    )
    .takes::<CreateRoom>(json!({ "name": "desk", "languages": ["en", "es"] }))
    .answers(
        Answer::new(201, "The room.")
            .json::<Room>()
            .header("Location", "Path of the room.")
            .link("show", next("getRoom", "Shows the room."))
            .link("token", next("createToken", "Makes a token for the room."))
            .link("delete", next("deleteRoom", "Ends the room.")),
    )
    .problems(&[Kind::RoomExists, Kind::Overloaded, Kind::Draining])
}

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

fn list_doc() -> Doc {
    Doc::new("listRooms", tags::ROOMS, "List the rooms", "Those that there are now.", Asks::Key)
        .answers(Answer::new(200, "The rooms, oldest first.").list::<Room>())
}

/// `GET /v1/rooms`: a JSON array, oldest room first.
pub(crate) async fn list<H: House>(
    State(api): State<Api<H>>,
    access: Access,
) -> Result<Json<Vec<Room>>, ApiError> {
    access.require_lister()?;
    Ok(Json(api.house.rooms()))
}

fn show_doc() -> Doc {
    Doc::new(
        "getRoom",
        tags::ROOMS,
        "Show a room",
        "Its properties and who is in it, for whoever may be there.",
        Asks::KeyOrToken,
    )
    .answers(Answer::new(200, "The room.").json::<Room>())
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

fn delete_doc() -> Doc {
    Doc::new(
        "deleteRoom",
        tags::ROOMS,
        "End a room",
        "Ends every session in it. A token needs the `moderate` grant.",
        Asks::KeyOrToken,
    )
    .answers(Answer::new(204, "The room is over."))
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

fn create_token_doc() -> Doc {
    Doc::new(
        "createToken",
        tags::TOKENS,
        "Make a token",
        "A token for one participant of one room. Give it to them; it cannot be made from another \
         token.",
        Asks::Key,
    )
    .query_as(
        "claims",
        "Whether the token says what it says in this server's words or in LiveKit's.",
        one_of(["dragoman", "livekit"]),
    )
    .takes::<CreateToken>(json!({ "identity": "ana", "language": "es", "hear": "en" }))
    .answers(Answer::new(201, "The token.").json::<Token>())
    .problems(&[Kind::InvalidParameter, Kind::CannotLearn])
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

/// A problem when the voice does not exist or does not speak the language heard, or is the
/// participant's own where none can be learned.
pub(crate) fn require_voice<H: House>(
    house: &H,
    hear: &str,
    voice: Option<&str>,
) -> Result<(), ApiError> {
    match voice {
        None => return Ok(()),
        Some(OWN_VOICE) if house.can_learn() => return Ok(()),
        Some(OWN_VOICE) => return Err(HouseError::CannotLearn.into()),
        Some(_) => {}
    }
    validate::voice(&house.voices(), hear, voice)
        .map_err(|detail| ApiError::new(Kind::InvalidField, detail))
}
