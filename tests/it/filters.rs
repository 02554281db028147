//! Channels that want only some events: what they get, what it costs, and what becomes of a filter that changes.

use serde_json::{Value, json};
use watchpost::store::ChannelView;

use crate::{
    app::{CALENDAR, TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(
    only_what_matches_arrives_in_order_and_under_its_own_number,
    what_nobody_wants_costs_nothing,
    a_backlog_is_looked_through_after_an_outage,
    a_restart_in_the_middle_loses_and_repeats_nothing,
    a_failing_head_blocks_what_matches_and_nothing_else,
    a_run_stays_within_what_matches,
    a_new_filter_is_for_what_the_cursor_has_not_passed,
    a_new_filter_frees_a_head_that_it_does_not_want,
    a_filter_is_taken_away_and_put_back,
    a_paused_channel_stays_where_it_is,
    equal_filters_and_none_side_by_side,
    a_claim_shows_what_the_channel_wants,
    directory_watches_one_kind_of_change,
    calendar_watches_some_types_of_events,
);

const RESOURCE: &str = "orders/17";

async fn opened(app: &TestApp, receiver: &Receiver, id: &str, extra: Value) {
    let mut opening = json!({ "id": id, "resource": RESOURCE, "address": receiver.url(&format!("/{id}")) });
    for (name, value) in extra.as_object().unwrap() {
        opening[name] = value.clone();
    }
    app.open(opening).await;
    app.settle().await;
}

/// Events of these names, in one batch.
async fn publish(app: &TestApp, names: &[&str]) {
    let event = |name: &&str| json!({ "resource": RESOURCE, "name": name, "data": name });
    app.publish(json!({ "events": names.iter().map(event).collect::<Vec<_>>() })).await;
}

fn told(received: &[Received]) -> Vec<(u64, Option<u64>)> {
    received.iter().map(|request| (request.message_number().unwrap(), request.previous_message())).collect()
}

async fn lag(app: &TestApp, id: &str) -> i64 {
    app.channel(id).await["cursor"]["lag"].as_i64().unwrap()
}

/// What the store says of a channel.
async fn view(app: &TestApp, id: &str) -> ChannelView {
    let uid = app.channel(id).await["uid"].as_str().unwrap().to_owned();
    app.server().app.store.channel_by_uid(uid).await.unwrap().unwrap()
}

async fn only_what_matches_arrives_in_order_and_under_its_own_number(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.paid", "stock.*.low", "shop.**"] })).await;
    publish(&app, &["order.sent", "order.paid", "order.sent", "order.sent", "stock.shoe.low"]).await;
    app.settle().await;
    publish(&app, &["stock.low", "shop.opened", "shop.a.b.c", "shops.opened"]).await;
    app.settle().await;
    let received = receiver.received();
    let expected = [(1, None), (3, Some(1)), (6, Some(3)), (8, Some(6)), (9, Some(8))];
    assert_eq!(told(&received), expected, "{}", receiver.transcript());
    assert_eq!(received[1].json()["type"], "order.paid");
    assert_eq!(received[4].event(), Some("shop.a.b.c"));
    assert_eq!((lag(&app, "c").await, app.attempts("c").await.len()), (0, 5));
}

async fn what_nobody_wants_costs_nothing(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.paid"] })).await;
    let cursor = async || view(&app, "c").await.cursor;
    let before = cursor().await;
    if app.base.is_shared() {
        // A written row would remember it.
        let mark =
            "create function mark() returns trigger as $$ begin new.failing_since_ms := 1; return new; end $$
                    language plpgsql;
                    create trigger marks before update on cursors for each row execute function mark();";
        app.base.run(mark).await;
    }
    app.publish_many(RESOURCE, "order.sent", 500).await;
    app.settle().await;
    app.publish_many(RESOURCE, "order.sent", 500).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1]);
    assert_eq!((lag(&app, "c").await, app.attempts("c").await.len()), (0, 1));
    let after = cursor().await;
    assert_eq!((after.behind, after.moved), (false, before.moved), "{after:?}");
    assert_eq!(after.failing, before.failing, "no cursor row was written");
    if app.base.is_shared() {
        app.base.run("drop trigger marks on cursors").await;
    }
    publish(&app, &["order.paid"]).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 1_002]);
    assert_eq!(lag(&app, "c").await, 0);
}

