//! The configuration: one TOML file, `DRAGOMAN_*` variables, flags; parsed once into types.
//!
//! `dragoman.toml` at the top of the repository shows every field with its default; a test holds
//! that file against this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signaling::key_ring::DEFAULT_NAME;
use signaling::libretranslate::LibreTranslateFace;
use signaling::webhooks::WebhooksConfig;
use signaling::{ApiKey, KeyError, NamedKey, TurnConfig, TurnError};
use signaling::{LimitsConfig, Network, TlsFiles};

use crate::engine::{EngineConfig, ModelsConfig};
use crate::learning::VoicesConfig;
use crate::media::MediaConfig;
use crate::rooms::{HouseConfig, RoomsConfig};
use crate::segmenter::SegmenterConfig;
use crate::studio::StudioConfig;
use crate::transcripts::TranscriptsConfig;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP face.
    pub http: HttpConfig,
    /// The face for the operator.
    pub admin: AdminConfig,
    /// The media plane.
    pub media: MediaSection,
    /// Which models, in which order.
    pub models: ModelsConfig,
    /// How speech is cut into segments.
    pub segmenter: SegmenterConfig,
    /// Thread budgets, queues and deadlines of the stages.
    pub engine: EngineConfig,
    /// Defaults and limits of rooms.
    pub rooms: RoomsConfig,
    /// Text and recordings without a room.
    pub studio: StudioConfig,
    /// The LibreTranslate face.
    pub libretranslate: LibreTranslateFace,
    /// STUN and TURN servers that clients are told to use.
    pub turn: TurnConfig,
    /// What is told to other services.
    pub webhooks: WebhooksConfig,
    /// Where and how long transcripts are kept.
    pub transcripts: TranscriptsConfig,
    /// Where learned voices are stored.
    pub voices: VoicesConfig,
}

/// The HTTP face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port of the API and the page.
    pub bind: SocketAddr,
    /// The key that creates rooms and mints tokens; at least 32 characters. A development server
    /// invents one.
    pub api_key: Option<String>,
    /// More keys, each with a name, so that one can be replaced by another. The first of all signs
    /// tokens.
    pub api_keys: Vec<ApiKeyConfig>,
    /// Names under which the server is reached, beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Origins whose pages may call from a browser; `*` allows any.
    pub cors_origins: Vec<String>,
    /// Proxies that are believed about the address of who asks.
    pub trusted_proxies: Vec<Network>,
    /// Most connections at a time; more wait.
    pub max_connections: usize,
    /// Seconds for a request's head to arrive.
    pub header_timeout_s: u64,
    /// Seconds that utterances have to be finished when the server is asked to end.
    pub shutdown_grace_s: u64,
    /// Rate limits.
    pub limits: LimitsConfig,
    /// TLS; plain HTTP without.
    pub tls: Option<TlsFiles>,
}

/// A key with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// What tokens call it (`kid`, and `iss` with LiveKit's claims).
    pub name: String,
    /// The key; at least 32 characters.
    pub key: String,
}

impl HttpConfig {
    /// The keys, `api_key` first.
    ///
    /// # Errors
    /// [`KeyError`] says which is refused and how to make a good one.
    pub fn keys(&self, development: bool) -> Result<Vec<NamedKey>, KeyError> {
        let first = self.api_key.iter().map(|key| (DEFAULT_NAME, key));
        let more = self.api_keys.iter().map(|named| (named.name.as_str(), &named.key));
        first
            .chain(more)
            .map(|(name, key)| NamedKey::new(name, ApiKey::parse(key, development)?))
            .collect()
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            api_key: None,
            api_keys: Vec::new(),
            hosts: Vec::new(),
            cors_origins: vec!["*".to_owned()],
            trusted_proxies: Vec::new(),
            max_connections: 2_048,
            header_timeout_s: 30,
            shutdown_grace_s: 20,
            limits: LimitsConfig::default(),
            tls: None,
        }
    }
}

/// The face for the operator: metrics and health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Its address and port.
    pub bind: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)) }
    }
}

/// The media plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaSection {
    /// Address that the UDP sockets bind to; `::` takes IPv4 too.
    pub bind: IpAddr,
    /// First UDP port; each worker takes the next one. 0 takes ephemeral ports.
    pub port: u16,
    /// Addresses offered as host candidates; empty offers those of this machine.
    pub announce: Vec<IpAddr>,
    /// Number of media workers.
    pub workers: usize,
    /// Milliseconds without any datagram, or without an answer to consent checks (30 s at most),
    /// after which a peer counts as lost.
    pub peer_timeout_ms: u64,
    /// Whether media workers ask for the system's real-time class.
    pub real_time: bool,
}

