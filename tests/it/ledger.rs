//! What an owner and a publisher can ask afterwards: what became of an event, what was tried, what was set aside, and
//! what a channel waits for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{PROJECT, SCOPES, SUBJECT, TestApp, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(
    every_event_ends_as_one_thing_and_one_can_ask_which,
    a_run_is_superseded_by_its_newest,
    an_event_of_several_resources_is_told_page_by_page,
    an_event_named_by_the_server_is_found_by_its_name,
    an_event_is_told_to_those_who_may_see_it,
    requests_seen_are_attempts_recorded,
    excerpts_are_kept_where_they_are_asked_for,
    an_attempt_says_how_long_the_answer_took,
    a_parked_sync_is_listed,
    a_channel_says_what_it_waits_for,
    channels_are_found_by_their_labels,
);

const RESOURCE: &str = "orders/17";

async fn opened(app: &TestApp, receiver: &Receiver, id: &str, more: Value) {
    let mut opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url(&format!("/{id}")),
                              "catchUp": "all" });
    opening.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.open(opening).await;
    app.settle().await;
}

async fn command(app: &TestApp, id: &str, verb: &str, body: Value) {
    let answer = app.post(&format!("/v1/channels/{id}/{verb}"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn publish(app: &TestApp, ids: &[&str], name: &str) {
    let event = |id: &&str| json!({ "resource": RESOURCE, "id": id, "name": name, "data": { "of": id } });
    let events: Vec<Value> = ids.iter().map(event).collect();
    app.publish(json!({ "events": events })).await;
    app.settle().await;
}

async fn event(app: &TestApp, id: &str) -> Value {
    let answer = app.get(&format!("/v1/events/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// What became of an event for a channel: status, number and attempts.
async fn fate(app: &TestApp, id: &str, channel: &str) -> (String, Option<i64>, Option<i64>) {
    let told = event(app, id).await;
    let channels = told["channels"].as_array().unwrap();
    let found = channels.iter().find(|told| told["channelId"] == channel);
    let found = found.unwrap_or_else(|| panic!("{channel} in {told}"));
    let word = found["status"].as_str().unwrap().to_owned();
    (word, found["number"].as_i64(), found["attempts"].as_i64())
}

fn told(word: &str, number: i64, attempts: Option<i64>) -> (String, Option<i64>, Option<i64>) {
    (word.to_owned(), Some(number), attempts)
}

async fn every_event_ends_as_one_thing_and_one_can_ask_which(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    for id in ["fine", "failing", "stopped", "skipped", "acknowledged", "paused", "expiring"] {
        opened(&app, &receiver, id, json!({})).await;
    }
    opened(&app, &receiver, "parking", json!({ "redirects": "fail" })).await;
    opened(&app, &receiver, "choosy", json!({ "events": ["order.paid"] })).await;
    for id in ["stopped", "skipped", "acknowledged", "paused"] {
        command(&app, id, "pause", json!({})).await;
    }
    receiver.answer_with(|request| match request.path.as_str() {
        "/failing" => Answer::status(500),
        "/parking" if request.event_id() == Some("e2") => Answer::status(302),
        _ => Answer::ok(),
    });
    publish(&app, &["e1", "e2", "e3"], "order.changed").await;
    app.advance_to(app.next_attempt_at("failing").await).await;
    app.stop_channel("stopped").await;
    command(&app, "skipped", "skip", json!({ "throughNumber": 3 })).await;
    let claim = app.post("/v1/channels/acknowledged/claim/rotate", json!({})).await.json();
    let claim = url::Url::parse(claim["claimUrl"].as_str().unwrap()).unwrap().path().to_owned();
    let acknowledged = app.call("POST", &format!("{claim}/ack"), "", Some(json!({ "through": 3 }))).await;
    assert_eq!(acknowledged.status, 200, "{acknowledged:?}");
    // As retention leaves it behind.
    app.base
        .run(
            "insert into ranges (channel, from_seq, to_seq, kind, created_at_ms)
             select id, 1, 2, 'expired', 1 from channels where channel_id = 'expiring';",
        )
        .await;
    opened(&app, &receiver, "late", json!({})).await;

    for (id, channel, expected) in [
        ("e1", "fine", told("delivered", 2, Some(1))),
        ("e3", "fine", told("delivered", 4, Some(1))),
        ("e1", "failing", told("pending", 2, Some(2))),
        ("e2", "failing", told("pending", 3, Some(0))),
        ("e1", "stopped", told("cancelled", 2, Some(0))),
        ("e1", "skipped", told("cancelled", 2, None)),
        ("e2", "skipped", told("cancelled", 3, None)),
        ("e3", "skipped", told("pending", 4, Some(0))),
        ("e2", "acknowledged", told("delivered", 3, Some(1))),
        ("e3", "acknowledged", told("pending", 4, Some(0))),
        ("e1", "paused", told("pending", 2, Some(0))),
        ("e1", "choosy", told("filtered", 2, None)),
        ("e2", "parking", told("parked", 3, Some(1))),
        ("e3", "parking", told("delivered", 4, Some(1))),
        ("e2", "expiring", told("expired", 3, None)),
        ("e3", "expiring", told("delivered", 4, Some(1))),
    ] {
        assert_eq!(fate(&app, id, channel).await, expected, "{id} {channel}");
    }
    let shown = event(&app, "e2").await;
    assert_eq!(
        (&shown["name"], &shown["data"], &shown["seq"]),
        (&json!("order.changed"), &json!({ "of": "e2" }), &json!(2))
    );
    let channels = shown["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 9, "not the one that was opened later: {shown}");
    let parked = channels.iter().find(|told| told["channelId"] == "parking").unwrap();
    assert_eq!((&parked["reason"], &parked["lastStatus"]), (&json!("redirected"), &json!(302)));
    let waiting = event(&app, "e1").await;
    let failing = waiting["channels"].as_array().unwrap().iter().find(|told| told["channelId"] == "failing");
    assert_eq!(failing.unwrap()["nextAttemptAt"], app.channel("failing").await["cursor"]["nextAttemptAt"]);

    // Once it is delivered its attempts are known, and what is paused arrives.
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("failing").await).await;
    command(&app, "paused", "resume", json!({})).await;
    app.settle().await;
    assert_eq!(fate(&app, "e1", "failing").await, told("delivered", 2, Some(3)));
    assert_eq!(fate(&app, "e2", "failing").await, told("delivered", 3, Some(1)));
    assert_eq!(fate(&app, "e1", "paused").await, told("delivered", 2, Some(1)));
    let redriven = app.post("/v1/channels/parking/parked/redrive", json!({})).await;
    assert_eq!(redriven.status, 202, "{redriven:?}");
    app.settle().await;
    assert_eq!(fate(&app, "e2", "parking").await, told("delivered", 3, Some(2)));
    let seen = receiver
        .received()
        .into_iter()
        .find(|request| request.path == "/failing" && request.event_id() == Some("e1"));
    let told = event(&app, "e1").await;
    let failing = told["channels"].as_array().unwrap().iter().find(|told| told["channelId"] == "failing");
    assert_eq!(failing.unwrap()["webhookId"].as_str(), seen.unwrap().webhook_id());
}

async fn a_run_is_superseded_by_its_newest(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "thin", json!({ "catchUp": "latest" })).await;
    command(&app, "thin", "pause", json!({})).await;
    publish(&app, &["e1", "e2", "e3"], "order.changed").await;
    publish(&app, &["e4"], "order.paid").await;
    publish(&app, &["e5", "e6"], "order.changed").await;
    // The first run is attempted in vain, and stays what it was.
    receiver.answer(Answer::status(500));
    command(&app, "thin", "resume", json!({})).await;
    app.settle().await;
    for (id, attempts) in [("e1", 1), ("e3", 1), ("e4", 0)] {
        assert_eq!(fate(&app, id, "thin").await.0, "pending", "{id}");
        assert_eq!(fate(&app, id, "thin").await.2, Some(attempts), "{id}");
    }
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("thin").await).await;
    for restarted in [false, true] {
        if restarted {
            app.crash().await;
        }
        for (id, expected) in [
            ("e1", told("superseded", 2, None)),
            ("e2", told("superseded", 3, None)),
            ("e3", told("delivered", 4, Some(2))),
            ("e4", told("delivered", 5, Some(1))),
            ("e5", told("superseded", 6, None)),
            ("e6", told("delivered", 7, Some(1))),
        ] {
            assert_eq!(fate(&app, id, "thin").await, expected, "{id}");
        }
    }
}

async fn an_event_of_several_resources_is_told_page_by_page(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    for (id, resource) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("c1", "c")] {
        opened(&app, &receiver, id, json!({ "resource": resource })).await;
    }
    app.publish(json!({ "resources": ["a", "b"], "id": "shared", "name": "thing.changed" })).await;
    app.settle().await;
    opened(&app, &receiver, "a3", json!({ "resource": "a" })).await;
    for limit in 1..=5 {
        let mut seen = Vec::new();
        let mut page = String::new();
        loop {
            let answer = app.get(&format!("/v1/events/shared?limit={limit}{page}")).await.json();
            assert_eq!(answer["entries"].as_array().unwrap().len(), 2, "{answer}");
            let channels = answer["channels"].as_array().unwrap();
            assert!(channels.len() <= limit);
            let words = channels.iter().map(|told| {
                let text = |name: &str| told[name].as_str().unwrap().to_owned();
                (text("channelId"), text("resource"), text("status"))
            });
            seen.extend(words);
            let Some(next) = answer["nextPageToken"].as_str() else { break };
            page = format!("&pageToken={next}");
        }
        let delivered =
            |id: &str, resource: &str| (id.to_owned(), resource.to_owned(), "delivered".to_owned());
        let expected =
            [delivered("a1", "a"), delivered("a2", "a"), delivered("b1", "b"), delivered("b2", "b")];
        assert_eq!(seen, expected, "{limit} at a time");
    }
}

async fn an_event_is_told_to_those_who_may_see_it(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "liz", json!({})).await;
    let ann = app.token(PROJECT, "ann@example.com", "channels");
    let address = receiver.url("/ann");
    let opening = json!({ "id": "ann", "resource": RESOURCE, "address": address });
    assert_eq!(app.call("POST", "/v1/channels", &ann, Some(opening)).await.status, 201);
    publish(&app, &["e"], "order.changed").await;
    let read = async |token: &str| {
        let answer = app.call("GET", "/v1/events/e", token, None).await;
        let body = answer.json();
        let channels = body["channels"].as_array().cloned().unwrap_or_default();
        let ids = channels.iter().map(|told| told["channelId"].as_str().unwrap().to_owned());
        (answer.status, ids.collect::<Vec<_>>())
    };
    let everybody = (200, vec!["liz".to_owned(), "ann".to_owned()]);
    for scopes in [SCOPES, "events", "admin"] {
        assert_eq!(read(&app.token(PROJECT, SUBJECT, scopes)).await, everybody, "{scopes}");
    }
    assert_eq!(read(&ann).await, (200, vec!["ann".to_owned()]));
    let stranger = app.token(PROJECT, "bob@example.com", "channels");
    assert_eq!(read(&stranger).await, (200, Vec::new()));
    let elsewhere = app.token_for(PROJECT, "ann@example.com", "channels", &["invoices/**"]);
    assert_eq!(read(&elsewhere).await.0, 404, "what may not be watched is not there");
    for scopes in [SCOPES, "admin"] {
        assert_eq!(read(&app.token("another", SUBJECT, scopes)).await.0, 404);
    }
    assert_eq!(read(&app.token(PROJECT, SUBJECT, "")).await.0, 403);
    assert_eq!(read("").await.0, 401);
    for id in ["nothing", "a%00b", "%ff", &"x".repeat(500)] {
        assert_eq!(app.get(&format!("/v1/events/{id}")).await.status, 404, "{id}");
    }
}

async fn an_event_named_by_the_server_is_found_by_its_name(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({})).await;
    let answer = app.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await;
    app.settle().await;
    let id = answer[0]["id"].as_str().unwrap();
    assert!(id.starts_with("evt_"), "{id}");
    assert_eq!(fate(&app, id, "c").await, told("delivered", 2, Some(1)));
}

async fn requests_seen_are_attempts_recorded(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "retry": { "schedule": ["0s", "1s"] } })).await;
    let mut answers = [500, 503, 404, 200, 200].into_iter();
    receiver.answer_with(move |_| Answer::status(answers.next().unwrap_or(200)));
    publish(&app, &["e1", "e2", "e3"], "order.changed").await;
    let middle = app.now();
    while app.channel("c").await["cursor"]["lag"] != 0 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    let of = |attempt: &Value| (attempt["number"].as_u64(), attempt["attempt"].as_u64());
    let recorded: Vec<_> = app.attempts("c").await.iter().map(of).collect();
    let received = receiver.received();
    let seen: Vec<_> = received.iter().map(|request| (request.message_number(), request.attempt())).collect();
    assert_eq!(recorded, seen);
    let list = async |query: &str| -> Vec<(Option<u64>, Option<u64>)> {
        let answer = app.get(&format!("/v1/channels/c/attempts?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["items"].as_array().unwrap().iter().map(of).collect()
    };
    let some = |numbers: &[(u64, u64)]| -> Vec<_> {
        numbers.iter().map(|(number, attempt)| (Some(*number), Some(*attempt))).collect()
    };
    let time = middle.to_rfc3339();
    assert_eq!(list("outcome=failed").await, some(&[(2, 3), (2, 1)]));
    assert_eq!(list("outcome=overloaded").await, some(&[(2, 2)]));
    assert_eq!(list("number=2&outcome=delivered").await, some(&[(2, 4)]));
    assert_eq!(list("number=9").await, some(&[]));
    assert_eq!(list(&format!("after={time}&number=2")).await, some(&[(2, 4), (2, 3), (2, 2)]));
    assert_eq!(list(&format!("before={time}")).await, some(&[]), "the clock stood still until then");
    assert_eq!(list("number=2&limit=1").await, some(&[(2, 4)]));
}

async fn excerpts_are_kept_where_they_are_asked_for(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let long = "x".repeat(3_000);
    let mut bodies = vec![b"no \"order\"\r\n\x1b[2J\xff".to_vec(), long.into_bytes()].into_iter();
    receiver.answer_with(move |request| {
        let body =
            if request.path == "/kept" { bodies.next().unwrap_or_default() } else { b"secret".to_vec() };
        Answer::status(200).with_body(body)
    });
    opened(&app, &receiver, "kept", json!({ "excerpts": true })).await;
    opened(&app, &receiver, "plain", json!({})).await;
    publish(&app, &["e1", "e2"], "order.changed").await;
    let excerpts = async |id: &str| -> Vec<Value> {
        app.attempts(id).await.iter().map(|attempt| attempt["excerpt"].clone()).collect()
    };
    let kept = excerpts("kept").await;
    assert_eq!(kept[0], "no \"order\"\\r\\n\\u{1b}[2J\u{fffd}");
    assert_eq!(kept[1].as_str().map(str::len), Some(1_024), "the beginning");
    assert_eq!(kept[2], "", "nothing was said");
    assert_eq!(excerpts("plain").await, [Value::Null, Value::Null, Value::Null]);
    assert_eq!(app.patch("plain", json!({ "excerpts": true })).await.status, 200);
    publish(&app, &["e3"], "order.changed").await;
    assert_eq!(excerpts("plain").await[3], "secret");
}

async fn an_attempt_says_how_long_the_answer_took(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({})).await;
    receiver.answer(Answer::Hang);
    app.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await;
    receiver.wait_for(2).await;
    app.clock.advance(Duration::from_millis(700));
    receiver.release_with(&Answer::status(200));
    app.settle().await;
    receiver.answer(Answer::Reset);
    app.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await;
    app.settle().await;
    let attempts = app.attempts("c").await;
    assert_eq!(attempts[1]["phases"], json!({ "answerMs": 700, "drainMs": 0 }));
    assert_eq!(attempts[1]["durationMs"], 700);
    assert_eq!((&attempts[2]["error"], &attempts[2]["notice"]), (&json!("reset"), &Value::Null));
    assert_eq!(attempts[2]["phases"], json!({ "answerMs": null, "drainMs": null }));
}

