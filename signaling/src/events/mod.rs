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
use utoipa::openapi::Required;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use self::filter::Filter;
use self::reader::Reader;
use crate::access::Access;
use crate::bodies::RoomPath;
use crate::house::House;
use crate::openapi::shapes::LanguageTag;
use crate::openapi::{Answer, Asks, Doc, Routes, string, tags};
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::wire::{Event, Lagged};

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

pub(crate) fn routes<H: House>() -> Routes<H> {
    let whole = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(u32::MAX));
    let doc = Doc::new(
        "followEvents",
        tags::EVENTS,
        "Follow what happens",
        "Over a WebSocket, one `Event` in each text message, when the client asks for the upgrade \
         (`Upgrade: websocket`); otherwise as server-sent events, with an `Event` as `data` and its \
         `seq` as `id`. A token needs the `listen` grant.\n\nA client that comes back names the \
         last event that it saw and gets what it missed. Where some of that is kept no more, a \
         `Lagged` comes first. A client that falls behind is let go: a WebSocket with code 1013, \
         server-sent events after a `Lagged`. Both end with the room.",
        Asks::KeyOrTokenInAddress,
    )
    .query_as("after", "`seq` of the last event that the client saw.", whole)
    .query::<LanguageTag>("language", "The one language whose captions are wanted.")
    .query_as(
        "types",
        "Types that are wanted, separated by commas; `utterance.*` names all that begin so.",
        string().examples(["utterance.translation,room.*"]),
    )
    .header(
        "Last-Event-ID",
        "As `after`, which it wins over: browsers send it when they come back.",
        Required::False,
    )
    .answers(Answer::new(101, "A WebSocket, with an `Event` in each text message."))
    .answers(
        Answer::new(200, "Server-sent events, with an `Event` in each `data`.")
            .content("text/event-stream", string())
            .speaks_of::<Event>()
            .speaks_of::<Lagged>(),
    )
    .problems(&[Kind::BadRequest, Kind::Overloaded]);
    Routes::new().at("/v1/rooms/{room}/events", |at| at.get(events::<H>, doc))
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
