//! `dragoman serve`: the API, the page and the media plane.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future::IntoFuture as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use signaling::key_ring::DEFAULT_NAME;
use signaling::libretranslate::LibreTranslateFace;
use signaling::transcripts::Store;
use signaling::webhooks::Webhooks;
use signaling::{ApiConfig, ApiKey, NamedKey, Serving, Tls};

use super::reload::Loaded;
use super::{ConfigArgs, LogFormat, self_check, start_logging};
use crate::config::Config;
use crate::engine::ModelsInUse;
use crate::rooms::{HouseConfig, Rooms};
use crate::studio;

/// Time that webhooks have to be delivered when the server ends.
const WEBHOOKS_GRACE: Duration = Duration::from_secs(3);
/// Time that everything after the utterances has when the server ends.
const END_GRACE: Duration = Duration::from_secs(15);

/// Options of `dragoman serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address and port of the API and the page
    #[arg(long, env = "DRAGOMAN_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Address and port of the metrics and health for the operator
    #[arg(long, env = "DRAGOMAN_ADMIN", value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Address and port of LibreTranslate's interface; off without one
    #[arg(long, env = "DRAGOMAN_LIBRETRANSLATE", value_name = "ADDRESS:PORT")]
    libretranslate: Option<SocketAddr>,
    /// Address that the UDP sockets bind to
    #[arg(long, env = "DRAGOMAN_UDP_BIND", value_name = "ADDRESS")]
    udp_bind: Option<IpAddr>,
    /// First UDP port; 0 takes any free one
    #[arg(long, env = "DRAGOMAN_UDP_PORT", value_name = "PORT")]
    udp_port: Option<u16>,
    /// Addresses that callers reach this machine at, separated by commas
    #[arg(long, env = "DRAGOMAN_ANNOUNCE", value_delimiter = ',', value_name = "ADDRESSES")]
    announce: Option<Vec<IpAddr>>,
    /// The key that creates rooms and mints tokens
    #[arg(long, env = "DRAGOMAN_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// What webhooks are signed with
    #[arg(long, env = "DRAGOMAN_WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRET")]
    webhook_secret: Option<String>,
    /// Development mode: whoever reaches the page can call without a key, and an API key is
    /// invented and printed once if there is none
    #[arg(long, env = "DRAGOMAN_DEVELOPMENT")]
    development: bool,
    /// File that transcripts are kept in; an empty one keeps none [default: in the user's data
    /// folder]
    #[arg(long, env = "DRAGOMAN_TRANSCRIPTS", value_name = "FILE")]
    transcripts: Option<OsString>,
    /// Hold a call with oneself before serving, and print what was heard
    #[arg(long)]
    self_check: bool,
    /// Print one JSON line on standard output when the server is ready
    #[arg(long)]
    ready_json: bool,
    /// How log lines are written to standard error
    #[arg(long, env = "DRAGOMAN_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl ServeArgs {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = self.config.read()?;
        if let Some(http) = self.http {
            config.http.bind = http;
        }
        if let Some(admin) = self.admin {
            config.admin.bind = admin;
        }
        if self.libretranslate.is_some() {
            config.libretranslate.bind = self.libretranslate;
        }
        if let Some(bind) = self.udp_bind {
            config.media.bind = bind;
        }
        if let Some(port) = self.udp_port {
            config.media.port = port;
        }
        if let Some(announce) = &self.announce {
            config.media.announce.clone_from(announce);
        }
        if let Some(key) = &self.api_key {
            config.http.api_key = Some(key.clone());
        }
        if let Some(secret) = &self.webhook_secret {
            config.webhooks.secret = Some(secret.clone());
        }
        if let Some(file) = &self.transcripts {
            config.transcripts.path = Some(file.into());
        }
        Ok(config)
    }
}

/// A house with its HTTP face bound, not yet answering.
pub(super) struct Bound {
    listener: tokio::net::TcpListener,
    admin: tokio::net::TcpListener,
    house: Arc<Rooms>,
    studio: Arc<studio::House>,
    libretranslate: Option<LibreTranslate>,
    api: ApiConfig,
    serving: Serving,
    webhooks: Webhooks,
    grace: Duration,
    /// Where the face will answer.
    pub(super) url: String,
    /// Where the operator's face will answer.
    pub(super) admin_url: String,
    /// The key it will take.
    pub(super) api_key: String,
}

