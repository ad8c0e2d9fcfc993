//! `/v1/development`: what a server in development mode offers to whoever reaches it, so that its
//! page can be tried without a key. Outside development mode nothing is made here.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::bodies::JsonBody;
use crate::house::{House, HouseError};
use crate::problem::{ApiError, Kind};
use crate::rooms;
use crate::server::Api;
use crate::validate;
use crate::wire::{CreateDevelopmentToken, CreateRoom, CreateToken, Development, Grants, RoomKind};

/// `GET /v1/development`: how the page learns whether it needs a key or a token.
pub(crate) async fn show<H: House>(State(api): State<Api<H>>) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(Development { tokens: api.config.development })).into_response()
}

/// `POST /v1/development/tokens`: makes the call when it is missing, and a token for it.
pub(crate) async fn create_token<H: House>(
    State(api): State<Api<H>>,
    headers: HeaderMap,
    request: Result<JsonBody<CreateDevelopmentToken>, ApiError>,
) -> Result<Response, ApiError> {
    if !api.config.development {
        return Err(ApiError::new(
            Kind::NoDevelopment,
            "ask for a token with POST /v1/rooms/{room}/tokens and the server's API key",
        ));
    }
    require_same_origin(&headers)?;
    let JsonBody(request) = request?;
    let invalid = |detail| ApiError::new(Kind::InvalidField, detail);
    validate::room_name(&request.room).map_err(|detail| invalid(format!("room: {detail}")))?;
    let token = CreateToken {
        identity: request.identity.unwrap_or_else(invented_identity),
        name: request.name,
        language: request.language,
        hear: request.hear,
        voice: request.voice,
        grants: Grants::default(),
        ttl_s: None,
    };
    let answer = rooms::mint(&api, &request.room, &token)?;
    let call =
        CreateRoom { name: Some(request.room), kind: RoomKind::Call, ..CreateRoom::default() };
    match api.house.create_room(call) {
        Ok(_) | Err(HouseError::RoomExists(_)) => Ok(answer),
        Err(error) => Err(error.into()),
    }
}

/// No page of another site may join the calls of a developer who visits it: a browser names the
/// origin of the page that asks, and programs name none.
fn require_same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    if host.is_some() && authority.map(|(_, authority)| authority) == host {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::Forbidden,
        "only the server's own page may ask for a token without a key",
    ))
}

fn invented_identity() -> String {
    format!("guest-{:08x}", rand::random::<u32>())
}
