//! The fields of a request, which may come as JSON, as a form, in parts, or in the address.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde_json::{Map, Value};

use super::answers::Refusal;

/// Largest body, bytes: a batch of long texts is well below.
const MAX_BODY: usize = 2 << 20;
/// Time for a body to arrive: a client that trickles bytes must not hold a connection.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most fields of a form.
const MAX_FIELDS: usize = 100;

/// What was sent.
#[derive(Clone, Debug)]
pub(super) enum Fields {
    /// One object.
    Json(Map<String, Value>),
    /// Names and values; those of the address come before those of the body.
    Form(HashMap<String, String>),
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// A text.
    One(String),
    /// An array of texts.
    Many(Vec<String>),
}

impl Query {
    /// The texts.
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl Fields {
    /// Reads a request's fields.
    pub(super) async fn read(parts: &Parts, body: Body) -> Result<Self, Refusal> {
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let announced = parts.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MAX_BODY) {
            return Err(Refusal::TooLarge);
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
            Ok(Ok(body)) => body,
            // Without an announced length, the limit is the likeliest reason.
            Ok(Err(_)) if announced.is_none() => return Err(Refusal::TooLarge),
            Ok(Err(_)) | Err(_) => return Err(Refusal::Unreadable),
        };
        if essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
        {
            return match serde_json::from_slice(&body) {
                Ok(Value::Object(fields)) => Ok(Self::Json(fields)),
                Ok(_) => Err(Refusal::NotAnObject),
                Err(_) => Err(Refusal::Unreadable),
            };
        }
        let mut fields = HashMap::new();
        let mut add = |bytes: &[u8]| {
            for (name, value) in form_urlencoded::parse(bytes).take(MAX_FIELDS) {
                fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
            }
        };
        add(parts.uri.query().unwrap_or("").as_bytes());
        match essence.as_str() {
            "application/x-www-form-urlencoded" => add(&body),
            "multipart/form-data" => read_parts(content_type, body, &mut fields).await?,
            _ => {}
        }
        Ok(Self::Form(fields))
    }

    /// The key; empty when there is none.
    pub(super) fn api_key(&self) -> &str {
        match self {
            Self::Json(fields) => fields.get("api_key").and_then(Value::as_str).unwrap_or(""),
            Self::Form(fields) => fields.get("api_key").map_or("", String::as_str),
        }
    }

    /// The text or texts.
    pub(super) fn query(&self) -> Result<Query, Refusal> {
        match self {
            Self::Json(fields) => match fields.get("q") {
                Some(value) if is_empty(value) => Err(Refusal::Missing("q")),
                None => Err(Refusal::Missing("q")),
                Some(Value::String(text)) => Ok(Query::One(text.clone())),
                Some(Value::Array(texts)) => texts
                    .iter()
                    .map(|text| text.as_str().map(str::to_owned).ok_or(Refusal::Internal))
                    .collect::<Result<_, _>>()
                    .map(Query::Many),
                Some(_) => Err(Refusal::Internal),
            },
            Self::Form(fields) => match fields.get("q") {
                Some(text) if !text.is_empty() => Ok(Query::One(unix_lines(text))),
                _ => Err(Refusal::Missing("q")),
            },
        }
    }

    /// A language, as our models call it.
    pub(super) fn language(&self, name: &'static str) -> Result<String, Refusal> {
        let code = self.text(name).ok_or(Refusal::Missing(name))?;
        Ok(code_in(&code))
    }

    /// The format; `text` when it is missing.
    pub(super) fn format(&self) -> String {
        self.text("format").unwrap_or_else(|| "text".to_owned())
    }

    /// How many alternatives; none when it is missing.
    pub(super) fn alternatives(&self) -> Result<usize, Refusal> {
        let number = match self {
            Self::Json(fields) => match fields.get("alternatives") {
                None => 0.0,
                Some(Value::Bool(one)) => f64::from(u8::from(*one)),
                Some(Value::Number(number)) => number.as_f64().ok_or(Refusal::Internal)?,
                Some(Value::String(text)) => whole(text).ok_or(Refusal::Internal)?,
                Some(_) => return Err(Refusal::Internal),
            },
            Self::Form(fields) => match fields.get("alternatives") {
                None => 0.0,
                Some(text) => whole(text).ok_or(Refusal::AlternativesNoNumber)?,
            },
        };
        // Less than none is none.
        Ok(number as usize)
    }

    /// A field that is a text, or is taken for one; `None` when missing or empty.
    fn text(&self, name: &str) -> Option<String> {
        match self {
            Self::Json(fields) => match fields.get(name)? {
                value if is_empty(value) => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
            Self::Form(fields) => fields.get(name).filter(|text| !text.is_empty()).cloned(),
        }
    }
}

/// What counts as missing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn whole(text: &str) -> Option<f64> {
    text.trim().parse::<i64>().ok().map(|number| number as f64)
}

/// The parts of a form that have no file in them.
async fn read_parts(
    content_type: &str,
    body: Bytes,
    fields: &mut HashMap<String, String>,
) -> Result<(), Refusal> {
    let request = Request::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(body))
        .map_err(|_| Refusal::Unreadable)?;
    let Ok(mut parts) = Multipart::from_request(request, &()).await else {
        return Err(Refusal::Unreadable);
    };
    while let Some(part) = parts.next_field().await.map_err(|_| Refusal::Unreadable)? {
        let name = part.name().unwrap_or("").to_owned();
        let is_file = part.file_name().is_some();
        let text = part.text().await.map_err(|_| Refusal::Unreadable)?;
        if !is_file && fields.len() < MAX_FIELDS {
            fields.entry(name).or_insert(text);
        }
    }
    Ok(())
}

/// Line ends as on Unix, and none at the end, so that a form counts as many characters as JSON.
fn unix_lines(text: &str) -> String {
    let mut text = text.replace("\r\n", "\n");
    let is_line_end = |character: char| {
        matches!(character, '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}')
            || matches!(character, '\u{2028}' | '\u{2029}')
    };
    if text.contains(is_line_end) {
        text = text.replace(is_line_end, "\n");
    }
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

/// A code as the interface has it, in the models' form.
fn code_in(code: &str) -> String {
    let code = code.to_lowercase();
    match code.as_str() {
        "zh-hans" => "zh".to_owned(),
        "zh-hant" => "zt".to_owned(),
        "pt-br" => "pb".to_owned(),
        _ => code,
    }
}

/// A code of the models, in the interface's form.
pub(super) fn code_out(code: &str) -> String {
    match code {
        "zh" => "zh-Hans".to_owned(),
        "zt" => "zh-Hant".to_owned(),
        "pb" => "pt-BR".to_owned(),
        _ => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_unix_ones_and_the_last_is_dropped() {
        assert_eq!(unix_lines("a\r\nb\rc\u{2028}d\n"), "a\nb\nc\nd");
        assert_eq!(unix_lines("a\n\n"), "a\n");
    }

    #[test]
    fn aliases_are_translated_both_ways_in_any_case() {
        for (outside, inside) in [("zh-Hans", "zh"), ("zh-Hant", "zt"), ("pt-BR", "pb")] {
            assert_eq!(code_in(outside), inside);
            assert_eq!(code_out(inside), outside);
        }
        assert_eq!(code_in("EN"), "en");
    }
}
