//! Which names and addresses are not the public internet: the tables that the policy decides by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Zones that name something on this machine, in this network or nowhere.
const FORBIDDEN_ZONES: [&str; 15] = [
    "arpa",
    "cluster.local",
    "corp",
    "example",
    "home.arpa",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "svc",
    "test",
];

/// Of these, the zones that no network uses, not even one's own.
const UNUSED_ZONES: [&str; 3] = ["example", "invalid", "onion"];

/// IPv4 that is not the public internet, from the IANA special-purpose registry, and 168.63.129.16, which is
/// public by number but the host itself inside Azure.
const FORBIDDEN_IPV4: [Ipv4Net; 16] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 88, 99, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only IPv6 block that IANA has given out for the public internet. Everything else is refused, above all the
/// forms that carry an IPv4 address.
const PUBLIC_IPV6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Inside [`PUBLIC_IPV6`], yet not the public internet: protocol assignments (Teredo among them), documentation,
/// 6to4, documentation again.
const FORBIDDEN_IPV6: [Ipv6Net; 4] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    Ipv6Net::new_assert(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Where clouds hand out credentials. A wide allow rule does not open these; one that names exactly the address does.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Expects a name as the parser gives it: lower case, without a trailing dot.
pub(super) fn is_forbidden_name(name: &str) -> bool {
    !name.contains('.') || is_within(name, &FORBIDDEN_ZONES)
}

/// Whether the name lies in a zone that no network uses.
pub(super) fn is_unused_name(name: &str) -> bool {
    is_within(name, &UNUSED_ZONES)
}

/// Whether clouds hand out credentials there. Expects a canonical address.
pub(super) fn is_metadata(ip: IpAddr) -> bool {
    METADATA.contains(&ip)
}

fn is_within(name: &str, zones: &[&str]) -> bool {
    let is_in =
        |zone: &&str| name.strip_suffix(*zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    zones.iter().any(is_in)
}

/// Whether the address is one of the public internet.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !FORBIDDEN_IPV4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => PUBLIC_IPV6.contains(&ip) && !FORBIDDEN_IPV6.iter().any(|net| net.contains(&ip)),
    }
}
