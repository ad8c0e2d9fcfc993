//! The event stream over real sockets: a WebSocket client, and a bare HTTP one.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{API_KEY, EVENT_BACKLOG, Face, FakeHouse};
use futures::{SinkExt, StreamExt};
use signaling::house::House;
use signaling::wire::{Event, EventKind, Grants};
use signaling::{ApiConfig, Serving};
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
        self.connect_with("").await
    }

    async fn connect_with(&self, parameters: &str) -> Socket {
        let (socket, response) = connect_async(self.url() + parameters).await.unwrap();
        assert_eq!(response.status(), 101);
        socket
    }

    /// Asks for server-sent events.
    async fn ask(&self, parameters: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET /v1/rooms/lobby/events?{parameters} HTTP/1.1\r\nhost: x\r\n{headers}\
             authorization: Bearer {}\r\n\r\n",
            self.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
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

/// Reads until `end` stands in it.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut received = String::new();
    let mut buffer = [0; 4096];
    while !received.contains(end) {
        let length = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap();
        let length = length.unwrap();
        assert_ne!(length, 0, "it ended after {received}");
        received.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    received
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
    let ended = next_event(&mut socket).await;
    assert_eq!(ended.kind, EventKind::RoomEnded { reason: "deleted".to_owned() });
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
    let mut stream = served.ask("", "").await;
    served.subscribed(1).await;
    served.house.publish("lobby");
    let received = read_until(&mut stream, "\n\n").await;
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
    let _stream = served.ask("", "").await;
    served.subscribed(2).await;
    served.stop.send(()).unwrap();
    let stopped = timeout(Duration::from_secs(8), served.serving).await;
    stopped.expect("serving went on").unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_and_each_event_once() {
    let served = serve(config()).await;
    for _ in 0..5 {
        served.house.publish("lobby");
    }
    let mut socket = served.connect_with("&after=2").await;
    for expected in 3..=5 {
        assert_eq!(next_event(&mut socket).await.seq, expected);
    }
    served.house.publish("lobby");
    assert_eq!(next_event(&mut socket).await.seq, 6);

    // The header of a browser that connects again wins over the address, which stays as it was.
    let mut stream = served.ask("after=1", "last-event-id: 4\r\n").await;
    let received = read_until(&mut stream, "id: 6\n").await;
    assert!(received.contains("id: 5\n") && !received.contains("id: 4\n"), "{received}");

    for (parameters, headers) in [("after=x", ""), ("after=-1", ""), ("", "last-event-id: x\r\n")] {
        let mut stream = served.ask(parameters, headers).await;
        let received = read_until(&mut stream, "\r\n\r\n").await;
        assert!(received.starts_with("HTTP/1.1 400"), "{received}");
    }
}

#[tokio::test]
async fn what_is_kept_no_more_is_told_first() {
    let served = serve(config()).await;
    for _ in 0..5 {
        served.house.publish("lobby");
    }
    served.house.kept.store(2, Ordering::Relaxed);
    let mut socket = served.connect_with("&after=1").await;
    let Message::Text(text) = next(&mut socket).await.unwrap().unwrap() else {
        panic!("no text came first");
    };
    assert_eq!(text.as_str(), r#"{"type":"lagged","missed":2}"#);
    assert_eq!(next_event(&mut socket).await.seq, 4);
    assert_eq!(next_event(&mut socket).await.seq, 5);

    let mut stream = served.ask("after=1", "").await;
    let received = read_until(&mut stream, "id: 5\n").await;
    let (_, body) = received.split_once("\r\n\r\n").unwrap();
    let lagged = body.find("event: lagged\ndata: {\"type\":\"lagged\",\"missed\":2}\n\n");
    assert!(lagged.unwrap() < body.find("id: 4\n").unwrap(), "{received}");
}

#[tokio::test]
async fn a_server_sent_stream_that_lags_says_so_and_ends() {
    let served = serve(config()).await;
    let mut stream = served.ask("", "").await;
    served.subscribed(1).await;
    for _ in 0..EVENT_BACKLOG + 3 {
        served.house.publish("lobby");
    }
    // The last chunk of the body is empty.
    let received = read_until(&mut stream, "\r\n0\r\n\r\n").await;
    assert!(
        received.contains("event: lagged\n") && received.contains("\"missed\":3"),
        "{received}"
    );
    served.subscribed(0).await;
}

#[tokio::test]
async fn only_the_types_asked_for_come() {
    let served = serve(config()).await;
    let mut socket = served.connect_with("&types=participant.left,room.*").await;
    served.house.publish("lobby");
    served.house.delete_room("lobby").unwrap();
    let ended = next_event(&mut socket).await;
    assert_eq!((ended.seq, &ended.kind), (2, &EventKind::RoomEnded { reason: "deleted".into() }));
    assert_eq!(close_of(&mut socket).await, (CloseCode::Away, "the room has ended".to_owned()));
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go() {
    let face = Face::with_config(config());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = face.token("lobby", "ana", Grants::default()).token;
    let serving = Serving { write_timeout: Duration::from_millis(500), ..Serving::default() };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(serving.serve(listener, face.router, async { drop(stopped.await) }));
    let house = face.house;
    let served = Served { address, house, token, stop, serving: running };

    let silent = served.ask("", "").await;
    served.subscribed(1).await;
    let long = "x".repeat(64 * 1024);
    let gone = async {
        // Until the buffers of both sides are full, and then until the system gives up.
        while served.house.subscribers("lobby") == 1 {
            let identity = long.clone();
            served.house.emit("lobby", EventKind::ParticipantMuted { identity, muted: true });
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("it holds its place for ever");
    drop(silent);
}

#[tokio::test]
async fn whoever_listens_is_told_that_the_server_ends() {
    let served = serve(config()).await;
    let mut socket = served.connect().await;
    signaling::drain(&served.house, Duration::from_secs(1)).await;
    let ended = next_event(&mut socket).await;
    assert_eq!(ended.kind, EventKind::RoomEnded { reason: "shutdown".to_owned() });
    let told = (CloseCode::Away, "the server is shutting down".to_owned());
    assert_eq!(close_of(&mut socket).await, told);
}
