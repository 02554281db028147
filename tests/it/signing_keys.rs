//! The server's own signing keys: what they sign, and how one succeeds the other.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use watchpost::jobs::JobName;

use crate::{
    app::TestApp,
    base::Kind,
    support::receiver::{Received, Receiver},
};

on_both!(
    a_pinned_key_holds_through_the_overlap,
    a_stolen_key_is_withdrawn_at_once,
    only_the_operator_rotates_and_only_within_bounds,
    one_store_has_one_first_key,
    without_a_key_that_opens_nothing_leaves_unsigned,
);

const RESOURCE: &str = "orders/17";

async fn published(app: &TestApp) -> Vec<Value> {
    let answer = app.call("GET", "/.well-known/jwks.json", "", None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["keys"].as_array().unwrap().clone()
}

async fn rotate(app: &TestApp, body: Value) -> crate::http::Answer {
    let operator = operator(app);
    app.call("POST", "/v1/keys/rotate", &operator, Some(body)).await
}

fn operator(app: &TestApp) -> String {
    let scopes = std::collections::BTreeSet::from(["operator".to_owned()]);
    let server = app.server();
    let hour = Duration::from_hours(1);
    server.app.keys.operator.mint("watchpost", "operator", &scopes, &[], hour, server.app.now()).unwrap()
}

/// Whether a receiver that knows this one key takes the request.
fn accepts(key: &Value, request: &Received) -> bool {
    let public = BASE64_URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let public = UnparsedPublicKey::new(&ED25519, public);
    let (id, at) = (request.webhook_id().unwrap(), request.webhook_timestamp().unwrap());
    let signed = [format!("{id}.{at}.").as_bytes(), &request.body].concat();
    let signatures = request.webhook_signature().unwrap_or_default().split(' ');
    let decoded = signatures.filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix("v1a,")?).ok());
    decoded.into_iter().any(|signature| public.verify(&signed, &signature).is_ok())
}

/// The name of the key that a token is signed with.
fn kid_of(request: &Received) -> Value {
    let head = request.header("watchpost-token").unwrap().split('.').next().unwrap();
    let head: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    assert_eq!(head["alg"], "EdDSA");
    head["kid"].clone()
}

async fn opened(app: &TestApp) -> Receiver {
    let receiver = Receiver::start().await;
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"),
                          "signatures": ["v1a", "jwt"], "ttlSeconds": 2_000_000 });
    let channel = app.open(opening).await;
    assert_eq!(channel.get("secret"), None, "there is none to keep");
    app.settle().await;
    receiver
}

async fn next(app: &TestApp, receiver: &Receiver) -> Received {
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    receiver.received().pop().unwrap()
}

async fn a_pinned_key_holds_through_the_overlap(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = opened(&app).await;
    let [old] = &*published(&app).await else { panic!("one key") };
    let sync = receiver.received().pop().unwrap();
    assert!(accepts(old, &sync));
    assert_eq!(kid_of(&sync), old["kid"]);

    let answer = rotate(&app, json!({ "overlap": "24h" })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let uses: Vec<Value> =
        answer.json()["items"].as_array().unwrap().iter().map(|key| key["use"].clone()).collect();
    assert_eq!(uses, ["signing", "next"]);
    let [_, new] = &*published(&app).await else { panic!("two keys") };
    for (minutes, signer) in [(1, old), (8, old), (2, new), (60, new)] {
        app.advance(Duration::from_mins(minutes)).await;
        let request = next(&app, &receiver).await;
        assert!(accepts(old, &request) && accepts(new, &request), "whichever is pinned");
        assert_eq!(kid_of(&request), signer["kid"], "after {minutes} more minutes");
    }
    app.advance(Duration::from_hours(24)).await;
    let request = next(&app, &receiver).await;
    assert!(!accepts(old, &request) && accepts(new, &request));
    assert_eq!(published(&app).await, std::slice::from_ref(new));
    let dry = app.server().jobs.run(JobName::Retention, watchpost::jobs::Run::Dry).await.unwrap();
    let real = app.server().jobs.run_once(JobName::Retention).await.unwrap();
    assert_eq!((dry["signingKeys"], real["signingKeys"]), (1, 1), "the old one is destroyed");
    assert_eq!(app.server().app.store.signing_keys().await.unwrap().len(), 1);
}

async fn a_stolen_key_is_withdrawn_at_once(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = opened(&app).await;
    let [stolen] = &*published(&app).await else { panic!("one key") };
    rotate(&app, json!({})).await;
    assert_eq!(rotate(&app, json!({ "overlap": "0s" })).await.status, 200);
    let [new] = &*published(&app).await else { panic!("one key") };
    app.advance(Duration::from_secs(5)).await;
    let request = next(&app, &receiver).await;
    assert!(accepts(new, &request) && !accepts(stolen, &request));
    assert_eq!(kid_of(&request), new["kid"]);
}

async fn only_the_operator_rotates_and_only_within_bounds(kind: Kind) {
    let app = TestApp::start(kind).await;
    let admin = app.token("acme", "root", "channels events admin");
    assert_eq!(app.call("POST", "/v1/keys/rotate", &admin, Some(json!({}))).await.status, 403);
    for overlap in ["59m", "91d", "1ms"] {
        let answer = rotate(&app, json!({ "overlap": overlap })).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some("overlap")), "{overlap}");
    }
    for _ in 0..3 {
        assert_eq!(rotate(&app, json!({})).await.status, 200);
    }
    let full = rotate(&app, json!({})).await;
    assert_eq!((full.status, full.json()["code"].as_str()), (409, Some("tooManyKeys")), "{full:?}");
    assert_eq!(published(&app).await.len(), 4);
    assert_eq!(rotate(&app, json!({ "overlap": "0s" })).await.status, 200);
    assert_eq!(published(&app).await.len(), 1);
}

async fn one_store_has_one_first_key(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let first = published(&app).await;
    assert_eq!(first.len(), 1);
    assert_eq!(
        (&first[0]["kty"], &first[0]["crv"], &first[0]["alg"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"))
    );
    assert!(first[0].get("d").is_none());
    app.restart().await;
    assert_eq!(published(&app).await, first);
}

async fn without_a_key_that_opens_nothing_leaves_unsigned(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    app.base.run("update signing_keys set kid = 'another'").await;
    for (id, scheme) in [("a", "v1a"), ("j", "jwt")] {
        let opening =
            json!({ "id": id, "resource": RESOURCE, "address": receiver.url("/"), "signatures": [scheme] });
        app.open(opening).await;
    }
    let plain = Receiver::start().await;
    app.open(json!({ "id": "plain", "resource": RESOURCE, "address": plain.url("/") })).await;
    plain.wait_for(1).await;
    assert_eq!(receiver.received().len(), 0, "{}", receiver.transcript());
    for id in ["a", "j"] {
        app.stop_channel(id).await;
    }
    app.settle().await;
    assert_eq!(receiver.received().len(), 0, "{}", receiver.transcript());
}
