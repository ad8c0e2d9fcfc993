//! From a caller and their offer to a session.

use std::sync::atomic::Ordering;

use inference::Language;
use signaling::house::{Caller, HouseError, NewSession};
use signaling::wire::OWN_VOICE;
use uuid::Uuid;

use super::Shared;
use super::house::refusal;
use super::room::RoomState;
use super::state::Place;
use crate::media::{ConnectPeer, PeerId};
use crate::speaker::Outlet;

impl Shared {
    /// Answers an offer. What the peer hears, and who hears it, is settled when it is connected.
    pub(super) fn connect(
        &self,
        caller: &Caller,
        offer_sdp: String,
    ) -> Result<NewSession, HouseError> {
        self.refuse_when_draining()?;
        self.refuse_when_overloaded(caller)?;
        let peer = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        let session = Uuid::new_v4().simple().to_string();
        let place = self.state.lock().reserve(caller, peer, session.clone())?;
        let Place { key, is_conference, speaks, listens } = place;
        let request = ConnectPeer { peer, room: key, offer_sdp, speak: speaks, listen: listens };
        let connected = match self.plane.connect(request) {
            Ok(connected) => connected,
            Err(error) => {
                self.remove_peer(peer, "failed");
                return Err(refusal(error));
            }
        };
        // Who listens in a conference hears what comes out of a channel's ring, not their own.
        if listens && !is_conference {
            self.speaker.attach(Outlet::Peer(peer), connected.playout);
            if let Ok(hear) = caller.hear.parse::<Language>() {
                let voice = caller.voice.clone().filter(|voice| voice != OWN_VOICE);
                self.preparer.prepare(hear, voice);
            }
        }
        if let Some(listener) = self.listener.get().filter(|_| speaks) {
            listener.attach(peer, connected.heard);
        }
        let answered = |room: &mut RoomState| room.answered(peer, connected.track_mid);
        if self.state.lock().room_of_mut(peer).map(answered).is_none() {
            // The room ended while the offer was being answered.
            self.forget_peer(peer);
            return Err(HouseError::NoSuchRoom(caller.room.clone()));
        }
        Ok(NewSession { id: session, answer_sdp: connected.answer_sdp, etag: connected.ice_ufrag })
    }
}
