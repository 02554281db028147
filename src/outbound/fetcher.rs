//! Asks services that the operator named: an issuer's key set, whoever authorizes. Called by `app` alone.
//!
//! The policy of [`EgressPolicy`] is for addresses that strangers give. A URL in the settings is the operator's own
//! word, so by `https:` it may lead anywhere: the certificate says who answers. What is not encrypted may go only where
//! the policy lets it, which in one's own network means where `EGRESS_ALLOW` opened it.
//!
//! One call is one request: no redirect is followed, no proxy taken from the environment, nothing tried again; the
//! answer is bounded in size and time.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use thiserror::Error;
use url::Url;

use super::{
    client::{SetupError, read_roots},
    names::Names,
    policy::{EgressPolicy, Refusal},
    resolver::{Gate, GateResolver},
};

const ANSWER_HEADERS_MAX: usize = 64;
/// Idle connections kept to the one host.
const IDLE_CONNECTIONS: usize = 4;

#[derive(Clone, Debug)]
pub struct FetcherConfig {
    pub url: Url,
    pub policy: EgressPolicy,
    /// Asked for addresses instead of whomever the system asks, where there are any.
    pub name_servers: Vec<SocketAddr>,
    pub user_agent: String,
    /// PEM; trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// From the lookup to the end of the answer.
    pub timeout: Duration,
    pub answer_bytes_max: usize,
}

#[derive(Debug, Error)]
pub enum FetcherError {
    #[error("{url} is not encrypted, and its network is not opened with WATCHPOST_EGRESS_ALLOW")]
    NotAllowed {
        url: Url,
        #[source]
        refusal: Refusal,
    },
    #[error(transparent)]
    Setup(#[from] SetupError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    #[error("no answer")]
    NoAnswer,
    #[error("no answer in time")]
    Timeout,
    #[error("the answer is too large")]
    TooLarge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub status: u16,
    pub body: Bytes,
}

/// Speaks with one URL.
pub struct Fetcher {
    client: reqwest::Client,
    url: Url,
    answer_bytes_max: usize,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetcher({})", self.url.host_str().unwrap_or_default())
    }
}

impl Fetcher {
    pub fn new(config: FetcherConfig) -> Result<Self, FetcherError> {
        #[expect(clippy::disallowed_methods, reason = "the other half of the one gate to the outside")]
        let builder = reqwest::Client::builder();
        let roots = config.ca_file.as_ref().map_or(Ok(Vec::new()), read_roots)?;
        let builder = builder
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(&config.user_agent)
            .timeout(config.timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_headers(ANSWER_HEADERS_MAX)
            .tls_certs_merge(roots);
        let builder = if config.url.scheme() == "https" {
            builder.https_only(true)
        } else {
            let address = config
                .policy
                .judge(config.url.as_str())
                .map_err(|refusal| FetcherError::NotAllowed { url: config.url.clone(), refusal })?;
            let gate = Gate::of(&address, &config.policy);
            let names =
                Names::new(&config.name_servers).map_err(|error| SetupError::Resolver(error.to_string()))?;
            builder.dns_resolver(GateResolver::new(Arc::new(config.policy), gate, names))
        };
        let client = builder.build().map_err(SetupError::Client)?;
        Ok(Self { client, url: config.url, answer_bytes_max: config.answer_bytes_max })
    }

    pub async fn get(&self) -> Result<Fetched, FetchError> {
        self.send(self.client.get(self.url.clone())).await
    }

    /// Posts JSON, with the value of an `Authorization` header.
    pub async fn post(&self, authorization: &str, json: String) -> Result<Fetched, FetchError> {
        let mut authorization = HeaderValue::from_str(authorization).map_err(|_| FetchError::NoAnswer)?;
        authorization.set_sensitive(true);
        let request = self.client.post(self.url.clone()).header(AUTHORIZATION, authorization);
        self.send(request.header(CONTENT_TYPE, "application/json").body(json)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Fetched, FetchError> {
        let mut response =
            request.header(ACCEPT, "application/json").send().await.map_err(|error| failure(&error))?;
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > self.answer_bytes_max {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { status, body: body.freeze() })
    }
}

fn failure(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() { FetchError::Timeout } else { FetchError::NoAnswer }
}
