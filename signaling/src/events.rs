//! `GET /v1/rooms/{room}/events`: the room's events over a WebSocket, or as server-sent events for
//! a client that asks for no upgrade.
//!
//! A stream holds no queue of its own: it reads from the room's broadcast channel, and a client
//! that falls behind it is told how many events it missed and let go, so it can never hold the
//! room's memory.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::access::Access;
use crate::bodies::RoomPath;
use crate::house::House;
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::wire::Event;

/// Largest frame and message a client may send; what it sends is not read.
const MAX_CLIENT_MESSAGE: usize = 4096;
/// Bytes that may wait for a client's socket; one event is well below 16 KiB.
const MAX_WRITE_BUFFER: usize = 256 * 1024;
/// Time a client has to take one message off the wire.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a client has to answer a closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pings that may stay unanswered.
const MAX_UNANSWERED_PINGS: u32 = 2;

/// Parameters in the address; others are ignored.
#[derive(Deserialize)]
pub(crate) struct EventsQuery {
    /// A browser cannot set headers on a WebSocket, so the token may stand here.
    access_token: Option<String>,
}

/// `GET /v1/rooms/{room}/events`.
pub(crate) async fn events<H: House>(
    State(api): State<Api<H>>,
    RoomPath(room): RoomPath,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Query(query) =
        query.map_err(|_| ApiError::new(Kind::BadRequest, "the query cannot be read"))?;
    let access = match &query.access_token {
        Some(token) => Access::from_token(token, &api.config)?,
        None => Access::from_headers(&headers, &api.config)?,
    };
    access.require_listener(&room)?;
    let wants_websocket = headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let upgrade = match (wants_websocket, upgrade) {
        (true, Ok(upgrade)) => Some(upgrade),
        (true, Err(rejection)) => {
            return Err(ApiError::new(Kind::BadRequest, rejection.to_string()));
        }
        (false, _) => None,
    };
    let events = api.house.events(&room, None)?.live;
    let slot = api.event_slots.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(Kind::Overloaded, "the server has its most event streams: try again later")
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("10"))
    })?;
    let ping_every = api.config.event_ping;
    Ok(match upgrade {
        Some(upgrade) => upgrade
            .max_frame_size(MAX_CLIENT_MESSAGE)
            .max_message_size(MAX_CLIENT_MESSAGE)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_WRITE_BUFFER)
            .on_upgrade(move |socket| over_websocket(socket, events, ping_every, slot)),
        None => Sse::new(as_sse(events, slot))
            .keep_alive(KeepAlive::new().interval(ping_every))
            .into_response(),
    })
}

async fn over_websocket(
    mut socket: WebSocket,
    mut events: Receiver<Event>,
    ping_every: Duration,
    _slot: OwnedSemaphorePermit,
) {
    let mut ping = interval_at(Instant::now() + ping_every, ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unanswered = 0;
    let (code, reason) = loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => {
                    if !send(&mut socket, Message::Text(to_json(&event).into())).await {
                        return;
                    }
                }
                Err(RecvError::Lagged(missed)) => break (close_code::AGAIN, missed_text(missed)),
                Err(RecvError::Closed) => break (close_code::AWAY, "the room has ended".to_owned()),
            },
            incoming = socket.recv() => match incoming {
                Some(Ok(Message::Close(_))) | None => return,
                Some(Ok(_)) => unanswered = 0,
                Some(Err(_)) => {
                    let reason = format!("a message may have {MAX_CLIENT_MESSAGE} bytes");
                    break (close_code::SIZE, reason);
                }
            },
            _ = ping.tick() => {
                if unanswered == MAX_UNANSWERED_PINGS {
                    break (close_code::AWAY, "pings were not answered".to_owned());
                }
                unanswered += 1;
                if !send(&mut socket, Message::Ping(Vec::new().into())).await {
                    return;
                }
            }
        }
    };
    close(&mut socket, code, reason).await;
}

/// False when the client is gone or takes nothing off the wire.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SEND_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}

/// Closes, and reads on until the client has seen it: a socket dropped with unread input would
/// reset the connection and lose the reason.
async fn close(socket: &mut WebSocket, code: u16, reason: String) {
    let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
    if !send(socket, Message::Close(Some(frame))).await {
        return;
    }
    let closed = async { while let Some(Ok(_)) = socket.recv().await {} };
    // Whether it answered or not, the connection ends here.
    let _ = timeout(CLOSE_TIMEOUT, closed).await;
}

fn as_sse(
    events: Receiver<Event>,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    stream::unfold(Some((events, slot)), async |state| {
        let (mut events, slot) = state?;
        match events.recv().await {
            Ok(event) => {
                let message = SseEvent::default().id(event.seq.to_string()).data(to_json(&event));
                Some((Ok(message), Some((events, slot))))
            }
            Err(RecvError::Lagged(missed)) => {
                let message = SseEvent::default().event("lagged").data(missed_text(missed));
                Some((Ok(message), None))
            }
            Err(RecvError::Closed) => None,
        }
    })
}

fn missed_text(missed: u64) -> String {
    format!("missed {missed} events: connect again")
}

fn to_json(event: &Event) -> String {
    serde_json::to_string(event).expect("events hold only strings and finite or null numbers")
}
