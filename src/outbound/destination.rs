//! What a rate over all projects counts as one destination, so that nobody's server is flooded by many channels of
//! many projects. Given by the policy with each address, and by the sender with each answer.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// What one customer of a provider usually has.
const IPV6_PREFIX_BITS: u32 = 56;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Opened by the operator, who knows what it bears: not counted.
    Inside,
    /// What somebody has registered, by the public suffix list: `shop.co.uk`, `shop.github.io`.
    Domain(Arc<str>),
    /// Of IPv6, the network.
    Address(IpAddr),
}

impl Destination {
    /// Expects a name as the parser gives it: lower case, without a trailing dot.
    pub fn of_name(name: &str) -> Self {
        Self::Domain(psl::domain_str(name).unwrap_or(name).into())
    }

    pub fn of_ip(ip: IpAddr) -> Self {
        Self::Address(match ip.to_canonical() {
            IpAddr::V6(ip) => {
                let mask = !(u128::MAX >> IPV6_PREFIX_BITS);
                Ipv6Addr::from_bits(ip.to_bits() & mask).into()
            }
            ip @ IpAddr::V4(_) => ip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_what_has_one_owner() {
        for (name, domain) in [
            ("hooks.shop.com", "shop.com"),
            ("shop.com", "shop.com"),
            ("a.b.shop.co.uk", "shop.co.uk"),
            ("liz.github.io", "liz.github.io"),
            ("github.io", "github.io"),
            ("hook.nowhere", "hook.nowhere"),
        ] {
            assert_eq!(Destination::of_name(name), Destination::Domain(domain.into()), "{name}");
        }
        let of = |ip: &str| Destination::of_ip(ip.parse().unwrap());
        assert_eq!(of("2001:200:0:1234::1"), of("2001:200:0:12ff::2"));
        assert_ne!(of("2001:200:0:1234::1"), of("2001:200:0:1334::1"));
        assert_eq!(of("::ffff:8.8.8.8"), of("8.8.8.8"));
        assert_ne!(of("8.8.8.8"), of("8.8.8.9"));
    }
}
