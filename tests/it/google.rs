//! The Google face's promises to a receiver: sync first, then every event in order, in Google's own words.

use serde_json::{Value, json};

use crate::{
    app::{API, CALENDAR, TestApp, numbers, seconds},
    base::Kind,
    support::receiver::{Answer, Receiver},
};

on_both!(
    sync_comes_first_and_every_event_in_order,
    the_headers_are_googles_and_ours,
    nothing_is_sent_that_was_not_given,
    each_api_has_its_words_and_bodies,
    a_credential_in_the_query_is_not_passed_on,
    the_sync_does_not_wait_for_the_answer_to_watch,
);

async fn sync_comes_first_and_every_event_in_order(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    app.publish_many(CALENDAR, "calendar.event.updated", 3).await;
    app.watch(CALENDAR, json!({ "id": "c", "type": "web_hook", "address": receiver.url("/hook?x=1") })).await;
    app.settle().await;
    let sync = receiver.received();
    assert_eq!(sync.len(), 1, "what came before the watch is not told: {}", receiver.transcript());
    assert_eq!((sync[0].state(), sync[0].message_number()), (Some("sync"), Some(1)));
    assert_eq!((sync[0].method.as_str(), sync[0].path.as_str()), ("POST", "/hook?x=1"));

    for state in ["exists", "not_exists"] {
        let event = json!({ "resource": CALENDAR, "name": "calendar.event.updated", "state": state });
        app.publish(event).await;
    }
    app.publish_many(CALENDAR, "calendar.event.updated", 10).await;
    app.settle().await;
    let received = receiver.received();
    assert!(numbers(&received).is_sorted(), "{}", receiver.transcript());
    assert_eq!(received[1].state(), Some("exists"));
    assert_eq!(received[2].state(), Some("not_exists"));
    assert_eq!(received[2].previous_message(), Some(2));
    // Plain Calendar channels are thin: what waits together may have become its newest.
    assert_eq!(received.last().unwrap().message_number(), Some(13));
    assert_eq!(receiver.max_in_flight("c"), 1);
}

