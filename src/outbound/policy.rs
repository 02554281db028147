//! Decides where requests may go. Pure: it resolves no name and opens no socket.
//!
//! [`EgressPolicy::judge`] is the only way to an [`Address`], and whoever takes an address from outside calls it: the
//! use cases that open and change channels, and the engine for each address that it reads back. What only DNS can tell
//! is asked again at every send, by the resolver for names and by the sender for IP literals, through
//! [`EgressPolicy::permits`].
//!
//! The text is parsed once, by the same parser the client uses, and only the parsed form travels on: a checker
//! and a client that read a text differently are how such gates are usually passed.

mod places;

#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Host, Url};

use self::places::{is_forbidden_name, is_metadata, is_public, is_unused_name};
use super::destination::Destination;
use crate::domain::egress::{AllowRule, Ports};

/// Longer texts are no receiver's address, and some proxies refuse them.
const ADDRESS_BYTES_MAX: usize = 2048;
/// RFC 1035, 2.3.4.
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 253;
/// The ports towards public addresses unless the operator says otherwise.
const PORTS_DEFAULT: [u16; 2] = [443, 8443];
const HTTP_PORT: u16 = 80;

/// What the operator allows.
#[derive(Clone, Debug)]
pub struct EgressRules {
    /// Opened beside public addresses; inside it `http`, `ports` and `ip_literals` do not matter.
    pub allow: Vec<AllowRule>,
    /// Plain `http:` towards public addresses, on port 80 and on `ports`.
    pub http: bool,
    pub ports: Ports,
    pub ip_literals: bool,
}

impl Default for EgressRules {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            http: false,
            ports: Ports::Only(PORTS_DEFAULT.to_vec()),
            ip_literals: false,
        }
    }
}

/// Why an address is refused. Its [`Display`](fmt::Display) is the same for all, as is all that a stranger learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    TooLong,
    BadCharacters,
    Unparsable,
    NoHost,
    UserInfo,
    Fragment,
    SchemeNotAllowed,
    NotHttps,
    PortNotAllowed,
    NameNotAllowed,
    LiteralNotAllowed,
    AddressNotAllowed,
}

impl Refusal {
    /// The setting that would open such an address. For the operator's log only.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::NotHttps => Some("WATCHPOST_EGRESS_HTTP"),
            Self::PortNotAllowed => Some("WATCHPOST_EGRESS_PORTS"),
            Self::LiteralNotAllowed => Some("WATCHPOST_EGRESS_IP_LITERALS"),
            Self::NameNotAllowed | Self::AddressNotAllowed => Some("WATCHPOST_EGRESS_ALLOW"),
            Self::TooLong
            | Self::BadCharacters
            | Self::Unparsable
            | Self::NoHost
            | Self::UserInfo
            | Self::Fragment
            | Self::SchemeNotAllowed => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address is not allowed as a receiver")
    }
}

impl std::error::Error for Refusal {}

/// Scheme, host and port, as `https://host:port`: what requests share a window, and connections, by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    text: Arc<str>,
    destination: Destination,
}

impl Origin {
    /// An origin by its text: for what has no address that a policy let through.
    pub fn named(text: &str) -> Self {
        Self { text: text.into(), destination: Destination::Inside }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What a rate counts it as, as far as its text tells.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An address that [`EgressPolicy::judge`] let through, in the form in which it is stored and used.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    origin: Origin,
    literal: Option<IpAddr>,
    port: u16,
    must_be_inside: bool,
}

impl Address {
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The IP address, where the host is one.
    pub fn literal(&self) -> Option<IpAddr> {
        self.literal
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Accepted only because its name may turn out to lie inside the allow list, which every send makes sure of.
    pub fn must_be_inside(&self) -> bool {
        self.must_be_inside
    }
}

/// Without path and query, which may be secrets.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("origin", &self.origin.as_str())
            .field("must_be_inside", &self.must_be_inside)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    rules: EgressRules,
}

impl EgressPolicy {
    pub fn new(mut rules: EgressRules) -> Self {
        // No request goes to port 0, so that it can stand for every port without a rule of its own.
        rules.allow.retain(|rule| rule.port != Some(0));
        Self { rules }
    }

    /// Whether a request may be addressed to `raw`. Resolves no name.
    pub fn judge(&self, raw: &str) -> Result<Address, Refusal> {
        check_text(raw)?;
        let mut url = Url::parse(raw).map_err(|error| match error {
            url::ParseError::EmptyHost => Refusal::NoHost,
            _ => Refusal::Unparsable,
        })?;
        let encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(Refusal::SchemeNotAllowed),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        strip_trailing_dot(&mut url)?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(Refusal::PortNotAllowed)?;

        let towards_public = self.judge_scheme_and_port(encrypted, port);
        let (literal, must_be_inside) = match url.host().ok_or(Refusal::NoHost)? {
            Host::Ipv4(ip) => (Some(self.judge_literal(ip.into(), port, towards_public)?), false),
            Host::Ipv6(ip) => (Some(self.judge_literal(ip.into(), port, towards_public)?), false),
            Host::Domain(name) => (None, self.judge_name(name, port, towards_public)?),
        };
        let destination = match literal {
            Some(ip) => self.destination(ip, port),
            None if must_be_inside => Destination::Inside,
            None => Destination::of_name(url.host_str().unwrap_or_default()),
        };
        Address::of(url, port, literal, must_be_inside, destination)
    }

    /// Where a redirect from `from` points, which is judged like any other address. A reference may be relative, so the
    /// parser is needed before the address is whole; what it would repair is refused ahead of it.
    pub fn judge_redirect(&self, from: &Address, location: &str) -> Result<Address, Refusal> {
        let has_host = location.starts_with("//") || Url::parse(location).is_ok();
        if has_host { check_text(location) } else { check_letters(location) }?;
        let to = from.url().join(location).map_err(|_| Refusal::Unparsable)?;
        self.judge(to.as_str())
    }

