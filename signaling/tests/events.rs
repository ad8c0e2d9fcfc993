//! The event stream over real sockets: a WebSocket client, and a bare HTTP one.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{API_KEY, EVENT_BACKLOG, Face, FakeHouse};
use futures::{SinkExt, StreamExt};
use signaling::ApiConfig;
use signaling::house::House;
use signaling::wire::{Event, Grants};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Served {
    address: SocketAddr,
    house: Arc<FakeHouse>,
    token: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn serve(config: ApiConfig) -> Served {
    let face = Face::with_config(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = face.token("lobby", "ana", Grants::default()).token;
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let serving = tokio::spawn(signaling::serve(listener, face.router, shutdown));
    Served { address, house: face.house, token, stop, serving }
}

fn config() -> ApiConfig {
    ApiConfig::new(API_KEY, None, false).unwrap()
}

impl Served {
    fn url(&self) -> String {
        format!("ws://{}/v1/rooms/lobby/events?access_token={}", self.address, self.token)
    }

    async fn connect(&self) -> Socket {
        let (socket, response) = connect_async(self.url()).await.unwrap();
        assert_eq!(response.status(), 101);
        socket
    }

    async fn subscribed(&self, streams: usize) {
        let wait = async {
            while self.house.subscribers("lobby") != streams {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), wait).await.expect("the stream never subscribed");
    }
}

async fn next(socket: &mut Socket) -> Option<Result<Message, Error>> {
    timeout(Duration::from_secs(10), socket.next()).await.expect("nothing came for 10 s")
}

async fn next_event(socket: &mut Socket) -> Event {
    loop {
        match next(socket).await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("not an event: {other:?}"),
        }
    }
}

async fn close_of(socket: &mut Socket) -> (CloseCode, String) {
    loop {
        if let Message::Close(Some(frame)) = next(socket).await.unwrap().unwrap() {
            return (frame.code, frame.reason.to_string());
        }
    }
}

#[tokio::test]
async fn events_arrive_in_order_one_text_message_each() {
    let served = serve(config()).await;
    let mut socket = served.connect().await;
    for expected in 1..=50 {
        assert_eq!(served.house.publish("lobby"), expected);
        assert_eq!(next_event(&mut socket).await.seq, expected);
    }
}

#[tokio::test]
async fn two_clients_see_the_same_events() {
    let served = serve(config()).await;
    let (mut one, mut other) = (served.connect().await, served.connect().await);
    served.house.publish("lobby");
    assert_eq!(next_event(&mut one).await, next_event(&mut other).await);
}

#[tokio::test]
async fn a_client_that_lags_is_told_how_much_it_missed() {
    let served = serve(config()).await;
    let mut socket = served.connect().await;
    // One burst without a yield between the sends: the stream cannot run meanwhile.
    for _ in 0..EVENT_BACKLOG + 5 {
        served.house.publish("lobby");
    }
    let (code, reason) = close_of(&mut socket).await;
    assert_eq!(code, CloseCode::Again);
    assert_eq!(reason, "missed 5 events: connect again");
    served.subscribed(0).await;
}

#[tokio::test]
async fn the_end_of_the_room_ends_the_stream() {
    let served = serve(config()).await;
    let mut socket = served.connect().await;
    served.house.delete_room("lobby").unwrap();
    assert_eq!(close_of(&mut socket).await, (CloseCode::Away, "the room has ended".to_owned()));
}

#[tokio::test]
async fn what_a_client_says_is_ignored_and_bounded() {
    let served = serve(config()).await;
    let mut socket = served.connect().await;
    for _ in 0..20 {
        socket.send(Message::text("x".repeat(4000))).await.unwrap();
    }
    served.house.publish("lobby");
    assert_eq!(next_event(&mut socket).await.seq, 1);
    socket.send(Message::text("x".repeat(4097))).await.unwrap();
    assert_eq!(close_of(&mut socket).await.0, CloseCode::Size);
}

#[tokio::test]
async fn pings_come_and_a_client_that_answers_them_stays() {
    let served = serve(config().with_event_ping(Duration::from_millis(30))).await;
    let mut socket = served.connect().await;
    let mut pings = 0;
    while pings < 6 {
        // Reading a ping makes the client answer it.
        if matches!(next(&mut socket).await.unwrap().unwrap(), Message::Ping(_)) {
            pings += 1;
        }
    }
    served.house.publish("lobby");
    assert_eq!(next_event(&mut socket).await.seq, 1);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_let_go() {
    let served = serve(config().with_event_ping(Duration::from_millis(30))).await;
    let _silent = served.connect().await;
    served.subscribed(1).await;
    served.subscribed(0).await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let served = serve(config().with_max_event_streams(1)).await;
    let first = served.connect().await;
    let Err(Error::Http(response)) = connect_async(served.url()).await else {
        panic!("a second stream was accepted");
    };
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "10");
    drop(first);
    served.subscribed(0).await;
    served.connect().await;
}

#[tokio::test]
async fn a_refused_upgrade_is_a_problem() {
    let served = serve(config()).await;
    let url = format!("ws://{}/v1/rooms/lobby/events?access_token=nonsense", served.address);
    let Err(Error::Http(response)) = connect_async(url).await else {
        panic!("nonsense was accepted");
    };
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn without_an_upgrade_the_events_are_server_sent() {
    let served = serve(config()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!(
        "GET /v1/rooms/lobby/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        served.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    served.subscribed(1).await;
    served.house.publish("lobby");
    let mut received = String::new();
    let mut buffer = [0; 4096];
    while !received.contains("\n\n") {
        let length = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap();
        received.push_str(std::str::from_utf8(&buffer[..length.unwrap()]).unwrap());
    }
    assert!(received.contains("content-type: text/event-stream"), "{received}");
    assert!(received.contains("id: 1\n"), "{received}");
    assert!(
        received
            .contains(r#"data: {"seq":1,"time_ms":1,"room":"lobby","type":"participant.joined""#),
        "{received}"
    );
}

#[tokio::test]
async fn the_server_stops_although_streams_are_open() {
    let served = serve(config()).await;
    let _socket = served.connect().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!(
        "GET /v1/rooms/lobby/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        served.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    served.subscribed(2).await;
    served.stop.send(()).unwrap();
    let stopped = timeout(Duration::from_secs(8), served.serving).await;
    stopped.expect("serving went on").unwrap().unwrap();
}
