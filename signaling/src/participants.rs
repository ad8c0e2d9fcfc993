//! `/v1/rooms/{room}/participants`: who is in a room, and what its moderators do about them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::access::Access;
use crate::bodies::{JsonBody, ParticipantPath, RoomPath};
use crate::house::{House, HouseError};
use crate::openapi::{Answer, Asks, Doc, Routes, tags};
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::tokens::unix_time_s;
use crate::voices;
use crate::wire::{ChangeParticipant, KeepVoice, Participant, VoiceInfo};

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = |id: &str, summary: &str, about: &str| {
        Doc::new(id, tags::PARTICIPANTS, summary, about, Asks::KeyOrToken)
    };
    let list_doc = doc("listParticipants", "List the participants", "Those who are in the room.")
        .answers(Answer::new(200, "The participants.").list::<Participant>());
    let show_doc = doc("getParticipant", "Show a participant", "One who is in the room.")
        .answers(Answer::new(200, "The participant.").json::<Participant>());
    let change_doc = doc(
        "changeParticipant",
        "Mute a participant, or let them speak again",
        "A token needs the `moderate` grant.",
    )
    .takes::<ChangeParticipant>(json!({ "muted": true }))
    .answers(Answer::new(200, "The participant as they are now.").json::<Participant>());
    let remove_doc = doc(
        "removeParticipant",
        "Remove a participant",
        "Ends their sessions and refuses the tokens that they hold for this room from now on. A \
         token needs the `moderate` grant.",
    )
    .answers(Answer::new(204, "They are out."));
    Routes::new()
        .at("/v1/rooms/{room}/participants", |at| at.get(list::<H>, list_doc))
        .at("/v1/rooms/{room}/participants/{identity}", |at| {
            at.get(show::<H>, show_doc)
                .patch(change::<H>, change_doc)
                .delete(remove::<H>, remove_doc)
        })
        .at("/v1/rooms/{room}/participants/{identity}/voice", |at| {
            at.post(keep_voice::<H>, keep_voice_doc())
        })
}

fn keep_voice_doc() -> Doc {
    Doc::new(
        "keepParticipantVoice",
        tags::PARTICIPANTS,
        "Keep a participant's own voice",
        "What was learned of it in this session (`participant.voice`) is stored under a name, and is \
         there when they have left: ask them first. Without this it is forgotten then.",
        Asks::Key,
    )
    .takes::<KeepVoice>(json!({ "name": "ana" }))
    .answers(
        Answer::new(201, "The voice.").json::<VoiceInfo>().header("Location", "Path of the voice."),
    )
    .problems(&[Kind::NotLearned, Kind::VoiceExists])
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

/// `POST /v1/rooms/{room}/participants/{identity}/voice`: stores what was learned of their voice.
async fn keep_voice<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: ParticipantPath,
    JsonBody(keep): JsonBody<KeepVoice>,
) -> Result<Response, ApiError> {
    access.require_admin()?;
    voices::require_name(&keep.name)?;
    voices::created(&api.house.keep_voice(&path.room, &path.identity, &keep.name)?)
}

fn find<H: House>(api: &Api<H>, path: &ParticipantPath) -> Result<Participant, ApiError> {
    let mut participants = api.house.room(&path.room)?.participants.into_iter();
    let found = participants.find(|participant| participant.identity == path.identity);
    found.ok_or_else(|| HouseError::NoSuchParticipant(path.identity.clone()).into())
}
