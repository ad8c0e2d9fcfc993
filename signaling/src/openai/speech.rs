//! `POST /v1/audio/speech`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use super::Face;
use super::errors::{ApiError, Fault};
use crate::studio::{ModelKind, SpeakText, Speech, SpeechFormat, Studio, StudioError};

/// Largest body, bytes; the longest text in the widest letters is below.
const MAX_BODY: usize = 64 << 10;
/// Longest text, characters: OpenAI's limit.
const MAX_INPUT: usize = 4096;
/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// OpenAI's voices, each of which is the language's own here.
const VOICE_ALIASES: &[&str] = &[
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage",
    "shimmer", "verse",
];

/// The body. `language` is ours: without it the named voice or the text decides.
#[derive(Debug, Deserialize)]
struct SpeechBody {
    input: Option<String>,
    model: Option<String>,
    voice: Option<Named>,
    response_format: Option<String>,
    speed: Option<f32>,
    stream_format: Option<String>,
    language: Option<String>,
}

/// A voice by its name, or in an object.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Named {
    Name(String),
    Object { id: String },
}

/// `POST /v1/audio/speech`.
pub(super) async fn speak<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = read(request).await?;
    let model = body.model.as_deref();
    let model = model.ok_or_else(|| ApiError::invalid("model", "name a model, such as tts-1"))?;
    face.require_model(model, ModelKind::Voice)?;
    let (format, content_type) = format(body.response_format.as_deref())?;
    if body.stream_format.as_deref().is_some_and(|format| format != "audio") {
        return Err(ApiError::invalid("stream_format", "only audio is streamed here"));
    }
    let text = body.input.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| ApiError::invalid("input", "give a text in `input`"))?;
    let length = text.chars().count();
    if length > MAX_INPUT {
        let message = format!("the text has {length} characters, more than {MAX_INPUT}");
        return Err(ApiError::invalid("input", message));
    }
    let speed = body.speed.unwrap_or(1.0);
    if !(0.25..=4.0).contains(&speed) {
        return Err(ApiError::invalid("speed", "the speed lies between 0.25 and 4"));
    }
    let voice = match body.voice {
        None => return Err(ApiError::invalid("voice", "name a voice, such as alloy")),
        Some(Named::Name(name) | Named::Object { id: name }) => name,
    };
    let voice = (!VOICE_ALIASES.contains(&voice.as_str())).then_some(voice);

    let job = SpeakText { text, language: body.language, voice, speed, format };
    let mut speech = face.studio.speak(job).await?;
    // What fails before the first sound can still be told with a status.
    let first = match speech.recv().await {
        Some(first) => first?,
        None => return Err(StudioError::Internal("the speech has no beginning".into()).into()),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], streamed(first, speech)).into_response())
}

async fn read(request: Request) -> Result<SpeechBody, ApiError> {
    let unreadable = |message: &str| ApiError::new(Fault::Invalid, message);
    let reading = to_bytes(request.into_body(), MAX_BODY);
    let body = match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(unreadable("the body broke off, or is larger than 64 KiB")),
        Err(_) => return Err(unreadable("the body did not arrive in time")),
    };
    serde_json::from_slice(&body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request: {error}");
        ApiError::new(Fault::Invalid, message)
    })
}

/// The format and its content type. Without a wish it is WAV: the original's MP3 has no encoder here.
fn format(name: Option<&str>) -> Result<(SpeechFormat, &'static str), ApiError> {
    match name.unwrap_or("wav") {
        "wav" => Ok((SpeechFormat::Wav, "audio/wav")),
        "pcm" => Ok((SpeechFormat::Pcm, "audio/pcm")),
        "opus" => Ok((SpeechFormat::OggOpus, "audio/opus")),
        other => Err(ApiError::invalid(
            "response_format",
            format!("{other:?} is not available here: ask for wav, opus or pcm"),
        )),
    }
}

/// The body in chunks. A failure on the way breaks the stream off, which tells a client that it is
/// not whole.
fn streamed(first: Vec<u8>, speech: Speech) -> Body {
    let chunks = stream::unfold((Some(first), speech), async |(first, mut speech)| {
        let chunk = match first {
            Some(first) => Ok(first),
            None => speech.recv().await?,
        };
        let chunk = chunk.map(Bytes::from);
        if let Err(error) = &chunk {
            tracing::warn!(%error, "a speech broke off");
        }
        Some((chunk, (None, speech)))
    });
    Body::from_stream(chunks)
}
