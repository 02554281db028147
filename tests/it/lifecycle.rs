//! A channel's whole life runs by itself: limits, suspension, reminders, warnings, renewal, and the word to its owner.

use std::time::Duration;

use serde_json::{Value, json};
use watchpost::jobs::{JobName, Report};

use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(
    max_attempts_suspend_a_channel,
    a_channel_that_continues_parks_its_head_and_goes_on,
    a_redirect_is_a_failure_a_parking_or_a_new_address,
    a_poisonous_payload_is_parked_once_a_ping_shows_that_the_receiver_works,
    who_refuses_the_ping_as_well_is_not_poisoned,
    a_receiver_that_asked_is_reminded_and_goes_on_with_a_2xx,
    one_that_did_not_ask_is_probed_and_never_told,
    warnings_come_once_and_a_renewal_ends_them,
    a_warning_that_fails_after_the_renewal_is_forgotten,
    the_end_is_told_and_grace_keeps_what_came_meanwhile,
    a_paused_channel_that_expires_comes_back_paused,
    a_quiet_channel_renews_itself_for_ninety_days,
    a_short_life_is_renewed_as_well,
    one_that_begins_to_renew_itself_late_is_asked,
    a_dead_one_does_not_renew_itself,
    one_that_is_suspended_when_it_comes_back_is_reminded,
    a_suspended_one_is_woken_by_what_it_asks_for_now,
    a_suspended_one_that_has_claimed_everything_is_reminded_of_more,
    a_parked_sync_is_nothing_to_claim,
    notices_go_to_their_own_address,
    what_another_address_answers_says_nothing_of_the_receiver,
    who_takes_notices_alone_stays_suspended,
    the_owner_hears_of_everything,
    four_days_down,
);

const RESOURCE: &str = "orders/17";

async fn opened(app: &TestApp, receiver: &Receiver, id: &str, options: Value) -> Value {
    let mut body = json!({ "id": id, "resource": RESOURCE, "address": receiver.url(&format!("/{id}")),
                           "ttlSeconds": 2_592_000, "retry": { "schedule": ["0s", "10m"] } });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let channel = app.open(body).await;
    app.settle().await;
    channel
}

async fn publish(app: &TestApp, count: usize) {
    app.publish_many(RESOURCE, "order.changed", count).await;
    app.settle().await;
}

async fn run(app: &TestApp, job: JobName) -> Report {
    let report = app.server().jobs.run_once(job).await.unwrap();
    app.settle().await;
    report
}

/// Moves time, ringing every job as cron would, but in steps of this length.
async fn live(app: &TestApp, by: Duration, step: Duration) {
    let until = app.now().plus(by);
    while app.now() < until {
        app.advance(step.min(until.since(app.now()))).await;
        for job in [JobName::Expiry, JobName::Renewal, JobName::Claims, JobName::Retry] {
            run(app, job).await;
        }
    }
}

fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

fn notices(received: &[Received]) -> Vec<String> {
    received.iter().filter_map(|request| request.notice().map(str::to_owned)).collect()
}

fn heads(received: &[Received]) -> Vec<u64> {
    let heads: Vec<Received> = received.iter().filter(|r| r.notice().is_none()).cloned().collect();
    numbers(&heads)
}

async fn state(app: &TestApp, id: &str) -> String {
    app.channel(id).await["state"].as_str().unwrap().to_owned()
}

async fn own_events(app: &TestApp) -> Vec<String> {
    let answer = app.get("/v1/events?resource=watchpost/channels&after=0&limit=500").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let items = answer.json()["items"].as_array().unwrap().clone();
    items
        .iter()
        .filter(|item| item["data"]["channelId"] != item["data"]["channelUid"])
        .map(|item| {
            format!("{} {}", item["name"].as_str().unwrap(), item["data"]["channelId"].as_str().unwrap())
        })
        .collect()
}

