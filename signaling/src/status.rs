//! What a client or a load balancer asks before it asks for anything else.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::house::House;
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::wire::{LanguageInfo, VoiceInfo};

/// Seconds after which a client may ask again while models load.
const READY_RETRY_S: u32 = 5;

/// `GET /v1/languages`.
pub(crate) async fn languages<H: House>(State(api): State<Api<H>>) -> Json<Vec<LanguageInfo>> {
    Json(api.house.languages())
}

/// `GET /v1/voices`.
pub(crate) async fn voices<H: House>(State(api): State<Api<H>>) -> Json<Vec<VoiceInfo>> {
    Json(api.house.voices())
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
    (no_store, Json(serde_json::json!({ "status": status }))).into_response()
}
