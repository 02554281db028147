//! Query parameters and path ids, wrong in every way.

use crate::server::TestServer;

const INVALID: &str = "fieldInvalid";
const TYPE: &str = "fieldType";

async fn parameters_are_refused_by_name(server: TestServer) {
    let token = server.token("p", "s", "channels events");
    let channel = "{\"resource\":\"a\",\"address\":\"http://127.0.0.1:9/\"}";
    let opened = server.ask("PUT", "/v1/channels/c").token(&token).body(channel).send().await;
    assert_eq!(opened.status, 201, "{}", opened.text());
    let before = server.stored().await;
    let long = "a".repeat(5_000);
    let feed = "/v1/events?resource=a";
    let (list, attempts) = ("/v1/channels?", "/v1/channels/c/attempts?");
    let mut cases: Vec<(String, &str, &str)> = vec![
        ("/v1/events".into(), "fieldMissing", "resource"),
        ("/v1/events?resource=".into(), "fieldMissing", "resource"),
        ("/v1/events?resource=%2Fa".into(), INVALID, "resource"),
        ("/v1/events?resource=a%00".into(), INVALID, "resource"),
        ("/v1/events?resource=a%0A".into(), INVALID, "resource"),
        ("/v1/events?resource=a%ff".into(), INVALID, "resource"),
        (format!("/v1/events?resource={long}"), "fieldTooLong", "resource"),
        (format!("{feed}&resource=a"), INVALID, "resource"),
        (format!("{feed}&aftr=1"), INVALID, "aftr"),
        (format!("{feed}&after=1&syncToken=x"), INVALID, "after"),
        (format!("{feed}&wait=forever"), INVALID, "wait"),
        (format!("{feed}&wait=26s"), INVALID, "wait"),
        (format!("{feed}&wait=-1s"), INVALID, "wait"),
        (format!("{feed}&wait=5"), INVALID, "wait"),
        (format!("{list}state=asleep"), TYPE, "state"),
        (format!("{list}state=a%00"), TYPE, "state"),
        (format!("{list}subject=a%00b"), INVALID, "subject"),
        (format!("{list}subject=a%0Ab"), INVALID, "subject"),
        (format!("{list}subject=%ff"), INVALID, "subject"),
        (format!("{list}subject={long}"), INVALID, "subject"),
        (format!("{list}resource=/a"), INVALID, "resource"),
        (format!("{list}resource=a%00"), INVALID, "resource"),
        (format!("{list}metadata=a"), INVALID, "metadata"),
        (format!("{list}state=active&state=gone"), INVALID, "state"),
        (format!("{attempts}after=1"), INVALID, "after"),
        (format!("{attempts}limit=501"), INVALID, "limit"),
        (format!("{list}limit=201"), INVALID, "limit"),
        (format!("{feed}&limit=501"), INVALID, "limit"),
        (format!("{feed}&after=-1"), INVALID, "after"),
    ];
    for wrong in ["x", "%00", "%0A", "%C3%A9", "1.5", "true", "[]", "99999999999999999999", "NaN", "0x10"] {
        cases.push((format!("{feed}&after={wrong}"), TYPE, "after"));
        cases.push((format!("{feed}&limit={wrong}"), TYPE, "limit"));
        cases.push((format!("{list}limit={wrong}"), TYPE, "limit"));
        cases.push((format!("{attempts}limit={wrong}"), TYPE, "limit"));
    }
    for wrong in ["0", "-1"] {
        cases.push((format!("{feed}&limit={wrong}"), INVALID, "limit"));
        cases.push((format!("{list}limit={wrong}"), INVALID, "limit"));
        cases.push((format!("{attempts}limit={wrong}"), INVALID, "limit"));
    }
    // The last ones are `x1`, `p`, `pp1` and `1:another:1`.
    for wrong in
        ["x", "%00", "%ff", "%C3%A9", "AAAA", "cA==", long.as_str(), "eDE", "cA", "cHAx", "MTphbm90aGVyOjE"]
    {
        cases.push((format!("{feed}&syncToken={wrong}"), INVALID, "syncToken"));
        cases.push((format!("{list}pageToken={wrong}"), INVALID, "pageToken"));
        cases.push((format!("{attempts}pageToken={wrong}"), INVALID, "pageToken"));
    }
    for (target, code, field) in cases {
        let answer = server.ask("GET", &target).token(&token).send().await;
        assert_eq!(answer.problem(), (400, code.into(), Some(field.into())), "{target:.80}");
    }
    for fine in [
        format!("{feed}&after=&syncToken=&limit=&wait="),
        format!("{feed}&after=1e3&limit=1.0&wait=0s"),
        format!("{list}resource=a&state=active&subject=s&limit=1&pageToken="),
        format!("{attempts}limit=500"),
        format!("{feed}&&"),
    ] {
        let answer = server.ask("GET", &fine).token(&token).send().await;
        assert_eq!(answer.status, 200, "{fine}: {}", answer.text());
    }
    assert_eq!(server.stored().await, before);

    // What no channel is called is not there.
    let not_found = (404, "notFound".to_owned(), None);
    for id in ["x", "a%00b", "a%0Ab", "a%7Fb", "%C3%A9", "%ff", "a%20b", "a.b", "%25", "a%2Fb", &long] {
        for (method, rest) in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/attempts")] {
            let target = format!("/v1/channels/{id}{rest}");
            let answer = server.ask(method, &target).token(&token).body("{}").send().await;
            assert_eq!(answer.problem(), not_found, "{method} {target:.80}");
        }
    }
    for id in ["", "%2F", "..", "a/b"] {
        let answer = server.ask("GET", &format!("/v1/channels/{id}")).token(&token).send().await;
        assert_eq!(answer.problem().0, 404, "{id}");
    }
    assert_eq!(server.stored().await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_refused_by_name_sqlite() {
    parameters_are_refused_by_name(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_refused_by_name_postgres() {
    parameters_are_refused_by_name(TestServer::postgres().await).await;
}