impl Bound {
    /// Opens the house and binds the HTTP face.
    pub(super) async fn open(
        config: &Config,
        keys: Vec<NamedKey>,
        development: bool,
        models: &Arc<ModelsInUse>,
        transcripts: Option<Arc<Store>>,
    ) -> anyhow::Result<Self> {
        let bind = config.http.bind;
        let listener = tokio::net::TcpListener::bind(bind)
            .await
            .with_context(|| format!("cannot bind HTTP {bind}: choose another with --http"))?;
        let local = listener.local_addr().context("the HTTP socket has no address")?;
        let admin = super::admin::bind(config.admin.bind).await?;
        let admin_local = admin.local_addr().context("the admin socket has no address")?;
        let house = HouseConfig { transcripts: transcripts.clone(), ..config.house() };
        let house = Arc::new(Rooms::open(models, &house)?);
        let studio = Arc::new(
            studio::House::open(Arc::clone(models), &config.studio, &config.segmenter)
                .context("cannot start the studio")?,
        );
        let libretranslate = LibreTranslate::bind(&config.libretranslate).await?;
        let api_key = keys.first().map(|key| key.api_key().expose().to_owned()).unwrap_or_default();
        let http = &config.http;
        let api = ApiConfig::with_keys(keys, development)?
            .with_hosts(http.hosts.clone())
            .with_turn(config.turn.clone())?
            .with_limits(http.limits)
            .with_trusted_proxies(http.trusted_proxies.clone())
            .with_origins(&http.cors_origins)
            .map_err(|detail| anyhow::anyhow!("http.cors_origins: {detail}"))?
            .with_transcripts(transcripts);
        let tls = http.tls.clone().map(Tls::load).transpose().context("[http.tls]")?;
        let webhooks = Webhooks::start(&house, &config.webhooks, &api.stats())?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serving = Serving {
            max_connections: http.max_connections,
            header_timeout: Duration::from_secs(http.header_timeout_s),
            tls: tls.map(Arc::new),
            stats: api.stats(),
            ..Serving::default()
        };
        Ok(Self {
            listener,
            admin,
            house,
            studio,
            libretranslate,
            api,
            serving,
            webhooks,
            grace: Duration::from_secs(http.shutdown_grace_s),
            url: format!("{scheme}://{local}"),
            admin_url: format!("http://{admin_local}"),
            api_key,
        })
    }

    /// Answers until `shutdown` resolves and what was being said then is finished.
    pub(super) async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stats = self.api.stats();
        if let Some(tls) = self.serving.tls.clone() {
            tokio::spawn(async move { tls.follow().await });
        }
        let audio = signaling::openai::router(Arc::clone(&self.studio), self.api.clone());
        let others = super::page::router().merge(audio);
        let router = signaling::router_with(Arc::clone(&self.house), self.api, others);
        let admin = super::admin::router(Arc::clone(&self.house), stats);
        // It ends with the runtime: nobody waits for the metrics of a server that is gone.
        let admin = tokio::spawn(axum::serve(self.admin, admin).into_future());
        let libretranslate = self.libretranslate.map(|face| face.serve(&self.studio));
        let (house, grace) = (self.house, self.grace);
        let drained = async move {
            shutdown.await;
            signaling::drain(&house, grace).await;
        };
        let served = self.serving.serve(self.listener, router, drained).await;
        self.webhooks.finish(WEBHOOKS_GRACE).await;
        admin.abort();
        if let Some(face) = libretranslate {
            face.abort();
        }
        served.context("the HTTP face failed")
    }
}

/// LibreTranslate's interface, bound and not yet answering.
struct LibreTranslate {
    listener: tokio::net::TcpListener,
    face: LibreTranslateFace,
    url: String,
}

impl LibreTranslate {
    async fn bind(face: &LibreTranslateFace) -> anyhow::Result<Option<Self>> {
        let Some(bind) = face.bind else { return Ok(None) };
        let listener = tokio::net::TcpListener::bind(bind).await.with_context(|| {
            format!("cannot bind LibreTranslate's interface to {bind}: choose another with --libretranslate")
        })?;
        let url = format!("http://{}", listener.local_addr().context("it has no address")?);
        Ok(Some(Self { listener, face: face.clone(), url }))
    }

