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
use signaling::Stats;
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

/// What the face tells.
#[derive(Clone)]
struct Told {
    house: Arc<Rooms>,
    face: Arc<Stats>,
}

/// What it answers. `face` is what the public face counts.
pub(super) fn router(house: Arc<Rooms>, face: Arc<Stats>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(Told { house, face })
}

async fn metrics(State(Told { house, face }): State<Told>) -> Response {
    match house.render_metrics(&face) {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(Told { house, .. }): State<Told>) -> Response {
    if house.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining").into_response();
    }
    match house.ready() {
        Ok(()) => "ready".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}