async fn the_headers_are_googles_and_ours(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let expiration = app.now().as_millis() + 3_600_000;
    let channel = app
        .watch(
            CALENDAR,
            json!({ "id": "c-1", "type": "web_hook", "address": receiver.url("/"), "token": "t=1&x",
                    "expiration": expiration }),
        )
        .await;
    let event = json!({ "resource": CALENDAR, "name": "calendar.event.updated", "id": "order:1",
                        "changed": ["content", "parents"] });
    let placed = app.publish(event).await;
    app.settle().await;
    let [sync, change] = &*receiver.received() else { panic!("{}", receiver.transcript()) };

    let resource_id = channel["resourceId"].as_str().unwrap();
    assert_eq!(placed[0]["resourceId"], resource_id);
    assert_eq!(resource_id.len(), 27);
    let uid = app.channel("c-1").await["uid"].as_str().unwrap().to_owned();
    let always = |number: u64| {
        vec![
            ("content-length", "0".to_owned()),
            ("x-goog-channel-id", "c-1".to_owned()),
            ("x-goog-channel-token", "t=1&x".to_owned()),
            ("x-goog-channel-expiration", "Mon, 01 Mar 2027 09:00:00 GMT".to_owned()),
            ("x-goog-message-number", number.to_string()),
            ("x-goog-resource-id", resource_id.to_owned()),
            ("x-goog-resource-uri", format!("{API}/{CALENDAR}")),
            ("webhook-id", format!("msg_{uid}_{number}")),
            ("watchpost-message", number.to_string()),
            ("watchpost-attempt", "1".to_owned()),
        ]
    };
    let mut of_sync = always(1);
    of_sync.extend([
        ("x-goog-resource-state", "sync".to_owned()),
        ("watchpost-event", "watchpost.channel.sync".to_owned()),
        ("watchpost-sequence", "0".to_owned()),
    ]);
    let mut of_change = always(2);
    of_change.extend([
        ("x-goog-resource-state", "exists".to_owned()),
        ("x-goog-changed", "content,parents".to_owned()),
        ("watchpost-event", "calendar.event.updated".to_owned()),
        ("watchpost-event-id", "order:1".to_owned()),
        ("watchpost-sequence", "1".to_owned()),
        ("watchpost-previous-message", "1".to_owned()),
    ]);
    for (request, mut expected) in [(sync, of_sync), (change, of_change)] {
        let ours = ["host", "accept", "user-agent"];
        let mut sent: Vec<(&str, String)> = request
            .headers
            .iter()
            .filter(|(name, _)| !ours.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        sent.sort();
        expected.sort();
        assert_eq!(sent, expected, "exactly these headers");
        assert_eq!(request.body, b"");
        assert!(request.header("user-agent").unwrap().starts_with("watchpost/"));
    }
}

async fn nothing_is_sent_that_was_not_given(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let body = json!({ "id": "c", "type": "webhook", "address": receiver.url("/"), "token": null,
                       "kind": "api#channel", "resourceId": "pasted", "unknown": 1 });
    let channel = app.watch(CALENDAR, body).await;
    assert_eq!(channel["kind"], "api#channel");
    let expiration: i64 = channel["expiration"].as_str().unwrap().parse().unwrap();
    assert_eq!(expiration, app.now().plus(seconds(7 * 86_400)).as_millis(), "the default is a week");
    let members: Vec<&String> = channel.as_object().unwrap().keys().collect();
    assert_eq!(members, ["kind", "id", "resourceId", "resourceUri", "expiration"], "in Google's order");
    app.settle().await;
    let sync = &receiver.received()[0];
    assert_eq!(sync.token(), None);
    for unwanted in ["webhook-timestamp", "webhook-signature", "x-goog-changed", "content-type"] {
        assert_eq!(sync.header(unwanted), None, "{unwanted}");
    }
}

async fn a_credential_in_the_query_is_not_passed_on(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let token = app.token(crate::app::PROJECT, crate::app::SUBJECT, "channels");
    for (at, name) in ["access_token", "access%5Ftoken", "%6Bey", "oauth%5ftoken"].into_iter().enumerate() {
        let body = json!({ "id": format!("c{at}"), "type": "web_hook", "address": receiver.url("/") });
        let target = format!("/drive/v3/changes/watch?{name}={token}&pageToken=7");
        let answer = app.call("POST", &target, &token, Some(body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["resourceUri"], format!("{API}/drive/v3/changes?pageToken=7"), "{name}");
    }
}

async fn each_api_has_its_words_and_bodies(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    let user = json!({ "kind": "admin#directory#user", "id": "7" });
    let reports = "admin/reports/v1/activity/users/all/applications/admin";
    let cases = [
        (CALENDAR, "", "calendar.event.updated", "exists", false),
        ("calendar/v3/users/me/calendarList", "", "calendar.list.updated", "exists", false),
        ("drive/v3/changes", "?pageToken=7", "drive.change.made", "change", false),
        ("drive/v3/files/F1", "?supportsAllDrives=true", "drive.file.trashed", "trash", false),
        ("drive/v3/files/F2", "", "drive.file.renamed", "update", false),
        ("admin/directory/v1/users", "?customer=c", "directory.user.makeAdmin", "makeAdmin", true),
        (reports, "", "admin.activity.CREATE_USER", "CREATE_USER", true),
    ];
    for (at, (resource, query, name, state, with_body)) in cases.into_iter().enumerate() {
        let id = format!("c{at}");
        let body = json!({ "id": id, "type": "web_hook", "address": receiver.url("/") });
        let answer = app.post(&format!("/{resource}/watch{query}"), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["resourceUri"], format!("{API}/{resource}{query}"));
        app.publish(json!({ "resource": resource, "name": name, "data": user })).await;
        app.settle().await;
        let received = receiver.received_by(&id);
        let [sync, change] = &*received else { panic!("{}", receiver.transcript()) };
        assert_eq!((sync.state(), sync.body.as_slice()), (Some("sync"), &b""[..]), "{resource}");
        assert_eq!(change.state(), Some(state), "{resource}");
        if with_body {
            assert_eq!(change.json(), user, "{resource}");
            assert_eq!(change.header("content-type"), Some("application/json"));
            assert_eq!(change.header("content-length"), Some(change.body.len().to_string().as_str()));
        } else {
            assert_eq!(change.body, b"", "{resource} is thin");
            assert_eq!(change.header("content-length"), Some("0"));
        }
    }
    let body = json!({ "id": "c", "type": "web_hook", "address": receiver.url("/") });
    let answer = app.post("/drive/v3/changes/watch", body).await;
    assert_eq!((answer.status, answer.reason()), (400, "required".into()), "{answer:?}");
}

/// The receiver hears of its channel although the answer to its watch is still on its way: a client has to know
/// the channel before it calls.
async fn the_sync_does_not_wait_for_the_answer_to_watch(kind: Kind) {
    let app = TestApp::start(kind).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Hang);
    let body = json!({ "id": "c", "type": "web_hook", "address": receiver.url("/") });
    let answer: Value = app.watch(CALENDAR, body).await;
    assert_eq!(answer["id"], "c", "and the answer does not wait for the receiver");
    receiver.wait_for(1).await;
    receiver.release();
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), [1]);
}
