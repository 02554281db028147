//! Sends one request and says what came of it. Called by the engine's deliveries alone.
//!
//! One call is at most one request: nothing is re-sent, no redirect followed, no proxy taken from the environment,
//! no body decompressed, and nothing remembered between requests but open connections. [`Sender::send`] never
//! fails otherwise than with a [`SendError`], and takes no longer than the attempt timeout.

use std::{error::Error, io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    client::{Clients, SenderConfig, SetupError},
    destination::Destination,
    names::DnsFailure,
    policy::{Address, EgressPolicy, Refusal},
    resolver::ForbiddenAddress,
};
use crate::{clock::Clock, domain::consent::NO_CONSENT};

/// How much of an answer's body is read, and for how long, so that the connection can be used again. Whoever has
/// more to say loses the connection.
const DRAIN_BYTES_MAX: usize = 16 * 1024;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
const EXCERPT_BYTES_MAX: usize = 1024;
/// Of a header that says one thing.
const SHORT_BYTES_MAX: usize = 128;
const LOCATION_BYTES_MAX: usize = 4 * 1024;

const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");

/// They decide where a request goes and where it ends, so no caller does.
const OWN_HEADERS: [HeaderName; 9] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

#[derive(Debug)]
pub struct Request<'a> {
    pub address: &'a Address,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The header's text, if there is exactly one and it is short.
    pub retry_after: Option<String>,
    /// Where a redirect points, as it was written. Never followed here.
    pub location: Option<String>,
    /// Whom CloudEvents' question is answered to be allowed, if there is exactly one and it is short.
    pub allowed_origin: Option<String>,
    /// How long status line and headers took; the rest of the attempt went into the body.
    pub answered_after: Duration,
    /// What came of the body within a second, up to 1 KiB.
    pub body_excerpt: Bytes,
    /// Where the connection led, where that is known.
    pub reached: Option<Destination>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Lookup, TCP, TLS.
    Connect,
    /// The request is out, or on its way.
    Answer,
}

/// Why there is no answer. What is ours to mend is told apart by [`is_ours`](Self::is_ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum SendError {
    /// Nothing was sent, nothing was connected to.
    #[error("{0}")]
    Forbidden(Refusal),
    #[error("{0}")]
    Dns(DnsFailure),
    #[error("no connection")]
    Connect,
    #[error("no TLS session")]
    Tls {
        /// The certificate is at fault, which the owner should hear.
        certificate: bool,
    },
    #[error("no answer in time")]
    Timeout { phase: Phase },
    /// It was asked whether it wants notifications, and did not say so.
    #[error("the receiver has not agreed to receive")]
    NoConsent,
    #[error("the answer is not HTTP, or too large")]
    BadHttp,
    #[error("the connection ended before the answer")]
    Reset,
    /// No descriptor, no port, no memory.
    #[error("this node could not send")]
    Local,
}

impl SendError {
    /// A failure on this side, which is never charged to the channel.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Local | Self::Dns(DnsFailure::NoAnswer))
    }

    /// A stable word for the record of attempts.
    pub fn code(self) -> &'static str {
        match self {
            Self::Forbidden(_) => "target_not_allowed",
            Self::Dns(DnsFailure::NoAddress) => "dns_no_address",
            Self::Dns(DnsFailure::NoAnswer) => "dns_no_answer",
            Self::Connect => "connect_failed",
            Self::Tls { certificate: true } => "tls_certificate",
            Self::Tls { certificate: false } => "tls_failed",
            Self::Timeout { phase: Phase::Connect } => "connect_timeout",
            Self::Timeout { phase: Phase::Answer } => "answer_timeout",
            Self::NoConsent => NO_CONSENT,
            Self::BadHttp => "bad_http",
            Self::Reset => "reset",
            Self::Local => "local_failure",
        }
    }
}

#[derive(Debug)]
pub struct Sender {
    clients: Clients,
}

impl Sender {
    pub fn new(config: SenderConfig) -> Result<Self, SetupError> {
        Ok(Self { clients: Clients::new(config)? })
    }

    pub fn policy(&self) -> &EgressPolicy {
        self.clients.policy()
    }

    /// A `POST`. Durations are those of the caller's `clock`.
    pub async fn send(&self, request: Request<'_>, clock: &dyn Clock) -> Result<Answer, SendError> {
        self.ask(Method::POST, request, clock).await
    }

