//! The events as server-sent events (HTML standard, section 9.2): each carries its number as `id`,
//! so that a browser which lost its connection asks for the rest by itself.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::reader::{Next, Reader};
use crate::wire::Lagged;

pub(super) fn answer(reader: Reader, ping_every: Duration) -> Response {
    let messages = stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        let (message, reader) = match reader.next().await {
            Next::Event(event) => {
                let message = Event::default().id(event.seq.to_string()).data(event.to_json());
                (message, Some(reader))
            }
            Next::Lost(missed) => (lagged(missed), Some(reader)),
            Next::Lagged(missed) => (lagged(missed), None),
            Next::Ended => return None,
        };
        Some((Ok::<_, Infallible>(message), reader))
    });
    Sse::new(messages).keep_alive(KeepAlive::new().interval(ping_every)).into_response()
}

/// It carries no number: the next connection asks from the last event that was seen.
fn lagged(missed: u64) -> Event {
    Event::default().event("lagged").data(Lagged::new(missed).to_json())
}