async fn max_attempts_suspend_a_channel(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let retry = json!({ "retry": { "schedule": ["0s", "1m"], "maxAttempts": 3 } });
    opened(&app, &receiver, "c", retry).await;
    receiver.answer(Answer::status(500));
    publish(&app, 2).await;
    for _ in 0..2 {
        assert_eq!(state(&app, "c").await, "active");
        app.advance(seconds(80)).await;
    }
    assert_eq!(state(&app, "c").await, "suspended");
    assert_eq!(numbers(&receiver.received()), [1, 2, 2, 2]);
    receiver.answer(Answer::ok());
    let answer = app.post("/v1/channels/c/resume", Value::Null).await;
    assert_eq!(answer.status, 200);
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 2, 2, 2, 3], "in order");
    receiver.answer(Answer::status(500));
    publish(&app, 1).await;
    assert_eq!(state(&app, "c").await, "active", "a resumption counts anew");
}

async fn a_channel_that_continues_parks_its_head_and_goes_on(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let retry = json!({ "retry": { "schedule": ["0s", "1m"], "maxAttempts": 2, "onExhausted": "continue" } });
    let channel = opened(&app, &receiver, "c", retry).await;
    let claim = url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned();
    receiver.answer_with(|request| match request.message_number() {
        Some(2) => Answer::status(500),
        _ => Answer::ok(),
    });
    publish(&app, 2).await;
    app.advance(seconds(80)).await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 2, 3]);
    assert_eq!(receiver.received()[3].previous_message(), Some(2), "a parked one was passed");
    assert_eq!(state(&app, "c").await, "active");
    // Pulled and settled by its id, and by nothing else.
    let page = app.call("GET", &claim, "", None).await.json();
    assert_eq!(
        (page["items"][0]["number"].as_i64(), page["items"][0]["parked"].as_bool()),
        (Some(2), Some(true))
    );
    assert_eq!((page["items"].as_array().unwrap().len(), page["earliestNumber"].as_i64()), (1, Some(2)));
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(Some(id.as_str()), receiver.received()[1].webhook_id());
    let ack = async |body: Value| app.call("POST", &format!("{claim}/ack"), "", Some(body)).await;
    assert_eq!(ack(json!({ "through": 3 })).await.status, 200);
    assert_eq!(app.call("GET", &claim, "", None).await.json()["items"].as_array().unwrap().len(), 1);
    let wrong = ack(json!({ "ids": [id, "msg_other_2"] })).await;
    assert_eq!((wrong.status, wrong.json()["field"].as_str()), (400, Some("ids[1]")));
    for settled in [1, 0] {
        assert_eq!(ack(json!({ "ids": [id] })).await.json()["settled"], settled);
    }
    assert_eq!(app.call("GET", &claim, "", None).await.json()["items"], json!([]));
}

async fn a_redirect_is_a_failure_a_parking_or_a_new_address(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let mut uids = Vec::new();
    for redirects in ["retry", "fail", "update"] {
        let channel = opened(&app, &old, redirects, json!({ "redirects": redirects })).await;
        uids.push(channel["uid"].as_str().unwrap().to_owned());
    }
    let to = new.url("/moved");
    old.answer(Answer::status(308).with_header("Location", &to));
    publish(&app, 2).await;
    assert_eq!(numbers(&old.received_by(&uids[0])), [1, 2], "retried later");
    assert_eq!(numbers(&old.received_by(&uids[1])), [1, 2, 3], "parked at once, each");
    assert_eq!(app.channel("update").await["address"], to.as_str());
    app.advance(seconds(780)).await;
    assert_eq!(numbers(&new.received_by(&uids[2])), [2, 3], "the new address has it, in order");
    assert_eq!(new.received().len(), 2);
    // An address that policy refuses is not taken over.
    opened(&app, &new, "stays", json!({ "redirects": "update" })).await;
    new.answer(Answer::status(301).with_header("Location", "http://169.254.169.254/"));
    publish(&app, 1).await;
    assert_eq!(app.channel("stays").await["address"], new.url("/stays").as_str());
}

