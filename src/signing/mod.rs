//! Everything that signs, verifies or wraps. Pure functions over bytes; keys come in, nothing is stored here.

mod api_key;
mod claim;
mod ed25519;
mod jwks;
mod jwt;
mod keys;
mod seal;
mod token;
mod webhook;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use self::{
    api_key::{ApiKeyText, api_key_hash},
    claim::ClaimKey,
    ed25519::{SigningKey, jwk, place as signing_key_place, public_text},
    jwks::{ExternalError, KeySet, KeySetError},
    jwt::{Claims, JwtError, JwtKey, LIFETIME_MAX, TOKEN_BYTES_MAX},
    keys::Keys,
    seal::{Rewrapper, SealError, Sealer, auth_place, header_place, secret_place, token_place},
    token::{NotificationClaims, body_digest, mint as mint_notification},
    webhook::{SigningSecret, sign},
};

/// A hash from which nothing can be read without `key`; where one part ends and the next begins is bound in.
pub fn keyed_hash(key: &[u8; 32], parts: &[&str]) -> [u8; 32] {
    let mut mac = hmac_sha256(key);
    for part in parts {
        mac.update(&part.len().to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// HMAC-SHA256 under `key`.
#[expect(clippy::expect_used, reason = "an empty result in place of a MAC would fail open")]
fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
