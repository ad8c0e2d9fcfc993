//! Who a request comes from: the address of the connection, or what a trusted proxy says of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The header in which proxies name whom they speak for, the latest last.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Bits of an IPv6 address that name a network: whoever has one has all of its addresses.
const IPV6_NETWORK_BITS: u32 = 64;

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| one());
        network.map(Self).map_err(|_| {
            format!("{text:?} is no address and no network: write 10.0.0.7 or 10.0.0.0/8")
        })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The address that a request came from. A proxy that is trusted is believed about the one before
/// it, and so on backwards; what stands before an address that is not trusted may be invented.
pub(crate) fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.0.contains(address));
    let mut address = peer.to_canonical();
    let values: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
    for hop in hops {
        if !is_trusted(&address) {
            break;
        }
        // Some proxies add the port.
        let hop = hop.trim();
        let parsed = hop
            .parse::<IpAddr>()
            .or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
        let Ok(before) = parsed else { break };
        address = before.to_canonical();
    }
    address
}

/// What an address is counted under: itself, or its network in IPv6.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_NETWORK_BITS);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_about_the_hop_before_it() {
        let inside = ["10.0.0.0/8", "::1"];
        for (peer, forwarded, trusted, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], &inside[..], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1"], &[], "10.0.0.1"),
            ("10.0.0.1", &[], &inside, "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], &inside, "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], &inside, "198.51.100.1"),
            ("::1", &["1.1.1.1, 198.51.100.1, 10.2.3.4"], &inside, "198.51.100.1"),
            ("::1", &["1.1.1.1", "198.51.100.1", "10.2.3.4"], &inside, "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], &inside, "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], &inside, "2001:db8::1"),
            ("10.0.0.1", &["1.1.1.1, nonsense"], &inside, "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], &inside, "10.0.0.2"),
        ] {
            let case = format!("{peer} {forwarded:?}");
            assert_eq!(of(peer, forwarded, trusted), expected, "{case}");
        }
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let one: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        assert_eq!(network_of(one).to_string(), "2001:db8:1:2::");
        let other: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(network_of(other), other);
    }

    #[test]
    fn a_network_that_is_none_is_named() {
        let error = "10.0.0.0/40".parse::<Network>().unwrap_err();
        assert!(error.contains("10.0.0.0/40") && error.contains("10.0.0.0/8"), "{error}");
        let network: Network = serde_json::from_str("\"10.1.2.3\"").unwrap();
        assert_eq!(serde_json::to_string(&network).unwrap(), "\"10.1.2.3/32\"");
    }
}
