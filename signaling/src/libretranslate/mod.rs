//! LibreTranslate's HTTP interface over our translators, so that what is made for LibreTranslate works
//! here unchanged: its client libraries, and programs that take the address of such a server.
//!
//! It has a listener of its own and no prefix on the main port, because it keeps LibreTranslate's
//! rules and not those of the house: an API key travels in the body and may be missing, errors are
//! `{"error": …}`, unknown paths answer with a page of HTML, every other answer carries its headers
//! for other origins. An operator who opens the main port has not thereby opened a translator to
//! everybody; this listener is off until the configuration gives it an address.
//!
//! It speaks as LibreTranslate 1.9.6 does with its web page, file translation and suggestions
//! switched off; `tests/peers` sends the same requests to both. Where it differs: a code of a
//! regional variety (`pt-BR`) finds its language (`pt`) where there is no such variety, a text in HTML is
//! translated between its tags and comes back escaped, alternatives are what other translators of
//! the ladder say, a batch that goes beyond the limit is counted whole, and a full queue is answered
//! with 503.

mod answers;
mod detect;
mod fields;
mod html;
mod limits;
mod translate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tower_http::catch_panic::CatchPanicLayer;

use crate::guard;
use crate::studio::Studio;
use answers::Refusal;
use fields::Fields;
use limits::{Caller, Limiter};

/// How the face is set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LibreTranslateFace {
    /// Address and port to listen on; off when missing.
    pub bind: Option<SocketAddr>,
    /// Most characters of one text; 0 sets no limit.
    pub char_limit: usize,
    /// Most texts of one request; 0 sets no limit.
    pub batch_limit: usize,
    /// Most requests of one address or key to one path in a minute, each text of an array counted; 0 sets no
    /// limit.
    pub req_limit: usize,
    /// Most alternatives that may be asked for; 0 sets no limit.
    pub alternatives_limit: usize,
    /// Whether a request without a key is refused.
    pub require_key: bool,
    /// Keys, with limits of their own.
    pub keys: Vec<FaceKey>,
}

impl Default for LibreTranslateFace {
    fn default() -> Self {
        Self {
            bind: None,
            char_limit: 5_000,
            batch_limit: 50,
            req_limit: 0,
            alternatives_limit: 3,
            require_key: false,
            keys: Vec::new(),
        }
    }
}

/// A key and what its holder may do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaceKey {
    /// The key, sent as the field `api_key`.
    pub key: String,
    /// Instead of the general `req_limit`.
    #[serde(default)]
    pub req_limit: Option<usize>,
    /// Instead of the general `char_limit`.
    #[serde(default)]
    pub char_limit: Option<usize>,
}

impl std::fmt::Debug for FaceKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (req_limit, char_limit) = (self.req_limit, self.char_limit);
        write!(formatter, "FaceKey {{ key: …, {req_limit:?}, {char_limit:?} }}")
    }
}

/// What every handler holds.
struct Face<S> {
    studio: Arc<S>,
    config: LibreTranslateFace,
}

/// What [`admit`] holds: each path counts for itself, as in the original.
type Admission<S> = (Arc<Face<S>>, Arc<Limiter>);

/// How many requests the one at hand counts for; its handler says so in the answer.
#[derive(Clone, Copy)]
struct Cost(usize);

/// Whose limits hold for a request.
#[derive(Clone, Copy)]
struct Allowance {
    char_limit: usize,
}

/// Every route of the face. Serve it with
/// [`into_make_service_with_connect_info`](Router::into_make_service_with_connect_info) of
/// [`SocketAddr`], which the limits count by.
pub fn router<S: Studio>(studio: Arc<S>, config: LibreTranslateFace) -> Router {
    let face = Arc::new(Face { studio, config });
    let counted = |handler: MethodRouter<Arc<Face<S>>>| {
        let layer = axum::middleware::from_fn_with_state(
            (Arc::clone(&face), Arc::<Limiter>::default()),
            admit::<S>,
        );
        route(handler.layer(layer), "POST, OPTIONS")
    };
    let read = |handler| route(handler, "HEAD, GET, OPTIONS");
    Router::new()
        .route("/translate", counted(post(translate::translate::<S>)))
        .route("/detect", counted(post(detect::detect::<S>)))
        .route("/suggest", counted(post(suggest)))
        .route("/translate_file", counted(post(translate_file)))
        .route("/languages", read(get(languages::<S>)))
        .route("/health", read(get(health)))
        .route("/frontend/settings", read(get(settings::<S>)))
        .route("/", read(get(async || answers::not_found())))
        .fallback(async || answers::not_found())
        .with_state(face)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(guard::log))
}

/// Serves the face until `shutdown` resolves.
///
/// # Errors
/// When the listener cannot be served any more.
pub async fn serve<S: Studio>(
    listener: tokio::net::TcpListener,
    studio: Arc<S>,
    config: LibreTranslateFace,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router(studio, config).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown).await
}

