//! Everything that signs, verifies or wraps. Pure functions over bytes; keys come in, nothing is stored here.

mod claim;
mod jwt;
mod keys;
mod seal;
mod webhook;

pub use self::{
    claim::ClaimKey,
    jwt::{Claims, JwtError, JwtKey, LIFETIME_MAX, TOKEN_BYTES_MAX},
    keys::Keys,
    seal::{SealError, Sealer, secret_place},
    webhook::{SigningSecret, signed_header},
};
