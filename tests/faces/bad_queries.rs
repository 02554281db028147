//! Query parameters and path ids, wrong in every way.

use crate::server::TestServer;

const INVALID: &str = "fieldInvalid";
const TYPE: &str = "fieldType";

async fn parameters_are_refused_by_name(server: TestServer) {
    let token = server.token("p", "s", "channels events");
    let channel = "{\"resource\":\"a\",\"address\":\"http://127.0.0.1:9/\"}";
    let opened = server.ask("PUT", "/v1/channels/c").token(&token).body(channel).send().await;
    assert_eq!(opened.status, 201, "{}", opened.text());
    let published = "{\"resource\":\"a\",\"name\":\"a.b\",\"id\":\"e\"}";
    let published = server.ask("POST", "/v1/events").token(&token).body(published).send().await;
    assert_eq!(published.status, 200, "{}", published.text());
    let before = server.stored().await;
    let long = "a".repeat(5_000);
    let feed = "/v1/events?resource=a";
    let (list, attempts) = ("/v1/channels?", "/v1/channels/c/attempts?");
    let (parked, event) = ("/v1/channels/c/parked?", "/v1/events/e?");
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
        (format!("{list}metadatax.a=a"), INVALID, "metadatax.a"),
        (format!("{list}metadata.a=a&metadata.a=b"), INVALID, "metadata.a"),
        (format!("{list}metadata.a=%ff"), INVALID, "metadata.a"),
        (format!("{list}metadata.a%ff=a"), INVALID, "metadata.a\u{fffd}"),
        (format!("{list}metadata.a=%00"), INVALID, "metadata.*"),
        (format!("{list}metadata.a%00=a"), INVALID, "metadata.*"),
        (format!("{list}metadata.a=b%0Ac"), INVALID, "metadata.*"),
        (format!("{list}metadata.a={long}"), "fieldTooLong", "metadata.*"),
        (
            format!("{list}metadata.a=1&metadata.b=2&metadata.c=3&metadata.d=4&metadata.e=5"),
            "fieldTooLong",
            "metadata.*",
        ),
        (format!("{list}state=active&state=gone"), INVALID, "state"),
        (format!("{attempts}after=1"), TYPE, "after"),
        (format!("{attempts}after=2026-11-24"), TYPE, "after"),
        (format!("{attempts}before=yesterday"), TYPE, "before"),
        (format!("{attempts}before=2026-11-24T00:00:00+02:00"), TYPE, "before"),
        (format!("{attempts}outcome=Failed"), TYPE, "outcome"),
        (format!("{attempts}outcome=ours"), TYPE, "outcome"),
        (format!("{attempts}outcome=failed%00"), TYPE, "outcome"),
        (format!("{attempts}number=0"), INVALID, "number"),
        (format!("{attempts}number=x"), TYPE, "number"),
        (format!("{attempts}status=500"), INVALID, "status"),
        (format!("{parked}limit=201"), INVALID, "limit"),
        (format!("{parked}after=1"), INVALID, "after"),
        (format!("{event}limit=201"), INVALID, "limit"),
        (format!("{event}resource=a"), INVALID, "resource"),
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
        cases.push((format!("{parked}limit={wrong}"), TYPE, "limit"));
        cases.push((format!("{event}limit={wrong}"), TYPE, "limit"));
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
        cases.push((format!("{parked}pageToken={wrong}"), INVALID, "pageToken"));
        cases.push((format!("{event}pageToken={wrong}"), INVALID, "pageToken"));
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
        format!(
            "{attempts}outcome=gone&number=1&after=2026-11-24T00:00:00%2B02:00&before=2026-11-24T00:00:00.5Z"
        ),
        format!("{attempts}outcome=&number=&after=&before="),
        format!("{list}metadata.=&metadata.a%27%22%5C=%24."),
        format!("{parked}limit=200&pageToken="),
        // Of what it would be, had anybody given it: a place far away.
        format!("{event}limit=200&pageToken=cDk5OTk5OTk5OTk5OTk5OTk5"),
        format!("{feed}&&"),
    ] {
        let answer = server.ask("GET", &fine).token(&token).send().await;
        assert_eq!(answer.status, 200, "{fine}: {}", answer.text());
    }
    assert_eq!(server.stored().await, before);

    // What no channel is called is not there.
    let not_found = (404, "notFound".to_owned(), None);
    for id in ["x", "a%00b", "a%0Ab", "a%7Fb", "%C3%A9", "%ff", "a%20b", "a.b", "%25", "a%2Fb", &long] {
        for (method, rest) in
            [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/attempts"), ("GET", "/parked")]
        {
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
