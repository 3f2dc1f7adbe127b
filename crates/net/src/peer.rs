//! The peer of a connection, as far as its address identifies it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The prefix of an IPv6 address that identifies a peer: a client usually has all addresses of such a network.
const V6_NETWORK_BITS: u32 = 64;

/// The unit that connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Peer {
    /// This machine itself: the other parts, and its administrator.
    Loopback,
    V4(Ipv4Addr),
    /// The network of an address.
    V6(u128),
}

impl Peer {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address.to_bits() >> (128 - V6_NETWORK_BITS)),
        }
    }

    pub(crate) fn is_remote(self) -> bool {
        self != Self::Loopback
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => {
                let address = Ipv6Addr::from_bits(network << (128 - V6_NETWORK_BITS));
                write!(f, "{address}/{V6_NETWORK_BITS}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_machine_or_network_are_one_peer() {
        let shown = |text: &str| Peer::of(text.parse().unwrap()).to_string();
        for (address, peer) in [
            ("127.0.0.1", "loopback"),
            ("127.8.8.8", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:9::9", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(shown(address), peer, "{address}");
        }
    }
}
