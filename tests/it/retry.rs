//! When a receiver is down: how often it is asked, what counts as a failure, and what it gets once it is back.

use std::time::Duration;

use serde_json::{Value, json};
use watchpost::domain::time::Timestamp;

use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver, in_time},
};

on_both!(
    four_days_down_end_in_a_suspension_that_a_probe_ends,
    a_suspended_channel_is_resumed_paused_or_moved_by_its_owner,
    a_new_address_is_tried_at_once_although_the_channel_is_not_in_memory,
    the_schedule_is_kept_to_the_millisecond,
    a_backlog_costs_one_request_per_step_and_arrives_in_order,
    retry_after_is_a_floor_within_bounds,
    junk_in_retry_after_changes_nothing,
    what_is_no_answer_is_a_failed_attempt_with_a_code,
    redirects_are_never_followed,
    attempt_numbers_go_on_after_a_restart,
    a_first_attempt_has_its_delay,
    a_policy_that_was_tightened_holds_at_send_time,
    own_schedules_count_and_slow_receivers_delay_nobody_else,
);

const RESOURCE: &str = "orders/17";
const MILLISECOND: Duration = Duration::from_millis(1);
/// The default schedule behind its first entry, which is the delay of a first attempt.
const STEPS: [u64; 9] = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800];

/// A `/v1` channel whose sync has arrived.
async fn opened(app: &TestApp, receiver: &Receiver, id: &str) {
    let opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url(&format!("/{id}")) });
    app.open(opening).await;
    app.settle().await;
}

/// Moves to a moment before `due` and shows that it is silent, then to `due` itself.
async fn advance_exactly_to(app: &TestApp, receiver: &Receiver, due: Timestamp) {
    let before = receiver.received().len();
    app.advance_to(due.minus(MILLISECOND)).await;
    assert_eq!(receiver.received().len(), before, "too early: {}", receiver.transcript());
    app.advance_to(due).await;
}

async fn the_schedule_is_kept_to_the_millisecond(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(500));
    opened(&app, &receiver, "c").await;
    for (at, step) in STEPS.into_iter().chain([28_800, 28_800]).enumerate() {
        let due = app.next_attempt_at("c").await;
        let wait = due.since(app.now());
        assert!(wait >= seconds(step) && wait <= seconds(step).mul_f64(1.25), "step {at}: {wait:?}");
        advance_exactly_to(&app, &receiver, due).await;
        let received = receiver.received();
        assert_eq!(received.len(), at + 2, "one request per step: {}", receiver.transcript());
        assert_eq!(received[at + 1].attempt(), Some(at as u64 + 2));
    }
    assert!(receiver.received().iter().all(|request| request.message_number() == Some(1)));
    assert!(receiver.received().windows(2).all(|pair| pair[0].webhook_id() == pair[1].webhook_id()));
}

async fn a_backlog_costs_one_request_per_step_and_arrives_in_order(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    receiver.answer(Answer::status(503));
    for step in 0..5 {
        app.publish_many(RESOURCE, "order.changed", 60).await;
        app.settle().await;
        assert_eq!(receiver.received().len(), 2 + step, "events knock at no closed door");
        app.sweep().await;
        let due = app.next_attempt_at("c").await;
        advance_exactly_to(&app, &receiver, due).await;
    }
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let received = receiver.received();
    let expected: Vec<u64> = [1].into_iter().chain([2; 6]).chain(2..=301).collect();
    assert_eq!(numbers(&received), expected, "sync, six refusals, then everything in order and once");
    let previous: Vec<u64> =
        received[7..].iter().map(|request| request.previous_message().unwrap()).collect();
    assert_eq!(previous, (1..=300).collect::<Vec<_>>());
    assert_eq!(receiver.max_in_flight_of_any_channel(), 1);

    let ledger = app.attempts("c").await;
    let of = |attempt: &Value| (attempt["number"].as_u64(), attempt["attempt"].as_u64());
    let recorded: Vec<_> = ledger.iter().map(of).collect();
    let seen: Vec<_> = received.iter().map(|request| (request.message_number(), request.attempt())).collect();
    assert_eq!(recorded, seen, "requests seen = attempts recorded");
    assert_eq!(ledger.iter().filter(|attempt| attempt["status"] == 503).count(), 6);
    let channel = app.channel("c").await;
    assert_eq!(channel["cursor"]["lag"], 0);
    assert_eq!(channel["cursor"]["attempts"], 0);
    assert_eq!(channel["lastAttempt"]["outcome"], "delivered");
}

