//! STUN and TURN servers that clients are told to use: as `Link` headers of a new session (RFC 9725
//! §4.6) and as JSON. Credentials for TURN are made for each client and expire, by the scheme that
//! coturn calls the TURN REST API: the user name is `<Unix time of expiry>:<identity>`, the password
//! the base64 of HMAC-SHA-1 of the user name under a secret that the TURN server shares.

use std::fmt;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;

use crate::access::Access;
use crate::bodies::RoomPath;
use crate::house::House;
use crate::openapi::{Answer, Asks, Doc, Routes, tags};
use crate::problem::ApiError;
use crate::server::Api;
use crate::tokens::unix_time_s;
use crate::wire::{IceServer, IceServers};

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = Doc::new(
        "getIceServers",
        tags::SESSIONS,
        "STUN and TURN servers",
        "An `RTCConfiguration` for an `RTCPeerConnection`, with credentials made for whoever asks. \
         The answer to an offer tells of the same servers in its `Link` headers.",
        Asks::KeyOrToken,
    )
    .answers(
        Answer::new(200, "The servers; none when the server names none.").json::<IceServers>(),
    );
    Routes::new().at("/v1/rooms/{room}/ice-servers", |at| at.get(show::<H>, doc))
}

/// Most servers of a kind: each becomes a header.
const MAX_URLS: usize = 16;

/// Section `[turn]` of the configuration.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// STUN servers, such as `stun:stun.example.org` (RFC 7064).
    pub stun: Vec<String>,
    /// TURN servers, such as `turn:turn.example.org?transport=udp` (RFC 7065).
    pub urls: Vec<String>,
    /// The secret that the TURN servers share (coturn's `static-auth-secret`); clients get
    /// credentials that expire.
    pub secret: Option<String>,
    /// Without a secret: one user name for every client.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Seconds for which credentials made with the secret are good.
    pub ttl_s: u64,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            stun: Vec::new(),
            urls: Vec::new(),
            secret: None,
            username: None,
            password: None,
            ttl_s: 14_400,
        }
    }
}

impl fmt::Debug for TurnConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |value: &Option<String>| value.as_ref().map(|_| "…");
        formatter
            .debug_struct("TurnConfig")
            .field("stun", &self.stun)
            .field("urls", &self.urls)
            .field("secret", &hidden(&self.secret))
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("ttl_s", &self.ttl_s)
            .finish()
    }
}

/// Why the section cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("turn.{field} {detail}")]
pub struct TurnError {
    /// Which field.
    pub field: &'static str,
    /// What it should be.
    pub detail: String,
}

