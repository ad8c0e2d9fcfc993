//! The face for the operator alone: metrics and health, on an address of its own that no
//! participant reaches.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use signaling::house::House;
use tokio::net::TcpListener;

use crate::metrics::MEDIA_TYPE;
use crate::rooms::Rooms;

/// Binds the face.
///
/// # Errors
/// When the address is taken or not ours.
pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot bind the admin face {address}: choose another with --admin, or port 0")
    })
}

/// What it answers.
pub(super) fn router(house: Arc<Rooms>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(house)
}

async fn metrics(State(house): State<Arc<Rooms>>) -> Response {
    match house.render_metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(house): State<Arc<Rooms>>) -> Response {
    match house.ready() {
        Ok(()) => "ready".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}
