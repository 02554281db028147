//! Everything that a stranger may hold up as a credential or a place: JWT, API keys, claim URLs, page and sync tokens.
//! Each is first read as it is; then the input's lines become a header and claims under the server's own key, since no
//! fuzzer guesses a signature.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use watchpost::{
    domain::{place, time::Timestamp},
    signing::{ClaimKey, JwtKey, KeySet, TOKEN_BYTES_MAX, api_key_hash},
};

const KEY: [u8; 32] = [5; 32];
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const LEEWAY_SECONDS: i64 = 30;
const UID: &str = "0123456789abcdef0123456789abcdef";

pub fn check(input: &[u8]) {
    let _ = KeySet::parse(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    check_jwt(text);
    let _ = KeySet::check_form(text);
    let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
    check_jwt(&signed(header, claims));
    check_api_key(text);
    check_capability(text);
    check_places(text);
}

fn signed(header: &str, claims: &str) -> String {
    let content =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac(content.as_bytes()));
    format!("{content}.{signature}")
}

fn mac(content: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), content)
}

/// A token that passes carries our signature, asks for nothing, and says in so many words what was read from it.
fn check_jwt(token: &str) {
    let Ok(claims) = JwtKey::new(&KEY).verify(token, NOW) else { return };
    assert!(token.len() <= TOKEN_BYTES_MAX);
    let (content, signature) = token.rsplit_once('.').unwrap();
    let (header, body) = content.split_once('.').unwrap();
    assert_eq!(
        BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap(),
        mac(content.as_bytes()).as_ref(),
        "{token}"
    );

    let part = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
    let header = part(header).unwrap();
    assert_eq!(header["alg"], "HS256", "{header}");
    for asked in ["crit", "b64", "jku", "jwk", "x5u"] {
        assert!(header.get(asked).is_none_or(Value::is_null), "{header}");
    }
    // A claim that nobody asked for is skipped there however deep it nests, and here no deeper than values are read.
    let Ok(said) = part(body) else { return };
    assert_eq!(
        (&said["project"], &said["sub"]),
        (&claims.project.as_str().into(), &claims.sub.as_str().into())
    );
    assert_eq!((&said["scope"], said["exp"].as_i64()), (&claims.scope.as_str().into(), Some(claims.exp)));
    assert!(!claims.project.is_empty() && !claims.sub.is_empty(), "{said}");
    assert!(claims.exp.saturating_add(LEEWAY_SECONDS) > NOW.as_seconds(), "{said}");
    assert!(claims.nbf.is_none_or(|from| from <= NOW.as_seconds() + LEEWAY_SECONDS), "{said}");
}

fn check_api_key(text: &str) {
    let random = text.strip_prefix("wpk_").unwrap_or_default();
    let is_key = random.len() == 43
        && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let hash = is_key.then(|| digest::digest(&digest::SHA256, text.as_bytes()));
    assert_eq!(
        api_key_hash(text).as_ref().map(<[u8; 32]>::as_slice),
        hash.as_ref().map(AsRef::as_ref),
        "{text}"
    );
}

/// Of one channel and one rotation, a single text is the key.
fn check_capability(text: &str) {
    let key = ClaimKey::new(KEY);
    let uid = ClaimKey::uid_of(text);
    assert_eq!(uid, text.get(..32).filter(|uid| uid.chars().all(|letter| letter.is_ascii_hexdigit())));
    let uid = uid.unwrap_or(UID);
    for rotation in [0, 1] {
        let right = key.capability(uid, rotation);
        let content = [uid.as_bytes(), &rotation.to_be_bytes()].concat();
        assert_eq!(right, format!("{uid}{}", BASE64_URL_SAFE_NO_PAD.encode(mac(&content))));
        assert!(key.verify(&right, uid, rotation));
        assert_eq!(key.verify(text, uid, rotation), text.get(32..) == right.get(32..), "{text}");
    }
}

/// What is read as a place is given out again as the same place.
fn check_places(text: &str) {
    if let Some(key) = place::read_page_token(text) {
        assert_eq!(place::read_page_token(&place::page_token(key)), Some(key));
    }
    if let Some(seq) = place::read_sync_token(text, "r") {
        assert!(seq >= 0, "{text}");
        assert_eq!(place::read_sync_token(&place::sync_token("r", seq), "r"), Some(seq));
    }
}
