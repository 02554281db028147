//! Who a request comes from, where proxies stand in front. Only those that the operator trusts may say so.

use std::net::IpAddr;

use super::egress::AllowRule;

/// Hops of one request that are looked at.
const HOPS_MAX: usize = 32;

/// Networks of proxies whose `X-Forwarded-For` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<AllowRule>);

impl TrustedProxies {
    pub const fn new(networks: Vec<AllowRule>) -> Self {
        Self(networks)
    }

    /// The client's address: the last one that no trusted proxy has, read from the right, since what stands further left
    /// was written by the client. `forwarded` are the header's values in their order.
    pub fn client<'h>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'h str>) -> IpAddr {
        let mut client = peer;
        let hops = forwarded.rev().flat_map(|value| value.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            if !self.trusts(client) {
                break;
            }
            // What is no address was not written by a proxy that can be trusted.
            let Some(address) = read(hop.trim()) else { break };
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|rule| rule.permits(address, 0))
    }
}

/// An address, with a port or in brackets as some proxies write it.
fn read(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok();
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let rules = trusted.iter().map(|rule| rule.parse().unwrap()).collect();
        TrustedProxies::new(rules).client(peer.parse().unwrap(), forwarded.iter().copied()).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        for (peer, forwarded, expected) in [
            ("203.0.113.9", vec!["192.0.2.1"], "203.0.113.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["192.0.2.1"], "192.0.2.1"),
            ("::ffff:10.0.0.1", vec!["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", vec!["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", vec!["1.1.1.1", "192.0.2.1,10.9.9.9"], "192.0.2.1"),
            ("10.0.0.1", vec!["10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["192.0.2.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["192.0.2.1:4711"], "192.0.2.1"),
            ("fd00::1", vec!["[2001:db8::7]:443"], "2001:db8::7"),
            ("fd00::1", vec!["[2001:db8::7]"], "2001:db8::7"),
        ] {
            assert_eq!(client(&trusted, peer, &forwarded), expected, "{peer} {forwarded:?}");
        }
        assert_eq!(client(&[], "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
    }
}
