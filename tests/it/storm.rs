//! Everything at once: receivers that fail now and then, channels that change, a server that restarts. What each
//! channel has received in the end is what the promises say.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::{
    app::{TestApp, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(order_and_the_ledger_hold_in_a_storm);

const RESOURCE: &str = "drive/v3/files/F1";
const CHANNELS: usize = 8;
const ROUNDS: usize = 8;

/// A sequence that looks random and is the same in every run.
struct Dice(AtomicU64);

impl Dice {
    fn throw(&self, sides: u64) -> u64 {
        let step = |state: u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let state = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap();
        (state >> 33) % sides
    }
}

fn is_thin(at: usize) -> bool {
    at.is_multiple_of(2)
}

async fn order_and_the_ledger_hold_in_a_storm(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let (moods, dice) = (Dice(AtomicU64::new(7)), Dice(AtomicU64::new(11)));
    receiver.answer_with(move |request| match moods.throw(20) {
        // A sync that is refused three times would be parked, which is another test's business.
        0..=2 => Answer::status(500),
        3 => Answer::status(429),
        4 if request.message_number() != Some(1) => Answer::status(404),
        5 => Answer::Reset,
        _ => Answer::ok(),
    });
    let mut uids = Vec::new();
    for at in 0..CHANNELS {
        let opening = json!({ "id": format!("c{at}"), "resource": RESOURCE, "address": receiver.url("/0"),
                              "payload": !is_thin(at), "retry": { "schedule": ["0s", "1s"] } });
        uids.push(app.open(opening).await["uid"].as_str().unwrap().to_owned());
    }
    for round in 1..=ROUNDS {
        for _ in 0..3 {
            let name = ["drive.file.updated", "drive.file.moved"][usize::try_from(dice.throw(2)).unwrap()];
            app.publish_many(RESOURCE, name, 5).await;
            let address = receiver.url(&format!("/{round}"));
            let answer = app.patch(&format!("c{}", dice.throw(8)), json!({ "address": address })).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        match round {
            3 | 6 => app.restart().await,
            _ => app.advance(seconds(1)).await,
        }
        app.sweep().await;
    }
    receiver.answer(Answer::ok());
    for _ in 0..3 {
        app.advance(seconds(2)).await;
        app.sweep().await;
    }
    let newest = u64::try_from(ROUNDS * 15).unwrap() + 1;
    for (at, uid) in uids.iter().enumerate() {
        let received = receiver.received_by(uid);
        check_order(&received, newest, is_thin(at));
        let ledger = app.attempts(uid).await;
        let of = |attempt: &Value| (attempt["number"].as_u64(), attempt["attempt"].as_u64());
        let recorded: Vec<_> = ledger.iter().map(of).collect();
        let seen: Vec<_> =
            received.iter().map(|request| (request.message_number(), request.attempt())).collect();
        assert_eq!(recorded, seen, "requests seen = attempts recorded");
        assert_eq!(app.channel(uid).await["cursor"]["lag"], 0);
    }
    assert_eq!(receiver.max_in_flight_of_any_channel(), 1);
}

/// Numbers rise, each is tried until it is through, and only thin channels leave any out.
fn check_order(received: &[Received], newest: u64, thin: bool) {
    let mut attempts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last = 0;
    for request in received {
        let number = request.message_number().unwrap();
        assert!(number >= last, "{number} after {last}");
        let previous = request.previous_message().unwrap_or(0);
        if number > last {
            assert_eq!(previous, last, "{request}");
            assert!(thin || number == last + 1, "{number} after {last}");
            last = number;
        }
        let attempt = attempts.entry(number).or_default();
        *attempt += 1;
        assert_eq!(request.attempt(), Some(*attempt), "{request}");
    }
    assert_eq!(last, newest);
    assert!(attempts.contains_key(&1), "the sync is never left out");
}
