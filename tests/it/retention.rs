//! What a receiver, a reader and an owner see of retention: the channel goes on after the hole, the feed says where the
//! log begins, and a dry run says what a real one does.

use serde_json::{Value, json};
use watchpost::jobs::{JobName, Report, Run};

use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(
    a_channel_goes_on_after_the_hole,
    a_sync_that_was_pending_comes_first,
    a_hole_is_no_sign_of_life,
    a_reader_learns_where_the_log_begins,
    a_claim_begins_after_the_hole,
    a_dry_run_tells_what_a_real_one_does,
    the_server_runs_it_dry_for_the_command_line,
    a_late_run_catches_up,
);

const RESOURCE: &str = "orders/17";
const HOUR: u64 = 3_600;

async fn start(kind: Kind) -> TestApp {
    TestApp::with(
        kind,
        &[
            ("RETENTION_EVENTS", "10h"),
            ("RETENTION_ATTEMPTS", "5h"),
            ("RETRY_SCHEDULE", "0s,1h"),
            ("RETRY_WINDOW", "72h"),
        ],
    )
    .await
}

async fn run(app: &TestApp, run: Run) -> Report {
    let report = app.server().jobs.run(JobName::Retention, run).await.unwrap();
    app.settle().await;
    report
}

async fn retire(app: &TestApp) -> Report {
    run(app, Run::Real).await
}

async fn opened(app: &TestApp, receiver: &Receiver) -> Value {
    let address = receiver.url("/c");
    app.open(json!({ "id": "c", "resource": RESOURCE, "address": address, "catchUp": "all" })).await
}

async fn a_channel_goes_on_after_the_hole(kind: Kind) {
    let app = start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.settle().await;
    receiver.answer(Answer::status(503));
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.settle().await;
    app.advance(seconds(9 * HOUR)).await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    assert_eq!(retire(&app).await["events"], 0);
    app.advance(seconds(2 * HOUR)).await;
    assert!(retire(&app).await["events"] >= 3);
    let cursor = &app.channel("c").await["cursor"];
    assert_eq!((&cursor["number"], &cursor["lag"]), (&json!(4), &json!(2)));
    receiver.answer(Answer::ok());
    let before = receiver.received().len();
    app.advance(seconds(2 * HOUR)).await;
    app.sweep().await;
    assert_eq!(numbers(&receiver.received()[before..]), [5, 6]);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()[before..]), [5, 6, 7]);
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
}

async fn a_sync_that_was_pending_comes_first(kind: Kind) {
    let app = start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    app.publish_many(RESOURCE, "order.changed", 1).await;
    opened(&app, &receiver).await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    app.advance(seconds(9 * HOUR)).await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.advance(seconds(2 * HOUR)).await;
    retire(&app).await;
    assert_eq!(app.channel("c").await["cursor"]["number"], 0, "its sync is still to come");
    receiver.answer(Answer::ok());
    let before = receiver.received().len();
    app.advance(seconds(2 * HOUR)).await;
    app.sweep().await;
    assert_eq!(numbers(&receiver.received()[before..]), [1, 4], "the sync, then what is left");
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()[before..]), [1, 4, 5]);
}

async fn a_hole_is_no_sign_of_life(kind: Kind) {
    let app = start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.settle().await;
    receiver.answer(Answer::status(503));
    // It fails for longer than its window although every one of its events expires on the way.
    for _ in 0..20 {
        app.publish_many(RESOURCE, "order.changed", 1).await;
        app.settle().await;
        app.advance(seconds(4 * HOUR)).await;
        retire(&app).await;
        app.sweep().await;
    }
    assert_eq!(app.channel("c").await["state"], "suspended");
}

async fn a_reader_learns_where_the_log_begins(kind: Kind) {
    let app = start(kind).await;
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.advance(seconds(9 * HOUR)).await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    let feed = async |after: i64| app.get(&format!("/v1/events?resource={RESOURCE}&after={after}")).await;
    assert_eq!(feed(0).await.json()["items"].as_array().unwrap().len(), 4);
    app.advance(seconds(2 * HOUR)).await;
    retire(&app).await;
    let hole = feed(0).await;
    assert_eq!(
        (hole.status, &hole.json()["code"], &hole.json()["earliestSeq"]),
        (410, &json!("feedHole"), &json!(4))
    );
    assert_eq!(feed(3).await.json()["items"][0]["seq"], 4);
    app.advance(seconds(10 * HOUR)).await;
    retire(&app).await;
    let hole = feed(3).await;
    assert_eq!((hole.status, &hole.json()["earliestSeq"]), (410, &json!(5)), "the whole log is gone");
    let end = feed(4).await;
    assert_eq!((end.status, &end.json()["items"], &end.json()["hasMore"]), (200, &json!([]), &json!(false)));
    app.publish_many(RESOURCE, "order.changed", 1).await;
    assert_eq!(feed(4).await.json()["items"][0]["seq"], 5);
}

