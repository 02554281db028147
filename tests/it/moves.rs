//! Moves from outside – acknowledge, skip, replay, pause, resume – while notifications are on their way: none loses
//! anything, none is undone by what a lane had in its hands. Also where the command goes to a node that does not
//! deliver.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(
    moves_race_with_sends,
    a_replay_while_a_request_is_under_way,
    a_replay_survives_a_crash,
    a_replay_by_time_begins_where_the_time_does,
    what_cannot_be_replayed_is_said,
    what_is_parked_again_after_a_replay_is_redriven_again,
    a_redrive_on_its_way_leaves_a_replay_alone,
);

const RESOURCE: &str = "orders/17";
const ROUNDS: u64 = 40;

async fn opened(app: &TestApp, receiver: &Receiver) -> String {
    let body = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/c"),
                       "retry": { "schedule": ["0s", "1s"] } });
    let channel = app.open(body).await;
    app.settle().await;
    url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned()
}

async fn command(app: &TestApp, verb: &str, body: Value) -> Value {
    let answer = app.post(&format!("/v1/channels/c/{verb}"), body).await;
    assert_eq!(answer.status, 200, "{verb}: {answer:?}");
    answer.json()
}

/// A small generator: the same moves for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Lets moves rain on a channel through `desk` while `delivering` sends, and checks what came of it.
async fn rain(delivering: &TestApp, desk: &TestApp, receiver: &Receiver, claim: &str, seed: u64) {
    let mut dice = Dice(seed);
    // Now and then a failure, so that heads wait as well.
    let mut requests = 0;
    receiver.answer_with(move |_| {
        requests += 1;
        if requests % 7 == 0 { Answer::status(503) } else { Answer::ok() }
    });
    let (mut published, mut replays) = (1_u64, 0);
    for _ in 0..ROUNDS {
        desk.publish_many(RESOURCE, "order.changed", 5).await;
        published += 5;
        let number = 2 + dice.roll(published - 1);
        match dice.roll(5) {
            0 => {
                let body = json!({ "through": number });
                let ack = desk.call("POST", &format!("{claim}/ack"), "", Some(body)).await;
                assert_eq!(ack.status, 200, "{ack:?}");
                assert!(ack.json()["through"].as_u64() >= Some(number), "{ack:?}");
            }
            1 => drop(command(desk, "skip", json!({ "throughNumber": number })).await),
            2 => {
                command(desk, "replay", json!({ "fromNumber": number })).await;
                replays += 1;
            }
            3 => {
                command(desk, "pause", Value::Null).await;
                delivering.sweep().await;
                receiver.wait_until_idle().await;
                let before = receiver.received().len();
                desk.publish_many(RESOURCE, "order.changed", 2).await;
                published += 2;
                delivering.sweep().await;
                assert_eq!(receiver.received().len(), before, "nothing leaves a paused channel");
                command(desk, "resume", Value::Null).await;
            }
            _ => delivering.clock.advance(seconds(1)),
        }
    }
    command(desk, "replay", json!({ "fromNumber": 2 })).await;
    replays += 1;
    let whole: Vec<u64> = (2..=published).collect();
    for _ in 0..1_000 {
        delivering.sweep().await;
        if desk.channel("c").await["cursor"]["lag"] == 0 {
            break;
        }
        delivering.advance(seconds(2)).await;
    }
    let mut delivered = numbers(&receiver.received());
    // A retry repeats a number; what goes down was sent again by a replay.
    delivered.dedup();
    assert!(delivered.ends_with(&whole), "{delivered:?}");
    let descents = delivered.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(descents <= replays, "{descents} descents, {replays} replays: {delivered:?}");
    assert_eq!(receiver.max_in_flight_of_any_channel(), 1);
    let attempts = desk.attempts("c").await;
    assert_eq!(attempts.len(), receiver.received().len(), "the ledger has every request");
}

