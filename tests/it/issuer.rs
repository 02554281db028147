//! Tokens of an external issuer: a real one on a real socket, that rotates its keys, is down, or means harm.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::{
    app::{PROJECT, SUBJECT, TestApp},
    base::{Base, Kind},
    http::Answer,
    support::receiver::{Answer as Says, Receiver},
};

const ISSUER: &str = "https://id.example.com";
/// After it the issuer may be asked again.
const INTERVAL: Duration = Duration::from_secs(30);
/// After it its keys are looked at anew.
const FRESH: Duration = Duration::from_mins(5);

on_both!(an_external_token_may_do_what_it_says);

struct Key {
    private: EncodingKey,
    public: Value,
    id: &'static str,
}

fn key(id: &'static str) -> Key {
    let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let raw = made.public_key_raw();
    let part = |from: usize, to: usize| BASE64_URL_SAFE_NO_PAD.encode(&raw[from..to]);
    let public =
        json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": part(1, 33), "y": part(33, 65) });
    Key { private: EncodingKey::from_ec_der(&made.serialize_der()), public, id }
}

fn set(keys: &[&Key]) -> Says {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.public).collect();
    Says::ok().with_body(json!({ "keys": keys }).to_string())
}

/// A server that takes the tokens of an issuer, which publishes its keys at a receiver's address.
struct World {
    app: TestApp,
    issuer: Receiver,
}

impl World {
    async fn new(kind: Kind, says: Says, settings: &[(&str, &str)]) -> Self {
        let issuer = Receiver::start().await;
        issuer.answer(says);
        let url = issuer.url("/keys");
        let usual = [("JWKS_URL", url.as_str()), ("JWT_ISSUER", ISSUER), ("JWT_AUDIENCE", "watchpost")];
        let app = TestApp::with(kind, &[&usual[..], settings].concat()).await;
        Self { app, issuer }
    }

    fn claims(&self) -> Value {
        let now = self.app.now().as_seconds();
        json!({ "iss": ISSUER, "aud": ["else", "watchpost"], "project": PROJECT, "sub": SUBJECT,
                "scope": "channels events", "iat": now, "exp": now + 3_600 })
    }

    fn token(&self, key: &Key, change: &Value) -> String {
        let mut claims = self.claims();
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some(key.id.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &key.private).unwrap()
    }

    async fn ask(&self, token: &str) -> (u16, String) {
        told(&self.app.call("GET", "/v1/channels", token, None).await)
    }

    async fn open(&self, token: &str, resource: &str) -> (u16, String) {
        let body = json!({ "resource": resource, "address": "http://127.0.0.1:9/" });
        told(&self.app.call("POST", "/v1/channels", token, Some(body)).await)
    }