    /// Answers until it is aborted.
    fn serve(self, studio: &Arc<studio::House>) -> tokio::task::JoinHandle<()> {
        let studio = Arc::clone(studio);
        tokio::spawn(async move {
            let never = std::future::pending();
            let served = signaling::libretranslate::serve(self.listener, studio, self.face, never);
            if let Err(error) = served.await {
                tracing::error!(%error, "LibreTranslate's interface failed");
            }
        })
    }
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    start_logging(args.log_format)?;
    let config = args.config()?;
    let mut keys = config.http.keys(args.development)?;
    let invented = keys.is_empty();
    if invented && !args.development {
        anyhow::bail!(
            "no API key: set DRAGOMAN_API_KEY or http.api_key, or start with --development"
        );
    }
    if invented {
        keys.push(NamedKey::new(DEFAULT_NAME, ApiKey::generate_development())?);
    }
    if args.self_check && config.http.tls.is_some() {
        anyhow::bail!("--self-check calls over plain HTTP: leave it out, or [http.tls]");
    }
    // Before the models, which take a while: what is wrong here is told at once.
    let transcripts = config.transcripts.open()?;
    let (loaded, models) = Loaded::load(&config.models)?;
    let models = Arc::new(ModelsInUse::new(models));
    let limit = Duration::from_secs(config.http.shutdown_grace_s) + END_GRACE;
    runtime()?.block_on(async {
        let bound = Bound::open(&config, keys, args.development, &models, transcripts).await?;
        let read = args.config.clone();
        loaded.follow(&bound.house, move || Ok(read.read()?.models))?;
        let ready = Ready::of(&bound, invented);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(bound.serve(async move {
            tokio::select! {
                () = interrupted() => {
                    tracing::info!("stopping once everything that was said is finished");
                    end_by_force(limit);
                }
                _ = stopped => {}
            }
        }));
        if args.self_check {
            let options = self_check::Options::default();
            match self_check::hold(&ready.http, &ready.api_key, models.get(), &options).await {
                Ok(outcome) => outcome.print(),
                Err(error) => {
                    let _ = stop.send(());
                    serving.await.context("the HTTP face panicked")??;
                    return Err(error.context("the self-check failed"));
                }
            }
        }
        ready.print(args.ready_json)?;
        serving.await.context("the HTTP face panicked")??;
        Ok(ExitCode::SUCCESS)
    })
}

/// What a user, or a program that started this one, needs to know to use it.
#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    http: String,
    admin: String,
    libretranslate: Option<String>,
    udp_ports: BTreeSet<u16>,
    api_key: String,
    #[serde(skip)]
    invented: bool,
}

impl Ready {
    fn of(bound: &Bound, invented: bool) -> Self {
        Self {
            event: "ready",
            http: bound.url.clone(),
            admin: bound.admin_url.clone(),
            libretranslate: bound.libretranslate.as_ref().map(|face| face.url.clone()),
            udp_ports: bound.house.media_addresses().iter().map(SocketAddr::port).collect(),
            api_key: bound.api_key.clone(),
            invented,
        }
    }

    #[allow(clippy::print_stdout, reason = "the address is what the command was started for")]
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            // A key that the operator brought stays out of every output.
            let key = if self.invented { self.api_key.as_str() } else { "" };
            let line = serde_json::json!({
                "event": self.event, "http": self.http, "admin": self.admin,
                "udp_ports": self.udp_ports, "api_key": key, "libretranslate": self.libretranslate,
            });
            println!("{line}");
            return Ok(());
        }
        let ports: Vec<String> = self.udp_ports.iter().map(ToString::to_string).collect();
        println!("\nDragoman serves {} (media on UDP {}).", self.http, ports.join(", "));
        println!("Metrics for the operator: {}/metrics", self.admin);
        if let Some(url) = &self.libretranslate {
            println!("LibreTranslate's interface: {url}");
        }
        if self.invented {
            println!("Development key, for this run only: {}", self.api_key);
            println!("Open the page, which needs no key here: {}/", self.http);
        }
        Ok(())
    }
}

/// The runtime that moves HTTP. Nothing computes on it, so two threads are plenty.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}

/// Ends the process at the next SIGINT or SIGTERM, and when it has not ended within `limit`.
fn end_by_force(limit: Duration) {
    tokio::spawn(async {
        interrupted().await;
        exit_now("asked a second time");
    });
    // Not on the runtime, which ends before the engine's threads do.
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        exit_now("the time to end in order is up");
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever asks twice waits for no destructor; child processes end with their input"
)]
fn exit_now(why: &str) {
    tracing::warn!("{why}: ending at once");
    std::process::exit(1);
}

/// Resolves on SIGINT or SIGTERM.
async fn interrupted() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        let _ = interrupt.await;
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
}
