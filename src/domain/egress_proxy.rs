//! The proxy on the way to every receiver, where the operator has one. Read by `config`, used by `outbound`.

use std::net::SocketAddr;

use super::hidden::Hidden;

/// By what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressProxy {
    Socks5(ProxyServer),
    /// Takes `CONNECT`.
    Http(ProxyServer),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyServer {
    pub address: SocketAddr,
    pub credentials: Option<Credentials>,
}

/// Each of 1 to 255 bytes without control characters; a user without a colon. So both protocols can carry them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: Hidden,
}

impl Credentials {
    const BYTES_MAX: usize = 255;

    pub fn new(user: String, password: String) -> Option<Self> {
        let fits =
            |text: &str| (1..=Self::BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        let carried = fits(&user) && fits(&password) && !user.contains(':');
        carried.then(|| Self { user, password: Hidden::new(password) })
    }
}
