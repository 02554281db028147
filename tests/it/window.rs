//! Channels whose notifications may overtake each other: `ordering: none`.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver, in_time},
};

on_both!(
    one_that_hangs_blocks_nobody,
    what_fails_is_tried_again_beside_the_others,
    a_crash_repeats_only_what_was_on_its_way,
    retries_survive_a_restart_and_do_not_hold_up_what_is_new,
    after_sixteen_failures_requests_leave_one_at_a_time,
    a_pause_keeps_everything,
    an_acknowledgement_settles_what_waits,
    a_skip_cancels_what_was_not_had,
    a_replay_sends_everything_again,
    after_its_window_it_is_suspended_and_goes_on_when_resumed,
    one_that_goes_on_parks_what_exhausts_it,
    what_is_parked_ahead_of_others_is_told_as_parked,
    a_filter_passes_what_is_not_wanted,
    a_new_filter_cancels_what_waits_and_is_not_wanted,
    both_faces_open_one,
);

const RESOURCE: &str = "orders/17";

async fn opened(app: &TestApp, receiver: &Receiver, options: Value) -> Value {
    let mut body = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/c"), "ordering": "none",
                           "retry": { "schedule": ["0s", "10s"] } });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let channel = app.open(body).await;
    assert_eq!(channel["ordering"], "none");
    app.settle().await;
    channel
}

async fn publish(app: &TestApp, count: usize) {
    publish_named(app, "order.changed", count).await;
}

/// Events with ids of their own, by which `fate` finds them.
async fn publish_named(app: &TestApp, name: &str, count: usize) {
    static IDS: AtomicU64 = AtomicU64::new(0);
    for at in (0..count).step_by(100) {
        let event = |_| {
            let id = format!("e{}", IDS.fetch_add(1, Ordering::Relaxed));
            json!({ "resource": RESOURCE, "id": id, "name": name, "data": {} })
        };
        let events: Vec<Value> = (at..count.min(at + 100)).map(event).collect();
        app.publish(json!({ "events": events })).await;
    }
}

fn claim_path(channel: &Value) -> String {
    url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned()
}

fn times(received: &[Received], number: u64) -> usize {
    numbers(received).iter().filter(|told| **told == number).count()
}

fn told(received: &[Received]) -> BTreeSet<u64> {
    numbers(received).into_iter().collect()
}

