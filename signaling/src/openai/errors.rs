//! Errors in OpenAI's form.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::form::FormError;
use crate::studio::StudioError;

/// What a client learns of a defect of ours.
pub(super) const OUR_FAULT: &str =
    "The server had an error while processing your request. The cause is in its log.";

/// The kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Invalid,
    MissingKey,
    InvalidKey,
    Forbidden,
    NoSuchModel,
    MethodNotAllowed,
    TooLarge,
    Overloaded { retry_after_s: u32 },
    Internal,
}

impl Fault {
    /// Status, `type` and `code`.
    fn describe(self) -> (StatusCode, &'static str, Option<&'static str>) {
        const REQUEST: &str = "invalid_request_error";
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, REQUEST, None),
            Self::MissingKey => (StatusCode::UNAUTHORIZED, REQUEST, None),
            Self::InvalidKey => (StatusCode::UNAUTHORIZED, REQUEST, Some("invalid_api_key")),
            Self::Forbidden => (StatusCode::FORBIDDEN, REQUEST, Some("insufficient_permissions")),
            Self::NoSuchModel => (StatusCode::NOT_FOUND, REQUEST, Some("model_not_found")),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, REQUEST, Some("method_not_supported"))
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "server_error", None),
            Self::Overloaded { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("overloaded"))
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        }
    }
}

/// An error on its way out.
#[derive(Debug)]
pub(super) struct ApiError {
    fault: Fault,
    message: String,
    param: Option<&'static str>,
}

impl ApiError {
    /// `message` says what happened and what to do about it.
    pub(super) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), param: None }
    }

    /// A field that cannot be used.
    pub(super) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Invalid, message).about(param)
    }

    /// Names the field.
    pub(super) fn about(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }
}

impl From<FormError> for ApiError {
    fn from(error: FormError) -> Self {
        let message = error.to_string();
        match error {
            FormError::Storage(error) => {
                tracing::error!(%error, "an upload cannot be stored");
                Self::new(Fault::Internal, OUR_FAULT)
            }
            FormError::TooLarge(_) => Self::new(Fault::TooLarge, message),
            FormError::Empty | FormError::NoFile(_) => Self::invalid("file", message),
            FormError::NoForm | FormError::TooSlow(_) | FormError::Damaged(_) => {
                Self::new(Fault::Invalid, message)
            }
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, code) = self.fault.describe();
        let details = Details { message: &self.message, kind, param: self.param, code };
        let mut response = (status, Json(Body { error: details })).into_response();
        let headers = response.headers_mut();
        if let Fault::Overloaded { retry_after_s } = self.fault {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StudioError> for ApiError {
    fn from(error: StudioError) -> Self {
        let message = error.to_string();
        match error {
            StudioError::Overloaded { retry_after_s } => {
                Self::new(Fault::Overloaded { retry_after_s }, message)
            }
            StudioError::Invalid { field, detail } => Self::invalid(field, detail),
            StudioError::UnsupportedPair { .. } => Self::invalid("language", message),
            StudioError::BadRecording(detail) => Self::invalid("file", detail),
            StudioError::Internal(detail) => {
                tracing::error!(detail, "the studio failed a request");
                Self::new(Fault::Internal, OUR_FAULT)
            }
        }
    }
}
