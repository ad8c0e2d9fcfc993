//! The configuration of the HTTP face, its routes, and the loop that serves them.

use std::future::{Future, IntoFuture};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, get, patch, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tower_http::catch_panic::CatchPanicLayer;

use crate::house::House;
use crate::keys::{ApiKey, KeyError, TokenKey};
use crate::problem::{ApiError, Kind};
use crate::transcripts::{self, Store};
use crate::{development, events, middleware, rooms, sessions, status};

/// Time that open requests get to finish after the shutdown began. Event streams never end by
/// themselves, so there has to be an end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How the HTTP face is set up. It can only be made with keys that passed their checks.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub(crate) api_key: ApiKey,
    pub(crate) token_key: TokenKey,
    pub(crate) development: bool,
    pub(crate) max_event_streams: usize,
    pub(crate) event_ping: Duration,
    pub(crate) transcripts: Option<Arc<Store>>,
}

impl ApiConfig {
    /// `token_secret` signs participant tokens; without one the secret is derived from the API
    /// key. `development` accepts a key with the development prefix, and makes tokens without any
    /// (`POST /v1/development/tokens`).
    ///
    /// # Errors
    /// [`KeyError`] says which key is refused and how to make a good one.
    pub fn new(
        api_key: &str,
        token_secret: Option<&str>,
        development: bool,
    ) -> Result<Self, KeyError> {
        let api_key = ApiKey::parse(api_key, development)?;
        let token_key = match token_secret {
            Some(secret) => TokenKey::from_secret(secret)?,
            None => TokenKey::derive(&api_key),
        };
        Ok(Self {
            api_key,
            token_key,
            development,
            max_event_streams: 1024,
            event_ping: Duration::from_secs(20),
            transcripts: None,
        })
    }

    /// Most event streams at a time, over all rooms (1024 by default); more are refused with 503.
    #[must_use]
    pub fn with_max_event_streams(mut self, streams: usize) -> Self {
        self.max_event_streams = streams;
        self
    }

    /// How often an event stream is pinged (20 s by default). A WebSocket that leaves two pings
    /// unanswered is closed.
    #[must_use]
    pub fn with_event_ping(mut self, every: Duration) -> Self {
        self.event_ping = every.max(Duration::from_millis(1));
        self
    }

    /// Where transcripts are kept and read from; nowhere by default.
    #[must_use]
    pub fn with_transcripts(mut self, store: Option<Arc<Store>>) -> Self {
        self.transcripts = store;
        self
    }

    /// The key that signs participant tokens, for [`crate::mint_token`].
    #[must_use]
    pub fn token_key(&self) -> &TokenKey {
        &self.token_key
    }
}

/// What every handler holds.
pub(crate) struct Api<H> {
    pub(crate) house: Arc<H>,
    pub(crate) config: Arc<ApiConfig>,
    pub(crate) event_slots: Arc<Semaphore>,
}

impl<H> Clone for Api<H> {
    fn clone(&self) -> Self {
        Self {
            house: Arc::clone(&self.house),
            config: Arc::clone(&self.config),
            event_slots: Arc::clone(&self.event_slots),
        }
    }
}

/// Every route of the public port.
///
/// Other routers (the page's files, say) may be merged into it; what they answer is theirs: the
/// log, the headers for other origins and the problems cover the routes made here.
pub fn router<H: House>(house: Arc<H>, config: ApiConfig) -> Router {
    let event_slots = Arc::new(Semaphore::new(config.max_event_streams));
    let api = Api { house, config: Arc::new(config), event_slots };
    let sessions_route =
        with_options(post(sessions::create::<H>), "POST, OPTIONS", Some("application/sdp"));
    let session_route = with_options(
        patch(sessions::patch::<H>).delete(sessions::delete::<H>),
        "PATCH, DELETE, OPTIONS",
        None,
    );
    Router::new()
        .route(
            "/v1/rooms",
            with_options(
                get(rooms::list::<H>).post(rooms::create::<H>),
                "GET, HEAD, POST, OPTIONS",
                None,
            ),
        )
        .route(
            "/v1/rooms/{room}",
            with_options(
                get(rooms::show::<H>).delete(rooms::delete::<H>),
                "GET, HEAD, DELETE, OPTIONS",
                None,
            ),
        )
        .route(
            "/v1/rooms/{room}/tokens",
            with_options(post(rooms::create_token::<H>), "POST, OPTIONS", None),
        )
        .route("/v1/rooms/{room}/sessions", sessions_route)
        .route("/v1/rooms/{room}/sessions/{session}", session_route)
        .route(
            "/v1/rooms/{room}/events",
            with_options(get(events::events::<H>), "GET, HEAD, OPTIONS", None),
        )
        .route(
            "/v1/rooms/{room}/transcript",
            with_options(
                get(transcripts::routes::show::<H>).delete(transcripts::routes::erase::<H>),
                "GET, HEAD, DELETE, OPTIONS",
                None,
            ),
        )
        .route(
            "/v1/rooms/{room}/meetings",
            with_options(get(transcripts::routes::meetings::<H>), "GET, HEAD, OPTIONS", None),
        )
        .route(
            "/v1/languages",
            with_options(get(status::languages::<H>), "GET, HEAD, OPTIONS", None),
        )
        .route("/v1/voices", with_options(get(status::voices::<H>), "GET, HEAD, OPTIONS", None))
        .route(
            "/v1/development",
            with_options(get(development::show::<H>), "GET, HEAD, OPTIONS", None),
        )
        .route(
            "/v1/development/tokens",
            with_options(post(development::create_token::<H>), "POST, OPTIONS", None),
        )
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz::<H>))
        .fallback(async || ApiError::new(Kind::NoSuchPath, "no route has this path"))
        .with_state(api)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(middleware::problems_only))
        .layer(from_fn(middleware::allow_origins))
        .layer(from_fn(middleware::log))
}

/// Serves until `shutdown` resolves, then lets open requests finish for 5 s.
///
/// # Errors
/// When the listener cannot be served any more.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (begin, begun) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody listens any more only when serving has ended already.
        let _ = begin.send(());
    };
    // Events are small and late ones are useless: no waiting for a full segment.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown).into_future();
    let too_long = async move {
        if begun.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = serving => result,
        () = too_long => {
            tracing::info!("closing the connections that are still open");
            Ok(())
        }
    }
}

fn with_options<H: House>(
    routes: MethodRouter<Api<H>>,
    methods: &'static str,
    accept_post: Option<&'static str>,
) -> MethodRouter<Api<H>> {
    routes.options(move || async move { middleware::preflight(methods, accept_post) })
}
