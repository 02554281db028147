//! Secrets at rest: XChaCha20-Poly1305 with a random nonce. The place of the secret – project, channel, field –
//! is bound in, so that a ciphertext moved to another row does not open.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};

const NONCE_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed secret does not open: another master key, or another place")]
pub struct SealError;

pub struct Sealer(XChaCha20Poly1305);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// Where a channel's signing secret belongs.
pub fn secret_place(project: &str, channel_uid: &str) -> String {
    format!("{project}|{channel_uid}|signing")
}

/// Where the secret that proves the server to a channel's receiver belongs.
pub fn auth_place(project: &str, channel_uid: &str) -> String {
    format!("{project}|{channel_uid}|auth")
}

/// Where the token that a channel's receiver is shown belongs.
pub fn token_place(project: &str, channel_uid: &str) -> String {
    format!("{project}|{channel_uid}|token")
}

/// Where the value of a header that a channel's owner has set belongs.
pub fn header_place(project: &str, channel_uid: &str, name: &str) -> String {
    format!("{project}|{channel_uid}|header {name}")
}

/// Opens under one master key and seals under another.
#[derive(Debug)]
pub struct Rewrapper<'k> {
    old: &'k Sealer,
    new: &'k Sealer,
}

impl<'k> Rewrapper<'k> {
    pub fn new(old: &'k Sealer, new: &'k Sealer) -> Self {
        Self { old, new }
    }

    /// The same secret under the new key; `None` where it is so already.
    pub fn rewrap(
        &self,
        sealed: &[u8],
        place: &str,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Option<Vec<u8>>, SealError> {
        if self.new.open(sealed, place).is_ok() {
            return Ok(None);
        }
        self.new.seal(&self.old.open(sealed, place)?, place, nonce).map(Some)
    }

    /// The same for sealed text, which is itself where it is under the new key already.
    pub fn rewrap_text(
        &self,
        sealed: String,
        place: &str,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<String, SealError> {
        let bytes = BASE64_STANDARD.decode(&sealed).map_err(|_| SealError)?;
        Ok(self.rewrap(&bytes, place, nonce)?.map_or(sealed, |anew| BASE64_STANDARD.encode(anew)))
    }
}

impl Sealer {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Nonce followed by ciphertext.
    pub fn seal(&self, secret: &[u8], place: &str, nonce: [u8; NONCE_BYTES]) -> Result<Vec<u8>, SealError> {
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub fn open(&self, sealed: &[u8], place: &str) -> Result<Vec<u8>, SealError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError)?;
        let payload = Payload { msg: ciphertext, aad: place.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError)
    }

    /// Text, sealed and in base64, as columns of text have it.
    pub fn seal_text(&self, text: &str, place: &str, nonce: [u8; NONCE_BYTES]) -> Result<String, SealError> {
        self.seal(text.as_bytes(), place, nonce).map(|sealed| BASE64_STANDARD.encode(sealed))
    }

    pub fn open_text(&self, sealed: &str, place: &str) -> Result<String, SealError> {
        let sealed = BASE64_STANDARD.decode(sealed).map_err(|_| SealError)?;
        String::from_utf8(self.open(&sealed, place)?).map_err(|_| SealError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_place_and_under_its_key() {
        let key = Sealer::new(&[1; 32]);
        let sealed = key.seal(b"secret", "p|c|signing", [7; 24]).unwrap();
        assert_eq!(key.open(&sealed, "p|c|signing"), Ok(b"secret".to_vec()));
        assert_eq!(key.open(&sealed, "p|d|signing"), Err(SealError));
        assert_eq!(Sealer::new(&[2; 32]).open(&sealed, "p|c|signing"), Err(SealError));
        assert_eq!(key.open(&sealed[..20], "p|c|signing"), Err(SealError));
    }
}
