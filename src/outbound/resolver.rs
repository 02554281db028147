//! Looks names up for the client, and hands it only addresses that the policy permits.
//!
//! The client dials what it gets from here and nothing else, so an answer that changes between the check and the
//! connection cannot happen. An answer with one forbidden address is refused as a whole: nobody honest mixes them.
//!
//! A client without a proxy never asks for IP literals; the sender checks those.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    names::{DnsFailure, Names},
    policy::{Address, EgressPolicy},
};

/// More addresses than this are not tried.
const ADDRESSES_MAX: usize = 16;
/// One lookup, both of its rounds.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// The name has an address to which nothing may be sent.
#[derive(Debug, Error)]
#[error("the name resolves to {ip}, which is not permitted")]
pub struct ForbiddenAddress {
    pub ip: IpAddr,
}

/// What a client must know of an address before it resolves its name, since the resolver sees the name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gate {
    /// Nothing outside the allow list will do.
    pub inside_only: bool,
    /// Only where a rule of the allow list names it, so that there are few gates.
    pub port: Option<u16>,
}

impl Gate {
    pub fn of(address: &Address, policy: &EgressPolicy) -> Self {
        let port = Some(address.port()).filter(|port| policy.names_port(*port));
        Self { inside_only: address.must_be_inside(), port }
    }

    /// Port 0 stands for every port that no rule names, see [`EgressPolicy::new`].
    fn port(self) -> u16 {
        self.port.unwrap_or_default()
    }

    fn permits(self, policy: &EgressPolicy, ip: IpAddr) -> bool {
        if self.inside_only { policy.inside(ip, self.port()) } else { policy.permits(ip, self.port()) }
    }
}

/// The resolver of one gate.
#[derive(Clone, Debug)]
pub struct GateResolver {
    policy: Arc<EgressPolicy>,
    gate: Gate,
    names: Names,
}

impl GateResolver {
    pub fn new(policy: Arc<EgressPolicy>, gate: Gate, names: Names) -> Self {
        Self { policy, gate, names }
    }

    /// A client that goes through a proxy asks for IP literals as well.
    fn literal(&self, host: &str) -> Option<Result<Vec<IpAddr>, ForbiddenAddress>> {
        let ip = host.trim_matches(['[', ']']).parse().ok()?;
        Some(vet(&self.policy, self.gate, vec![ip]))
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(found) = self.literal(name) {
            return Ok(found?);
        }
        let has_dot = name.contains('.');
        if self.policy.opens_port(self.gate.port()) {
            // As written, a name is also looked for in the hosts file and in search domains. Whoever opened a
            // network means the names it has there; everybody else gets only what public DNS says.
            let found = self.names.look_up(name).await;
            let is_inside = |ip: &IpAddr| self.policy.inside(*ip, self.gate.port());
            if let Ok(found) = &found
                && !found.is_empty()
                && found.iter().all(is_inside)
            {
                return Ok(vet(&self.policy, self.gate, found.clone())?);
            }
            if !has_dot {
                return Ok(vet(&self.policy, self.gate, some(found?)?)?);
            }
        }
        // The dot at the end keeps the search domains out.
        let qualified = format!("{name}.");
        Ok(vet(&self.policy, self.gate, some(self.names.look_up(&qualified).await?)?)?)
    }
}

impl Resolve for GateResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = timeout(LOOKUP_TIMEOUT, resolver.addresses(name.as_str()));
            let found = found.await.map_err(|_| DnsFailure::NoAnswer)??;
            // Port 0 tells the client to fill in the address's own.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

fn some(found: Vec<IpAddr>) -> Result<Vec<IpAddr>, DnsFailure> {
    if found.is_empty() { Err(DnsFailure::NoAddress) } else { Ok(found) }
}