    /// The setting that would open `raw`, which was refused as `refusal`. For the operator's log only.
    pub fn opened_by(&self, raw: &str, refusal: Refusal) -> Option<&'static str> {
        let url = Url::parse(raw).ok();
        let is_local = match url.as_ref().and_then(Url::host) {
            Some(Host::Ipv4(ip)) => !is_public(ip.into()),
            Some(Host::Ipv6(ip)) => !is_public(ip.into()),
            Some(Host::Domain(name)) => is_forbidden_name(name),
            None => false,
        };
        // Plain http, another port or a literal is fine towards what the operator opens by its network.
        refusal.setting().map(|setting| if is_local { "WATCHPOST_EGRESS_ALLOW" } else { setting })
    }

    /// Whether a connection to this address may be opened.
    pub fn permits(&self, ip: IpAddr, port: u16) -> bool {
        is_public(ip) || self.inside(ip, port)
    }

    /// Whether the operator opened this address at this port.
    pub fn inside(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        let exactly = is_metadata(ip);
        self.rules.allow.iter().any(|rule| {
            rule.permits(ip, port) && (!exactly || rule.network.prefix_len() == rule.network.max_prefix_len())
        })
    }

    /// What a rate counts this address as.
    pub fn destination(&self, ip: IpAddr, port: u16) -> Destination {
        if self.inside(ip, port) { Destination::Inside } else { Destination::of_ip(ip) }
    }

    /// Whether any address at this port is inside the allow list.
    pub fn opens_port(&self, port: u16) -> bool {
        self.rules.allow.iter().any(|rule| rule.port.is_none_or(|own| own == port))
    }

    /// Whether a rule names this port, so that it is judged unlike others.
    pub fn names_port(&self, port: u16) -> bool {
        self.rules.allow.iter().any(|rule| rule.port == Some(port))
    }

    fn judge_scheme_and_port(&self, encrypted: bool, port: u16) -> Result<(), Refusal> {
        if !encrypted && !self.rules.http {
            return Err(Refusal::NotHttps);
        }
        if self.rules.ports.permits(port) || (!encrypted && port == HTTP_PORT) {
            return Ok(());
        }
        Err(Refusal::PortNotAllowed)
    }

    fn judge_literal(
        &self,
        ip: IpAddr,
        port: u16,
        towards_public: Result<(), Refusal>,
    ) -> Result<IpAddr, Refusal> {
        if self.inside(ip, port) {
            return Ok(ip);
        }
        towards_public?;
        if !self.rules.ip_literals {
            return Err(Refusal::LiteralNotAllowed);
        }
        if !is_public(ip) {
            return Err(Refusal::AddressNotAllowed);
        }
        Ok(ip)
    }

    /// Whether the name must resolve into the allow list.
    fn judge_name(
        &self,
        name: &str,
        port: u16,
        towards_public: Result<(), Refusal>,
    ) -> Result<bool, Refusal> {
        if !is_well_formed(name) {
            return Err(Refusal::Unparsable);
        }
        if is_forbidden_name(name) {
            // It names nothing public, so where the operator opened something it may name that.
            if self.opens_port(port) && !is_unused_name(name) {
                return Ok(true);
            }
            return Err(towards_public.err().unwrap_or(Refusal::NameNotAllowed));
        }
        towards_public.map(|()| false)
    }
}

impl Address {
    fn of(
        url: Url,
        port: u16,
        literal: Option<IpAddr>,
        must_be_inside: bool,
        destination: Destination,
    ) -> Result<Self, Refusal> {
        let host = url.host_str().ok_or(Refusal::NoHost)?;
        // What is escaped grows, and the stored form is judged again at every send.
        if url.as_str().len() > ADDRESS_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        // The client sends an `http::Uri`: what that reads differently, or not at all, goes nowhere.
        let uri: http::Uri = url.as_str().parse().map_err(|_| Refusal::Unparsable)?;
        if uri.host() != Some(host) || uri.scheme_str() != Some(url.scheme()) || uri.port_u16() != url.port()
        {
            return Err(Refusal::Unparsable);
        }
        let text = format!("{}://{host}:{port}", url.scheme()).into();
        let origin = Origin { text, destination };
        Ok(Self { url, origin, literal, port, must_be_inside })
    }
}

/// Everything the parser would quietly repair or drop: tabs, line ends, backslashes, an empty user.
fn check_text(raw: &str) -> Result<(), Refusal> {
    check_letters(raw)?;
    if raw.contains('#') {
        return Err(Refusal::Fragment);
    }
    let behind_scheme = raw.split_once(':').map_or(raw, |(_, rest)| rest).trim_start_matches('/');
    let authority = behind_scheme.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Refusal::UserInfo);
    }
    Ok(())
}

fn check_letters(raw: &str) -> Result<(), Refusal> {
    if raw.len() > ADDRESS_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    if !raw.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(Refusal::BadCharacters);
    }
    Ok(())
}

/// `host.` and `host` are one receiver, and TLS knows only the latter.
fn strip_trailing_dot(url: &mut Url) -> Result<(), Refusal> {
    let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
    let Some(name) = name.strip_suffix('.') else { return Ok(()) };
    if name.ends_with('.') {
        // Numbers before two dots are a name to the parser, and before one they are an IP address.
        return Err(Refusal::Unparsable);
    }
    let name = name.to_owned();
    url.set_host(Some(&name)).map_err(|_| Refusal::Unparsable)
}

fn is_well_formed(name: &str) -> bool {
    let label_is_well_formed = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            // Underscores are no host names by RFC 1123, and are resolved and used all the same.
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label_is_well_formed)
}
