//! The HTTP clients, set up once and kept: one for each gate. Called by the sender alone.
//!
//! None follows a redirect, repeats a request, decompresses or takes a proxy from the environment. To them the
//! operator's proxy speaks SOCKS5, over a bridge if need be: it is asked for addresses that our own resolver has judged,
//! never for names.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;

use super::{
    destination::Destination,
    names::Names,
    policy::{Address, EgressPolicy},
    resolver::{Gate, GateResolver},
};
use crate::domain::egress_proxy::{Credentials, ProxyServer};

const ANSWER_HEADERS_MAX: usize = 64;
const HTTP2_HEADER_BYTES_MAX: u32 = 16 * 1024;
/// What an HTTP/2 receiver may send ahead of our reading: as little as the protocol starts with, per stream.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024 - 1;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const IDLE_CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub struct SenderConfig {
    pub policy: EgressPolicy,
    /// From the first lookup to the end of the answer.
    pub attempt_timeout: Duration,
    /// Lookup, TCP and TLS.
    pub connect_timeout: Duration,
    pub user_agent: String,
    /// PEM; trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Asked for addresses instead of whomever the system asks, where there are any.
    pub name_servers: Vec<SocketAddr>,
    /// A SOCKS5 proxy through which every request goes.
    pub proxy: Option<ProxyServer>,
    /// Idle connections kept per host.
    pub host_window: usize,
}

#[derive(Debug, Error)]
pub enum SetupError {
    #[error("cannot read the root certificates in {}", path.display())]
    CaFile { path: PathBuf, source: io::Error },
    #[error("no root certificate in {}", path.display())]
    CaFormat { path: PathBuf, source: Option<reqwest::Error> },
    #[error("cannot set up the resolver: {0}")]
    Resolver(String),
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

#[derive(Debug)]
pub struct Clients {
    policy: Arc<EgressPolicy>,
    config: SenderConfig,
    roots: Vec<reqwest::Certificate>,
    names: Names,
    /// At most two for every port that the allow list names, and two for the rest.
    clients: Mutex<HashMap<Gate, reqwest::Client>>,
}

impl Clients {
    pub fn new(config: SenderConfig) -> Result<Self, SetupError> {
        let clients = Self {
            policy: Arc::new(config.policy.clone()),
            roots: config.ca_file.as_ref().map_or(Ok(Vec::new()), read_roots)?,
            names: Names::new(&config.name_servers)
                .map_err(|error| SetupError::Resolver(error.to_string()))?,
            config,
            clients: Mutex::default(),
        };
        // The one that is surely needed, and shows whether the configuration works.
        clients.client(Gate { inside_only: false, port: None }).map_err(SetupError::Client)?;
        Ok(clients)
    }

    pub fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    pub fn of(&self, address: &Address) -> Result<reqwest::Client, reqwest::Error> {
        self.client(Gate::of(address, &self.policy))
    }

    /// Where the connection of an answer led. Through a proxy nobody tells.
    pub fn reached(&self, response: &reqwest::Response, address: &Address) -> Option<Destination> {
        let peer = response.remote_addr().filter(|_| self.config.proxy.is_none())?;
        Some(self.policy.destination(peer.ip(), address.port()))
    }

    fn client(&self, gate: Gate) -> Result<reqwest::Client, reqwest::Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&gate) {
            return Ok(client.clone());
        }
        let client = self.build(gate)?;
        clients.insert(gate, client.clone());
        Ok(client)
    }

    fn build(&self, gate: Gate) -> Result<reqwest::Client, reqwest::Error> {
        #[expect(clippy::disallowed_methods, reason = "the one gate to the outside")]
        let builder = reqwest::Client::builder();
        let builder = match &self.config.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(socks5_url(proxy))?),
            None => builder.no_proxy(),
        };
        builder
            .dns_resolver(GateResolver::new(Arc::clone(&self.policy), gate, self.names.clone()))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(&self.config.user_agent)
            .timeout(self.config.attempt_timeout)
            .connect_timeout(self.config.connect_timeout)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(self.config.host_window)
            .pool_idle_timeout(IDLE_CONNECTION_TIME_MAX)
            .http1_max_headers(ANSWER_HEADERS_MAX)
            .http2_max_header_list_size(HTTP2_HEADER_BYTES_MAX)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .tls_certs_merge(self.roots.iter().cloned())
            .build()
    }
}

/// `socks5h` would have the proxy look names up by itself, past the policy.
fn socks5_url(ProxyServer { address, credentials }: &ProxyServer) -> String {
    match credentials {
        Some(Credentials { user, password }) => {
            let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
            format!("socks5://{}:{}@{address}", encoded(user), encoded(password.reveal()))
        }
        None => format!("socks5://{address}"),
    }
}

pub(super) fn read_roots(path: &PathBuf) -> Result<Vec<reqwest::Certificate>, SetupError> {
    let pem = std::fs::read(path).map_err(|source| SetupError::CaFile { path: path.clone(), source })?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        other => Err(SetupError::CaFormat { path: path.clone(), source: other.err() }),
    }
}