async fn a_poisonous_payload_is_parked_once_a_ping_shows_that_the_receiver_works(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({})).await;
    receiver.answer_with(|request| match (request.notice(), request.message_number()) {
        (None, Some(2)) => Answer::status(422),
        _ => Answer::ok(),
    });
    publish(&app, 2).await;
    for attempt in 2..=7 {
        app.advance(seconds(780)).await;
        assert_eq!(heads(&receiver.received()).len(), attempt + 1);
        assert_eq!(notices(&receiver.received()), [] as [String; 0], "no evidence yet");
    }
    app.advance(seconds(780)).await;
    app.settle().await;
    assert_eq!(notices(&receiver.received()), ["ping"]);
    assert_eq!(heads(&receiver.received()), [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
    assert_eq!(state(&app, "c").await, "active");
    assert!(own_events(&app).await.contains(&"channel.parked c".to_owned()));
    // Once its receiver has been put right, it arrives after all.
    receiver.answer(Answer::ok());
    let answer = app.post("/v1/channels/c/parked/redrive", Value::Null).await;
    assert_eq!((answer.status, answer.json()["redriven"].as_i64()), (202, Some(1)));
    app.settle().await;
    let last = receiver.received().pop().unwrap();
    assert_eq!((last.message_number(), last.attempt()), (Some(2), Some(10)));
    assert_eq!(last.replay(), answer.json()["replayId"].as_str());
    let again = app.post("/v1/channels/c/parked/redrive", Value::Null).await;
    assert_eq!(again.json()["redriven"], 0, "it is not parked any more");
}

async fn who_refuses_the_ping_as_well_is_not_poisoned(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({})).await;
    receiver.answer(Answer::status(400));
    publish(&app, 1).await;
    for _ in 0..12 {
        app.advance(seconds(780)).await;
    }
    assert!(notices(&receiver.received()).len() >= 3);
    assert_eq!(heads(&receiver.received()).iter().max(), Some(&2));
    receiver.answer(Answer::ok());
    app.advance(seconds(780)).await;
    app.settle().await;
    assert_eq!(heads(&receiver.received()).pop(), Some(2), "delivered, not parked");
    assert!(!own_events(&app).await.contains(&"channel.parked c".to_owned()));
}

async fn a_receiver_that_asked_is_reminded_and_goes_on_with_a_2xx(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let retry = json!({ "schedule": ["0s"], "maxAttempts": 2 });
    let channel = opened(&app, &receiver, "c", json!({ "lifecycle": true, "retry": retry })).await;
    receiver.answer(Answer::status(503));
    publish(&app, 3).await;
    app.advance(seconds(1)).await;
    assert_eq!(state(&app, "c").await, "suspended");
    app.advance(seconds(400)).await;
    app.advance(seconds(400)).await;
    let received = receiver.received();
    let told = notices(&received);
    for kind in ["suspended", "claim"] {
        assert_eq!(told.iter().filter(|told| *told == kind).count(), 3, "three attempts: {told:?}");
    }
    let claim = received.iter().find(|request| request.notice() == Some("claim")).unwrap();
    let body = claim.json();
    assert_eq!(body["type"], "watchpost.channel.claim");
    assert_eq!((body["data"]["waiting"].as_i64(), body["data"]["parked"].as_i64()), (Some(3), Some(0)));
    assert_eq!(body["data"]["claimUrl"], channel["claimUrl"]);
    assert!(body["data"]["lostAt"].is_string() && body["data"]["oldestAt"].is_string(), "{body}");
    let uid = channel["uid"].as_str().unwrap();
    assert_eq!(claim.webhook_id(), Some(format!("ntc_{uid}_claim_1").as_str()));
    assert_eq!(claim.message_number(), Some(1), "the last number again");
    let before = heads(&receiver.received()).len();
    // The same job twice at one time does nothing the second time; an hour later it reminds again.
    assert_eq!(run(&app, JobName::Claims).await["notices"], 0);
    app.advance(hours(1)).await;
    assert_eq!(run(&app, JobName::Claims).await["notices"], 1);
    assert_eq!(run(&app, JobName::Claims).await["notices"], 0);
    assert_eq!(heads(&receiver.received()).len(), before, "reminded, not probed");
    receiver.answer(Answer::ok());
    app.advance(hours(7)).await;
    run(&app, JobName::Claims).await;
    assert_eq!(state(&app, "c").await, "active", "a 2xx to a reminder is proof of life");
    assert!(heads(&receiver.received()).ends_with(&[2, 3, 4]));
    app.advance(hours(24)).await;
    assert_eq!(run(&app, JobName::Claims).await["notices"], 0, "nothing is left to claim");
    assert_eq!(run(&app, JobName::Claims).await["due"], 0);
    let attempts = app.attempts("c").await;
    assert_eq!(attempts.len(), receiver.received().len(), "the ledger has every request");
    assert!(attempts.iter().any(|attempt| attempt["notice"] == "claim"));
}

