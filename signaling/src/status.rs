//! What a client or a load balancer asks before it asks for anything else.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::house::House;
use crate::openapi::{Answer, Asks, Doc, Routes, tags};
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::wire::{LanguageInfo, Status};

/// Seconds after which a client may ask again while models load.
const READY_RETRY_S: u32 = 5;

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = |id: &str, summary: &str, about: &str, asks| {
        Doc::new(id, tags::SERVER, summary, about, asks)
    };
    let languages_doc = doc(
        "listLanguages",
        "List the languages",
        "Those that can be spoken, and into which each can be interpreted.",
        Asks::Nobody,
    )
    .answers(Answer::new(200, "The languages.").list::<LanguageInfo>());
    let healthz_doc =
        doc("getHealth", "Whether the process answers", "And nothing more.", Asks::Health)
            .answers(Answer::new(200, "It answers: `ok`.").json::<Status>());
    let readyz_doc = doc(
        "getReadiness",
        "Whether the server takes sessions",
        "It does once every model is loaded and warm, and until it is about to end.",
        Asks::Health,
    )
    .answers(Answer::new(200, "It does: `ready`.").json::<Status>())
    .problems(&[Kind::NotReady, Kind::Draining]);
    Routes::new()
        .at("/v1/languages", |at| at.get(languages::<H>, languages_doc))
        .at("/healthz", |at| at.get(healthz, healthz_doc))
        .at("/readyz", |at| at.get(readyz::<H>, readyz_doc))
}

/// `GET /v1/languages`.
pub(crate) async fn languages<H: House>(State(api): State<Api<H>>) -> Json<Vec<LanguageInfo>> {
    Json(api.house.languages())
}

/// `GET /healthz`: the process answers; nothing more.
pub(crate) async fn healthz() -> Response {
    ok("ok")
}

/// `GET /readyz`: every model is loaded and warm, and the server is not about to end.
pub(crate) async fn readyz<H: House>(State(api): State<Api<H>>) -> Result<Response, ApiError> {
    require_ready(&*api.house)?;
    Ok(ok("ready"))
}

/// A problem while the house is still loading, or about to end.
pub(crate) fn require_ready<H: House>(house: &H) -> Result<(), ApiError> {
    if house.is_draining() {
        return Err(ApiError::draining());
    }
    house.ready().map_err(|missing| {
        ApiError::new(Kind::NotReady, missing)
            .with_header(header::RETRY_AFTER, HeaderValue::from(READY_RETRY_S))
    })
}

fn ok(status: &str) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(Status { status: status.to_owned() })).into_response()
}