fn vet(policy: &EgressPolicy, gate: Gate, mut found: Vec<IpAddr>) -> Result<Vec<IpAddr>, ForbiddenAddress> {
    if let Some(ip) = found.iter().find(|ip| !gate.permits(policy, **ip)) {
        return Err(ForbiddenAddress { ip: *ip });
    }
    found.truncate(ADDRESSES_MAX);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::policy::EgressRules;

    fn policy(allow: &[&str]) -> Arc<EgressPolicy> {
        let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
        Arc::new(EgressPolicy::new(EgressRules { allow, ..EgressRules::default() }))
    }

    fn vetted(allow: &[&str], inside_only: bool, port: Option<u16>, found: &[&str]) -> Result<usize, IpAddr> {
        let found = found.iter().map(|ip| ip.parse().unwrap()).collect();
        vet(&policy(allow), Gate { inside_only, port }, found)
            .map(|vetted| vetted.len())
            .map_err(|error| error.ip)
    }

    #[test]
    fn one_forbidden_address_spoils_the_answer() {
        assert_eq!(vetted(&[], false, None, &["8.8.8.8", "2001:4860:4860::8888"]), Ok(2));
        for forbidden in
            ["10.0.0.1", "127.0.0.1", "::1", "0.0.0.0", "::ffff:169.254.169.254", "64:ff9b::7f00:1"]
        {
            let ip = forbidden.parse().unwrap();
            assert_eq!(vetted(&[], false, None, &["8.8.8.8", forbidden]), Err(ip));
            assert_eq!(vetted(&["192.168.0.0/16"], false, None, &[forbidden, "8.8.8.8"]), Err(ip));
        }
        let many = ["8.8.8.8"; 1_000];
        assert_eq!(vetted(&[], false, None, &many), Ok(16));
        let mut many = many;
        many[999] = "10.0.0.1";
        assert_eq!(vetted(&[], false, None, &many), Err("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_gate_permits_what_its_port_and_kind_permit() {
        let allow = ["10.0.0.0/8:9000", "192.168.0.0/16"];
        assert_eq!(vetted(&allow, false, None, &["192.168.1.1", "8.8.8.8"]), Ok(2));
        assert_eq!(vetted(&allow, true, None, &["192.168.1.1"]), Ok(1));
        assert_eq!(vetted(&allow, true, None, &["8.8.8.8"]), Err("8.8.8.8".parse().unwrap()));
        assert_eq!(vetted(&allow, false, None, &["10.0.0.1"]), Err("10.0.0.1".parse().unwrap()));
        assert_eq!(vetted(&allow, true, Some(9000), &["10.0.0.1", "192.168.1.1"]), Ok(2));

        let policy = policy(&allow);
        let gate = |raw| Gate::of(&policy.judge(raw).unwrap(), &policy);
        assert_eq!(gate("https://example.com/"), Gate { inside_only: false, port: None });
        assert_eq!(gate("https://receiver.internal:9000/"), Gate { inside_only: true, port: Some(9000) });
        assert_eq!(gate("http://receiver:1234/"), Gate { inside_only: true, port: None });
    }

    #[tokio::test]
    async fn names_of_the_hosts_file_are_found_only_where_something_is_opened() {
        let resolve = async |allow: &[&str], inside_only, name: &str| {
            let gate = Gate { inside_only, port: None };
            let resolver = GateResolver::new(policy(allow), gate, Names::new(&[]).unwrap());
            let found = resolver.resolve(name.parse().unwrap()).await;
            found.map(|found| found.map(|found| (found.ip().is_loopback(), found.port())).collect::<Vec<_>>())
        };
        let found = resolve(&["127.0.0.0/8", "::1"], true, "localhost").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|found| *found == (true, 0)));

        for (allow, inside_only) in
            [(&[][..], false), (&["10.0.0.0/8"][..], false), (&["10.0.0.0/8"][..], true)]
        {
            let error = resolve(allow, inside_only, "localhost").await.unwrap_err();
            assert!(error.downcast::<ForbiddenAddress>().unwrap().ip.is_loopback());
        }
    }

    #[tokio::test]
    async fn what_a_hosts_file_says_is_judged_like_any_answer() {
        let hosts_file = b"127.0.0.7 hook.shop.com hook\n8.8.8.8 outside.shop.com\n";
        // Nobody listens there: what is not in the file is not found.
        let names = Names::of_files(b"search shop.com\nnameserver 127.0.0.254", hosts_file).unwrap();
        let resolve = async |allow: &[&str], inside_only, name: &str| {
            let resolver = GateResolver::new(policy(allow), Gate { inside_only, port: None }, names.clone());
            let found = resolver.resolve(name.parse().unwrap()).await?;
            Ok(found.map(|found| found.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(resolve(&[], false, "outside.shop.com").await.unwrap(), ["8.8.8.8"]);
        assert_eq!(resolve(&["127.0.0.7"], true, "hook").await.unwrap(), ["127.0.0.7"]);
        for (allow, inside_only, name) in [
            (&[][..], false, "hook.shop.com"),
            (&["127.0.0.8"][..], false, "hook.shop.com"),
            (&["127.0.0.8"][..], true, "hook"),
        ] {
            let error: Box<dyn std::error::Error + Send + Sync> =
                resolve(allow, inside_only, name).await.unwrap_err();
            assert_eq!(error.downcast::<ForbiddenAddress>().unwrap().ip.to_string(), "127.0.0.7", "{name}");
        }
    }
}
