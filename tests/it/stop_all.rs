//! A subject's access ends: everything that they have opened is stopped at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{PROJECT, TestApp},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

/// Whose access ends.
const SUBJECT: &str = "max@example.com";

on_both!(everything_of_a_subject_is_stopped_and_told);

async fn stop_all(app: &TestApp, scopes: &str, query: &str) -> (u16, Value) {
    let token = app.token(PROJECT, "boss", scopes);
    let answer = app.call("DELETE", &format!("/v1/channels{query}"), &token, None).await;
    let told = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status, told)
}

async fn everything_of_a_subject_is_stopped_and_told(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    bad.answer(Answer::status(500));
    let own = app.token(PROJECT, SUBJECT, "channels");
    let open = async |id: &str, receiver: &Receiver, ttl: u64| {
        let body =
            json!({ "id": id, "resource": "rooms/1", "address": receiver.url("/"), "ttlSeconds": ttl });
        let answer = app.call("POST", "/v1/channels", &own, Some(body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    open("brief", &good, 60).await;
    open("active", &good, 86_400).await;
    let failing = open("failing", &bad, 86_400).await;
    open("paused", &good, 86_400).await;
    assert_eq!(app.call("POST", "/v1/channels/paused/pause", &own, None).await.status, 200);
    let other = app.token(PROJECT, "somebody", "channels");
    let body = json!({ "id": "others", "resource": "rooms/1", "address": good.url("/") });
    let others = app.call("POST", "/v1/channels", &other, Some(body)).await.json();
    app.advance(Duration::from_mins(2)).await;
    app.expire().await;
    app.publish(json!({ "resource": "rooms/1", "name": "room.changed" })).await;
    app.settle().await;
    let states = async || {
        let mut states = Vec::new();
        for id in ["brief", "active", "failing", "paused"] {
            let channel = app.call("GET", &format!("/v1/channels/{id}"), &own, None).await.json();
            states.push(channel["state"].as_str().unwrap().to_owned());
        }
        states
    };
    assert_eq!(states().await, ["expired", "active", "active", "paused"]);

    let query = format!("?subject={SUBJECT}");
    assert_eq!(stop_all(&app, "channels events", &query).await.0, 403);
    let (status, told) = stop_all(&app, "admin", "").await;
    assert_eq!((status, &told["field"]), (400, &"subject".into()));
    assert_eq!(stop_all(&app, "admin", "?subject=nobody").await.0, 204);
    assert_eq!(states().await[1], "active", "nobody has nothing");
    assert_eq!(stop_all(&app, "admin", &query).await, (204, Value::Null));
    assert_eq!(states().await, ["stopped"; 4]);
    assert_eq!(stop_all(&app, "admin", &query).await, (204, Value::Null), "repeating it is fine");

    // Nothing leaves any more, and nothing can be claimed; others are not concerned.
    let (failed, before) = (bad.received().len(), good.received().len());
    app.publish(json!({ "resource": "rooms/1", "name": "room.changed" })).await;
    app.until(&good, "the other subject's", |received| received.len() > before).await;
    app.advance(Duration::from_hours(1)).await;
    app.sweep().await;
    assert_eq!(bad.received().len(), failed);
    let after = &good.received()[before..];
    assert!(
        after.iter().all(|request| request.channel_uid() == others["uid"].as_str()),
        "{}",
        good.transcript()
    );
    let claim = failing["claimUrl"].as_str().unwrap();
    let path = &claim[claim.find("/claims/").unwrap()..];
    let claimed = app.call("GET", path, "", None).await;
    assert!(claimed.status != 200 || claimed.json()["items"] == json!([]), "{claimed:?}");

    let feed = app.get("/v1/events?resource=watchpost/channels&limit=100").await.json();
    let mut told: Vec<&str> = feed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["name"] == "channel.stopped")
        .map(|event| event["data"]["channelId"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["active", "brief", "failing", "paused"]);
}
