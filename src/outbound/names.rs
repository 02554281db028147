//! Asks name servers for the addresses of a name. Called by the resolver's gates alone, which decide what may be
//! done with an answer; nothing is judged here.
//!
//! Without name servers of its own it asks as the system does: first the hosts file, then the name servers and
//! search domains of `resolv.conf`, both read again whenever they change. Nothing is remembered between lookups,
//! however long an answer wants to live: what a name meant a minute ago is no reason to connect there now.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use thiserror::Error;
use tokio::sync::Semaphore;

const DNS_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Lookups under way, over all gates. Each asks for two kinds of address.
const LOOKUPS_MAX: usize = 128;
const QUESTIONS_EACH: usize = 2;
/// For one question to one name server, after which the next is asked.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
const REPEATS_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum DnsFailure {
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// No answer, or none of use: the resolver's failure and so ours, not the receiver's.
    #[error("the resolver did not answer")]
    NoAnswer,
}

/// Who is asked.
#[derive(Debug)]
enum Source {
    /// What the system's files said when they were last read.
    System(Mutex<Option<System>>),
    Servers(Arc<Asked>),
}

#[derive(Debug)]
struct System {
    stamp: [Option<SystemTime>; 2],
    asked: Arc<Asked>,
}

/// Name servers, and a table that goes before them.
struct Asked {
    servers: TokioResolver,
    hosts: Hosts,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

/// Shared by all gates.
#[derive(Clone, Debug)]
pub struct Names {
    source: Arc<Source>,
    lookups: Arc<Semaphore>,
}

impl Names {
    /// As the system does where there are no `servers`; else these alone are asked, and no file.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let source = if servers.is_empty() {
            Source::System(Mutex::default())
        } else {
            let asked = Asked::new(config_of(servers), ResolverOpts::default(), Hosts::default())?;
            Source::Servers(Arc::new(asked))
        };
        Ok(Self::from_source(source))
    }

    /// As the system does where its files say this.
    #[cfg(test)]
    pub fn of_files(resolv_conf: &[u8], hosts_file: &[u8]) -> Result<Self, NetError> {
        Ok(Self::from_source(Source::Servers(Arc::new(Asked::of_system(resolv_conf, hosts_file)?))))
    }

    fn from_source(source: Source) -> Self {
        Self { source: Arc::new(source), lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// All addresses of `name`. One that ends with a dot is looked for nowhere but under that name.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let asked = self.source.asked().map_err(|error| {
            tracing::warn!(%error, "the system's resolver configuration cannot be used");
            DnsFailure::NoAnswer
        })?;
        let _permit = self.lookups.acquire().await.map_err(|_| DnsFailure::NoAnswer)?;
        asked.addresses(name).await
    }
}

impl Source {
    fn asked(&self) -> Result<Arc<Asked>, NetError> {
        let system = match self {
            Self::Servers(asked) => return Ok(Arc::clone(asked)),
            Self::System(system) => system,
        };
        let stamp = [RESOLV_CONF, HOSTS].map(changed_at);
        let mut system = system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = system.as_ref().filter(|known| known.stamp == stamp) {
            return Ok(Arc::clone(&known.asked));
        }
        let asked = Arc::new(Asked::of_system(&read(RESOLV_CONF)?, &read(HOSTS)?)?);
        *system = Some(System { stamp, asked: Arc::clone(&asked) });
        Ok(asked)
    }
}

impl Asked {
    fn new(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Result<Self, NetError> {
        options.timeout = QUESTION_TIMEOUT;
        options.attempts = REPEATS_MAX;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        options.max_active_requests = LOOKUPS_MAX * QUESTIONS_EACH;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { servers: builder.build()?, hosts })
    }