impl TurnConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`TurnError`] names the field.
    pub fn check(&self) -> Result<(), TurnError> {
        let invalid = |field, detail: &str| Err(TurnError { field, detail: detail.to_owned() });
        check_urls("stun", &["stun", "stuns"], &self.stun)?;
        check_urls("urls", &["turn", "turns"], &self.urls)?;
        if !(60..=7 * 86_400).contains(&self.ttl_s) {
            return invalid("ttl_s", "lies between 60 and 604800");
        }
        let fit = |value: &Option<String>| {
            value.as_ref().is_none_or(|text| {
                (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
            })
        };
        for (field, value) in
            [("secret", &self.secret), ("username", &self.username), ("password", &self.password)]
        {
            if !fit(value) {
                return invalid(field, "is 1 to 512 printable ASCII characters without spaces");
            }
        }
        match (&self.secret, &self.username, &self.password) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(()),
            (None, None, None) if self.urls.is_empty() => Ok(()),
            (None, None, None) => {
                invalid("secret", "is missing: TURN servers need it, or username and password")
            }
            (Some(_), _, _) => invalid("secret", "and a user name exclude each other: keep one"),
            (None, _, _) => invalid("username", "and password need each other: set both"),
        }
    }

    /// The servers, with credentials for `identity` that are good from `now_s` (Unix time) on.
    pub(crate) fn ice_servers(&self, identity: &str, now_s: u64) -> Vec<IceServer> {
        let mut servers = Vec::new();
        if !self.stun.is_empty() {
            servers.push(IceServer { urls: self.stun.clone(), username: None, credential: None });
        }
        if !self.urls.is_empty() {
            let (username, credential) = match &self.secret {
                Some(secret) => {
                    let username = format!("{}:{identity}", now_s.saturating_add(self.ttl_s));
                    let credential = password(secret, &username);
                    (Some(username), Some(credential))
                }
                None => (self.username.clone(), self.password.clone()),
            };
            servers.push(IceServer { urls: self.urls.clone(), username, credential });
        }
        servers
    }

    /// The same as values of `Link` headers, one for each server.
    pub(crate) fn links(&self, identity: &str, now_s: u64) -> Vec<HeaderValue> {
        let servers = self.ice_servers(identity, now_s);
        let lines = servers.iter().flat_map(|server| {
            let credentials = match (&server.username, &server.credential) {
                (Some(username), Some(credential)) => format!(
                    "; username={}; credential={}; credential-type=\"password\"",
                    quoted(username),
                    quoted(credential)
                ),
                _ => String::new(),
            };
            server.urls.iter().map(move |url| format!("<{url}>; rel=\"ice-server\"{credentials}"))
        });
        lines
            .map(|line| HeaderValue::try_from(line).expect("every part was checked to be ASCII"))
            .collect()
    }
}

/// The password of a user name that expires.
fn password(secret: &str, username: &str) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("an HMAC takes a key of any length");
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn check_urls(field: &'static str, schemes: &[&str], urls: &[String]) -> Result<(), TurnError> {
    if urls.len() > MAX_URLS {
        return Err(TurnError { field, detail: format!("holds at most {MAX_URLS}") });
    }
    for url in urls {
        if !is_server(schemes, url) {
            let detail = format!(
                "holds {url:?}: a server is {}:HOST[:PORT]{}",
                schemes[0],
                if schemes[0] == "turn" { "[?transport=udp|tcp]" } else { "" }
            );
            return Err(TurnError { field, detail });
        }
    }
    Ok(())
}

/// `scheme:host[:port][?transport=udp|tcp]` (RFC 7065 §3.1; the transport is TURN's alone).
fn is_server(schemes: &[&str], url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    let (authority, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    let transport_fits = match query {
        None => true,
        Some(query) => {
            scheme.starts_with("turn") && matches!(query, "transport=udp" | "transport=tcp")
        }
    };
    let (host_fits, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (host.parse::<std::net::Ipv6Addr>().is_ok(), port),
            None => (false, ""),
        },
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
            (!host.is_empty() && host.bytes().all(allowed), port)
        }
    };
    let port_fits = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|p| p > 0)
        });
    schemes.contains(&scheme) && transport_fits && host_fits && port_fits
}

