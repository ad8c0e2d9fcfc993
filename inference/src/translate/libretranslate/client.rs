//! The HTTP requests to a LibreTranslate server, and what may come back.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::LibreTranslateConfig;
use crate::Language;

/// Most bytes of an answer that are read.
const MAX_ANSWER: u64 = 4 << 20;

/// What a server translates: from each language into those.
pub(super) type Pairs = BTreeMap<Language, Vec<Language>>;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// It cannot be reached, took too long, or broke off.
    #[error("no answer")]
    Http(#[source] Box<ureq::Error>),
    /// It refused, in its own words.
    #[error("it answered {status}: {error}")]
    Refused { status: u16, error: String },
    /// What came back is not what the interface promises.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
    /// It was not asked: it has failed lately.
    #[error("it has failed lately and is left alone for a while")]
    Resting,
}

impl ClientError {
    /// Whether the request was at fault and not the server, which another request may still please.
    pub(super) fn is_about_the_request(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 413 | 414, .. })
    }
}

impl From<ureq::Error> for ClientError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Json(error) => Self::Nonsense(error.to_string()),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Nonsense(error.to_string())
            }
            error => Self::Http(Box::new(error)),
        }
    }
}

/// Shared by threads; connections are kept open.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    url: String,
    api_key: Option<String>,
}

#[derive(Serialize)]
struct Translate<'a> {
    q: &'a [String],
    source: &'a str,
    target: &'a str,
    format: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Translated {
    translated_text: Vec<String>,
}

#[derive(Deserialize)]
struct Listed {
    code: String,
    #[serde(default)]
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    pub(super) fn new(config: &LibreTranslateConfig, url: &str) -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            // A server of one's own may have a certificate of one's own.
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .timeout_global(Some(config.timeout()))
            .http_status_as_error(false)
            // The key must not follow a redirect to somebody else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .build()
            .new_agent();
        let url = url.trim_end_matches('/').to_owned();
        Self { agent, url, api_key: config.api_key.clone() }
    }

    /// Translates each text; as many come back.
    pub(super) fn translate(
        &self,
        texts: &[String],
        from: Language,
        to: Language,
    ) -> Result<Vec<String>, ClientError> {
        let body = Translate {
            q: texts,
            source: from.code(),
            target: to.code(),
            format: "text",
            api_key: self.api_key.as_deref(),
        };
        let answer = self.agent.post(format!("{}/translate", self.url)).send_json(&body)?;
        let translated: Translated = read(answer)?;
        if translated.translated_text.len() != texts.len() {
            let (given, back) = (texts.len(), translated.translated_text.len());
            return Err(ClientError::Nonsense(format!("{back} translations of {given} texts")));
        }
        Ok(translated.translated_text)
    }

    /// What the server translates. Languages that nobody here knows are left out.
    pub(super) fn languages(&self) -> Result<Pairs, ClientError> {
        let answer = self.agent.get(format!("{}/languages", self.url)).call()?;
        let listed: Vec<Listed> = read(answer)?;
        let known = |code: &String| code.parse::<Language>().ok();
        Ok(listed
            .iter()
            .filter_map(|listed| {
                Some((known(&listed.code)?, listed.targets.iter().filter_map(known).collect()))
            })
            .collect())
    }
}

fn read<T: serde::de::DeserializeOwned>(
    mut answer: ureq::http::Response<ureq::Body>,
) -> Result<T, ClientError> {
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(MAX_ANSWER);
    if status.is_success() {
        return Ok(body.read_json()?);
    }
    let words = body.read_json::<Refusal>().map(|refusal| refusal.error);
    let error = words.unwrap_or_else(|_| "no reason that could be read".to_owned());
    // The words go into logs; whoever sent them is not to fill those.
    let error = error.chars().take(200).collect();
    Err(ClientError::Refused { status: status.as_u16(), error })
}
