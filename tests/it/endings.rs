//! The end of a channel is exact: stopped, expired, gone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{CALENDAR, PROJECT, SCOPES, TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver, in_time},
};

on_both!(
    nothing_starts_after_a_stop,
    a_stop_in_the_middle_of_a_flood,
    googles_stop_knows_owners_and_strangers,
    nothing_is_sent_at_or_after_the_expiration,
    the_expiry_job_says_so_once,
    a_renewal_within_grace_delivers_what_came_in_between,
    after_the_grace_it_is_over,
    ids_stay_taken,
    gone_ends_the_channel_at_once,
    a_refused_sync_is_parked_and_events_flow,
    a_refused_sync_costs_no_event_after_a_restart,
);

const RESOURCE: &str = "orders/17";
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

async fn opened(app: &TestApp, receiver: &Receiver, id: &str, ttl_seconds: u64) {
    let address = receiver.url(&format!("/{id}"));
    app.open(json!({ "id": id, "resource": RESOURCE, "address": address, "ttlSeconds": ttl_seconds })).await;
    app.settle().await;
}

async fn nothing_starts_after_a_stop(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "waits", 86_400).await;
    opened(&app, &receiver, "hangs", 86_400).await;
    receiver.answer_with(|request| match request.path.as_str() {
        "/hangs" => Answer::Hang,
        _ => Answer::status(500),
    });
    app.publish_many(RESOURCE, "order.changed", 5).await;
    receiver.wait_for(4).await;
    app.stop_channel("waits").await;
    app.stop_channel("hangs").await;
    receiver.answer(Answer::ok());
    receiver.release();
    app.settle().await;
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.advance(HOUR).await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), 4, "{}", receiver.transcript());
    for id in ["waits", "hangs"] {
        let channel = app.channel(id).await;
        assert_eq!(channel["state"], "stopped");
        assert_eq!(app.attempts(id).await.len(), 2, "the request under way is in the ledger");
        app.stop_channel(id).await;
        assert_eq!(app.patch(id, json!({ "ttlSeconds": 60 })).await.status, 409);
    }
    assert_eq!(app.channel("hangs").await["cursor"]["number"], 2, "and its outcome counted");
}

async fn a_stop_in_the_middle_of_a_flood(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    for at in 0..6 {
        opened(&app, &receiver, &format!("c{at}"), 86_400).await;
    }
    app.publish_many(RESOURCE, "order.changed", 100).await;
    let mut at_stop = Vec::new();
    for at in 0..6 {
        app.stop_channel(&format!("c{at}")).await;
        receiver.wait_until_idle().await;
        at_stop.push(receiver.received().iter().filter(|request| request.path == format!("/c{at}")).count());
    }
    app.settle().await;
    app.sweep().await;
    for (at, count) in at_stop.into_iter().enumerate() {
        let path = format!("/c{at}");
        let received: Vec<_> =
            receiver.received().into_iter().filter(|request| request.path == path).collect();
        // One may have left before the answer and arrived after our count of it.
        assert!(received.len() <= count + 1, "{at}: {count} at the stop, then {}", received.len());
        assert_eq!(numbers(&received), (1..=received.len() as u64).collect::<Vec<_>>());
        assert_eq!(app.attempts(&format!("c{at}")).await.len(), received.len());
    }
}

async fn googles_stop_knows_owners_and_strangers(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let body = json!({ "id": "c", "type": "web_hook", "address": receiver.url("/") });
    let channel = app.watch(CALENDAR, body).await;
    let stop = async |token: &str, id: &str, resource_id: &str| {
        let body = json!({ "id": id, "resourceId": resource_id });
        let answer = app.call("POST", "/calendar/v3/channels/stop", token, Some(body)).await;
        (answer.status, if answer.body.is_empty() { String::new() } else { answer.reason() })
    };
    let resource_id = channel["resourceId"].as_str().unwrap();
    let own = app.token(PROJECT, "liz@example.com", SCOPES);
    let other = app.token(PROJECT, "tom@example.com", SCOPES);
    let foreign = app.token("else", "liz@example.com", SCOPES);
    assert_eq!(stop(&other, "c", resource_id).await, (403, "stopChannelCallerNotOwner".into()));
    assert_eq!(stop(&foreign, "c", resource_id).await, (404, "notFound".into()));
    assert_eq!(stop(&own, "c", "another").await, (404, "notFound".into()));
    assert_eq!(stop(&own, "c", resource_id).await, (204, String::new()));
    assert_eq!(stop(&own, "c", resource_id).await, (404, "notFound".into()));
    app.publish_many(CALENDAR, "calendar.event.updated", 2).await;
    app.settle().await;
    assert!(receiver.received().len() <= 1, "at most the sync: {}", receiver.transcript());
}

