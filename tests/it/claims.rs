//! Pull and push share one cursor: what is acknowledged is not sent, what was sent is not left to pull. And what an
//! owner does to a channel: pause, resume, skip.

use serde_json::{Value, json};

use crate::{
    app::{CALENDAR, TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver, in_time},
};

on_both!(
    a_receiver_pulls_what_it_missed_and_acknowledges_half,
    an_acknowledgement_never_goes_back_nor_beyond_the_log,
    an_acknowledgement_while_a_request_is_under_way,
    pages_go_on_where_they_ended,
    the_url_is_the_key,
    a_google_channel_gets_its_url_only_if_it_asks,
    a_paused_channel_sends_nothing_and_loses_nothing,
    a_level_channel_can_be_acknowledged_and_still_hears_of_the_next_event,
    skip_passes_a_head_that_is_refused,
    what_is_wrong_is_named_and_moves_nothing,
    a_gone_channel_is_resumed,
    moves_survive_a_restart,
);

const RESOURCE: &str = "orders/17";

/// Opens `id` and returns the path of its claim.
async fn opened(app: &TestApp, receiver: &Receiver, id: &str) -> String {
    let address = receiver.url(&format!("/{id}"));
    let channel =
        app.open(json!({ "id": id, "resource": RESOURCE, "address": address, "catchUp": "all" })).await;
    app.settle().await;
    path_of(&channel["claimUrl"])
}

fn path_of(url: &Value) -> String {
    url::Url::parse(url.as_str().unwrap()).unwrap().path().to_owned()
}

async fn pull(app: &TestApp, claim: &str) -> Value {
    let answer = app.call("GET", claim, "", None).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

async fn acknowledge(app: &TestApp, claim: &str, through: i64) -> (u16, Value) {
    let answer = app.call("POST", &format!("{claim}/ack"), "", Some(json!({ "through": through }))).await;
    (answer.status, answer.json())
}

fn items(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|item| item["number"].as_i64().unwrap()).collect()
}

async fn command(app: &TestApp, id: &str, verb: &str, body: Value) -> Value {
    let answer = app.post(&format!("/v1/channels/{id}/{verb}"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

async fn a_receiver_pulls_what_it_missed_and_acknowledges_half(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    receiver.answer(Answer::status(503));
    let data = json!({ "resource": RESOURCE, "name": "order.changed", "data": { "n": 1 } });
    app.publish(data).await;
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.settle().await;
    let page = pull(&app, &claim).await;
    assert_eq!((items(&page), page["earliestNumber"].as_i64()), (vec![2, 3, 4, 5, 6, 7], Some(2)));
    let first = &page["items"][0];
    assert_eq!(first["dataBase64"], "eyJuIjoxfQ==", "the bytes");
    assert_eq!((first["contentType"].as_str(), first["seq"].as_i64()), (Some("application/json"), Some(1)));
    let missed = receiver.received().last().unwrap().webhook_id().unwrap().to_owned();
    assert_eq!(first["id"].as_str(), Some(missed.as_str()), "the id that was pushed");
    assert_eq!(acknowledge(&app, &claim, 4).await, (200, json!({ "through": 4 })));
    assert_eq!(items(&pull(&app, &claim).await), [5, 6, 7]);
    receiver.answer(Answer::ok());
    app.advance(seconds(60)).await;
    app.sweep().await;
    app.settle().await;
    let delivered = numbers(&receiver.received());
    assert!(delivered.ends_with(&[5, 6, 7]), "{delivered:?}");
    assert!(!delivered.contains(&3) && !delivered.contains(&4), "acknowledged is not sent: {delivered:?}");
    assert_eq!(items(&pull(&app, &claim).await), [] as [i64; 0]);
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
}

async fn an_acknowledgement_never_goes_back_nor_beyond_the_log(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.settle().await;
    assert_eq!(acknowledge(&app, &claim, 2).await, (200, json!({ "through": 4 })), "it stood at 4");
    assert_eq!(acknowledge(&app, &claim, 4).await, (200, json!({ "through": 4 })));
    for wrong in [5, 0, -1, i64::MAX] {
        let (status, problem) = acknowledge(&app, &claim, wrong).await;
        assert_eq!((status, problem["field"].as_str()), (400, Some("through")), "{wrong}");
    }
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4, 5]);
}

async fn an_acknowledgement_while_a_request_is_under_way(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    receiver.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 4).await;
    receiver.wait_for(2).await;
    assert_eq!(acknowledge(&app, &claim, 3).await.0, 200);
    receiver.answer(Answer::ok());
    receiver.release_with(&Answer::status(500));
    app.settle().await;
    app.advance(seconds(60)).await;
    app.settle().await;
    assert_eq!(
        numbers(&receiver.received()),
        [1, 2, 4, 5],
        "the failure of what is acknowledged is only told"
    );
    assert_eq!(receiver.max_in_flight_of_any_channel(), 1);
    assert_eq!(app.attempts("c").await.len(), 4, "the ledger has every request");
}

