//! Whoever published an event takes its data back, and nothing that can be asked for shows it any more.

use serde_json::{Value, json};

use crate::{
    app::{PROJECT, SUBJECT, TestApp},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(the_data_of_an_event_is_erased, only_a_publisher_of_the_project_erases);

const RESOURCE: &str = "orders/17";

async fn erase(app: &TestApp, token: &str, id: &str) -> u16 {
    app.call("DELETE", &format!("/v1/events/{id}/data"), token, None).await.status
}

async fn the_data_of_an_event_is_erased(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let channel = app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    app.settle().await;
    receiver.answer(Answer::status(503));
    let event = json!({ "resource": RESOURCE, "name": "order.changed", "data": { "name": "Liz" } });
    let id = app.publish(event).await[0]["id"].as_str().unwrap().to_owned();
    app.settle().await;
    let token = app.token(PROJECT, SUBJECT, "events");
    assert_eq!(erase(&app, &token, &id).await, 204);
    assert_eq!(erase(&app, &token, &id).await, 204, "twice is fine");
    let feed = app.get(&format!("/v1/events?resource={RESOURCE}")).await.json();
    let shown = &feed["items"][0];
    assert_eq!(
        (&shown["id"], &shown["name"], &shown["seq"]),
        (&json!(id), &json!("order.changed"), &json!(1))
    );
    assert_eq!((shown.get("data"), shown.get("contentType")), (None, None));
    let claim = url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned();
    let page = app.call("GET", &claim, "", None).await.json();
    assert_eq!((&page["items"][0]["number"], &page["items"][0]["dataBase64"]), (&json!(2), &Value::Null));
    receiver.answer(Answer::ok());
    app.advance(crate::app::seconds(60)).await;
    app.sweep().await;
    let sent = receiver.received();
    let last = sent.last().unwrap();
    assert_eq!(last.message_number(), Some(2), "that it happened is still told");
    assert!(!String::from_utf8_lossy(&last.body).contains("Liz"));
}

async fn only_a_publisher_of_the_project_erases(kind: Kind) {
    let app = TestApp::start(kind).await;
    let event = json!({ "id": "e1", "resource": RESOURCE, "name": "order.changed", "data": 1 });
    app.publish(event).await;
    let (foreign, reader) =
        (app.token("else", SUBJECT, "events admin"), app.token(PROJECT, SUBJECT, "channels"));
    assert_eq!(erase(&app, &foreign, "e1").await, 404);
    assert_eq!(erase(&app, &reader, "e1").await, 403);
    assert_eq!(erase(&app, "x", "e1").await, 401);
    let own = app.token(PROJECT, SUBJECT, "admin");
    for unknown in ["none", "%00", "%ff", &"x".repeat(200)] {
        assert_eq!(erase(&app, &own, unknown).await, 404, "{unknown}");
    }
    let feed = app.get(&format!("/v1/events?resource={RESOURCE}")).await.json();
    assert_eq!(feed["items"][0]["data"], 1);
    assert_eq!(erase(&app, &own, "e1").await, 204);
}
