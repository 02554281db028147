//! How the server proves itself to a receiver, and that nobody reads it again.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use watchpost::store::Owner;

use crate::{
    app::{PROJECT, TestApp},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(
    each_kind_arrives_and_is_shown_without_its_secret,
    what_was_read_can_be_sent_back,
    a_secret_of_another_channel_does_not_open,
    an_address_elsewhere_gets_no_credentials,
    what_one_receiver_was_trusted_with_goes_to_no_other,
    changes_at_one_time_undo_nothing_of_each_other,
    a_redirect_takes_no_credentials_along,
    what_is_wrong_is_refused_by_name,
    the_query_of_an_address_stays_hidden,
);

const RESOURCE: &str = "orders/17";
const SECRET: &str = "s3cret of the receiver";

async fn opened(app: &TestApp, receiver: &Receiver, id: &str, auth: Value) -> Value {
    app.open(json!({ "id": id, "resource": RESOURCE, "address": receiver.url("/"), "auth": auth })).await
}

async fn each_kind_arrives_and_is_shown_without_its_secret(kind: Kind) {
    let app = TestApp::start(kind).await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("liz:{SECRET}")));
    let bearer = format!("Bearer {SECRET}");
    for (id, auth, header, value, shown) in [
        (
            "basic",
            json!({ "type": "basic", "username": "liz", "password": SECRET }),
            "authorization",
            basic.as_str(),
            json!({ "type": "basic", "username": "liz", "password": "(set)" }),
        ),
        (
            "bearer",
            json!({ "type": "bearer", "token": SECRET }),
            "authorization",
            bearer.as_str(),
            json!({ "type": "bearer", "token": "(set)" }),
        ),
        (
            "header",
            json!({ "type": "header", "name": "X-Api-Key", "value": SECRET }),
            "x-api-key",
            SECRET,
            json!({ "type": "header", "name": "X-Api-Key", "value": "(set)" }),
        ),
    ] {
        let receiver = Receiver::start().await;
        assert_eq!(opened(&app, &receiver, id, auth).await["auth"], shown);
        app.settle().await;
        assert_eq!(receiver.received()[0].header(header), Some(value), "{id}");
        assert_eq!(app.channel(id).await["auth"], shown);
        let listed = app.get("/v1/channels").await;
        assert!(!String::from_utf8_lossy(&listed.body).contains("s3cret"), "{listed:?}");
        let owner = Owner { project: PROJECT.to_owned(), subject: None };
        let stored = app.server().app.store.channel(owner, id.to_owned()).await.unwrap().unwrap();
        let options = serde_json::to_string(&stored.channel.options).unwrap();
        assert!(!options.contains(SECRET) && !options.contains(&BASE64_STANDARD.encode(SECRET)), "{options}");

        assert_eq!(app.patch(id, json!({ "auth": null })).await.json()["auth"], Value::Null);
        app.publish_many(RESOURCE, "order.changed", 1).await;
        app.settle().await;
        assert_eq!(receiver.received()[1].header(header), None, "{id}");
    }
}

async fn what_was_read_can_be_sent_back(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let auth = json!({ "type": "basic", "username": "liz", "password": SECRET });
    let address = receiver.url("/hook?key=s3cret&v=2");
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": address, "auth": auth,
                          "headers": { "X-Tenant": "7" } });
    app.open(opening).await;
    let read = app.channel("c").await;
    let writable = ["resource", "address", "auth", "headers", "format", "metadata"];
    let body: serde_json::Map<String, Value> =
        writable.iter().map(|name| ((*name).to_owned(), read[*name].clone())).collect();
    let token = app.token(PROJECT, crate::app::SUBJECT, "channels");
    let put = app.call("PUT", "/v1/channels/c", &token, Some(body.into())).await;
    assert_eq!(put.status, 200, "{put:?}");
    let patch = json!({ "auth": read["auth"], "address": read["address"], "headers": read["headers"] });
    assert_eq!(app.patch("c", patch).await.status, 200);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    let [before, after] = &*receiver.received() else { panic!("{}", receiver.transcript()) };
    assert_eq!(after.header("authorization"), before.header("authorization"));
    assert_eq!((after.path.as_str(), after.header("x-tenant")), (before.path.as_str(), Some("7")));

    // What fits nothing that is there is no value.
    for (body, field) in [
        (json!({ "auth": { "type": "bearer", "token": "(set)" } }), "auth.token"),
        (json!({ "auth": { "type": "basic", "username": "tom", "password": "(set)" } }), "auth.password"),
        (json!({ "headers": { "X-Other": "(set)" } }), "headers.X-Other"),
        (json!({ "address": receiver.url("/hook?key=(set)") }), "address"),
        (json!({ "lifecycleAddress": receiver.url("/hook?key=(set)&v=(set)") }), "lifecycleAddress"),
    ] {
        let answer = app.patch("c", body).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{answer:?}");
    }
    let copied = json!({ "resource": RESOURCE, "address": read["address"] });
    assert_eq!(app.post("/v1/channels", copied).await.status, 400);
}