async fn pages_go_on_where_they_ended(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    command(&app, "c", "pause", Value::Null).await;
    app.publish_many(RESOURCE, "order.changed", 7).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = pull(&app, &format!("{claim}?limit=3{token}")).await;
        seen.extend(items(&page));
        let Some(next) = page["nextPageToken"].as_str() else { break };
        token = format!("&pageToken={next}");
    }
    assert_eq!(seen, [2, 3, 4, 5, 6, 7, 8]);
}

async fn the_url_is_the_key(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    let other = opened(&app, &receiver, "d").await;
    let uid = &claim[..claim.len() - 43];
    let mixed = format!("{uid}{}", &other[other.len() - 43..]);
    let missing = app.call("GET", "/claims/nothing", "", None).await;
    for wrong in [mixed.as_str(), uid, &format!("{claim}x"), "/claims/%ff"] {
        for (method, path) in
            [("GET", wrong.to_owned()), ("POST", format!("{wrong}/ack")), ("POST", format!("{wrong}/resume"))]
        {
            let answer = app.call(method, &path, "", Some(json!({ "through": 1 }))).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
        if !wrong.ends_with("%ff") {
            assert_eq!(
                app.call("GET", wrong, "", None).await.body,
                missing.body,
                "unknown and forged look alike"
            );
        }
    }
    let rotated = command(&app, "c", "claim/rotate", Value::Null).await;
    assert_eq!(app.call("GET", &claim, "", None).await.status, 404, "the old URL is void");
    pull(&app, &path_of(&rotated["claimUrl"])).await;
}

async fn a_google_channel_gets_its_url_only_if_it_asks(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let plain = json!({ "id": "a", "type": "web_hook", "address": receiver.url("/") });
    assert_eq!(app.watch(CALENDAR, plain).await.get("params"), None);
    let asking = json!({ "id": "b", "type": "web_hook", "address": receiver.url("/"), "params": { "claims": "true" } });
    let channel = app.watch(CALENDAR, asking).await;
    app.settle().await;
    assert_eq!(items(&pull(&app, &path_of(&channel["params"]["claimUrl"])).await), [] as [i64; 0]);
}

async fn a_paused_channel_sends_nothing_and_loses_nothing(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    assert_eq!(command(&app, "c", "pause", Value::Null).await["state"], "paused");
    assert_eq!(command(&app, "c", "pause", Value::Null).await["state"], "paused", "twice is fine");
    app.publish_many(RESOURCE, "order.changed", 5).await;
    app.settle().await;
    app.sweep().await;
    assert_eq!(receiver.received().len(), 1, "only the sync");
    assert_eq!(app.channel("c").await["cursor"]["lag"], 5);
    assert_eq!(command(&app, "c", "resume", Value::Null).await["state"], "active");
    app.settle().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4, 5, 6, 7]);
    app.stop_channel("c").await;
    for verb in ["pause", "resume"] {
        assert_eq!(app.post(&format!("/v1/channels/c/{verb}"), Value::Null).await.status, 409);
    }
}

async fn a_level_channel_can_be_acknowledged_and_still_hears_of_the_next_event(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    receiver.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 2).await;
    receiver.wait_for(2).await;
    assert_eq!(acknowledge(&app, &claim, 3).await.0, 200);
    receiver.answer(Answer::ok());
    receiver.release();
    app.settle().await;
    app.restart().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 4]);
    assert_eq!(app.channel("c").await["cursor"]["lag"], 0);
}

async fn skip_passes_a_head_that_is_refused(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c").await;
    receiver.answer_with(|request| {
        if request.message_number() == Some(2) { Answer::status(422) } else { Answer::ok() }
    });
    app.publish_many(RESOURCE, "order.changed", 3).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2]);
    let channel = command(&app, "c", "skip", json!({ "throughNumber": 2 })).await;
    // What follows is on its way as soon as the head is passed.
    assert!(channel["cursor"]["number"].as_i64() >= Some(2), "{channel}");
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4]);
    let wrong = app.post("/v1/channels/c/skip", json!({ "throughNumber": 9 })).await;
    assert_eq!((wrong.status, wrong.json()["field"].as_str()), (400, Some("throughNumber")));
    assert_eq!(app.post("/v1/channels/c/skip", json!({})).await.json()["field"], "throughNumber");
}

