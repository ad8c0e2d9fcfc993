//! What the face answers: JSON with a line end, refusals in LibreTranslate's words, pages of HTML for
//! paths and methods that are not there.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::studio::StudioError;

/// Why a request is refused. The words are LibreTranslate's: clients may look for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The body is no JSON, breaks off, or took too long.
    Unreadable,
    /// The body is JSON but no object.
    NotAnObject,
    /// The body is larger than any request needs.
    TooLarge,
    /// A field that must be there is missing or empty.
    Missing(&'static str),
    /// A language that nobody here translates.
    UnsupportedLanguage(String),
    /// A format other than text and html.
    UnsupportedFormat(String),
    /// `alternatives` is no number, in a form.
    AlternativesNoNumber,
    /// More alternatives than allowed.
    TooManyAlternatives { limit: usize },
    /// A text has too many characters, or a request too many texts.
    TooLong { size: usize, limit: usize },
    /// Names and codes of two languages without a translator between them.
    NoSuchPair { target: (String, String), source: (String, String) },
    /// More requests in a minute than allowed.
    TooMany { limit: usize },
    /// The key is unknown.
    InvalidKey,
    /// There is no key, and one is needed.
    KeyNeeded,
    /// What the request asks for is switched off.
    Disabled(&'static str),
    /// The studio's queue is full.
    Overloaded { retry_after_s: u32 },
    /// A field of a kind that the original breaks over, or a defect of ours.
    Internal,
}

impl Refusal {
    fn describe(&self) -> (StatusCode, String) {
        let text = match self {
            Self::Unreadable => {
                "The browser (or proxy) sent a request that this server could not understand."
                    .to_owned()
            }
            Self::NotAnObject => "Invalid JSON format".to_owned(),
            Self::Missing(name) => format!("Invalid request: missing {name} parameter"),
            Self::UnsupportedLanguage(code) => format!("{code} is not supported"),
            Self::UnsupportedFormat(format) => format!("{format} format is not supported"),
            Self::AlternativesNoNumber => {
                "Invalid request: alternatives parameter is not a number".to_owned()
            }
            Self::TooManyAlternatives { limit } => {
                format!("Invalid request: alternatives parameter must be <= {limit}")
            }
            Self::TooLong { size, limit } => {
                format!("Invalid request: request ({size}) exceeds text limit ({limit})")
            }
            Self::NoSuchPair { target: (target, target_code), source: (source, source_code) } => {
                format!(
                    "{target} ({target_code}) is not available as a target language from \
                     {source} ({source_code})"
                )
            }
            Self::KeyNeeded => "Please contact the server operator to get an API key".to_owned(),
            Self::TooLarge => {
                let text = "The data value transmitted exceeds the capacity limit.".to_owned();
                return (StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            Self::TooMany { limit } => {
                let text = format!("Slowdown: {limit} per 1 minute");
                return (StatusCode::TOO_MANY_REQUESTS, text);
            }
            Self::InvalidKey => return (StatusCode::FORBIDDEN, "Invalid API key".to_owned()),
            Self::Disabled(text) => return (StatusCode::FORBIDDEN, (*text).to_owned()),
            Self::Overloaded { .. } => {
                let text = "The server is temporarily unable to service your request due to \
                            maintenance downtime or capacity problems. Please try again later.";
                return (StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
            }
            Self::Internal => {
                let text = "The server encountered an internal error and was unable to complete \
                            your request. Either the server is overloaded or there is an error in \
                            the application.";
                return (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned());
            }
        };
        (StatusCode::BAD_REQUEST, text)
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = self.describe();
        if self == Self::TooLarge {
            return page(status, "Request Entity Too Large", &text);
        }
        let mut response = json(&ErrorBody { error: &text });
        *response.status_mut() = status;
        if let Self::Overloaded { retry_after_s } = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        response
    }
}

impl From<StudioError> for Refusal {
    fn from(error: StudioError) -> Self {
        match error {
            StudioError::Overloaded { retry_after_s } => Self::Overloaded { retry_after_s },
            error => {
                tracing::error!(%error, "a translation failed");
                Self::Internal
            }
        }
    }
}

/// A JSON answer, with the line end that LibreTranslate puts after it.
pub(super) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The page for a path that is not there.
pub(super) fn not_found() -> Response {
    let text = "The requested URL was not found on the server. If you entered the URL manually \
                please check your spelling and try again.";
    page(StatusCode::NOT_FOUND, "Not Found", text)
}

/// The page for a method that the path does not take.
pub(super) fn method_not_allowed(allow: &'static str) -> Response {
    let text = "The method is not allowed for the requested URL.";
    let page = page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", text);
    ([(header::ALLOW, allow)], page).into_response()
}

/// The answer to `OPTIONS`.
pub(super) fn options(allow: &'static str) -> Response {
    let headers = [(header::ALLOW, allow), (header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (headers, ()).into_response()
}

fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let code = status.as_u16();
    let html = format!(
        "<!doctype html>\n<html lang=en>\n<title>{code} {title}</title>\n<h1>{title}</h1>\n\
         <p>{text}</p>\n"
    );
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// Adds LibreTranslate's headers for other origins.
pub(super) async fn allow_origins(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type");
    set(header::ACCESS_CONTROL_EXPOSE_HEADERS, "Authorization");
    set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
    set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    set(header::ACCESS_CONTROL_MAX_AGE, "1728000");
    response
}