async fn a_backlog_is_looked_through_after_an_outage(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    opened(&app, &receiver, "c", json!({ "events": ["order.paid"] })).await;
    app.publish_many(RESOURCE, "order.sent", 700).await;
    publish(&app, &["order.paid"]).await;
    app.publish_many(RESOURCE, "order.sent", 700).await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(numbers(&receiver.received()), [1, 1, 702], "{}", receiver.transcript());
    assert_eq!(lag(&app, "c").await, 0);
    app.sweep().await;
    assert_eq!(receiver.received().len(), 3);
}

async fn a_restart_in_the_middle_loses_and_repeats_nothing(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.paid"] })).await;
    publish(&app, &["order.sent", "order.paid", "order.sent"]).await;
    app.settle().await;
    app.restart().await;
    publish(&app, &["order.sent", "order.paid", "order.paid", "order.sent"]).await;
    app.settle().await;
    // What was the last number told is not known after a start, and a wrong one would be worse than none.
    assert_eq!(told(&receiver.received()), [(1, None), (3, Some(1)), (6, None), (7, Some(6))]);
    receiver.answer(Answer::status(500));
    publish(&app, &["order.sent", "order.paid", "order.sent", "order.paid"]).await;
    app.settle().await;
    app.crash().await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    assert_eq!(numbers(&receiver.received()), [1, 3, 6, 7, 10, 10, 12], "{}", receiver.transcript());
    assert_eq!(lag(&app, "c").await, 0);
}

async fn a_failing_head_blocks_what_matches_and_nothing_else(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.paid"] })).await;
    receiver.answer(Answer::status(500));
    publish(&app, &["order.sent", "order.paid", "order.sent", "order.paid", "order.sent"]).await;
    app.settle().await;
    let channel = app.channel("c").await;
    assert_eq!(channel["cursor"]["number"], 2, "what is not wanted before the head is passed: {channel}");
    app.advance_to(app.next_attempt_at("c").await).await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let received = receiver.received();
    assert_eq!(numbers(&received), [1, 3, 3, 3, 5], "{}", receiver.transcript());
    assert_eq!(received[3].attempt(), Some(3));
    assert_eq!(received[4].previous_message(), Some(3));
    assert_eq!(lag(&app, "c").await, 0);
}

async fn a_run_stays_within_what_matches(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    opened(&app, &receiver, "c", json!({ "events": ["order.paid", "order.sent"], "catchUp": "latest" }))
        .await;
    publish(&app, &["x.y", "order.paid", "order.paid", "x.y", "x.y", "order.paid", "order.sent", "x.y"])
        .await;
    receiver.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("c").await).await;
    let expected = [(1, None), (1, None), (4, Some(1)), (7, Some(4)), (8, Some(7))];
    assert_eq!(told(&receiver.received()), expected, "{}", receiver.transcript());
    assert_eq!(lag(&app, "c").await, 0);
}

async fn a_new_filter_is_for_what_the_cursor_has_not_passed(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.paid"] })).await;
    receiver.answer(Answer::Hang);
    publish(&app, &["order.paid", "order.sent", "order.paid", "order.sent"]).await;
    receiver.wait_for(2).await;
    let answer = app.patch("c", json!({ "events": ["order.sent"] })).await;
    assert_eq!((answer.status, &answer.json()["events"]), (200, &json!(["order.sent"])));
    receiver.answer(Answer::ok());
    receiver.release();
    app.settle().await;
    publish(&app, &["order.paid", "order.sent"]).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 5, 7], "{}", receiver.transcript());
    assert_eq!(lag(&app, "c").await, 0);
    // What it had before is remembered, once, and a change of something else adds nothing.
    assert_eq!(app.patch("c", json!({ "token": "t", "metadata": { "a": "b" } })).await.status, 200);
    let key = view(&app, "c").await.channel.key;
    let past = app.server().app.store.past_filters(key).await.unwrap();
    let [past] = &*past else { panic!("{past:?}") };
    assert_eq!((past.through, &past.selection.events), (0, &vec!["order.paid".to_owned()]));
}

