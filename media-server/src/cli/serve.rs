//! `dragoman serve`: the API, the page and the media plane.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future::IntoFuture as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use signaling::transcripts::Store;
use signaling::{ApiConfig, ApiKey};

use super::{ConfigArgs, LogFormat, self_check, start_logging};
use crate::config::Config;
use crate::engine::Models;
use crate::rooms::{HouseConfig, Rooms};

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
    api: ApiConfig,
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
        key: &ApiKey,
        development: bool,
        models: &Arc<Models>,
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
        let api_key = key.expose().to_owned();
        let api = ApiConfig::new(&api_key, None, development)?.with_transcripts(transcripts);
        let (url, admin_url) = (format!("http://{local}"), format!("http://{admin_local}"));
        Ok(Self { listener, admin, house, api, url, admin_url, api_key })
    }

    /// Answers until `shutdown` resolves.
    pub(super) async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let router =
            signaling::router(Arc::clone(&self.house), self.api).merge(super::page::router());
        let admin = super::admin::router(Arc::clone(&self.house));
        // It ends with the runtime: nobody waits for the metrics of a server that is gone.
        let admin = tokio::spawn(axum::serve(self.admin, admin).into_future());
        let served = signaling::serve(self.listener, router, shutdown).await;
        admin.abort();
        served.context("the HTTP face failed")
    }
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    start_logging(args.log_format)?;
    let config = args.config()?;
    let invented = config.http.api_key.is_none();
    let key = match &config.http.api_key {
        Some(key) => ApiKey::parse(key, args.development)?,
        None if args.development => ApiKey::generate_development(),
        None => anyhow::bail!(
            "no API key: set DRAGOMAN_API_KEY or http.api_key, or start with --development"
        ),
    };
    // Before the models, which take a while: what is wrong here is told at once.
    let transcripts = config.transcripts.open()?;
    let models = Arc::new(Models::load(&config.models)?);
    runtime()?.block_on(async {
        let bound = Bound::open(&config, &key, args.development, &models, transcripts).await?;
        let ready = Ready::of(&bound, invented);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(bound.serve(async {
            tokio::select! {
                () = interrupted() => tracing::info!("stopping"),
                _ = stopped => {}
            }
        }));
        if args.self_check {
            let options = self_check::Options::default();
            match self_check::hold(&ready.http, &ready.api_key, models, &options).await {
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
                "udp_ports": self.udp_ports, "api_key": key,
            });
            println!("{line}");
            return Ok(());
        }
        let ports: Vec<String> = self.udp_ports.iter().map(ToString::to_string).collect();
        println!("\nDragoman serves {} (media on UDP {}).", self.http, ports.join(", "));
        println!("Metrics for the operator: {}/metrics", self.admin);
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

/// Resolves on the first SIGINT or SIGTERM.
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
