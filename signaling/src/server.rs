//! The configuration of the HTTP face and its routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::client::Network;
use crate::guard::{Guard, Origins, guard};
use crate::house::House;
use crate::key_ring::{DEFAULT_NAME, KeyRing, NamedKey};
use crate::keys::{ApiKey, KeyError, TokenKey};
use crate::limits::{Limits, LimitsConfig};
use crate::openapi::{self, Routes};
use crate::problem::{ApiError, Kind};
use crate::revocation::Revocations;
use crate::stats::Stats;
use crate::transcripts::{self, Store};
use crate::turn::{TurnConfig, TurnError};
use crate::{
    development, events, middleware, participants, rooms, sessions, status, turn, voices, whep,
    whip,
};

/// How the HTTP face is set up. It can only be made with keys that passed their checks.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub(crate) keys: KeyRing,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) development: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) turn: TurnConfig,
    pub(crate) max_event_streams: usize,
    pub(crate) event_ping: Duration,
    limits: LimitsConfig,
    trusted_proxies: Vec<Network>,
    origins: Origins,
    stats: Arc<Stats>,
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
        let key = NamedKey::with_token_key(DEFAULT_NAME, api_key, token_key)?;
        Self::with_keys(vec![key], development)
    }

    /// Several keys at a time, so that one can be replaced by another: the first signs tokens, all
    /// are accepted.
    ///
    /// # Errors
    /// [`KeyError::Count`] or [`KeyError::SameName`].
    pub fn with_keys(keys: Vec<NamedKey>, development: bool) -> Result<Self, KeyError> {
        Ok(Self {
            keys: KeyRing::new(keys)?,
            revocations: Arc::default(),
            development,
            hosts: Vec::new(),
            turn: TurnConfig::default(),
            max_event_streams: 1024,
            event_ping: Duration::from_secs(20),
            limits: LimitsConfig::default(),
            trusted_proxies: Vec::new(),
            origins: Origins::Any,
            stats: Arc::default(),
            transcripts: None,
        })
    }

    /// Names under which the server is reached, beside `localhost` and IP addresses: a development
    /// server makes tokens for no page that came under another.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Vec<String>) -> Self {
        self.hosts = hosts;
        self
    }

    /// STUN and TURN servers that clients are told to use.
    ///
    /// # Errors
    /// [`TurnError`] names the field that cannot be used.
    pub fn with_turn(mut self, turn: TurnConfig) -> Result<Self, TurnError> {
        turn.check()?;
        self.turn = turn;
        Ok(self)
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

    /// How much may be asked, and by whom.
    #[must_use]
    pub fn with_limits(mut self, limits: LimitsConfig) -> Self {
        self.limits = limits;
        self
    }

    /// Proxies that are believed when they say in `X-Forwarded-For` whom they speak for; by default
    /// none is.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: Vec<Network>) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Origins whose pages may call from a browser, such as `https://app.example.org`; by default
    /// and with `*` any may.
    ///
    /// # Errors
    /// Names the one that is no origin.
    pub fn with_origins(mut self, origins: &[String]) -> Result<Self, String> {
        self.origins = Origins::parse(origins)?;
        Ok(self)
    }

    /// What the face made with this configuration counts.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
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
        self.keys.first().token_key()
    }
}

/// What every handler holds.
pub(crate) struct Api<H> {
    pub(crate) house: Arc<H>,
    pub(crate) config: Arc<ApiConfig>,
    pub(crate) event_slots: Arc<Semaphore>,
    /// Uploads of recordings at a time.
    pub(crate) upload_slots: Arc<Semaphore>,
    pub(crate) document: openapi::Served,
}

impl<H> Clone for Api<H> {
    fn clone(&self) -> Self {
        Self {
            house: Arc::clone(&self.house),
            config: Arc::clone(&self.config),
            event_slots: Arc::clone(&self.event_slots),
            upload_slots: Arc::clone(&self.upload_slots),
            document: self.document.clone(),
        }
    }
}

/// Every route of the API.
pub fn router<H: House>(house: Arc<H>, config: ApiConfig) -> Router {
    router_with(house, config, Router::new())
}

/// Every route of the public port: the API's and `others` (the page's files, say). The limits, the
/// access log and the headers for browsers are the same for both; what others set stays, and their
/// errors are their own.
pub fn router_with<H: House>(house: Arc<H>, config: ApiConfig, others: Router) -> Router {
    let guarding = Arc::new(Guard {
        limits: Limits::new(&config.limits),
        trusted_proxies: config.trusted_proxies.clone(),
        origins: config.origins.clone(),
        stats: config.stats(),
    });
    api_router(house, config).merge(others).layer(from_fn_with_state(guarding, guard))
}

fn api_router<H: House>(house: Arc<H>, config: ApiConfig) -> Router {
    let event_slots = Arc::new(Semaphore::new(config.max_event_streams));
    let (router, paths, schemas) = routes::<H>().finish();
    let document = openapi::Served::new(&openapi::document(paths, schemas));
    let upload_slots = Arc::new(Semaphore::new(voices::MAX_UPLOADS));
    let api = Api { house, config: Arc::new(config), event_slots, upload_slots, document };
    router
        .fallback(async || ApiError::new(Kind::NoSuchPath, "no route has this path"))
        .with_state(api)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(middleware::problems_only))
}

/// Every route, and what the document says of it.
pub(crate) fn routes<H: House>() -> Routes<H> {
    rooms::routes()
        .merge(sessions::routes())
        .merge(whip::routes())
        .merge(whep::routes())
        .merge(participants::routes())
        .merge(voices::routes())
        .merge(turn::routes())
        .merge(events::routes())
        .merge(transcripts::routes::routes())
        .merge(development::routes())
        .merge(status::routes())
        .merge(openapi::routes())
}