/// Opens a channel for each case on a receiver that answers its path with the case, and returns how long each
/// has to wait after its first attempt.
async fn waits(app: &TestApp, cases: &[(u16, Vec<String>)]) -> Vec<Duration> {
    let receiver = Receiver::start().await;
    let answers: Vec<Answer> = cases
        .iter()
        .map(|(status, values)| {
            let answer = Answer::status(*status);
            values.iter().fold(answer, |answer, value| answer.with_header("Retry-After", value))
        })
        .collect();
    receiver.answer_with(move |request| {
        let at: usize = request.path.trim_start_matches("/c").parse().unwrap();
        answers[at].clone()
    });
    let mut waits = Vec::new();
    for at in 0..cases.len() {
        opened(app, &receiver, &format!("c{at}")).await;
        waits.push(app.next_attempt_at(&format!("c{at}")).await.since(app.now()));
    }
    assert_eq!(receiver.received().len(), cases.len());
    waits
}

async fn retry_after_is_a_floor_within_bounds(kind: Kind) {
    let app = TestApp::start(kind).await;
    let in_ten_minutes = app.now().plus(seconds(600)).to_http_date();
    let long_ago = app.now().minus(seconds(600)).to_http_date();
    let cases = [
        (429, "3600", 3_600, 3_600),
        (503, "120", 120, 120),
        (503, &in_ten_minutes, 600, 600),
        // Shorter than the schedule: the schedule counts.
        (429, "1", 5, 6),
        (429, "0", 5, 6),
        (503, &long_ago, 5, 6),
        // Nobody is left alone for longer than six hours.
        (429, "604800", 21_600, 21_600),
        (429, "99999999999999999999", 21_600, 21_600),
        (503, "Fri, 31 Dec 9999 23:59:59 GMT", 21_600, 21_600),
        // Only an overloaded receiver is asked.
        (500, "3600", 5, 6),
        (404, "3600", 5, 6),
        (302, "3600", 5, 6),
    ];
    let answers: Vec<_> =
        cases.iter().map(|(status, value, ..)| (*status, vec![(*value).to_owned()])).collect();
    for ((status, value, least, most), wait) in cases.iter().zip(waits(&app, &answers).await) {
        let most = if least == most { seconds(*most) } else { Duration::from_millis(6_250) };
        assert!(wait >= seconds(*least) && wait <= most, "{status} {value}: {wait:?}");
    }
}

async fn junk_in_retry_after_changes_nothing(kind: Kind) {
    let app = TestApp::start(kind).await;
    let mut cases: Vec<(u16, Vec<String>)> = ["", "-1", "NaN", "inf", "1e308", "1.5", "+7", "soon", "7;8"]
        .into_iter()
        .map(|junk| (429, vec![junk.to_owned()]))
        .collect();
    cases.push((503, vec!["600".to_owned(), "700".to_owned()]));
    cases.push((503, vec!["9".repeat(10_000)]));
    cases.push((503, vec!["Mon, 99 Foo 2027 99:99:99 GMT".to_owned()]));
    for ((status, values), wait) in cases.iter().zip(waits(&app, &cases).await) {
        assert!(
            wait >= seconds(5) && wait <= Duration::from_millis(6_250),
            "{status} {:.40}: {wait:?}",
            values.join(" and ")
        );
    }
}

