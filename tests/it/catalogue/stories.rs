//! Receivers that fail for hours, now and then, or for ever: when each is asked again, and that order and the ledger
//! hold. On both databases where the database has a part in it.

use serde_json::{Value, json};
use watchpost::domain::time::Timestamp;

use super::{OK, SMALL, ledger, open, polite};
use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::{
        misbehaving::{Misbehaving, script::on_request},
        receiver::{Answer, Receiver},
    },
};

on_both!(
    b01_a_closed_port_that_opens_again,
    b24_who_refuses_for_an_hour_loses_nothing,
    b25_gone_is_one_channels_affair,
    b28_two_hours_of_503,
    b38_a_connection_that_ends_as_it_is_used_again,
    b46_a_receiver_that_changes_or_stops_its_own_channel,
);

/// A channel on the receiver and one on another, both with their sync.
async fn two_channels(app: &TestApp, receiver: &Receiver) -> Receiver {
    let well = Receiver::start().await;
    open(app, "c", SMALL, &receiver.url("/")).await;
    open(app, "well", SMALL, &well.url("/")).await;
    app.settle().await;
    well
}

async fn publish(app: &TestApp, count: usize) {
    app.publish_many(SMALL, "order.changed", count).await;
    app.settle().await;
}

async fn lag(app: &TestApp) -> Value {
    app.channel("c").await["cursor"]["lag"].clone()
}

/// Moves from one attempt to the next until `until`.
async fn attempts_until(app: &TestApp, until: Timestamp) {
    while let Some(due) = app.channel("c").await["cursor"]["nextAttemptAt"].as_str() {
        let due = Timestamp::parse_rfc3339(due).unwrap();
        if due > until {
            break;
        }
        app.advance_to(due).await;
    }
    app.advance_to(until).await;
}

/// Everything that was seen is in the ledger, once and in the same order.
async fn seen_is_recorded(app: &TestApp, receiver: &Receiver) {
    let received = receiver.received();
    let seen: Vec<_> = received
        .iter()
        .map(|request| (request.message_number().unwrap(), request.attempt().unwrap()))
        .collect();
    let recorded: Vec<_> = ledger(app, "c").await.into_iter().map(|(number, at, _)| (number, at)).collect();
    assert_eq!(recorded, seen, "{}", receiver.transcript());
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

async fn b01_a_closed_port_that_opens_again(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let well = two_channels(&app, &receiver).await;
    receiver.stop().await;
    publish(&app, 3).await;
    app.advance_to(app.next_attempt_at("c").await).await;
    let ledger = ledger(&app, "c").await;
    let refused = "\"failed\" null \"connect_failed\"".to_owned();
    assert_eq!(ledger[1..], [(2, 1, refused.clone()), (2, 2, refused)]);
    assert_eq!(numbers(&well.received()), [1, 2, 3, 4]);
    receiver.restart();
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4], "{}", receiver.transcript());
}

async fn b24_who_refuses_for_an_hour_loses_nothing(kind: Kind) {
    let app = TestApp::start(kind).await;
    let statuses: &[u16] = match kind {
        Kind::Sqlite => &[401, 403, 404, 405],
        // What is different there is not the status.
        Kind::Postgres => &[404],
    };
    for status in statuses.iter().copied() {
        let receiver = Receiver::start().await;
        let id = format!("c{status}");
        open(&app, &id, SMALL, &receiver.url("/")).await;
        app.settle().await;
        receiver.answer(Answer::status(status));
        publish(&app, 3).await;
        let back_at = app.now().plus(seconds(3_600));
        while app.next_attempt_at(&id).await <= back_at {
            app.advance_to(app.next_attempt_at(&id).await).await;
        }
        let refusals = receiver.received().len() - 1;
        assert!((5..=7).contains(&refusals), "on the schedule: {}", receiver.transcript());
        assert_eq!(app.channel(&id).await["state"], "active");
        receiver.answer(Answer::ok());
        app.advance_to(app.next_attempt_at(&id).await).await;
        app.sweep().await;
        assert_eq!(numbers(&receiver.received())[refusals + 1..], [2, 3, 4], "{}", receiver.transcript());
        app.stop_channel(&id).await;
    }
}

async fn b25_gone_is_one_channels_affair(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let well = two_channels(&app, &receiver).await;
    let neighbour = receiver.url("/neighbour");
    open(&app, "neighbour", SMALL, &neighbour).await;
    app.settle().await;
    receiver.answer_with(|request| Answer::status(if request.path == "/" { 410 } else { 200 }));
    publish(&app, 3).await;
    receiver.answer(Answer::ok());
    app.advance(seconds(3_600)).await;
    app.sweep().await;
    publish(&app, 1).await;
    let channel = app.channel("c").await;
    assert_eq!((&channel["state"], &channel["cursor"]["lag"]), (&json!("gone"), &json!(3)), "{channel}");
    assert_eq!(ledger(&app, "c").await[1..], [(2, 1, "\"gone\" 410 null".to_owned())]);
    assert_eq!(receiver.received().iter().filter(|request| request.path == "/").count(), 2);
    assert_eq!(app.channel("neighbour").await["cursor"]["number"], 5, "on the same host");
    assert_eq!(numbers(&well.received()), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b26_an_hour_asked_for_is_an_hour() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    let well = two_channels(&app, &receiver).await;
    receiver.answer(Answer::status(429).with_header("Retry-After", "3600"));
    publish(&app, 2).await;
    let wait = app.next_attempt_at("c").await.since(app.now());
    assert!(wait >= seconds(3_600) && wait <= seconds(4_500), "{wait:?}");
    assert_eq!(ledger(&app, "c").await[1..], [(2, 1, "\"overloaded\" 429 null".to_owned())]);
    receiver.answer(Answer::ok());
    app.advance(seconds(3_599)).await;
    app.sweep().await;
    publish(&app, 1).await;
    assert_eq!(receiver.received().len(), 2, "left alone: {}", receiver.transcript());
    assert_eq!(numbers(&well.received()), [1, 2, 3, 4], "nobody else is");
    app.advance_to(app.next_attempt_at("c").await).await;
    app.sweep().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 2, 3, 4]);
}

