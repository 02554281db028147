//! `/v1/resources`, and servers on which only declared resources exist.

use serde_json::{Value, json};
use watchpost::jobs::JobName;

use crate::{
    app::{CALENDAR, PROJECT, SCOPES, SUBJECT, TestApp, numbers},
    base::Kind,
    http::Answer as Got,
    support::receiver::{Answer, Receiver},
};

on_both!(
    resources_are_declared_listed_and_read,
    only_declared_resources_exist_where_it_is_said,
    a_deleted_resource_says_so_and_ends_its_channels,
    a_receiver_that_is_down_gets_the_last_event_later,
);

const RESOURCE: &str = "orders/17";

async fn as_admin(app: &TestApp, method: &str, path: &str, body: Option<Value>) -> Got {
    app.call(method, path, &app.token(PROJECT, SUBJECT, "admin"), body).await
}

async fn declare(app: &TestApp, resource: &str) -> Got {
    let token = app.token(PROJECT, SUBJECT, "events");
    app.call("PUT", "/v1/resources", &token, Some(json!({ "resource": resource }))).await
}

async fn resources_are_declared_listed_and_read(kind: Kind) {
    let app = TestApp::start(kind).await;
    let made = declare(&app, "orders/a b").await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(
        (&made["resource"], &made["headSeq"], &made["oldestSeq"]),
        (&json!("orders/a%20b"), &json!(0), &Value::Null)
    );
    assert_eq!(
        (&made["declared"], &made["channels"], &made["createdAt"].is_string()),
        (&json!(true), &json!(0), &true)
    );
    let again = declare(&app, "orders/a%20b").await;
    assert_eq!((again.status, again.json()), (200, made.clone()));
    app.publish_many(RESOURCE, "order.changed", 2).await;
    let page = as_admin(&app, "GET", "/v1/resources?limit=1", None).await.json();
    let next = page["nextPageToken"].as_str().unwrap().to_owned();
    let mut paths = vec![page["items"][0]["resource"].clone()];
    let rest = as_admin(&app, "GET", &format!("/v1/resources?pageToken={next}"), None).await.json();
    paths.extend(rest["items"].as_array().unwrap().iter().map(|item| item["resource"].clone()));
    paths.retain(|path| path.as_str().unwrap().starts_with("orders"));
    assert_eq!(paths, [json!("orders/17"), json!("orders/a%20b")]);

    let id = made["resourceId"].as_str().unwrap();
    let one = format!("/v1/resources/{id}");
    let reader = app.token_for(PROJECT, SUBJECT, "channels", &["orders/17"]);
    assert_eq!(app.call("GET", &one, &reader, None).await.status, 404);
    let seen = app.call("GET", "/v1/resources", &reader, None).await.json();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1, "what it may watch: {seen}");
    let foreign = app.token("else", SUBJECT, "admin");
    assert_eq!(app.call("GET", &one, &foreign, None).await.status, 404);
    assert_eq!(app.call("DELETE", &one, &foreign, None).await.status, 404);
    assert_eq!(app.call("DELETE", &one, &app.token(PROJECT, SUBJECT, SCOPES), None).await.status, 403);
    assert_eq!(app.call("PUT", "/v1/resources", &reader, Some(json!({ "resource": "x" }))).await.status, 403);
    assert_eq!(as_admin(&app, "GET", "/v1/resources/%00", None).await.status, 404);
    for wrong in ["watchpost/channels", "a/watch", ""] {
        let answer = declare(&app, wrong).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("resource")), "{wrong}");
    }
}

