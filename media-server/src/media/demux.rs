//! Whose datagram is it? Many peers share one port.
//!
//! A peer introduces itself by a STUN Binding request that names the ICE user fragment we gave it
//! ([`crate::transport::stun`]); from then on its address tells (RFC 8445 section 7.3). Nothing
//! here is authenticated: the peer's own state machine refuses what it cannot verify.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::PeerId;
use crate::transport::stun;

/// Most addresses one peer is known by. A peer that checks from more is up to no good.
const MAX_ADDRESSES: usize = 16;

/// Who is known by what.
#[derive(Debug, Default)]
pub struct Demux {
    by_address: HashMap<SocketAddr, PeerId>,
    by_ufrag: HashMap<String, PeerId>,
    /// Who sent a check to this address last; only answers to checks are routed by it.
    by_check: HashMap<SocketAddr, PeerId>,
}

impl Demux {
    /// From now on the fragment is `peer`'s.
    pub fn insert(&mut self, peer: PeerId, ufrag: String) {
        self.by_ufrag.insert(ufrag, peer);
    }

    /// From now on this fragment is `peer`'s, and none of before; its addresses have to introduce
    /// themselves again. An ICE restart comes from another network as a rule, and what still comes
    /// by the old path is no longer of use.
    pub fn restarted(&mut self, peer: PeerId, ufrag: String) {
        self.remove(peer);
        self.insert(peer, ufrag);
    }

    /// Forgets a peer.
    pub fn remove(&mut self, peer: PeerId) {
        self.by_address.retain(|_, owner| *owner != peer);
        self.by_ufrag.retain(|_, owner| *owner != peer);
        self.by_check.retain(|_, owner| *owner != peer);
    }

    /// `peer` sends this datagram: the answer to a check may come from an address that is not known
    /// yet, when our check was faster than the peer's.
    pub fn sent(&mut self, peer: PeerId, to: SocketAddr, datagram: &[u8]) {
        if stun::is_request(datagram) && !self.by_address.contains_key(&to) {
            self.by_check.insert(to, peer);
        }
    }

