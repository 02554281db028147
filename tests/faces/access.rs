//! Who may do what: credentials, scopes, resources, and what strangers see of a channel.

use std::time::Duration;

use serde_json::Value;

use crate::{
    http::{Answer, Ask},
    server::TestServer,
};

const CHANNEL: &str = "{\"resource\":\"a/b\",\"address\":\"http://127.0.0.1:9/\"}";
const EVENT: &str = "{\"resource\":\"a/b\",\"name\":\"a.b\"}";
const WATCH: &str = "{\"id\":\"g\",\"type\":\"web_hook\",\"address\":\"http://127.0.0.1:9/\"}";
const GOOGLE_STOP: &str = "/calendar/v3/channels/stop";

/// Every native route with a body that it accepts, and the scope that it needs.
const ROUTES: [(&str, &str, &str, &str); 20] = [
    ("POST", "/v1/events", EVENT, "events"),
    ("POST", "/v1/events?resource=a&name=a.b", "x", "events"),
    ("GET", "/v1/events?resource=a/b", "", "channels"),
    ("POST", "/v1/channels", CHANNEL, "channels"),
    ("PUT", "/v1/channels/new", CHANNEL, "channels"),
    ("GET", "/v1/channels", "", "channels"),
    ("GET", "/v1/channels/x", "", "channels"),
    ("PATCH", "/v1/channels/x", "{}", "channels"),
    ("DELETE", "/v1/channels/x", "", "channels"),
    ("GET", "/v1/channels/x/attempts", "", "channels"),
    ("GET", "/v1/channels/x/parked", "", "channels"),
    ("POST", "/v1/channels/x/pause", "", "channels"),
    ("POST", "/v1/channels/x/resume", "", "channels"),
    ("POST", "/v1/channels/x/skip", "{\"throughNumber\":1}", "channels"),
    ("POST", "/v1/channels/x/claim/rotate", "", "channels"),
    ("POST", "/v1/channels/x/secret/rotate", "", "channels"),
    ("POST", "/v1/channels/x/renew", "", "channels"),
    ("POST", "/v1/channels/x/ping", "", "channels"),
    ("POST", "/v1/channels/x/replay", "{\"fromNumber\":2}", "channels"),
    ("POST", "/v1/channels/x/parked/redrive", "", "channels"),
];

/// What an owner does to a channel, with bodies that are accepted.
const COMMANDS: [(&str, &str); 9] = [
    ("pause", ""),
    ("resume", ""),
    ("skip", "{\"throughNumber\":1}"),
    ("claim/rotate", ""),
    ("secret/rotate", ""),
    ("renew", ""),
    ("ping", ""),
    ("replay", "{\"fromNumber\":2}"),
    ("parked/redrive", ""),
];

const GOOGLE: [(&str, &str); 2] =
    [("/a/b/watch", WATCH), (GOOGLE_STOP, "{\"id\":\"x\",\"resourceId\":\"y\"}")];

