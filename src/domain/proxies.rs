//! Who a request comes from, where proxies stand in front. Only those that the operator trusts may say so.

use std::net::IpAddr;

use super::egress::AllowRule;

/// Hops of one request that are looked at.
const HOPS_MAX: usize = 32;

/// Networks of proxies whose `X-Forwarded-For` and `Forwarded` (RFC 7239) count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<AllowRule>);

impl TrustedProxies {
    pub const fn new(networks: Vec<AllowRule>) -> Self {
        Self(networks)
    }

    /// The client's address, from the values of both headers in their order. A proxy writes one of them and may hand the
    /// other on as the client wrote it, so where they differ neither counts.
    pub fn client(&self, peer: IpAddr, x_forwarded_for: &[&str], forwarded: &[&str]) -> IpAddr {
        let by_x = self.last_untrusted(peer, x_forwarded_for, read);
        let by_forwarded = self.last_untrusted(peer, forwarded, read_for);
        match (x_forwarded_for, forwarded) {
            (_, []) => by_x,
            ([], _) => by_forwarded,
            _ if by_x == by_forwarded => by_x,
            _ => peer,
        }
    }

    /// The last address that no trusted proxy has, read from the right, since what stands further left was written by the
    /// client.
    fn last_untrusted(&self, peer: IpAddr, values: &[&str], read: fn(&str) -> Option<IpAddr>) -> IpAddr {
        let mut client = peer;
        let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
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

/// The address of a `for` in one element of `Forwarded`: `for="[2001:db8::7]:443";proto=https`.
fn read_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    read(node.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(trusted: &[&str], peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
        let rules = trusted.iter().map(|rule| rule.parse().unwrap()).collect();
        TrustedProxies::new(rules).client(peer.parse().unwrap(), x_forwarded_for, forwarded).to_string()
    }

    fn client(trusted: &[&str], peer: &str, x_forwarded_for: &[&str]) -> String {
        named(trusted, peer, x_forwarded_for, &[])
    }

    #[test]
    fn the_standard_header_says_the_same_or_nothing() {
        let by = |x_forwarded_for: &[&str], forwarded: &[&str]| {
            named(&["10.0.0.0/8", "fd00::/8"], "10.0.0.1", x_forwarded_for, forwarded)
        };
        for (forwarded, expected) in [
            (vec!["for=192.0.2.1"], "192.0.2.1"),
            (vec!["proto=https; FOR=192.0.2.1:4711;by=10.0.0.1"], "192.0.2.1"),
            (vec!["for=1.1.1.1, for=192.0.2.1, for=10.0.0.2"], "192.0.2.1"),
            (vec!["for=\"1.1.1.1", "for=192.0.2.1"], "192.0.2.1"),
            (vec!["for=\"[2001:db8::7]:443\", for=10.0.0.2"], "2001:db8::7"),
            (vec!["for=192.0.2.1, for=_hidden"], "10.0.0.1"),
            (vec!["for=192.0.2.1, proto=http"], "10.0.0.1"),
            (vec![""], "10.0.0.1"),
        ] {
            assert_eq!(by(&[], &forwarded), expected, "{forwarded:?}");
        }
        assert_eq!(by(&["192.0.2.1"], &["for=192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            by(&["192.0.2.1"], &["for=192.0.2.9"]),
            "10.0.0.1",
            "one of them is the client's own word"
        );
        assert_eq!(named(&[], "10.0.0.1", &[], &["for=192.0.2.1"]), "10.0.0.1");
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
