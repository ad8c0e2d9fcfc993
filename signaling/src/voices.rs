//! `/v1/voices`: which voices there are, and those that are learned from recordings of somebody who has
//! agreed to it.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::access::Access;
use crate::bodies::{self, VoicePath};
use crate::form::{Form, FormError};
use crate::house::{House, HouseError, NewVoice};
use crate::openapi::shapes::NewVoice as NewVoiceForm;
use crate::openapi::{Answer, Asks, Doc, Routes, tags};
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::validate;
use crate::wire::VoiceInfo;

/// Uploads of recordings at a time; each may lie on the disk with its 25 MB. More are refused with
/// 503.
pub(crate) const MAX_UPLOADS: usize = 4;
/// Seconds after which a client may try again while others upload.
const RETRY_AFTER_S: u32 = 5;
/// The parts of the form with the recordings.
const CLIP: &str = "clip";

pub(crate) fn routes<H: House>() -> Routes<H> {
    let list_doc = Doc::new(
        "listVoices",
        tags::VOICES,
        "List the voices",
        "Those that a token may ask for, the preferred engine's first.",
        Asks::Nobody,
    )
    .answers(Answer::new(200, "The voices.").list::<VoiceInfo>());
    let learn_doc = Doc::new(
        "learnVoice",
        tags::VOICES,
        "Learn a voice from recordings",
        "The voice is stored, and may be asked for by its name from then on. It takes some seconds. \
         Only voices of people who have agreed to it may be learned: `consent` states that they have. \
         A language that learned voices do not speak is refused.",
        Asks::Key,
    )
    .takes_form::<NewVoiceForm>(json!({
        "name": "ana", "consent": "true", "clip": ["@one.wav", "@two.wav"],
    }))
    .answers(
        Answer::new(201, "The voice.").json::<VoiceInfo>().header("Location", "Path of the voice."),
    )
    .problems(&[
        Kind::CannotLearn,
        Kind::MissingConsent,
        Kind::BadRecording,
        Kind::VoiceExists,
        Kind::Overloaded,
        Kind::Draining,
    ]);
    let forget_doc = Doc::new(
        "forgetVoice",
        tags::VOICES,
        "Forget a learned voice",
        "Also where it is stored. Who asked for it is interpreted in the usual voice from now on.",
        Asks::Key,
    )
    .answers(Answer::new(204, "It is forgotten."))
    .problems(&[Kind::BuiltInVoice]);
    Routes::new()
        .at("/v1/voices", |at| {
            at.get(list::<H>, list_doc).post(learn::<H>, learn_doc).without_body_limit()
        })
        .at("/v1/voices/{voice}", |at| at.delete(forget::<H>, forget_doc))
}

/// `GET /v1/voices`.
async fn list<H: House>(State(api): State<Api<H>>) -> Json<Vec<VoiceInfo>> {
    Json(api.house.voices())
}

/// `POST /v1/voices`.
async fn learn<H: House>(
    State(api): State<Api<H>>,
    access: Result<Access, ApiError>,
    request: Request,
) -> Result<Response, ApiError> {
    // Whoever is refused is still sending: without reading on, the answer would not reach them.
    let allowed =
        access
            .and_then(|access| access.require_admin())
            .and_then(|()| bodies::require_media_type(request.headers(), "multipart/form-data"))
            .and_then(|()| {
                if api.house.can_learn() { Ok(()) } else { Err(HouseError::CannotLearn.into()) }
            })
            .and_then(|()| {
                let full = HouseError::Overloaded { retry_after_s: RETRY_AFTER_S };
                api.upload_slots.try_acquire().map_err(|_| full.into())
            });
    let _slot = match allowed {
        Ok(slot) => slot,
        Err(error) => {
            bodies::discard(request.into_body(), bodies::MAX_DISCARDED).await;
            return Err(error);
        }
    };
    let form = Form::read(request, CLIP).await?;
    if form.field("consent") != Some("true") {
        return Err(ApiError::new(
            Kind::MissingConsent,
            "a voice is learned only of somebody who has agreed to it: state that they have with the \
             field consent=true",
        ));
    }
    let invalid = |detail: String| ApiError::new(Kind::InvalidField, detail);
    let name = form.field("name").ok_or_else(|| invalid("name: the form has none".to_owned()))?;
    require_name(name)?;
    let language = form.field("language").map(str::to_owned);
    if let Some(language) = &language {
        validate::language(language).map_err(|detail| invalid(format!("language: {detail}")))?;
    }
    let clips = form.files.iter().map(|file| file.path().to_owned()).collect();
    let voice = NewVoice { name: name.to_owned(), language, clips };
    created(&api.house.learn_voice(voice).await?)
}

/// `DELETE /v1/voices/{voice}`.
async fn forget<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    VoicePath(voice): VoicePath,
) -> Result<StatusCode, ApiError> {
    access.require_admin()?;
    api.house.forget_voice(&voice)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A problem when no learned voice can have the name.
pub(crate) fn require_name(name: &str) -> Result<(), ApiError> {
    validate::learned_voice_name(name)
        .map_err(|detail| ApiError::new(Kind::InvalidField, format!("name: {detail}")))
}

/// The answer with a voice that is there now.
pub(crate) fn created(voice: &VoiceInfo) -> Result<Response, ApiError> {
    let location = HeaderValue::try_from(format!("/v1/voices/{}", voice.name))
        .map_err(|_| ApiError::new(Kind::Internal, "the voice's name cannot stand in a header"))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(voice)).into_response())
}

impl From<FormError> for ApiError {
    fn from(error: FormError) -> Self {
        let kind = match &error {
            FormError::Storage(error) => {
                tracing::error!(%error, "an upload cannot be stored");
                return Self::new(Kind::Internal, "the cause is in the server's log");
            }
            FormError::NoForm | FormError::Damaged(_) => Kind::BadRequest,
            FormError::TooLarge(_) => Kind::BodyTooLarge,
            FormError::TooSlow(_) => Kind::RequestTimeout,
            FormError::Empty => Kind::BadRecording,
            FormError::NoFile(_) => Kind::InvalidField,
        };
        Self::new(kind, error.to_string())
    }
}