/// `GET /v1/rooms/{room}/ice-servers`: what a client hands to `new RTCPeerConnection(…)`.
pub(crate) async fn show<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
) -> Result<Response, ApiError> {
    access.require_member(&room)?;
    api.house.room(&room)?;
    let ice_servers = api.config.turn.ice_servers(access.identity(), unix_time_s());
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(IceServers { ice_servers })).into_response())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_secret() -> TurnConfig {
        TurnConfig {
            stun: vec!["stun:stun.example.org".to_owned()],
            urls: vec![
                "turn:turn.example.org:3478?transport=udp".to_owned(),
                "turns:turn.example.org:443?transport=tcp".to_owned(),
            ],
            secret: Some("north".to_owned()),
            ..TurnConfig::default()
        }
    }

    #[test]
    fn credentials_expire_and_are_what_coturn_computes() {
        let servers = with_secret().ice_servers("ana", 1_700_000_000);
        assert_eq!(servers[0].urls, ["stun:stun.example.org"]);
        assert_eq!((&servers[0].username, &servers[0].credential), (&None, &None));
        assert_eq!(servers[1].username.as_deref(), Some("1700014400:ana"));
        // printf '1700014400:ana' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(servers[1].credential.as_deref(), Some("3Yq0MlHxmt1e5QCHP9BuO7Aohls="));
    }

    #[test]
    fn link_headers_have_the_form_of_rfc_9725() {
        let links = with_secret().links("ana", 1_700_000_000);
        assert_eq!(links.len(), 3);
        assert_eq!(links[0], "<stun:stun.example.org>; rel=\"ice-server\"");
        let credentials = "; rel=\"ice-server\"; username=\"1700014400:ana\"; credential=\"3Yq0MlHxmt1e5QCHP9BuO7Aohls=\"; \
                           credential-type=\"password\"";
        assert_eq!(links[1], format!("<turn:turn.example.org:3478?transport=udp>{credentials}"));
        assert_eq!(links[2], format!("<turns:turn.example.org:443?transport=tcp>{credentials}"));

        let odd = TurnConfig {
            secret: None,
            username: Some("a\"b".to_owned()),
            password: Some("c\\d".to_owned()),
            ..with_secret()
        };
        odd.check().unwrap();
        let link = odd.links("ana", 0)[1].to_str().unwrap().to_owned();
        assert!(link.contains(r#"username="a\"b"; credential="c\\d";"#), "{link}");
    }

    #[test]
    fn a_section_that_cannot_be_used_says_which_field() {
        let of = |change: fn(&mut TurnConfig)| {
            let mut config = with_secret();
            change(&mut config);
            config.check().unwrap_err().field
        };
        assert_eq!(of(|config| config.secret = None), "secret");
        assert_eq!(of(|config| config.username = Some("u".to_owned())), "secret");
        assert_eq!(of(|config| config.secret = Some("a b".to_owned())), "secret");
        assert_eq!(of(|config| config.ttl_s = 0), "ttl_s");
        assert_eq!(of(|config| config.urls = vec!["stun:x".to_owned()]), "urls");
        assert_eq!(of(|config| config.stun = vec!["stun:x?transport=udp".to_owned()]), "stun");
        assert_eq!(of(|config| config.urls = vec!["turn:x".to_owned(); 17]), "urls");
        let half = TurnConfig { password: Some("p".to_owned()), ..TurnConfig::default() };
        assert_eq!(half.check().unwrap_err().field, "username");
        assert!(TurnConfig::default().check().is_ok() && with_secret().check().is_ok());
    }

    #[test]
    fn servers_have_the_form_of_rfc_7065() {
        let good = ["turn:a", "turns:a.b-c:5349", "turn:1.2.3.4?transport=tcp", "turn:[::1]:3478"];
        for url in good {
            assert!(is_server(&["turn", "turns"], url), "{url}");
        }
        let bad = [
            "",
            "turn",
            "turn:",
            "turn:a b",
            "turn:a>",
            "turn:a:0",
            "turn:a:65536",
            "turn:a:+1",
            "turn:a:",
            "turn:[x]",
            "turn:[::1",
            "turn:a?transport=sctp",
            "turn:a?x",
            "turn://a",
        ];
        for url in bad {
            assert!(!is_server(&["turn", "turns"], url), "{url}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?}", with_secret());
        assert!(shown.contains("turn.example.org") && !shown.contains("north"), "{shown}");
    }

    proptest! {
        #[test]
        fn whatever_passes_the_check_can_stand_in_a_header(
            url in "turns?:[ -~ä]{0,20}",
            username in "[ -~ä]{0,12}",
            password in "[ -~ä]{0,12}",
        ) {
            let config = TurnConfig {
                urls: vec![url],
                username: Some(username),
                password: Some(password),
                ..TurnConfig::default()
            };
            if config.check().is_ok() {
                let links = config.links("ana", u64::MAX);
                prop_assert!(links[0].to_str().unwrap().starts_with("<turn"));
            }
        }
    }
}
