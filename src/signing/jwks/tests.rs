//! Key sets and tokens, good and hostile.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::*;

struct Pair {
    private: EncodingKey,
    public: Value,
    algorithm: Algorithm,
}

fn pair(id: &str, algorithm: Algorithm) -> Pair {
    let kind = match algorithm {
        Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::EdDSA => &rcgen::PKCS_ED25519,
        _ => &rcgen::PKCS_RSA_SHA256,
    };
    let made = rcgen::KeyPair::generate_for(kind).unwrap();
    let der = made.serialize_der();
    let raw = made.public_key_raw();
    let part = |from: usize, to: usize| BASE64_URL_SAFE_NO_PAD.encode(&raw[from..to]);
    let (private, mut public) = match algorithm {
        // Behind a byte that says that both coordinates follow.
        Algorithm::ES256 | Algorithm::ES384 => {
            let half = raw.len() / 2;
            let curve = if algorithm == Algorithm::ES256 { "P-256" } else { "P-384" };
            let key =
                json!({ "kty": "EC", "crv": curve, "x": part(1, half + 1), "y": part(half + 1, raw.len()) });
            (EncodingKey::from_ec_der(&der), key)
        }
        Algorithm::EdDSA => (
            EncodingKey::from_ed_der(&der),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": part(0, raw.len()) }),
        ),
        _ => {
            // PKCS #1, without the 26 bytes that PKCS #8 puts in front of a key of this size.
            let private = EncodingKey::from_rsa_der(&der[26..]);
            let key = Jwk::from_encoding_key(&private, algorithm).unwrap();
            (private, serde_json::to_value(key).unwrap())
        }
    };
    public["kid"] = id.into();
    Pair { private, public, algorithm }
}

impl Pair {
    fn sign(&self, id: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }
}

fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn claims() -> Value {
    json!({ "sub": "s", "exp": 1 })
}

const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

#[test]
fn a_token_of_each_kind_of_key_is_known() {
    let pairs: Vec<Pair> =
        ALGORITHMS.iter().map(|algorithm| pair(&format!("{algorithm:?}"), *algorithm)).collect();
    let keys: Vec<Value> = pairs.iter().map(|pair| pair.public.clone()).collect();
    let all = set(&keys).unwrap();
    for pair in &pairs {
        let id = format!("{:?}", pair.algorithm);
        let read = all.verify(&pair.sign(Some(&id), &claims())).unwrap();
        assert_eq!(Value::Object(read), claims(), "{id}");
        assert_eq!(all.verify(&pair.sign(None, &claims())), Err(ExternalError::UnknownKey), "{id}");
        let alone = set(std::slice::from_ref(&pair.public)).unwrap();
        assert!(alone.verify(&pair.sign(None, &claims())).is_ok(), "no choice: {id}");
        assert_eq!(alone.verify(&pair.sign(Some("other"), &claims())), Err(ExternalError::UnknownKey));
        // Another key's name over this one's signature.
        let other = if id == "RS256" { "ES256" } else { "RS256" };
        assert_eq!(all.verify(&pair.sign(Some(other), &claims())), Err(ExternalError::Forged), "{id}");
    }
}

