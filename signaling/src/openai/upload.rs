//! A recording with its fields, sent in parts of a form. The recording goes to a temporary file as it
//! comes, so that it takes no memory; the file is removed when the request is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::errors::{ApiError, Fault};
use crate::bodies;

/// Largest recording, bytes: OpenAI's 25 MB.
pub(super) const MAX_FILE: usize = 25 << 20;
/// Room for the other parts and what is between them.
const OVERHEAD: usize = 1 << 20;
/// Largest field that is no file, and most of them.
const MAX_FIELD: usize = 64 << 10;
const MAX_FIELDS: usize = 64;
/// Most that is read of a recording that is refused for its size.
const MAX_DISCARDED: usize = 64 << 20;
/// Longest silence of a client that uploads, and longest upload.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// What was sent.
#[derive(Debug)]
pub(super) struct Upload {
    /// The recording; its extension is the one that it was sent with.
    pub(super) file: NamedTempFile,
    /// The other fields; of a name that comes several times, all values. `name[]` counts as `name`.
    fields: BTreeMap<String, Vec<String>>,
}

impl Upload {
    /// Reads a request.
    pub(super) async fn read(request: Request) -> Result<Self, ApiError> {
        match tokio::time::timeout(LONGEST, Self::read_all(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::new(Fault::Invalid, "the upload took too long")),
        }
    }

    async fn read_all(request: Request) -> Result<Self, ApiError> {
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = announced
            && length > MAX_FILE + OVERHEAD
        {
            bodies::discard(request.into_body(), MAX_DISCARDED).await;
            return Err(too_large(length));
        }
        let mut parts = Multipart::from_request(request, &()).await.map_err(|_| {
            ApiError::new(Fault::Invalid, "send the recording as multipart/form-data")
        })?;
        let mut file = None;
        let mut fields = BTreeMap::<String, Vec<String>>::new();
        let mut count = 0;
        while let Some(mut part) = patiently(parts.next_field()).await? {
            let name = part.name().unwrap_or("").trim_end_matches("[]").to_owned();
            if name == "file" {
                file = Some(store(&mut part).await?);
                continue;
            }
            count += 1;
            if count > MAX_FIELDS {
                return Err(ApiError::new(Fault::Invalid, "the form has too many fields"));
            }
            fields.entry(name).or_default().push(text(&mut part).await?);
        }
        let missing = || ApiError::invalid("file", "the form has no file");
        Ok(Self { file: file.ok_or_else(missing)?, fields })
    }

    /// A field; `None` when it is missing or empty.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let value = self.fields.get(name)?.last()?.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// All values of a field.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }
}

async fn patiently<T>(
    step: impl Future<Output = Result<T, MultipartError>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(Ok(step)) => Ok(step),
        Ok(Err(_)) => Err(ApiError::new(Fault::Invalid, "the form is damaged or broke off")),
        Err(_) => Err(ApiError::new(Fault::Invalid, "the upload stopped coming")),
    }
}

async fn text(part: &mut Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = patiently(part.chunk()).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_FIELD {
            return Err(ApiError::new(Fault::Invalid, "a field of the form is too long"));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| ApiError::new(Fault::Invalid, "a field of the form is not UTF-8"))
}

async fn store(part: &mut Field<'_>) -> Result<NamedTempFile, ApiError> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an upload cannot be stored");
        ApiError::new(Fault::Internal, super::errors::OUR_FAULT)
    };
    // Only what an extension is made of: the rest of the name is the client's.
    let extension = Path::new(part.file_name().unwrap_or(""))
        .extension()
        .and_then(|extension| extension.to_str())
        .filter(|extension| extension.len() <= 5)
        .filter(|extension| extension.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .map_or_else(String::new, |extension| format!(".{extension}"));
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix("dragoman-upload-").suffix(&extension).tempfile().map_err(failed)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    let mut length = 0;
    while let Some(chunk) = patiently(part.chunk()).await? {
        length += chunk.len();
        if length > MAX_FILE {
            // Read on, or a client that is still sending sees a broken connection instead.
            while length < MAX_DISCARDED
                && let Some(chunk) = patiently(part.chunk()).await?
            {
                length += chunk.len();
            }
            return Err(too_large(length));
        }
        writer.write_all(&chunk).await.map_err(failed)?;
    }
    writer.flush().await.map_err(failed)?;
    if length == 0 {
        return Err(ApiError::invalid("file", "the file is empty"));
    }
    Ok(file)
}

fn too_large(length: usize) -> ApiError {
    let message = format!("Maximum content size limit ({MAX_FILE}) exceeded ({length} bytes read)");
    ApiError::new(Fault::TooLarge, message)
}
