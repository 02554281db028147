//! Every field of `POST`, `PUT` and `PATCH /v1/channels`, wrong in every way.

use crate::{
    server::TestServer,
    wrong::{Body, Table, Wrong, long, no_objects},
};

const TYPE: &str = "fieldType";
const INVALID: &str = "fieldInvalid";
const LONG: &str = "fieldTooLong";

fn good() -> Body {
    Body::of(&[("resource", "\"a/b\""), ("address", "\"http://127.0.0.1:9/\"")])
}

/// What can be changed as well.
fn changeable() -> Vec<Wrong> {
    let mut table = Table::default();
    let address = "addressNotAllowed";
    table.text("address", TYPE, address, (2_048, address));
    table.wrong("address", address, &["\"\"", "\"é\"", "\"https://é.com/\"", "\"/x\"", "\"https:///\""]);
    table.wrong("address", address, &["\"https://example.com/#x\"", "\"https://exa mple.com/\""]);
    table.wrong("address", address, &["\"https://u:p@example.com/\"", "\"http://example.com/\""]);
    table.wrong("address", address, &["\"https://10.0.0.1/\"", "\"ftp://example.com/\""]);
    table.wrong("address", address, &["\"https://169.254.169.254/\"", "\"https://[::1]/\""]);

    table.text("token", TYPE, INVALID, (256, LONG)).wrong("token", INVALID, &["\"é\"", "\" a\"", "\"a \""]);
    table.wrong(
        "expiresAt",
        TYPE,
        &["1", "true", "[]", "{}", "\"\"", "\"soon\"", "\"2026-13-01T00:00:00Z\""],
    );
    table.wrong("expiresAt", TYPE, &[r#""a\nb""#, r#""\u0000""#, "\"é\"", &long(10_000), "1798761600000"]);
    table.wrong("expiresAt", INVALID, &["\"2020-01-01T00:00:00Z\"", "\"1960-01-01T00:00:00Z\""]);
    table.wrong("ttlSeconds", TYPE, &["true", "[]", "{}", "\"\"", "\"soon\"", "1.5", "\"1.5\"", "1e300"]);
    table.wrong("ttlSeconds", TYPE, &[r#""1\n2""#, r#""\u0000""#, "\"é\"", &"9".repeat(50), "\"NaN\""]);
    table.wrong("ttlSeconds", INVALID, &["0", "-1", "\"0\"", "-9007199254740991"]);
    for word in ["format", "catchUp"] {
        table.text(word, TYPE, TYPE, (10_000, TYPE)).wrong(word, TYPE, &["\"\"", "\"é\"", "\"GOOGLE\""]);
    }
    table.wrong("payload", TYPE, &["1", "0", "\"true\"", "\"\"", "[]", "{}"]);

    table.wrong("headers", TYPE, &["1", "true", "\"\"", "[]"]);
    table.inside("headers", "headers.X", TYPE, &["{\"X\":1}", "{\"X\":null}", "{\"X\":[]}", "{\"X\":{}}"]);
    table.inside("headers", "headers.X", INVALID, &["{\"X\":\"a\",\"X\":\"a\"}"]);
    table.wrong(
        "headers",
        INVALID,
        &["{\"\":\"a\"}", "{\"a b\":\"a\"}", "{\"é\":\"a\"}", "{\"Host\":\"a\"}"],
    );
    table.wrong("headers", INVALID, &[r#"{"X":"a\nb"}"#, r#"{"X":"a\rb"}"#, r#"{"X":"a\u0000b"}"#]);
    table.wrong("headers", INVALID, &[r#"{"X":"a\u007fb"}"#, "{\"X\":\"é\"}", r#"{"a\r\nb":"x"}"#]);
    table.wrong("headers", INVALID, &["{\"X-a\":\"a\",\"x-A\":\"a\"}", "{\"Webhook-Id\":\"a\"}"]);
    let many = |entries: usize| {
        let entries: Vec<_> = (0..entries).map(|at| format!("\"X{at}\":\"a\"")).collect();
        format!("{{{}}}", entries.join(","))
    };
    table.wrong("headers", LONG, &[&many(17), &format!("{{\"X\":{}}}", long(1_025))]);
    table.wrong("headers", LONG, &[&format!("{{{}:\"a\"}}", long(65))]);

    table.wrong("auth", TYPE, &["1", "true", "\"\"", "[]"]);
    table.inside("auth", "auth.type", "fieldMissing", &["{}", r#"{"token":"t"}"#]);
    table.inside("auth", "auth.type", TYPE, &[r#"{"type":"digest"}"#, r#"{"type":1}"#]);
    table.inside("auth", "auth.token", "fieldMissing", &[r#"{"type":"bearer"}"#]);
    table.inside("auth", "auth.token", INVALID, &[r#"{"type":"bearer","token":"a\nb"}"#]);
    table.inside("auth", "auth.token", LONG, &[&format!(r#"{{"type":"bearer","token":{}}}"#, long(1_025))]);

    table.wrong("metadata", TYPE, &["1", "true", "\"\"", "[]"]);
    table.inside("metadata", "metadata.a", TYPE, &["{\"a\":1}", "{\"a\":null}", "{\"a\":[]}"]);
    table.inside("metadata", "metadata.a", INVALID, &["{\"a\":\"\",\"a\":\"\"}"]);
    table.wrong("metadata", INVALID, &[r#"{"a":"a\nb"}"#, r#"{"a":"\u0000"}"#, r#"{"\u007f":"a"}"#]);
    table.wrong("metadata", LONG, &[&many(17), &format!("{{\"X\":{}}}", long(257))]);
    table.wrong("metadata", LONG, &[&format!("{{{}:\"a\"}}", long(257))]);

    table.wrong("retry", TYPE, &["1", "true", "\"\"", "[]", "\"5s\""]);
    table.inside("retry", "retry.schedule", TYPE, &["{\"schedule\":1}", "{\"schedule\":\"5s\"}"]);
    table.inside("retry", "retry.schedule", INVALID, &["{\"schedule\":[\"25h\"]}"]);
    let steps = ["\"5s\""; 33].join(",");
    table.inside("retry", "retry.schedule", LONG, &[&format!("{{\"schedule\":[{steps}]}}")]);
    for step in ["1", "null", "\"\"", "\"5\"", "\"-5s\"", "\"1.5s\"", r#""5s\n""#, r#""\u0000""#, "\"é\""] {
        table.inside("retry", "retry.schedule[1]", TYPE, &[&format!("{{\"schedule\":[\"5s\",{step}]}}")]);
    }
    table.inside("retry", "retry.schedul", INVALID, &["{\"schedul\":1}"]);
    for window in ["1", "[]", "\"soon\"", "\"\""] {
        table.inside("retry", "retry.window", TYPE, &[&format!("{{\"window\":{window}}}")]);
    }
    table.inside("retry", "retry.window", INVALID, &["{\"window\":\"59s\"}", "{\"window\":\"31d\"}"]);
    table.inside("retry", "retry.maxAttempts", TYPE, &["{\"maxAttempts\":\"x\"}", "{\"maxAttempts\":1.5}"]);
    table.inside("retry", "retry.maxAttempts", INVALID, &["{\"maxAttempts\":0}", "{\"maxAttempts\":1001}"]);
    table.inside("retry", "retry.onExhausted", TYPE, &["{\"onExhausted\":1}", "{\"onExhausted\":\"drop\"}"]);

    table.wrong("events", TYPE, &["1", "\"a.b\"", "{}"]);
    table.inside("events", "events[1]", TYPE, &["[\"a.b\",1]", "[\"a.b\",null]"]);
    table.inside(
        "events",
        "events[1]",
        INVALID,
        &["[\"a.b\",\"\"]", "[\"a.b\",\"a.b*\"]", "[\"a.b\",\"é.b\"]"],
    );
    table.inside("events", "events[1]", LONG, &[&format!("[\"a.b\",{}]", long(129))]);
    table.inside("events", "events[16]", LONG, &[&format!("[{}]", ["\"a.b\""; 17].join(","))]);
    table.wrong("rateLimit", TYPE, &["1", "\"1/s\"", "[]"]);
    table.inside("rateLimit", "rateLimit.perSecond", "fieldMissing", &["{}", "{\"burst\":1}"]);
    table.inside(
        "rateLimit",
        "rateLimit.perSecond",
        INVALID,
        &["{\"perSecond\":0}", "{\"perSecond\":10001}"],
    );
    table.inside("rateLimit", "rateLimit.burst", INVALID, &["{\"perSecond\":1,\"burst\":0}"]);
    table.inside("rateLimit", "rateLimit.per", INVALID, &["{\"perSecond\":1,\"per\":0}"]);
    for word in ["renewal", "redirects"] {
        table.text(word, TYPE, TYPE, (10_000, TYPE)).wrong(word, TYPE, &["\"\"", "\"maybe\"", "\"AUTO\""]);
    }
    for flag in ["lifecycle", "excerpts"] {
        table.wrong(flag, TYPE, &["1", "\"true\"", "[]", "{}"]);
    }
    table.wrong("lifecycleAddress", TYPE, &["1", "true", "[]", "{}"]);
    table.wrong("lifecycleAddress", address, &["\"http://example.com/\"", "\"https://10.0.0.1/\""]);
    table.wrong("adress", INVALID, &["1", "\"a\"", "null"]);
    table.0
}

/// What is given once, when a channel is opened.
fn fixed() -> Vec<Wrong> {
    let mut table = Table::default();
    table.text("id", TYPE, INVALID, (64, LONG)).wrong(
        "id",
        INVALID,
        &["\"\"", "\"é\"", "\"a b\"", "\"a.b\""],
    );
    table.text("resource", TYPE, INVALID, (1_024, LONG));
    table.wrong("resource", INVALID, &["\"\"", "\"/a\"", "\"a/\"", "\"a//b\"", "\"a/../b\"", "\"a/./b\""]);
    table.wrong(
        "resource",
        INVALID,
        &["\"a?b\"", "\"a#b\"", "\"a/watch\"", "\"a/%\"", "\"a/%ff\"", "\"%00\""],
    );
    table.wrong(
        "resource",
        LONG,
        &[&format!("\"{}a\"", "a/".repeat(32)), &format!("\"{}\"", "é".repeat(300))],
    );
    table.wrong("signatures", TYPE, &["1", "true", "\"v1\"", "{}", "[\"v2\"]", "[\"\"]", "[\"v1\\n\"]"]);
    table.inside("signatures", "signatures[1]", TYPE, &["[\"v1\",1]", "[\"v1\",null]", "[\"v1\",[]]"]);
    table.text("ordering", TYPE, TYPE, (10_000, TYPE)).wrong("ordering", TYPE, &["\"\"", "\"lifo\""]);
    table.wrong("secret", TYPE, &["1", "true", "[]", "{}"]);
    let secret = ["\"\"", "\"x\"", "\"é\"", r#""whsec_\n""#, r#""\u0000""#, "\"whsec_\"", "\"whsec_!!!!\""];
    for value in secret.into_iter().chain([long(10_000).as_str(), "\"whsec_AAAA\""]) {
        table.wrong("secret", "", &[value]);
    }
    table.0
}

async fn refused(server: &TestServer, method: &str, target: &str, token: &str, case: &Wrong, body: String) {
    let answer = server.ask(method, target).token(token).body(body).send().await;
    let shown = format!("{method} {target} with {} = {:.80}: {}", case.field, case.value, answer.text());
    let (status, code, field) = answer.problem();
    assert_eq!(status, 400, "{shown}");
    assert_eq!(field.as_deref(), Some(case.named.as_str()), "{shown}");
    // Which of its rules a secret breaks is told in words.
    assert!(
        code == case.code || case.code.is_empty() && code.starts_with("field"),
        "{} for {shown}",
        case.code
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_opened_with_a_wrong_value() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let empty = server.stored().await;
    for case in changeable().iter().chain(&fixed()) {
        refused(&server, "POST", "/v1/channels", &token, case, good().with(case.field, &case.value).text())
            .await;
        if case.field != "id" {
            let body = good().with(case.field, &case.value).text();
            refused(&server, "PUT", "/v1/channels/mine", &token, case, body).await;
        }
        assert_eq!(server.stored().await, empty, "{case:?}");
    }
    for required in ["resource", "address"] {
        for body in [good().without(required), good().with(required, "null")] {
            for (method, target) in [("POST", "/v1/channels"), ("PUT", "/v1/channels/mine")] {
                let answer = server.ask(method, target).token(&token).body(body.text()).send().await;
                assert_eq!(answer.problem(), (400, "fieldMissing".into(), Some(required.into())));
            }
        }
    }
    let answer =
        server.ask("PUT", "/v1/channels/mine").token(&token).body(good().with("id", "\"its\"").text());
    assert_eq!(answer.send().await.problem(), (400, INVALID.into(), Some("id".into())));
    for id in ["a%00b", "a%0ab", "a%7fb", "%C3%A9", "a%20b", "%ff", "a.b", &"a".repeat(65)] {
        let answer =
            server.ask("PUT", &format!("/v1/channels/{id}")).token(&token).body(good().text()).send().await;
        let (status, _, field) = answer.problem();
        assert_eq!((status, field.as_deref()), (400, Some("id")), "{id}: {}", answer.text());
    }
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_by_a_wrong_value() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let opened = server.ask("PUT", "/v1/channels/mine").token(&token).body(good().text()).send().await;
    assert_eq!(opened.status, 201, "{}", opened.text());
    let another = good().with("resource", "\"another\"").text();
    assert_eq!(server.ask("POST", "/v1/channels").token(&token).body(another).send().await.status, 201);
    let before = server.stored().await;
    for case in &changeable() {
        let body = Body::of(&[("catchUp", "\"latest\"")]).with(case.field, &case.value).text();
        refused(&server, "PATCH", "/v1/channels/mine", &token, case, body).await;
        let body = good().with(case.field, &case.value).text();
        refused(&server, "PUT", "/v1/channels/mine", &token, case, body).await;
        assert_eq!(server.stored().await, before, "{case:?}");
    }
    let mut table = Table::default();
    for fixed in ["id", "resource", "secret", "signatures", "uid", "state"] {
        table.wrong(fixed, INVALID, &["\"a\"", "1", "null", "[]"]);
    }
    for case in &table.0 {
        let body = Body::of(&[(case.field, &case.value)]).text();
        refused(&server, "PATCH", "/v1/channels/mine", &token, case, body).await;
    }
    // A PUT names the same channel, or it is refused.
    let mut table = Table::default();
    table.wrong("resource", INVALID, &["\"another\""]).wrong("signatures", INVALID, &["[]"]);
    table.wrong("secret", INVALID, &["\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""]);
    for case in &table.0 {
        let body = good().with(case.field, &case.value).text();
        refused(&server, "PUT", "/v1/channels/mine", &token, case, body).await;
    }
    assert_eq!(server.stored().await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_object_is_refused_whole() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let routes = [("POST", "/v1/channels"), ("PUT", "/v1/channels/a"), ("PATCH", "/v1/channels/a")];
    let empty = server.stored().await;
    for (method, target) in routes {
        for body in no_objects().into_iter().chain([Vec::new()]) {
            let answer = server.ask(method, target).token(&token).body(body.clone()).send().await;
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(answer.problem(), (400, "bodyNotJson".into(), None), "{method} {shown:.80}");
        }
        let twice = good().twice("address", "\"http://127.0.0.1:9/\"").text();
        let answer = server.ask(method, target).token(&token).body(twice).send().await;
        assert_eq!(answer.problem(), (400, INVALID.into(), Some("address".into())));
        let large = good().with("metadata", &long(70_000)).text();
        let answer = server.ask(method, target).token(&token).body(large).send().await;
        assert_eq!(answer.problem(), (413, "bodyTooLarge".into(), None));
        // The same in chunks, which do not say how much will come.
        let chunk = format!("{:x}\r\n{}\r\n", 70_000, " ".repeat(70_000));
        let ask = server.ask(method, target).token(&token).header("Transfer-Encoding", "chunked");
        let answer = ask.body(chunk + "0\r\n\r\n").send().await;
        assert_eq!(answer.problem(), (413, "bodyTooLarge".into(), None));
    }
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn null_and_the_edges_of_what_is_allowed_are_fine() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let fine = [
        ("id", "null"),
        ("id", "\"a/b+c=_-\""),
        ("id", &long(64)),
        ("token", "null"),
        ("token", "\"\""),
        ("token", &long(256)),
        ("resource", "\"calendar/v3/é/a b\""),
        ("expiresAt", "null"),
        ("expiresAt", "\"2999-01-01T00:00:00+01:00\""),
        ("ttlSeconds", "60"),
        ("ttlSeconds", "\"60\""),
        ("ttlSeconds", "60.0"),
        ("format", "null"),
        ("payload", "null"),
        ("headers", "null"),
        ("headers", "{}"),
        ("headers", "{\"Authorization\":\"Bearer x\"}"),
        ("metadata", "{\"é\":\"é\"}"),
        ("retry", "{}"),
        ("retry", "{\"schedule\":[]}"),
        ("retry", "null"),
        ("ordering", "\"fifo\""),
        ("signatures", "[]"),
        ("signatures", "null"),
        ("secret", "null"),
    ];
    for (field, value) in fine {
        let body = good().with(field, value).text();
        let answer = server.ask("POST", "/v1/channels").token(&token).body(body).send().await;
        assert_eq!(answer.status, 201, "{field} {value}: {}", answer.text());
    }
    // Every character of an id finds its channel again.
    let answer = server.ask("GET", "/v1/channels/a%2Fb+c=_-").token(&token).send().await;
    assert_eq!((answer.status, answer.json()["id"].as_str()), (200, Some("a/b+c=_-")), "{}", answer.text());
    let answer = server.ask("GET", "/v1/channels/a%2Fb%2Bc%3D_-/attempts").token(&token).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    server.stop().await;
}
