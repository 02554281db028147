//! What a `/v1` channel receives, byte by byte, and whether its signature holds.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    app::{API, PROJECT, SCOPES, SUBJECT, TestApp},
    base::Kind,
    support::receiver::{Received, Receiver},
};

on_both!(
    standard_wraps_the_data_and_keeps_its_bytes,
    thin_standard_tells_where_to_look,
    raw_is_what_was_published,
    own_secrets_sign_and_no_signatures_means_none,
    own_headers_arrive_and_reserved_ones_are_refused,
    the_prefix_of_our_headers_can_be_changed,
);

const RESOURCE: &str = "orders/17";

/// Verifies as the Standard Webhooks specification says, without any code of the server.
fn assert_signed(request: &Received, secret: &str, now_seconds: i64) {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, timestamp) = (request.webhook_id().unwrap(), request.webhook_timestamp().unwrap());
    assert!((timestamp.parse::<i64>().unwrap() - now_seconds).abs() <= 300, "{timestamp}");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let expected = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let signatures = request.webhook_signature().expect("a signature");
    let ours = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    assert_eq!(ours.collect::<Vec<_>>(), [expected], "{request}");
}

async fn standard_wraps_the_data_and_keeps_its_bytes(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"), "token": "mine" });
    let channel = app.open(opening).await;
    // Spaces, order, a doubled name, an escape and a number that no f64 holds: all of it is the publisher's.
    let data = r#"{ "b":1, "a" : [ 1.50, 12345678901234567890 ],"b":2, "s":"\u00e9/" }"#;
    let body = format!(r#"{{"resource":"{RESOURCE}","name":"order.created","data":{data}}}"#);
    let token = app.token(PROJECT, SUBJECT, SCOPES);
    let answer = app.send("POST", "/v1/events", &token, "application/json", body.into_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let placed = &answer.json()["events"][0];
    app.settle().await;
    let [sync, event] = &*receiver.received() else { panic!("{}", receiver.transcript()) };

    let at = app.now().to_rfc3339();
    assert_eq!(event.text(), format!(r#"{{"type":"order.created","timestamp":"{at}","data":{data}}}"#));
    assert_eq!(event.header("content-type"), Some("application/json"));
    assert_eq!(event.event_id(), placed["id"].as_str());
    let body = sync.json();
    assert_eq!((&body["type"], &body["timestamp"]), (&json!("watchpost.channel.sync"), &json!(at)));
    assert_eq!(body["data"]["channelId"], "c");
    assert_eq!(body["data"]["resourceId"], channel["resourceId"]);
    for request in [sync, event] {
        assert_signed(request, channel["secret"].as_str().unwrap(), app.now().as_seconds());
        assert_eq!(request.header("watchpost-channel-id"), Some("c"));
        assert_eq!(request.header("watchpost-channel-token"), Some("mine"));
        assert!(request.headers.iter().all(|(name, _)| !name.starts_with("x-goog-")), "{request:?}");
    }
    assert_eq!(app.channel("c").await.get("secret"), None, "a secret is shown once");

    // What is not JSON travels in base64 inside the envelope.
    let path = format!("/v1/events?resource={RESOURCE}&name=order.scanned");
    app.send("POST", &path, &token, "image/png", vec![0, 159, 146, 150]).await;
    app.settle().await;
    let scanned = &receiver.received()[2];
    let expected = json!({ "contentType": "image/png", "dataBase64": "AJ+Slg==" });
    assert_eq!(scanned.json()["data"], expected);
    assert_signed(scanned, channel["secret"].as_str().unwrap(), app.now().as_seconds());
}

async fn thin_standard_tells_where_to_look(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opening = json!({ "resource": RESOURCE, "address": receiver.url("/"), "payload": false });
    let channel = app.open(opening).await;
    assert_eq!(channel["catchUp"], "latest", "thin channels need no more than the newest");
    assert_eq!(channel["id"], channel["uid"], "an id is made up where none is given");
    let event = json!({ "resource": RESOURCE, "name": "order.deleted", "state": "not_exists", "data": {} });
    app.publish(event).await;
    app.settle().await;
    let thin = receiver.received()[1].json();
    let expected = json!({ "resource": RESOURCE, "resourceUri": format!("{API}/{RESOURCE}"),
                           "state": "not_exists" });
    assert_eq!((&thin["type"], &thin["data"]), (&json!("order.deleted"), &expected));
}

async fn raw_is_what_was_published(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opening = json!({ "resource": RESOURCE, "address": receiver.url("/"), "format": "raw" });
    let channel = app.open(opening).await;
    let token = app.token(PROJECT, SUBJECT, SCOPES);
    let path = format!("/v1/events?resource={RESOURCE}&name=order.scanned");
    let every_byte: Vec<u8> = (0..=255).collect();
    app.send("POST", &path, &token, "application/x-scan; a=\"b\"", every_byte.clone()).await;
    let event = json!({ "resource": RESOURCE, "name": "order.noted", "dataBase64": "aGk=",
                        "contentType": "text/plain" });
    app.publish(event).await;
    app.publish(json!({ "resource": RESOURCE, "name": "order.touched" })).await;
    app.settle().await;
    let received = receiver.received();
    let bodies: Vec<(&[u8], Option<&str>)> =
        received.iter().map(|request| (request.body.as_slice(), request.header("content-type"))).collect();
    let expected: [(&[u8], Option<&str>); 4] = [
        (b"{}", Some("application/json")),
        (&every_byte, Some("application/x-scan; a=\"b\"")),
        (b"hi", Some("text/plain")),
        (b"{}", Some("application/json")),
    ];
    assert_eq!(bodies, expected);
    for request in &received {
        assert_signed(request, channel["secret"].as_str().unwrap(), app.now().as_seconds());
    }
}

async fn own_secrets_sign_and_no_signatures_means_none(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let secret = format!("whsec_{}", BASE64_STANDARD.encode([7_u8; 32]));
    let opening =
        json!({ "id": "own", "resource": RESOURCE, "address": receiver.url("/"), "secret": secret });
    assert_eq!(app.open(opening).await["secret"], secret);
    let unsigned = json!({ "id": "unsigned", "resource": RESOURCE, "address": receiver.url("/u"),
                           "signatures": [] });
    assert_eq!(app.open(unsigned).await.get("secret"), None);
    let watch = json!({ "id": "google", "type": "web_hook", "address": receiver.url("/g"),
                        "params": { "signatures": "v1" } });
    let google = app.watch(RESOURCE, watch).await;
    app.settle().await;
    let by_path = |path: &str| receiver.received().into_iter().find(|request| request.path == path).unwrap();
    assert_signed(&by_path("/"), &secret, app.now().as_seconds());
    assert_signed(&by_path("/g"), google["params"]["secret"].as_str().unwrap(), app.now().as_seconds());
    assert_eq!(by_path("/u").webhook_signature(), None);
    assert!(by_path("/u").webhook_timestamp().is_some());
    for bad in ["whsec_", "secret", "whsec_c2hvcnQ="] {
        let opening = json!({ "resource": RESOURCE, "address": receiver.url("/"), "secret": bad });
        assert_eq!(app.post("/v1/channels", opening).await.status, 400, "{bad}");
    }
}

async fn own_headers_arrive_and_reserved_ones_are_refused(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"),
                          "headers": { "Authorization": "Bearer theirs", "X-Tenant": "7" } });
    app.open(opening).await;
    app.settle().await;
    let sync = &receiver.received()[0];
    assert_eq!(sync.header("authorization"), Some("Bearer theirs"));
    assert_eq!(sync.header("x-tenant"), Some("7"));
    assert_eq!(app.channel("c").await["headers"]["Authorization"], "(set)", "values are not shown again");
    let reserved = [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "webhook-signature",
        "Watchpost-Message",
        "X-Goog-Changed",
    ];
    for name in reserved {
        let headers: BTreeMap<&str, Value> = BTreeMap::from([(name, json!("x"))]);
        let opening = json!({ "resource": RESOURCE, "address": receiver.url("/"), "headers": headers });
        let answer = app.post("/v1/channels", opening).await;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
    }
    for value in ["a\r\nInjected: 1", "a\u{0}"] {
        let opening =
            json!({ "resource": RESOURCE, "address": receiver.url("/"), "headers": { "X-A": value } });
        assert_eq!(app.post("/v1/channels", opening).await.status, 400);
    }
}

async fn the_prefix_of_our_headers_can_be_changed(kind: Kind) {
    let app = TestApp::with(kind, &[("HEADER_PREFIX", "X-Acme-")]).await;
    let receiver = Receiver::start().await;
    app.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    app.settle().await;
    let sync = &receiver.received()[0];
    for (name, value) in
        [("event", "watchpost.channel.sync"), ("message", "1"), ("attempt", "1"), ("channel-id", "c")]
    {
        assert_eq!(sync.header(&format!("x-acme-{name}")), Some(value), "{name}");
    }
    assert!(sync.headers.iter().all(|(name, _)| !name.starts_with("watchpost-")), "{sync:?}");
    assert!(sync.webhook_id().is_some());
}
