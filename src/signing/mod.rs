//! Everything that signs, verifies or wraps. Pure functions over bytes; keys come in, nothing is stored here.

mod claim;
mod ed25519;
mod jwt;
mod keys;
mod seal;
mod token;
mod webhook;

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

pub use self::{
    claim::ClaimKey,
    ed25519::{SigningKey, jwk, place as signing_key_place, public_text},
    jwt::{Claims, JwtError, JwtKey, LIFETIME_MAX, TOKEN_BYTES_MAX},
    keys::Keys,
    seal::{Rewrapper, SealError, Sealer, auth_place, secret_place},
    token::{NotificationClaims, body_digest, mint as mint_notification},
    webhook::{SigningSecret, sign},
};

/// HMAC-SHA256 under `key`.
#[expect(clippy::expect_used, reason = "an empty result in place of a MAC would fail open")]
fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
