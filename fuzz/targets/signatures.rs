//! Signatures of notifications. The server reads secrets that clients bring along, and signs; so the target reads a secret
//! from the first line, signs the rest, and verifies as a receiver does, by another library than the one that signed.

use aws_lc_rs::{
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use watchpost::{
    domain::{id, time::Timestamp},
    signing::{SigningKey, SigningSecret, sign},
};

const UID: &str = "0123456789abcdef0123456789abcdef";

pub fn check(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (secret, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    // Number and time vary with the body, as they do in life.
    let number = i64::try_from(body.len()).unwrap() + 1;
    let at = Timestamp::from_millis(
        body.iter().fold(0, |at, byte| at * 31 % 1_000_000_007 + i64::from(*byte)) * 1_000,
    );
    let id = id::webhook_id(UID, number);
    let content = [format!("{id}.{}.", at.as_millis() / 1_000).as_bytes(), body].concat();

    let key = SigningKey::from_seed([3; 32]).unwrap();
    let signature = decoded(&key.sign(&id, at, body), "v1a,");
    UnparsedPublicKey::new(&ED25519, key.public_key()).verify(&content, &signature).unwrap();

    let Ok(text) = std::str::from_utf8(secret) else { return };
    let expected = text.strip_prefix("whsec_").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    let expected = expected.filter(|bytes| (24..=64).contains(&bytes.len()));
    let secret = SigningSecret::parse(text).ok();
    assert_eq!(secret.as_ref().map(SigningSecret::as_bytes), expected.as_deref(), "{text}");
    let Some(secret) = secret else { return };
    assert_eq!(secret.reveal(), text, "a secret is written in one way");
    let signature = decoded(&sign(&secret, &id, at, body), "v1,");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, &content, &signature).unwrap();
    // Anything else is not signed by it.
    let other = [&content, b"x".as_slice()].concat();
    assert!(hmac::verify(&key, &other, &signature).is_err());
}

fn decoded(signature: &str, scheme: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(signature.strip_prefix(scheme).unwrap()).unwrap()
}
