//! A channel's signing secret is replaced, and no receiver has to switch at a given moment.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use watchpost::{
    entropy::{SeededEntropy, SharedEntropy},
    jobs::JobName,
};

use crate::{
    app::{TestApp, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(
    a_receiver_may_switch_at_any_moment_of_the_overlap,
    a_compromised_secret_is_void_at_once,
    what_is_wrong_is_refused_by_name,
    the_owner_hears_of_it,
);

const RESOURCE: &str = "orders/17";

/// Whether a receiver that knows this one secret takes the request.
pub fn accepts(secret: &str, request: &Received) -> bool {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let Some(signatures) = request.webhook_signature() else { return false };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, timestamp) = (request.webhook_id().unwrap(), request.webhook_timestamp().unwrap());
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    signatures.split(' ').any(|signature| signature == expected)
}

fn signatures(request: &Received) -> usize {
    request.webhook_signature().map_or(0, |signatures| signatures.split(' ').count())
}

async fn rotate(app: &TestApp, id: &str, body: Value) -> Value {
    let answer = app.post(&format!("/v1/channels/{id}/secret/rotate"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn a_receiver_may_switch_at_any_moment_of_the_overlap(kind: Kind) {
    const STEPS: u64 = 24;
    let app = TestApp::start(kind).await;
    let dice: SharedEntropy = SeededEntropy::new(17);
    for round in 0..4 {
        let id = format!("c{round}");
        let receiver = Receiver::start().await;
        let opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url("/"),
                              "expiresAt": app.now().plus(Duration::from_hours(200)).to_rfc3339() });
        let old = app.open(opening).await["secret"].as_str().unwrap().to_owned();
        app.settle().await;
        let rotated = rotate(&app, &id, json!({ "overlap": "24h" })).await;
        let new = rotated["secret"].as_str().unwrap().to_owned();
        assert_eq!(rotated["overlapEndsAt"], app.now().plus(Duration::from_hours(24)).to_rfc3339());
        assert_ne!(old, new);
        let switches_at = u64::from_le_bytes(dice.bytes()) % STEPS;
        // Refuses what it cannot verify under the one secret that it has.
        let known = Arc::new(std::sync::Mutex::new(old.clone()));
        let knows = Arc::clone(&known);
        receiver.answer_with(move |request| {
            Answer::status(if accepts(&knows.lock().unwrap(), request) { 200 } else { 401 })
        });
        for step in 0..STEPS {
            if step == switches_at {
                known.lock().unwrap().clone_from(&new);
            }
            app.publish_many(RESOURCE, "order.changed", 1).await;
            app.settle().await;
            app.advance(Duration::from_hours(1)).await;
        }
        // The overlap is over: the new secret signs alone, whether or not the job has been.
        app.publish_many(RESOURCE, "order.changed", 1).await;
        app.settle().await;
        let received = receiver.received();
        assert_eq!(
            received.len() as u64,
            1 + STEPS + 1,
            "nothing was tried twice: {}",
            receiver.transcript()
        );
        let last = received.last().unwrap();
        assert!(!accepts(&old, last) && accepts(&new, last));
        assert_eq!(signatures(last), 1);
        assert!(received[1..=24].iter().all(|request| signatures(request) == 2));
        let report = app.server().jobs.run_once(JobName::Retention).await.unwrap();
        assert_eq!(report["secrets"], 1, "the old one is destroyed");
        app.stop_channel(&id).await;
    }
}

async fn a_compromised_secret_is_void_at_once(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opened = app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    let stolen = opened["secret"].as_str().unwrap();
    let own = format!("whsec_{}", BASE64_STANDARD.encode([9_u8; 24]));
    rotate(&app, "c", Value::Null).await;
    let rotated = rotate(&app, "c", json!({ "secret": own, "overlap": "0s" })).await;
    assert_eq!(rotated, json!({ "secret": own, "overlapEndsAt": null }));
    // Whoever did not see the answer asks again.
    assert_eq!(rotate(&app, "c", json!({ "secret": own })).await, rotated);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    let last = receiver.received().pop().unwrap();
    assert!(accepts(&own, &last) && !accepts(stolen, &last));
    assert_eq!(signatures(&last), 1);
    assert_eq!(app.channel("c").await.get("secret"), None);
}

async fn what_is_wrong_is_refused_by_name(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    app.open(json!({ "id": "u", "resource": RESOURCE, "address": receiver.url("/"), "signatures": [] }))
        .await;
    let refused = async |id: &str, body: Value| {
        let answer = app.post(&format!("/v1/channels/{id}/secret/rotate"), body).await;
        let problem = answer.json();
        (answer.status, problem["code"].as_str().unwrap().to_owned(), problem["field"].clone())
    };
    for (body, code, field) in [
        (json!({ "secret": "whsec_AAAA" }), "fieldInvalid", "secret"),
        (json!({ "overlap": "soon" }), "fieldType", "overlap"),
        (json!({ "overlap": "31d" }), "fieldInvalid", "overlap"),
        (json!({ "until": "24h" }), "fieldInvalid", "until"),
    ] {
        assert_eq!(refused("c", body).await, (400, code.to_owned(), json!(field)));
    }
    assert_eq!(refused("u", Value::Null).await, (409, "channelUnsigned".to_owned(), Value::Null));
    for _ in 0..4 {
        rotate(&app, "c", Value::Null).await;
    }
    assert_eq!(refused("c", Value::Null).await, (409, "tooManySecrets".to_owned(), Value::Null));
    app.stop_channel("c").await;
    assert_eq!(refused("c", Value::Null).await, (409, "channelEnded".to_owned(), Value::Null));
}

async fn the_owner_hears_of_it(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, owner) = (Receiver::start().await, Receiver::start().await);
    app.open(json!({ "id": "o", "resource": "watchpost/channels", "address": owner.url("/") })).await;
    app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    let rotated = rotate(&app, "c", Value::Null).await;
    app.advance(seconds(1)).await;
    let told = owner.received().pop().unwrap();
    assert_eq!(told.event(), Some("channel.secret.rotated"));
    let data = &told.json()["data"];
    assert_eq!((&data["channelId"], &data["overlapEndsAt"]), (&json!("c"), &rotated["overlapEndsAt"]));
    assert!(!told.text().contains("whsec_"), "{told}");
}
