//! The events over a WebSocket, one JSON text message each, and why it was closed.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::reader::{Next, Reader};
use crate::wire::{EventKind, Lagged};

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
/// `reason` of `room.ended` when the server ends.
const SHUTDOWN: &str = "shutdown";

pub(super) fn answer(upgrade: WebSocketUpgrade, reader: Reader, ping_every: Duration) -> Response {
    upgrade
        .max_frame_size(MAX_CLIENT_MESSAGE)
        .max_message_size(MAX_CLIENT_MESSAGE)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .on_upgrade(move |socket| tell(socket, reader, ping_every))
}

async fn tell(mut socket: WebSocket, mut reader: Reader, ping_every: Duration) {
    let mut ping = interval_at(Instant::now() + ping_every, ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unanswered = 0;
    let mut end = "the room has ended";
    let (code, reason) = loop {
        tokio::select! {
            next = reader.next() => {
                let text = match next {
                    Next::Event(event) => {
                        if let EventKind::RoomEnded { reason } = &event.kind && reason == SHUTDOWN {
                            end = "the server is shutting down";
                        }
                        event.to_json()
                    }
                    Next::Lost(missed) => Lagged::new(missed).to_json(),
                    Next::Lagged(missed) => {
                        let reason = format!("missed {missed} events: connect again");
                        break (close_code::AGAIN, reason);
                    }
                    Next::Ended => break (close_code::AWAY, end.to_owned()),
                };
                if !send(&mut socket, Message::Text(text.into())).await {
                    return;
                }
            }
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
    drop(reader);
    close(&mut socket, code, reason).await;
}

/// False when the client is gone or takes nothing off the wire.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            tracing::info!("an event stream is let go: its client reads nothing");
            false
        }
    }
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
