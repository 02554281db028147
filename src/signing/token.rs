//! Notification tokens: JWT under the server's own Ed25519 key, short-lived. They say what a thin notification shows
//! only in headers, so that a receiver can believe it.

use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;

use super::{JwtError, ed25519::SigningKey};
use crate::domain::{signing_key::TOKEN_LIFETIME, time::Timestamp};

/// What a token says. Times are added when it is minted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationClaims<'n> {
    /// The server, by its public URL.
    pub iss: &'n str,
    /// Who the owner said that the receiver is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<&'n str>,
    /// The channel's uid.
    pub sub: &'n str,
    /// What `webhook-id` says: the same on every attempt.
    pub jti: &'n str,
    /// The channel's id, as its owner chose it.
    pub channel: &'n str,
    /// What `Watchpost-Message` says.
    pub number: i64,
    /// What the notification says of the resource, or `sync`.
    pub state: &'n str,
    /// The event's id; a sync or a notice has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<&'n str>,
    /// The kind of a notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<&'n str>,
    /// SHA-256 of the body, in hexadecimal.
    pub body_sha256: &'n str,
}

#[derive(Serialize)]
struct Timed<'n> {
    #[serde(flatten)]
    claims: &'n NotificationClaims<'n>,
    iat: i64,
    exp: i64,
}

/// A token of a notification that leaves at `now`.
pub fn mint(key: &SigningKey, claims: &NotificationClaims<'_>, now: Timestamp) -> Result<String, JwtError> {
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
    let timed = Timed { claims, iat: now.as_seconds(), exp: now.plus(TOKEN_LIFETIME).as_seconds() };
    jsonwebtoken::encode(&header, &timed, &key.encoding).map_err(|_| JwtError::Mint)
}

/// The lower-case hexadecimal SHA-256 of a body.
pub fn body_digest(body: &[u8]) -> String {
    use std::fmt::Write;

    use sha2::{Digest, Sha256};
    Sha256::digest(body).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
    use serde_json::Value;

    use super::{super::ed25519, *};

    #[test]
    fn a_token_says_what_it_was_told_and_for_how_long() {
        let key = SigningKey::from_seed([3; 32]).unwrap();
        let digest = body_digest(b"abc");
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let claims = NotificationClaims {
            iss: "https://hooks.example.com",
            aud: Some("https://receiver.example"),
            sub: "uid",
            jti: "msg_uid_7",
            channel: "c",
            number: 7,
            state: "exists",
            event_id: Some("evt_1"),
            notice: None,
            body_sha256: &digest,
        };
        let token = mint(&key, &claims, Timestamp::from_millis(1_700_000_000_900)).unwrap();
        let jwk: Jwk = serde_json::from_value(ed25519::jwk(key.public_key(), &key.kid)).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.set_audience(&["https://receiver.example"]);
        let read = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation)
            .unwrap();
        assert_eq!(read.header.kid, Some(key.kid.clone()));
        let said = read.claims;
        assert_eq!((&said["iat"], &said["exp"]), (&1_700_000_000.into(), &1_700_000_300.into()));
        assert_eq!((&said["jti"], &said["number"]), (&"msg_uid_7".into(), &7.into()));
        assert_eq!((&said["eventId"], &said["bodySha256"]), (&"evt_1".into(), &digest.as_str().into()));
        assert_eq!(said.get("notice"), None);
    }
}
