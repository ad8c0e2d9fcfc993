//! Recordings with their fields, sent in parts of a form. The recordings go to temporary files as they
//! come, so that they take no memory; the files are removed when the request is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::bodies;

/// Most bytes of all recordings of a form together: OpenAI's 25 MB.
const MAX_FILES: usize = 25 << 20;
/// Room for the other parts and what is between them.
const OVERHEAD: usize = 1 << 20;
/// Largest field that is no recording, and most parts of a form.
const MAX_FIELD: usize = 64 << 10;
const MAX_PARTS: usize = 64;
/// Most that is read of a form that is refused for its size.
const MAX_DISCARDED: usize = 64 << 20;
/// Longest silence of a client that uploads, and longest upload.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// Why a form cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormError {
    /// It is no form.
    #[error("send the recording as multipart/form-data")]
    NoForm,
    /// Its recordings are too large together.
    #[error("Maximum content size limit ({MAX_FILES}) exceeded ({0} bytes read)")]
    TooLarge(usize),
    /// It did not come to its end in time.
    #[error("{0}")]
    TooSlow(&'static str),
    /// It breaks the rules of forms, or ours for fields.
    #[error("{0}")]
    Damaged(&'static str),
    /// A recording has no bytes.
    #[error("the file is empty")]
    Empty,
    /// There is no recording.
    #[error("the form has no {0}")]
    NoFile(&'static str),
    /// It cannot be stored here; the log says why.
    #[error("an upload cannot be stored")]
    Storage(#[from] std::io::Error),
}

/// What was sent.
#[derive(Debug)]
pub(crate) struct Form {
    /// The recordings, at least one; each has the extension that it was sent with.
    pub(crate) files: Vec<NamedTempFile>,
    /// The other fields; of a name that comes several times, all values. `name[]` counts as `name`.
    fields: BTreeMap<String, Vec<String>>,
}

impl Form {
    /// Reads a request, in which the parts of this name are recordings.
    pub(crate) async fn read(
        request: Request,
        recordings: &'static str,
    ) -> Result<Self, FormError> {
        match tokio::time::timeout(LONGEST, Self::read_all(request, recordings)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FormError::TooSlow("the upload took too long")),
        }
    }

    async fn read_all(request: Request, recordings: &'static str) -> Result<Self, FormError> {
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = announced
            && length > MAX_FILES + OVERHEAD
        {
            bodies::discard(request.into_body(), MAX_DISCARDED).await;
            return Err(FormError::TooLarge(length));
        }
        let mut parts =
            Multipart::from_request(request, &()).await.map_err(|_| FormError::NoForm)?;
        let mut files = Vec::new();
        let mut fields = BTreeMap::<String, Vec<String>>::new();
        let (mut count, mut length) = (0, 0);
        while let Some(mut part) = patiently(parts.next_field()).await? {
            count += 1;
            if count > MAX_PARTS {
                return Err(FormError::Damaged("the form has too many fields"));
            }
            let name = part.name().unwrap_or("").trim_end_matches("[]").to_owned();
            if name == recordings {
                files.push(store(&mut part, &mut length).await?);
                continue;
            }
            fields.entry(name).or_default().push(text(&mut part).await?);
        }
        if files.is_empty() {
            return Err(FormError::NoFile(recordings));
        }
        Ok(Self { files, fields })
    }

    /// A field; `None` when it is missing or empty.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let value = self.fields.get(name)?.last()?.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// All values of a field.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }
}

async fn patiently<T>(
    step: impl Future<Output = Result<T, MultipartError>>,
) -> Result<T, FormError> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(Ok(step)) => Ok(step),
        Ok(Err(_)) => Err(FormError::Damaged("the form is damaged or broke off")),
        Err(_) => Err(FormError::TooSlow("the upload stopped coming")),
    }
}

async fn text(part: &mut Field<'_>) -> Result<String, FormError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = patiently(part.chunk()).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_FIELD {
            return Err(FormError::Damaged("a field of the form is too long"));
        }
    }
    String::from_utf8(bytes).map_err(|_| FormError::Damaged("a field of the form is not UTF-8"))
}

/// Stores a recording; `total` counts the bytes of all.
async fn store(part: &mut Field<'_>, total: &mut usize) -> Result<NamedTempFile, FormError> {
    // Only what an extension is made of: the rest of the name is the client's.
    let extension = Path::new(part.file_name().unwrap_or(""))
        .extension()
        .and_then(|extension| extension.to_str())
        .filter(|extension| extension.len() <= 5)
        .filter(|extension| extension.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .map_or_else(String::new, |extension| format!(".{extension}"));
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix("dragoman-upload-").suffix(&extension).tempfile()?;
    let mut writer = tokio::fs::File::from_std(file.reopen()?);
    let before = *total;
    while let Some(chunk) = patiently(part.chunk()).await? {
        *total += chunk.len();
        if *total > MAX_FILES {
            // Read on, or a client that is still sending sees a broken connection instead.
            while *total < MAX_DISCARDED
                && let Some(chunk) = patiently(part.chunk()).await?
            {
                *total += chunk.len();
            }
            return Err(FormError::TooLarge(*total));
        }
        writer.write_all(&chunk).await?;
    }
    writer.flush().await?;
    if *total == before {
        return Err(FormError::Empty);
    }
    Ok(file)
}
