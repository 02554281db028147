//! `auth`: how the server proves itself to a channel's receiver. Kept among the channel's options, its secret sealed;
//! checked here.

use serde::{Deserialize, Serialize};

use super::{
    headers,
    invalid::{FieldError, InField, Invalid, header_safe},
};

/// A password, token or header value.
pub const SECRET_BYTES_MAX: usize = 1_024;
const USERNAME_BYTES_MAX: usize = 256;
const AUDIENCE_BYTES_MAX: usize = 1_024;
const AUTHORIZATION: &str = "Authorization";

/// With a secret of type `S`: given in clear, or sealed in base64 as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ReceiverAuth<S> {
    /// `Authorization: Basic` (RFC 7617).
    Basic { username: String, secret: S },
    /// `Authorization: Bearer` (RFC 6750).
    Bearer { secret: S },
    /// A header of the receiver's own.
    Header { name: String, secret: S },
    /// `Authorization: Bearer` and a token of each notification, for this audience. It has no secret.
    Jwt { audience: String },
}

impl<S> ReceiverAuth<S> {
    /// The header that it sets.
    pub fn header_name(&self) -> &str {
        match self {
            Self::Header { name, .. } => name,
            Self::Basic { .. } | Self::Bearer { .. } | Self::Jwt { .. } => AUTHORIZATION,
        }
    }

    /// The secret, and what the API calls it.
    pub fn secret(&self) -> Option<(&'static str, &S)> {
        match self {
            Self::Basic { secret, .. } => Some(("password", secret)),
            Self::Bearer { secret } => Some(("token", secret)),
            Self::Header { secret, .. } => Some(("value", secret)),
            Self::Jwt { .. } => None,
        }
    }

    /// The same with another secret in its place, where it has one.
    pub fn try_map<T, E>(self, map: impl FnOnce(S) -> Result<T, E>) -> Result<ReceiverAuth<T>, E> {
        Ok(match self {
            Self::Basic { username, secret } => ReceiverAuth::Basic { username, secret: map(secret)? },
            Self::Bearer { secret } => ReceiverAuth::Bearer { secret: map(secret)? },
            Self::Header { name, secret } => ReceiverAuth::Header { name, secret: map(secret)? },
            Self::Jwt { audience } => ReceiverAuth::Jwt { audience },
        })
    }

    /// Whether `other` proves the same thing in the same place, but for the secret.
    pub fn is_like<T>(&self, other: &ReceiverAuth<T>) -> bool {
        match (self, other) {
            (Self::Basic { username, .. }, ReceiverAuth::Basic { username: other, .. }) => username == other,
            (Self::Header { name, .. }, ReceiverAuth::Header { name: other, .. }) => {
                name.eq_ignore_ascii_case(other)
            }
            (Self::Bearer { .. }, ReceiverAuth::Bearer { .. }) => true,
            (Self::Jwt { audience }, ReceiverAuth::Jwt { audience: other }) => audience == other,
            _ => false,
        }
    }

    /// Checks everything but the secret.
    pub fn check(&self, own_prefix: &str) -> Result<(), FieldError> {
        match self {
            Self::Basic { username, .. } => {
                header_safe(username, USERNAME_BYTES_MAX).in_field("auth.username")?;
                if username.contains(':') {
                    return Err(FieldError::new("auth.username", Invalid::Rule("contain no colon")));
                }
                Ok(())
            }
            Self::Header { name, .. } => headers::check_name(name, own_prefix).in_field("auth.name"),
            Self::Jwt { audience } if audience.is_empty() => {
                Err(FieldError::new("auth.audience", Invalid::Rule("not be empty")))
            }
            Self::Jwt { audience } => header_safe(audience, AUDIENCE_BYTES_MAX).in_field("auth.audience"),
            Self::Bearer { .. } => Ok(()),
        }
    }
}

/// A secret as it is given: what a header can carry.
pub fn check_secret(secret: &str) -> Result<(), Invalid> {
    if secret.is_empty() {
        return Err(Invalid::Rule("not be empty"));
    }
    header_safe(secret, SECRET_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_its_rules() {
        let header = |name: &str| ReceiverAuth::Header { name: name.to_owned(), secret: () };
        assert_eq!(header("X-Api-Key").header_name(), "X-Api-Key");
        assert_eq!(ReceiverAuth::Bearer { secret: () }.header_name(), "Authorization");
        assert!(header("X-Api-Key").check("Hooks-").is_ok());
        for name in ["", "Host", "webhook-id", "Hooks-Token", "a b", "é"] {
            assert!(header(name).check("Hooks-").is_err(), "{name}");
        }
        let basic = |username: &str| ReceiverAuth::Basic { username: username.to_owned(), secret: () };
        assert!(
            basic("").check("").is_ok() && basic("a:b").check("").is_err() && basic("é").check("").is_err()
        );
        assert!(ReceiverAuth::<()>::Jwt { audience: String::new() }.check("").is_err());
        assert!(basic("a").is_like(&basic("a")) && !basic("a").is_like(&basic("b")));
        assert!(header("X-A").is_like(&header("x-a")) && !header("X-A").is_like(&basic("X-A")));
        for secret in ["", "a\r\nb", "é", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            assert!(check_secret(secret).is_err(), "{secret:?}");
        }
    }

    #[test]
    fn the_stored_form_stays() {
        let stored = ReceiverAuth::Basic { username: "u".to_owned(), secret: "c2VhbGVk".to_owned() };
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(text, r#"{"type":"basic","username":"u","secret":"c2VhbGVk"}"#);
        assert_eq!(serde_json::from_str::<ReceiverAuth<String>>(&text).unwrap(), stored);
    }
}