    /// The peer a datagram is for; `None` for garbage.
    ///
    /// A request that names one peer and comes from the address of another is shown to the one it
    /// names, but takes the address over only when the other is not `is_alive`: else anybody who
    /// can forge a source address could take a peer's sound away.
    pub fn route(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        is_alive: impl Fn(PeerId) -> bool,
    ) -> Option<PeerId> {
        let owner = self.by_address.get(&from).copied();
        let named = match stun::kind(datagram) {
            stun::Kind::Stun => {
                stun::receiver_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag)).copied()
            }
            stun::Kind::Dtls | stun::Kind::Rtp => None,
            stun::Kind::Unknown => return None,
        };
        let Some(peer) = named else {
            let of_check = || self.by_check.get(&from).copied();
            return owner.or_else(|| stun::is_success(datagram).then(of_check).flatten());
        };
        if owner != Some(peer) && owner.is_none_or(|owner| !is_alive(owner)) {
            let known = self.by_address.values().filter(|owner| **owner == peer).count();
            if known < MAX_ADDRESSES {
                self.by_address.insert(from, peer);
            }
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANNA: PeerId = PeerId(1);
    const BERT: PeerId = PeerId(2);
    const RTP: [u8; 12] = [0x80; 12];

    fn check(ufrag: &str) -> Vec<u8> {
        let name = format!("{ufrag}:them");
        let mut value = name.clone().into_bytes();
        value.resize(value.len().next_multiple_of(4), 0);
        let mut message = vec![0, 1, 0, u8::try_from(value.len() + 4).unwrap()];
        message.extend([0x21, 0x12, 0xa4, 0x42]);
        message.extend([0; 12]);
        message.extend([0, 6, 0, u8::try_from(name.len()).unwrap()]);
        message.extend(value);
        message
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn two_peers() -> Demux {
        let mut demux = Demux::default();
        demux.insert(ANNA, "anna".to_owned());
        demux.insert(BERT, "bert".to_owned());
        demux
    }

    #[test]
    fn a_check_introduces_an_address_and_then_the_address_tells() {
        let mut demux = two_peers();
        assert_eq!(demux.route(address(1), &RTP, |_| true), None);
        assert_eq!(demux.route(address(1), &check("anna"), |_| true), Some(ANNA));
        assert_eq!(demux.route(address(1), &RTP, |_| true), Some(ANNA));
        assert_eq!(demux.route(address(2), &check("carl"), |_| true), None);
    }

    #[test]
    fn a_living_peer_keeps_its_address_and_a_dead_one_loses_it() {
        let mut demux = two_peers();
        demux.route(address(1), &check("anna"), |_| true);
        assert_eq!(demux.route(address(1), &check("bert"), |_| true), Some(BERT));
        assert_eq!(demux.route(address(1), &RTP, |_| true), Some(ANNA));
        assert_eq!(demux.route(address(1), &check("bert"), |_| false), Some(BERT));
        assert_eq!(demux.route(address(1), &RTP, |_| true), Some(BERT));
    }

    #[test]
    fn the_answer_to_our_check_finds_the_peer_that_sent_it_and_nothing_else_does() {
        let mut demux = two_peers();
        let request = check("them");
        let mut answer = request.clone();
        answer[0] = 1;
        demux.sent(BERT, address(3), &request);
        assert_eq!(demux.route(address(3), &answer, |_| true), Some(BERT));
        assert_eq!(demux.route(address(3), &RTP, |_| true), None);
        assert_eq!(demux.route(address(4), &answer, |_| true), None);
        demux.remove(BERT);
        assert_eq!(demux.route(address(3), &answer, |_| true), None);
    }

    #[test]
    fn a_removed_peer_is_forgotten() {
        let mut demux = two_peers();
        demux.route(address(1), &check("anna"), |_| true);
        demux.remove(ANNA);
        assert_eq!(demux.route(address(1), &RTP, |_| true), None);
        assert_eq!(demux.route(address(1), &check("anna"), |_| true), None);
    }

    #[test]
    fn after_a_restart_the_new_fragment_introduces_the_addresses_anew() {
        let mut demux = two_peers();
        for port in 1..=16 {
            demux.route(address(port), &check("anna"), |_| true);
        }
        demux.restarted(ANNA, "anna2".to_owned());
        assert_eq!(demux.route(address(1), &RTP, |_| true), None);
        assert_eq!(demux.route(address(1), &check("anna"), |_| true), None);
        let v6 = "[::1]:9".parse().unwrap();
        assert_eq!(demux.route(v6, &check("anna2"), |_| true), Some(ANNA));
        assert_eq!(demux.route(v6, &RTP, |_| true), Some(ANNA));
        assert_eq!(demux.route(address(2), &check("bert"), |_| true), Some(BERT));
    }

    #[test]
    fn a_peer_cannot_fill_the_map() {
        let mut demux = two_peers();
        for port in 1..1_000 {
            assert_eq!(demux.route(address(port), &check("anna"), |_| true), Some(ANNA));
        }
        assert_eq!(demux.by_address.len(), MAX_ADDRESSES);
    }

    proptest! {
        #[test]
        fn garbage_finds_nobody_and_harms_nobody(
            datagrams in prop::collection::vec(
                (1u16..5, prop::collection::vec(any::<u8>(), 0..120)),
                0..50,
            ),
        ) {
            let mut demux = two_peers();
            demux.route(address(9), &check("anna"), |_| true);
            for (port, datagram) in datagrams {
                prop_assert_eq!(demux.route(address(port), &datagram, |_| true), None);
            }
            prop_assert_eq!(demux.route(address(9), &RTP, |_| true), Some(ANNA));
        }
    }
}
