//! Receivers that are asked before anything is sent to them.

use std::time::Duration;

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
    a_server_that_sends_back_what_it_gets_has_not_agreed,
    a_host_is_challenged_five_times_an_hour_over_all_projects,
    a_question_that_fails_says_how,
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

/// What a receiver makes of a request.
type Answers = fn(&Received) -> Answer;

/// Methods and what was asked or told, in order.
fn story(receiver: &Receiver) -> Vec<String> {
    let line = |request: &Received| match (request.challenge(), request.event()) {
        (Some(_), _) => format!("{} challenge", request.method),
        (None, event) => format!("{} {}", request.method, event.unwrap_or("nothing")),
    };
    receiver.received().iter().map(line).collect()
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
    assert_eq!(asked.challenge().unwrap().len(), 32);
    let channel = app.channel("c").await;
    assert_eq!(channel["cursor"]["why"], "unverified", "{channel}");
    assert_eq!(channel["cursor"]["lastError"]["error"], "no_consent", "{channel}");

    // Three 4xx set a sync aside where it was sent; this one was not.
    receiver.answer(Answer::status(404));
    for _ in 0..3 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    assert!(story(&receiver).iter().all(|line| line == "OPTIONS nothing" || line == "POST challenge"));

    receiver.answer_with(Answer::agreeing);
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
    receiver.answer_with(Answer::agreeing);
    open(&app, "c", &receiver.url("/c")).await;
    open(&app, "same", &receiver.url("/c")).await;
    let asked = |receiver: &Receiver| receiver.received().iter().filter_map(Received::challenge).count();
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

async fn a_server_that_sends_back_what_it_gets_has_not_agreed(kind: Kind) {
    let app = app(kind, "challenge").await;
    let answers: [(&str, Answers); 5] = [
        ("echo", |request| Answer::ok().with_body(request.body.clone())),
        ("wrapped", |request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            Answer::ok().with_body(json!({ "json": body }).to_string())
        }),
        ("headers", |request| {
            let kept = request.headers.iter().filter(|(name, _)| name != "content-length");
            kept.fold(Answer::ok(), |answer, (name, value)| answer.with_header(name, value))
        }),
        ("json", |request| {
            let nonce = request.challenge().unwrap_or_default();
            Answer::ok().with_body(format!("{{ \"challenge\" :\n \"{nonce}\" }}\n"))
        }),
        ("text", |request| Answer::ok().with_body(request.challenge().unwrap_or_default() + "\r\n")),
    ];
    for (id, answer) in answers {
        let receiver = Receiver::start().await;
        receiver.answer_with(answer);
        open(&app, id, &receiver.url("/")).await;
        let attempts = app.attempts(id).await;
        let agrees = ["json", "text"].contains(&id);
        let expected = if agrees { Value::Null } else { "no_consent".into() };
        assert_eq!(attempts[0]["error"], expected, "{id}: {}", receiver.transcript());
        assert_eq!(story(&receiver).len(), if agrees { 3 } else { 2 }, "{id}");
    }
}

async fn a_host_is_challenged_five_times_an_hour_over_all_projects(kind: Kind) {
    let app = app(kind, "challenge").await;
    let receiver = Receiver::start().await;
    let asked = || receiver.received().iter().filter_map(Received::challenge).count();
    for at in 0..8 {
        let token = app.token(&format!("project-{at}"), "liz", "channels");
        let body = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url(&format!("/{at}")) });
        assert_eq!(app.call("POST", "/v1/channels", &token, Some(body)).await.status, 201);
        app.settle().await;
    }
    // A port is not a host.
    let beside = Receiver::start().await;
    open(&app, "beside", &beside.url("/")).await;
    for _ in 0..5 {
        app.advance(Duration::from_mins(11)).await;
    }
    assert_eq!((asked(), beside.received().len()), (5, 0));
    assert_eq!(receiver.received().len(), 10, "an OPTIONS and a POST each");
    assert_eq!(app.attempts("beside").await, Vec::<Value>::new(), "to wait is no failure");

    // Who agrees is asked as often as it takes.
    receiver.answer_with(Answer::agreeing);
    beside.answer_with(Answer::agreeing);
    app.advance(Duration::from_mins(6)).await;
    for _ in 0..3 {
        // Some waited for what comes of the others.
        app.advance(seconds(1)).await;
    }
    assert_eq!((asked(), beside.received().len()), (13, 3));
}

async fn a_question_that_fails_says_how(kind: Kind) {
    let mut app = app(kind, "challenge").await;
    app.set("ATTEMPT_TIMEOUT", "1s");
    app.restart().await;
    let error = async |id: &str, receiver: &Receiver| {
        open(&app, id, &receiver.url("/")).await;
        app.attempts(id).await[0]["error"].clone()
    };
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Reset);
    assert_eq!(error("reset", &receiver).await, "reset");
    receiver.answer_with(|request| if request.method == "OPTIONS" { Answer::ok() } else { Answer::Reset });
    assert_eq!(error("later", &receiver).await, "reset");
    receiver.answer(Answer::Hang);
    assert_eq!(error("silent", &receiver).await, "answer_timeout");
    receiver.stop().await;
    assert_eq!(error("refused", &receiver).await, "connect_failed");
}