async fn what_is_no_answer_is_a_failed_attempt_with_a_code(kind: Kind) {
    let app = TestApp::with(kind, &[("ATTEMPT_TIMEOUT", "1s")]).await;
    let (receiver, closed) = (Receiver::start().await, Receiver::start().await);
    closed.stop().await;
    receiver.answer_with(|request| match request.path.as_str() {
        "/hangs" => Answer::Hang,
        "/resets" => Answer::Reset,
        "/talks-nonsense" => Answer::Raw(b"ICY 200 OK\r\n\r\n".to_vec()),
        "/stops-in-its-headers" => Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        "/stops-in-its-body" => Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
        _ => Answer::ok(),
    });
    let cases = [
        (&receiver, "hangs", Some("answer_timeout")),
        (&receiver, "resets", Some("reset")),
        (&receiver, "talks-nonsense", Some("bad_http")),
        (&receiver, "stops-in-its-headers", Some("answer_timeout")),
        (&receiver, "stops-in-its-body", None),
        (&closed, "refuses", Some("connect_failed")),
    ];
    for (receiver, id, _) in cases {
        let opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url(&format!("/{id}")) });
        app.open(opening).await;
    }
    app.settle().await;
    for (_, id, code) in cases {
        let ledger = app.attempts(id).await;
        assert_eq!(ledger.len(), 1, "{id}: {ledger:?}");
        assert_eq!(ledger[0]["error"].as_str(), code, "{id}: {ledger:?}");
        if code.is_some() {
            assert_eq!(ledger[0]["status"], Value::Null, "{id}");
            let wait = app.next_attempt_at(id).await.since(app.now());
            assert!(wait >= seconds(5) && wait <= Duration::from_millis(6_250), "{id}: {wait:?}");
        } else {
            assert_eq!(ledger[0]["outcome"], "delivered", "the status line decides");
        }
    }
    assert_eq!(receiver.received().len(), 5);
    receiver.release();
}

async fn redirects_are_never_followed(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let elsewhere = other.url("/elsewhere");
    let answer_to = move |status: u16| Answer::status(status).with_header("Location", &elsewhere);
    receiver.answer_with(move |request| answer_to(request.path.trim_start_matches("/c").parse().unwrap()));
    for status in [301, 302, 303, 307, 308, 304] {
        opened(&app, &receiver, &format!("c{status}")).await;
        let ledger = app.attempts(&format!("c{status}")).await;
        assert_eq!(ledger[0]["status"], status);
        assert_eq!(ledger[0]["outcome"], "failed");
        assert!(app.next_attempt_at(&format!("c{status}")).await > app.now());
    }
    assert_eq!((receiver.received().len(), other.connections()), (6, 0));
}

async fn attempt_numbers_go_on_after_a_restart(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(500));
    opened(&app, &receiver, "c").await;
    app.advance_to(app.next_attempt_at("c").await).await;
    let due = app.next_attempt_at("c").await;
    app.restart().await;
    app.settle().await;
    assert_eq!(receiver.received().len(), 2, "a start is no reason to try earlier");
    assert_eq!(app.next_attempt_at("c").await, due);
    advance_exactly_to(&app, &receiver, due).await;
    receiver.answer(Answer::ok());
    app.crash().await;
    app.advance_to(app.next_attempt_at("c").await).await;
    // Further away than a start looks: the sweep that comes every ten seconds brings it in.
    app.sweep().await;
    let attempts: Vec<_> = receiver.received().iter().map(|request| request.attempt().unwrap()).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert_eq!(numbers(&receiver.received()), [1, 1, 1, 1]);
    let ledger = app.attempts("c").await;
    assert_eq!(ledger.len(), 4, "{ledger:?}");
    assert!(ledger.iter().zip(1..).all(|(attempt, number)| attempt["attempt"] == number), "{ledger:?}");
}