async fn one_that_did_not_ask_is_probed_and_never_told(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "retry": { "schedule": ["0s"], "maxAttempts": 1 } })).await;
    receiver.answer(Answer::status(503));
    publish(&app, 2).await;
    assert_eq!(state(&app, "c").await, "suspended");
    live(&app, hours(26), hours(1)).await;
    assert_eq!(heads(&receiver.received()), [1, 2, 2, 2, 2], "after 1, 8 and 24 hours");
    assert_eq!(notices(&receiver.received()), [] as [String; 0]);
    receiver.answer(Answer::ok());
    live(&app, hours(24), hours(1)).await;
    assert_eq!(heads(&receiver.received()), [1, 2, 2, 2, 2, 2, 3]);
    assert_eq!(state(&app, "c").await, "active");
}

async fn warnings_come_once_and_a_renewal_ends_them(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "lifecycle": true, "ttlSeconds": 100 * 3_600 })).await;
    opened(&app, &receiver, "plain", json!({ "ttlSeconds": 100 * 3_600 })).await;
    app.advance(hours(79)).await;
    assert_eq!(run(&app, JobName::Renewal).await["warned"], 0);
    app.advance(hours(2)).await;
    assert_eq!(run(&app, JobName::Renewal).await["warned"], 2);
    assert_eq!(run(&app, JobName::Renewal).await["warned"], 0, "once");
    app.advance(hours(15)).await;
    assert_eq!(run(&app, JobName::Renewal).await["warned"], 2);
    assert_eq!(notices(&receiver.received()), ["expiring", "expiring"]);
    let answer = app.post("/v1/channels/c/renew", json!({ "ttlSeconds": 100 * 3_600 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    app.settle().await;
    assert_eq!(notices(&receiver.received()), ["expiring", "expiring", "renewed"]);
    app.advance(hours(10)).await;
    run(&app, JobName::Renewal).await;
    run(&app, JobName::Expiry).await;
    assert_eq!((state(&app, "c").await.as_str(), state(&app, "plain").await.as_str()), ("active", "expired"));
    let told = own_events(&app).await;
    assert_eq!(told.iter().filter(|told| *told == "channel.expiring c").count(), 2);
    assert_eq!(told.iter().filter(|told| *told == "channel.expiring plain").count(), 2);
    assert!(told.contains(&"channel.renewed c".to_owned()));
}

async fn a_warning_that_fails_after_the_renewal_is_forgotten(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "lifecycle": true, "ttlSeconds": 100 * 3_600 })).await;
    app.advance(hours(81)).await;
    receiver.answer(Answer::Hang);
    app.server().jobs.run_once(JobName::Renewal).await.unwrap();
    receiver.wait_for(2).await;
    // Renewed while the warning is on its way: it is taken back.
    assert_eq!(app.patch("c", json!({ "ttlSeconds": 100 * 3_600 })).await.status, 200);
    receiver.answer(Answer::ok());
    receiver.release_with(&Answer::status(500));
    app.settle().await;
    app.advance(seconds(60)).await;
    assert_eq!(notices(&receiver.received()), ["expiring", "renewed"]);
    publish(&app, 1).await;
    assert_eq!(heads(&receiver.received()), [1, 2], "the channel goes on");
}