fn fails(which: impl Fn(u64) -> bool + Send + 'static) -> impl FnMut(&Received) -> Answer + Send + 'static {
    move |request| {
        let fails = request.message_number().is_some_and(&which);
        Answer::status(if fails { 503 } else { 200 })
    }
}

/// The ledger has every request, and the store knows of nothing that waits.
async fn is_through(app: &TestApp, receiver: &Receiver) {
    app.settle().await;
    assert_eq!(app.attempts("c").await.len(), receiver.received().len(), "the ledger has every request");
    let channel = app.channel("c").await;
    assert_eq!(channel["cursor"]["lag"], 0, "{channel}");
    let report = app.sweep().await;
    assert_eq!((report["due"], report["busy"]), (0, 0), "nothing is left to be found");
}

async fn fate(app: &TestApp, number: i64) -> String {
    let page = app.get(&format!("/v1/events?resource={RESOURCE}&after={}&limit=1", number - 2)).await.json();
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    let answer = app.get(&format!("/v1/events/{id}")).await;
    assert_eq!(answer.status, 200, "{page} {answer:?}");
    answer.json()["channels"][0]["status"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

async fn one_that_hangs_blocks_nobody(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(
        |request| {
            if request.message_number() == Some(2) { Answer::Hang } else { Answer::ok() }
        },
    );
    publish(&app, 300).await;
    // The second number is the first event: 255 more may overtake it.
    let last = 2 + 255;
    receiver.wait_until("all but the last", |received| told(received).len() == last).await;
    let durable = async { while fate(&app, i64::try_from(last).unwrap()).await != "delivered" {} };
    in_time("the last outcome to be durable", durable).await;
    app.clock.advance(seconds(1));
    assert_eq!(told(&receiver.received()), (1..=last as u64).collect(), "nothing further ahead is begun");
    assert_eq!(fate(&app, 2).await, "pending");
    receiver.answer(Answer::ok());
    receiver.release();
    receiver.wait_until("the rest", |received| told(received).len() == 301).await;
    is_through(&app, &receiver).await;
    assert_eq!(receiver.received().len(), 301, "each once");
    assert!(receiver.received().iter().all(|request| request.previous_message().is_none()));
}

async fn what_fails_is_tried_again_beside_the_others(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(fails(|number| number % 5 == 0));
    publish(&app, 20).await;
    app.settle().await;
    assert_eq!(told(&receiver.received()), (1..=21).collect());
    assert_eq!(receiver.received().len(), 21);
    assert_eq!((fate(&app, 5).await.as_str(), fate(&app, 6).await.as_str()), ("pending", "delivered"));
    for attempt in 2..=3 {
        app.advance(seconds(13)).await;
        assert_eq!(times(&receiver.received(), 10), attempt);
        assert_eq!(times(&receiver.received(), 11), 1);
    }
    publish(&app, 1).await;
    app.settle().await;
    assert_eq!(times(&receiver.received(), 22), 1, "what is new does not wait for them");
    receiver.answer(Answer::ok());
    app.advance(seconds(13)).await;
    for number in [5, 10, 15, 20] {
        assert_eq!(times(&receiver.received(), number), 4);
        let last = receiver.received().into_iter().rfind(|it| it.message_number() == Some(number));
        assert_eq!(last.unwrap().attempt(), Some(4));
    }
    assert_eq!(fate(&app, 5).await, "delivered");
    is_through(&app, &receiver).await;
}

async fn a_crash_repeats_only_what_was_on_its_way(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(|request| match request.message_number() {
        Some(number) if number % 20 == 0 => Answer::Hang,
        Some(number) if number % 7 == 0 => Answer::status(500),
        _ => Answer::ok(),
    });
    publish(&app, 200).await;
    receiver.wait_until("all", |received| told(received).len() == 201).await;
    let before = receiver.received().len();
    receiver.answer(Answer::ok());
    app.crash().await;
    receiver.release();
    app.sweep().await;
    app.advance(seconds(30)).await;
    app.sweep().await;
    let received = receiver.received();
    assert!(received.len() - before <= 64 + 28, "{} before, {} in all", before, received.len());
    for number in (1..=201_u64).filter(|number| number % 20 == 0) {
        assert!(times(&received, number) >= 2, "{number} was on its way");
    }
    let channel = app.channel("c").await;
    assert_eq!(channel["cursor"]["lag"], 0, "{channel}");
    assert_eq!(app.sweep().await["due"], 0);
}

async fn retries_survive_a_restart_and_do_not_hold_up_what_is_new(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({ "retry": { "schedule": ["0s", "6h"] } })).await;
    receiver.answer_with(fails(|number| number == 3));
    publish(&app, 5).await;
    app.settle().await;
    app.restart().await;
    publish(&app, 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()).last(), Some(&7), "at once");
    app.crash().await;
    receiver.answer(Answer::ok());
    publish(&app, 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()).last(), Some(&8));
    assert_eq!(times(&receiver.received(), 3), 1);
    app.advance(seconds(8 * 3_600)).await;
    app.sweep().await;
    let last = receiver.received().pop().unwrap();
    assert_eq!((last.message_number(), last.attempt()), (Some(3), Some(2)));
    is_through(&app, &receiver).await;
    assert_eq!(receiver.received().len(), 9);
}

async fn after_sixteen_failures_requests_leave_one_at_a_time(kind: Kind) {
    let app = TestApp::with(kind, &[("ATTEMPT_TIMEOUT", "20s")]).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer(Answer::status(500));
    publish(&app, 16).await;
    app.settle().await;
    assert_eq!(receiver.received().len(), 17);
    receiver.answer(Answer::Hang);
    publish(&app, 20).await;
    receiver.wait_for(18).await;
    app.clock.advance(seconds(13));
    app.channel("c").await;
    assert_eq!(receiver.received().len(), 18, "one alone, whatever is due");
    receiver.answer(Answer::ok());
    receiver.release();
    app.settle().await;
    app.advance(seconds(13)).await;
    assert_eq!(told(&receiver.received()), (1..=37).collect());
    is_through(&app, &receiver).await;
}