async fn a_new_filter_frees_a_head_that_it_does_not_want(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.*"] })).await;
    receiver.answer_with(|request| match request.event() {
        Some("order.paid") => Answer::status(500),
        _ => Answer::ok(),
    });
    publish(&app, &["order.paid", "order.sent", "order.paid"]).await;
    app.settle().await;
    assert_eq!(lag(&app, "c").await, 3);
    assert_eq!(app.patch("c", json!({ "events": ["order.sent"] })).await.status, 200);
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3], "{}", receiver.transcript());
    let channel = app.channel("c").await;
    assert_eq!((&channel["cursor"]["lag"], &channel["cursor"]["attempts"]), (&json!(0), &json!(0)));
}

async fn a_filter_is_taken_away_and_put_back(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({})).await;
    for (events, expected) in [
        (json!(["order.paid"]), vec![1, 2]),
        (json!([]), vec![1, 2, 4, 5]),
        (json!(["order.sent"]), vec![1, 2, 4, 5, 7]),
    ] {
        assert_eq!(app.patch("c", json!({ "events": events })).await.status, 200);
        publish(&app, &["order.paid", "order.sent"]).await;
        app.settle().await;
        assert_eq!(numbers(&receiver.received()), expected, "{events}: {}", receiver.transcript());
        assert_eq!(lag(&app, "c").await, 0);
    }
    let previous: Vec<_> = receiver.received().iter().map(Received::previous_message).collect();
    assert_eq!(previous, [None, Some(1), Some(2), Some(4), Some(5)], "none that a filter has passed");
}

async fn a_paused_channel_stays_where_it_is(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    opened(&app, &receiver, "c", json!({ "events": ["order.paid"] })).await;
    publish(&app, &["order.sent"]).await;
    app.settle().await;
    assert_eq!(app.post("/v1/channels/c/pause", Value::Null).await.status, 200);
    publish(&app, &["order.sent", "order.sent", "order.paid", "order.sent"]).await;
    app.settle().await;
    assert_eq!(lag(&app, "c").await, 4);
    app.restart().await;
    assert_eq!(lag(&app, "c").await, 4);
    // Also what only the filter of after the pause wants is still there.
    assert_eq!(app.patch("c", json!({ "events": ["order.sent"] })).await.status, 200);
    assert_eq!(lag(&app, "c").await, 4);
    assert_eq!(app.post("/v1/channels/c/resume", Value::Null).await.status, 200);
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 3, 4, 6], "{}", receiver.transcript());
    assert_eq!(lag(&app, "c").await, 0);
}

async fn equal_filters_and_none_side_by_side(kind: Kind) {
    let app = TestApp::start(kind).await;
    let (receiver, failing) = (Receiver::start().await, Receiver::start().await);
    opened(&app, &receiver, "a", json!({ "events": ["order.paid"] })).await;
    opened(&app, &failing, "b", json!({ "events": ["order.paid"] })).await;
    opened(&app, &receiver, "all", json!({})).await;
    failing.answer(Answer::status(500));
    for _ in 0..3 {
        publish(&app, &["order.sent", "order.paid", "order.sent"]).await;
        app.settle().await;
    }
    failing.answer(Answer::ok());
    app.advance(seconds(60)).await;
    let of = |path: &str| -> Vec<u64> {
        let received = receiver.received().into_iter().filter(|request| request.path == path);
        numbers(&received.collect::<Vec<_>>())
    };
    assert_eq!(of("/a"), [1, 3, 6, 9], "{}", receiver.transcript());
    assert_eq!(of("/all"), (1..=10).collect::<Vec<_>>());
    let mut late = numbers(&failing.received());
    late.dedup();
    assert_eq!(late, [1, 3, 6, 9], "{}", failing.transcript());
    for id in ["a", "b", "all"] {
        assert_eq!(lag(&app, id).await, 0, "{id}");
    }
}

