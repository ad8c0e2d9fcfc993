//! `/v1/rooms/{room}/whep`: listening (WHEP, draft-ietf-wish-whep), to a channel of a conference or
//! to what a participant of a call hears.

use axum::extract::{RawQuery, State};
use axum::response::Response;

use crate::access::{Access, forbidden};
use crate::bodies::{RoomPath, SdpBody};
use crate::house::{Caller, House, Role};
use crate::negotiation::{self, Door, Patches};
use crate::openapi::Routes;
use crate::openapi::shapes::{Channel, Gain};
use crate::parameters::Parameters;
use crate::problem::ApiError;
use crate::server::Api;
use crate::validate;

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = negotiation::open_doc(
        "Whep",
        "Listen (WHEP)",
        "One-way, from the server to the client (draft-ietf-wish-whep).",
    )
    .query::<Channel>(
        "channel",
        "Channel of a conference to listen to; that of the token's language when missing.",
    )
    .query::<Gain>("original_gain", "Gain of the original; the room's when missing.");
    Routes::new()
        .at("/v1/rooms/{room}/whep", |at| negotiation::looked_at(at.post(create::<H>, doc), "Whep"))
        .at("/v1/rooms/{room}/whep/{session}", |at| {
            negotiation::session(at, "Whep", Patches::IceOrChange, negotiation::patch::<H>)
        })
}

/// `POST /v1/rooms/{room}/whep?channel=es&original_gain=0.2`: without a channel one listens to that
/// of the language that the token says.
async fn create<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    RawQuery(query): RawQuery,
    SdpBody(offer): SdpBody,
) -> Result<Response, ApiError> {
    let mut caller = access.into_caller(&room)?;
    require_listen(&caller)?;
    let parameters = Parameters::read(query.as_deref(), &["channel", "original_gain"])?;
    caller.original_gain = parameters.get("original_gain", gain)?;
    let channel = parameters.get("channel", channel)?;
    if let Some(channel) = &channel {
        negotiation::require_channel(&caller.grants, channel)?;
    }
    // It receives and does not send, whatever the offer and the token would allow.
    caller.grants.speak = false;
    caller.role = Role::Listen { channel };
    negotiation::open(&api, Door::Whep, caller, offer).await
}

pub(crate) fn require_listen(caller: &Caller) -> Result<(), ApiError> {
    if caller.grants.listen {
        return Ok(());
    }
    Err(forbidden("the access token has no `listen` grant"))
}

/// The parameter `channel`: a language or the floor.
pub(crate) fn channel(value: &str) -> Result<String, String> {
    validate::channel(value).map(|()| value.to_owned())
}

/// The parameter `original_gain`.
pub(crate) fn gain(value: &str) -> Result<f32, String> {
    let gain = value.parse().map_err(|_| "the gain is a number between 0 and 1".to_owned())?;
    validate::gain(gain).map(|()| gain)
}