async fn a_pause_keeps_everything(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(fails(|number| number % 2 == 0));
    publish(&app, 10).await;
    app.settle().await;
    assert_eq!(app.post("/v1/channels/c/pause", Value::Null).await.status, 200);
    let before = receiver.received().len();
    publish(&app, 5).await;
    app.advance(seconds(60)).await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), before, "nothing leaves a paused channel");
    receiver.answer(Answer::ok());
    assert_eq!(app.post("/v1/channels/c/resume", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!(told(&receiver.received()), (1..=16).collect());
    assert_eq!(receiver.received().len(), 11 + 5 + 5, "at once, and each once");
    is_through(&app, &receiver).await;
}

async fn an_acknowledgement_settles_what_waits(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = claim_path(&opened(&app, &receiver, json!({})).await);
    receiver.answer_with(fails(|number| [3, 5, 8].contains(&number)));
    publish(&app, 9).await;
    app.settle().await;
    let page = app.call("GET", &claim, "", None).await.json();
    let items: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["number"].as_i64(), it["parked"].as_bool()))
        .collect();
    assert_eq!(items, [3, 5, 8].map(|number| (Some(number), Some(false))), "{page}");
    assert_eq!(page["earliestNumber"], 3);
    let ack = app.call("POST", &format!("{claim}/ack"), "", Some(json!({ "through": 5 }))).await;
    assert_eq!(ack.status, 200, "{ack:?}");
    app.advance(seconds(13)).await;
    assert_eq!(times(&receiver.received(), 3) + times(&receiver.received(), 5), 2, "not sent any more");
    assert_eq!(times(&receiver.received(), 8), 2);
    assert_eq!(fate(&app, 3).await, "delivered");
    receiver.answer(Answer::ok());
    app.advance(seconds(13)).await;
    is_through(&app, &receiver).await;
    assert_eq!(app.call("GET", &claim, "", None).await.json()["items"], json!([]));
}

async fn a_skip_cancels_what_was_not_had(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(|request| match request.message_number() {
        Some(3) => Answer::status(503),
        Some(5) => Answer::Hang,
        _ => Answer::ok(),
    });
    publish(&app, 8).await;
    receiver.wait_for(9).await;
    // Everything but the one that hangs becomes durable.
    in_time("the others to be durable", async {
        while fate(&app, 9).await != "delivered" || fate(&app, 6).await != "delivered" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let skipped = app.post("/v1/channels/c/skip", json!({ "throughNumber": 6 })).await;
    assert_eq!(skipped.status, 200, "{skipped:?}");
    receiver.release();
    app.settle().await;
    for (number, expected) in
        [(2, "delivered"), (3, "cancelled"), (5, "cancelled"), (6, "delivered"), (9, "delivered")]
    {
        assert_eq!(fate(&app, number).await, expected, "{number}");
    }
    app.advance(seconds(30)).await;
    assert_eq!(receiver.received().len(), 9);
    is_through(&app, &receiver).await;
}

async fn a_replay_sends_everything_again(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(fails(|number| [3, 8].contains(&number)));
    publish(&app, 9).await;
    app.settle().await;
    let replayed = app.post("/v1/channels/c/replay", json!({ "fromNumber": 5 })).await;
    assert_eq!(replayed.status, 200, "{replayed:?}");
    app.settle().await;
    for number in 5..=10 {
        assert_eq!(times(&receiver.received(), number), 2, "{number}");
    }
    receiver.answer(Answer::ok());
    app.advance(seconds(13)).await;
    assert_eq!((times(&receiver.received(), 3), times(&receiver.received(), 8)), (2, 3));
    is_through(&app, &receiver).await;
}

async fn after_its_window_it_is_suspended_and_goes_on_when_resumed(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({ "retry": { "schedule": ["0s", "10s"], "window": "1m" } })).await;
    receiver.answer(Answer::status(500));
    publish(&app, 4).await;
    app.settle().await;
    while app.channel("c").await["state"] == "active" {
        app.advance(seconds(13)).await;
    }
    assert_eq!(app.channel("c").await["state"], "suspended");
    let before = receiver.received().len();
    app.advance(seconds(120)).await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), before, "only probed from now on");
    app.advance(seconds(3_600)).await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), before + 1, "by one");
    assert_eq!(app.get("/v1/channels/c/parked").await.json()["items"], json!([]), "nothing is parked singly");
    receiver.answer(Answer::ok());
    assert_eq!(app.post("/v1/channels/c/resume", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!(receiver.received().len(), before + 1 + 4);
    assert_eq!(told(&receiver.received()), (1..=5).collect());
    is_through(&app, &receiver).await;
}

async fn what_is_parked_ahead_of_others_is_told_as_parked(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let retry = json!({ "schedule": ["0s", "10s"], "maxAttempts": 1, "onExhausted": "continue" });
    let channel = opened(&app, &receiver, json!({ "retry": retry })).await;
    receiver.answer_with(|request| match request.message_number() {
        Some(2) => Answer::Hang,
        Some(3) => Answer::status(503),
        _ => Answer::ok(),
    });
    publish(&app, 3).await;
    receiver.wait_until("all of them", |received| told(received).len() == 4).await;
    let claim = claim_path(&channel);
    let left = async || -> Vec<_> {
        let page = app.call("GET", &claim, "", None).await.json();
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["number"].as_i64(), it["parked"].as_bool()))
            .collect()
    };
    let durable = async { while left().await != [(Some(2), Some(false)), (Some(3), Some(true))] {} };
    in_time("the claim to tell what is durable", durable).await;
    receiver.release();
}