impl Default for MediaSection {
    fn default() -> Self {
        Self {
            bind: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            port: 7882,
            announce: Vec::new(),
            workers: 1,
            peer_timeout_ms: 15_000,
            real_time: true,
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no configuration; the message names the line and the field.
    #[error("{path} is not a valid configuration: {detail}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, field and what was expected.
        detail: String,
    },
    /// A value is out of its range.
    #[error("{field} {detail}")]
    Invalid {
        /// Which field, such as `segmenter.hangover_ms`.
        field: &'static str,
        /// What it should be.
        detail: String,
    },
    /// The section `turn` cannot be used.
    #[error(transparent)]
    Turn(#[from] TurnError),
}

impl Config {
    /// Reads a file. Missing fields take their defaults; unknown ones are errors.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid =
            |field, detail: &str| Err(ConfigError::Invalid { field, detail: detail.to_owned() });
        if self.media.workers == 0 {
            return invalid("media.workers", "must be at least 1");
        }
        if self.http.max_connections == 0 {
            return invalid("http.max_connections", "must be at least 1");
        }
        if self.http.header_timeout_s == 0 {
            return invalid("http.header_timeout_s", "must be at least 1");
        }
        if self.media.peer_timeout_ms < 1_000 {
            return invalid("media.peer_timeout_ms", "must be at least 1000");
        }
        if !(0.0..=1.0).contains(&self.rooms.original_gain) {
            return invalid("rooms.original_gain", "lies between 0 and 1");
        }
        if !(0.0..=1.0).contains(&self.rooms.barge_in_gain) {
            return invalid("rooms.barge_in_gain", "lies between 0 and 1");
        }
        if !(1.0..=1.25).contains(&self.rooms.catch_up_speed) {
            return invalid("rooms.catch_up_speed", "lies between 1 and 1.25");
        }
        if self.engine.queue == 0 {
            return invalid("engine.queue", "must be at least 1");
        }
        let overload = &self.engine.overload;
        if !(0.0..overload.step_down_at).contains(&overload.step_up_at) {
            return invalid("engine.overload.step_up_at", "lies between 0 and step_down_at");
        }
        if self.models.whisper_slots == 0 || self.models.language_model_slots == 0 {
            return invalid("models", "whisper_slots and language_model_slots are at least 1");
        }
        if self.models.translators.is_empty() {
            return invalid("models.translators", "names at least one translator");
        }
        if self.models.voices.is_empty() {
            return invalid("models.voices", "names at least one voice engine");
        }
        self.turn.check()?;
        Ok(())
    }

    /// What the house is opened with; its transcripts are opened apart, by who serves.
    pub fn house(&self) -> HouseConfig {
        HouseConfig {
            rooms: self.rooms.clone(),
            media: MediaConfig {
                bind: self.media.bind,
                port: self.media.port,
                announce: self.media.announce.clone(),
                workers: self.media.workers,
                peer_timeout: Duration::from_millis(self.media.peer_timeout_ms),
                real_time: self.media.real_time,
            },
            segmenter: self.segmenter.clone(),
            engine: self.engine.clone(),
            transcripts: None,
            voices: self.voices.place(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_file_shows_every_field_with_its_default() {
        let text = include_str!("../../dragoman.toml");
        let shown: Config = toml::from_str(text).expect("the commented file is valid");
        assert_eq!(shown, Config::default());

        let shown: toml::Table = toml::from_str(text).expect("it is a table");
        let defaults = toml::Table::try_from(Config::default()).expect("defaults are a table");
        for (section, fields) in &defaults {
            let fields = fields.as_table().expect("sections are tables");
            for field in fields.keys() {
                assert!(shown[section].get(field).is_some(), "{section}.{field} is not shown");
            }
        }
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dragoman.toml");
        std::fs::write(&path, "[media]\nprot = 1\n").expect("written");
        let error = Config::read(&path).expect_err("prot is no field").to_string();
        assert!(error.contains("prot") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn keys_are_taken_in_their_order_and_checked() {
        let text = "api_key = \"0123456789abcdef0123456789abcdef\"\n\
                    api_keys = [{ name = \"old\", key = \"fedcba9876543210fedcba9876543210\" }]";
        let http: HttpConfig = toml::from_str(text).expect("a good section");
        let keys = http.keys(false).expect("good keys");
        assert_eq!(keys.iter().map(NamedKey::name).collect::<Vec<_>>(), ["default", "old"]);
        let short = HttpConfig { api_key: Some("secret".to_owned()), ..HttpConfig::default() };
        assert!(short.keys(true).is_err());
        assert!(HttpConfig::default().keys(false).expect("none is none").is_empty());
    }

    #[test]
    fn a_turn_server_without_its_secret_is_refused() {
        let mut config = Config::default();
        config.turn.urls = vec!["turn:turn.example.org".to_owned()];
        let error = config.check().expect_err("no secret").to_string();
        assert!(error.starts_with("turn.secret "), "{error}");
    }

    #[test]
    fn a_gain_above_one_is_refused() {
        let mut config = Config::default();
        config.rooms.original_gain = 1.5;
        let error = config.check().expect_err("out of range").to_string();
        assert_eq!(error, "rooms.original_gain lies between 0 and 1");
    }
}
