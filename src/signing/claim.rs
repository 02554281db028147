//! Claim capabilities: the URL is the key. Derived from channel and rotation count, so it can be given out again,
//! replaced, and is nowhere stored.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use url::Url;

use super::hmac_sha256;

/// Length of a channel's `uid`, which every capability begins with.
const UID_BYTES: usize = 32;

/// Makes and checks capabilities: 32 hex digits of the channel's `uid` and 43 base64url characters of a 256-bit MAC.
pub struct ClaimKey([u8; 32]);

impl std::fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClaimKey(…)")
    }
}

impl ClaimKey {
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    pub fn capability(&self, uid: &str, rotation: i64) -> String {
        let mac = self.mac(uid, rotation).finalize().into_bytes();
        format!("{uid}{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    /// The claim URL of a channel. Whoever has it may read and acknowledge: it is never logged.
    pub fn url(&self, public_url: &Url, uid: &str, rotation: i64) -> String {
        format!("{}/claims/{}", public_url.as_str().trim_end_matches('/'), self.capability(uid, rotation))
    }

    /// The `uid` that a capability claims to be of. Not yet checked: that needs the channel's rotation count.
    pub fn uid_of(capability: &str) -> Option<&str> {
        capability.get(..UID_BYTES).filter(|uid| uid.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// Whether the capability is the present one, in time that does not depend on where it differs.
    pub fn verify(&self, capability: &str, uid: &str, rotation: i64) -> bool {
        let given = capability.get(UID_BYTES..).and_then(|mac| BASE64_URL_SAFE_NO_PAD.decode(mac).ok());
        given.is_some_and(|given| self.mac(uid, rotation).verify_slice(&given).is_ok())
    }

    fn mac(&self, uid: &str, rotation: i64) -> Hmac<Sha256> {
        let mut mac = hmac_sha256(&self.0);
        mac.update(uid.as_bytes());
        mac.update(&rotation.to_be_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_of_one_channel_and_one_rotation() {
        let (key, uid, other) = (ClaimKey::new([1; 32]), "0".repeat(32), "1".repeat(32));
        let capability = key.capability(&uid, 0);
        assert_eq!(capability.len(), 75);
        assert_eq!(ClaimKey::uid_of(&capability), Some(uid.as_str()));
        assert!(key.verify(&capability, &uid, 0));
        assert!(!key.verify(&capability, &uid, 1) && !key.verify(&capability, &other, 0));
        assert!(!ClaimKey::new([2; 32]).verify(&capability, &uid, 0));
        for broken in
            ["", "é", &capability[..74], &format!("{capability}A"), &capability.to_uppercase(), &uid]
        {
            assert!(!key.verify(broken, &uid, 0), "{broken}");
        }
    }
}