async fn moves_race_with_sends(kind: Kind) {
    for seed in 1..=3 {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        let claim = opened(&app, &receiver).await;
        rain(&app, &app, &receiver, &claim, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_through_a_node_that_does_not_deliver() {
    let first = TestApp::with(Kind::Postgres, &[]).await;
    let second = TestApp::on(Arc::clone(&first.base), &[]).await;
    let receiver = Receiver::start().await;
    let claim = opened(&second, &receiver).await;
    first.sweep().await;
    rain(&first, &second, &receiver, &claim, 7).await;
}

async fn a_replay_while_a_request_is_under_way(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.publish_many(RESOURCE, "order.changed", 4).await;
    app.settle().await;
    receiver.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 2).await;
    receiver.wait_for(6).await;
    let replayed = command(&app, "replay", json!({ "fromNumber": 3 })).await;
    receiver.answer(Answer::ok());
    receiver.release();
    app.settle().await;
    assert_eq!(
        numbers(&receiver.received()),
        [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7],
        "its outcome does not undo it"
    );
    let marked: Vec<bool> = receiver.received().iter().map(|request| request.replay().is_some()).collect();
    assert_eq!(marked.iter().filter(|marked| **marked).count(), 5, "{marked:?}");
    assert_eq!(receiver.received()[6].replay(), replayed["replayId"].as_str());
    assert_eq!(receiver.received()[2].webhook_id(), receiver.received()[6].webhook_id());
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(receiver.received().last().unwrap().replay(), None, "what is new belongs to no replay");
}

async fn a_replay_survives_a_crash(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.settle().await;
    receiver.answer(Answer::Hang);
    command(&app, "replay", json!({ "fromNumber": 2 })).await;
    receiver.wait_for(7).await;
    receiver.answer(Answer::ok());
    app.crash().await;
    receiver.release();
    app.sweep().await;
    app.settle().await;
    let delivered = numbers(&receiver.received());
    assert!(delivered.ends_with(&[2, 3, 4, 5, 6]), "{delivered:?}");
}

async fn a_replay_by_time_begins_where_the_time_does(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    app.advance(seconds(60)).await;
    let since = app.now().to_rfc3339();
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    command(&app, "replay", json!({ "fromTime": since })).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4, 5, 4, 5]);
}

async fn what_cannot_be_replayed_is_said(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    for (body, field) in [
        (json!({ "fromNumber": 0 }), "fromNumber"),
        (json!({ "fromNumber": 2 }), "fromNumber"),
        (json!({ "fromTime": "yesterday" }), "fromTime"),
        (json!({ "fromTime": "2999-01-01T00:00:00Z" }), "fromTime"),
        (json!({ "fromNumber": 1, "fromTime": "2027-01-01T00:00:00Z" }), "fromTime"),
        (json!({}), "fromNumber"),
        (json!({ "from": 2 }), "fromNumber"),
    ] {
        let answer = app.post("/v1/channels/c/replay", body.clone()).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{body}");
    }
    app.stop_channel("c").await;
    let ended = app.post("/v1/channels/c/replay", json!({ "fromNumber": 1 })).await;
    assert_eq!((ended.status, ended.json()["code"].as_str()), (409, Some("channelEnded")), "{ended:?}");
}

async fn parks_what_is_redirected(app: &TestApp, receiver: &Receiver, ordering: &str) {
    let body = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/c"), "redirects": "fail",
                       "ordering": ordering, "retry": { "schedule": ["0s", "10s"] } });
    app.open(body).await;
    app.settle().await;
    receiver.answer(Answer::status(302));
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
}

async fn redrive(app: &TestApp) -> Value {
    let answer = app.post("/v1/channels/c/parked/redrive", Value::Null).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["redriven"].clone()
}

async fn what_is_parked_again_after_a_replay_is_redriven_again(kind: Kind) {
    for ordering in ["fifo", "none"] {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        parks_what_is_redirected(&app, &receiver, ordering).await;
        receiver.answer(Answer::ok());
        assert_eq!(redrive(&app).await, 1);
        app.settle().await;
        receiver.answer(Answer::status(302));
        command(&app, "replay", json!({ "fromNumber": 2 })).await;
        app.settle().await;
        receiver.answer(Answer::ok());
        assert_eq!(redrive(&app).await, 1);
        app.settle().await;
        assert_eq!(numbers(&receiver.received()), [1, 2, 2, 2, 2], "{ordering}");
        assert_eq!(app.get("/v1/channels/c/parked").await.json()["items"], json!([]));
    }
}

async fn a_redrive_on_its_way_leaves_a_replay_alone(kind: Kind) {
    for end in [200, 500] {
        let app = TestApp::start(kind).await;
        let receiver = Receiver::start().await;
        parks_what_is_redirected(&app, &receiver, "none").await;
        let mut requests = 0;
        receiver.answer_with(move |_| {
            requests += 1;
            if requests == 1 { Answer::Hang } else { Answer::status(503) }
        });
        assert_eq!(redrive(&app).await, 1);
        receiver.wait_for(3).await;
        command(&app, "replay", json!({ "fromNumber": 2 })).await;
        receiver.release_with(&Answer::status(end));
        app.settle().await;
        assert_eq!(app.get("/v1/channels/c/parked").await.json()["items"], json!([]), "it waits by itself");
        receiver.answer(Answer::ok());
        app.advance(seconds(13)).await;
        assert_eq!(numbers(&receiver.received()), [1, 2, 2, 2, 2]);
        assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
        assert_eq!(app.get("/v1/channels/c/parked").await.json()["items"], json!([]));
    }
}
