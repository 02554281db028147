//! A changed channel: from the answer on, nothing leaves that knows the old values.

use serde_json::json;

use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(
    a_new_address_is_tried_at_once_and_alone,
    a_new_address_leaves_the_queue_of_the_old_host,
    a_request_under_way_counts_and_is_the_last_to_the_old_address,
    every_new_value_shows_in_the_next_notification,
    a_put_opens_once_and_changes_then,
);

const RESOURCE: &str = "orders/17";

async fn opened(app: &TestApp, receiver: &Receiver) {
    app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/old") })).await;
    app.settle().await;
}

async fn a_new_address_is_tried_at_once_and_alone(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    opened(&app, &old).await;
    old.answer(Answer::status(500));
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.settle().await;
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(old.received().len(), 3);
    let answer = app.patch("c", json!({ "address": new.url("/new") })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["address"], new.url("/new"));
    app.settle().await;
    assert_eq!(numbers(&new.received()), [2, 3, 4, 5, 6], "the head waits for no back-off of the old one");
    assert_eq!(new.received()[0].attempt(), Some(3));
    app.advance(seconds(86_400)).await;
    assert_eq!(old.received().len(), 3);
    assert_eq!(app.attempts("c").await.len(), 8);
}

async fn a_new_address_leaves_the_queue_of_the_old_host(kind: Kind) {
    let app = TestApp::with(kind, &[("HOST_WINDOW", "2")]).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    for at in 0..3 {
        let address = old.url(&format!("/c{at}"));
        app.open(json!({ "id": format!("c{at}"), "resource": RESOURCE, "address": address })).await;
    }
    app.settle().await;
    old.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    let told = old.wait_for(3 + 2).await;
    let waits = (0..3)
        .find(|at| !told[3..].iter().any(|request| request.path == format!("/c{at}")))
        .expect("one waits for a slot");
    let answer = app.patch(&format!("c{waits}"), json!({ "address": new.url("/new") })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(numbers(&new.wait_for(1).await), [2], "it waits for nobody at its old host");
    old.release();
    app.settle().await;
    assert_eq!(old.received().len(), 3 + 2);
    assert_eq!(new.received().len(), 1);
}

async fn a_request_under_way_counts_and_is_the_last_to_the_old_address(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    opened(&app, &old).await;
    old.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 3).await;
    old.wait_for(2).await;
    let answer = app.patch("c", json!({ "address": new.url("/new") })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(new.received().len(), 0, "never two in flight");
    old.release();
    app.settle().await;
    assert_eq!(numbers(&old.received()), [1, 2]);
    assert_eq!(numbers(&new.received()), [3, 4], "what the old address took is not told again");
}

async fn every_new_value_shows_in_the_next_notification(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    let changes = [
        json!({ "token": "new" }),
        json!({ "headers": { "X-New": "1" } }),
        json!({ "format": "google" }),
        json!({ "payload": false }),
        json!({ "token": null }),
        json!({ "expiresAt": app.now().plus(seconds(3_600)).to_rfc3339() }),
        json!({ "address": receiver.url("/new") }),
    ];
    for change in changes {
        assert_eq!(app.patch("c", change).await.status, 200);
        app.publish(json!({ "resource": RESOURCE, "name": "order.changed", "data": 7 })).await;
        app.settle().await;
    }
    let received = receiver.received();
    assert_eq!(numbers(&received), (1..=8).collect::<Vec<_>>());
    assert_eq!(received[1].header("watchpost-channel-token"), Some("new"));
    assert_eq!(received[2].header("x-new"), Some("1"));
    assert_eq!((received[3].token(), received[3].body.as_slice()), (Some("new"), &b"7"[..]));
    assert_eq!(received[4].body, b"");
    assert_eq!(received[5].token(), None);
    assert_eq!(received[6].expiration(), Some("Mon, 01 Mar 2027 09:00:00 GMT"));
    assert_eq!(received[7].path, "/new");

    for (field, value) in [("id", "x"), ("resource", "y"), ("secret", "z"), ("adress", "typo")] {
        assert_eq!(app.patch("c", json!({ field: value })).await.status, 400, "{field}");
    }
    let elsewhere = app.patch("c", json!({ "address": "https://169.254.169.254/" })).await;
    assert_eq!(elsewhere.status, 400, "{elsewhere:?}");
    assert_eq!(app.patch("nobody", json!({ "token": "x" })).await.status, 404);
}

async fn a_put_opens_once_and_changes_then(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let token = app.token("acme", "liz@example.com", "channels");
    let put = async |address: &str| {
        let body = json!({ "resource": RESOURCE, "address": receiver.url(address) });
        app.call("PUT", "/v1/channels/c", &token, Some(body)).await
    };
    let (first, second) = (put("/1").await, put("/2").await);
    assert_eq!((first.status, second.status), (201, 200), "{second:?}");
    assert_eq!(first.json()["uid"], second.json()["uid"]);
    assert_eq!(first.json()["expiresAt"], second.json()["expiresAt"]);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    let last = receiver.received().pop().unwrap();
    assert_eq!((last.path.as_str(), last.message_number()), ("/2", Some(2)));
    let foreign = app.token("acme", "tom@example.com", "channels");
    let body = json!({ "resource": RESOURCE, "address": receiver.url("/3") });
    let taken = app.call("PUT", "/v1/channels/c", &foreign, Some(body)).await;
    assert_eq!(taken.status, 409, "another subject's channel looks taken, no more: {taken:?}");
}
