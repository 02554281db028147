//! Receivers that are asked before anything is sent to them.

use serde_json::{Value, json};

use crate::{
    app::{TestApp, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(
    nothing_is_sent_before_the_receiver_has_repeated_the_challenge,
    a_receiver_of_cloud_events_allows_our_origin,
    a_new_address_is_asked_anew_and_projects_by_themselves,
);

const RESOURCE: &str = "orders/17";

async fn app(kind: Kind, verify: &str) -> TestApp {
    let mut app = TestApp::start(kind).await;
    app.set("VERIFY", verify);
    app.set("PUBLIC_URL", "https://hooks.shop.com");
    app.restart().await;
    app
}

async fn open(app: &TestApp, id: &str, address: &str) {
    let body = json!({ "id": id, "resource": RESOURCE, "address": address, "headers": { "X-Key": "k" } });
    app.open(body).await;
    app.settle().await;
}

fn challenge_of(request: &Received) -> Option<String> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    (body["type"] == "watchpost.channel.challenge").then(|| body["challenge"].as_str().unwrap().to_owned())
}

/// Methods and what was asked or told, in order.
fn story(receiver: &Receiver) -> Vec<String> {
    let line = |request: &Received| match (challenge_of(request), request.event()) {
        (Some(_), _) => format!("{} challenge", request.method),
        (None, event) => format!("{} {}", request.method, event.unwrap_or("nothing")),
    };
    receiver.received().iter().map(line).collect()
}

fn repeats(request: &Received) -> Answer {
    challenge_of(request).map_or_else(Answer::ok, |nonce| Answer::ok().with_body(nonce))
}

async fn nothing_is_sent_before_the_receiver_has_repeated_the_challenge(kind: Kind) {
    let app = app(kind, "challenge").await;
    let receiver = Receiver::start().await;
    open(&app, "c", &receiver.url("/c")).await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    assert_eq!(story(&receiver), ["OPTIONS nothing", "POST challenge"], "a bare 200 is no consent");
    let asked = &receiver.received()[1];
    assert_eq!(asked.header("x-key"), Some("k"));
    assert_eq!(challenge_of(asked).unwrap().len(), 32);
    let channel = app.channel("c").await;
    assert_eq!(channel["cursor"]["why"], "unverified", "{channel}");
    assert_eq!(channel["cursor"]["lastError"]["error"], "no_consent", "{channel}");

    // Three 4xx set a sync aside where it was sent; this one was not.
    receiver.answer(Answer::status(404));
    for _ in 0..4 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    assert!(story(&receiver).iter().all(|line| line == "OPTIONS nothing" || line == "POST challenge"));

    receiver.answer_with(repeats);
    let before = receiver.received().len();
    app.advance_to(app.next_attempt_at("c").await).await;
    app.settle().await;
    let told = story(&receiver).split_off(before);
    let expected = [
        "OPTIONS nothing",
        "POST challenge",
        "POST watchpost.channel.sync",
        "POST order.changed",
        "POST order.changed",
    ];
    assert_eq!(told, expected);
    assert_eq!(app.channel("c").await["cursor"]["why"], "idle");
}

async fn a_receiver_of_cloud_events_allows_our_origin(kind: Kind) {
    let app = app(kind, "none,acme=challenge").await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|request| {
        let allows =
            request.method == "OPTIONS" && request.header("webhook-request-origin") == Some("hooks.shop.com");
        if allows {
            Answer::ok().with_header("WebHook-Allowed-Origin", "hooks.shop.com")
        } else {
            Answer::ok()
        }
    });
    open(&app, "c", &receiver.url("/c")).await;
    assert_eq!(story(&receiver), ["OPTIONS nothing", "POST watchpost.channel.sync"]);

    // What else it can say: that it is gone, or has too much to do.
    for (id, status, word) in [("busy", 429, "overloaded"), ("gone", 410, "gone")] {
        receiver.answer(Answer::status(status).with_header("retry-after", "60"));
        open(&app, id, &receiver.url(&format!("/{id}"))).await;
        assert_eq!(app.attempts(id).await[0]["outcome"], word);
    }
    assert_eq!(app.channel("gone").await["state"], "gone");
    assert!(app.next_attempt_at("busy").await.since(app.now()) >= seconds(59));
}

async fn a_new_address_is_asked_anew_and_projects_by_themselves(kind: Kind) {
    let app = app(kind, "challenge,other=none").await;
    let receiver = Receiver::start().await;
    receiver.answer_with(repeats);
    open(&app, "c", &receiver.url("/c")).await;
    open(&app, "same", &receiver.url("/c")).await;
    let asked = |receiver: &Receiver| receiver.received().iter().filter_map(challenge_of).count();
    assert_eq!(asked(&receiver), 1, "an address agrees once");
    app.patch("c", json!({ "address": receiver.url("/moved") })).await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(asked(&receiver), 2);

    let token = app.token("other", "liz", "channels");
    let body = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/unasked") });
    assert_eq!(app.call("POST", "/v1/channels", &token, Some(body)).await.status, 201);
    app.settle().await;
    let unasked: Vec<_> = receiver.received().into_iter().filter(|it| it.path == "/unasked").collect();
    assert_eq!(unasked.len(), 1);
    assert_eq!(unasked[0].event(), Some("watchpost.channel.sync"));
}
