//! What every kind of session has in common: an offer is posted and answered with every candidate in
//! it, `PATCH` tells about ICE or changes what is heard, `DELETE` ends it. WHIP (RFC 9725), WHEP
//! (draft-ietf-wish-whep) and our own sessions for both ways are three doors to it.

use axum::extract::State;
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa::openapi::Required;

use crate::access::{Access, forbidden};
use crate::bodies::{RoomPath, SDP_FRAGMENT, SessionPatch, SessionPath};
use crate::house::{Caller, House, IceUpdate};
use crate::openapi::{Answer, Asks, At, Doc, string, tags};
use crate::problem::{ApiError, Kind};
use crate::server::Api;
use crate::tokens::unix_time_s;
use crate::wire::{ChangeSession, Grants};
use crate::{rooms, status, validate};

/// Which door a session came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Sessions,
    Whip,
    Whep,
}

impl Door {
    const fn segment(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// What `OPTIONS`, `PATCH` and the document say of a session whose sound cannot be changed, and of
/// one that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patches {
    /// About ICE.
    Ice,
    /// About ICE, or what is heard.
    IceOrChange,
}

/// The operation that takes offers; `name` ends its id, `about` says what is special about the door.
pub(crate) fn open_doc(name: &str, summary: &str, about: &str) -> Doc {
    let about = format!(
        "{about} The answer holds every candidate of the server: nothing is to be waited for."
    );
    let offer =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
    Doc::new(&format!("open{name}"), tags::SESSIONS, summary, &about, Asks::Token)
        .takes_text("application/sdp", offer)
        .answers(
            Answer::new(201, "The session's SDP answer.")
                .content("application/sdp", string())
                .header("Location", "Path of the session: `PATCH` changes it, `DELETE` ends it.")
                .header("ETag", "Names the ICE session, for `If-Match` of a `PATCH`.")
                .header("Link", "A STUN or TURN server, with `rel=\"ice-server\"`; one for each."),
        )
        .problems(&[
            Kind::BadSdp,
            Kind::UnacceptableSdp,
            Kind::InvalidField,
            Kind::InvalidParameter,
            Kind::NotAcceptable,
            Kind::NoSuchChannel,
            Kind::ChannelTaken,
            Kind::CannotLearn,
            Kind::IdentityTaken,
            Kind::RoomFull,
            Kind::NotReady,
            Kind::Overloaded,
            Kind::Draining,
        ])
}

/// Adds `GET` on an address that offers are posted to.
pub(crate) fn looked_at<H: House>(at: At<H>, name: &str) -> At<H> {
    let doc = Doc::new(
        &format!("lookAt{name}"),
        tags::SESSIONS,
        &format!("Look at the {} address", name.to_uppercase()),
        "There is nothing to see: the address is for `POST`; looking at it is no mistake (RFC 9725 §4.2).",
        Asks::KeyOrToken,
    )
    .answers(Answer::new(204, "Sessions are opened here."));
    at.get(show_endpoint, doc)
}

/// Adds what a session answers, whatever door it came through.
pub(crate) fn session<H: House, T: 'static>(
    at: At<H>,
    name: &str,
    patches: Patches,
    patch: impl Handler<T, Api<H>>,
) -> At<H> {
    let doc = |verb: &str, summary: &str, about: &str| {
        let id = format!("{verb}{name}Session");
        let summary = match name {
            "" => summary.to_owned(),
            door => format!("{summary} ({})", door.to_uppercase()),
        };
        Doc::new(&id, tags::SESSIONS, &summary, about, Asks::KeyOrToken)
    };
    let show_doc = doc(
        "get",
        "Whether a session goes on",
        "For whoever is behind it, and for moderators, as everything that concerns one session.",
    )
    .answers(Answer::new(204, "It goes on."));
    let delete_doc = doc("delete", "End a session", "The participant leaves (RFC 9725 §4.2).")
        .answers(Answer::new(200, "It is over."));
    let ice = "With `application/trickle-ice-sdpfrag` it is about ICE (RFC 9725 §4.3): candidates \
               of the client are taken, new credentials restart ICE. `If-Match` is the `ETag` of \
               the answer, or `*` to restart ICE whatever it is.";
    let patch_doc = match patches {
        Patches::Ice => doc("patch", "Tell about ICE", ice).header(
            "If-Match",
            "The session's `ETag`, or `*`.",
            Required::True,
        ),
        Patches::IceOrChange => doc(
            "patch",
            "Change what is heard, or tell about ICE",
            &format!(
                "With `application/json` the session listens to another channel or mixes the \
                 original louder or softer, without negotiating anew.\n\n{ice}"
            ),
        )
        .header(
            "If-Match",
            "The session's `ETag`, or `*`. Needed with a fragment about ICE alone.",
            Required::False,
        ),
    };
    let patch_doc = patch_doc
        .takes_text(SDP_FRAGMENT, "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\n")
        .answers(Answer::new(204, "It was taken."))
        .answers(
            Answer::new(200, "ICE starts over: the server's new credentials and candidates.")
                .content(SDP_FRAGMENT, string())
                .header("ETag", "The new one of the session."),
        )
        .problems(&[
            Kind::BadFragment,
            Kind::NoIceCredentials,
            Kind::PreconditionFailed,
            Kind::PreconditionRequired,
        ]);
    let patch_doc = match patches {
        Patches::Ice => patch_doc,
        Patches::IceOrChange => patch_doc
            .takes::<ChangeSession>(json!({ "channel": "es", "original_gain": 0.2 }))
            .problems(&[Kind::NoSuchChannel]),
    };
    at.get(show_session::<H>, show_doc).patch(patch, patch_doc).delete(delete::<H>, delete_doc)
}

