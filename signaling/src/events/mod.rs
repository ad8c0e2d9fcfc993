//! `GET /v1/rooms/{room}/events`: the room's events over a WebSocket, or as server-sent events for
//! a client that asks for no upgrade.
//!
//! A client that comes back names the last event it saw (`?after=7`, or the header that browsers
//! send for server-sent events) and gets what it missed, as far as the room keeps it; if some is
//! gone, it is told so first ([`crate::wire::Lagged`]). A stream holds no queue of its own: it reads
//! from the room's broadcast channel, and a client that falls behind it is told how many events it
//! missed and let go, so it can never hold the room's memory.

mod filter;
mod reader;
mod sse;
mod websocket;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde::Deserialize;

use self::filter::Filter;
use self::reader::Reader;
use crate::access::Access;
use crate::bodies::RoomPath;
use crate::house::House;
use crate::problem::{ApiError, Kind};
use crate::server::Api;

/// The header in which a browser names the last server-sent event it saw.
const LAST_EVENT_ID: &str = "last-event-id";

/// Parameters in the address; others are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct EventsQuery {
    /// A browser cannot set headers on a WebSocket, so the token may stand here.
    access_token: Option<String>,
    /// Number of the last event that the client saw.
    after: Option<u64>,
    /// The one language whose captions are wanted.
    language: Option<String>,
    /// The types wanted, separated by commas; `participant.*` names all that begin so.
    types: Option<String>,
}

/// `GET /v1/rooms/{room}/events`.
pub(crate) async fn events<H: House>(
    State(api): State<Api<H>>,
    RoomPath(room): RoomPath,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    extensions: Extensions,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::new(Kind::BadRequest, format!("the query cannot be read: {rejection}"))
    })?;
    let access = match &query.access_token {
        Some(token) => Access::from_token(token, &api.config)?,
        None => Access::from_headers(&headers, &api.config)?,
    };
    access.note(&extensions);
    access.require_listener(&room)?;
    let bad_request = |detail: String| ApiError::new(Kind::BadRequest, detail);
    let wants_websocket = headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let upgrade = match (wants_websocket, upgrade) {
        (true, Ok(upgrade)) => Some(upgrade),
        (true, Err(rejection)) => return Err(bad_request(rejection.to_string())),
        (false, _) => None,
    };
    let filter = Filter::parse(query.language, query.types.as_deref())
        .map_err(bad_request)?
        .within(access.channels());
    let after = last_event_id(&headers).map_err(bad_request)?.or(query.after);
    let feed = api.house.events(&room, after)?;
    let slot = api.event_slots.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(Kind::Overloaded, "the server has its most event streams: try again later")
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("10"))
    })?;
    let reader = Reader::new(feed, filter, slot, api.config.stats());
    let ping_every = api.config.event_ping;
    Ok(match upgrade {
        Some(upgrade) => websocket::answer(upgrade, reader, ping_every),
        None => sse::answer(reader, ping_every),
    })
}

/// What a browser saw last. It wins over the address, which stays as it was when the browser
/// connects again.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, String> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| "Last-Event-ID is not the number of an event".to_owned())
}