async fn nothing_is_sent_at_or_after_the_expiration(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", 60).await;
    opened(&app, &receiver, "fails", 60).await;
    app.advance(Duration::from_millis(59_999)).await;
    receiver.answer_with(|request| match request.path.as_str() {
        "/fails" => Answer::status(500),
        _ => Answer::ok(),
    });
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(receiver.received().len(), 4, "in its last millisecond it is alive");
    app.advance(MILLISECOND).await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    app.advance(seconds(10)).await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), 4, "no job has run, and still: {}", receiver.transcript());
    assert_eq!(app.channel("c").await["state"], "active");
    app.expire().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.advance(HOUR).await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), 4, "{}", receiver.transcript());
}

fn count(report: &std::collections::BTreeMap<&'static str, u64>) -> (u64, u64) {
    (report["expired"], report["closed"])
}

async fn the_expiry_job_says_so_once(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", 60).await;
    opened(&app, &receiver, "lives", 3_600).await;
    assert_eq!(count(&app.expire().await), (0, 0));
    app.advance(seconds(60)).await;
    assert_eq!(count(&app.expire().await), (1, 0));
    assert_eq!(count(&app.expire().await), (0, 0));
    let channel = app.channel("c").await;
    assert_eq!((&channel["state"], &channel["endedAt"]), (&json!("expired"), &channel["expiresAt"]));
    assert_eq!(app.channel("lives").await["state"], "active");
    app.advance(Duration::from_hours(24)).await;
    assert_eq!(count(&app.expire().await), (1, 1), "the other one, and the first one's grace");
    assert_eq!(count(&app.expire().await), (0, 0));
    assert_eq!(receiver.received().len(), 2, "the end is silent");
}

async fn a_renewal_within_grace_delivers_what_came_in_between(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    // With the job and without, and one that was behind when it ended.
    for id in ["job", "fails", "late"] {
        opened(&app, &receiver, id, if id == "late" { 7_200 } else { 60 }).await;
    }
    receiver.answer_with(|request| match request.path.as_str() {
        "/fails" => Answer::status(500),
        _ => Answer::ok(),
    });
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    app.advance(seconds(60)).await;
    app.expire().await;
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.settle().await;
    app.restart().await;
    app.advance(HOUR * 23).await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.sweep().await;
    receiver.answer(Answer::ok());
    let expires_at = app.now().plus(HOUR * 48).to_rfc3339();
    for id in ["job", "fails", "late"] {
        let answer = app.patch(id, json!({ "expiresAt": expires_at })).await;
        assert_eq!(answer.status, 200, "{id}: {answer:?}");
        assert_eq!(answer.json()["state"], "active");
        assert_eq!(answer.json()["endedAt"], Value::Null);
    }
    app.settle().await;
    for (id, expected) in
        [("job", &[1, 2, 3, 4, 5, 6][..]), ("fails", &[1, 2, 2, 3, 4, 5, 6]), ("late", &[1, 2, 3, 4, 5, 6])]
    {
        let path = format!("/{id}");
        let due = async || {
            app.until(&receiver, "all of it", |received| {
                received.iter().filter(|request| request.path == path).count() >= expected.len()
            })
            .await
        };
        if id == "fails" {
            app.advance(HOUR).await;
        }
        let received: Vec<_> = due().await.into_iter().filter(|request| request.path == path).collect();
        assert_eq!(numbers(&received), expected, "{id}: {}", receiver.transcript());
    }
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(receiver.received().len(), 19 + 3, "and it goes on: {}", receiver.transcript());
}

async fn after_the_grace_it_is_over(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "job", 60).await;
    app.advance(seconds(60)).await;
    app.expire().await;
    opened(&app, &receiver, "no-job", 60).await;
    app.advance(Duration::from_hours(24)).await;
    app.expire().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    assert_eq!(app.patch("job", json!({ "ttlSeconds": 3_600 })).await.status, 409);
    app.advance(seconds(60)).await;
    // It expired a day ago; that the job has not fixed its end yet makes no difference.
    assert_eq!(app.patch("no-job", json!({ "ttlSeconds": 3_600 })).await.status, 409);
    app.expire().await;
    assert_eq!(app.channel("no-job").await["state"], "expired");
    app.settle().await;
    assert_eq!(receiver.received().len(), 2);
}