fn assert_challenged(answer: &Answer) {
    assert!(answer.has_header("www-authenticate: Bearer realm=\"watchpost\""), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_valid_credentials_nothing_happens() {
    let server = TestServer::sqlite().await;
    let empty = server.stored().await;
    let good = server.token("p", "s", "channels events admin");
    let expired = server.token_for("p", "s", "channels events", &[], Duration::from_hours(2));
    let foreign = TestServer::sqlite().await;
    let foreign_token = foreign.token("p", "s", "channels events");
    let nameless = server.token("p\0", "s", "channels events");
    let endless = server.token(&"p".repeat(257), "s", "channels events");
    let bearer = |token: &str| format!("Bearer {token}").into_bytes();
    let missing: [Vec<Vec<u8>>; 2] = [vec![], vec![b"Basic dTpw".to_vec()]];
    let invalid: [Vec<Vec<u8>>; 12] = [
        vec![bearer("")],
        vec![b"Bearer".to_vec()],
        vec![bearer("garbage")],
        vec![bearer("a.b.c")],
        vec![bearer(&format!("{good}x"))],
        vec![bearer(&format!("{good} {good}"))],
        vec![bearer(&"a".repeat(10_000))],
        vec![b"Bearer \xff\xfe".to_vec()],
        vec![bearer(&expired)],
        vec![bearer(&foreign_token)],
        vec![bearer(&nameless)],
        vec![bearer(&endless)],
    ];
    let twice = vec![bearer(&good), bearer(&good)];
    let invalid =
        invalid.into_iter().chain([twice]).map(|headers| (headers, "credentialsInvalid", "authError"));
    let missing = missing.into_iter().map(|headers| (headers, "credentialsMissing", "required"));
    for (headers, code, reason) in missing.chain(invalid) {
        let with =
            |ask: Ask| headers.iter().fold(ask, |ask, header| ask.header("Authorization", header.clone()));
        for (method, target, body, _) in ROUTES {
            let answer = with(server.ask(method, target).body(body)).send().await;
            assert_eq!(answer.problem(), (401, code.into(), None), "{method} {target}");
            assert_challenged(&answer);
        }
        for (target, body) in GOOGLE {
            let answer = with(server.ask("POST", target).body(body)).send().await;
            let told = answer.google();
            assert_eq!((told.0, told.1.as_str()), (401, reason), "{target}");
            let error = &answer.json()["error"]["errors"][0];
            assert_eq!(
                (&error["locationType"], &error["location"]),
                (&"header".into(), &"Authorization".into())
            );
            assert_challenged(&answer);
        }
    }
    // A token in the query does not outweigh two headers, and is nothing to the native face.
    for name in ["access_token", "key", "oauth_token"] {
        let ask = server.ask("POST", &format!("/a/b/watch?{name}={good}")).body(WATCH);
        let told = ask.token(&good).token(&good).send().await.google();
        assert_eq!((told.0, told.1.as_str()), (401, "authError"));
        for (method, target, body, _) in ROUTES {
            let mark = if target.contains('?') { '&' } else { '?' };
            let answer = server.ask(method, &format!("{target}{mark}{name}={good}")).body(body).send().await;
            assert_eq!(answer.problem(), (401, "credentialsMissing".into(), None), "{method} {target}");
        }
    }
    assert_eq!(server.stored().await, empty);
    server.stop().await;
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_google_face_takes_tokens_in_the_query_and_keeps_them_to_itself() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "channels");
    for (at, name) in ["access_token", "key", "oauth_token"].into_iter().enumerate() {
        let body = WATCH.replace("\"g\"", &format!("\"g{at}\""));
        let target = format!("/a/b/watch?alt=json&{name}={token}&eventTypes=x&eventTypes=y");
        let answer = server.ask("POST", &target).body(body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let uri = answer.json()["resourceUri"].as_str().unwrap().to_owned();
        assert!(uri.ends_with("/a/b?alt=json&eventTypes=x&eventTypes=y"), "{uri}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_its_scope() {
    let server = TestServer::sqlite().await;
    let empty = server.stored().await;
    for (method, target, body, scope) in ROUTES {
        let others =
            ["channels", "events", "operator", "", "unknown ADMIN"].into_iter().filter(|s| *s != scope);
        for other in others {
            let token = server.token("p", "s", other);
            let answer = server.ask(method, target).token(&token).body(body).send().await;
            assert_eq!(
                answer.problem(),
                (403, "scopeMissing".into(), None),
                "{method} {target} with {other:?}"
            );
        }
    }
    for scopes in ["events", "operator", ""] {
        let token = server.token("p", "s", scopes);
        for (target, body) in GOOGLE {
            let told = server.ask("POST", target).token(&token).body(body).send().await.google();
            assert_eq!((told.0, told.1.as_str()), (403, "insufficientPermissions"), "{target}");
        }
    }
    for scopes in ["channels", "events", "admin", "channels events admin", ""] {
        let token = server.token("p", "s", scopes);
        let answer = server.ask("POST", "/v1/jobs/expiry").token(&token).send().await;
        assert_eq!(answer.problem(), (403, "scopeMissing".into(), None), "{scopes}");
    }
    assert_eq!(server.stored().await, empty);
    // Whoever issues API tokens cannot make themselves an operator: that key is another one.
    let would_be = server.token("p", "s", "operator");
    assert_eq!(server.ask("POST", "/v1/jobs/expiry").token(&would_be).send().await.status, 403);
    let operator = server.operator_token();
    assert_eq!(server.ask("POST", "/v1/jobs/expiry").token(&operator).send().await.status, 200);
    assert_eq!(server.ask("POST", "/v1/jobs/other").token(&operator).send().await.problem().0, 404);
    assert_eq!(server.ask("POST", "/v1/jobs/expiry").send().await.problem().0, 401);
    assert_eq!(server.ask("POST", "/v1/keys/rotate").body("{}").send().await.problem().0, 401);
    let rotation = server.ask("POST", "/v1/keys/rotate").token(&would_be).body("{}").send().await;
    assert_eq!(rotation.problem().0, 403);
    let admin = server.token("p", "s", "admin");
    for (method, target, body, _) in ROUTES {
        let status = server.ask(method, target).token(&admin).body(body).send().await.status;
        assert!(status < 300 || target.contains("/x") && status == 404, "{method} {target}: {status}");
    }
    server.stop().await;
}

/// Everything of an answer but the id that it echoes.
fn but_for(answer: &Answer, id: &str) -> (u16, String) {
    (answer.status, answer.text().replace(id, "ID"))
}

async fn strangers_see_nothing(server: TestServer) {
    let owner = server.token("p", "s", "channels events");
    let opened = server.ask("PUT", "/v1/channels/native").token(&owner).body(CHANNEL).send().await.json();
    let watched = server.ask("POST", "/a/b/watch").token(&owner).body(WATCH).send().await.json();
    let (uid, resource_id) = (opened["uid"].as_str().unwrap(), watched["resourceId"].as_str().unwrap());
    let before = server.stored().await;

    // Another subject, another project, even its admin: on /v1 all see the same as where nothing is.
    let strangers =
        [("p", "t", "channels"), ("q", "s", "channels"), ("q", "s", "admin"), ("q", "t", "channels admin")];
    for (project, subject, scopes) in strangers {
        let token = server.token(project, subject, scopes);
        let reads = [
            ("GET", String::new(), ""),
            ("PATCH", String::new(), "{\"token\":\"x\"}"),
            ("DELETE", String::new(), ""),
            ("GET", "/attempts".to_owned(), ""),
            ("GET", "/parked".to_owned(), ""),
        ];
        let commands = COMMANDS.map(|(verb, body)| ("POST", format!("/{verb}"), body));
        for (method, rest, body) in reads.into_iter().chain(commands) {
            let see =
                |id: &str| server.ask(method, &format!("/v1/channels/{id}{rest}")).token(&token).body(body);
            let nothing = see("nothing").send().await;
            assert_eq!(nothing.problem(), (404, "notFound".into(), None));
            for id in ["native", uid, "g"] {
                let answer = see(id).send().await;
                assert_eq!(
                    but_for(&answer, id),
                    but_for(&nothing, "nothing"),
                    "{method} {id}{rest} of {project}/{subject}"
                );
                assert_eq!(answer.head.lines().count(), nothing.head.lines().count());
            }
        }
        let list = server.ask("GET", "/v1/channels").token(&token).send().await.json();
        assert_eq!(list["items"], Value::Array(vec![]));
    }
    // Ids are of a project: to another subject a PUT looks as taken as it is, and nothing more.
    let other = server.token("p", "t", "channels");
    let answer = server.ask("PUT", "/v1/channels/native").token(&other).body(CHANNEL).send().await;
    assert_eq!(answer.problem(), (409, "channelIdTaken".into(), Some("id".into())));

    let stop = |token: &str, id: &str, resource_id: &str| {
        let body = format!("{{\"id\":\"{id}\",\"resourceId\":\"{resource_id}\"}}");
        server.ask("POST", GOOGLE_STOP).token(token).body(body).send()
    };
    for (project, scopes) in [("q", "channels"), ("q", "admin")] {
        let token = server.token(project, "s", scopes);
        let (answer, nothing) =
            (stop(&token, "g", resource_id).await, stop(&token, "nothing", resource_id).await);
        assert_eq!(but_for(&answer, "'g'"), but_for(&nothing, "'nothing'"));
        assert_eq!(
            nothing.google(),
            (404, "notFound".into(), "Channel 'nothing' not found for project 'q'".into())
        );
    }
    assert_eq!(stop(&other, "g", "AAAA").await.google().0, 404, "the wrong resource first");
    assert_eq!(stop(&owner, uid, resource_id).await.google().0, 404, "a uid is no id");
    let told = stop(&other, "g", resource_id).await.google();
    assert_eq!((told.0, told.1.as_str()), (403, "stopChannelCallerNotOwner"));
    assert_eq!(server.stored().await, before);

    // The project's admin sees and stops all of it.
    let admin = server.token("p", "boss", "admin");
    let list = server.ask("GET", "/v1/channels").token(&admin).send().await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let list = server.ask("GET", "/v1/channels?subject=t").token(&admin).send().await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 0);
    for id in ["native", uid, "g"] {
        let answer = server.ask("GET", &format!("/v1/channels/{id}")).token(&admin).send().await;
        assert_eq!(answer.json()["subject"], "s");
    }
    assert_eq!(stop(&admin, "g", resource_id).await.status, 204);
    for _ in 0..2 {
        let answer = server.ask("DELETE", "/v1/channels/native").token(&admin).send().await;
        assert_eq!(answer.status, 204, "stopping twice is fine");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_nothing_sqlite() {
    strangers_see_nothing(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_nothing_postgres() {
    strangers_see_nothing(TestServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_watch_what_its_patterns_name() {
    let server = TestServer::sqlite().await;
    let patterns = ["calendar/v3/calendars/{subject}/**", "drive/*/changes"];
    let token = server.token_for("p", "a b@x", "channels events", &patterns, Duration::ZERO);
    let empty = server.stored().await;
    let none = server.token_for("p", "a b@x", "channels", &["nowhere"], Duration::ZERO);
    let forbidden = [
        "calendar/v3/calendars/other/events",
        "calendar/v3/calendars",
        "drive/v3/changes/more",
        "drive/changes",
        "a",
        "watchpost/channels",
    ];
    for resource in forbidden {
        let body = CHANNEL.replace("a/b", resource);
        for (method, target, body) in [
            ("POST", "/v1/channels".to_owned(), body.as_str()),
            ("PUT", "/v1/channels/x".to_owned(), body.as_str()),
            ("GET", format!("/v1/events?resource={resource}"), ""),
        ] {
            let answer = server.ask(method, &target).token(&token).body(body).send().await;
            assert_eq!(answer.problem(), (403, "resourceNotAllowed".into(), None), "{method} {resource}");
        }
        let told =
            server.ask("POST", &format!("/{resource}/watch")).token(&token).body(WATCH).send().await.google();
        assert_eq!((told.0, told.1.as_str()), (403, "insufficientPermissions"), "{resource}");
    }
    assert_eq!(server.stored().await, empty);
    let allowed = [
        "calendar/v3/calendars/primary/events",
        "calendar/v3/calendars/a b@x/events",
        "calendar/v3/calendars/a%20b%40x",
        "drive/v3/changes",
    ];
    for (at, resource) in allowed.into_iter().enumerate() {
        let body = CHANNEL.replace("a/b", resource);
        let target = format!("/v1/channels/c{at}");
        let answer = server.ask("PUT", &target).token(&token).body(body).send().await;
        assert_eq!(answer.status, 201, "{resource}: {}", answer.text());
        let changed = server.ask("PATCH", &target).token(&token).body("{\"ttlSeconds\":60}").send().await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        // The same subject with less: reading is its own, renewing and turning elsewhere is watching.
        assert_eq!(server.ask("GET", &target).token(&none).send().await.status, 200);
        let answer = server.ask("PATCH", &target).token(&none).body("{\"ttlSeconds\":60}").send().await;
        assert_eq!(answer.problem(), (403, "resourceNotAllowed".into(), None));
        for (verb, body) in COMMANDS {
            let answer = server.ask("POST", &format!("{target}/{verb}")).token(&none).body(body).send().await;
            assert_eq!(answer.problem(), (403, "resourceNotAllowed".into(), None), "{verb}");
        }
    }
    // Publishing is the back end's, which no pattern binds, and an admin has the whole project.
    assert_eq!(server.ask("POST", "/v1/events").token(&token).body(EVENT).send().await.status, 200);
    let admin = server.token_for("p", "s", "admin", &["nowhere"], Duration::ZERO);
    assert_eq!(server.ask("POST", "/v1/channels").token(&admin).body(CHANNEL).send().await.status, 201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_authentication_off_every_credential_is_ignored() {
    let server = TestServer::sqlite_with(&[("AUTH", "off")]).await;
    let other = server.token("other", "someone", "");
    let plain = server.ask("POST", "/v1/channels").body(CHANNEL).send().await;
    assert_eq!((plain.status, &plain.json()["subject"]), (201, &"default".into()));
    for ask in [
        server.ask("POST", "/v1/channels").token(&other),
        server.ask("POST", "/v1/channels").token("garbage").token("garbage"),
        server.ask("POST", "/v1/channels").header("Authorization", &b"\xff"[..]),
    ] {
        let answer = ask.body(CHANNEL).send().await;
        assert_eq!((answer.status, &answer.json()["subject"]), (201, &"default".into()));
    }
    let answer =
        server.ask("POST", "/calendar/v3/calendars/primary/events/watch?key=x").body(WATCH).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.ask("POST", "/v1/jobs/retry").send().await.status, 200);
    let list = server.ask("GET", "/v1/channels?resource=calendar/v3/calendars/default/events").send().await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 1, "primary is the subject's");
    server.stop().await;
}
