//! A server that stops, in order or not, and comes back.

use std::sync::Arc;

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use watchpost::{
    app::{
        App,
        channels::OpenRequest,
        options::OptionsRequest,
        publish::{Draft, PublishRequest},
    },
    domain::{
        channel::{Face, Format, Ordering},
        expiry::Asked,
    },
    runtime::Tasks,
    store::Store,
    wake::Bells,
};

use crate::{
    app::{PROJECT, SCOPES, SUBJECT, TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver, in_time},
};

on_both!(
    a_backlog_survives,
    a_graceful_stop_under_load_repeats_nothing,
    a_crash_repeats_at_most_five_in_order,
    a_stop_does_not_wait_for_a_receiver_that_hangs,
    a_stop_does_not_wait_for_readers,
    what_no_bell_told_of_is_found,
    channels_that_rested_are_found_again,
);

const RESOURCE: &str = "orders/17";

async fn opened(app: &TestApp, receiver: &Receiver, id: &str) {
    let opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url(&format!("/{id}")) });
    app.open(opening).await;
}

fn of(receiver: &Receiver, id: &str) -> Vec<Received> {
    let mut received = receiver.received();
    received.retain(|request| request.path == format!("/{id}"));
    received
}

async fn a_backlog_survives(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    app.settle().await;
    receiver.stop().await;
    app.publish_many(RESOURCE, "order.changed", 30).await;
    app.settle().await;
    app.restart().await;
    app.publish_many(RESOURCE, "order.changed", 30).await;
    app.settle().await;
    app.crash().await;
    receiver.restart();
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(numbers(&receiver.received()), (1..=61).collect::<Vec<_>>());
    let ledger = app.attempts("c").await;
    assert_eq!(ledger.iter().filter(|attempt| attempt["error"] == "connect_failed").count(), 1);
    assert_eq!(ledger.len(), 62, "refused connections are attempts too");
}

async fn a_graceful_stop_under_load_repeats_nothing(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    for at in 0..8 {
        opened(&app, &receiver, &format!("c{at}")).await;
    }
    app.settle().await;
    for round in 1..=3_usize {
        app.publish_many(RESOURCE, "order.changed", 40).await;
        receiver.wait_for(8 + (round - 1) * 320 + 60).await;
        app.restart().await;
        app.settle().await;
        app.until(&receiver, "the rest", |received| received.len() >= 8 + round * 320).await;
        app.settle().await;
    }
    for at in 0..8 {
        let received = of(&receiver, &format!("c{at}"));
        assert_eq!(numbers(&received), (1..=121).collect::<Vec<_>>(), "c{at}");
        assert!(received.iter().all(|request| request.attempt() == Some(1)));
        assert_eq!(app.attempts(&format!("c{at}")).await.len(), 121);
    }
    assert_eq!(receiver.max_in_flight_of_any_channel(), 1);
}

async fn a_crash_repeats_at_most_five_in_order(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    for at in 0..4 {
        opened(&app, &receiver, &format!("c{at}")).await;
    }
    app.settle().await;
    app.publish_many(RESOURCE, "order.changed", 60).await;
    receiver.wait_for(4 + 70).await;
    app.crash().await;
    app.until(&receiver, "everything", |received| {
        (0..4).all(|at| {
            let path = format!("/c{at}");
            received.iter().any(|request| request.path == path && request.message_number() == Some(61))
        })
    })
    .await;
    app.settle().await;
    for at in 0..4 {
        let told = numbers(&of(&receiver, &format!("c{at}")));
        let mut without_repeats = told.clone();
        without_repeats.sort_unstable();
        without_repeats.dedup();
        assert_eq!(without_repeats, (1..=61).collect::<Vec<_>>(), "nothing is lost: {told:?}");
        assert!(told.len() <= 61 + 5, "c{at} repeats too much: {told:?}");
        let falls = told.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        assert!(falls <= 1, "one crash, one step back: {told:?}");
    }
}

async fn a_stop_does_not_wait_for_a_receiver_that_hangs(kind: Kind) {
    let mut app = TestApp::with(kind, &[("ATTEMPT_TIMEOUT", "1s")]).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    app.settle().await;
    receiver.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 2).await;
    receiver.wait_for(2).await;
    app.restart().await;
    let ledger = app.attempts("c").await;
    assert_eq!(ledger[1]["error"], "answer_timeout", "the outcome was waited for and kept");
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 2, 3]);
    assert_eq!(receiver.received()[2].attempt(), Some(2));
}

