//! The addresses of this machine that can be offered as host candidates.

use std::net::IpAddr;

/// Every IPv4 and IPv6 address of this machine's interfaces that a peer can reach without a zone,
/// loopback last: a browser on the same machine needs it when no other interface is up.
///
/// Link-local IPv6 addresses are left out, since a candidate cannot carry their zone (RFC 8445
/// section 5.1.1.1).
///
/// # Errors
/// What the system says when the interfaces cannot be listed.
pub fn host_addresses() -> std::io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for interface in rtc::shared::ifaces::ifaces()? {
        let Some(address) = interface.addr.map(|socket_address| socket_address.ip()) else {
            continue;
        };
        let usable = match address {
            IpAddr::V4(v4) => !v4.is_unspecified(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
        };
        if usable && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(IpAddr::is_loopback);
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_an_address_and_loopback_comes_last() {
        let addresses = host_addresses().unwrap();
        let first_loopback = addresses.iter().position(IpAddr::is_loopback).unwrap();
        assert!(addresses[first_loopback..].iter().all(IpAddr::is_loopback));
    }
}