async fn the_end_is_told_and_grace_keeps_what_came_meanwhile(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "lifecycle": true, "ttlSeconds": 3_600 })).await;
    app.advance(hours(2)).await;
    run(&app, JobName::Expiry).await;
    assert_eq!(notices(&receiver.received()).last().map(String::as_str), Some("expired"));
    publish(&app, 2).await;
    assert_eq!(heads(&receiver.received()), [1], "nothing is sent after the end");
    app.advance(hours(20)).await;
    let answer = app.patch("c", json!({ "ttlSeconds": 3_600 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    app.settle().await;
    assert_eq!(heads(&receiver.received()), [1, 2, 3]);
}

async fn a_paused_channel_that_expires_comes_back_paused(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "ttlSeconds": 3_600 })).await;
    assert_eq!(app.post("/v1/channels/c/pause", Value::Null).await.status, 200);
    app.advance(hours(2)).await;
    run(&app, JobName::Expiry).await;
    publish(&app, 1).await;
    assert_eq!(app.post("/v1/channels/c/renew", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!((state(&app, "c").await.as_str(), numbers(&receiver.received())), ("paused", vec![1]));
    assert_eq!(app.post("/v1/channels/c/resume", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2]);
}

async fn a_quiet_channel_renews_itself_for_ninety_days(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let lifetime = json!({ "renewal": "auto", "ttlSeconds": 7 * 86_400 });
    opened(&app, &receiver, "c", lifetime).await;
    live(&app, hours(90 * 24), hours(6)).await;
    assert_eq!(state(&app, "c").await, "active");
    let told = notices(&receiver.received());
    assert!(!told.is_empty() && told.iter().all(|kind| kind == "ping"), "{told:?}");
    publish(&app, 1).await;
    assert_eq!(heads(&receiver.received()), [1, 2]);
}

async fn a_short_life_is_renewed_as_well(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let lives = [90, 120, 180, 240, 300, 420, 900];
    for ttl in lives {
        opened(&app, &receiver, &format!("c{ttl}"), json!({ "renewal": "auto", "ttlSeconds": ttl })).await;
    }
    // As cron would: the one every minute, the other oftener.
    app.advance(seconds(35)).await;
    for _ in 0..30 {
        run(&app, JobName::Expiry).await;
        run(&app, JobName::Renewal).await;
        app.advance(seconds(30)).await;
        run(&app, JobName::Expiry).await;
        app.advance(seconds(30)).await;
    }
    for ttl in lives {
        assert_eq!(state(&app, &format!("c{ttl}")).await, "active", "{ttl}");
    }
}

async fn one_that_begins_to_renew_itself_late_is_asked(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "ttlSeconds": 100 * 3_600 })).await;
    app.advance(hours(97)).await;
    assert_eq!(app.patch("c", json!({ "renewal": "auto" })).await.status, 200);
    for _ in 0..3 {
        run(&app, JobName::Renewal).await;
        app.advance(seconds(60)).await;
    }
    assert_eq!(notices(&receiver.received()), ["ping"], "asked once");
    assert_eq!(own_events(&app).await.iter().filter(|told| *told == "channel.renewed c").count(), 1);
}

/// Suspends `c`, with two events to claim.
async fn suspended(app: &TestApp, receiver: &Receiver, options: Value) -> String {
    let mut asked = json!({ "retry": { "schedule": ["0s"], "maxAttempts": 1 } });
    asked.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let channel = opened(app, receiver, "c", asked).await;
    receiver.answer(Answer::status(503));
    publish(app, 2).await;
    assert_eq!(state(app, "c").await, "suspended");
    app.advance(seconds(400)).await;
    app.advance(seconds(400)).await;
    url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned()
}

async fn one_that_is_suspended_when_it_comes_back_is_reminded(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    suspended(&app, &receiver, json!({ "lifecycle": true, "ttlSeconds": 3_600 })).await;
    live(&app, hours(3), hours(1)).await;
    assert_eq!(state(&app, "c").await, "expired");
    assert_eq!(app.patch("c", json!({ "ttlSeconds": 1_000_000 })).await.status, 200);
    app.settle().await;
    assert_eq!(state(&app, "c").await, "suspended");
    live(&app, seconds(800), seconds(400)).await;
    receiver.answer(Answer::ok());
    live(&app, hours(26), hours(1)).await;
    assert_eq!(state(&app, "c").await, "active");
    assert!(heads(&receiver.received()).ends_with(&[2, 3]));
}

