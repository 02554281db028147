//! Every field of `watch` and `stop` on the Google face, wrong in every way.

use crate::{
    server::TestServer,
    wrong::{Body, CONTROLS, Table, Wrong, deep, long, no_objects},
};

const WATCH: &str = "/calendar/v3/calendars/primary/events/watch";
const INVALID: &str = "invalid";
const ID: &str = "push.channelIdInvalid";
const NO_HOST: &str = "push.webhookUrlNoHostOrAddress";

fn good() -> Body {
    Body::of(&[("id", "\"my-1\""), ("type", "\"web_hook\""), ("address", "\"http://127.0.0.1:9/\"")])
}

fn fields() -> Vec<Wrong> {
    let mut table = Table::default();
    table.text("id", INVALID, ID, (64, INVALID)).wrong("id", ID, &["\"\"", "\"é\"", "\"a b\"", "\"a.b\""]);
    table.text("type", INVALID, INVALID, (10_000, INVALID));
    table.wrong("type", INVALID, &["\"\"", "\"é\"", "\"WEB_HOOK\"", "\"web_socket\""]);
    table.wrong("address", INVALID, &["1", "true", "[]", "{}", &deep(1_000), r#""\ud800""#]);
    table.text("token", INVALID, INVALID, (256, INVALID)).wrong("token", INVALID, &["\"é\"", "\" a\""]);
    table.wrong("expiration", INVALID, &["true", "[]", "{}", "\"\"", "\"soon\"", "\"NaN\"", "1e300", "-1"]);
    table.wrong(
        "expiration",
        INVALID,
        &["0", "3600", "\"3600\"", "1577836800000", "\"2999-01-01\"", "\"é\""],
    );
    table.wrong("expiration", INVALID, &CONTROLS);
    table.wrong("expiration", INVALID, &[&long(10_000), &"9".repeat(50), &deep(1_000)]);
    table.wrong("payload", INVALID, &["1", "0", "\"true\"", "\"\"", "[]", "{}"]);
    table.wrong("params", INVALID, &["1", "true", "\"\"", "[]", "\"ttl\""]);
    for ttl in
        ["true", "[]", "{}", "\"\"", "\"soon\"", "0", "-1", "\"0\"", "1.5", "\"1h\"", r#""1\n2""#, "\"é\""]
    {
        table.inside("params", "params.ttl", INVALID, &[&format!("{{\"ttl\":{ttl}}}")]);
    }
    table.inside("params", "params.ttl", INVALID, &["{\"ttl\":\"60\",\"ttl\":\"60\"}"]);
    for wrong in ["1", "true", "[]", "\"\"", "\"newest\"", r#""all\n""#, "\"é\""] {
        table.inside("params", "params.catchUp", INVALID, &[&format!("{{\"catchUp\":{wrong}}}")]);
    }
    for wrong in ["1", "true", "[]", "\"v2\"", "\"v1,v2\"", "\"é\"", r#""\u0000""#] {
        table.inside("params", "params.signatures", INVALID, &[&format!("{{\"signatures\":{wrong}}}")]);
    }
    table.0
}

/// Google words these without the field's name, around the address itself.
fn addresses() -> Vec<(String, u16, &'static str)> {
    let mut cases: Vec<(String, u16, &str)> = Vec::new();
    for wrong in ["\"\"", "\"é\"", "\"https://é.com/\"", "\"/x\"", "\"https:///\"", "\"https://a b.com/\""]
    {
        cases.push((wrong.to_owned(), 400, NO_HOST));
    }
    cases.extend(CONTROLS.map(|wrong| (wrong.to_owned(), 400, NO_HOST)));
    cases.push((format!("\"https://example.com/{}\"", "a".repeat(2_048)), 400, NO_HOST));
    cases.push(("\"http://example.com/\"".to_owned(), 400, "push.webhookUrlNotHttps"));
    for wrong in ["https://10.0.0.1/", "https://u:p@example.com/", "https://[::1]/", "ftp://example.com/"] {
        cases.push((format!("\"{wrong}\""), 401, "push.webhookUrlUnauthorized"));
    }
    cases
}

async fn nothing_is_watched_with_a_wrong_value(server: TestServer) {
    let token = server.token("p", "s", "channels");
    let empty = server.stored().await;
    let watch = |body: String| server.ask("POST", WATCH).token(&token).body(body).send();
    for case in fields() {
        let answer = watch(good().with(case.field, &case.value).text()).await;
        let shown = format!("{} = {:.80}: {}", case.field, case.value, answer.text());
        assert_ne!(answer.status, 200, "{shown}");
        let (status, reason, message) = answer.google();
        assert_eq!((status, reason.as_str()), (400, case.code), "{shown}");
        assert!(message.starts_with(&format!("Invalid value: channel.{} ", case.named)), "{shown}");
        assert_eq!(server.stored().await, empty, "{case:?}");
    }
    for (address, status, reason) in addresses() {
        let answer = watch(good().with("address", &address).text()).await;
        let told = answer.google();
        assert_eq!((told.0, told.1.as_str()), (status, reason), "{address:.80}: {}", told.2);
        assert!(told.2.contains("WebHook callback") && !told.2.contains(char::is_control), "{}", told.2);
    }
    for required in ["id", "type", "address"] {
        for body in [good().without(required), good().with(required, "null")] {
            let told = watch(body.text()).await.google();
            assert_eq!(told, (400, "required".into(), format!("Required: channel.{required}")));
        }
        let told = watch(good().twice(required, "\"a\"").text()).await.google();
        assert_eq!((told.0, told.1), (400, if required == "id" { ID } else { INVALID }.to_owned()));
        assert_eq!(told.2, format!("Invalid value: channel.{required} must be given once"));
    }
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_watched_with_a_wrong_value_sqlite() {
    nothing_is_watched_with_a_wrong_value(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_watched_with_a_wrong_value_postgres() {
    nothing_is_watched_with_a_wrong_value(TestServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_real_clients_send_is_fine() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let future = 4_102_444_800_000_i64;
    let fine = [
        ("token", "null".to_owned()),
        ("token", "\"\"".to_owned()),
        ("expiration", "null".to_owned()),
        ("expiration", future.to_string()),
        ("expiration", format!("\"{future}\"")),
        ("expiration", format!("{future}.0")),
        ("expiration", format!("{future}.125")),
        ("expiration", format!("\"{future}.875\"")),
        ("params", "null".to_owned()),
        ("params", "{}".to_owned()),
        ("params", "{\"ttl\":3600}".to_owned()),
        ("params", "{\"ttl\":\"3600\"}".to_owned()),
        ("params", "{\"ttl\":null,\"unknown\":[1]}".to_owned()),
        ("payload", "null".to_owned()),
        ("payload", "true".to_owned()),
        ("type", "\"webhook\"".to_owned()),
        ("kind", "\"api#channel\"".to_owned()),
        ("resourceId", "17".to_owned()),
        ("resourceUri", deep(1_000)),
        ("whatever", "{\"a\":[null]}".to_owned()),
    ];
    for (at, (field, value)) in fine.into_iter().enumerate() {
        let body = good().with("id", &format!("\"c{at}\"")).with(field, &value).text();
        let answer = server.ask("POST", WATCH).token(&token).body(body).send().await;
        assert_eq!(answer.status, 200, "{field} {value:.80}: {}", answer.text());
        let channel = answer.json();
        let seconds = channel["expiration"].as_str().unwrap().strip_suffix("000");
        assert!(seconds.is_some(), "a whole second as a string: {channel}");
    }
    let again = server.ask("POST", WATCH).token(&token).body(good().with("id", "\"c0\"").text()).send().await;
    let told = again.google();
    assert_eq!(told, (400, "channelIdNotUnique".into(), "Channel id c0 not unique".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_object_is_refused_whole() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let empty = server.stored().await;
    for target in [WATCH, "/calendar/v3/channels/stop", "/channels/stop"] {
        let post = |body: Vec<u8>| server.ask("POST", target).token(&token).body(body).send();
        for body in no_objects() {
            let told = post(body.clone()).await.google();
            let shown = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(told, (400, "parseError".into(), "Parse Error".into()), "{shown:.80}");
        }
        for nothing in [&b""[..], b" \r\n"] {
            let told = post(nothing.to_vec()).await.google();
            assert_eq!(told, (400, "required".into(), "entity.resource".into()));
        }
        let told = post(good().with("token", &long(70_000)).text().into_bytes()).await.google();
        assert_eq!((told.0, told.1.as_str()), (413, "uploadTooLarge"));
    }
    // People put the channel into the query.
    let query = format!("{WATCH}?id=a&type=web_hook&address=http%3A%2F%2F127.0.0.1%3A9%2F");
    let told = server.ask("POST", &query).token(&token).send().await.google();
    assert_eq!((told.1.as_str(), told.2.as_str()), ("required", "entity.resource"));
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_names_no_resource_is_refused() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    let empty = server.stored().await;
    let long = format!("/{}/watch", "a".repeat(2_000));
    let many = format!("{}/watch", "/a".repeat(40));
    for path in ["/a//watch", "/a/%2e%2e/watch", "/a/%00/watch", "/a/%ff/watch", &long, &many] {
        let answer = server.ask("POST", path).token(&token).body(good().text()).send().await;
        let (status, reason, message) = answer.google();
        assert_eq!((status, reason.as_str()), (400, INVALID), "{path:.80}");
        assert!(message.starts_with("Invalid value: channel.resource "), "{path:.80}: {message}");
    }
    let query = format!("{WATCH}?syncToken={}", "a".repeat(5_000));
    let told = server.ask("POST", &query).token(&token).body(good().text()).send().await.google();
    assert!(told.0 == 400 && told.2.starts_with("Invalid value: channel.resourceUri "), "{told:?}");
    let changes =
        server.ask("POST", "/drive/v3/changes/watch").token(&token).body(good().text()).send().await;
    assert_eq!(changes.google(), (400, "required".into(), "Required parameter: pageToken".into()));
    for (method, path) in
        [("GET", WATCH), ("PUT", WATCH), ("POST", "/watch"), ("POST", "/a/b"), ("POST", "/")]
    {
        let answer = server.ask(method, path).token(&token).body(good().text()).send().await;
        assert_eq!(answer.problem(), (404, "noSuchRoute".into(), None), "{method} {path}");
    }
    assert_eq!(server.stored().await, empty);
    server.stop().await;
}

async fn nothing_is_stopped_by_a_wrong_value(server: TestServer) {
    let token = server.token("p", "s", "channels");
    let opened = server.ask("POST", WATCH).token(&token).body(good().text()).send().await.json();
    let resource_id = format!("{}", opened["resourceId"]);
    let before = server.stored().await;
    let good = Body::of(&[("id", "\"my-1\""), ("resourceId", &resource_id)]);
    let stop =
        |body: String| server.ask("POST", "/calendar/v3/channels/stop").token(&token).body(body).send();
    for field in ["id", "resourceId"] {
        for body in [good.without(field), good.with(field, "null")] {
            let told = stop(body.text()).await.google();
            assert_eq!(told, (400, "required".into(), format!("Required: channel.{field}")));
        }
        for wrong in ["1", "true", "[]", "{}", &deep(1_000), r#""\ud800""#] {
            let told = stop(good.with(field, wrong).text()).await.google();
            assert_eq!((told.0, told.1.as_str()), (400, INVALID), "{field} {wrong:.80}");
            assert_eq!(told.2, format!("Invalid value: channel.{field} must be a string"));
        }
        for unknown in CONTROLS.into_iter().chain(["\"\"", "\"é\"", "\"other\"", &long(1_000)]) {
            let told = stop(good.with(field, unknown).text()).await.google();
            assert_eq!((told.0, told.1.as_str()), (404, "notFound"), "{field} {unknown:.80}");
            assert!(told.2.starts_with("Channel '") && told.2.ends_with("' not found for project 'p'"));
            assert!(!told.2.contains(char::is_control) && told.2.len() < 200, "{}", told.2);
        }
        let told = stop(good.twice(field, "\"a\"").text()).await.google();
        assert_eq!(told.2, format!("Invalid value: channel.{field} must be given once"));
    }
    assert_eq!(server.stored().await, before);
    // Whole channel resources are pasted back.
    let body = good.with("kind", "1").with("expiration", "[]").with("x", "{}").text();
    assert_eq!(stop(body.clone()).await.status, 204);
    assert_eq!(stop(body).await.google().0, 404, "it is gone");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stopped_by_a_wrong_value_sqlite() {
    nothing_is_stopped_by_a_wrong_value(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stopped_by_a_wrong_value_postgres() {
    nothing_is_stopped_by_a_wrong_value(TestServer::postgres().await).await;
}
