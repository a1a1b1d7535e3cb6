//! Decides which addresses belong to the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Network;

/// IPv4 networks that are not public: IANA's registry of special-purpose addresses, and one public
/// address that Azure uses internally.
const NOT_PUBLIC_V4: [Network; 17] = [
    Network::v4([0, 0, 0, 0], 8),        // this network, unspecified
    Network::v4([10, 0, 0, 0], 8),       // private
    Network::v4([100, 64, 0, 0], 10),    // carrier-grade NAT; the metadata service of Alibaba Cloud
    Network::v4([127, 0, 0, 0], 8),      // loopback
    Network::v4([168, 63, 129, 16], 32), // the metadata service of Azure
    Network::v4([169, 254, 0, 0], 16),   // link-local; the metadata service of most clouds
    Network::v4([172, 16, 0, 0], 12),    // private
    Network::v4([192, 0, 0, 0], 24), // protocol assignments; the metadata service of Oracle's cloud
    Network::v4([192, 0, 2, 0], 24), // documentation
    Network::v4([192, 31, 196, 0], 24), // AS112
    Network::v4([192, 88, 99, 0], 24), // 6to4 relays
    Network::v4([192, 168, 0, 0], 16), // private
    Network::v4([198, 18, 0, 0], 15), // benchmarks
    Network::v4([198, 51, 100, 0], 24), // documentation
    Network::v4([203, 0, 113, 0], 24), // documentation
    Network::v4([224, 0, 0, 0], 4),  // multicast
    Network::v4([240, 0, 0, 0], 4),  // reserved, broadcast
];

/// The IPv6 addresses that IANA has assigned for public use. Addresses outside of it (loopback,
/// `fe80::/10`, `fc00::/7`, `ff00::/8`, IPv4-compatible addresses, `64:ff9b:1::/48`) are not
/// public.
const PUBLIC_V6: Network = Network::v6(0x2000, 0, 3);

/// Networks within [`PUBLIC_V6`] that are not public.
const NOT_PUBLIC_V6: [Network; 3] = [
    Network::v6(0x2001, 0, 23), // protocol assignments: Teredo, ORCHID, benchmarks
    Network::v6(0x2001, 0xdb8, 32), // documentation
    Network::v6(0x3fff, 0, 20), // documentation
];

/// The IPv6 network that maps IPv4 addresses (NAT64).
const NAT64: Network = Network::v6(0x64, 0xff9b, 96);
const SIX_TO_FOUR: Network = Network::v6(0x2002, 0, 16);

/// Returns whether an address belongs to the public internet. An address that embeds an IPv4
/// address (IPv4 in IPv6, NAT64, 6to4) counts as that address.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4
        .iter()
        .any(|network| network.contains(address.into()))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let octets = address.octets();
    let v4 = |from: usize| {
        Ipv4Addr::new(
            octets[from],
            octets[from + 1],
            octets[from + 2],
            octets[from + 3],
        )
    };
    let ip = IpAddr::V6(address);
    if NAT64.contains(ip) {
        return is_public_v4(v4(12));
    }
    if SIX_TO_FOUR.contains(ip) {
        return is_public_v4(v4(2));
    }
    PUBLIC_V6.contains(ip) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(ip))
}