async fn a_parked_sync_is_listed(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    publish(&app, &["before"], "order.changed").await;
    receiver.answer(Answer::status(404));
    opened(&app, &receiver, "c", json!({})).await;
    assert_eq!(parked(&app, "c", "").await, json!({ "items": [] }));
    for _ in 0..2 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    let page = parked(&app, "c", "?limit=1").await;
    let item = &page["items"][0];
    let channel = app.channel("c").await;
    assert_eq!((&item["number"], &item["seq"]), (&json!(1), &json!(1)));
    assert_eq!((&item["name"], &item["state"]), (&json!("watchpost.channel.sync"), &json!("sync")));
    assert_eq!((&item["status"], &item["attempts"]), (&json!(404), &json!(3)));
    assert_eq!(item["id"].as_str(), receiver.received()[0].webhook_id());
    assert_eq!(item["parkedAt"].as_str(), Some(app.now().to_rfc3339().as_str()));
    assert_eq!(channel["cursor"]["parked"], 1);
    let next = page["nextPageToken"].as_str().unwrap();
    assert_eq!(parked(&app, "c", &format!("?limit=1&pageToken={next}")).await, json!({ "items": [] }));
    let stranger = app.token("another", SUBJECT, "admin");
    assert_eq!(app.call("GET", "/v1/channels/c/parked", &stranger, None).await.status, 404);
}