async fn a_secret_of_another_channel_does_not_open(kind: Kind) {
    let app = TestApp::start(kind).await;
    let sealed = |secret: &str| {
        [
            ("options", json!({ "auth": { "type": "bearer", "token": secret } })),
            ("options", json!({ "headers": { "X-Key": secret } })),
            ("token", json!({ "token": secret })),
        ]
    };
    for (at, ((column, theirs), (_, own))) in sealed(SECRET).into_iter().zip(sealed("another")).enumerate() {
        let (receiver, other) = (Receiver::start().await, Receiver::start().await);
        let (a, b) = (format!("a{at}"), format!("b{at}"));
        for (id, receiver, fields) in [(&a, &receiver, theirs), (&b, &other, own)] {
            let mut opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url("/") });
            opening.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            app.open(opening).await;
        }
        app.settle().await;
        let theirs = format!("(select {column} from channels where channel_id = '{a}')");
        app.base.run(&format!("update channels set {column} = {theirs} where channel_id = '{b}'")).await;
        assert_eq!(app.patch(&b, json!({ "payload": false })).await.status, 200);
        app.publish_many(RESOURCE, "order.changed", 1).await;
        receiver.wait_for(2).await;
        app.stop_channel(&a).await;
        assert_eq!(other.received().len(), 1, "nothing leaves without it: {}", other.transcript());
        app.stop_channel(&b).await;
    }
}

async fn an_address_elsewhere_gets_no_credentials(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"), "lifecycle": true,
                          "lifecycleAddress": elsewhere.url("/life"),
                          "auth": { "type": "bearer", "token": SECRET }, "headers": { "X-Key": SECRET } });
    app.open(opening).await;
    app.settle().await;
    app.post("/v1/channels/c/renew", json!({})).await;
    let told = app.until(&elsewhere, "the notice", |received| !received.is_empty()).await;
    assert_eq!((told[0].notice(), told[0].header("authorization")), (Some("renewed"), None));
    assert_eq!(
        told[0].header("x-key"),
        None,
        "hidden like a credential, and meant for the receiver like one"
    );
    app.patch("c", json!({ "lifecycleAddress": receiver.url("/life") })).await;
    app.post("/v1/channels/c/renew", json!({})).await;
    let told = app.until(&receiver, "the notice", |received| received.len() > 1).await;
    assert!(told[1].header("authorization").is_some(), "the same receiver");
    assert_eq!(told[1].header("x-key"), Some(SECRET));
}

async fn what_one_receiver_was_trusted_with_goes_to_no_other(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"),
                          "auth": { "type": "bearer", "token": SECRET }, "headers": { "X-Key": "tenant-7" } });
    app.open(opening).await;
    app.settle().await;
    let read = app.channel("c").await;
    let there = elsewhere.url("/");
    for (body, field) in [
        (json!({ "address": there }), "auth"),
        (json!({ "address": there, "auth": read["auth"] }), "auth.token"),
    ] {
        let answer = app.patch("c", body.clone()).await;
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (400, Some(field)),
            "{body}: {answer:?}"
        );
    }
    assert_eq!(
        app.patch("c", json!({ "address": receiver.url("/other") })).await.status,
        200,
        "the same host"
    );
    let moved = json!({ "address": there, "auth": { "type": "bearer", "token": "new" } });
    assert_eq!(app.patch("c", moved).await.status, 200);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    let arrived = app.until(&elsewhere, "the event", |received| !received.is_empty()).await;
    let carried = (arrived[0].header("authorization"), arrived[0].header("x-key"));
    assert_eq!(carried, (Some("Bearer new"), Some("tenant-7")), "headers are no credentials, and go along");
}