async fn a_stop_does_not_wait_for_readers(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let before = app.clock.sleepers();
    let mut reader = TcpStream::connect(app.server().address).await.unwrap();
    let token = app.token(PROJECT, SUBJECT, SCOPES);
    let request = format!(
        "GET /v1/events?resource={RESOURCE}&wait=25s HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    reader.write_all(request.as_bytes()).await.unwrap();
    in_time("the reader to wait", async {
        while app.clock.sleepers() <= before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    app.restart().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
}

/// An app over the same database whose bells nobody hears.
async fn mute(app: &TestApp) -> App {
    let silent = Box::new(|_resource, _head| {});
    let store = Store::open(&app.base.location(), Tasks::current(), silent).await.unwrap();
    App { store, bells: Bells::default(), ..app.server().app.clone() }
}

fn opening(id: &str, address: String) -> OpenRequest {
    OpenRequest {
        face: Face::Native,
        id: Some(id.to_owned()),
        resource: RESOURCE.to_owned(),
        query: None,
        address,
        token: None,
        expiry: Asked::default(),
        format: Format::Standard,
        payload: None,
        catch_up: None,
        signatures: None,
        secret: None,
        ordering: Ordering::default(),
        options: OptionsRequest::default(),
    }
}

async fn what_no_bell_told_of_is_found(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "level").await;
    app.settle().await;
    let mute = Arc::new(mute(&app).await);
    let principal = mute.authenticate(|| Ok(Some(app.token(PROJECT, SUBJECT, SCOPES)))).await.unwrap();
    let event = || Draft {
        resources: vec![RESOURCE.to_owned()],
        name: "order.changed".to_owned(),
        ..Draft::default()
    };
    let request = PublishRequest { events: vec![event()], ..PublishRequest::default() };
    mute.publish(&principal, request.clone()).await.unwrap();
    mute.open_channel(&principal, opening("late", receiver.url("/late"))).await.unwrap();
    mute.publish(&principal, request).await.unwrap();
    app.settle().await;
    assert_eq!(receiver.received().len(), 1, "nobody rang");
    let report = app.sweep().await;
    assert!(report["due"] >= 1 && report["busy"] >= 1, "{report:?}");
    assert_eq!(numbers(&of(&receiver, "level")), [1, 2, 3]);
    assert_eq!(numbers(&of(&receiver, "late")), [1, 2]);
    app.settle().await;
    let report = app.sweep().await;
    assert_eq!((report["due"], report["busy"]), (0, 0), "and nothing is left to be found");
}

/// What has been at rest for a minute leaves memory, and comes back with the next event.
async fn channels_that_rested_are_found_again(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "level").await;
    opened(&app, &receiver, "fails").await;
    app.settle().await;
    receiver.answer_with(|request| Answer::status(if request.path == "/fails" { 503 } else { 200 }));
    for round in 2..=4_usize {
        app.publish_many(RESOURCE, "order.changed", 1).await;
        app.settle().await;
        for _ in 0..2 {
            app.advance(seconds(90)).await;
            app.sweep().await;
        }
        assert_eq!(of(&receiver, "level").len(), round, "{}", receiver.transcript());
    }
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("fails").await).await;
    app.sweep().await;
    let told = numbers(&of(&receiver, "fails"));
    assert!(told.is_sorted() && told.ends_with(&[2, 3, 4]), "{told:?}");
    assert_eq!(numbers(&of(&receiver, "level")), [1, 2, 3, 4]);
}

/// More channels of one resource than the engine reads at a time.
#[tokio::test(flavor = "multi_thread")]
async fn more_channels_than_a_page() {
    const CHANNELS: usize = 1_050;
    let mut app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    let mute = mute(&app).await;
    let principal = mute.authenticate(|| Ok(Some(app.token(PROJECT, SUBJECT, SCOPES)))).await.unwrap();
    for at in 0..CHANNELS {
        mute.open_channel(&principal, opening(&format!("c{at}"), receiver.url("/"))).await.unwrap();
    }
    app.sweep().await;
    assert_eq!(receiver.received().len(), CHANNELS, "every sync");
    mute.store.close().await;
    app.restart().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    let received = receiver.received().split_off(CHANNELS);
    let told: std::collections::BTreeSet<_> = received.iter().map(|request| request.webhook_id()).collect();
    assert_eq!((received.len(), told.len()), (CHANNELS, CHANNELS), "every channel, once");
    assert_eq!(app.sweep().await["busy"], 0);
}
