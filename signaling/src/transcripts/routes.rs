//! `/v1/rooms/{room}/transcript` and `/meetings`: what was said, for those who were let into the
//! room, while it goes on and after it ended.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use super::export::{Export, Format};
use super::reader::Reader;
use super::store::{Store, StoreError};
use crate::access::Access;
use crate::bodies::RoomPath;
use crate::house::House;
use crate::openapi::shapes::LanguageTag;
use crate::openapi::{Answer, Asks, Doc, Routes, one_of, string, tags};
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::validate;
use crate::wire::{Meeting, Transcript};

/// Parameters in the address; others are ignored.
#[derive(Deserialize)]
pub(crate) struct TranscriptQuery {
    /// One of [`Format::ALL`]; what `Accept` prefers when missing.
    format: Option<String>,
    /// Language of the texts; what was spoken when missing.
    language: Option<String>,
    /// Id of the meeting; the latest of the room when missing.
    meeting: Option<String>,
}

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = |id: &str, summary: &str, about: &str| {
        Doc::new(id, tags::TRANSCRIPTS, summary, about, Asks::KeyOrToken)
    };
    let meeting = || string().pattern(Some("^[0-9]{1,18}$"));
    let show_doc = doc(
        "getTranscript",
        "Read what was said",
        "While the meeting goes on and after it, with any token of the room that has not expired \
         and grants `listen`. The format is the one named, or what `Accept` prefers.",
    )
    .query_as("format", "The format.", one_of(Format::ALL.map(Format::suffix)))
    .query::<LanguageTag>(
        "language",
        "Language of the texts, one in which the meeting was interpreted; what was spoken when \
         missing.",
    )
    .query_as("meeting", "Id of the meeting; the latest of the room when missing.", meeting());
    let whole = Format::ALL
        .into_iter()
        .filter(|format| *format != Format::Json)
        .fold(Answer::new(200, "The transcript.").json::<Transcript>(), |answer, format| {
            answer.content(format.media_type(), string())
        });
    let show_doc = show_doc
        .answers(whole.header("Content-Disposition", "A name for the file."))
        .problems(&[Kind::BadRequest, Kind::InvalidField, Kind::NoTranscript, Kind::NotAcceptable]);
    let erase_doc = doc(
        "deleteTranscript",
        "Erase what was said",
        "Gone for good: all meetings of the room's name, or the one named. A token needs the \
         `moderate` grant.",
    )
    .query_as("meeting", "Id of the meeting; all of the room when missing.", meeting())
    .answers(Answer::new(204, "It is gone."))
    .problems(&[Kind::BadRequest, Kind::NoTranscript]);
    let meetings_doc = doc(
        "listMeetings",
        "List the meetings",
        "Those of the room's name of which something is kept. A token needs the `listen` grant.",
    )
    .answers(Answer::new(200, "The meetings, the latest first.").list::<Meeting>());
    Routes::new()
        .at("/v1/rooms/{room}/transcript", |at| {
            at.get(show::<H>, show_doc).delete(erase::<H>, erase_doc)
        })
        .at("/v1/rooms/{room}/meetings", |at| at.get(meetings::<H>, meetings_doc))
}

/// `GET /v1/rooms/{room}/transcript`: for administrators, and for participants who may listen, with
/// any token of the room that has not expired, also after the meeting.
pub(crate) async fn show<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    query: Result<Query<TranscriptQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    access.require_listener(&room)?;
    let query = read(query)?;
    let format = match &query.format {
        Some(name) => name
            .parse()
            .map_err(|error| ApiError::new(Kind::NotAcceptable, format!("format: {error}")))?,
        None => accepted(&headers)?,
    };
    let path = store(api.config.transcripts.as_ref(), &room)?.path().to_owned();
    let export = {
        let path = path.clone();
        blocking(move || {
            let reader = open(&path, &room)?;
            let meeting = find(&reader, &room, query.meeting.as_deref())?;
            let language = language(&reader, &meeting, query.language.as_deref())?;
            Ok(Export::new(meeting, format, language))
        })
        .await?
    };
    let disposition = format!("attachment; filename=\"{}\"", export.file_name());
    let disposition = HeaderValue::try_from(disposition)
        .map_err(|_| ApiError::new(Kind::Internal, "the file's name cannot stand in a header"))?;
    let media_type = match format {
        Format::Json => HeaderValue::from_static("application/json"),
        Format::Vtt => HeaderValue::from_static("text/vtt; charset=utf-8"),
        Format::Srt => HeaderValue::from_static("application/x-subrip; charset=utf-8"),
        Format::Txt => HeaderValue::from_static("text/plain; charset=utf-8"),
    };
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::VARY, HeaderValue::from_static("Accept")),
    ];
    Ok((headers, stream(path, export)).into_response())
}

