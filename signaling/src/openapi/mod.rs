//! The API's description of itself: `GET /v1/openapi.json`, an OpenAPI 3.1 document. Paths, methods,
//! bodies and problems come from the lists that the server routes and answers by; the shapes of
//! values from the constants that it checks them by.

mod operation;
mod routes;
pub(crate) mod shapes;
#[cfg(test)]
mod tests;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::openapi::path::PathsBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApiBuilder, Required, Server,
};

pub(crate) use self::operation::{Answer, Asks, Doc, Schemas, one_of, string};
pub(crate) use self::routes::{At, Routes};
use crate::house::House;
use crate::problem::Kind;
use crate::server::Api;

/// Groups of operations, in the order in which one meets them.
pub(crate) mod tags {
    pub(crate) const ROOMS: &str = "Rooms";
    pub(crate) const TOKENS: &str = "Tokens";
    pub(crate) const SESSIONS: &str = "Sessions";
    pub(crate) const PARTICIPANTS: &str = "Participants";
    pub(crate) const EVENTS: &str = "Events";
    pub(crate) const TRANSCRIPTS: &str = "Transcripts";
    pub(crate) const VOICES: &str = "Voices";
    pub(crate) const SERVER: &str = "Server";
}

const TAGS: [(&str, &str); 8] = [
    (
        tags::ROOMS,
        "A conversation takes place in a room: a call of two, or a conference with a \
        channel for each language.",
    ),
    (
        tags::TOKENS,
        "A participant holds a token for one room. It says who they are, what they \
        speak and hear, and what they may do.",
    ),
    (
        tags::SESSIONS,
        "The media: a WebRTC offer is posted and answered with every candidate in \
        it. `sessions` is for one peer that speaks and listens; `whip` (RFC 9725) only speaks, \
        `whep` (draft-ietf-wish-whep) only listens.",
    ),
    (tags::PARTICIPANTS, "Who is in a room, and what its moderators do about them."),
    (
        tags::EVENTS,
        "What happens in a room, as it happens: captions, who comes and goes, and \
        where the time of each utterance went.",
    ),
    (tags::TRANSCRIPTS, "What was said, kept for those who were let into the room."),
    (
        tags::VOICES,
        "The voices that interpretations are spoken in: built in, or learned from recordings of \
        somebody who has agreed to it.",
    ),
    (tags::SERVER, "What the server offers, and how it is."),
];

const ABOUT: &str = "\
A real-time speech interpreter: everybody speaks their language and hears their own.

**Four calls to a conversation.** Make a room (`POST /v1/rooms`), make a token for each participant \
(`POST /v1/rooms/{room}/tokens`), post their WebRTC offer \
(`POST /v1/rooms/{room}/sessions`), and follow what is said (`GET /v1/rooms/{room}/events`).

**Credentials** stand in `Authorization: Bearer`. The server's API key, or an admin token made with \
it, may do everything but hold a session; a participant's token may do what its grants say, in its \
room.

**Errors** are `application/problem+json` (RFC 9457). `type` is stable and names the kind of \
problem, `detail` says what happened here and what to do about it. Every operation lists the kinds \
that it answers. Beside those, a method that a path does not have is answered with 405, \
`method-not-allowed` and an `Allow` header, and a path that there is not with 404 and \
`no-such-path`.

**Limits.** A client that asks too often is answered with 429 and `Retry-After`. JSON and SDP bodies \
may have 64 KiB, recordings 25 MiB.

**Every path** answers `OPTIONS` with `Allow` and what a preflight of a browser asks for; paths with \
`GET` answer `HEAD`. A request may bring an `X-Request-Id`, which its answer and the server's log \
carry then; otherwise the server makes one.

Beside this API the server has faces of other programs, which are documented with those: OpenAI's \
audio endpoints (`/v1/audio/…`, `/v1/models`) and LibreTranslate's, on a port of its own.";

/// The document for these paths, as it is served.
pub(crate) fn document(paths: PathsBuilder, schemas: Schemas) -> Value {
    let bearer =
        |about: &str| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
    let in_address = ApiKeyValue::with_description(
        "access_token",
        "A participant's token, where no header can be set: a browser's WebSocket, say.",
    );
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(
            "key",
            SecurityScheme::Http(
                bearer(
                    "The server's API key, an admin token made with it, or the token of a service \
                     with LiveKit's grants (`roomCreate`, `roomList`, `roomAdmin`).",
                )
                .build(),
            ),
        )
        .security_scheme(
            "token",
            SecurityScheme::Http(
                bearer("A participant's token, from `POST /v1/rooms/{room}/tokens`.")
                    .bearer_format("JWT")
                    .build(),
            ),
        )
        .security_scheme("address", SecurityScheme::ApiKey(ApiKey::Query(in_address)));
    let license = LicenseBuilder::new()
        .name(env!("CARGO_PKG_LICENSE"))
        .identifier(Some(env!("CARGO_PKG_LICENSE")))
        .build();
    let info = InfoBuilder::new()
        .title("Dragoman")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license));
    let tags =
        TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    let document = OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(tags))
        .build();
    let mut document =
        serde_json::to_value(document).expect("a document is strings, numbers and lists");
    amend(&mut document);
    document
}

/// What utoipa leaves to be done: descriptions that come from comments in the code point at other
/// items of it (`` [`Room::name`] ``), and a link's operation has its name in another case.
fn amend(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(id) = map.remove("operation_id") {
                map.insert("operationId".to_owned(), id);
            }
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => *text = without_links(text),
                    value => amend(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(amend),
        _ => {}
    }
}

fn without_links(text: &str) -> String {
    text.replace("[`super::", "`").replace("[`", "`").replace("`]", "`").replace("::", ".")
}

/// The `type` of a problem: one of those that there are.
pub(crate) fn problem_type() -> ObjectBuilder {
    one_of(Kind::ALL.iter().map(|kind| kind.reference()))
}

/// The document as it leaves, and its entity tag.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    body: Bytes,
    etag: HeaderValue,
}

impl Served {
    pub(crate) fn new(document: &Value) -> Self {
        let body = document.to_string();
        let digest = Sha256::digest(&body);
        let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{tag}\"")).expect("hexadecimal is ASCII");
        Self { body: body.into(), etag }
    }
}

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = Doc::new(
        "getOpenApi",
        tags::SERVER,
        "This document",
        "The API as an OpenAPI 3.1 document. `GET /v1/docs` is a page that shows it.",
        Asks::Nobody,
    )
    .header("If-None-Match", "The `ETag` of the document that the client has.", Required::False)
    .answers(
        Answer::new(200, "The document.")
            .content("application/json", ObjectBuilder::new())
            .header("ETag", "Changes with the document."),
    )
    .answers(
        Answer::new(304, "The client has it already.").header("ETag", "That of the document."),
    );
    Routes::new().at("/v1/openapi.json", |at| at.get(show::<H>, doc))
}

/// `GET /v1/openapi.json`.
async fn show<H: House>(State(api): State<Api<H>>, headers: HeaderMap) -> Response {
    let Served { body, etag } = api.document;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| {
        // Tags are compared as weak ones (RFC 9110 §13.1.2).
        known
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag == etag)
    });
    let caching =
        [(header::ETAG, etag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (caching, json, body).into_response()
}