async fn a_first_attempt_has_its_delay(kind: Kind) {
    let mut app = TestApp::with(kind, &[("RETRY_SCHEDULE", "800ms,5s")]).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    assert_eq!(receiver.received().len(), 1, "the sync is not delayed");
    for round in 0..2 {
        app.publish_many(RESOURCE, "order.changed", 3).await;
        app.settle().await;
        let due = app.now().plus(Duration::from_millis(800));
        advance_exactly_to(&app, &receiver, due).await;
        assert_eq!(receiver.received().len(), 4 + 3 * round, "{}", receiver.transcript());
        // Nor does it matter whether the channel was in memory when the event came.
        app.restart().await;
    }
}

async fn a_policy_that_was_tightened_holds_at_send_time(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    app.set("EGRESS_ALLOW", &format!("127.0.0.0/8:{}", app.canary_port().await));
    app.restart().await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!((receiver.received().len(), receiver.connections()), (1, 1), "{}", receiver.transcript());
    let ledger = app.attempts("c").await;
    assert_eq!(ledger.len(), 3);
    assert!(ledger[1..].iter().all(|attempt| attempt["error"] == "target_not_allowed"), "{ledger:?}");
    app.set("EGRESS_ALLOW", "127.0.0.0/8");
    app.restart().await;
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3]);
}

async fn own_schedules_count_and_slow_receivers_delay_nobody_else(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (slow, fast) = (Receiver::start().await, Receiver::start().await);
    slow.answer(Answer::Hang);
    for at in 0..40 {
        let opening = json!({ "id": format!("slow{at}"), "resource": RESOURCE, "address": slow.url("/") });
        app.open(opening).await;
    }
    let opening = json!({ "id": "own", "resource": RESOURCE, "address": fast.url("/"),
                          "retry": { "schedule": ["0s", "1s", "7s"] } });
    app.open(opening).await;
    fast.wait_for(1).await;
    fast.answer(Answer::status(500));
    app.publish_many(RESOURCE, "order.changed", 1).await;
    fast.wait_for(2).await;
    slow.wait_for(16).await;
    assert_eq!(slow.max_in_flight_overall(), 16, "a host begins with sixteen");
    slow.answer(Answer::ok());
    slow.release();
    app.settle().await;
    assert_eq!(slow.received().len(), 40 * 2);
    for step in [1, 7, 7] {
        let due = app.next_attempt_at("own").await;
        let wait = due.since(app.now());
        assert!(wait >= seconds(step) && wait <= seconds(step).mul_f64(1.25), "{wait:?}");
        advance_exactly_to(&app, &fast, due).await;
    }
    assert_eq!(fast.received().len(), 5);
}

const HOUR: Duration = Duration::from_hours(1);

/// Fails a channel for its whole window, and returns when it was suspended.
async fn suspended(app: &TestApp, receiver: &Receiver) {
    let address = receiver.url("/");
    app.open(json!({ "id": "c", "resource": "orders/17", "address": address, "ttlSeconds": 20 * 86_400 }))
        .await;
    app.settle().await;
    receiver.answer(Answer::status(500));
    app.publish_many("orders/17", "order.changed", 20).await;
    app.settle().await;
    for _ in 0..90 {
        if app.channel("c").await["state"] == "suspended" {
            return;
        }
        app.advance(HOUR).await;
        app.sweep().await;
        app.settle().await;
    }
    panic!("not suspended: {}", app.channel("c").await);
}

