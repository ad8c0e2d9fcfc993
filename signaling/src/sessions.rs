//! `/v1/rooms/{room}/sessions`: one WebRTC peer that both speaks and listens, negotiated as WHIP
//! does. RFC 9725 leaves no room for both ways on one peer, so it has an address of its own.

use axum::extract::{RawQuery, State};
use axum::response::Response;

use crate::access::{Access, forbidden};
use crate::bodies::{RoomPath, SdpBody};
use crate::house::{House, Role};
use crate::negotiation::{self, Door, Patches};
use crate::openapi::Routes;
use crate::openapi::shapes::{Channel, Gain};
use crate::parameters::Parameters;
use crate::problem::ApiError;
use crate::server::Api;
use crate::whep;

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = negotiation::open_doc(
        "Session",
        "Speak and listen",
        "One peer for both ways: the offer has one audio section that sends and one or more that \
         receive.",
    )
    .query::<Channel>(
        "channel",
        "Channel of a conference to listen to; that of the token's language when missing.",
    )
    .query::<Gain>("original_gain", "Gain of the original; the room's when missing.");
    Routes::new()
        .at("/v1/rooms/{room}/sessions", |at| at.post(create::<H>, doc))
        .at("/v1/rooms/{room}/sessions/{session}", |at| {
            negotiation::session(at, "", Patches::IceOrChange, negotiation::patch::<H>)
        })
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
