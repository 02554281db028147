//! What an operator opened in the egress policy: networks beside the public addresses, and ports.
//!
//! Only the vocabulary. `outbound::policy` decides with it which address a packet may go to.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};

/// The prefix length of `::ffff:0:0/96`, where IPv6 spells IPv4.
const MAPPED_PREFIX_BITS: u8 = 96;

/// A network, or one port of it, that deliveries may go to although it is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllowRule {
    pub network: IpNet,
    /// Any port where absent.
    pub port: Option<u16>,
}

impl AllowRule {
    /// An IPv4-mapped IPv6 address counts as its IPv4 address, in the rule as well as in `ip`.
    pub fn permits(&self, ip: IpAddr, port: u16) -> bool {
        unmapped(self.network).contains(&ip.to_canonical()) && self.port.is_none_or(|only| only == port)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowRuleError {
    #[error(
        "`{0}` is not a network: write 10.0.0.0/8, 127.0.0.1, 10.0.0.0/8:9000, ::1/128 or [fd00::/8]:443"
    )]
    Network(String),
    #[error("`{0}` has no valid port: 1 to 65535")]
    Port(String),
    #[error("`{0}` needs brackets around its IPv6 network before a port: [fd00::/8]:443")]
    Brackets(String),
}

impl FromStr for AllowRule {
    type Err = AllowRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || AllowRuleError::Network(text.to_owned());
        let port_of = |port: &str| parse_port(port).ok_or_else(|| AllowRuleError::Port(text.to_owned()));

        if let Some(bracketed) = text.strip_prefix('[') {
            let (network, rest) = bracketed.split_once(']').ok_or_else(malformed)?;
            let network = parse_network(network).filter(|net| matches!(net, IpNet::V6(_)));
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port_of(port)?),
                None if rest.is_empty() => None,
                None => return Err(malformed()),
            };
            return Ok(Self { network: unmapped(network.ok_or_else(malformed)?), port });
        }
        if let Some(network) = parse_network(text) {
            return Ok(Self { network: unmapped(network), port: None });
        }
        let (network, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        match parse_network(network).ok_or_else(malformed)? {
            network @ IpNet::V4(_) => Ok(Self { network, port: Some(port_of(port)?) }),
            IpNet::V6(_) => Err(AllowRuleError::Brackets(text.to_owned())),
        }
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network, self.port) {
            (network, None) => write!(f, "{network}"),
            (IpNet::V4(network), Some(port)) => write!(f, "{network}:{port}"),
            (IpNet::V6(network), Some(port)) => write!(f, "[{network}]:{port}"),
        }
    }
}

/// The ports that deliveries to public addresses may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    Any,
    Only(Vec<u16>),
}

impl Ports {
    pub fn permits(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of ports: write 443,8443 or any")]
pub struct PortsError(String);

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let ports: Option<Vec<u16>> = text.split(',').map(|port| parse_port(port.trim())).collect();
        let mut ports = ports.ok_or_else(|| PortsError(text.to_owned()))?;
        ports.sort_unstable();
        ports.dedup();
        Ok(Self::Only(ports))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                f.write_str(&ports.join(","))
            }
        }
    }
}

/// A network, or a single address as the network that holds only it. Bits beyond the prefix are dropped.
fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.ok().map(|network| network.trunc())
}

/// Digits only: `u16::from_str` would take a sign as well.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// A network inside `::ffff:0:0/96` as the IPv4 network it stands for.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.prefix_len().checked_sub(MAPPED_PREFIX_BITS).zip(Ipv6Addr::to_ipv4_mapped(&v6.network()));
    mapped
        .and_then(|(prefix_bits, address)| Ipv4Net::new(address, prefix_bits).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> AllowRule {
        text.parse().unwrap()
    }

    fn permits(text: &str, ip: &str, port: u16) -> bool {
        rule(text).permits(ip.parse().unwrap(), port)
    }

    #[test]
    fn rules_are_read_and_shown() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("127.0.0.1:9000", "127.0.0.1/32:9000"),
            ("10.0.0.0/8:9000", "10.0.0.0/8:9000"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::1", "::1/128"),
            ("::1/128", "::1/128"),
            ("[::1]", "::1/128"),
            ("[::1]:8080", "[::1/128]:8080"),
            ("[fd00::/8]:443", "[fd00::/8]:443"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1/32:80"),
        ] {
            assert_eq!(rule(text).to_string(), shown, "{text}");
            assert_eq!(rule(shown), rule(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in
            ["", "localhost", "10.0.0.0/33", "10.0.0", "*", "[::1", "[::1]x", "[10.0.0.1]:80", ":80", "[]"]
        {
            assert_eq!(text.parse::<AllowRule>(), Err(AllowRuleError::Network(text.to_owned())), "{text}");
        }
        for text in ["10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:", "10.0.0.1:+80", "[::1]:", "[::1]:http"] {
            assert_eq!(text.parse::<AllowRule>(), Err(AllowRuleError::Port(text.to_owned())), "{text}");
        }
        let text = "fd00::/8:443";
        assert_eq!(text.parse::<AllowRule>(), Err(AllowRuleError::Brackets(text.to_owned())));
    }

    #[test]
    fn a_rule_opens_its_network_and_nothing_else() {
        assert!(permits("10.0.0.0/8", "10.255.0.1", 1));
        assert!(!permits("10.0.0.0/8", "11.0.0.1", 1));
        assert!(permits("10.0.0.0/8:9000", "10.0.0.1", 9000));
        assert!(!permits("10.0.0.0/8:9000", "10.0.0.1", 9001));
        assert!(permits("[fd00::/8]:443", "fdff::1", 443));
        assert!(!permits("[fd00::/8]:443", "fe80::1", 443));
        assert!(!permits("127.0.0.1", "::1", 80));
    }

    #[test]
    fn an_ipv4_mapped_address_counts_as_ipv4() {
        assert!(permits("127.0.0.1", "::ffff:127.0.0.1", 80));
        assert!(permits("::ffff:127.0.0.1", "127.0.0.1", 80));
        assert!(!permits("::/0", "::ffff:127.0.0.1", 80));
        assert!(!permits("::/0", "127.0.0.1", 80));
        let by_hand = AllowRule { network: "::ffff:10.0.0.0/104".parse().unwrap(), port: None };
        assert!(by_hand.permits("10.0.0.1".parse().unwrap(), 80));
    }

    #[test]
    fn ports_are_read_and_shown() {
        for (text, ports, shown) in [
            ("any", Ports::Any, "any"),
            ("443", Ports::Only(vec![443]), "443"),
            ("8443, 443,443", Ports::Only(vec![443, 8443]), "443,8443"),
        ] {
            assert_eq!(text.parse(), Ok(ports.clone()), "{text}");
            assert_eq!(ports.to_string(), shown);
        }
        for text in ["", "0", "65536", "443,", "any,443", "https", "Any", "-1", "+443"] {
            assert_eq!(text.parse::<Ports>(), Err(PortsError(text.to_owned())), "{text}");
        }
        assert!(Ports::Any.permits(1));
        assert!(Ports::Only(vec![443]).permits(443));
        assert!(!Ports::Only(vec![443]).permits(80));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_shown_and_read_back(text in "[0-9a-f.:/\\[\\],]{0,24}") {
            if let Ok(rule) = text.parse::<AllowRule>() {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
            if let Ok(ports) = text.parse::<Ports>() {
                prop_assert_eq!(ports.to_string().parse(), Ok(ports));
            }
        }
    }
}
