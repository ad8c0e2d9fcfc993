//! The serving loop over real sockets: HTTP/2, TLS, clients that say nothing, and the end.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{API_KEY, Face, FakeHouse};
use signaling::{ApiConfig, Serving, Stats, Tls, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";

struct Served {
    address: SocketAddr,
    house: Arc<FakeHouse>,
    stats: Arc<Stats>,
    token: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<()>>,
}

async fn serve(serving: Serving) -> Served {
    let face = Face::with_config(ApiConfig::new(API_KEY, None, false).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = face.token("lobby", "ana", Default::default()).token;
    let (stop, stopped) = oneshot::channel::<()>();
    let stats = Arc::clone(&serving.stats);
    let house = Arc::clone(&face.house);
    let shutdown = async move {
        drop(stopped.await);
        signaling::drain(&house, Duration::from_secs(10)).await;
    };
    let running = tokio::spawn(serving.serve(listener, face.router, shutdown));
    Served { address, house: face.house, stats, token, stop, running }
}

/// What comes until the server closes.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut received)).await;
    // A reset is an end too.
    let _ = read.expect("the connection stays open");
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge_and_http_1_beside_it() {
    let served = serve(Serving::default()).await;
    let url = format!("http://{}/healthz", served.address);
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let reply = client.get(&url).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.version()), (200, reqwest::Version::HTTP_2));
    let reply = reqwest::get(&url).await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.version()), (200, reqwest::Version::HTTP_11));
}

fn write_certificate(folder: &Path) -> reqwest::Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn tls_offers_http_2_and_takes_a_renewed_certificate_for_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path());
    let files =
        TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    let tls = Arc::new(Tls::load(files.clone()).unwrap());
    let served = serve(Serving { tls: Some(Arc::clone(&tls)), ..Serving::default() }).await;
    let url = format!("https://localhost:{}/healthz", served.address.port());
    let ask = async |trusted: &reqwest::Certificate| {
        let builder = reqwest::Client::builder().add_root_certificate(trusted.clone());
        let builder = builder.resolve("localhost", served.address);
        builder.build().unwrap().get(&url).send().await
    };
    let reply = ask(&first).await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.version()), (200, reqwest::Version::HTTP_2));

    std::fs::write(&files.key, "no key").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
    assert!(ask(&first).await.is_ok(), "the certificate of before stays");

    let second = write_certificate(folder.path());
    tls.reload().unwrap();
    assert!(ask(&first).await.is_err(), "the old one is trusted, the new one is shown");
    assert!(ask(&second).await.is_ok());
}

#[tokio::test]
async fn clients_that_say_nothing_or_little_are_closed_and_make_room_for_others() {
    let serving = Serving {
        max_connections: 3,
        header_timeout: Duration::from_millis(300),
        ..Serving::default()
    };
    let served = serve(serving).await;
    let mut idle = Vec::new();
    // Nothing, the beginning of a preface of HTTP/2, and the beginning of a head.
    for begin in ["", "PRI * HT", "GET /healthz HTTP/1.1\r\nx-slow: "] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    // It waits for a place, and gets one.
    let begun = Instant::now();
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut good = TcpStream::connect(served.address).await.unwrap();
    good.write_all(request.as_bytes()).await.unwrap();
    let reply = read_all(&mut good).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(begun.elapsed() >= Duration::from_millis(200), "there was no place before");
    for mut stream in idle {
        let reply = read_all(&mut stream).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 408"), "{reply}");
    }
    assert_eq!(served.stats.connections.get(), 4);
}

#[tokio::test]
async fn a_server_that_is_asked_to_end_takes_nothing_new_and_waits_for_what_was_being_said() {
    let served = serve(Serving::default()).await;
    served.house.busy.store(true, Ordering::Relaxed);
    served.stop.send(()).unwrap();
    while !served.house.draining.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(5)).await;
    }
    let client = reqwest::Client::new();
    let url = format!("http://{}", served.address);
    let ready = client.get(format!("{url}/readyz")).send().await.unwrap();
    let room = client.post(format!("{url}/v1/rooms")).bearer_auth(API_KEY).json(&());
    let room = room.body("{}").send().await.unwrap();
    let session = client.post(format!("{url}/v1/rooms/lobby/sessions")).bearer_auth(&served.token);
    let session = session.header("content-type", "application/sdp").body(OFFER);
    let session = session.send().await.unwrap();
    for reply in [ready, room, session] {
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["retry-after"], "10");
        let problem = reply.text().await.unwrap();
        assert!(problem.contains("/problems/draining"), "{problem}");
    }
    let alive = client.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    assert!(!served.running.is_finished());
    served.house.busy.store(false, Ordering::Relaxed);
    let ended = timeout(Duration::from_secs(8), served.running).await;
    ended.expect("it goes on").unwrap().unwrap();
}

#[tokio::test]
async fn what_never_ends_is_not_waited_for_for_ever() {
    let house = Arc::new(FakeHouse::default());
    house.busy.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    signaling::drain(&house, Duration::from_millis(300)).await;
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(3), "{waited:?}");
}
