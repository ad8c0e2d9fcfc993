//! `/v1/rooms/{room}/sessions`: one WebRTC peer that both speaks and listens, negotiated as WHIP
//! does. RFC 9725 leaves no room for both ways on one peer, so it has an address of its own.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{patch, post};

use crate::access::{Access, forbidden};
use crate::bodies::{CHANGE_OR_FRAGMENT, RoomPath, SdpBody};
use crate::house::{House, Role};
use crate::middleware;
use crate::negotiation::{self, Door};
use crate::parameters::Parameters;
use crate::problem::ApiError;
use crate::server::Api;
use crate::whep;

pub(crate) fn routes<H: House>() -> Router<Api<H>> {
    let options = async || middleware::preflight("POST, OPTIONS", Some("application/sdp"));
    let session = negotiation::session_route(patch(negotiation::patch::<H>), CHANGE_OR_FRAGMENT);
    Router::new()
        .route("/v1/rooms/{room}/sessions", post(create::<H>).options(options))
        .route("/v1/rooms/{room}/sessions/{session}", session)
}

/// `POST /v1/rooms/{room}/sessions?channel=es&original_gain=0.2`.
async fn create<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    RawQuery(query): RawQuery,
    SdpBody(offer): SdpBody,
) -> Result<Response, ApiError> {
    let mut caller = access.into_caller(&room)?;
    if !caller.grants.speak && !caller.grants.listen {
        return Err(forbidden("the access token grants neither `speak` nor `listen`"));
    }
    let parameters = Parameters::read(query.as_deref(), &["channel", "original_gain"])?;
    caller.original_gain = parameters.get("original_gain", whep::gain)?;
    let channel = parameters.get("channel", whep::channel)?;
    if let Some(channel) = &channel {
        whep::require_listen(&caller)?;
        negotiation::require_channel(&caller.grants, channel)?;
    }
    caller.role = Role::Both { channel };
    negotiation::open(&api, Door::Sessions, caller, offer).await
}
