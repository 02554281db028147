//! The change feed, and who may read and watch what.

use serde_json::{Value, json};

use crate::{
    app::{CALENDAR, PROJECT, SCOPES, SUBJECT, TestApp, numbers},
    base::Kind,
    support::receiver::{Receiver, in_time},
};

on_both!(
    pages_follow_each_other,
    a_waiting_reader_is_answered_by_a_publish,
    a_feed_shows_the_bytes_that_were_published,
    tokens_are_of_one_resource_and_projects_are_apart,
    patterns_limit_watch_and_feed,
);

const RESOURCE: &str = "orders/17";

fn seqs(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()).collect()
}

async fn pages_follow_each_other(kind: Kind) {
    let app = TestApp::start(kind).await;
    let empty = app.get(&format!("/v1/events?resource={RESOURCE}")).await.json();
    assert_eq!((seqs(&empty), &empty["hasMore"]), (vec![], &json!(false)));
    app.publish_many(RESOURCE, "order.changed", 25).await;
    let mut token = empty["nextSyncToken"].as_str().unwrap().to_owned();
    for (expected, more) in [(1..11, true), (11..21, true), (21..26, false), (26..26, false)] {
        let page =
            app.get(&format!("/v1/events?resource={RESOURCE}&limit=10&syncToken={token}")).await.json();
        assert_eq!(seqs(&page), expected.collect::<Vec<_>>());
        assert_eq!(page["hasMore"], more);
        page["nextSyncToken"].as_str().unwrap().clone_into(&mut token);
    }
    app.publish_many(RESOURCE, "order.changed", 1).await;
    let page = app.get(&format!("/v1/events?resource={RESOURCE}&syncToken={token}")).await.json();
    assert_eq!(seqs(&page), [26]);
    let page = app.get(&format!("/v1/events?resource={RESOURCE}&after=24")).await.json();
    assert_eq!(seqs(&page), [25, 26]);
}

async fn a_waiting_reader_is_answered_by_a_publish(kind: Kind) {
    let app = TestApp::start(kind).await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    let path = format!("/v1/events?resource={RESOURCE}&after=1&wait=25s");
    let reading = app.get(&path);
    let publishing = async {
        // Another resource's events wake nobody for good.
        for _ in 0..5 {
            app.publish_many("orders/18", "order.changed", 1).await;
        }
        app.publish_many(RESOURCE, "order.changed", 1).await;
    };
    let (page, ()) = in_time("the reader", Box::pin(async { tokio::join!(reading, publishing) })).await;
    assert_eq!(seqs(&page.json()), [2]);
}

async fn a_feed_shows_the_bytes_that_were_published(kind: Kind) {
    let app = TestApp::start(kind).await;
    let data = r#"{ "b":1, "a" : [ 1.50, 12345678901234567890 ] }"#;
    let body = format!(r#"{{"resource":"{RESOURCE}","name":"order.created","data":{data}}}"#);
    let token = app.token(PROJECT, SUBJECT, SCOPES);
    let answer = app.send("POST", "/v1/events", &token, "application/json", body.into_bytes()).await;
    let path = format!("/v1/events?resource={RESOURCE}&name=order.scanned");
    app.send("POST", &path, &token, "application/json", b"not json".to_vec()).await;
    let page = app.get(&format!("/v1/events?resource={RESOURCE}")).await;
    assert!(String::from_utf8_lossy(&page.body).contains(data), "{page:?}");
    let items = &page.json()["items"];
    assert_eq!(items[0]["id"], answer.json()["events"][0]["id"]);
    assert_eq!((&items[0]["state"], &items[0]["resource"]), (&json!("exists"), &json!(RESOURCE)));
    assert_eq!(items[1]["dataBase64"], "bm90IGpzb24=");
}

async fn tokens_are_of_one_resource_and_projects_are_apart(kind: Kind) {
    let app = TestApp::start(kind).await;
    app.publish_many(RESOURCE, "order.changed", 2).await;
    app.publish_many("orders/18", "order.changed", 2).await;
    let page = app.get(&format!("/v1/events?resource={RESOURCE}")).await.json();
    let token = page["nextSyncToken"].as_str().unwrap();
    let answer = app.get(&format!("/v1/events?resource=orders/18&syncToken={token}")).await;
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("syncToken")));
    assert_eq!(app.get(&format!("/v1/events?resource={RESOURCE}&syncToken=junk")).await.status, 400);

    let foreign = app.token("else", SUBJECT, SCOPES);
    let there = app.call("GET", &format!("/v1/events?resource={RESOURCE}"), &foreign, None).await;
    let nowhere = app.call("GET", "/v1/events?resource=orders/none", &foreign, None).await;
    assert_eq!(seqs(&there.json()), Vec::<i64>::new());
    assert_eq!(there.status, nowhere.status);
    let publisher = app.token(PROJECT, SUBJECT, "events");
    let refused = app.call("GET", &format!("/v1/events?resource={RESOURCE}"), &publisher, None).await;
    assert_eq!(refused.status, 403);
    assert_eq!(app.call("GET", &format!("/v1/events?resource={RESOURCE}"), "x", None).await.status, 401);
}

async fn patterns_limit_watch_and_feed(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let token =
        app.token_for(PROJECT, SUBJECT, "channels", &["calendar/v3/calendars/{subject}/**", "open/*"]);
    let own = "calendar/v3/calendars/liz@example.com/events";
    let cases = [
        (CALENDAR, true),
        (own, true),
        ("calendar/v3/calendars/liz%40example.com/acl", true),
        ("calendar/v3/calendars/tom@example.com/events", false),
        ("calendar/v3/calendars/liz@example.com", true),
        ("open/1", true),
        ("open/1/2", false),
        ("orders/17", false),
        ("calendar/v3/calendars", false),
    ];
    for (at, (resource, allowed)) in cases.into_iter().enumerate() {
        let body = json!({ "id": format!("g{at}"), "type": "web_hook", "address": receiver.url("/") });
        let watch = app.call("POST", &format!("/{resource}/watch"), &token, Some(body)).await;
        let opening = json!({ "id": format!("n{at}"), "resource": resource, "address": receiver.url("/") });
        let open = app.call("POST", "/v1/channels", &token, Some(opening)).await;
        let feed = app.call("GET", &format!("/v1/events?resource={resource}"), &token, None).await;
        let expected = if allowed { (200, 201, 200) } else { (403, 403, 403) };
        assert_eq!((watch.status, open.status, feed.status), expected, "{resource}: {watch:?}");
    }
    // `primary` is the subject's own calendar, on watch and on publish alike.
    app.settle().await;
    let before = receiver.received().len();
    app.publish(json!({ "resource": own, "name": "calendar.event.updated" })).await;
    app.settle().await;
    let told = receiver.received().split_off(before);
    assert_eq!(numbers(&told), [2, 2, 2, 2], "both faces' channels on both spellings");
}
