//! `/v1/rooms/{room}/participants`: who is in a room, and what its moderators do about them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use crate::access::Access;
use crate::bodies::{JsonBody, ParticipantPath, RoomPath};
use crate::house::{House, HouseError};
use crate::problem::ApiError;
use crate::server::{Api, with_options};
use crate::tokens::unix_time_s;
use crate::wire::{ChangeParticipant, Participant};

pub(crate) fn routes<H: House>() -> Router<Api<H>> {
    let one = get(show::<H>).patch(change::<H>).delete(remove::<H>);
    Router::new()
        .route(
            "/v1/rooms/{room}/participants",
            with_options(get(list::<H>), "GET, HEAD, OPTIONS", None),
        )
        .route(
            "/v1/rooms/{room}/participants/{identity}",
            with_options(one, "GET, HEAD, PATCH, DELETE, OPTIONS", None),
        )
}

/// `GET /v1/rooms/{room}/participants`: for the room's own participants and administrators.
async fn list<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
) -> Result<Json<Vec<Participant>>, ApiError> {
    access.require_member(&room)?;
    Ok(Json(api.house.room(&room)?.participants))
}

/// `GET /v1/rooms/{room}/participants/{identity}`.
async fn show<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: ParticipantPath,
) -> Result<Json<Participant>, ApiError> {
    access.require_member(&path.room)?;
    find(&api, &path).map(Json)
}

/// `PATCH /v1/rooms/{room}/participants/{identity}`: silences them, or lets them speak again. Answers
/// with the participant as they are now.
async fn change<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: ParticipantPath,
    JsonBody(change): JsonBody<ChangeParticipant>,
) -> Result<Json<Participant>, ApiError> {
    access.require_moderator(&path.room)?;
    api.house.mute(&path.room, &path.identity, change.muted)?;
    find(&api, &path).map(Json)
}

/// `DELETE /v1/rooms/{room}/participants/{identity}`: ends their sessions, and refuses the tokens that
/// they hold for this room from now on.
async fn remove<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: ParticipantPath,
) -> Result<StatusCode, ApiError> {
    access.require_moderator(&path.room)?;
    // First the tokens: whoever is removed must not be back before it is done.
    let revocations = &api.config.revocations;
    let undo = revocations.revoke(&path.room, &path.identity, unix_time_s());
    if let Err(error) = api.house.remove_participant(&path.room, &path.identity) {
        revocations.undo(undo);
        return Err(error.into());
    }
    Ok(StatusCode::NO_CONTENT)
}

fn find<H: House>(api: &Api<H>, path: &ParticipantPath) -> Result<Participant, ApiError> {
    let mut participants = api.house.room(&path.room)?.participants.into_iter();
    let found = participants.find(|participant| participant.identity == path.identity);
    found.ok_or_else(|| HouseError::NoSuchParticipant(path.identity.clone()).into())
}
