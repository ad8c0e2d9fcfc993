//! The loop that serves the HTTP face: HTTP/1.1 and HTTP/2 (with TLS or by prior knowledge) on one
//! port, few enough connections to be held, and none that says nothing.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::stats::Stats;
use crate::tls::Tls;

/// Time that open requests and streams get to end after the shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How often an HTTP/2 connection is asked whether it is alive, and the time it has to answer.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Most requests of one HTTP/2 connection at a time.
const H2_STREAMS: u32 = 100;
/// Most bytes of an HTTP/1 head, and of what waits to be sent.
const H1_BUFFER: usize = 64 * 1024;

/// How connections are held.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Most connections at a time, WebSockets among them; more wait to be accepted.
    pub max_connections: usize,
    /// Time for a request's head to arrive, the TLS handshake included; a connection on which
    /// nothing is asked for so long is closed.
    pub header_timeout: Duration,
    /// Time for which a client may leave what is sent to it unread.
    pub write_timeout: Duration,
    /// TLS; plain HTTP without.
    pub tls: Option<Arc<Tls>>,
    /// What is counted; [`crate::ApiConfig::stats`] gives those that the face counts too.
    pub stats: Arc<Stats>,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            max_connections: 2_048,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            tls: None,
            stats: Arc::default(),
        }
    }
}

impl Serving {
    /// Serves until `shutdown` resolves, then lets open requests and streams end for 5 s.
    ///
    /// # Errors
    /// None is known: what fails is a connection.
    pub async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut shutdown => break,
            };
            while connections.try_join_next().is_some() {}
            let slot = slot.expect("the semaphore is never closed");
            match accepted {
                Ok((stream, peer)) => {
                    self.stats.connections.add(1);
                    let connection = Connection {
                        stream: Held { stream, _slot: slot },
                        peer,
                        router: router.clone(),
                        watcher: graceful.watcher(),
                    };
                    connections.spawn(connection.serve(self.clone()));
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections; trying on");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let ended = async {
            graceful.shutdown().await;
            // WebSockets have left their connection's task but hold its slot.
            let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
            drop(slots.acquire_many(all).await);
        };
        if timeout(SHUTDOWN_GRACE, ended).await.is_err() {
            tracing::info!("closing the connections that are still open");
        }
        Ok(())
    }
}

/// Serves with the defaults of [`Serving`].
///
/// # Errors
/// As [`Serving::serve`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Serving::default().serve(listener, router, shutdown).await
}

struct Connection {
    stream: Held<TcpStream>,
    peer: SocketAddr,
    router: Router,
    watcher: Watcher,
}

impl Connection {
    async fn serve(self, serving: Serving) {
        if let Err(error) = set_options(&self.stream.stream, serving.write_timeout) {
            tracing::debug!(%error, "could not set the options of a connection");
        }
        let Self { stream, peer, router, watcher } = self;
        let stats = Arc::clone(&serving.stats);
        let ended = match &serving.tls {
            None => talk(stream, peer, router, watcher, &serving).await,
            Some(tls) => match timeout(serving.header_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => talk(stream, peer, router, watcher, &serving).await,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the TLS handshake took too long".to_owned()),
            },
        };
        if let Err(reason) = ended {
            stats.connections_dropped.add(1);
            tracing::debug!(reason, "a connection ended");
        }
    }
}

/// Speaks HTTP until the client or the server ends it.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    watcher: Watcher,
    serving: &Serving,
) -> Result<(), String> {
    let asked = Arc::new(AtomicBool::new(false));
    let asking = Arc::clone(&asked);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        asking.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.header_timeout)
        .max_buf_size(H1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT)
        .max_concurrent_streams(H2_STREAMS);
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = watcher.watch(connection);
    tokio::pin!(connection);
    // hyper's own timeout begins only once it knows the version of HTTP.
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(serving.header_timeout) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None if asked.load(Ordering::Relaxed) => connection.await,
        None => return Err("nothing was asked in time".to_owned()),
    };
    ended.map_err(|error| error.to_string())
}

/// Events are small and late ones are useless: no waiting for a full segment. A client that is gone
/// or reads nothing is noticed by the system (RFC 5482; Linux counts a closed window too), so that a
/// body that nobody takes ends as well.
fn set_options(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(write_timeout))
}

/// Whether only the one connection was hurt.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A stream that holds its place among the connections wherever it goes: a WebSocket takes it along.
pub(crate) struct Held<S> {
    stream: S,
    _slot: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