async fn a_claim_begins_after_the_hole(kind: Kind) {
    let app = start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    let channel = opened(&app, &receiver).await;
    let claim = url::Url::parse(channel["claimUrl"].as_str().unwrap()).unwrap().path().to_owned();
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.advance(seconds(9 * HOUR)).await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    let pull = async |query: &str| app.call("GET", &format!("{claim}{query}"), "", None).await.json();
    let page = pull("?limit=1").await;
    assert_eq!((&page["items"][0]["number"], &page["earliestNumber"]), (&json!(2), &json!(2)));
    let next = page["nextPageToken"].as_str().unwrap();
    app.advance(seconds(2 * HOUR)).await;
    retire(&app).await;
    for query in ["?limit=1".to_owned(), format!("?limit=1&pageToken={next}")] {
        let page = pull(&query).await;
        assert_eq!((&page["items"][0]["number"], &page["earliestNumber"]), (&json!(5), &json!(5)), "{query}");
    }
    app.advance(seconds(10 * HOUR)).await;
    retire(&app).await;
    assert_eq!(pull("").await, json!({ "items": [], "earliestNumber": 7 }));
}

async fn a_dry_run_tells_what_a_real_one_does(kind: Kind) {
    let app = start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    app.settle().await;
    let event = json!({ "id": "e1", "resource": RESOURCE, "name": "order.changed", "data": 1 });
    app.publish(event).await;
    app.publish_many(RESOURCE, "order.changed", 20).await;
    app.settle().await;
    app.advance(seconds(30 * HOUR)).await;
    let dry = run(&app, Run::Dry).await;
    assert!(dry["events"] >= 21 && dry["attempts"] >= 22 && dry["firstAnswers"] == 1, "{dry:?}");
    assert_eq!(run(&app, Run::Dry).await, dry, "it deletes nothing");
    assert_eq!(retire(&app).await, dry);
    let again = retire(&app).await;
    assert!(again.values().all(|count| *count == 0), "{again:?}");
    assert_eq!(app.attempts("c").await, [] as [Value; 0]);
}

async fn a_late_run_catches_up(kind: Kind) {
    let app = start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver).await;
    for _ in 0..3 {
        app.publish_many(RESOURCE, "order.changed", 700).await;
    }
    app.publish_many("orders/18", "order.changed", 10).await;
    receiver.answer(Answer::status(503));
    app.settle().await;
    app.advance(seconds(200 * HOUR)).await;
    assert!(retire(&app).await["events"] >= 2_110);
    let hole = app.get(&format!("/v1/events?resource={RESOURCE}&after=0")).await;
    assert_eq!((hole.status, &hole.json()["earliestSeq"]), (410, &json!(2_101)));
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
}

async fn the_server_runs_it_dry_for_the_command_line(kind: Kind) {
    let app = start(kind).await;
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.advance(seconds(11 * HOUR)).await;
    let now = app.server().app.now();
    let scopes = std::collections::BTreeSet::from(["operator".to_owned()]);
    let minute = std::time::Duration::from_mins(1);
    let operator =
        app.server().app.keys.operator.mint("watchpost", "operator", &scopes, &[], minute, now).unwrap();
    let run = async |query: &str| app.call("POST", &format!("/v1/jobs/{query}"), &operator, None).await;
    let dry = run("retention?dryRun=true").await;
    assert_eq!(dry.status, 200, "{dry:?}");
    assert!(dry.json()["report"]["events"].as_u64().unwrap() >= 3);
    for wrong in ["retention?dryRun=yes", "expiry?dryRun=true"] {
        let answer = run(wrong).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("dryRun")), "{wrong}");
    }
    assert_eq!(run("retention").await.json(), dry.json(), "nothing had gone");
    assert_eq!(run("retention?dryRun=true").await.json()["report"]["events"], 0);
}
