//! The server's own Ed25519 keys: Standard Webhooks signatures of scheme `v1a`, and the published form of a key.
//!
//! Sources: the Standard Webhooks specification 1.0.0 (`v1a`, `whpk_`), RFC 8037 (Ed25519 as a JWK), RFC 7638 (the
//! thumbprint by which a key is named).

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    seal::{SealError, Sealer},
    webhook::signed_content,
};
use crate::domain::time::Timestamp;

const SEED_BYTES: usize = 32;
const PUBLIC_PREFIX: &str = "whpk_";
/// What stands before the seed in PKCS #8, version 1 (RFC 8410).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A key pair and its name.
pub struct SigningKey {
    pub kid: String,
    seed: [u8; SEED_BYTES],
    pair: Ed25519KeyPair,
    pub(super) encoding: EncodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    pub fn from_seed(seed: [u8; SEED_BYTES]) -> Result<Self, SealError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SealError)?;
        let kid = thumbprint(pair.public_key().as_ref());
        let encoding = EncodingKey::from_ed_der(&[PKCS8_HEAD.as_slice(), &seed].concat());
        Ok(Self { kid, seed, pair, encoding })
    }

    /// Opens a key that was sealed under this name.
    pub fn open(sealed: &[u8], kid: &str, under: &Sealer) -> Result<Self, SealError> {
        let seed = under.open(sealed, &place(kid))?;
        let key = Self::from_seed(seed.try_into().map_err(|_| SealError)?)?;
        if key.kid == kid { Ok(key) } else { Err(SealError) }
    }

    /// The private half as it is stored.
    pub fn seal(&self, under: &Sealer, nonce: [u8; 24]) -> Result<Vec<u8>, SealError> {
        under.seal(&self.seed, &place(&self.kid), nonce)
    }

    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// One signature of `webhook-signature`, over what `v1` signs too.
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> String {
        let signature = self.pair.sign(&signed_content(id, at, body));
        format!("v1a,{}", BASE64_STANDARD.encode(signature.as_ref()))
    }
}

/// Where a signing key's private half belongs.
pub fn place(kid: &str) -> String {
    format!("signing-keys|{kid}|ed25519")
}

/// A public key as Standard Webhooks writes it.
pub fn public_text(public_key: &[u8]) -> String {
    format!("{PUBLIC_PREFIX}{}", BASE64_STANDARD.encode(public_key))
}

/// A public key as a JWK.
pub fn jwk(public_key: &[u8], kid: &str) -> Value {
    json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": BASE64_URL_SAFE_NO_PAD.encode(public_key),
        "kid": kid,
        "use": "sig",
        "alg": "EdDSA",
    })
}

/// The name of a public key, which follows from it.
fn thumbprint(public_key: &[u8]) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(public_key);
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// RFC 8037, appendix A.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn key() -> SigningKey {
        SigningKey::from_seed(BASE64_URL_SAFE_NO_PAD.decode(SEED).unwrap().try_into().unwrap()).unwrap()
    }

    #[test]
    fn the_published_vectors() {
        let key = key();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(key.public_key()), PUBLIC);
        assert_eq!(key.kid, THUMBPRINT);
        assert_eq!(jwk(key.public_key(), &key.kid)["x"], PUBLIC);
        assert!(!format!("{key:?}").contains("seed"));
    }

    #[test]
    fn signatures_are_of_id_time_and_body() {
        let key = key();
        let header = key.sign("msg_1", Timestamp::from_millis(1_700_000_000_000), b"{}");
        let signature = BASE64_STANDARD.decode(header.strip_prefix("v1a,").unwrap()).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, key.public_key());
        assert!(public.verify(b"msg_1.1700000000.{}", &signature).is_ok());
        for other in ["msg_2.1700000000.{}", "msg_1.1700000001.{}", "msg_1.1700000000.{ }"] {
            assert!(public.verify(other.as_bytes(), &signature).is_err(), "{other}");
        }
    }

    #[test]
    fn a_sealed_key_opens_under_its_name_alone() {
        let (key, master) = (key(), Sealer::new(&[1; 32]));
        let sealed = key.seal(&master, [7; 24]).unwrap();
        assert_eq!(SigningKey::open(&sealed, &key.kid, &master).unwrap().public_key(), key.public_key());
        assert!(SigningKey::open(&sealed, "another", &master).is_err());
        assert!(SigningKey::open(&sealed, &key.kid, &Sealer::new(&[2; 32])).is_err());
    }
}