async fn b28_two_hours_of_503(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let well = two_channels(&app, &receiver).await;
    receiver.answer(Answer::status(503));
    publish(&app, 20).await;
    attempts_until(&app, app.now().plus(seconds(7_200))).await;
    let refusals = receiver.received().len() - 1;
    // At once, then after 5 s, 30 s, 2 min, 10 min, 30 min, 1 h: each stretched by up to a quarter.
    assert!((6..=7).contains(&refusals), "{}", receiver.transcript());
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    app.sweep().await;
    let expected: Vec<u64> = (2..=21).collect();
    assert_eq!(numbers(&receiver.received())[refusals + 1..], expected, "{}", receiver.transcript());
    assert_eq!(well.received().len(), 21);
    seen_is_recorded(&app, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b29_one_in_two_fails() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    let well = two_channels(&app, &receiver).await;
    let mut times = 0;
    receiver.answer_with(move |_| {
        times += 1;
        Answer::status(if times % 2 == 1 { 200 } else { 500 })
    });
    publish(&app, 10).await;
    assert_eq!(well.received().len(), 11);
    while lag(&app).await != 0 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    // 2, then each of the others twice.
    let expected: Vec<u64> = [1, 2].into_iter().chain((3..=11).flat_map(|number| [number; 2])).collect();
    assert_eq!(numbers(&receiver.received()), expected, "{}", receiver.transcript());
    assert!(app.channel("c").await["cursor"]["failingSince"].is_null());
    seen_is_recorded(&app, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b30_every_event_needs_five_tries() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    let well = two_channels(&app, &receiver).await;
    receiver.answer_with(|request| Answer::status(if request.attempt() == Some(5) { 200 } else { 500 }));
    publish(&app, 4).await;
    assert_eq!(well.received().len(), 5);
    while lag(&app).await != 0 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    let places: Vec<_> = ledger(&app, "c").await.into_iter().map(|(number, at, _)| (number, at)).collect();
    let five = (2..=5).flat_map(|number| (1..=5).map(move |attempt| (number, attempt)));
    assert_eq!(places[1..], five.collect::<Vec<_>>());
    seen_is_recorded(&app, &receiver).await;
}

async fn b38_a_connection_that_ends_as_it_is_used_again(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Misbehaving::start(polite());
    open(&app, "c", SMALL, &receiver.url("/")).await;
    app.settle().await;
    // Reads the second request of a connection, and is gone.
    let gone = on_request().says(OK).reads_another().closes();
    // Is gone without having said that it would be, perhaps before the next request and perhaps not.
    let goes = on_request().says(OK).closes();
    for script in [gone, goes] {
        receiver.plays(&script);
        let before = receiver.requests().len();
        publish(&app, 10).await;
        while lag(&app).await != 0 {
            app.advance_to(app.next_attempt_at("c").await).await;
        }
        assert!(receiver.requests().len() >= before + 10);
    }
    let places = receiver.places();
    assert!(places.is_sorted_by(|a, b| a < b), "no request came twice: {places:?}");
    let ledger = ledger(&app, "c").await;
    let recorded: Vec<_> = ledger.iter().map(|(number, at, _)| (*number, *at)).collect();
    assert!(places.iter().all(|place| recorded.contains(place)), "{places:?} {recorded:?}");
    let lost = ledger.iter().filter(|(_, _, outcome)| outcome == "\"failed\" null \"reset\"").count();
    assert_eq!(ledger.len(), 21 + lost, "{ledger:?}");
    assert!(lost > 0, "the first of the two loses requests");
}

async fn b46_a_receiver_that_changes_or_stops_its_own_channel(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let well = two_channels(&app, &old).await;
    old.answer(Answer::Hang);
    app.publish_many(SMALL, "order.changed", 3).await;
    old.wait_for(2).await;
    assert_eq!(app.patch("c", json!({ "address": new.url("/") })).await.status, 200);
    old.release_with(&Answer::status(500));
    app.settle().await;
    assert_eq!(old.received().len(), 2, "no send to the old address begins after the answer");
    assert_eq!(numbers(&new.received()), [2, 3, 4], "{}", new.transcript());
    new.answer(Answer::Hang);
    app.publish_many(SMALL, "order.changed", 3).await;
    new.wait_for(4).await;
    app.stop_channel("c").await;
    new.release_with(&Answer::status(500));
    app.advance(seconds(3_600)).await;
    app.sweep().await;
    publish(&app, 1).await;
    assert_eq!(app.channel("c").await["state"], "stopped", "no answer brings it back");
    assert_eq!((old.received().len(), new.received().len()), (2, 4));
    assert_eq!(ledger(&app, "c").await.len(), 6);
    assert_eq!(numbers(&well.received()), (1..=8).collect::<Vec<_>>());
}