async fn changes_at_one_time_undo_nothing_of_each_other(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let secret = json!({ "type": "bearer", "token": SECRET });
    opened(&app, &receiver, "c", secret.clone()).await;
    for round in 0..20 {
        let (away, label) = (json!({ "address": elsewhere.url("/"), "auth": null }), json!({ "round": "1" }));
        let (moved, labelled) =
            tokio::join!(app.patch("c", away), app.patch("c", json!({ "metadata": label })));
        assert_eq!((moved.status, labelled.status), (200, 200), "{moved:?} {labelled:?}");
        let channel = app.channel("c").await;
        let left = (&channel["address"], &channel["auth"], &channel["metadata"]);
        assert_eq!(
            left,
            (&json!(elsewhere.url("/")), &Value::Null, &json!({ "round": "1" })),
            "in round {round}"
        );
        let back = json!({ "address": receiver.url("/"), "auth": secret, "metadata": {} });
        assert_eq!(app.patch("c", back).await.status, 200);
    }
}

async fn a_redirect_takes_no_credentials_along(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"), "redirects": "update",
                          "auth": { "type": "bearer", "token": SECRET } });
    app.open(opening).await;
    app.settle().await;
    receiver.answer(Answer::status(308).with_header("Location", &elsewhere.url("/moved")));
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    receiver.answer(Answer::status(308).with_header("Location", &receiver.url("/moved")));
    assert_eq!(app.channel("c").await["address"], receiver.url("/"));
    app.advance_to(app.next_attempt_at("c").await).await;
    app.settle().await;
    assert_eq!(elsewhere.received().len(), 0, "{}", elsewhere.transcript());
    assert_eq!(app.channel("c").await["address"], receiver.url("/moved"), "the same receiver");
}

async fn what_is_wrong_is_refused_by_name(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let refused = async |body: Value| {
        let mut opening = json!({ "resource": RESOURCE, "address": receiver.url("/") });
        opening.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answer = app.post("/v1/channels", opening).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let problem = answer.json();
        (problem["field"].as_str().unwrap().to_owned(), problem["detail"].as_str().unwrap().to_owned())
    };
    for (auth, field) in [
        (json!({ "type": "digest" }), "auth.type"),
        (json!({ "type": "basic", "username": "a:b", "password": "p" }), "auth.username"),
        (json!({ "type": "basic", "username": "a" }), "auth.password"),
        (json!({ "type": "bearer", "token": "a\r\nX-Evil: 1" }), "auth.token"),
        (json!({ "type": "bearer", "token": "" }), "auth.token"),
        (json!({ "type": "bearer", "token": "t", "audience": "a" }), "auth.audience"),
        (json!({ "type": "header", "name": "Webhook-Id", "value": "v" }), "auth.name"),
        (json!({ "type": "header", "name": "X-A", "value": "é" }), "auth.value"),
        (json!({ "type": "jwt", "audience": "" }), "auth.audience"),
    ] {
        assert_eq!(refused(json!({ "auth": auth })).await.0, field, "{auth}");
    }
    let twice = json!({ "auth": { "type": "bearer", "token": "t" }, "headers": { "authorization": "x" } });
    assert_eq!(refused(twice).await.0, "auth");
    let address = receiver.url("/").replace("http://", "http://liz:s3cret@");
    let (field, detail) = refused(json!({ "address": address })).await;
    assert!(field == "address" && detail.contains("auth") && !detail.contains("s3cret"), "{detail}");
}

async fn the_query_of_an_address_stays_hidden(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/hook?key=s3cret&v=2"),
                          "lifecycle": true, "lifecycleAddress": receiver.url("/life?s3cret") });
    let channel = app.open(opening).await;
    app.settle().await;
    assert_eq!(receiver.received()[0].path, "/hook?key=s3cret&v=2");
    for shown in [channel, app.channel("c").await] {
        assert_eq!(shown["address"], receiver.url("/hook?key=(set)&v=(set)"));
        assert_eq!(shown["lifecycleAddress"], receiver.url("/life?(set)"));
    }
    for path in [
        "/v1/channels",
        "/v1/channels/c",
        "/v1/channels/c/attempts",
        "/v1/events?resource=watchpost/channels",
    ] {
        let answer = app.get(path).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("s3cret"), "{path}: {answer:?}");
    }
}
