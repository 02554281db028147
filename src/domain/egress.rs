//! What the operator opens towards the outside: networks beside the public ones, and ports.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// One entry of the allow list: a network, at one port or at all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowRule {
    pub network: IpNet,
    pub port: Option<u16>,
}

impl AllowRule {
    /// An IPv4 address written as an IPv6 one counts as the IPv4 address.
    pub fn permits(&self, ip: IpAddr, port: u16) -> bool {
        self.network.contains(&ip.to_canonical()) && self.port.is_none_or(|own| own == port)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network with an optional port")]
pub struct AllowRuleError;

impl FromStr for AllowRule {
    type Err = AllowRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = |text: &str| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            net.map(|net| net.trunc()).map_err(|_| AllowRuleError)
        };
        let port = |text: &str| text.parse::<u16>().map(Some).map_err(|_| AllowRuleError);
        if let Some((inner, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            let port = rest.strip_prefix(':').map_or(Ok(None), port)?;
            return Ok(Self { network: network(inner)?, port });
        }
        match text.split_once(':') {
            Some((inner, rest)) if !rest.contains(':') => {
                Ok(Self { network: network(inner)?, port: port(rest)? })
            }
            _ => Ok(Self { network: network(text)?, port: None }),
        }
    }
}

/// The ports that may be used towards public addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    Any,
    Only(Vec<u16>),
}

impl Ports {
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not `any` or a list of ports")]
pub struct PortsError;

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let ports = text.split(',').map(|port| port.trim().parse()).collect::<Result<_, _>>();
        ports.map(Self::Only).map_err(|_| PortsError)
    }
}
