//! The operator's proxy, as `EGRESS_PROXY` writes it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::values::{Reading, at_port};
use crate::domain::egress_proxy::{Credentials, EgressProxy, ProxyServer};

const SOCKS_PORT: u16 = 1080;
/// Where a port must be given: there is no usual one.
const NO_PORT: u16 = 0;

/// By its IP address: a name would be looked up, and judged, as a receiver's. Never quoted: it may hold a password.
pub(super) fn read(text: &str) -> Reading<EgressProxy> {
    let proxy = match text.split_once("://") {
        Some(("socks5", server)) => proxy_server(server, SOCKS_PORT).map(EgressProxy::Socks5),
        Some(("http", server)) => proxy_server(server, NO_PORT).map(EgressProxy::Http),
        _ => None,
    };
    proxy.ok_or_else(|| {
        "is no proxy: write socks5://10.0.0.9:1080 or http://10.0.0.9:3128, by its IP address, with \
         USER:PASSWORD@ before that, percent-encoded, where it asks for them"
            .to_owned()
    })
}

fn proxy_server(text: &str, port: u16) -> Option<ProxyServer> {
    let decoded = |text| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
    let (credentials, place) = match text.rsplit_once('@') {
        Some((credentials, place)) => {
            let (user, password) = credentials.split_once(':')?;
            (Some(Credentials::new(decoded(user)?, decoded(password)?)?), place)
        }
        None => (None, text),
    };
    Some(ProxyServer { address: at_port(place, port)?, credentials })
}
