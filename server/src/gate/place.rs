//! Where a client is: what its address is counted under.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn v4(address: Ipv4Addr, bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)))
}

fn v6(address: Ipv6Addr, bits: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)))
}

/// One client: the address, or one /64 with IPv6, which is what a customer has.
pub(super) fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => v6(address, 64),
    }
}

/// The neighbourhood that a site's servers are in: a /24, or one /64 with IPv6.
pub(super) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => v4(address, 24),
        IpAddr::V6(address) => v6(address, 64),
    }
}

/// The network of a site: a /24, or one /48 with IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => v4(address, 24),
        IpAddr::V6(address) => v6(address, 48),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_cut_to_what_they_are_counted_under() {
        for (address, places) in [
            ("192.0.2.77", ["192.0.2.77", "192.0.2.0", "192.0.2.0"]),
            ("::ffff:192.0.2.77", ["192.0.2.77", "192.0.2.0", "192.0.2.0"]),
            ("2001:db8:1:2:3::4", ["2001:db8:1:2::", "2001:db8:1:2::", "2001:db8:1::"]),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let got = [client(address), neighbourhood(address), network(address)].map(|place| place.to_string());
            assert_eq!(got, places);
        }
    }
}
