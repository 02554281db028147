//! API keys: 256 random bits behind a prefix by which scanners of leaked secrets know them. Only a key's hash is kept;
//! one round of SHA-256 is enough for what nobody can guess.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const PREFIX: &str = "wpk_";
/// 32 bytes in base64url.
const RANDOM_CHARACTERS: usize = 43;

/// A key's text, which its owner sees once.
pub struct ApiKeyText(String);

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyText(…)")
    }
}

impl ApiKeyText {
    pub fn new(random: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random)))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The hash under which a key is kept; none for a text that is no key.
pub fn api_key_hash(text: &str) -> Option<[u8; 32]> {
    let random = text.strip_prefix(PREFIX)?;
    let well_formed = random.len() == RANDOM_CHARACTERS
        && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    well_formed.then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let key = ApiKeyText::new([7; 32]);
        assert!(key.reveal().starts_with("wpk_") && key.reveal().len() == 47);
        assert_eq!(format!("{key:?}"), "ApiKeyText(…)");
        let hash = api_key_hash(key.reveal()).unwrap();
        assert_ne!(Some(hash), api_key_hash(ApiKeyText::new([8; 32]).reveal()));
        for other in ["", "wpk_", "wpk_é", &key.reveal()[1..], &format!("{}A", key.reveal()), "a.b.c"] {
            assert_eq!(api_key_hash(other), None, "{other}");
        }
    }
}