    fn of_system(resolv_conf: &[u8], hosts_file: &[u8]) -> Result<Self, NetError> {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(hosts_file)?;
        // Without a name server the system asks one on this host.
        let (config, options) = parse_resolv_conf(resolv_conf).unwrap_or_else(|_| {
            (config_of(&[SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))]), ResolverOpts::default())
        });
        Self::new(config, options, hosts)
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        // What cannot be written in DNS has no address there.
        let name = Name::from_ascii(name).map_err(|_| DnsFailure::NoAddress)?;
        let known = self.of_hosts(&name);
        if !known.is_empty() {
            return Ok(known);
        }
        match self.servers.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) => Err(failure_of(&error)),
        }
    }

    fn of_hosts(&self, name: &Name) -> Vec<IpAddr> {
        let of_type = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of_type);
        found
            .flat_map(|found| found.answers().iter().filter_map(|it| it.data.ip_addr()).collect::<Vec<_>>())
            .collect()
    }
}

fn config_of(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        server.connections.iter_mut().for_each(|connection| connection.port = address.port());
        server
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

fn changed_at(path: &str) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// A file that is not there says nothing.
fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Only a name server that says so makes a name have no address. All else is a failure on our side of it.
fn failure_of(error: &NetError) -> DnsFailure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            ..
        })) => DnsFailure::NoAddress,
        _ => DnsFailure::NoAnswer,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    const HOSTS_FILE: &str = "127.0.0.7 hook.shop.com hook # inside\n::7 hook.shop.com\n10.0.0.9 other\n";

    #[tokio::test]
    async fn the_hosts_file_goes_first_and_nobody_else_is_asked() {
        // Nobody listens there.
        let asked = Asked::of_system(b"nameserver 127.0.0.254", HOSTS_FILE.as_bytes()).unwrap();
        let found = asked.addresses("hook.shop.com.").await.unwrap();
        assert_eq!(found, ["127.0.0.7".parse::<IpAddr>().unwrap(), "::7".parse().unwrap()]);
        assert_eq!(asked.addresses("HOOK").await.unwrap(), ["127.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(asked.addresses("a..b").await, Err(DnsFailure::NoAddress));
    }

    #[tokio::test]
    async fn a_dot_at_the_end_keeps_search_domains_out() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let resolv_conf = b"search inside.shop.com\nnameserver 127.0.0.1\noptions ndots:2";
        let (config, options) = parse_resolv_conf(resolv_conf).unwrap();
        let (domain, search, _) = config.into_parts();
        let servers = config_of(&[server.local_addr().unwrap()]);
        let config = ResolverConfig::from_parts(domain, search, servers.name_servers().to_vec());
        let asked = Asked::new(config, options, Hosts::default()).unwrap();

        let mut names = Vec::new();
        let lookups = async {
            assert_eq!(asked.addresses("hook.shop.com.").await, Err(DnsFailure::NoAddress));
            assert_eq!(asked.addresses("intranet").await, Err(DnsFailure::NoAddress));
        };
        let answers = async {
            let mut bytes = [0; 512];
            loop {
                let (length, peer) = server.recv_from(&mut bytes).await.unwrap();
                let name: Vec<u8> =
                    bytes[12..length].iter().take_while(|byte| **byte != 0).copied().collect();
                names.push(String::from_utf8_lossy(&name).replace(|letter| letter < ' ', "."));
                // A response, and no such name.
                (bytes[2], bytes[3]) = (0x85, 0x83);
                // Without what EDNS adds, which a plain answer does not repeat.
                bytes[11] = 0;
                server.send_to(&bytes[..12 + name.len() + 5], peer).await.unwrap();
            }
        };
        tokio::select! {
            () = lookups => {}
            () = answers => unreachable!(),
        }
        names.dedup();
        assert!(names.contains(&".intranet.inside.shop.com".to_owned()), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with(".hook.shop.com.inside")), "{names:?}");
    }

    #[test]
    fn a_failing_name_server_is_not_a_name_without_an_address() {
        let nothing = |code| NetError::from(NoRecords::new(Query::default(), code));
        assert_eq!(failure_of(&nothing(ResponseCode::NXDomain)), DnsFailure::NoAddress);
        assert_eq!(failure_of(&nothing(ResponseCode::NoError)), DnsFailure::NoAddress);
        assert_eq!(failure_of(&nothing(ResponseCode::ServFail)), DnsFailure::NoAnswer);
        assert_eq!(failure_of(&DnsError::ResponseCode(ResponseCode::Refused).into()), DnsFailure::NoAnswer);
        assert_eq!(failure_of(&NetError::Timeout), DnsFailure::NoAnswer);
    }
}