async fn what_is_wrong_is_named_and_moves_nothing(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    for (path, field) in
        [(format!("{claim}/ack"), "through"), ("/v1/channels/c/skip".to_owned(), "throughNumber")]
    {
        for wrong in [
            Value::Null,
            json!("x"),
            json!(1.5),
            json!(true),
            json!([1]),
            json!({}),
            json!("1\n2"),
            json!(1e300),
        ] {
            let answer = app.post(&path, json!({ field: wrong })).await;
            assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{wrong}");
        }
        let unknown = app.post(&path, json!({ field: 1, "more": 2 })).await;
        assert_eq!((unknown.status, unknown.json()["field"].as_str()), (400, Some("more")));
        for (body, code) in [("", "bodyNotJson"), ("[]", "bodyNotJson"), ("{", "bodyNotJson")] {
            let token = app.token(crate::app::PROJECT, crate::app::SUBJECT, crate::app::SCOPES);
            let answer = app.send("POST", &path, &token, "application/json", body.into()).await;
            assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some(code)), "{body}");
        }
    }
    for query in ["limit=0", "limit=501", "limit=x", "pageToken=x", "more=1", "limit=1&limit=2"] {
        let answer = app.call("GET", &format!("{claim}?{query}"), "", None).await;
        let field = query.split('=').next().unwrap();
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{query}");
    }
    assert_eq!(app.channel("c").await["cursor"]["number"], 1);
}

async fn a_gone_channel_is_resumed(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    receiver.answer(Answer::status(410));
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.settle().await;
    assert_eq!(app.channel("c").await["state"], "gone");
    assert_eq!(items(&pull(&app, &claim).await), [2, 3], "what is pending stays claimable");
    receiver.answer(Answer::ok());
    assert_eq!(app.call("POST", &format!("{claim}/resume"), "", None).await.status, 204);
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 2, 3]);
    assert_eq!(app.channel("c").await["state"], "active");
}

async fn moves_survive_a_restart(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    receiver.answer(Answer::status(500));
    app.publish_many(RESOURCE, "order.changed", 4).await;
    app.settle().await;
    command(&app, "c", "pause", Value::Null).await;
    assert_eq!(acknowledge(&app, &claim, 3).await.0, 200, "a paused channel can be read and acknowledged");
    app.restart().await;
    receiver.answer(Answer::ok());
    assert_eq!(app.call("POST", &format!("{claim}/resume"), "", None).await.status, 204);
    app.settle().await;
    assert_eq!(
        app.channel("c").await["state"],
        "paused",
        "what the owner paused the receiver does not resume"
    );
    command(&app, "c", "resume", Value::Null).await;
    app.settle().await;
    let delivered = numbers(&receiver.received());
    assert!(delivered.ends_with(&[4, 5]) && !delivered.contains(&3), "{delivered:?}");
}

/// On PostgreSQL alone: there the test can keep the end of the channel from being written.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_410_of_what_was_acknowledged_and_the_end_costs_no_event() {
    let mut app = TestApp::start(Kind::Postgres).await;
    let receiver = Receiver::start().await;
    let claim = opened(&app, &receiver, "c").await;
    app.base
        .run(
            "create function refuse() returns trigger language plpgsql as
               $$ begin raise exception 'not now'; end $$;
             create trigger refuse before update on channels for each row
               when (new.state = 'gone') execute function refuse();",
        )
        .await;
    receiver.answer(Answer::Hang);
    app.publish_many(RESOURCE, "order.changed", 1).await;
    receiver.wait_for(2).await;
    assert_eq!(acknowledge(&app, &claim, 2).await.0, 200);
    // As if the word that the acknowledgement left had been taken: it would bring the channel back after the crash.
    app.base.run("delete from changed_channels").await;
    receiver.answer(Answer::ok());
    receiver.release_with(&Answer::status(410));
    in_time("the ledger", async { while app.attempts("c").await.len() < 2 {} }).await;
    app.base.run("drop trigger refuse on channels").await;
    app.crash().await;
    app.settle().await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.sweep().await;
    let channel = app.channel("c").await;
    assert_eq!((&channel["state"], &channel["cursor"]["lag"]), (&json!("active"), &json!(0)), "{channel}");
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4]);
}
