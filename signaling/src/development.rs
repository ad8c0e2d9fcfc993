//! `/v1/development`: what a server in development mode offers to whoever reaches it, so that its
//! page can be tried without a key. Outside development mode nothing is made here.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::bodies::JsonBody;
use crate::house::{House, HouseError};
use crate::openapi::{Answer, Asks, Doc, Routes, tags};
use crate::problem::{ApiError, Kind};
use crate::rooms::{self, TokenForm};
use crate::server::Api;
use crate::validate;
use crate::wire::{CreateDevelopmentToken, CreateRoom, CreateToken, Development, Token};

pub(crate) fn routes<H: House>() -> Routes<H> {
    let show_doc = Doc::new(
        "getDevelopment",
        tags::SERVER,
        "Whether the server is in development mode",
        "A server in development mode makes tokens for whoever reaches it.",
        Asks::Nobody,
    )
    .answers(Answer::new(200, "Whether it does.").json::<Development>());
    let create_token_doc = Doc::new(
        "createDevelopmentToken",
        tags::TOKENS,
        "Make a token without a key",
        "In development mode alone: the token, and the room when there is none of its name. \
         Refused to pages of other origins, and under names that are not the server's.",
        Asks::Nobody,
    )
    .takes::<CreateDevelopmentToken>(json!({ "room": "desk", "language": "es", "hear": "en" }))
    .answers(Answer::new(201, "The token.").json::<Token>())
    .problems(&[
        Kind::NoDevelopment,
        Kind::Forbidden,
        Kind::CannotLearn,
        Kind::Overloaded,
        Kind::Draining,
    ]);
    Routes::new()
        .at("/v1/development", |at| at.get(show::<H>, show_doc))
        .at("/v1/development/tokens", |at| at.post(create_token::<H>, create_token_doc))
}

/// `GET /v1/development`: how the page learns whether it needs a key or a token.
pub(crate) async fn show<H: House>(State(api): State<Api<H>>) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(Development { tokens: api.config.development })).into_response()
}

/// `POST /v1/development/tokens`: makes the room when it is missing, and a token for it.
pub(crate) async fn create_token<H: House>(
    State(api): State<Api<H>>,
    uri: Uri,
    headers: HeaderMap,
    request: Result<JsonBody<CreateDevelopmentToken>, ApiError>,
) -> Result<Response, ApiError> {
    if !api.config.development {
        return Err(ApiError::new(
            Kind::NoDevelopment,
            "ask for a token with POST /v1/rooms/{room}/tokens and the server's API key",
        ));
    }
    require_known_host(&uri, &headers, &api.config.hosts)?;
    require_same_origin(&headers)?;
    let JsonBody(request) = request?;
    let invalid = |detail| ApiError::new(Kind::InvalidField, detail);
    validate::room_name(&request.room).map_err(|detail| invalid(format!("room: {detail}")))?;
    let token = CreateToken {
        identity: request.identity.unwrap_or_else(invented_identity),
        name: request.name,
        language: request.language,
        hear: request.hear,
        voice: request.voice,
        grants: request.grants,
        ttl_s: None,
    };
    let answer = rooms::mint(&api, &request.room, &token, TokenForm::Ours)?;
    let room = CreateRoom {
        name: Some(request.room),
        kind: request.kind,
        languages: request.languages,
        ..CreateRoom::default()
    };
    validate::create_room(&room).map_err(invalid)?;
    match api.house.create_room(room) {
        Ok(_) | Err(HouseError::RoomExists(_)) => Ok(answer),
        Err(error) => Err(error.into()),
    }
}

/// A page of another site can have its own name point at this machine, and would then be of the same
/// origin. It cannot do so with an address, with `localhost`, or with a name of the operator's.
fn require_known_host(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), ApiError> {
    let header = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    // HTTP/2 has no Host header: the name stands in the address.
    let authority = header.or_else(|| uri.authority().map(Authority::as_str));
    if authority.is_some_and(|authority| is_known_host(authority, hosts)) {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::Forbidden,
        "a token without a key is made under an IP address, localhost, or a name in http.hosts",
    ))
}

fn is_known_host(authority: &str, hosts: &[String]) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = host.strip_suffix('.').unwrap_or(host);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// No page of another site may join the calls of a developer who visits it: a browser names the
/// origin of the page that asks, and programs name none.
fn require_same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    if host.is_some() && authority.map(|(_, authority)| authority) == host {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::Forbidden,
        "only the server's own page may ask for a token without a key",
    ))
}

fn invented_identity() -> String {
    format!("guest-{:08x}", rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_localhost_and_the_operators_names_are_known() {
        let hosts = ["desk.example.org".to_owned()];
        for known in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "192.0.2.7",
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "desk.example.org",
            "Desk.Example.org:8443",
        ] {
            assert!(is_known_host(known, &hosts), "{known}");
        }
        for unknown in [
            "",
            "rebound.example",
            "rebound.example:8080",
            "localhost.rebound.example",
            "127.0.0.1.rebound.example",
            "desk.example.org.rebound.example",
            "a@127.0.0.1",
            "127.0.0.1@rebound.example",
            "127.1",
            "0x7f000001",
            "[rebound.example]",
            "[::1",
        ] {
            assert!(!is_known_host(unknown, &hosts), "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn no_name_under_another_is_known(name in "[a-z0-9.@:\\[\\]-]{0,20}") {
            let rebound = format!("{name}.rebound.example");
            prop_assert!(!is_known_host(&rebound, &["desk".to_owned()]));
        }
    }
}