#[test]
fn an_algorithm_is_the_keys_own() {
    let rsa = pair("k", Algorithm::RS256);
    let keys = set(std::slice::from_ref(&rsa.public)).unwrap();
    // The public key as a shared secret, in the forms in which an attacker has it.
    let modulus = rsa.public["n"].as_str().unwrap();
    for secret in [modulus.as_bytes().to_vec(), rsa.public.to_string().into_bytes()] {
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::HS256) };
        let forged = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
        assert_eq!(keys.verify(&forged), Err(ExternalError::Malformed));
    }
    let other = Pair { algorithm: Algorithm::RS512, ..rsa };
    assert_eq!(keys.verify(&other.sign(Some("k"), &claims())), Err(ExternalError::Forged), "RS512 by RS256");
    // A key that names its algorithm is of that one alone.
    let mut named = other.public.clone();
    named["alg"] = "RS512".into();
    assert!(set(&[named]).unwrap().verify(&other.sign(Some("k"), &claims())).is_ok());
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let body = part(&claims().to_string());
    for header in [
        r#"{"alg":"none","kid":"k"}"#,
        r#"{"alg":"nOnE","kid":"k"}"#,
        r#"{"alg":"RS256","kid":"k","crit":["x"]}"#,
        r#"{"alg":"RS256","kid":"k","b64":false}"#,
        r#"{"alg":"RS256","kid":"k","jku":"https://evil.example/"}"#,
        r#"{"alg":"RS256","kid":"k","cty":"JWT"}"#,
    ] {
        assert_eq!(
            keys.verify(&format!("{}.{body}.", part(header))),
            Err(ExternalError::Malformed),
            "{header}"
        );
    }
    for kid in ["../../dev/null", "' or 1=1--", "https://evil.example/k", ""] {
        let header = part(&json!({ "alg": "RS256", "kid": kid }).to_string());
        assert_eq!(keys.verify(&format!("{header}.{body}.AAAA")), Err(ExternalError::UnknownKey), "{kid}");
    }
    let long = part(&json!({ "alg": "RS256", "kid": "k".repeat(300) }).to_string());
    assert_eq!(keys.verify(&format!("{long}.{body}.AAAA")), Err(ExternalError::Malformed));
    assert_eq!(keys.verify(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(ExternalError::Malformed));
    // ECDSA's r = s = 0.
    let curve = pair("k", Algorithm::ES256);
    let header = part(r#"{"alg":"ES256","kid":"k"}"#);
    let zero = BASE64_URL_SAFE_NO_PAD.encode([0; 64]);
    assert_eq!(
        set(std::slice::from_ref(&curve.public)).unwrap().verify(&format!("{header}.{body}.{zero}")),
        Err(ExternalError::Forged)
    );
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let signer = pair("k", Algorithm::ES256);
    let keys = set(std::slice::from_ref(&signer.public)).unwrap();
    let raw = serde_json::value::RawValue::from_string(r#"{"sub":"s","sub":"t"}"#.to_owned()).unwrap();
    let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
    let token = jsonwebtoken::encode(&header, &raw, &signer.private).unwrap();
    assert_eq!(keys.verify(&token), Err(ExternalError::Forged));
}

#[test]
fn hostile_sets_leave_what_is_good_in_them_or_nothing() {
    for text in ["", "[]", "{}", "{\"keys\": 7}", "{\"keys\": [", "null", "\u{feff}{\"keys\":[]}"] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), KeySetError, "{text}");
    }
    let good = pair("good", Algorithm::ES256);
    let mut encrypts = pair("e", Algorithm::ES256).public;
    encrypts["use"] = "enc".into();
    let mut confused = pair("c", Algorithm::ES256).public;
    confused["alg"] = "HS256".into();
    let (one, two) = (pair("twice", Algorithm::ES256), pair("twice", Algorithm::EdDSA));
    let bad = vec![
        json!(7),
        json!({}),
        json!({ "kty": "oct", "kid": "o", "k": "AAAA" }),
        json!({ "kty": "RSA", "kid": "small", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "s", "x": "AA", "y": "AA" }),
        json!({ "kty": "OKP", "crv": "X25519", "kid": "x", "x": "AA" }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "n", "x": "!", "y": "!" }),
        encrypts,
        confused,
        one.public.clone(),
        two.public.clone(),
    ];
    assert!(set(&bad).unwrap().is_empty());
    let keys = set(&[bad, vec![good.public.clone()]].concat()).unwrap();
    assert!(keys.verify(&good.sign(Some("good"), &claims())).is_ok());
    for ambiguous in [&one, &two] {
        assert_eq!(keys.verify(&ambiguous.sign(Some("twice"), &claims())), Err(ExternalError::UnknownKey));
    }
    let many: Vec<Value> = (0..100)
        .map(|at| {
            let mut key = good.public.clone();
            key["kid"] = format!("{at}").into();
            key
        })
        .collect();
    assert_eq!(set(&many).unwrap().0.len(), KEYS_MAX);
}
