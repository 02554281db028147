//! `AUTHORIZE_URL`: who an unknown caller is, and what a caller may watch, by the word of a service of the operator's.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{PROJECT, SUBJECT, TestApp},
    base::Kind,
    http::Answer,
    support::receiver::{Answer as Says, Receiver},
};

const OPAQUE: &str = "ya29.opaque-token";
/// No answer is kept for longer.
const KEPT: Duration = Duration::from_mins(1);

on_both!(an_opaque_token_is_whoever_the_service_says);

struct World {
    app: TestApp,
    service: Receiver,
}

fn yes() -> Says {
    Says::ok()
        .with_body(json!({ "project": PROJECT, "subject": SUBJECT, "scopes": ["channels"] }).to_string())
}

impl World {
    async fn new(kind: Kind, says: Says) -> Self {
        let service = Receiver::start().await;
        service.answer(says);
        let app = TestApp::with(kind, &[("AUTHORIZE_URL", &service.url("/authorize?v=1"))]).await;
        Self { app, service }
    }

    async fn call(&self, method: &str, target: &str, body: Option<Value>) -> (u16, String) {
        told(&self.app.call(method, target, OPAQUE, body).await)
    }

    async fn list(&self) -> (u16, String) {
        self.call("GET", "/v1/channels", None).await
    }

    fn asked(&self) -> Vec<Value> {
        self.service.received().iter().map(crate::support::receiver::Received::json).collect()
    }
}

fn told(answer: &Answer) -> (u16, String) {
    let code = if answer.body.is_empty() { Value::Null } else { answer.json()["code"].clone() };
    (answer.status, code.as_str().unwrap_or_default().to_owned())
}

fn opening(id: &str, resource: &str) -> Value {
    json!({ "id": id, "resource": resource, "address": "http://127.0.0.1:9/" })
}