async fn a_suspended_one_is_woken_by_what_it_asks_for_now(kind: Kind) {
    for before in [true, false] {
        let mut app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        suspended(&app, &receiver, json!({ "lifecycle": before })).await;
        assert_eq!(app.patch("c", json!({ "lifecycle": !before })).await.status, 200);
        app.settle().await;
        app.restart().await;
        receiver.answer(Answer::ok());
        live(&app, hours(26), hours(1)).await;
        assert_eq!(state(&app, "c").await, "active", "it was {before}");
        assert!(heads(&receiver.received()).ends_with(&[2, 3]));
    }
}

async fn a_suspended_one_that_has_claimed_everything_is_reminded_of_more(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = suspended(&app, &receiver, json!({ "lifecycle": true })).await;
    let answer = app.call("POST", &format!("{claim}/ack"), "", Some(json!({ "through": 3 }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let before = notices(&receiver.received()).len();
    live(&app, hours(26), hours(1)).await;
    assert_eq!(notices(&receiver.received()).len(), before, "there is nothing to claim");
    receiver.answer(Answer::ok());
    publish(&app, 1).await;
    live(&app, hours(26), hours(1)).await;
    assert_eq!(state(&app, "c").await, "active");
    assert!(heads(&receiver.received()).ends_with(&[4]));
}

async fn a_parked_sync_is_nothing_to_claim(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer_with(|request| match request.message_number() {
        Some(1) if request.notice().is_none() => Answer::status(404),
        _ => Answer::ok(),
    });
    opened(&app, &receiver, "c", json!({ "lifecycle": true, "retry": { "schedule": ["0s"] } })).await;
    app.advance(seconds(10)).await;
    live(&app, hours(26), hours(1)).await;
    assert_eq!(heads(&receiver.received()), [1, 1, 1]);
    assert_eq!(notices(&receiver.received()), [] as [String; 0]);
}

async fn a_dead_one_does_not_renew_itself(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "renewal": "auto", "ttlSeconds": 30 * 3_600 })).await;
    receiver.answer(Answer::status(500));
    live(&app, hours(40), hours(1)).await;
    assert_eq!(state(&app, "c").await, "expired");
    assert!(!own_events(&app).await.contains(&"channel.renewed c".to_owned()));
}

async fn notices_go_to_their_own_address(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, desk) = (Receiver::start().await, Receiver::start().await);
    let options = json!({ "lifecycle": true, "lifecycleAddress": desk.url("/desk") });
    opened(&app, &receiver, "c", options).await;
    let answer =
        app.post("/v1/channels/c/ping", json!({ "name": "are.you.there", "data": { "n": 1 } })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    app.settle().await;
    // A ping asks the receiver itself.
    let told = receiver.received().split_off(1);
    assert_eq!((told.len(), told[0].notice(), told[0].event()), (1, Some("ping"), Some("are.you.there")));
    assert_eq!(told[0].json()["data"], json!({ "n": 1 }));
    assert_eq!(told[0].webhook_id(), answer.json()["id"].as_str());
    assert_eq!(app.post("/v1/channels/c/renew", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!(notices(&desk.received()), ["renewed"]);
    assert_eq!(heads(&receiver.received()), [1]);
    assert_eq!(app.post("/v1/channels/c/pause", Value::Null).await.status, 200);
    let refused = app.post("/v1/channels/c/ping", Value::Null).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("channelPaused")));
}

async fn what_another_address_answers_says_nothing_of_the_receiver(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, desk) = (Receiver::start().await, Receiver::start().await);
    let told = json!({ "lifecycle": true, "lifecycleAddress": desk.url("/desk") });
    let mut quiet = json!({ "renewal": "auto", "ttlSeconds": 30 * 3_600 });
    quiet.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
    opened(&app, &receiver, "quiet", quiet.clone()).await;
    live(&app, hours(50), hours(1)).await;
    assert_eq!(state(&app, "quiet").await, "active", "its receiver is pinged");
    receiver.answer(Answer::status(500));
    live(&app, hours(50), hours(1)).await;
    assert_eq!(state(&app, "quiet").await, "expired");
    assert!(notices(&desk.received()).contains(&"expiring".to_owned()));
}