    /// Any method.
    pub async fn ask(
        &self,
        method: Method,
        request: Request<'_>,
        clock: &dyn Clock,
    ) -> Result<Answer, SendError> {
        let address = request.address;
        let started = clock.monotonic();
        // The client asks no resolver for these.
        if let Some(ip) = address.literal()
            && !self.policy().permits(ip, address.port())
        {
            return Err(forbidden(address, ip));
        }
        let client = self.clients.of(address).map_err(|error| failure(address, &error))?;
        let headers = own_headers(request.headers, request.body.len());
        let sent =
            client.request(method, address.url().clone()).headers(headers).body(request.body).send().await;
        let mut response = sent.map_err(|error| failure(address, &error))?;

        let answered_after = clock.monotonic().saturating_sub(started);
        let status = response.status().as_u16();
        let retry_after = short(response.headers(), &RETRY_AFTER);
        let allowed_origin = short(response.headers(), &ALLOWED_ORIGIN);
        let location = location(response.headers());
        let reached = self.clients.reached(&response, address);
        let mut excerpt = BytesMut::new();
        // The answer stands, whatever becomes of its body.
        let _ = timeout(DRAIN_TIME_MAX, drain(&mut response, &mut excerpt)).await;
        Ok(Answer {
            status,
            retry_after,
            location,
            allowed_origin,
            answered_after,
            body_excerpt: excerpt.freeze(),
            reached,
        })
    }
}

fn own_headers(mut headers: HeaderMap, body_bytes: usize) -> HeaderMap {
    for name in &OWN_HEADERS {
        headers.remove(name);
    }
    // The client leaves it out where the body is empty, and some receivers then answer 411.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body_bytes));
    headers
}

fn short(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|value| value.len() <= SHORT_BYTES_MAX)?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::to_owned)
}

fn location(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(LOCATION).filter(|value| value.len() <= LOCATION_BYTES_MAX)?;
    value.to_str().ok().map(str::to_owned)
}

/// Reads the body to its end so that the connection can be used again, or as far as it may.
async fn drain(response: &mut reqwest::Response, excerpt: &mut BytesMut) {
    let length = response.content_length();
    // Of what is too long to be drained anyway, the excerpt alone is of use.
    let is_short =
        length.is_none_or(|length| usize::try_from(length).is_ok_and(|length| length <= DRAIN_BYTES_MAX));
    let bytes_max = if is_short { DRAIN_BYTES_MAX } else { EXCERPT_BYTES_MAX };
    let mut read = 0_usize;
    while length != Some(0) && read < bytes_max {
        let Ok(Some(chunk)) = response.chunk().await else { return };
        let room = EXCERPT_BYTES_MAX.saturating_sub(excerpt.len()).min(chunk.len());
        excerpt.extend_from_slice(&chunk.slice(..room));
        read = read.saturating_add(chunk.len());
    }
}

fn forbidden(address: &Address, ip: std::net::IpAddr) -> SendError {
    tracing::warn!(
        address.origin = address.origin().as_str(),
        address.ip = %ip,
        "nothing was sent: the address is not permitted"
    );
    SendError::Forbidden(Refusal::AddressNotAllowed)
}

fn failure(address: &Address, error: &reqwest::Error) -> SendError {
    let links = chain(error);
    if let Some(ForbiddenAddress { ip }) = links.iter().find_map(|link| link.downcast_ref()) {
        return forbidden(address, *ip);
    }
    classify(error, &links)
}

fn classify(error: &reqwest::Error, links: &[&(dyn Error + 'static)]) -> SendError {
    if let Some(failure) = links.iter().find_map(|link| link.downcast_ref::<DnsFailure>()) {
        return SendError::Dns(*failure);
    }
    let io_errors = || links.iter().filter_map(|link| link.downcast_ref::<io::Error>());
    if error.is_builder() || io_errors().any(is_exhausted) {
        return SendError::Local;
    }
    if let Some(tls) = links.iter().find_map(|link| link.downcast_ref::<rustls::Error>()) {
        return SendError::Tls { certificate: matches!(tls, rustls::Error::InvalidCertificate(_)) };
    }
    if error.is_timeout() {
        let phase = if error.is_connect() { Phase::Connect } else { Phase::Answer };
        return SendError::Timeout { phase };
    }
    if error.is_connect() {
        // TCP alone never ends early: the peer hung up on the handshake.
        let hung_up = io_errors().any(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        return if hung_up { SendError::Tls { certificate: false } } else { SendError::Connect };
    }
    let is_bad = |link: &&(dyn Error + 'static)| link.downcast_ref().is_some_and(hyper::Error::is_parse);
    if links.iter().any(is_bad) { SendError::BadHttp } else { SendError::Reset }
}

/// The error and its causes, also those that an [`io::Error`] wraps and, as a source, would skip.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    const LINKS_MAX: usize = 32;
    let mut links = Vec::new();
    let mut next = Some(error);
    while let Some(link) = next.filter(|_| links.len() < LINKS_MAX) {
        links.push(link);
        let wrapped = link.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => link.source(),
        };
    }
    links
}

/// Descriptors, ports or memory have run out here.
fn is_exhausted(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
        || matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
}

#[cfg(test)]
mod tests;
