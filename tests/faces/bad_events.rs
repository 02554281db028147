//! Every field of `POST /v1/events` – one event, a batch, a raw body – wrong in every way. A batch is atomic.

use crate::{
    server::TestServer,
    wrong::{Body, Table, Wrong, deep, long, no_objects},
};

const TYPE: &str = "fieldType";
const INVALID: &str = "fieldInvalid";
const LONG: &str = "fieldTooLong";

fn good() -> Body {
    Body::of(&[("resource", "\"a/b\""), ("name", "\"a.b\"")])
}

fn fields() -> Vec<Wrong> {
    let mut table = Table::default();
    table.text("id", TYPE, INVALID, (128, LONG)).wrong(
        "id",
        INVALID,
        &["\"\"", "\"é\"", "\" a\"", "\"evt_1\""],
    );
    table.text("resource", TYPE, INVALID, (1_024, LONG));
    table.wrong("resource", INVALID, &["\"\"", "\"/a\"", "\"a/\"", "\"a//b\"", "\"a/../b\"", "\"a?b\""]);
    table.wrong("resource", INVALID, &["\"a/watch\"", "\"a/%\"", "\"a/%ff\"", "\"%00\"", "\"watchpost/x\""]);
    table.text("name", TYPE, INVALID, (128, LONG));
    table.wrong(
        "name",
        INVALID,
        &["\"\"", "\"a\"", "\"a.\"", "\"é.é\"", "\"a.b c\"", "\"1.2.3.4.5.6.7.8.9\""],
    );
    table.text("state", TYPE, INVALID, (64, LONG));
    table.wrong("state", INVALID, &["\"\"", "\"é\"", "\"a b\"", "\"sync\""]);
    table.wrong("changed", TYPE, &["1", "true", "{}", "[1]", "[null]", "[[]]", &deep(1_000)]);
    table.wrong("changed", INVALID, &[r#""a\nb""#, r#"["a\u0000b"]"#, "\"é\"", r#""\u007f""#, "\" a\""]);
    table.wrong("changed", LONG, &[&long(257), &format!("[{},{}]", long(128), long(128))]);
    table.wrong("data", LONG, &[&long(256 * 1_024)]);
    table.wrong("dataBase64", TYPE, &["1", "true", "[]", "{}", "\"a\"", "\"YQ\"", "\"é\"", r#""YQ==\n""#]);
    table.wrong("dataBase64", TYPE, &["\"__8=\"", r#""\u0000""#]);
    table.wrong("dataBase64", LONG, &[&format!("\"{}\"", "AAAA".repeat(256 * 1_024 / 3 + 1))]);
    table.wrong("contentType", INVALID, &["\"text/plain\""]);
    table.wrong("contentType", TYPE, &["1", "true", "[]", "{}"]);
    for wrong in ["1", "true", "\"a/b\"", "{}"] {
        table.wrong("resources", TYPE, &[wrong]);
    }
    table.wrong("evnts", INVALID, &["1", "null"]);
    table.0
}

/// What two fields together make wrong: the pair's second is the one named.
fn pairs() -> Vec<(Body, &'static str, &'static str)> {
    let typed = |value: &str| good().with("dataBase64", "\"YQ==\"").with("contentType", value);
    let several = |value: &str| good().without("resource").with("resources", value);
    let nine: Vec<_> = (0..9).map(|at| format!("\"a/{at}\"")).collect();
    vec![
        (good().with("data", "1").with("dataBase64", "\"YQ==\""), "dataBase64", INVALID),
        (good().with("resources", "[\"a/c\"]"), "resources", INVALID),
        (good().with("data", "1").with("contentType", "\"text/plain\""), "contentType", INVALID),
        (typed("\"\""), "contentType", INVALID),
        (typed("\"text\""), "contentType", INVALID),
        (typed("\"text/é\""), "contentType", INVALID),
        (typed("\"text/a\\nb\""), "contentType", INVALID),
        (typed(&long(129)), "contentType", LONG),
        (several("[]"), "resources", INVALID),
        (several("[1]"), "resources[0]", TYPE),
        (several("[\"a\",null]"), "resources[1]", TYPE),
        (several("[\"a\",\"a//b\"]"), "resources[1]", INVALID),
        (several("[\"a\",\"%61\"]"), "resources[1]", INVALID),
        (several("[\"a\",\"watchpost/channels\"]"), "resources[1]", INVALID),
        (several(&format!("[{}]", nine.join(","))), "resources", LONG),
        (good().without("resource"), "resource", "fieldMissing"),
        (good().with("resource", "null"), "resource", "fieldMissing"),
        (good().without("name"), "name", "fieldMissing"),
        (good().with("name", "null"), "name", "fieldMissing"),
        (good().twice("name", "\"a.b\""), "name", INVALID),
    ]
}

async fn refused(server: &TestServer, token: &str, body: &str, expected: (&str, &str)) {
    let answer = server.ask("POST", "/v1/events").token(token).body(body).send().await;
    let (status, code, field) = answer.problem();
    let wanted = (400, expected.0, Some(expected.1));
    assert_eq!((status, code.as_str(), field.as_deref()), wanted, "{body:.200}: {}", answer.text());
}

async fn nothing_is_published_with_a_wrong_value(server: TestServer) {
    let token = server.token("p", "s", "events");
    let empty = server.stored().await;
    let cases = fields().into_iter().map(|case| {
        let body = good().with(case.field, &case.value);
        // Which of two wrong fields is named first is settled: what stands beside a missing one.
        (if case.field == "resources" { body.without("resource") } else { body }, case.named, case.code)
    });
    let pairs = pairs().into_iter().map(|(body, field, code)| (body, field.to_owned(), code));
    for (body, field, code) in cases.chain(pairs) {
        let body = body.text();
        refused(&server, &token, &body, (code, &field)).await;
        let batch = format!("{{\"events\":[{0},{0},{body}]}}", good().text());
        refused(&server, &token, &batch, (code, &format!("events[2].{field}"))).await;
        assert_eq!(server.stored().await, empty, "{body:.200}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_with_a_wrong_value_sqlite() {
    nothing_is_published_with_a_wrong_value(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_with_a_wrong_value_postgres() {
    nothing_is_published_with_a_wrong_value(TestServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_a_list_of_objects_within_bounds() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "events");
    let empty = server.stored().await;
    let one = good().text();
    let many = |count: usize| format!("{{\"events\":[{}]}}", vec![one.as_str(); count].join(","));
    let cases = [
        ("{\"events\":1}".to_owned(), TYPE, "events"),
        ("{\"events\":\"a\"}".to_owned(), TYPE, "events"),
        ("{\"events\":{}}".to_owned(), TYPE, "events"),
        ("{\"events\":[]}".to_owned(), INVALID, "events"),
        ("{\"events\":null}".to_owned(), "fieldMissing", "resource"),
        ("{}".to_owned(), "fieldMissing", "resource"),
        (format!("{{\"events\":[{one},1]}}"), TYPE, "events[1]"),
        (format!("{{\"events\":[{one},null]}}"), TYPE, "events[1]"),
        (format!("{{\"events\":[{one},[]]}}"), TYPE, "events[1]"),
        (format!("{{\"events\":[{one},\"a\"]}}"), TYPE, "events[1]"),
        (format!("{{\"events\":[{one}],\"name\":\"a.b\"}}"), INVALID, "name"),
        (format!("{{\"events\":[{one}],\"events\":[{one}]}}"), INVALID, "events"),
        (format!("{{\"events\":[{one},{}]}}", good().twice("id", "\"a\"").text()), INVALID, "events[1].id"),
        (many(1_001), LONG, "events"),
    ];
    for (body, code, field) in cases {
        refused(&server, &token, &body, (code, field)).await;
    }
    for body in no_objects().into_iter().chain([Vec::new()]) {
        let answer = server.ask("POST", "/v1/events").token(&token).body(body.clone()).send().await;
        let shown = String::from_utf8_lossy(&body);
        assert_eq!(answer.problem(), (400, "bodyNotJson".into(), None), "{shown:.80}");
    }
    let large = good().with("data", &long(4 * 1_024 * 1_024)).text();
    let answer = server.ask("POST", "/v1/events").token(&token).body(large).send().await;
    assert_eq!(answer.problem(), (413, "bodyTooLarge".into(), None));
    // Half a million names must not cost the square of it.
    let names: Vec<_> = (0..400_000).map(|at| format!("\"{at:x}\":1")).collect();
    refused(&server, &token, &format!("{{{}}}", names.join(",")), ("fieldMissing", "resource")).await;
    assert_eq!(server.stored().await, empty);
    let answer = server.ask("POST", "/v1/events").token(&token).body(many(1_000)).send().await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_publish_names_its_parameters() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "events");
    let empty = server.stored().await;
    let long = "a".repeat(2_000);
    let cases = [
        ("name=a.b".to_owned(), "fieldMissing", "resource"),
        ("resource=&name=a.b".to_owned(), "fieldMissing", "resource"),
        ("resource=a".to_owned(), "fieldMissing", "name"),
        ("id=x".to_owned(), "fieldMissing", "resource"),
        ("resource=a&name=a".to_owned(), INVALID, "name"),
        ("resource=a&name=a.b%0A".to_owned(), INVALID, "name"),
        ("resource=a&name=a.%C3%A9".to_owned(), INVALID, "name"),
        ("resource=/a&name=a.b".to_owned(), INVALID, "resource"),
        ("resource=a%00&name=a.b".to_owned(), INVALID, "resource"),
        ("resource=a%ff&name=a.b".to_owned(), INVALID, "resource"),
        ("resource=watchpost/x&name=a.b".to_owned(), INVALID, "resource"),
        (format!("resource={long}&name=a.b"), LONG, "resource"),
        (format!("resource=a&name=a.{long}"), LONG, "name"),
        (format!("resource=a&name=a.b&id={long}"), LONG, "id"),
        ("resource=a&name=a.b&id=%0D".to_owned(), INVALID, "id"),
        ("resource=a&name=a.b&state=a%20b".to_owned(), INVALID, "state"),
        ("resource=a&name=a.b&state=sync".to_owned(), INVALID, "state"),
        (format!("resource=a&name=a.b&changed={long}"), LONG, "changed"),
        ("resource=a&name=a.b&changed=%00".to_owned(), INVALID, "changed"),
        ("resource=a&resource=b&name=a.b".to_owned(), INVALID, "resource"),
        ("resource=a&name=a.b&nmae=x".to_owned(), INVALID, "nmae"),
        ("nmae=x".to_owned(), INVALID, "nmae"),
    ];
    for (query, code, field) in cases {
        let answer = server.ask("POST", &format!("/v1/events?{query}")).token(&token).body("x").send().await;
        assert_eq!(answer.problem(), (400, code.into(), Some(field.into())), "{query:.80}");
    }
    let raw = || server.ask("POST", "/v1/events?resource=a&name=a.b").token(&token);
    for (media, code, field) in [
        (&b"text"[..], INVALID, "contentType"),
        ("text/é".as_bytes(), INVALID, "Content-Type"),
        ("a/".repeat(100).as_bytes(), LONG, "contentType"),
    ] {
        let answer = raw().header("Content-Type", media).body("x").send().await;
        assert_eq!(answer.problem(), (400, code.into(), Some(field.into())), "{media:?}");
    }
    let answer = raw().body(vec![0; 256 * 1_024 + 1]).send().await;
    assert_eq!(answer.problem(), (413, "bodyTooLarge".into(), None));
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_one_clean_header() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "events");
    let empty = server.stored().await;
    let ask = || server.ask("POST", "/v1/events").token(&token).body(good().text());
    let key = |value: &[u8]| ask().header("Idempotency-Key", value);
    for (ask, code) in [
        (key(b""), INVALID),
        (key("é".as_bytes()), INVALID),
        (key(b"\xff"), INVALID),
        (key(b"a\tb"), INVALID),
        (key(&[b'a'; 257]), LONG),
        (key(b"a").header("Idempotency-Key", "a"), INVALID),
    ] {
        assert_eq!(ask.send().await.problem(), (400, code.into(), Some("Idempotency-Key".into())));
    }
    for control in [&b"a\0b"[..], b"a\x7fb", b"a\rb"] {
        assert_eq!(key(control).send().await.status, 400, "{control:?}");
    }
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}
