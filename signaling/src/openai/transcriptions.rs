//! `POST /v1/audio/transcriptions` and `/v1/audio/translations`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::Face;
use super::errors::{ApiError, Fault};
use super::formats::{self, TextFormat};
use crate::bodies;
use crate::form::Form;
use crate::studio::{ModelKind, Studio, TranscribeFile};

/// What is done with a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Transcribe,
    Translate,
}

/// The language that translations are into.
const TRANSLATED_INTO: &str = "en";
/// The part with the recording; of several the last one counts.
const RECORDING: &str = "file";
/// Seconds after which a client may try again while others upload.
const RETRY_AFTER_S: u32 = 5;

/// `POST /v1/audio/transcriptions`.
pub(super) async fn transcribe<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    request: Request,
) -> Result<Response, ApiError> {
    write_down(&face, request, Task::Transcribe).await
}

/// `POST /v1/audio/translations`.
pub(super) async fn translate<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    request: Request,
) -> Result<Response, ApiError> {
    write_down(&face, request, Task::Translate).await
}

async fn write_down<S: Studio>(
    face: &Face<S>,
    request: Request,
    task: Task,
) -> Result<Response, ApiError> {
    let Ok(_slot) = face.uploads.try_acquire() else {
        bodies::discard(request.into_body(), bodies::MAX_DISCARDED).await;
        let fault = Fault::Overloaded { retry_after_s: RETRY_AFTER_S };
        return Err(ApiError::new(fault, "too many recordings are being written down"));
    };
    let upload = Form::read(request, RECORDING).await?;
    let model = upload.field("model").ok_or_else(|| {
        ApiError::invalid("model", "you must provide a model parameter, such as whisper-1")
    })?;
    face.require_model(model, ModelKind::Recogniser)?;
    let format = format(&upload)?;
    check_granularities(&upload, format)?;
    let missing = || ApiError::invalid("file", "the form has no file");
    let recording = upload.files.last().ok_or_else(missing)?;
    let job = TranscribeFile {
        path: recording.path().to_owned(),
        language: upload.field("language").map(str::to_owned),
        translate_to: (task == Task::Translate).then(|| TRANSLATED_INTO.to_owned()),
        temperature: temperature(&upload)?,
    };
    let transcription = face.studio.transcribe(job).await?;
    let spoken = transcription.language.as_deref();
    Ok(match task {
        Task::Transcribe => formats::answer(format, "transcribe", spoken, &transcription),
        Task::Translate => {
            formats::answer(format, "translate", Some(TRANSLATED_INTO), &transcription)
        }
    }
    .into_response())
}

fn format(upload: &Form) -> Result<TextFormat, ApiError> {
    match upload.field("response_format").unwrap_or("json") {
        "json" => Ok(TextFormat::Json),
        "text" => Ok(TextFormat::Text),
        "srt" => Ok(TextFormat::Srt),
        "vtt" => Ok(TextFormat::Vtt),
        "verbose_json" => Ok(TextFormat::VerboseJson),
        other => Err(ApiError::invalid(
            "response_format",
            format!("{other:?} is not one of json, text, srt, verbose_json, vtt"),
        )),
    }
}

/// Words carry no times here.
fn check_granularities(upload: &Form, format: TextFormat) -> Result<(), ApiError> {
    let param = "timestamp_granularities";
    for granularity in upload.values(param) {
        if granularity != "segment" {
            let message = format!("{granularity:?} is not available here: ask for segment");
            return Err(ApiError::invalid(param, message));
        }
        if format != TextFormat::VerboseJson {
            let message = "timestamp_granularities need the response_format verbose_json";
            return Err(ApiError::invalid(param, message));
        }
    }
    Ok(())
}

fn temperature(upload: &Form) -> Result<f32, ApiError> {
    let Some(text) = upload.field("temperature") else { return Ok(0.0) };
    text.parse().ok().filter(|temperature| (0.0..=1.0).contains(temperature)).ok_or_else(|| {
        ApiError::invalid("temperature", "the temperature is a number between 0 and 1")
    })
}