async fn one_that_goes_on_parks_what_exhausts_it(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let retry = json!({ "schedule": ["0s", "10s"], "maxAttempts": 3, "onExhausted": "continue" });
    opened(&app, &receiver, json!({ "retry": retry })).await;
    receiver.answer_with(fails(|number| number == 2));
    publish(&app, 1).await;
    for _ in 0..3 {
        app.advance(seconds(13)).await;
    }
    assert_eq!(times(&receiver.received(), 2), 3);
    assert_eq!(fate(&app, 2).await, "parked");
    receiver.answer(Answer::ok());
    let redriven = app.post("/v1/channels/c/parked/redrive", Value::Null).await;
    assert_eq!((redriven.status, redriven.json()["redriven"].as_i64()), (202, Some(1)));
    app.settle().await;
    assert_eq!(times(&receiver.received(), 2), 4);
    assert_eq!(fate(&app, 2).await, "delivered");
    is_through(&app, &receiver).await;
}

async fn a_filter_passes_what_is_not_wanted(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({ "events": ["order.changed"] })).await;
    receiver.answer_with(fails(|number| number == 4));
    for _ in 0..10 {
        publish_named(&app, "order.seen", 2).await;
        publish(&app, 1).await;
    }
    app.settle().await;
    let wanted: BTreeSet<u64> = (1..=10).map(|at| 3 * at + 1).chain([1]).collect();
    assert_eq!(told(&receiver.received()), wanted);
    assert_eq!((fate(&app, 5).await.as_str(), fate(&app, 7).await.as_str()), ("filtered", "delivered"));
    app.crash().await;
    receiver.answer(Answer::ok());
    app.sweep().await;
    app.advance(seconds(13)).await;
    assert_eq!(receiver.received().len(), 12);
    is_through(&app, &receiver).await;
}

async fn a_new_filter_cancels_what_waits_and_is_not_wanted(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, json!({})).await;
    receiver.answer_with(fails(|number| number > 1));
    publish_named(&app, "order.seen", 1).await;
    publish(&app, 1).await;
    app.settle().await;
    assert_eq!(app.patch("c", json!({ "events": ["order.changed"] })).await.status, 200);
    receiver.answer(Answer::ok());
    app.advance(seconds(13)).await;
    assert_eq!((times(&receiver.received(), 2), times(&receiver.received(), 3)), (1, 2));
    assert_eq!((fate(&app, 2).await.as_str(), fate(&app, 3).await.as_str()), ("cancelled", "delivered"));
    is_through(&app, &receiver).await;
}

async fn both_faces_open_one(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let body = json!({ "id": "g", "type": "web_hook", "address": receiver.url("/g"), "params": { "ordering": "none" } });
    app.watch("calendar/v3/calendars/primary/events", body).await;
    assert_eq!(app.channel("g").await["ordering"], "none");
    opened(&app, &receiver, json!({})).await;
    let changed = app.patch("c", json!({ "ordering": "fifo" })).await;
    assert_eq!(changed.status, 400, "{changed:?}");
}