/// Answers an offer: 201 with the answer, its address, its entity tag, and the ICE servers.
pub(crate) async fn open<H: House>(
    api: &Api<H>,
    door: Door,
    caller: Caller,
    offer: String,
) -> Result<Response, ApiError> {
    status::require_ready(&*api.house)?;
    // A token may have been minted without this server, or before it was configured anew.
    if let Some(voice) = &caller.voice {
        validate::own_voice(voice, &caller.grants).map_err(forbidden)?;
    }
    rooms::require_voice(&*api.house, &caller.hear, caller.voice.as_deref())?;
    let (room, identity) = (caller.room.clone(), caller.identity.clone());
    let session = api.house.connect(caller, offer).await?;
    let unfit = |_| ApiError::new(Kind::Internal, "the session's id cannot stand in a header");
    let location = format!("/v1/rooms/{room}/{}/{}", door.segment(), session.id);
    let mut headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/sdp")),
        (header::LOCATION, HeaderValue::try_from(location).map_err(unfit)?),
        (header::ETAG, entity_tag(&session.etag)?),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]);
    for link in api.config.turn.links(&identity, unix_time_s()) {
        headers.append(header::LINK, link);
    }
    Ok((StatusCode::CREATED, headers, session.answer_sdp).into_response())
}

/// Whether a participant may listen to a conference channel.
pub(crate) fn require_channel(grants: &Grants, channel: &str) -> Result<(), ApiError> {
    let Some(granted) = &grants.channels else { return Ok(()) };
    if granted.iter().any(|one| validate::same_language(one, channel)) {
        return Ok(());
    }
    Err(forbidden(format!("the access token does not grant the channel {channel:?}")))
}

/// `GET` on an address that offers are posted to: there is nothing to see, and that is no mistake of
/// who looks (RFC 9725 keeps the method for later).
async fn show_endpoint(access: Access, RoomPath(room): RoomPath) -> Result<StatusCode, ApiError> {
    access.require_member(&room)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET` on a session: it is there, and that is all.
async fn show_session<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
) -> Result<StatusCode, ApiError> {
    require_owner(&api, &access, &path)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PATCH` on a session that listens: about ICE, or about what is heard.
pub(crate) async fn patch<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
    headers: HeaderMap,
    patch: SessionPatch,
) -> Result<Response, ApiError> {
    require_owner(&api, &access, &path)?;
    match patch {
        SessionPatch::Ice(fragment) => update_ice(&api, &path, &headers, fragment).await,
        SessionPatch::Change(change) => change_session(&api, &access, &path, change),
    }
}