/// `GET /v1/rooms/{room}/meetings`: the meetings of this name of which something is kept, the
/// latest first.
pub(crate) async fn meetings<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
) -> Result<Json<Vec<Meeting>>, ApiError> {
    access.require_listener(&room)?;
    let Some(store) = &api.config.transcripts else { return Ok(Json(Vec::new())) };
    let path = store.path().to_owned();
    blocking(move || Ok(Json(open(&path, &room)?.meetings(Some(&room)).map_err(failed)?))).await
}

/// `DELETE /v1/rooms/{room}/transcript`: 204 once it is gone, for administrators and the room's
/// moderators. All meetings of the name, or the one named.
pub(crate) async fn erase<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    query: Result<Query<TranscriptQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    access.require_moderator(&room)?;
    let query = read(query)?;
    let path = store(api.config.transcripts.as_ref(), &room)?.path().to_owned();
    blocking(move || {
        let meeting = match query.meeting.as_deref() {
            Some(id) => Some(find(&open(&path, &room)?, &room, Some(id))?.id),
            None => None,
        };
        match super::erase(&path, &room, meeting).map_err(failed)? {
            erased if erased.meetings == 0 => Err(no_transcript(&room)),
            erased => {
                tracing::info!(room, meetings = erased.meetings, "a transcript was erased");
                Ok(StatusCode::NO_CONTENT)
            }
        }
    })
    .await
}

/// The text, page by page as the client takes it. Between two pages nothing is held open: a client
/// that never reads on costs a few hundred bytes.
fn stream(path: PathBuf, export: Export) -> Body {
    Body::from_stream(stream::try_unfold(Some((path, export)), async |state| {
        let Some((path, mut export)) = state else { return Ok(None) };
        let page = tokio::task::spawn_blocking(move || {
            let text = export.next(&Reader::open(&path)?)?;
            Ok::<_, StoreError>(text.map(|text| (text, Some((path, export)))))
        });
        // The head is out already: all that is left is to break off.
        let broken = |error: String| {
            tracing::error!(error, "a transcript broke off");
            std::io::Error::other(error)
        };
        page.await
            .map_err(|error| broken(error.to_string()))?
            .map_err(|error| broken(error.to_string()))
    }))
}

fn read(
    query: Result<Query<TranscriptQuery>, QueryRejection>,
) -> Result<TranscriptQuery, ApiError> {
    let Query(query) =
        query.map_err(|_| ApiError::new(Kind::BadRequest, "the query cannot be read"))?;
    Ok(query)
}

fn store<'a>(store: Option<&'a Arc<Store>>, room: &str) -> Result<&'a Arc<Store>, ApiError> {
    store.ok_or_else(|| no_transcript(room))
}

fn open(path: &std::path::Path, room: &str) -> Result<Reader, ApiError> {
    Reader::open(path).map_err(|error| match error {
        super::OpenError::Missing { .. } => no_transcript(room),
        error => failed(error),
    })
}

fn find(reader: &Reader, room: &str, meeting: Option<&str>) -> Result<Meeting, ApiError> {
    let id = match meeting {
        Some(id) => Some(id.parse().map_err(|_| no_transcript(room))?),
        None => None,
    };
    reader.meeting(room, id).map_err(failed)?.ok_or_else(|| no_transcript(room))
}