async fn who_takes_notices_alone_stays_suspended(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let retry = json!({ "schedule": ["0s", "10m"], "maxAttempts": 1 });
    opened(&app, &receiver, "c", json!({ "lifecycle": true, "retry": retry })).await;
    receiver.answer_with(|request| match (request.notice(), request.message_number()) {
        (None, Some(2..)) => Answer::status(500),
        _ => Answer::ok(),
    });
    publish(&app, 2).await;
    assert_eq!(state(&app, "c").await, "suspended");
    // Each notice has the head tried once.
    assert_eq!(notices(&receiver.received()).len(), 2);
    assert!(heads(&receiver.received()).len() <= 4, "{:?}", heads(&receiver.received()));
    app.advance(hours(1)).await;
    run(&app, JobName::Claims).await;
    assert!(heads(&receiver.received()).len() <= 5);
    assert!(!own_events(&app).await.contains(&"channel.resumed c".to_owned()));
    receiver.answer(Answer::ok());
    app.advance(hours(8)).await;
    run(&app, JobName::Claims).await;
    assert_eq!(state(&app, "c").await, "active");
    assert!(heads(&receiver.received()).ends_with(&[2, 3]));
}

async fn the_owner_hears_of_everything(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, owner) = (Receiver::start().await, Receiver::start().await);
    let watching = json!({ "id": "owner", "resource": "watchpost/channels", "address": owner.url("/owner") });
    app.open(watching).await;
    let retry = json!({ "retry": { "schedule": ["0s"], "maxAttempts": 1 }, "ttlSeconds": 3_600 });
    opened(&app, &receiver, "c", retry).await;
    receiver.answer(Answer::status(500));
    publish(&app, 1).await;
    receiver.answer(Answer::ok());
    assert_eq!(app.post("/v1/channels/c/resume", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!(app.patch("c", json!({ "ttlSeconds": 7_200 })).await.status, 200);
    receiver.answer(Answer::status(410));
    publish(&app, 1).await;
    receiver.answer(Answer::ok());
    opened(&app, &receiver, "d", json!({ "ttlSeconds": 60 })).await;
    app.advance(seconds(120)).await;
    run(&app, JobName::Expiry).await;
    app.settle().await;
    let heard: Vec<String> = owner
        .received()
        .iter()
        .skip(1)
        .filter(|request| request.json()["data"]["channelId"] != request.json()["data"]["channelUid"])
        .map(|request| {
            format!("{} {}", request.event().unwrap(), request.json()["data"]["channelId"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        heard,
        [
            "channel.opened c",
            "channel.suspended c",
            "channel.resumed c",
            "channel.renewed c",
            "channel.gone c",
            "channel.opened d",
            "channel.expired d"
        ],
        "and never of its own watcher"
    );
}

/// A receiver that is down for four days: back-off, suspension within the window, reminders, pull and
/// acknowledgement of half, recovery, and the rest in order.
async fn four_days_down(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let body = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/c"), "lifecycle": true,
                       "ttlSeconds": 2_592_000 });
    let channel = app.open(body).await;
    let claim = url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned();
    app.settle().await;
    receiver.answer(Answer::status(503));
    publish(&app, 10).await;
    live(&app, hours(71), hours(1)).await;
    assert_eq!(state(&app, "c").await, "active", "within its window");
    live(&app, hours(25), hours(1)).await;
    assert_eq!(state(&app, "c").await, "suspended");
    let attempts = heads(&receiver.received());
    assert_eq!(attempts.iter().max(), Some(&2), "one probe per step, however long the backlog");
    assert!((10..30).contains(&attempts.len()), "{}", attempts.len());
    assert!(notices(&receiver.received()).iter().filter(|kind| *kind == "claim").count() >= 3);
    let page = app.call("GET", &claim, "", None).await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 10);
    let ack = app.call("POST", &format!("{claim}/ack"), "", Some(json!({ "through": 6 }))).await;
    assert_eq!(ack.json(), json!({ "through": 6 }));
    receiver.answer(Answer::ok());
    live(&app, hours(25), hours(1)).await;
    assert_eq!(state(&app, "c").await, "active");
    assert!(heads(&receiver.received()).ends_with(&[7, 8, 9, 10, 11]), "the rest, in order");
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
}
