//! More than one server on one database: on PostgreSQL one delivers and the others stand by; an embedded store
//! has one server.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use watchpost::clock::Clock as _;

use crate::{
    app::{TestApp, numbers, seconds},
    base::{Base, Kind},
    secrets::accepts,
    support::receiver::{Answer, Received, Receiver, in_time},
};

const RESOURCE: &str = "orders/17";
/// How often a delivering node looks for what others did.
const POLL: Duration = Duration::from_millis(500);
/// How often a node that stands by asks for the lease.
const TRY: Duration = Duration::from_secs(2);

/// A node that delivers and one that stands by, told apart by their user agents.
async fn nodes() -> (TestApp, TestApp) {
    let first = TestApp::with(Kind::Postgres, &[("USER_AGENT", "first")]).await;
    let second = TestApp::on(Arc::clone(&first.base), &[("USER_AGENT", "second")]).await;
    stands_by(&second).await;
    (first, second)
}

/// Waits until a node does nothing but wait for its next look at the lease: one sleeper, and the same for as long as
/// the database takes to answer a number of questions, so that its own question is answered as well.
async fn stands_by(node: &TestApp) {
    in_time("the node to stand by", async {
        let mut alone = 0;
        while alone < 20 {
            node.get("/v1/channels/none").await;
            alone = if node.clock.sleepers() == 1 { alone + 1 } else { 0 };
        }
    })
    .await;
}

