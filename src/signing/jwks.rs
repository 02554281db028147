//! The public keys of an external issuer, and tokens checked under them. A key has one algorithm, by its own kind; what
//! a token's header says is held against that and never followed. Shared secrets are no public keys and are left out.

use std::{collections::HashMap, fmt};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::jwt::{TOKEN_BYTES_MAX, plain_header};

/// Keys of a set that are looked at. Issuers have two or three.
const KEYS_MAX: usize = 32;
const KEY_ID_BYTES_MAX: usize = 256;
/// In base64url: 2048 to 8192 bits.
const RSA_MODULUS_CHARACTERS: std::ops::RangeInclusive<usize> = 340..=1_368;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key set is not JSON of the form {{\"keys\": […]}}")]
pub struct KeySetError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    #[error("the token is malformed, or asks for what is not done")]
    Malformed,
    #[error("no key of the issuer has the token's id")]
    UnknownKey,
    #[error("the token's signature or algorithm is not that of the issuer's key")]
    Forged,
}

/// The keys of one issuer that tokens may be signed with, by their ids.
pub struct KeySet(HashMap<String, PublicKey>);

struct PublicKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl KeySet {
    /// Reads what an issuer publishes. Keys of other kinds and uses are passed over; an id that stands twice names none.
    /// A set without a key is one as well: the issuer has taken them all back.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|_| KeySetError)?;
        let mut keys = HashMap::new();
        let mut twice = Vec::new();
        for (id, key) in document.keys.into_iter().take(KEYS_MAX).filter_map(read_key) {
            if keys.insert(id.clone(), key).is_some() {
                twice.push(id);
            }
        }
        for id in twice {
            keys.remove(&id);
        }
        Ok(Self(keys))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails for what no external issuer could have made, whatever its keys.
    pub fn check_form(token: &str) -> Result<(), ExternalError> {
        key_id(token).map(drop)
    }

    /// The claims of a token that one of the keys has signed. Their meaning is not judged here.
    pub fn verify(&self, token: &str) -> Result<Map<String, Value>, ExternalError> {
        let id = key_id(token)?;
        let key = match &id {
            Some(id) => self.0.get(id),
            // Without an id there must be no choice.
            None => self.0.values().next().filter(|_| self.0.len() == 1),
        };
        let key = key.ok_or(ExternalError::UnknownKey)?;
        let mut validation = Validation::new(key.algorithm);
        // The signature is the library's part; it would judge times by the system's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &validation);
        decoded.map(|decoded| decoded.claims.0).map_err(|_| ExternalError::Forged)
    }
}

/// Which key a token names. Tokens that no external issuer could have made are refused before anybody is asked.
fn key_id(token: &str) -> Result<Option<String>, ExternalError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(ExternalError::Malformed);
    }
    let header = plain_header(token).ok_or(ExternalError::Malformed)?;
    let is_symmetric = matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    let is_nested = header.cty.is_some_and(|kind| kind.eq_ignore_ascii_case("jwt"));
    let too_long = header.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX);
    if is_symmetric || is_nested || too_long {
        return Err(ExternalError::Malformed);
    }
    Ok(header.kid)
}

fn read_key(value: Value) -> Option<(String, PublicKey)> {
    let key: Jwk = serde_json::from_value(value).ok()?;
    let common = &key.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let named = match common.key_algorithm {
        Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
        None => None,
    };
    let (usual, possible): (Algorithm, &[Algorithm]) = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) if RSA_MODULUS_CHARACTERS.contains(&rsa.n.len()) => (
            Algorithm::RS256,
            &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
        ),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => (Algorithm::ES256, &[Algorithm::ES256]),
            EllipticCurve::P384 => (Algorithm::ES384, &[Algorithm::ES384]),
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, &[Algorithm::EdDSA])
        }
        _ => return None,
    };
    let algorithm = named.unwrap_or(usual);
    let id = common.key_id.clone().unwrap_or_default();
    if !possible.contains(&algorithm) || id.len() > KEY_ID_BYTES_MAX {
        return None;
    }
    Some((id, PublicKey { algorithm, key: DecodingKey::from_jwk(&key).ok()? }))
}

/// Claims of which each stands there once: two readers could otherwise read two tokens.
struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClaimsVisitor;
        impl<'de> Visitor<'de> for ClaimsVisitor {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands there twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

#[cfg(test)]
mod tests;
