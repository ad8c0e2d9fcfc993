//! The room's events over a WebSocket, each with the instant at which it arrived here.

use std::time::{Duration, Instant};

use futures::StreamExt;
use signaling::wire::Event;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Why the events stopped.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The address is not `http://…`.
    #[error("{0:?} is no server address: it begins with http:// or https://")]
    Address(String),
    /// The token cannot stand in a header.
    #[error("the access token holds characters that no token has")]
    Token,
    /// The server refused the stream.
    #[error("the event stream was refused with status {0}")]
    Refused(u16),
    /// The connection could not be made or broke.
    #[error("the event stream broke")]
    Broken(#[source] Box<SocketError>),
    /// The server closed it: the room ended, or this client fell behind.
    #[error("the event stream was closed: {0}")]
    Closed(String),
    /// A message is no event of this API.
    #[error("the event stream sent something that is no event: {0}")]
    NoEvent(String),
}

/// An event and when it came.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The event.
    pub event: Event,
    /// When this client read it.
    pub at: Instant,
}

/// A WebSocket on `GET /v1/rooms/{room}/events`.
#[derive(Debug)]
pub struct EventStream {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl EventStream {
    /// Connects; events from this moment on will be delivered.
    ///
    /// # Errors
    /// [`EventError`] when the address, the token or the server does not fit.
    pub async fn open(server: &str, room: &str, token: &str) -> Result<Self, EventError> {
        let rest = server
            .strip_prefix("http")
            .filter(|rest| rest.starts_with("://") || rest.starts_with("s://"))
            .ok_or_else(|| EventError::Address(server.to_owned()))?;
        let address = format!("ws{}/v1/rooms/{room}/events", rest.trim_end_matches('/'));
        let mut request =
            address.into_client_request().map_err(|_| EventError::Address(server.to_owned()))?;
        let authorization = HeaderValue::try_from(format!("Bearer {token}"));
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, authorization.map_err(|_| EventError::Token)?);
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(SocketError::Http(response)) => {
                Err(EventError::Refused(response.status().as_u16()))
            }
            Err(error) => Err(EventError::Broken(Box::new(error))),
        }
    }

    /// The next event; pings are answered on the way. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`EventError`] once the stream is over.
    pub async fn next(&mut self) -> Result<Arrived, EventError> {
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(EventError::Broken(Box::new(error))),
                None => return Err(EventError::Closed("without a reason".to_owned())),
            };
            let at = Instant::now();
            match message {
                Message::Text(text) => {
                    let event = serde_json::from_str(&text)
                        .map_err(|error| EventError::NoEvent(error.to_string()))?;
                    return Ok(Arrived { event, at });
                }
                Message::Close(frame) => {
                    let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                    return Err(EventError::Closed(reason));
                }
                _ => {}
            }
        }
    }

    /// The next event, or `None` when none comes in time.
    ///
    /// # Errors
    /// [`EventError`] once the stream is over.
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Arrived>, EventError> {
        match tokio::time::timeout(patience, self.next()).await {
            Ok(arrived) => arrived.map(Some),
            Err(_) => Ok(None),
        }
    }
}
