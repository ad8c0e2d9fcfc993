//! `/v1/rooms/{room}/whip`: publishing (WHIP, RFC 9725), onto the floor, or as a human interpreter
//! into a channel of a conference.

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::access::{Access, forbidden};
use crate::bodies::{RoomPath, SdpBody, SdpFragment, SessionPath};
use crate::house::{House, Role};
use crate::negotiation::{self, Door, Patches};
use crate::openapi::Routes;
use crate::openapi::shapes::Channel;
use crate::parameters::{self, Parameters};
use crate::problem::ApiError;
use crate::server::Api;
use crate::validate::{self, same_language};
use crate::wire::{FLOOR, Grants};

pub(crate) fn routes<H: House>() -> Routes<H> {
    let doc = negotiation::open_doc(
        "Whip",
        "Speak (WHIP)",
        "One-way, from the client to the server (RFC 9725). Without a channel one speaks on the \
         floor; with a language one interprets into that channel of a conference.",
    )
    .query::<Channel>("channel", "Language to interpret into; the floor when missing.")
    .query::<Channel>("relay", "Channel that the interpreter listens to; the floor when missing.");
    Routes::new()
        .at("/v1/rooms/{room}/whip", |at| negotiation::looked_at(at.post(create::<H>, doc), "Whip"))
        .at("/v1/rooms/{room}/whip/{session}", |at| {
            negotiation::session(at, "Whip", Patches::Ice, patch::<H>)
        })
}

/// `POST /v1/rooms/{room}/whip?channel=fr&relay=de`: without a channel, or with `floor`, one speaks;
/// with a language one interprets into it, from the channel `relay` or from the floor.
async fn create<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    RoomPath(room): RoomPath,
    RawQuery(query): RawQuery,
    SdpBody(offer): SdpBody,
) -> Result<Response, ApiError> {
    let mut caller = access.into_caller(&room)?;
    let parameters = Parameters::read(query.as_deref(), &["channel", "relay"])?;
    let channel = channel(&parameters, "channel")?;
    let relay = channel_of_relay(&parameters, channel.as_deref())?;
    require_grant(&caller.grants, channel.as_deref())?;
    // It sends and does not receive, whatever the offer and the token would allow.
    (caller.grants.speak, caller.grants.listen) = (true, false);
    caller.role = Role::Publish { channel, relay };
    negotiation::open(&api, Door::Whip, caller, offer).await
}

/// `PATCH /v1/rooms/{room}/whip/{session}`: about ICE alone, there is nothing that it hears.
async fn patch<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
    headers: HeaderMap,
    SdpFragment(fragment): SdpFragment,
) -> Result<Response, ApiError> {
    negotiation::require_owner(&api, &access, &path)?;
    negotiation::update_ice(&api, &path, &headers, fragment).await
}

/// A channel, the floor being none.
fn channel(parameters: &Parameters<'_>, name: &str) -> Result<Option<String>, ApiError> {
    let named = parameters.get(name, |value| {
        validate::channel(value)?;
        Ok(value.to_owned())
    })?;
    Ok(named.filter(|channel| channel != FLOOR))
}

fn channel_of_relay(
    parameters: &Parameters<'_>,
    into: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let relay = channel(parameters, "relay")?;
    match (relay.as_deref(), into) {
        (Some(_), None) => Err(parameters::invalid(
            "relay",
            "who interprets from a channel names another in `channel`",
        )),
        (Some(from), Some(into)) if same_language(from, into) => {
            Err(parameters::invalid("relay", "a channel is not interpreted from itself"))
        }
        _ => Ok(relay),
    }
}

fn require_grant(grants: &Grants, channel: Option<&str>) -> Result<(), ApiError> {
    match channel {
        None if grants.speak => Ok(()),
        None => Err(forbidden("the access token has no `speak` grant")),
        Some(channel) if grants.interpret.iter().any(|one| same_language(one, channel)) => Ok(()),
        Some(channel) => {
            Err(forbidden(format!("the access token does not grant to interpret into {channel:?}")))
        }
    }
}