fn language(
    reader: &Reader,
    meeting: &Meeting,
    asked: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let Some(asked) = asked else { return Ok(None) };
    let invalid = |detail: String| ApiError::new(Kind::InvalidField, format!("language: {detail}"));
    validate::language(asked).map_err(invalid)?;
    let found = reader.language(meeting, asked).map_err(failed)?;
    found.map(Some).map_err(|unknown| invalid(unknown.to_string()))
}

/// The format that `Accept` likes best (RFC 9110 §12.5.1), the earlier of [`Format::ALL`] where it
/// likes two alike.
fn accepted(headers: &HeaderMap) -> Result<Format, ApiError> {
    let values: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if values.is_empty() {
        return Ok(Format::Json);
    }
    let ranges: Vec<(&str, u32)> =
        values.iter().flat_map(|value| value.split(',')).map(range).collect();
    let mut best = (0, None);
    for format in Format::ALL {
        let quality = quality(format.media_type(), &ranges);
        if quality > best.0 {
            best = (quality, Some(format));
        }
    }
    best.1.ok_or_else(|| {
        let types = Format::ALL.map(Format::media_type).join(", ");
        ApiError::new(Kind::NotAcceptable, format!("accept one of {types}, or name a format"))
    })
}

/// A media range and its weight in thousandths.
fn range(text: &str) -> (&str, u32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, value)| value.trim().parse::<f32>().ok())
        .filter(|value| (0.0..=1.0).contains(value))
        .unwrap_or(1.0);
    (range, (weight * 1000.0).round() as u32)
}

/// The weight of the most specific range that a media type falls into.
fn quality(media_type: &str, ranges: &[(&str, u32)]) -> u32 {
    let kind = media_type.split('/').next().unwrap_or_default();
    let exactness = |range: &str| {
        if range.eq_ignore_ascii_case(media_type) {
            return Some(2);
        }
        let (range_kind, "*") = range.split_once('/')? else { return None };
        match range_kind {
            "*" => Some(0),
            range_kind => range_kind.eq_ignore_ascii_case(kind).then_some(1),
        }
    };
    let fitting = ranges.iter().filter_map(|(range, weight)| Some((exactness(range)?, *weight)));
    fitting.max_by_key(|(exactness, _)| *exactness).map_or(0, |(_, weight)| weight)
}

fn no_transcript(room: &str) -> ApiError {
    let detail =
        format!("nothing is kept of {room:?}: it keeps none, nobody spoke, or it was erased");
    ApiError::new(Kind::NoTranscript, detail)
}

fn failed(error: impl Into<StoreError>) -> ApiError {
    let error = error.into();
    tracing::error!(%error, "a transcript could not be read or erased");
    ApiError::new(Kind::Internal, "the cause is in the server's log")
}

/// Reads and writes files on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a reader of transcripts panicked");
        ApiError::new(Kind::Internal, "the cause is in the server's log")
    })?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn preferred(accept: &[&'static str]) -> Option<Format> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        accepted(&headers).ok()
    }

    #[test]
    fn the_accept_header_chooses_the_format() {
        let cases: [(&[&str], Option<Format>); 10] = [
            (&[], Some(Format::Json)),
            (&["*/*"], Some(Format::Json)),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(Format::Json)),
            (&["text/vtt"], Some(Format::Vtt)),
            (&["text/*"], Some(Format::Vtt)),
            (&["text/plain;q=0.5, application/x-subrip;q=0.7"], Some(Format::Srt)),
            (&["text/plain, */*;q=0.1"], Some(Format::Txt)),
            (&["text/plain;q=0.2", "TEXT/VTT; charset=utf-8; q=0.3"], Some(Format::Vtt)),
            (&["application/json;q=0, text/*"], Some(Format::Vtt)),
            (&["image/png"], None),
        ];
        for (accept, expected) in cases {
            assert_eq!(preferred(accept), expected, "{accept:?}");
        }
    }
}