async fn an_opaque_token_is_whoever_the_service_says(kind: Kind) {
    let world = World::new(kind, yes()).await;
    assert_eq!(world.call("POST", "/v1/channels", Some(opening("c", "users/me/mail"))).await.0, 201);
    let known = |action: &str| json!({ "project": PROJECT, "subject": SUBJECT, "action": action, "resource": "users/liz@example.com/mail" });
    assert_eq!(world.asked(), [json!({ "action": "identify" }), known("watch")]);
    let first = &world.service.received()[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/authorize?v=1"));
    assert_eq!(first.header("authorization"), Some(&*format!("Bearer {OPAQUE}")));
    let patch = async |body| world.call("PATCH", "/v1/channels/c", Some(body)).await.0;
    assert_eq!(patch(json!({ "ttlSeconds": 600 })).await, 200);
    assert_eq!(patch(json!({ "address": "http://127.0.0.1:8/" })).await, 200);
    assert_eq!(world.call("GET", "/v1/events?resource=users/me/mail", None).await.0, 200);
    assert_eq!(world.asked()[2..], [known("renew"), known("change"), known("read")]);
    // What it has said is known for a while; what concerns no resource is not asked.
    assert_eq!(world.call("GET", "/v1/channels/c", None).await.0, 200);
    assert_eq!(patch(json!({ "ttlSeconds": 900 })).await, 200);
    assert_eq!(world.asked().len(), 5);
    let event = json!({ "resource": "a", "name": "a.b" });
    assert_eq!(world.call("POST", "/v1/events", Some(event)).await, (403, "scopeMissing".to_owned()));
    let seen = world.app.channel("c").await;
    assert_eq!(seen["subject"], SUBJECT);
    assert_eq!(world.call("DELETE", "/v1/channels/c", None).await.0, 204);

    world.app.advance(KEPT).await;
    assert_eq!(world.list().await.0, 200);
    assert_eq!(world.asked().len(), 6, "asked again after a minute");
    // The server's own tokens speak for themselves.
    world.app.open(opening("d", "users/me/mail")).await;
    assert_eq!(world.asked().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_passed_on_in_the_faces_dialect() {
    let world = World::new(Kind::Sqlite, yes()).await;
    let watch = |resource: &'static str| world.call("POST", "/v1/channels", Some(opening("x", resource)));
    let google = async |resource: &str| {
        let body = json!({ "id": "g", "type": "web_hook", "address": "http://127.0.0.1:9/" });
        let answer = world.app.call("POST", &format!("/{resource}/watch"), OPAQUE, Some(body)).await;
        let reason = answer.json()["error"]["errors"][0]["reason"].as_str().unwrap().to_owned();
        (answer.status, reason)
    };
    world.service.answer_with(|asked| match asked.json()["resource"].as_str() {
        None => yes(),
        Some("r401" | "g401") => Says::status(401),
        Some("r403" | "g403") => Says::status(403),
        Some("r404" | "g404") => Says::status(404),
        Some("empty") => Says::ok(),
        _ => Says::status(418),
    });
    assert_eq!(watch("r401").await, (401, "credentialsInvalid".to_owned()));
    assert_eq!(watch("r403").await, (403, "resourceNotAllowed".to_owned()));
    assert_eq!(watch("r404").await, (404, "notFound".to_owned()));
    assert_eq!(watch("r418").await, (503, "accessUnavailable".to_owned()));
    assert_eq!(google("g401").await, (401, "authError".to_owned()));
    assert_eq!(google("g403").await, (403, "insufficientPermissions".to_owned()));
    assert_eq!(google("g404").await, (404, "notFound".to_owned()));
    assert_eq!(google("g418").await, (503, "backendError".to_owned()));
    let before = world.asked().len();
    assert_eq!(watch("r403").await.0, 403);
    assert_eq!(world.asked().len(), before, "a refusal is kept for some seconds");
    assert_eq!(watch("r418").await.0, 503);
    assert_eq!(world.asked().len(), before + 1, "what was no answer is not");
    assert_eq!(watch("empty").await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_renew_leads_nothing_elsewhere() {
    let world = World::new(Kind::Sqlite, yes()).await;
    assert_eq!(world.call("POST", "/v1/channels", Some(opening("c", "a"))).await.0, 201);
    world.service.answer_with(|asked| match asked.json()["action"].as_str() {
        Some("change") => Says::status(403),
        _ => yes(),
    });
    let patch = async |body| world.call("PATCH", "/v1/channels/c", Some(body)).await.0;
    assert_eq!(patch(json!({ "ttlSeconds": 600 })).await, 200);
    let elsewhere = "http://127.0.0.1:8/";
    assert_eq!(patch(json!({ "ttlSeconds": 600, "address": elsewhere })).await, 403);
    // Notices carry the claim URL.
    assert_eq!(patch(json!({ "ttlSeconds": 600, "lifecycleAddress": elsewhere })).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_lets_nobody_in() {
    let world = World::new(Kind::Sqlite, yes()).await;
    let unavailable = (503, "accessUnavailable".to_owned());
    for says in [
        Says::Hang,
        Says::Reset,
        Says::status(500),
        Says::status(204),
        Says::status(302).with_header("Location", &world.service.url("/else")),
        Says::ok(),
        Says::ok().with_body("yes"),
        Says::ok().with_body(json!({ "subject": SUBJECT }).to_string()),
        Says::ok().with_body(format!("{{\"x\":\"{}\"}}", "a".repeat(20_000))),
    ] {
        let what = format!("{says:?}");
        world.service.answer(says);
        assert_eq!(world.list().await, unavailable, "{what}");
        // An answer that lacks something is kept like any other.
        world.app.advance(KEPT).await;
    }
    world.service.release();
    let nameless = json!({ "project": "p\u{0}", "subject": SUBJECT });
    world.service.answer(Says::ok().with_body(nameless.to_string()));
    assert_eq!(world.list().await, (401, "credentialsInvalid".to_owned()));
    world.app.advance(KEPT).await;
    let much =
        json!({ "project": PROJECT, "subject": SUBJECT, "scopes": ["operator", "channels"], "ttl": 0 });
    world.service.answer(Says::ok().with_body(much.to_string()));
    assert_eq!(world.list().await.0, 200);
    assert_eq!(world.call("POST", "/v1/jobs/expiry", None).await, (403, "scopeMissing".to_owned()));
    let before = world.asked().len();
    assert_eq!(world.list().await.0, 200);
    assert_eq!(world.asked().len(), before + 1, "kept for as long as it says: not at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_is_asked_once() {
    let world = World::new(Kind::Sqlite, Says::Hang).await;
    let answered = async {
        world.service.wait_for(1).await;
        world.service.answer(yes());
        world.service.release_with(&yes());
    };
    let (lists, ()) = tokio::join!(futures_util::future::join_all((0..8).map(|_| world.list())), answered);
    assert!(lists.iter().all(|(status, _)| *status == 200), "{lists:?}");
    assert_eq!(world.asked().len(), 1);
}