/// `DELETE` on a session: 200 (RFC 9725 §4.2).
async fn delete<H: House>(
    State(api): State<Api<H>>,
    access: Access,
    path: SessionPath,
) -> Result<StatusCode, ApiError> {
    require_owner(&api, &access, &path)?;
    api.house.disconnect(&path.room, &path.session)?;
    Ok(StatusCode::OK)
}

/// Only who is behind a session, or moderates the room, gets to it.
pub(crate) fn require_owner<H: House>(
    api: &Api<H>,
    access: &Access,
    path: &SessionPath,
) -> Result<(), ApiError> {
    access.require_member(&path.room)?;
    let owner = api.house.session_owner(&path.room, &path.session)?;
    access.require_owner(&path.room, &owner)
}

/// A fragment about ICE (RFC 9725 §4.3): candidates of the client are taken with 204, new credentials
/// restart ICE with 200, a fragment and a new entity tag.
///
/// `If-Match: *` asks for a restart whatever the ICE session of now (§4.3.3), an entity tag goes
/// with candidates, and with a restart that should not undo somebody else's.
pub(crate) async fn update_ice<H: House>(
    api: &Api<H>,
    path: &SessionPath,
    headers: &HeaderMap,
    fragment: String,
) -> Result<Response, ApiError> {
    let Some(if_match) = headers.get(header::IF_MATCH) else {
        return Err(ApiError::new(
            Kind::PreconditionRequired,
            "send If-Match with the ETag of the answer, or * to restart ICE",
        ));
    };
    let if_match = if_match.to_str().unwrap_or_default().trim();
    // RFC 9725 §4.3.3 writes the tag of a restart in quotes, RFC 9110 §13.1.1 without.
    let is_any = matches!(if_match, "*" | "\"*\"");
    let names_nothing_new = || {
        ApiError::new(
            Kind::NoIceCredentials,
            "a restart carries an ice-ufrag and an ice-pwd that the session has not seen",
        )
    };
    if is_any && !fragment.lines().any(|line| line.starts_with("a=ice-ufrag:")) {
        return Err(names_nothing_new());
    }
    // Tags are compared as strong ones (RFC 9110 §13.1.1): one that is weak or bare fits none.
    let tag = if_match.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let expected = (!is_any).then(|| tag.unwrap_or_default().to_owned());
    let update = api.house.update_ice(&path.room, &path.session, expected, fragment).await?;
    match update {
        IceUpdate::Trickled if is_any => Err(names_nothing_new()),
        IceUpdate::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        IceUpdate::Restarted { fragment, etag } => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(SDP_FRAGMENT)),
                (header::ETAG, entity_tag(&etag)?),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            Ok((StatusCode::OK, headers, fragment).into_response())
        }
    }
}

fn change_session<H: House>(
    api: &Api<H>,
    access: &Access,
    path: &SessionPath,
    change: ChangeSession,
) -> Result<Response, ApiError> {
    let invalid = |field: &str, detail: String| {
        ApiError::new(Kind::InvalidField, format!("{field}: {detail}"))
    };
    if let Some(gain) = change.original_gain {
        validate::gain(gain).map_err(|detail| invalid("original_gain", detail))?;
    }
    if let Some(channel) = &change.channel {
        validate::channel(channel).map_err(|detail| invalid("channel", detail))?;
        if let Access::Participant(caller) = access {
            require_channel(&caller.grants, channel)?;
        }
    }
    api.house.change_session(&path.room, &path.session, change)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn entity_tag(etag: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(format!("\"{etag}\""))
        .map_err(|_| ApiError::new(Kind::Internal, "the session's tag cannot stand in a header"))
}
