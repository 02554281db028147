//! API tokens: JWT, HS256 under the server's own key. The algorithm is the key's, never the header's.

use std::{collections::BTreeSet, fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::time::Timestamp;

pub const TOKEN_BYTES_MAX: usize = 8 * 1_024;
/// The longest life of a token that this server mints.
pub const LIFETIME_MAX: Duration = Duration::from_hours(24 * 400);
/// Clocks may differ by this much.
const LEEWAY_SECONDS: i64 = 30;
const ISSUER: &str = "watchpost";
/// Entries of `resources`: each is held against every resource that the bearer names.
const PATTERNS_MAX: usize = 64;

/// What a token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made the token; told, not checked: whoever has the key may issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    pub project: String,
    /// The subject: an owner of channels.
    pub sub: String,
    /// Separated by spaces; what each word grants is not known here.
    pub scope: String,
    /// Patterns of the resources that may be watched; absent means the whole project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    pub exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("the token is not a token of this server")]
    Invalid,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token could not be made")]
    Mint,
}

pub struct JwtKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtKey(…)")
    }
}

impl JwtKey {
    pub fn new(secret: &[u8]) -> Self {
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret) }
    }

    /// Makes a token that lives for `ttl` from `now`.
    pub fn mint(
        &self,
        project: &str,
        subject: &str,
        scopes: &BTreeSet<String>,
        resources: &[String],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<String, JwtError> {
        let claims = Claims {
            iss: Some(ISSUER.to_owned()),
            project: project.to_owned(),
            sub: subject.to_owned(),
            scope: scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
            resources: (!resources.is_empty()).then(|| resources.to_vec()),
            iat: Some(now.as_seconds()),
            exp: now.plus(ttl.min(LIFETIME_MAX)).as_seconds(),
            nbf: None,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|_| JwtError::Mint)
    }

    /// Checks a token's signature, form and times at `now`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::Invalid);
        }
        plain_header(token).filter(|header| header.alg == Algorithm::HS256).ok_or(JwtError::Invalid)?;
        // The library would read the system's clock: the signature is its part, times are ours.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|_| JwtError::Invalid)?
            .claims;
        let now = now.as_seconds();
        if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(JwtError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now.saturating_add(LEEWAY_SECONDS)) {
            return Err(JwtError::NotYet);
        }
        let lifetime = claims.exp.saturating_sub(claims.iat.unwrap_or(now));
        let too_long = u64::try_from(lifetime).is_ok_and(|lifetime| lifetime > LIFETIME_MAX.as_secs());
        let nameless = claims.project.is_empty() || claims.sub.is_empty();
        let too_many = claims.resources.as_ref().is_some_and(|patterns| patterns.len() > PATTERNS_MAX);
        if too_long || nameless || too_many {
            return Err(JwtError::Invalid);
        }
        Ok(claims)
    }
}

/// A token's header. One that would have us fetch, choose or understand something is refused, not ignored.
pub(super) fn plain_header(token: &str) -> Option<Header> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    let asks = header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some();
    let members = header_members(token)?;
    (!asks && !members.contains_key("crit") && !members.contains_key("b64")).then_some(header)
}

/// The header's members by their names, however those are escaped.
fn header_members(token: &str) -> Option<Map<String, Value>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn key() -> JwtKey {
        JwtKey::new(&[5; 32])
    }

    fn mint() -> String {
        let scopes = BTreeSet::from(["channels".to_owned(), "events".to_owned()]);
        key().mint("p", "s", &scopes, &["a/**".to_owned()], Duration::from_hours(1), NOW).unwrap()
    }

    fn forge(header: &str, claims: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key().encoding, Algorithm::HS256).unwrap();
        format!("{signed}.{signature}")
    }

    #[test]
    fn tokens_live_from_mint_to_expiry() {
        let claims = key().verify(&mint(), NOW).unwrap();
        assert_eq!(
            (claims.project.as_str(), claims.sub.as_str(), claims.scope.as_str()),
            ("p", "s", "channels events")
        );
        assert_eq!(claims.resources.as_deref(), Some(&["a/**".to_owned()][..]));
        assert_eq!(key().verify(&mint(), NOW.plus(Duration::from_secs(3_631))), Err(JwtError::Expired));
        assert_eq!(JwtKey::new(&[6; 32]).verify(&mint(), NOW), Err(JwtError::Invalid));
    }

    #[test]
    fn forged_and_twisted_tokens_are_refused() {
        let claims = r#"{"iss":"watchpost","project":"p","sub":"s","scope":"admin","iat":1700000000,"exp":1700003600}"#;
        let good = r#"{"alg":"HS256","typ":"JWT"}"#;
        assert!(key().verify(&forge(good, claims), NOW).is_ok(), "the control");
        let plain = r#"{"project":"p","sub":"s","scope":"admin","exp":1700003600}"#;
        assert!(
            key().verify(&forge(good, plain), NOW).is_ok(),
            "what somebody else with the key would issue"
        );
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"HS256","crit":["x"]}"#,
            r#"{"alg":"HS256","cr\u0069t":["x"]}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","jku":"https://evil.example/"}"#,
        ] {
            assert_eq!(key().verify(&forge(header, claims), NOW), Err(JwtError::Invalid), "{header}");
        }
        for (from, to) in [
            (r#""exp":1700003600"#, r#""exp":"1700003600""#),
            (r#""exp":1700003600"#, r#""exp":1e308"#),
            (r#","exp":1700003600"#, ""),
            (r#""exp":1700003600"#, r#""exp":1700003600000"#),
            (r#""sub":"s""#, r#""sub":"""#),
            (r#""sub":"s""#, r#""sub":"s","sub":"t""#),
            (r#""iat":1700000000"#, r#""iat":1700000000,"nbf":"9""#),
        ] {
            let twisted = claims.replace(from, to);
            assert_eq!(key().verify(&forge(good, &twisted), NOW), Err(JwtError::Invalid), "{twisted}");
        }
        let later = claims.replace(r#""iat":1700000000"#, r#""iat":1700000000,"nbf":1700000100"#);
        assert_eq!(key().verify(&forge(good, &later), NOW), Err(JwtError::NotYet));
        let token = mint();
        for twisted in [
            format!("{token}="),
            format!(" {token}"),
            format!("{token}.x"),
            token.replace('.', ""),
            "é".into(),
            String::new(),
            "a".repeat(9_000),
        ] {
            assert_eq!(key().verify(&twisted, NOW), Err(JwtError::Invalid), "{twisted:.40}");
        }
    }
}