    /// How often the issuer was asked.
    fn asked(&self) -> usize {
        self.issuer.received().len()
    }
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn invalid() -> (u16, String) {
    (401, "credentialsInvalid".to_owned())
}

fn unavailable() -> (u16, String) {
    (503, "accessUnavailable".to_owned())
}

async fn an_external_token_may_do_what_it_says(kind: Kind) {
    let first = key("k1");
    let world = World::new(kind, set(&[&first]), &[]).await;
    let plain = world.token(&first, &json!({}));
    assert_eq!(world.ask(&plain).await, ok());
    let event = json!({ "resource": "a/b", "name": "a.b" });
    assert_eq!(world.app.call("POST", "/v1/events", &plain, Some(event)).await.status, 200);
    assert_eq!(
        world.open(&plain, "a/b").await,
        (403, "resourceNotAllowed".to_owned()),
        "nothing unless told"
    );
    let narrow = world.token(&first, &json!({ "resources": ["a/**", "users/{subject}"] }));
    assert_eq!(world.open(&narrow, "a/b").await.0, 201);
    assert_eq!(world.open(&narrow, "users/me").await.0, 201);
    assert_eq!(world.open(&narrow, "b").await, (403, "resourceNotAllowed".to_owned()));
    let weak = world.token(&first, &json!({ "scope": "operator other" }));
    assert_eq!(world.ask(&weak).await, (403, "scopeMissing".to_owned()));
    let would_be = world.token(&first, &json!({ "scope": "operator admin" }));
    let job = world.app.call("POST", "/v1/jobs/expiry", &would_be, None);
    assert_eq!(told(&job.await), (403, "scopeMissing".to_owned()), "nobody outside makes operators");
    for change in [
        json!({ "iss": "https://else.example.com" }),
        json!({ "aud": "else" }),
        json!({ "exp": world.app.now().as_seconds() - 31 }),
        json!({ "exp": world.app.now().as_seconds() + 90_000 }),
        json!({ "nbf": world.app.now().as_seconds() + 60 }),
        json!({ "project": "p\u{0}" }),
        json!({ "sub": "" }),
        json!({ "sub": null }),
    ] {
        assert_eq!(world.ask(&world.token(&first, &change)).await, invalid(), "{change}");
    }
    assert_eq!(world.asked(), 1, "the keys are kept");
    // The server's own tokens go on, and need no issuer.
    assert_eq!(world.ask(&world.app.token(PROJECT, SUBJECT, "channels")).await, ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_the_issuer_is_asked_at_most_once_per_interval() {
    let (first, second, third) = (key("k1"), key("k2"), key("k3"));
    let world = World::new(Kind::Sqlite, set(&[&first]), &[]).await;
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, ok());
    assert_eq!(world.asked(), 1);
    // Within the interval nobody makes us ask again, whatever ids they think up.
    world.issuer.answer(set(&[&first, &second]));
    for _ in 0..10 {
        assert_eq!(world.ask(&world.token(&second, &json!({}))).await, invalid());
        assert_eq!(world.ask(&world.token(&third, &json!({}))).await, invalid());
    }
    assert_eq!(world.asked(), 1);
    world.app.advance(INTERVAL).await;
    assert_eq!(world.ask(&world.token(&second, &json!({}))).await, ok(), "a key that is new");
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, ok(), "the old one beside it");
    assert_eq!(world.asked(), 2);
    // A key that was taken back is forgotten once the set is no longer fresh.
    world.issuer.answer(set(&[&second]));
    world.app.advance(FRESH).await;
    assert_eq!(world.ask(&world.token(&second, &json!({}))).await, ok());
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, invalid());
    assert_eq!(world.asked(), 3);
    // So are all of them.
    world.issuer.answer(set(&[]));
    world.app.advance(FRESH).await;
    assert_eq!(world.ask(&world.token(&second, &json!({}))).await, invalid());
    world.issuer.answer(Says::status(500));
    world.app.advance(FRESH).await;
    assert_eq!(world.ask(&world.token(&second, &json!({}))).await, unavailable(), "it may be a new one");
    world.issuer.answer(set(&[&second]));
    world.app.advance(INTERVAL).await;
    assert_eq!(world.ask(&world.token(&second, &json!({}))).await, ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_issuer_is_down_its_keys_go_on_being_good_for_a_day() {
    let (first, second) = (key("k1"), key("k2"));
    let world = World::new(Kind::Sqlite, set(&[&first]), &[]).await;
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, ok());
    for says in [Says::status(500), Says::Reset, Says::ok().with_body("{\"keys\":[")] {
        world.issuer.answer(says);
        world.app.advance(FRESH).await;
        assert_eq!(world.ask(&world.token(&first, &json!({}))).await, ok());
        assert_eq!(world.ask(&world.token(&second, &json!({}))).await, unavailable(), "it may be a new one");
    }
    world.app.advance(Duration::from_hours(24)).await;
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, unavailable());
    assert_eq!(world.ask(&world.app.token(PROJECT, SUBJECT, "channels")).await, ok(), "the server's own");
    world.issuer.answer(set(&[&first]));
    world.app.advance(INTERVAL).await;
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_does_not_wait_for_an_issuer_that_is_down() {
    let service = Receiver::start().await;
    let known = json!({ "project": PROJECT, "subject": SUBJECT, "scopes": ["channels"] });
    service.answer(Says::ok().with_body(known.to_string()));
    let url = service.url("/authorize");
    let world = World::new(Kind::Sqlite, Says::status(500), &[("AUTHORIZE_URL", &url)]).await;
    assert_eq!(world.ask("an-opaque-token").await, ok());
    assert_eq!(world.asked(), 0);
    assert_eq!(world.ask(&world.token(&key("k1"), &json!({}))).await, unavailable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_issuer_gets_nothing() {
    let first = key("k1");
    let huge = format!("{{\"keys\":[{}],\"x\":\"{}\"}}", first.public, "a".repeat(300 * 1_024));
    let world = World::new(Kind::Sqlite, Says::ok().with_body(huge), &[]).await;
    let elsewhere = Receiver::start().await;
    elsewhere.answer(set(&[&first]));
    for says in [
        None,
        Some(Says::ok().with_body("<html>")),
        Some(Says::ok().with_body("[".repeat(100_000))),
        Some(Says::status(302).with_header("Location", &elsewhere.url("/"))),
        Some(Says::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{".to_vec())),
        Some(Says::Hang),
    ] {
        if let Some(says) = says {
            world.issuer.answer(says);
        }
        assert_eq!(world.ask(&world.token(&first, &json!({}))).await, unavailable());
        world.app.advance(INTERVAL).await;
    }
    world.issuer.release();
    assert_eq!(elsewhere.received().len(), 0, "redirects are not followed");
    // A key that stands twice under one id is nobody's.
    let other = key("k1");
    world.issuer.answer(set(&[&first, &other, &key("k9")]));
    world.app.advance(INTERVAL).await;
    assert_eq!(world.ask(&world.token(&first, &json!({}))).await, invalid());
    assert_eq!(world.ask(&world.token(&other, &json!({}))).await, invalid());
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_read_as_the_operator_says() {
    let first = key("k1");
    let settings = [
        ("JWT_PROJECT", "shop"),
        ("JWT_SUBJECT_CLAIM", "email"),
        ("JWT_SCOPE_CLAIM", "scp"),
        ("JWT_SCOPE_MAP", "watch.write=channels,https://api.example.com/publish=events+channels"),
    ];
    let world = World::new(Kind::Sqlite, set(&[&first]), &settings).await;
    let change = json!({ "email": "liz@x", "scp": ["watch.write", "events"], "resources": ["**"] });
    let token = world.token(&first, &change);
    let body = json!({ "resource": "a", "address": "http://127.0.0.1:9/" });
    let opened = world.app.call("POST", "/v1/channels", &token, Some(body)).await;
    assert_eq!((opened.status, &opened.json()["subject"]), (201, &"liz@x".into()));
    let event = json!({ "resource": "a/b", "name": "a.b" });
    let published = world.app.call("POST", "/v1/events", &token, Some(event.clone())).await;
    assert_eq!(told(&published), (403, "scopeMissing".to_owned()), "an unmapped word grants nothing");
    let change = json!({ "email": "liz@x", "scp": "https://api.example.com/publish" });
    let token = world.token(&first, &change);
    assert_eq!(world.app.call("POST", "/v1/events", &token, Some(event)).await.status, 200);
    let seen =
        world.app.call("GET", "/v1/channels", &world.app.token("shop", "liz@x", "channels"), None).await;
    assert_eq!(seen.json()["items"].as_array().unwrap().len(), 1, "the project is the operator's");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_do_not_come_unencrypted_from_a_network_that_is_not_opened() {
    let base = Arc::new(Base::new(Kind::Sqlite));
    let settings =
        [("JWKS_URL", "http://10.1.2.3/keys"), ("JWT_ISSUER", ISSUER), ("JWT_AUDIENCE", "watchpost")];
    let refused = TestApp::refusal_with(&base, &settings).await;
    assert!(refused.contains("http://10.1.2.3/keys is not encrypted"), "{refused}");
}
