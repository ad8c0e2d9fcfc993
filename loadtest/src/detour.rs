//! The way to a server through a bad network: a relay for each of its media addresses, which takes
//! that address's place in the server's answers.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::impairment::Conditions;
use crate::relay::Relay;

/// A detour for all callers of a run. The relays end with it.
#[derive(Debug)]
pub struct Detour {
    conditions: Conditions,
    seed: u64,
    relays: Mutex<Relays>,
}

#[derive(Debug, Default)]
struct Relays {
    /// The relay's address by the server's.
    addresses: BTreeMap<SocketAddr, SocketAddr>,
    running: JoinSet<()>,
}

impl Detour {
    /// A way with these conditions in each direction. Every caller meets its own packets' fate.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, seed, relays: Mutex::default() }
    }

    /// An offer that does not say where the caller is, so that nothing takes the short way.
    #[must_use]
    pub fn without_candidates(offer_sdp: &str) -> String {
        let is_kept = |line: &&str| {
            !line.starts_with("a=candidate:") && !line.starts_with("a=end-of-candidates")
        };
        offer_sdp.split_inclusive('\n').filter(is_kept).collect()
    }

    /// An answer in which a relay stands for each of the server's UDP addresses.
    ///
    /// # Errors
    /// What the system says when a relay gets no port.
    pub async fn reroute(&self, answer_sdp: &str) -> io::Result<String> {
        let mut relays = self.relays.lock().await;
        let mut answer = String::with_capacity(answer_sdp.len());
        for line in answer_sdp.split_inclusive('\n') {
            match parse(line) {
                Some((mut fields, server)) => {
                    let relay = self.relay_for(&mut relays, server).await?;
                    let (address, port) = (relay.ip().to_string(), relay.port().to_string());
                    fields[4] = &address;
                    fields[5] = &port;
                    answer.push_str(&fields.join(" "));
                }
                None => answer.push_str(line),
            }
        }
        Ok(answer)
    }

    async fn relay_for(&self, relays: &mut Relays, server: SocketAddr) -> io::Result<SocketAddr> {
        if let Some(known) = relays.addresses.get(&server) {
            return Ok(*known);
        }
        let seed = self.seed.wrapping_add(1000 * relays.addresses.len() as u64);
        let relay = Relay::bind(0, server, self.conditions, seed).await?;
        let address = relay.address()?;
        relays.running.spawn(async move {
            if let Err(error) = relay.run(std::future::pending()).await {
                tracing::warn!(%error, "a relay broke off");
            }
        });
        relays.addresses.insert(server, address);
        Ok(address)
    }
}

/// The fields of a UDP candidate's line (RFC 8839 §5.1) and its address.
fn parse(line: &str) -> Option<(Vec<&str>, SocketAddr)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let is_udp = line.starts_with("a=candidate:") && fields.get(2)?.eq_ignore_ascii_case("udp");
    let address: IpAddr = fields.get(4)?.parse().ok()?;
    let port: u16 = fields.get(5)?.parse().ok()?;
    is_udp.then_some((fields, SocketAddr::new(address, port)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 5004 typ host\r\n\
        a=candidate:2 1 tcp 1 127.0.0.1 5004 typ host tcptype passive\r\n\
        a=candidate:1 2 UDP 2130706430 127.0.0.1 5004 typ host\r\na=end-of-candidates\r\na=mid:0\r\n";

    #[tokio::test]
    async fn each_udp_address_gets_one_relay_and_the_rest_stays() {
        let detour = Detour::new(Conditions::default(), 1);
        let rerouted = detour.reroute(SDP).await.unwrap();
        let lines: Vec<&str> = rerouted.lines().collect();
        let relay = lines[1].split(' ').nth(5).unwrap();
        assert_ne!(relay, "5004");
        assert_eq!(lines[1], format!("a=candidate:1 1 udp 2130706431 127.0.0.1 {relay} typ host"));
        assert_eq!(lines[3], format!("a=candidate:1 2 UDP 2130706430 127.0.0.1 {relay} typ host"));
        assert!(lines[2].contains("tcp 1 127.0.0.1 5004"));
        assert_eq!(detour.reroute(SDP).await.unwrap(), rerouted);
    }

    #[test]
    fn an_offer_on_a_detour_tells_no_address() {
        assert_eq!(Detour::without_candidates(SDP), "v=0\r\na=mid:0\r\n");
    }
}
