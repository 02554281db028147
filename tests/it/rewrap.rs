//! A new master key: what was sealed under the old one goes on signing and proving, and the old key opens nothing.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use watchpost::{
    app::rewrap::{RewrapError, Rewrapped, rewrap},
    entropy::{SeededEntropy, SharedEntropy},
    runtime::Tasks,
    signing::Keys,
    store::{RewrapBegun, Store},
};

use crate::{app::TestApp, base::Kind, secrets::accepts, support::receiver::Receiver};

on_both!(everything_goes_on_under_a_new_key, an_interrupted_walk_is_finished_and_nothing_starts_meanwhile);

const RESOURCE: &str = "orders/17";
const OLD: &[u8; 32] = b"01234567890123456789012345678901";
const NEW: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";

async fn store_of(app: &TestApp) -> Store {
    Store::open(&app.base.location(), Tasks::current(), Box::new(|_, _| {})).await.unwrap()
}

fn dice() -> SharedEntropy {
    SeededEntropy::new(5)
}

/// Channels with everything that can be sealed: the first secret of each, then the second of `a`.
async fn opened(app: &TestApp, receiver: &Receiver) -> Vec<String> {
    let mut secrets = Vec::new();
    for id in ["a", "b"] {
        let opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url("/"),
                              "signatures": ["v1", "v1a"], "auth": { "type": "bearer", "token": "t0ken" },
                              "token": "tenant=7", "headers": { "X-Key": "k3y" } });
        secrets.push(app.open(opening).await["secret"].as_str().unwrap().to_owned());
    }
    app.open(json!({ "id": "u", "resource": RESOURCE, "address": receiver.url("/"), "signatures": [] }))
        .await;
    let rotated = app.post("/v1/channels/a/secret/rotate", Value::Null).await.json();
    secrets.push(rotated["secret"].as_str().unwrap().to_owned());
    app.settle().await;
    secrets
}

/// What is sent after a start under the new key is what it would have been.
async fn assert_goes_on(app: &TestApp, receiver: &Receiver, secrets: &[String]) {
    let before = receiver.received().len();
    let jwks = app.call("GET", "/.well-known/jwks.json", "", None).await.json();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    let received = receiver.received();
    let by = |id: &str| {
        received[before..].iter().find(|request| request.header("watchpost-channel-id") == Some(id)).unwrap()
    };
    assert!(accepts(&secrets[0], by("a")) && accepts(&secrets[2], by("a")) && accepts(&secrets[1], by("b")));
    for id in ["a", "b"] {
        assert_eq!(by(id).header("authorization"), Some("Bearer t0ken"));
        assert_eq!(by(id).header("watchpost-channel-token"), Some("tenant=7"));
        assert_eq!(by(id).header("x-key"), Some("k3y"));
        assert!(by(id).webhook_signature().unwrap().contains("v1a,"));
    }
    assert_eq!(by("u").webhook_signature(), None);
}

async fn everything_goes_on_under_a_new_key(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let secrets = opened(&app, &receiver).await;
    let (old, new) = (Keys::new(OLD, None), Keys::new(NEW, None));
    if app.base.is_shared() {
        let beside = rewrap(&store_of(&app).await, &old, &new, dice().as_ref()).await;
        assert!(matches!(beside, Err(RewrapError::InUse)), "{beside:?}");
    }
    app.stop().await;
    app.base.is_free().await;

    let store = store_of(&app).await;
    let canary = u64::from(app.base.is_shared());
    let done = rewrap(&store, &old, &new, dice().as_ref()).await.unwrap();
    assert_eq!(done, Rewrapped { channels: 2 + canary, signing_keys: 1 });
    let again = rewrap(&store, &old, &new, dice().as_ref()).await.unwrap();
    assert_eq!(again, Rewrapped::default(), "there is nothing left to do");
    store.close().await;
    let refusal = TestApp::refusal_on(&app.base).await;
    assert!(refusal.contains("is not the key that this store was made with"), "{refusal}");
    app.base.is_free().await;

    app.set("MASTER_KEY", &BASE64_STANDARD.encode(NEW));
    app.start_again().await;
    assert_goes_on(&app, &receiver, &secrets).await;
}

async fn an_interrupted_walk_is_finished_and_nothing_starts_meanwhile(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let secrets = opened(&app, &receiver).await;
    app.stop().await;
    app.base.is_free().await;
    let (old, new) = (Keys::new(OLD, None), Keys::new(NEW, None));

    // It stops at a channel whose secret is broken; those before it are done.
    let store = store_of(&app).await;
    app.base.run("update channels set uid = 'broken' where channel_id = 'b'").await;
    let stopped = rewrap(&store, &old, &new, dice().as_ref()).await;
    assert!(matches!(&stopped, Err(RewrapError::Unopenable(what)) if what.contains("broken")), "{stopped:?}");
    store.close().await;
    let refusal = TestApp::refusal_on(&app.base).await;
    assert!(refusal.contains("watchpost keys rewrap"), "{refusal}");
    app.base.is_free().await;

    let store = store_of(&app).await;
    let another = Keys::new(b"another key of thirty-two bytes.", None);
    assert!(matches!(rewrap(&store, &old, &another, dice().as_ref()).await, Err(RewrapError::Another)));
    assert_eq!(store.begin_rewrap(new.fingerprint.clone()).await.unwrap(), RewrapBegun::Begun);
    let uid = uid_of(&receiver);
    app.base.run(&format!("update channels set uid = '{uid}' where channel_id = 'b'")).await;
    rewrap(&store, &old, &new, dice().as_ref()).await.unwrap();
    store.close().await;
    app.set("MASTER_KEY", &BASE64_STANDARD.encode(NEW));
    app.start_again().await;
    assert_goes_on(&app, &receiver, &secrets).await;
}

/// The uid that `b` had, from what its receiver was sent.
fn uid_of(receiver: &Receiver) -> String {
    let received = receiver.received();
    let sync = received.iter().find(|request| request.header("watchpost-channel-id") == Some("b")).unwrap();
    sync.webhook_id().unwrap().split('_').nth(1).unwrap().to_owned()
}