async fn four_days_down_end_in_a_suspension_that_a_probe_ends(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opened_at = app.now();
    suspended(&app, &receiver).await;
    let lasted = app.now().since(opened_at);
    assert!(lasted >= 72 * HOUR && lasted <= 83 * HOUR, "after the window, at the next step: {lasted:?}");
    let requests = receiver.received().len();
    assert!(requests < 30, "one request per step, however long the backlog: {requests}");
    app.publish_many("orders/17", "order.changed", 5).await;
    app.settle().await;
    assert_eq!(receiver.received().len(), requests, "new events do not wake it");
    app.restart().await;
    assert_eq!(app.channel("c").await["state"], "suspended");
    let before = receiver.received().len();
    for _ in 0..24 {
        app.advance(HOUR).await;
        app.sweep().await;
        app.settle().await;
    }
    let probes = receiver.received().len() - before;
    assert!((1..=3).contains(&probes), "probed now and then: {probes}");
    receiver.answer(Answer::ok());
    for _ in 0..25 {
        app.advance(HOUR).await;
        app.sweep().await;
        app.settle().await;
    }
    assert_eq!(app.channel("c").await["state"], "active", "a 2xx is proof of life");
    let delivered: Vec<u64> = numbers(&receiver.received()).split_off(before + probes);
    assert_eq!(delivered, (2..=26).collect::<Vec<u64>>(), "everything, in order");
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
    app.publish_many("orders/17", "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()).last(), Some(&27));
}

async fn a_suspended_channel_is_resumed_paused_or_moved_by_its_owner(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    suspended(&app, &receiver).await;
    let requests = receiver.received().len();
    let resumed = app.post("/v1/channels/c/resume", json!(null)).await.json();
    assert_eq!(resumed["state"], "active");
    app.settle().await;
    assert_eq!(receiver.received().len(), requests + 1, "tried at once");
    assert_eq!(app.channel("c").await["state"], "active", "with a window of its own");
    let paused = app.post("/v1/channels/c/pause", json!(null)).await.json();
    assert_eq!(paused["state"], "paused");
    receiver.answer(Answer::ok());
    app.advance(48 * HOUR).await;
    app.sweep().await;
    app.settle().await;
    assert_eq!(receiver.received().len(), requests + 1, "a paused channel is not probed");
    app.post("/v1/channels/c/resume", json!(null)).await;
    app.settle().await;
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
}

async fn a_new_address_is_tried_at_once_although_the_channel_is_not_in_memory(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    suspended(&app, &receiver).await;
    app.restart().await;
    app.settle().await;
    assert_eq!(app.patch("c", json!({ "address": other.url("/") })).await.status, 200);
    app.settle().await;
    assert_eq!(numbers(&other.received()), (2..=21).collect::<Vec<_>>());
    assert_eq!(app.channel("c").await["state"], "active");
}

/// On PostgreSQL alone: there the test can keep the end of the suspension from being written.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_a_probe_and_the_resumption_costs_no_event() {
    let mut app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    suspended(&app, &receiver).await;
    let probe_at = app.next_attempt_at("c").await;
    app.advance_to(probe_at.minus(seconds(1))).await;
    app.base
        .run(
            "create function refuse() returns trigger language plpgsql as
               $$ begin raise exception 'not now'; end $$;
             create trigger refuse before update on channels for each row
               when (new.state = 'active') execute function refuse();",
        )
        .await;
    receiver.answer(Answer::ok());
    let before = receiver.received().len();
    // Not to its settling: the end of the suspension is tried again and again.
    app.clock.advance(seconds(1));
    receiver.wait_for(before + 20).await;
    in_time("the ledger", async { while app.channel("c").await["cursor"]["lag"] != 0 {} }).await;
    app.base.run("drop trigger refuse on channels").await;
    app.crash().await;
    assert_eq!(app.channel("c").await["state"], "suspended");
    app.publish_many("orders/17", "order.changed", 3).await;
    app.advance(seconds(60)).await;
    app.sweep().await;
    app.settle().await;
    let channel = app.channel("c").await;
    assert_eq!((&channel["state"], &channel["cursor"]["lag"]), (&json!("active"), &json!(0)), "{channel}");
    assert!(numbers(&receiver.received()).ends_with(&[22, 23, 24]), "{}", receiver.transcript());
}
