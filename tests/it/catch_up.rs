//! What a receiver that was away gets of what it missed: everything, or the newest of each run.

use serde_json::json;

use crate::{
    app::{TestApp, numbers},
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(
    latest_sends_the_newest_of_each_run,
    a_long_run_is_one_request,
    all_sends_each,
    what_was_attempted_keeps_its_number,
);

const RESOURCE: &str = "drive/v3/files/F1";

async fn opened(app: &TestApp, receiver: &Receiver, catch_up: &str) {
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"), "format": "google",
                          "catchUp": catch_up });
    app.open(opening).await;
    app.settle().await;
}

/// What happened while nobody listened: two of one kind, one of another, three of the first again.
async fn missed(app: &TestApp) {
    let event = |name: &str, state: &str, changed: &[&str]| json!({ "resource": RESOURCE, "name": name, "state": state, "changed": changed });
    let events = json!([
        event("drive.file.updated", "update", &["content"]),
        event("drive.file.updated", "update", &["parents", "content"]),
        event("drive.file.updated", "trash", &[]),
        event("drive.file.updated", "update", &["properties"]),
        event("drive.file.updated", "update", &[]),
        event("drive.file.updated", "update", &["permissions"]),
        event("drive.file.moved", "update", &[]),
    ]);
    app.publish(json!({ "events": events })).await;
}

type Told<'r> = (Option<u64>, Option<u64>, Option<&'r str>, Option<&'r str>);

fn told(request: &Received) -> Told<'_> {
    (request.message_number(), request.previous_message(), request.state(), request.changed())
}

async fn latest_sends_the_newest_of_each_run(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    opened(&app, &receiver, "latest").await;
    missed(&app).await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let received = receiver.received();
    let expected = [
        (Some(1), None, Some("sync"), None),
        (Some(3), Some(1), Some("update"), Some("content,parents")),
        (Some(4), Some(3), Some("trash"), None),
        (Some(7), Some(4), Some("update"), Some("properties,permissions")),
        (Some(8), Some(7), Some("update"), None),
    ];
    assert_eq!(received[1..].iter().map(told).collect::<Vec<_>>(), expected, "{}", receiver.transcript());
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
    // Nothing is left over for later.
    app.sweep().await;
    assert_eq!(receiver.received().len(), received.len());
}

async fn a_long_run_is_one_request(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    opened(&app, &receiver, "latest").await;
    for part in ["content", "parents", "content"] {
        let event = json!({ "resource": RESOURCE, "name": "drive.file.updated", "changed": [part] });
        app.publish(json!({ "events": vec![event; 150] })).await;
    }
    app.publish(json!({ "resource": RESOURCE, "name": "drive.file.moved" })).await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let received = receiver.received();
    assert_eq!(numbers(&received), [1, 1, 451, 452], "{}", receiver.transcript());
    assert_eq!(received[2].changed(), Some("content,parents"));
}

async fn all_sends_each(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    opened(&app, &receiver, "all").await;
    missed(&app).await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let received = receiver.received();
    assert_eq!(numbers(&received), [1, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(received[3].changed(), Some("parents,content"));
}

async fn what_was_attempted_keeps_its_number(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "latest").await;
    receiver.answer(Answer::status(500));
    let update = || json!({ "resource": RESOURCE, "name": "drive.file.updated", "changed": ["content"] });
    app.publish(update()).await;
    app.settle().await;
    // More of the same may not change what the receiver has seen fail, also after a restart.
    app.publish(update()).await;
    app.publish(update()).await;
    app.advance_to(app.next_attempt_at("c").await).await;
    app.restart().await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let received = receiver.received();
    assert_eq!(numbers(&received), [1, 2, 2, 2, 4], "{}", receiver.transcript());
    assert_eq!(received[4].previous_message(), Some(2));
    // And a run that failed as a run is told again as that run.
    receiver.answer(Answer::status(500));
    receiver.answer_with({
        let mut refusals = 2;
        move |request| match request.message_number() {
            Some(5) => Answer::Hang,
            _ if refusals > 0 => {
                refusals -= 1;
                Answer::status(500)
            }
            _ => Answer::ok(),
        }
    });
    app.publish(update()).await;
    receiver.wait_for(6).await;
    let parts =
        |changed: &str| json!({ "resource": RESOURCE, "name": "drive.file.updated", "changed": changed });
    app.publish(parts("parents")).await;
    app.publish(parts("properties")).await;
    receiver.release();
    app.settle().await;
    app.publish(parts("permissions")).await;
    for _ in 0..2 {
        app.advance_to(app.next_attempt_at("c").await).await;
    }
    let received = receiver.received();
    assert_eq!(numbers(&received[5..]), [5, 7, 7, 7, 8], "{}", receiver.transcript());
    assert!(received[6..9].iter().all(|request| request.changed() == Some("parents,properties")));
    assert_eq!(received[9].changed(), Some("permissions"));
}
