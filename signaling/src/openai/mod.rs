//! The audio part of OpenAI's HTTP interface over our models, so that programs made for it need
//! nothing but another base address and key.
//!
//! - `POST /v1/audio/transcriptions` and `/v1/audio/translations`: a recording in parts of a form,
//!   written down, the latter in English. A segment is what the voice activity detector finds between
//!   two pauses.
//! - `POST /v1/audio/speech`: text spoken, streamed while it is made.
//! - `GET /v1/models`.
//!
//! The routes share the main port, since they keep its rule: the server's API key or an admin token
//! as `Authorization: Bearer`. Their errors are OpenAI's, `{"error": {"message", "type", "param",
//! "code"}}`. What is accepted and has no effect: `prompt`, `stream` of a transcription (as with
//! `whisper-1`), `instructions` of a speech. `mp3`, `aac` and `flac` are refused, since no encoder of
//! theirs is linked; without a `response_format` speech is WAV.

mod errors;
mod formats;
mod speech;
mod transcriptions;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::Access;
use crate::server::ApiConfig;
use crate::studio::{ModelKind, Studio};
use crate::{bodies, middleware};
use errors::{ApiError, Fault};

/// Uploads at a time; each may lie on the disk with its 25 MB. More are refused with 503.
const MAX_UPLOADS: usize = 8;
/// The names that programs made for the original ask for, beside those of our models.
const HEARING_ALIASES: &[&str] = &["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"];
const SPEAKING_ALIASES: &[&str] = &["tts-1", "tts-1-hd", "gpt-4o-mini-tts"];

/// What every handler holds.
pub(super) struct Face<S> {
    studio: Arc<S>,
    config: ApiConfig,
    uploads: Semaphore,
}

/// Every route of the face, to be merged into the main port's.
pub fn router<S: Studio>(studio: Arc<S>, config: ApiConfig) -> Router {
    let face = Arc::new(Face { studio, config, uploads: Semaphore::new(MAX_UPLOADS) });
    let guarded = |methods: MethodRouter<Arc<Face<S>>>, allow: &'static str| {
        methods
            .layer(from_fn_with_state(Arc::clone(&face), authorize::<S>))
            .options(move || async move { middleware::preflight(&HeaderValue::from_static(allow)) })
            .fallback(method_not_allowed)
    };
    let receiving = "POST, OPTIONS";
    let reading = "GET, HEAD, OPTIONS";
    Router::new()
        .route(
            "/v1/audio/transcriptions",
            guarded(post(transcriptions::transcribe::<S>), receiving)
                .layer(DefaultBodyLimit::disable()),
        )
        .route(
            "/v1/audio/translations",
            guarded(post(transcriptions::translate::<S>), receiving)
                .layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/audio/speech", guarded(post(speech::speak::<S>), receiving))
        .route("/v1/models", guarded(get(models::<S>), reading))
        .route("/v1/models/{model}", guarded(get(model::<S>), reading))
        .with_state(face)
        .layer(CatchPanicLayer::custom(panicked))
}

/// The server's key or an admin token; a participant's token opens rooms and not the models.
async fn authorize<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    request: Request,
    next: Next,
) -> Response {
    let access = Access::from_headers(request.headers(), &face.config);
    if let Ok(access) = &access {
        access.note(request.extensions());
    }
    let allowed = match access {
        Ok(access) if access.require_admin().is_ok() => Ok(()),
        Ok(_) => Err(ApiError::new(
            Fault::Forbidden,
            "a participant's token does not open the models: send the server's API key",
        )),
        Err(_) if request.headers().contains_key(axum::http::header::AUTHORIZATION) => {
            Err(ApiError::new(Fault::InvalidKey, "Incorrect API key provided."))
        }
        Err(_) => Err(ApiError::new(
            Fault::MissingKey,
            "You didn't provide an API key. You need to provide your API key in an Authorization \
             header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(error) => {
            bodies::discard(request.into_body(), bodies::MAX_DISCARDED).await;
            error.into_response()
        }
    }
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    ApiError::new(Fault::MethodNotAllowed, format!("Not allowed to {method} on {path}."))
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl Model {
    fn named(id: String) -> Self {
        Self { id, object: "model", created: 0, owned_by: "dragoman" }
    }
}

#[derive(Serialize)]
struct Models {
    object: &'static str,
    data: Vec<Model>,
}

impl<S: Studio> Face<S> {
    /// Every name that may be asked for.
    fn names(&self, kind: ModelKind) -> Vec<String> {
        let own = self.studio.models().into_iter().filter(|model| model.kind == kind);
        let aliases = match kind {
            ModelKind::Recogniser => HEARING_ALIASES,
            ModelKind::Voice => SPEAKING_ALIASES,
        };
        own.map(|model| model.name).chain(aliases.iter().map(ToString::to_string)).collect()
    }

    /// Refuses a model that does not do what is asked.
    fn require_model(&self, name: &str, kind: ModelKind) -> Result<(), ApiError> {
        if self.names(kind).iter().any(|known| known == name) {
            return Ok(());
        }
        Err(no_such_model(name))
    }
}

fn no_such_model(name: &str) -> ApiError {
    let message = format!("The model {name:?} does not exist here: see GET /v1/models");
    ApiError::new(Fault::NoSuchModel, message).about("model")
}

async fn models<S: Studio>(State(face): State<Arc<Face<S>>>) -> Json<Models> {
    let kinds = [ModelKind::Recogniser, ModelKind::Voice];
    let data = kinds.into_iter().flat_map(|kind| face.names(kind)).map(Model::named).collect();
    Json(Models { object: "list", data })
}

async fn model<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    Path(name): Path<String>,
) -> Result<Json<Model>, ApiError> {
    let kinds = [ModelKind::Recogniser, ModelKind::Voice];
    let known = kinds.into_iter().any(|kind| face.require_model(&name, kind).is_ok());
    if known { Ok(Json(Model::named(name))) } else { Err(no_such_model(&name)) }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that `CatchPanicLayer` calls")]
fn panicked(payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let message = payload.downcast_ref::<&str>().copied().unwrap_or("a panic with another payload");
    tracing::error!(message, "a request handler panicked");
    ApiError::new(Fault::Internal, errors::OUR_FAULT).into_response()
}
