//! What proves the server to a receiver, opened and ready to send.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{
    domain::{auth::ReceiverAuth, channel::Channel},
    signing::{Sealer, auth_place},
};

/// A header that goes out with each request. Its value does not show in `Debug`.
#[derive(Clone, Debug)]
pub enum Proof {
    Fixed(HeaderName, HeaderValue),
    /// A token of each notification, in `Authorization`.
    Token {
        audience: String,
    },
}

impl Proof {
    /// The channel's proof. `Err`: it has one that cannot be used, and must not send without it.
    pub fn of(channel: &Channel, under: &Sealer) -> Result<Option<Self>, Unusable> {
        let Some(auth) = &channel.options.auth else { return Ok(None) };
        let place = auth_place(&channel.project, &channel.uid);
        let open = |sealed: &str| under.open_text(sealed, &place).map_err(|_| Unusable);
        let fixed = |name: HeaderName, value: String| {
            let mut value = HeaderValue::try_from(value).map_err(|_| Unusable)?;
            value.set_sensitive(true);
            Ok(Self::Fixed(name, value))
        };
        match auth {
            ReceiverAuth::Basic { username, secret } => {
                let both = BASE64_STANDARD.encode(format!("{username}:{}", open(secret)?));
                fixed(AUTHORIZATION, format!("Basic {both}"))
            }
            ReceiverAuth::Bearer { secret } => fixed(AUTHORIZATION, format!("Bearer {}", open(secret)?)),
            ReceiverAuth::Header { name, secret } => {
                fixed(HeaderName::try_from(name.as_str()).map_err(|_| Unusable)?, open(secret)?)
            }
            ReceiverAuth::Jwt { audience } => Ok(Self::Token { audience: audience.clone() }),
        }
        .map(Some)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what proves the server to the receiver does not open under this master key")]
pub struct Unusable;
