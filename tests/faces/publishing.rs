//! What a publisher can hold on to: an id or a key makes a publish safe to repeat, and data stays as it was written.

use crate::{
    server::TestServer,
    support::receiver::{Received, Receiver},
};

async fn an_id_or_a_key_makes_a_publish_repeatable(server: TestServer) {
    let token = server.token("p", "s", "events");
    let stranger = server.token("q", "s", "events");
    let publish = |body: &str| server.ask("POST", "/v1/events").token(&token).body(body.to_owned()).send();
    let keyed = |key: &str, body: &str| {
        server
            .ask("POST", "/v1/events")
            .token(&token)
            .header("Idempotency-Key", key)
            .body(body.to_owned())
            .send()
    };
    let one = r#"{"id":"e1","resource":"a/b","name":"a.b","data":{"n":1}}"#;
    let first = publish(one).await;
    assert_eq!((first.status, &first.json()["events"][0]["seq"]), (200, &1.into()), "{}", first.text());
    let stored = server.stored().await;
    for same in [
        one.to_owned(),
        one.replace("\"name\"", " \"state\" : \"exists\",\n\"changed\":\"\",\"contentType\":null, \"name\""),
        format!("{{\"events\":[{one}]}}"),
    ] {
        let again = publish(&same).await;
        assert_eq!((again.status, again.text()), (200, first.text()), "{same}");
    }
    assert_eq!(server.stored().await, stored);
    for (from, to) in [
        ("{\"n\":1}", "{\"n\":1.0}"),
        ("{\"n\":1}", "{\"n\": 1}"),
        ("{\"n\":1}", "null"),
        ("a.b", "a.c"),
        ("a/b", "a/c"),
        ("\"name\"", "\"state\":\"not_exists\",\"name\""),
        ("\"name\"", "\"changed\":\"content\",\"name\""),
        ("\"name\"", "\"contentType\":\"application/json; charset=utf-8\",\"name\""),
    ] {
        let other = one.replace(from, to);
        let answer = publish(&other).await;
        assert_eq!(answer.problem(), (409, "eventIdConflict".into(), Some("id".into())), "{other}");
        let batch = format!("{{\"events\":[{{\"resource\":\"z\",\"name\":\"a.b\"}},{other}]}}");
        let answer = publish(&batch).await;
        assert_eq!(answer.problem(), (409, "eventIdConflict".into(), Some("events[1].id".into())), "{other}");
    }
    // The same id twice in one batch: the same content is one event, other content a conflict.
    let twice = publish(&format!("{{\"events\":[{one},{}]}}", one.replace("\"n\":1", "\"n\":2"))).await;
    assert_eq!(twice.problem(), (409, "eventIdConflict".into(), Some("events[1].id".into())));
    let new = one.replace("e1", "e2");
    let twice = publish(&format!("{{\"events\":[{new},{}]}}", new.replace("\"n\":1", "\"n\":2"))).await;
    assert_eq!(twice.problem(), (409, "eventIdConflict".into(), Some("events[1].id".into())));
    assert_eq!(server.stored().await, stored, "a refused batch leaves nothing");
    // Ids are of a project.
    let elsewhere =
        server.ask("POST", "/v1/events").token(&stranger).body(one.replace(":1}", ":2}")).send().await;
    assert_eq!(elsewhere.status, 200);

    let plain = r#"{"resource":"a/b","name":"a.b"}"#;
    let first = keyed("key 1", plain).await;
    let stored = server.stored().await;
    assert_eq!(first.status, 200);
    assert_eq!(keyed("key 1", plain).await.text(), first.text());
    let answer = keyed("key 1", &plain.replace("a.b", "a.c")).await;
    assert_eq!(answer.problem(), (409, "idempotencyKeyConflict".into(), Some("Idempotency-Key".into())));
    assert_eq!(server.stored().await, stored);
    assert_ne!(keyed("key 2", plain).await.text(), first.text());
    // A refused request does not use its key up.
    assert_eq!(keyed("key 3", &plain.replace("a.b", "a")).await.status, 400);
    assert_eq!(keyed("key 3", plain).await.status, 200);
    // A raw publish has both as well.
    let raw = |query: &str, body: &str| {
        let ask = server.ask("POST", &format!("/v1/events?resource=r&name=a.b{query}"));
        ask.token(&token).header("Content-Type", "text/plain").body(body.to_owned()).send()
    };
    let first = raw("&id=r1", "x").await;
    assert_eq!((first.status, raw("&id=r1", "x").await.text()), (200, first.text()));
    assert_eq!(raw("&id=r1", "y").await.problem(), (409, "eventIdConflict".into(), Some("id".into())));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_or_a_key_makes_a_publish_repeatable_sqlite() {
    an_id_or_a_key_makes_a_publish_repeatable(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_or_a_key_makes_a_publish_repeatable_postgres() {
    an_id_or_a_key_makes_a_publish_repeatable(TestServer::postgres().await).await;
}

/// JSON that a reader and writer of values would change.
fn curious() -> Vec<String> {
    let mut data: Vec<String> = [
        "1.0",
        "1e400",
        "-0",
        "-0.0",
        "1E+2",
        "9007199254740993",
        "123456789012345678901234567890",
        "0.1000",
        "true",
        "\"\"",
        r#""\u00e9é\ud83d\ude00\/\u0000\n""#,
        r#""\ud800""#,
        r#"{"a":1,"a":2,"":{}}"#,
        "{ \"z\" : 1 ,\n\t\"a\" : [ ] }",
        "[[],{},null,[null]]",
        "{\"b\":1,\"a\":\"\u{2028}\u{feff}\"}",
        r#"{"$serde_json::private::RawValue":"1"}"#,
        r#"{"$serde_json::private::Number":"1"}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    data.push(crate::wrong::deep(50_000));
    data
}

async fn data_stays_byte_for_byte(server: TestServer) {
    let receiver = Receiver::start().await;
    let token = server.token("p", "s", "channels events");
    for format in ["standard", "raw"] {
        let body = format!(
            r#"{{"id":"{format}","resource":"a/b","address":"{}","format":"{format}"}}"#,
            receiver.url("/hook")
        );
        let answer = server.ask("POST", "/v1/channels").token(&token).body(body).send().await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let curious = curious();
    for data in &curious {
        let body = format!("{{\"data\": {data} ,\"resource\":\"a/b\",\"name\":\"a.b\"}}");
        let answer = server.ask("POST", "/v1/events").token(&token).body(body).send().await;
        assert_eq!(answer.status, 200, "{data:.80}: {}", answer.text());
    }
    let feed = server.ask("GET", "/v1/events?resource=a/b").token(&token).send().await;
    let mut rest = feed.text();
    for data in &curious {
        let wanted = format!("\"contentType\":\"application/json\",\"data\":{data}}}");
        let at = rest.find(&wanted).unwrap_or_else(|| panic!("{data:.80} in {rest:.500}"));
        rest = &rest[at + wanted.len()..];
    }
    // Both channels: the sync and every event.
    let received = receiver.wait_for(2 * (curious.len() + 1)).await;
    for (at, data) in curious.iter().enumerate() {
        let seq = u64::try_from(at + 1).unwrap();
        let mut bodies: Vec<&str> = received
            .iter()
            .filter(|request| request.sequence() == Some(seq) && request.event() == Some("a.b"))
            .map(Received::text)
            .collect();
        bodies.sort_by_key(|body| body.len());
        assert_eq!(bodies.len(), 2, "{data:.80}\n{}", receiver.transcript());
        assert_eq!(bodies[0], data, "raw");
        let envelope = bodies[1].strip_prefix("{\"type\":\"a.b\",\"timestamp\":\"").unwrap();
        assert!(envelope.ends_with(&format!("Z\",\"data\":{data}}}")), "{data:.80} in {:.300}", bodies[1]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_stays_byte_for_byte_sqlite() {
    data_stays_byte_for_byte(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_stays_byte_for_byte_postgres() {
    data_stays_byte_for_byte(TestServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_come_back_in_base64() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let receiver = Receiver::start().await;
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels events");
    let body = format!(r#"{{"resource":"a","address":"{}","format":"raw"}}"#, receiver.url("/hook"));
    assert_eq!(server.ask("POST", "/v1/channels").token(&token).body(body).send().await.status, 201);
    let every_byte: Vec<u8> = (0..=255).collect();
    let cases =
        [("image/png", every_byte.as_slice()), ("application/json", b"{not json"), ("text/plain", b" x\n")];
    for (media, bytes) in cases {
        let ask = server.ask("POST", "/v1/events?resource=a&name=a.b").token(&token);
        assert_eq!(ask.header("Content-Type", media).body(bytes).send().await.status, 200);
    }
    let encoded = format!(
        r#"{{"resource":"a","name":"a.b","dataBase64":"{}","contentType":"image/png"}}"#,
        BASE64_STANDARD.encode(&every_byte)
    );
    assert_eq!(server.ask("POST", "/v1/events").token(&token).body(encoded).send().await.status, 200);
    let feed = server.ask("GET", "/v1/events?resource=a").token(&token).send().await.json();
    let received = receiver.wait_for(5).await;
    for (at, (media, bytes)) in cases.into_iter().chain([cases[0]]).enumerate() {
        let item = &feed["items"][at];
        assert_eq!((&item["contentType"], &item["data"]), (&media.into(), &serde_json::Value::Null));
        assert_eq!(item["dataBase64"], BASE64_STANDARD.encode(bytes));
        assert_eq!(
            (received[at + 1].header("content-type"), received[at + 1].body.as_slice()),
            (Some(media), bytes)
        );
    }
    server.stop().await;
}
