//! The master key and what is derived from it. Each use has a key of its own, so that no two uses can be played
//! against each other.

use hmac::Mac;

use super::{claim::ClaimKey, hmac_sha256, jwt::JwtKey, seal::Sealer};

/// The keys of a server.
#[derive(Debug)]
pub struct Keys {
    pub jwt: JwtKey,
    /// For commands beside the server. Never the shared secret, whose holders run no jobs here.
    pub operator: JwtKey,
    pub sealer: Sealer,
    pub claim: ClaimKey,
}

impl Keys {
    /// Derives the keys from the 32-byte master key. `jwt_secret` replaces the derived key of API tokens.
    pub fn new(master: &[u8; 32], jwt_secret: Option<&str>) -> Self {
        let jwt = match jwt_secret {
            Some(secret) => JwtKey::new(secret.as_bytes()),
            None => JwtKey::new(&derive(master, "watchpost api tokens v1")),
        };
        let operator = JwtKey::new(&derive(master, "watchpost operator tokens v1"));
        let claim = ClaimKey::new(derive(master, "watchpost claims v1"));
        Self { jwt, operator, claim, sealer: Sealer::new(&derive(master, "watchpost sealed secrets v1")) }
    }
}

fn derive(master: &[u8; 32], purpose: &str) -> [u8; 32] {
    let mut mac = hmac_sha256(master);
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}