/// A path with its methods, the headers for other origins, and a page for other methods, which as
/// in the original comes without them.
fn route<S: Clone + Send + Sync + 'static>(
    methods: MethodRouter<S>,
    allow: &'static str,
) -> MethodRouter<S> {
    methods
        .options(move || async move { answers::options(allow) })
        .layer(map_response(answers::allow_origins))
        .fallback(move || async move { answers::method_not_allowed(allow) })
}

/// Reads the fields, and lets pass who is within their limits and has a good key or needs none.
async fn admit<S: Studio>(
    State((face, limiter)): State<Admission<S>>,
    request: Request,
    next: Next,
) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let (mut parts, body) = request.into_parts();
    let fields = Fields::read(&parts, body).await;
    let given = fields.as_ref().map_or("", Fields::api_key).to_owned();
    let keys = &face.config.keys;
    let index = keys.iter().position(|key| is_same(&key.key, &given));
    let key = index.map(|index| &keys[index]);

    let caller = index.map_or(Caller::Address(address), Caller::Key);
    let limit = key.and_then(|key| key.req_limit).unwrap_or(face.config.req_limit);
    if limit > 0 && !limiter.allows(caller, limit, Instant::now()) {
        return Refusal::TooMany { limit }.into_response();
    }
    let char_limit = key.and_then(|key| key.char_limit).unwrap_or(face.config.char_limit);
    let answer = match fields {
        Err(refusal) => refusal.into_response(),
        Ok(_) if !keys.is_empty() && key.is_none() && !given.is_empty() => {
            Refusal::InvalidKey.into_response()
        }
        Ok(_) if face.config.require_key && key.is_none() => Refusal::KeyNeeded.into_response(),
        Ok(fields) => {
            parts.extensions.insert(Arc::new(fields));
            parts.extensions.insert(Allowance { char_limit });
            next.run(Request::from_parts(parts, axum::body::Body::empty())).await
        }
    };
    if limit > 0 {
        let cost = answer.extensions().get::<Cost>().map_or(1, |cost| cost.0);
        limiter.count(caller, cost, Instant::now());
    }
    answer
}

/// In a time that tells nothing about the key.
fn is_same(key: &str, given: &str) -> bool {
    use sha2::{Digest, Sha256};
    let (key, given) = (Sha256::digest(key.as_bytes()), Sha256::digest(given.as_bytes()));
    key.ct_eq(&given).into()
}

async fn suggest() -> Refusal {
    Refusal::Disabled("Suggestions are disabled on this server.")
}

async fn translate_file() -> Refusal {
    Refusal::Disabled("Files translation are disabled on this server.")
}

async fn health() -> Response {
    answers::json(&serde_json::json!({ "status": "ok" }))
}

#[derive(Serialize)]
struct Listed {
    code: String,
    name: String,
    targets: Vec<String>,
}

async fn languages<S: Studio>(State(face): State<Arc<Face<S>>>) -> Response {
    let listed: Vec<Listed> = face
        .studio
        .text_languages()
        .into_iter()
        .map(|language| {
            let mut targets = language.targets;
            // Each language is a target of its own.
            targets.push(language.code.clone());
            targets.sort();
            let targets = targets.iter().map(|code| fields::code_out(code)).collect();
            Listed { code: fields::code_out(&language.code), name: language.name, targets }
        })
        .collect();
    answers::json(&listed)
}

#[derive(Serialize)]
struct NamedCode<'a> {
    code: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct SettingsLanguage<'a> {
    source: NamedCode<'a>,
    target: NamedCode<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Settings<'a> {
    api_keys: bool,
    char_limit: i64,
    files_translation: bool,
    frontend_timeout: u32,
    key_required: bool,
    language: SettingsLanguage<'a>,
    suggestions: bool,
    supported_files_format: [&'a str; 0],
}

/// What a page for the face would be set up with. The timeout is how long one waits after the last
/// key before it asks for a translation.
async fn settings<S: Studio>(State(face): State<Arc<Face<S>>>) -> Response {
    let languages = face.studio.text_languages();
    let spanish = languages.iter().find(|language| language.code == "es");
    let target = spanish.or(languages.get(1)).or(languages.first());
    let target = target.map_or(NamedCode { code: "en", name: "English" }, |language| NamedCode {
        code: &language.code,
        name: &language.name,
    });
    answers::json(&Settings {
        api_keys: !face.config.keys.is_empty(),
        char_limit: match face.config.char_limit {
            0 => -1,
            limit => i64::try_from(limit).unwrap_or(i64::MAX),
        },
        files_translation: false,
        frontend_timeout: 500,
        key_required: face.config.require_key,
        language: SettingsLanguage {
            source: NamedCode { code: "auto", name: "Auto Detect" },
            target,
        },
        suggestions: false,
        supported_files_format: [],
    })
}

/// The fields that [`admit`] read.
type Read = Extension<Arc<Fields>>;

#[expect(clippy::needless_pass_by_value, reason = "the signature that `CatchPanicLayer` calls")]
fn panicked(payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let message = payload.downcast_ref::<&str>().copied().unwrap_or("a panic with another payload");
    tracing::error!(message, "a request handler panicked");
    Refusal::Internal.into_response()
}