async fn parked(app: &TestApp, id: &str, query: &str) -> Value {
    let answer = app.get(&format!("/v1/channels/{id}/parked{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn a_channel_says_what_it_waits_for(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "ttlSeconds": 86_400 })).await;
    let cursor = async || app.channel("c").await["cursor"].clone();
    let began = app.now();
    let idle = cursor().await;
    assert_eq!((&idle["why"], &idle["parked"]), (&json!("idle"), &json!(0)));
    assert_eq!((&idle["oldestPendingAt"], &idle["lastError"]), (&Value::Null, &Value::Null));
    assert_eq!(idle["lastSuccessAt"].as_str(), Some(began.to_rfc3339().as_str()));

    receiver.answer(Answer::Hang);
    app.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await;
    receiver.wait_for(2).await;
    let due = cursor().await;
    assert_eq!((&due["why"], &due["nextAttemptAt"]), (&json!("due"), &Value::Null));
    receiver.answer(Answer::status(502));
    receiver.release_with(&Answer::status(502));
    app.settle().await;
    app.clock.advance(Duration::from_millis(10));
    app.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await;
    app.settle().await;
    let failing = cursor().await;
    assert_eq!((&failing["why"], &failing["lag"]), (&json!("backingOff"), &json!(2)));
    assert_eq!(
        failing["oldestPendingAt"].as_str(),
        Some(began.to_rfc3339().as_str()),
        "the first of the two"
    );
    assert_eq!(failing["lastError"], json!({ "status": 502, "error": null, "at": began.to_rfc3339() }));
    assert_eq!(failing["lastSuccessAt"].as_str(), Some(began.to_rfc3339().as_str()));
    assert!(failing["nextAttemptAt"].as_str() > Some(app.now().to_rfc3339().as_str()));

    command(&app, "c", "pause", json!({})).await;
    assert_eq!(cursor().await["why"], "paused");
    receiver.answer(Answer::ok());
    command(&app, "c", "resume", json!({})).await;
    app.settle().await;
    let again = cursor().await;
    assert_eq!((&again["why"], &again["lastError"]), (&json!("idle"), &Value::Null));
    app.advance(seconds(86_400)).await;
    assert_eq!(cursor().await["why"], "expired", "whether or not the job has run");
    app.expire().await;
    assert_eq!(cursor().await["why"], "expired");

    opened(&app, &receiver, "over", json!({})).await;
    app.stop_channel("over").await;
    assert_eq!(app.channel("over").await["cursor"]["why"], "stopped");
    opened(&app, &receiver, "gone", json!({})).await;
    receiver.answer(Answer::status(410));
    app.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await;
    app.settle().await;
    assert_eq!(app.channel("gone").await["cursor"]["why"], "gone");
    receiver.answer(Answer::ok());
    opened(&app, &receiver, "choosy", json!({ "events": ["order.paid"] })).await;
    command(&app, "choosy", "pause", json!({})).await;
    publish(&app, &["unwanted"], "order.changed").await;
    assert_eq!(app.channel("choosy").await["cursor"]["oldestPendingAt"], Value::Null);
    app.clock.advance(Duration::from_millis(10));
    publish(&app, &["wanted"], "order.paid").await;
    let oldest = app.channel("choosy").await["cursor"]["oldestPendingAt"].clone();
    assert_eq!(oldest.as_str(), Some(app.now().to_rfc3339().as_str()));
    // A list stays cheap.
    let list = app.get("/v1/channels?limit=1").await.json();
    assert_eq!(list["items"][0]["cursor"]["why"], Value::Null);
    assert!(list["items"][0]["cursor"]["lastSuccessAt"].is_string(), "{list}");
}

async fn channels_are_found_by_their_labels(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "gold", json!({ "metadata": { "tier": "gold", "a b/c=d&\"e": "ü + 1" } })).await;
    opened(&app, &receiver, "tin", json!({ "metadata": { "tier": "tin", "team": "7" } })).await;
    for (query, expected) in [
        ("metadata.tier=gold", vec!["gold"]),
        ("metadata.tier=tin&metadata.team=7", vec!["tin"]),
        ("metadata.tier=gold&metadata.team=7", vec![]),
        ("metadata.a%20b%2Fc%3Dd%26%22e=%C3%BC+%2B+1", vec!["gold"]),
        ("metadata.tier=", vec![]),
        ("metadata.tier=tin&state=active&limit=1", vec!["tin"]),
    ] {
        let answer = app.get(&format!("/v1/channels?{query}")).await;
        assert_eq!(answer.status, 200, "{query} {answer:?}");
        let body = answer.json();
        let found = body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap());
        assert_eq!(found.collect::<Vec<_>>(), expected, "{query}");
    }
}