/// Waits until a delivering node waits for its next renewal and its next poll.
async fn delivers(node: &TestApp) {
    in_time("the node to wait for its clock", async {
        while node.clock.sleepers() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn by(received: &[Received], node: &str) -> Vec<u64> {
    let sent: Vec<Received> =
        received.iter().filter(|request| request.header("user-agent") == Some(node)).cloned().collect();
    numbers(&sent)
}

/// Lets the delivering node's poll happen, and waits for what follows.
async fn poll(delivering: &TestApp) {
    delivering.settle().await;
    delivering.clock.advance(POLL);
    // The poll runs in the background; a sweep that comes with it is the same look, and can be waited for.
    delivering.sweep().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_takes_requests_and_the_first_delivers() {
    let (first, second) = nodes().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    second.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    poll(&first).await;
    assert_eq!(numbers(&receiver.received()), [1], "a watch on the second");

    second.publish_many(RESOURCE, "order.changed", 3).await;
    poll(&first).await;
    first.publish_many(RESOURCE, "order.changed", 1).await;
    first.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4, 5], "publishes on either");

    receiver.answer(Answer::status(500));
    first.publish_many(RESOURCE, "order.changed", 2).await;
    first.settle().await;
    assert_eq!(second.patch("c", json!({ "address": other.url("/") })).await.status, 200);
    poll(&first).await;
    assert_eq!(numbers(&other.received()), [6, 7], "a new address from the second");
    assert_eq!(receiver.received().len(), 6);

    other.answer(Answer::status(500));
    first.publish_many(RESOURCE, "order.changed", 2).await;
    first.settle().await;
    second.stop_channel("c").await;
    poll(&first).await;
    first.advance(seconds(3_600)).await;
    assert_eq!(other.received().len(), 3, "a stop on the second");
    assert_eq!(second.channel("c").await["state"], "stopped");
    let all: Vec<Received> = receiver.received().into_iter().chain(other.received()).collect();
    assert_eq!(by(&all, "second"), Vec::<u64>::new(), "who stands by sends nothing");
    assert_eq!(second.attempts("c").await.len(), 9);
}

/// The poll alone, without a sweep by hand.
#[tokio::test(flavor = "multi_thread")]
async fn the_poll_finds_it_by_itself() {
    let (first, second) = nodes().await;
    let receiver = Receiver::start().await;
    second.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    delivers(&first).await;
    first.clock.advance(POLL);
    receiver.wait_for(1).await;
    first.settle().await;
    second.publish_many(RESOURCE, "order.changed", 2).await;
    delivers(&first).await;
    first.clock.advance(POLL);
    assert_eq!(numbers(&receiver.wait_for(3).await), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_on_one_node_hears_of_a_publish_on_another() {
    let (first, second) = nodes().await;
    let path = format!("/v1/events?resource={RESOURCE}&wait=25s");
    let publishing = async {
        // The reader waits as well as the node.
        while second.clock.sleepers() < 2 {
            tokio::task::yield_now().await;
        }
        first.publish_many(RESOURCE, "order.changed", 1).await;
        second.clock.advance(seconds(1));
    };
    let (page, ()) = Box::pin(async { tokio::join!(second.get(&path), publishing) }).await;
    assert_eq!(page.json()["items"][0]["seq"], 1, "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_hands_over_at_once() {
    let (mut first, second) = nodes().await;
    let receiver = Receiver::start().await;
    first.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    first.settle().await;
    first.publish_many(RESOURCE, "order.changed", 40).await;
    receiver.wait_for(10).await;
    first.stop().await;
    let sent_by_first = by(&receiver.received(), "first").len() as u64;
    second.publish_many(RESOURCE, "order.changed", 5).await;
    second.clock.advance(TRY);
    let received = receiver.wait_until("the rest", |received| received.len() >= 46).await;
    second.settle().await;
    assert_eq!(numbers(&received), (1..=46).collect::<Vec<_>>(), "nothing twice, nothing lost");
    assert_eq!(by(&received, "second"), (sent_by_first + 1..=46).collect::<Vec<_>>());
    assert_eq!(second.attempts("c").await.len(), 46);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_lease_sends_nothing() {
    let (first, second) = nodes().await;
    let receiver = Receiver::start().await;
    first.open(json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") })).await;
    first.settle().await;
    // Thirty seconds without a renewal, as the database sees it.
    first.base.run("update lease set until = '-infinity'").await;
    second.clock.advance(TRY);
    second.publish_many(RESOURCE, "order.changed", 1).await;
    receiver.wait_for(2).await;
    second.settle().await;
    // The first one finds out when it renews; what it could send before that, its own clock has to forbid.
    first.clock.advance(seconds(11));
    first.publish_many(RESOURCE, "order.changed", 5).await;
    first.settle().await;
    second.sweep().await;
    first.clock.advance(seconds(60));
    stands_by(&first).await;
    assert_eq!(numbers(&receiver.received()), (1..=7).collect::<Vec<_>>(), "{}", receiver.transcript());
    assert_eq!(by(&receiver.received(), "first"), [1]);
    assert_eq!(by(&receiver.received(), "second"), (2..=7).collect::<Vec<_>>());

    // And back: the first one stands by now.
    second.base.run("update lease set until = '-infinity'").await;
    first.clock.advance(TRY);
    first.publish_many(RESOURCE, "order.changed", 1).await;
    receiver.wait_for(8).await;
    assert_eq!(by(&receiver.received(), "first"), [1, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_has_one_server() {
    let mut app = TestApp::start(Kind::Sqlite).await;
    let refusal = TestApp::refusal_on(&app.base).await;
    let address = app.server().address.to_string();
    assert!(refusal.contains(&address), "{refusal} names {address}");
    app.publish_many(RESOURCE, "order.changed", 1).await;
    let base: Arc<Base> = Arc::clone(&app.base);
    app.stop().await;
    base.is_free().await;
    let next = TestApp::on(base, &[]).await;
    assert_eq!(next.publish(json!({ "resource": RESOURCE, "name": "order.changed" })).await[0]["seq"], 2);
    assert!(next.now() >= app.clock.now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_on_either_node() {
    let (first, second) = nodes().await;
    let receiver = Receiver::start().await;
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/") });
    let old = first.open(opening).await["secret"].as_str().unwrap().to_owned();
    first.settle().await;
    let answer = second.post("/v1/channels/c/secret/rotate", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let new = answer.json()["secret"].as_str().unwrap().to_owned();
    poll(&first).await;
    first.publish_many(RESOURCE, "order.changed", 1).await;
    first.settle().await;
    let last = receiver.received().pop().unwrap();
    assert!(accepts(&old, &last) && accepts(&new, &last), "{last}");
}
