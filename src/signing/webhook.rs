//! Standard Webhooks signatures, scheme `v1`: HMAC-SHA256 over `id.timestamp.body`.
//!
//! Source: the Standard Webhooks specification 1.0.0. Secrets are `whsec_` and base64 of 24 to 64 bytes.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::Mac;

use super::hmac_sha256;
use crate::domain::{invalid::Invalid, time::Timestamp};

const PREFIX: &str = "whsec_";
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// A channel's signing secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

impl SigningSecret {
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Reads a secret that the client brings along.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bytes = text.strip_prefix(PREFIX).and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
        match bytes {
            Some(bytes) if (BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) => Ok(Self(bytes)),
            _ => Err(Invalid::Rule("be whsec_ followed by base64 of 24 to 64 bytes")),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that the owner sees once.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }
}

/// One signature of `webhook-signature`. `id` must not contain a dot, or the signed string would be ambiguous.
pub fn sign(secret: &SigningSecret, id: &str, at: Timestamp, body: &[u8]) -> String {
    let mut mac = hmac_sha256(&secret.0);
    mac.update(&signed_content(id, at, body));
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// What all schemes sign.
pub(super) fn signed_content(id: &str, at: Timestamp, body: &[u8]) -> Vec<u8> {
    debug_assert!(!id.contains('.'), "a dotted id makes the signed string ambiguous");
    [format!("{id}.{}.", at.as_seconds()).as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret: &str, id: &str, seconds: i64, body: &[u8]) -> String {
        let secret = SigningSecret::parse(secret).unwrap();
        super::sign(&secret, id, Timestamp::from_millis(seconds * 1_000), body)
    }

    #[test]
    fn published_and_computed_vectors() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(
            signed(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(
            signed(secret, "msg_1", 1_700_000_000, b""),
            "v1,gSiPCGkMwgBPwtqun+0WQGJwP7wCS5MuBHUR5RLZhOo="
        );
        assert_eq!(
            signed(secret, "msg_2", 1_700_000_000, r#"{"n":9007199254740993,"s":"é\u0000"}"#.as_bytes()),
            "v1,sonw083sQBRV+LBRDGmJ3+foBgLO1b7/cllZwBzSsVU="
        );
    }

    #[test]
    fn secrets_have_one_form_and_stay_out_of_debug() {
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!"] {
            assert!(SigningSecret::parse(bad).is_err(), "{bad}");
        }
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(secret.reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert!(!format!("{secret:?}").contains("MfKQ"));
    }
}
