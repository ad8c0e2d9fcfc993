//! What surrounds the handlers of the API: the answer to preflights, and the net that turns
//! whatever a library answered on its own into a problem.

use std::any::Any;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::{ApiError, Kind, PROBLEM_JSON};

/// Answers `OPTIONS`: the preflight of browsers, and what RFC 9725 §4.2 asks of an endpoint that
/// takes offers.
pub(crate) fn preflight(methods: &HeaderValue) -> Response {
    let headers = HeaderMap::from_iter([
        (header::ALLOW, methods.clone()),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone()),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID, X-Request-Id",
            ),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ]);
    (StatusCode::OK, headers).into_response()
}

/// Every error leaves as a problem, even one that a library made (404, 405, 408, 413 …).
pub(crate) async fn problems_only(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == PROBLEM_JSON.as_bytes());
    if !is_error || is_problem {
        return response;
    }
    let mut problem = ApiError::from_status(status);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem = problem.with_header(header::ALLOW, allow.clone());
    }
    problem.into_response()
}

/// What a panicking handler answers. The message goes to the log: it may quote anything.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `CatchPanicLayer` calls")]
pub(crate) fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    tracing::error!(message, "a request handler panicked");
    ApiError::new(Kind::Internal, "the cause is in the server's log").into_response()
}