async fn a_claim_shows_what_the_channel_wants(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let opening = json!({ "id": "c", "resource": RESOURCE, "address": receiver.url("/"),
                          "events": ["order.paid"] });
    let channel = app.open(opening).await;
    app.settle().await;
    receiver.answer(Answer::status(500));
    app.publish_many(RESOURCE, "order.sent", 120).await;
    publish(&app, &["order.paid", "order.sent", "order.paid", "order.sent"]).await;
    app.settle().await;
    let claim = channel["claimUrl"].as_str().unwrap();
    let path = &claim[claim.find("/claims/").unwrap()..];
    let (mut numbers, mut token) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("{path}?limit=2{token}")).await.json();
        numbers.extend(page["items"].as_array().unwrap().iter().map(|item| item["number"].as_u64().unwrap()));
        let Some(next) = page["nextPageToken"].as_str() else { break };
        token = format!("&pageToken={next}");
    }
    assert_eq!(numbers, [122, 124]);
    receiver.answer(Answer::ok());
    assert_eq!(app.post(&format!("{path}/ack"), json!({ "through": 122 })).await.status, 200);
    app.settle().await;
    app.sweep().await;
    assert_eq!(receiver.received().last().unwrap().message_number(), Some(124), "{}", receiver.transcript());
    assert_eq!(
        receiver.received().last().unwrap().previous_message(),
        None,
        "an acknowledged number may be any"
    );
    assert_eq!(lag(&app, "c").await, 0);
}

async fn directory_watches_one_kind_of_change(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let users = "admin/directory/v1/users";
    let body = |id: &str| json!({ "id": id, "type": "web_hook", "address": receiver.url("/") });
    let answer = app.post(&format!("/{users}/watch?domain=x.example&event=add"), body("c")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for name in ["directory.user.updated", "directory.user.created", "directory.user.deleted"] {
        app.publish(json!({ "resource": users, "name": name, "data": {} })).await;
    }
    app.publish(json!({ "resource": users, "name": "directory.user.changed", "state": "add" })).await;
    app.settle().await;
    let received = receiver.received();
    let states: Vec<_> = received.iter().map(|request| request.state().unwrap()).collect();
    assert_eq!((numbers(&received), states), (vec![1, 3, 5], vec!["sync", "add", "add"]));

    let wrong = app.post(&format!("/{users}/watch?event=explode"), body("d")).await;
    assert_eq!((wrong.status, wrong.reason()), (400, "invalid".into()), "{wrong:?}");
    let detail = &wrong.json()["error"]["errors"][0];
    assert_eq!((&detail["locationType"], &detail["location"]), (&json!("parameter"), &json!("event")));
    // Elsewhere the parameter means nothing.
    assert_eq!(app.post(&format!("/{CALENDAR}/watch?event=explode"), body("e")).await.status, 200);
}

async fn calendar_watches_some_types_of_events(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let body = |id: &str| {
        json!({ "id": id, "type": "web_hook", "address": receiver.url("/"),
                                       "params": { "catchUp": "all" } })
    };
    let query = "eventTypes=focusTime&eventTypes=default";
    let answer = app.post(&format!("/{CALENDAR}/watch?{query}"), body("c")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let event = |data: Value| json!({ "resource": CALENDAR, "name": "calendar.event.updated", "data": data });
    let events = json!([
        event(json!({ "eventType": "birthday" })),
        event(json!({ "eventType": "focusTime" })),
        event(json!({ "eventType": "outOfOffice" })),
        event(json!({ "id": "7" })),
        json!({ "resource": CALENDAR, "name": "calendar.event.updated" }),
    ]);
    app.publish(json!({ "events": events })).await;
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1, 3, 5, 6], "{}", receiver.transcript());

    let wrong = app.post(&format!("/{CALENDAR}/watch?eventTypes=party"), body("d")).await;
    assert_eq!((wrong.status, wrong.reason()), (400, "invalid".into()), "{wrong:?}");

    // Of equal name and state, but not of a wanted type: no run goes over it.
    let thin = Receiver::start().await;
    thin.answer(Answer::status(503));
    let latest = json!({ "id": "x", "type": "web_hook", "address": thin.url("/") });
    assert_eq!(app.post(&format!("/{CALENDAR}/watch?eventTypes=default"), latest).await.status, 200);
    app.settle().await;
    let kinds = ["default", "default", "birthday", "default", "birthday"];
    let events: Vec<Value> = kinds.iter().map(|kind| event(json!({ "eventType": kind }))).collect();
    app.publish(json!({ "events": events })).await;
    thin.answer(Answer::ok());
    app.advance_to(app.next_attempt_at("x").await).await;
    assert_eq!(numbers(&thin.received()), [1, 1, 3, 5], "{}", thin.transcript());
    assert_eq!(lag(&app, "x").await, 0);
}