async fn only_declared_resources_exist_where_it_is_said(kind: Kind) {
    let app =
        TestApp::on(std::sync::Arc::new(crate::base::Base::new(kind)), &[("RESOURCES", "declared")]).await;
    let receiver = Receiver::start().await;
    assert_eq!(declare(&app, "orders/1").await.status, 201);
    let event = |resource: &str| json!({ "resource": resource, "name": "order.changed" });
    let published = app.post("/v1/events", json!({ "events": [event("orders/1"), event("orders/2")] })).await;
    assert_eq!((published.status, &published.json()["field"]), (400, &json!("events[1].resource")));
    let both = json!({ "resources": ["orders/1", "orders/2"], "name": "order.changed" });
    assert_eq!(app.post("/v1/events", both).await.json()["field"], "resources[1]");
    let opening = |resource: &str| json!({ "resource": resource, "address": receiver.url("/") });
    let opened = app.post("/v1/channels", opening("orders/2")).await;
    assert_eq!((opened.status, &opened.json()["field"]), (400, &json!("resource")));
    let body = json!({ "id": "g", "type": "web_hook", "address": receiver.url("/") });
    let watched = app.post(&format!("/{CALENDAR}/watch"), body.clone()).await;
    assert_eq!((watched.status, &watched.json()["error"]["errors"][0]["reason"]), (404, &json!("notFound")));
    let listed = as_admin(&app, "GET", "/v1/resources", None).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "nothing was stored: {listed}");
    assert_eq!(
        (&listed["items"][0]["resource"], &listed["items"][0]["headSeq"]),
        (&json!("orders/1"), &json!(0))
    );

    assert_eq!(app.post("/v1/events", event("orders/1")).await.status, 200);
    assert_eq!(app.post("/v1/channels", opening("orders/1")).await.status, 201);
    assert_eq!(app.post("/v1/channels", opening("watchpost/channels")).await.status, 201, "it always exists");
    assert_eq!(declare(&app, CALENDAR).await.status, 201);
    assert_eq!(app.post(&format!("/{CALENDAR}/watch"), body).await.status, 200);
    let id = listed["items"][0]["resourceId"].as_str().unwrap();
    assert_eq!(as_admin(&app, "DELETE", &format!("/v1/resources/{id}"), None).await.status, 204);
    assert_eq!(app.post("/v1/events", event("orders/1")).await.status, 400, "it is gone");
}

async fn delete(app: &TestApp, resource: &str) -> Got {
    let listed = as_admin(app, "GET", "/v1/resources", None).await.json();
    let found =
        listed["items"].as_array().unwrap().iter().find(|item| item["resource"] == resource).unwrap().clone();
    let id = found["resourceId"].as_str().unwrap();
    as_admin(app, "DELETE", &format!("/v1/resources/{id}"), None).await
}

async fn opened(app: &TestApp, receiver: &Receiver) {
    app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"), "catchUp": "all" }))
        .await;
    app.settle().await;
}

async fn a_deleted_resource_says_so_and_ends_its_channels(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.publish(json!({ "resource": RESOURCE, "name": "order.changed", "data": { "name": "Liz" } })).await;
    app.settle().await;
    assert_eq!(delete(&app, RESOURCE).await.status, 204);
    app.settle().await;
    let sent = receiver.received();
    assert_eq!(numbers(&sent), [1, 2, 3]);
    assert!(String::from_utf8_lossy(&sent[2].body).contains("resource.deleted"));
    app.server().jobs.run_once(JobName::Expiry).await.unwrap();
    app.settle().await;
    assert_eq!(app.channel("c").await["state"], "stopped");
    let feed = app.get(&format!("/v1/events?resource={RESOURCE}")).await;
    assert!(!String::from_utf8_lossy(&feed.body).contains("Liz"));
    assert_eq!(feed.json()["items"][1]["state"], "not_exists");
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(receiver.received().len(), 3, "what comes later is not for it");
    assert_eq!(delete(&app, RESOURCE).await.status, 204, "again");
    let own = delete(&app, "watchpost/channels").await;
    assert_eq!((own.status, &own.json()["code"]), (409, &json!("resourceNeeded")));
}

async fn a_receiver_that_is_down_gets_the_last_event_later(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    receiver.answer(Answer::status(503));
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(delete(&app, RESOURCE).await.status, 204);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    app.expire().await;
    assert_eq!(app.channel("c").await["state"], "active", "it has not had everything");
    assert_eq!(app.channel("c").await["cursor"]["lag"], 2);
    receiver.answer(Answer::ok());
    let before = receiver.received().len();
    app.advance(crate::app::seconds(600)).await;
    app.sweep().await;
    assert_eq!(numbers(&receiver.received()[before..]), [2, 3], "up to the last event, and not past it");
    app.expire().await;
    assert_eq!(app.channel("c").await["state"], "stopped");
}