async fn ids_stay_taken(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "stopped", 3_600).await;
    app.stop_channel("stopped").await;
    opened(&app, &receiver, "expired", 60).await;
    app.advance(seconds(60)).await;
    app.expire().await;
    app.advance(Duration::from_hours(48)).await;
    app.expire().await;
    opened(&app, &receiver, "alive", 3_600).await;
    for id in ["stopped", "expired", "alive"] {
        let opening = json!({ "id": id, "resource": "other", "address": receiver.url("/") });
        let answer = app.post("/v1/channels", opening).await;
        assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("channelIdTaken")), "{id}");
        let body = json!({ "id": id, "type": "web_hook", "address": receiver.url("/") });
        let answer = app.post(&format!("/{CALENDAR}/watch"), body).await;
        assert_eq!((answer.status, answer.reason()), (400, "channelIdNotUnique".into()), "{id}");
        // What another project calls its channels is its own business.
        let foreign = app.token("else", "liz@example.com", SCOPES);
        let opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url("/") });
        assert_eq!(app.call("POST", "/v1/channels", &foreign, Some(opening)).await.status, 201);
    }
}

async fn gone_ends_the_channel_at_once(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", 86_400).await;
    receiver.answer(Answer::status(410));
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.settle().await;
    receiver.answer(Answer::ok());
    assert_eq!(receiver.received().len(), 2);
    let channel = app.channel("c").await;
    assert_eq!(channel["state"], "gone");
    assert_eq!(channel["cursor"]["lag"], 5, "what it has not had stays countable: {channel}");
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.advance(HOUR).await;
    app.sweep().await;
    app.restart().await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), 2, "{}", receiver.transcript());
    assert_eq!(app.channel("c").await["cursor"]["lag"], 5, "nothing after its end was meant for it");
    assert_eq!(app.patch("c", json!({ "ttlSeconds": 3_600 })).await.status, 409);
    let ledger = app.attempts("c").await;
    assert_eq!((ledger.len(), &ledger[1]["status"]), (2, &json!(410)));
}

async fn a_refused_sync_is_parked_and_events_flow(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver
        .answer_with(|request| Answer::status(if request.message_number() == Some(1) { 404 } else { 200 }));
    opened(&app, &receiver, "c", 86_400).await;
    app.publish_many(RESOURCE, "order.changed", 3).await;
    for _ in 0..2 {
        app.settle().await;
        assert!(receiver.received().iter().all(|request| request.message_number() == Some(1)));
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    let received = receiver.received();
    assert_eq!(numbers(&received), [1, 1, 1, 2, 3, 4], "{}", receiver.transcript());
    assert_eq!(received[3].previous_message(), Some(1), "the receiver can tell that it missed nothing else");
    assert_eq!(app.channel("c").await["state"], "active");
    assert_eq!(app.attempts("c").await.len(), 6);
}

async fn a_refused_sync_costs_no_event_after_a_restart(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver
        .answer_with(|request| Answer::status(if request.message_number() == Some(1) { 404 } else { 200 }));
    opened(&app, &receiver, "c", 86_400).await;
    for _ in 0..2 {
        app.settle().await;
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 1, 1]);
    // Nothing is pending and the receiver has never said 2xx: after a restart nothing but its resource finds it.
    app.restart().await;
    assert!(!app.channel("c").await["cursor"]["failingSince"].is_null());
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 1, 1, 2, 3], "{}", receiver.transcript());
    app.crash().await;
    assert!(app.channel("c").await["cursor"]["failingSince"].is_null(), "it has said 2xx since");
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 1, 1, 2, 3, 4], "{}", receiver.transcript());
}

/// The answer is in the ledger before the end is written: a crash in between must not leave a channel that looks
/// alive and that nothing finds.
#[tokio::test(flavor = "multi_thread")]
async fn gone_ends_the_channel_although_a_crash_came_first() {
    let mut app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", 86_400).await;
    app.base
        .run(
            "create function refuse() returns trigger language plpgsql as
               $$ begin raise exception 'not now'; end $$;
             create trigger refuse before update on channels for each row
               when (new.state = 'gone') execute function refuse();",
        )
        .await;
    receiver.answer(Answer::status(410));
    app.publish_many(RESOURCE, "order.changed", 3).await;
    in_time("the ledger", async { while app.attempts("c").await.len() < 2 {} }).await;
    app.base.run("drop trigger refuse on channels").await;
    app.crash().await;
    assert_eq!(app.channel("c").await["state"], "active");
    app.advance_to(app.next_attempt_at("c").await).await;
    app.settle().await;
    let channel = app.channel("c").await;
    assert_eq!((&channel["state"], &channel["cursor"]["lag"]), (&json!("gone"), &json!(3)), "{channel}");
    assert_eq!(numbers(&receiver.received()), [1, 2, 2], "{}", receiver.transcript());
}
