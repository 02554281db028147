//! API keys: made, shown once, used on both faces, listed, taken back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{http::Answer, server::TestServer};

const CHANNEL: &str = "{\"resource\":\"a/b\",\"address\":\"http://127.0.0.1:9/\"}";
const EVENT: &str = "{\"resource\":\"a/b\",\"name\":\"a.b\"}";

async fn make(server: &TestServer, project: &str, body: Value) -> Value {
    let admin = server.token(project, "boss", "admin");
    let answer = server.ask("POST", "/v1/apikeys").token(&admin).body(body.to_string()).send().await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn list(server: &TestServer, project: &str, query: &str) -> Value {
    let admin = server.token(project, "boss", "admin");
    server.ask("GET", &format!("/v1/apikeys{query}")).token(&admin).send().await.json()
}

async fn publish(server: &TestServer, key: &str) -> Answer {
    server.ask("POST", "/v1/events").token(key).body(EVENT).send().await
}

async fn a_key_is_a_caller_until_it_is_revoked(server: TestServer) {
    let made = make(
        &server,
        "p",
        json!({ "subject": "s", "scopes": ["events", "channels"], "name": "back end", "resources": ["a/**"] }),
    )
    .await;
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert!(key.starts_with("wpk_") && id.starts_with("key_"), "{made}");
    assert_eq!(made["scopes"], json!(["channels", "events"]));
    assert_eq!((&made["expiresAt"], &made["lastUsedAt"]), (&Value::Null, &Value::Null));

    assert_eq!(publish(&server, key).await.status, 200);
    let opened = server.ask("POST", "/v1/channels").token(key).body(CHANNEL).send().await;
    assert_eq!((opened.status, &opened.json()["subject"]), (201, &"s".into()));
    let elsewhere = CHANNEL.replace("a/b", "b");
    let refused = server.ask("POST", "/v1/channels").token(key).body(elsewhere).send().await;
    assert_eq!(refused.problem(), (403, "resourceNotAllowed".into(), None));
    let refused = server.ask("GET", "/v1/apikeys").token(key).send().await;
    assert_eq!(refused.problem(), (403, "scopeMissing".into(), None));
    let watch = "{\"id\":\"g\",\"type\":\"web_hook\",\"address\":\"http://127.0.0.1:9/\"}";
    let watched = server.ask("POST", &format!("/a/b/watch?key={key}")).body(watch).send().await;
    assert_eq!(watched.status, 200, "{}", watched.text());
    assert!(!watched.text().contains(key), "it is kept to itself");

    let listed = list(&server, "p", "").await;
    assert!(!listed.to_string().contains("wpk_"), "shown once: {listed}");
    let listed = &listed["items"][0];
    assert_eq!((listed["id"].as_str(), listed["name"].as_str()), (Some(id), Some("back end")));
    assert!(listed["lastUsedAt"].is_string(), "{listed}");
    assert_eq!(list(&server, "q", "").await["items"], json!([]));

    let admin = server.token("p", "boss", "admin");
    let revoke = || server.ask("DELETE", &format!("/v1/apikeys/{id}")).token(&admin).send();
    assert_eq!(revoke().await.status, 204);
    assert_eq!(publish(&server, key).await.problem(), (401, "credentialsInvalid".into(), None));
    assert_eq!(revoke().await.problem(), (404, "notFound".into(), None));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_a_caller_until_it_is_revoked_sqlite() {
    a_key_is_a_caller_until_it_is_revoked(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_a_caller_until_it_is_revoked_postgres() {
    a_key_is_a_caller_until_it_is_revoked(TestServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_page_by_page_and_kept_as_hashes() {
    let server = TestServer::sqlite().await;
    let mut made = Vec::new();
    for at in 0..5 {
        made.push(make(&server, "p", json!({ "subject": format!("s{at}"), "scopes": ["admin"] })).await);
    }
    let (mut subjects, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&server, "p", &format!("?limit=2{token}")).await;
        subjects.extend(page["items"].as_array().unwrap().iter().map(|key| key["subject"].clone()));
        let Some(next) = page["nextPageToken"].as_str() else { break };
        token = format!("&pageToken={next}");
    }
    assert_eq!(json!(subjects), json!(["s4", "s3", "s2", "s1", "s0"]));
    // An admin's key is an admin: of its own project.
    let key = made[0]["key"].as_str().unwrap();
    let seen = server.ask("GET", "/v1/apikeys?limit=1").token(key).send().await;
    assert_eq!(seen.json()["items"][0]["subject"], "s4");
    let random = key.strip_prefix("wpk_").unwrap().as_bytes();
    for file in server.files() {
        assert!(!file.windows(random.len()).any(|window| window == random), "a key stands in the store");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_key_can_be_is_refused_by_name() {
    let server = TestServer::sqlite().await;
    let admin = server.token("p", "boss", "admin");
    let many: Vec<String> = (0..65).map(|at| format!("a/{at}")).collect();
    for (body, code, field) in [
        (json!({ "scopes": ["events"] }), "fieldMissing", "subject"),
        (json!({ "subject": "s" }), "fieldMissing", "scopes"),
        (json!({ "subject": "s", "scopes": [] }), "fieldMissing", "scopes"),
        (json!({ "subject": "s", "scopes": ["events", "operator"] }), "fieldType", "scopes[1]"),
        (json!({ "subject": " ", "scopes": ["events"] }), "fieldInvalid", "subject"),
        (json!({ "subject": "a\u{0}", "scopes": ["events"] }), "fieldInvalid", "subject"),
        (json!({ "subject": "s".repeat(257), "scopes": ["events"] }), "fieldTooLong", "subject"),
        (json!({ "subject": "s", "scopes": ["events"], "name": "" }), "fieldInvalid", "name"),
        (json!({ "subject": "s", "scopes": ["events"], "resources": many }), "fieldTooLong", "resources"),
        (
            json!({ "subject": "s", "scopes": ["events"], "resources": ["a", ""] }),
            "fieldInvalid",
            "resources[1]",
        ),
        (json!({ "subject": "s", "scopes": ["events"], "ttlSeconds": 0 }), "fieldInvalid", "ttlSeconds"),
        (
            json!({ "subject": "s", "scopes": ["events"], "ttlSeconds": 3_153_600_001_i64 }),
            "fieldInvalid",
            "ttlSeconds",
        ),
        (
            json!({ "subject": "s", "scopes": ["events"], "expiresAt": "2020-01-01T00:00:00Z" }),
            "fieldInvalid",
            "expiresAt",
        ),
        (json!({ "subject": "s", "scopes": ["events"], "project": "q" }), "fieldInvalid", "project"),
    ] {
        let answer = server.ask("POST", "/v1/apikeys").token(&admin).body(body.to_string()).send().await;
        assert_eq!(answer.problem(), (400, code.into(), Some(field.into())), "{body}");
    }
    // Nor is a text that merely looks like one.
    let key = format!("wpk_{}", "A".repeat(43));
    assert_eq!(publish(&server, &key).await.problem(), (401, "credentialsInvalid".into(), None));
    assert_eq!(publish(&server, "wpk_").await.problem(), (401, "credentialsInvalid".into(), None));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_when_it_was_said_to() {
    let server = TestServer::sqlite().await;
    let soon = server.server.as_ref().unwrap().app.now().plus(Duration::from_hours(1)).to_rfc3339();
    let key = make(&server, "p", json!({ "subject": "s", "scopes": ["events"], "expiresAt": soon })).await;
    assert_eq!(key["expiresAt"], soon);
    assert_eq!(publish(&server, key["key"].as_str().unwrap()).await.status, 200);
    server.stop().await;
}
