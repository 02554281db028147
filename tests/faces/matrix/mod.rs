//! The authorization matrix: every route that the sources register, for every kind of caller. What each gets stands
//! in one table, and a route without a row fails.
//!
//! Routes are found by reading the sources of the faces, so that a new one cannot be forgotten. Each call that shall
//! work gets an object of its own; those that shall not must leave the store as it was.

mod table;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use watchpost::signing::JwtKey;

use self::table::{Row, TABLE};
use crate::{http::Answer, server::TestServer};

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Nothing,
    Channel,
    Event,
    Resource,
    ApiKey,
    /// A channel's claim URL.
    Capability,
}

const HOUR: Duration = Duration::from_hours(1);
/// The Google face takes whatever no route took, by these two endings.
const GOOGLE: [&str; 2] = ["POST /{resource}/watch", "POST /{any}/channels/stop"];

/// Every `METHOD /path` that a face registers.
fn registered() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = GOOGLE.map(str::to_owned).into();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let routes = source.split(".route(").skip(1);
            let mut read = 0;
            for route in routes {
                let (path, rest) = route.split_once(", web::").unwrap();
                let (before, path) = path.split_once('"').unwrap();
                let path = path.split('"').next().unwrap();
                let method = rest.split('(').next().unwrap().to_uppercase();
                // Native routes are told apart by the helper that puts the prefix in front.
                let prefix = if before.contains("path(") { "/v1" } else { "" };
                found.insert(format!("{method} {prefix}{path}"));
                read += 1;
            }
            // Registered in any other way, a route would not be seen here.
            let handlers = source.matches(").to(").count();
            assert_eq!(handlers, read, "{}", path.display());
            for other in [".service(", "web::resource(", "web::scope("] {
                assert!(!source.contains(other), "{}: {other}", path.display());
            }
        }
    }
    found
}

#[test]
fn every_route_has_a_row() {
    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(rows.len(), TABLE.len(), "a route has one row");
    assert_eq!(rows, registered());
}

/// The description of the native API names `resourceNotAllowed` just where the table has it.
#[test]
fn what_patterns_refuse_is_described() {
    let document = include_str!("../../../openapi/v1.json");
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    for row in TABLE {
        let (method, path) = row.route.split_once(' ').unwrap();
        let Some(path) = path.strip_prefix("/v1") else { continue };
        let refusal = &document["paths"][path][method.to_lowercase()]["responses"]["403"]["description"];
        let told = refusal.as_str().unwrap().contains("`resourceNotAllowed`");
        assert_eq!(told, row.narrow == 403, "{}", row.route);
    }
}

/// An object that the owner has made, as it is named in paths and bodies.
struct Thing {
    name: String,
    resource_id: String,
}

impl Row {
    fn target(&self, thing: &Thing) -> String {
        let (_, path) = self.route.split_once(' ').unwrap();
        let path = path
            .replace("{id}", &thing.name)
            .replace("{capability}", &thing.name)
            .replace("{resourceId}", &thing.resource_id)
            .replace("{resource}", "rooms/1")
            .replace("{any}", "calendar/v3")
            .replace("{name}", "expiry");
        path + self.query
    }

    async fn call(&self, server: &TestServer, token: Option<&str>, thing: &Thing) -> Answer {
        let (method, _) = self.route.split_once(' ').unwrap();
        let body = self.body.replace("THING", &thing.name).replace("RESOURCE", &thing.resource_id);
        let ask = server.ask(method, &self.target(thing)).body(body);
        match token {
            Some(token) => ask.token(token),
            None => ask,
        }
        .send()
        .await
    }

    fn is_google(&self) -> bool {
        GOOGLE.contains(&self.route)
    }

    fn takes(&self, scope: &str) -> bool {
        self.scopes.split(' ').any(|known| known == scope) || (scope == "admin" && self.scopes != "operator")
    }
}

/// The owner's and the strangers' tokens.
struct Callers<'s> {
    server: &'s TestServer,
}

impl Callers<'_> {
    fn with(&self, project: &str, subject: &str, scopes: &str, resources: &[&str]) -> String {
        if scopes == "operator" {
            return self.server.operator_token();
        }
        self.server.token_for(project, subject, scopes, resources, Duration::ZERO)
    }

    /// Tokens that say all the right things, and are none.
    fn refused(&self) -> Vec<(&'static str, String)> {
        let app = &self.server.server.as_ref().unwrap().app;
        let now = app.now().as_seconds();
        let claims = |from: i64| {
            json!({ "iss": "watchpost", "project": "p", "sub": "s", "scope": "channels events admin operator",
                    "iat": from, "nbf": from, "exp": from + 3_600 })
        };
        let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let unsigned =
            |algorithm: &str| format!("{}.{}", part(&json!({ "alg": algorithm })), part(&claims(now)));
        let good = self.server.token("p", "s", "channels events admin");
        let signature = good.rsplit_once('.').unwrap().1;
        let other_key = JwtKey::new(&[7; 32]);
        let scopes = BTreeSet::from(["channels".to_owned(), "events".to_owned(), "admin".to_owned()]);
        vec![
            ("garbage", "garbage".to_owned()),
            ("expired", self.server.token_for("p", "s", "channels events admin", &[], HOUR + HOUR)),
            ("another key", other_key.mint("p", "s", &scopes, &[], HOUR, app.now()).unwrap()),
            ("no algorithm", format!("{}.", unsigned("none"))),
            ("another algorithm", format!("{}.{signature}", unsigned("RS256"))),
            ("another token's signature", format!("{}.{signature}", unsigned("HS256"))),
        ]
    }
}

struct Maker<'s> {
    server: &'s TestServer,
    made: usize,
}

impl Maker<'_> {
    /// A new object of the owner. All names of a kind are equally long, so that answers that quote them are.
    async fn make(&mut self, object: Object) -> Thing {
        self.made += 1;
        let name = format!("thing-{:04}", self.made);
        let owner = self.server.token("p", "s", "channels events");
        let ask = |method: &str, target: &str, body: serde_json::Value| {
            self.server.ask(method, target).token(&owner).body(body.to_string()).send()
        };
        let resource = format!("rooms/of-{name}");
        let answer = match object {
            Object::Nothing => return Thing { name, resource_id: String::new() },
            Object::Channel | Object::Capability => {
                let body = json!({ "resource": resource, "address": "http://127.0.0.1:9/" });
                let opened = ask("PUT", &format!("/v1/channels/{name}"), body).await;
                // Something to replay, to skip and to claim.
                ask("POST", "/v1/events", json!({ "resource": resource, "name": "room.changed" })).await;
                opened
            }
            Object::Event => {
                let body = json!({ "resource": resource, "name": "room.changed", "id": name, "data": 1 });
                ask("POST", "/v1/events", body).await
            }
            Object::ApiKey => {
                let admin = self.server.token("p", "s", "admin");
                let body = json!({ "subject": "s", "scopes": ["events"] }).to_string();
                let made = self.server.ask("POST", "/v1/apikeys").token(&admin).body(body).send().await;
                let id = made.json()["id"].as_str().unwrap().to_owned();
                return Thing { name: id, resource_id: String::new() };
            }
            Object::Resource => ask("PUT", "/v1/resources", json!({ "resource": resource })).await,
        };
        assert!(answer.status < 300, "{answer:?}");
        let answer = answer.json();
        let first = answer["events"].get(0).unwrap_or(&answer);
        let resource_id = first["resourceId"].as_str().unwrap().to_owned();
        let claim = answer["claimUrl"].as_str().and_then(|url| url.rsplit('/').next());
        let name = claim.filter(|_| object == Object::Capability).map_or(name, str::to_owned);
        Thing { name, resource_id }
    }
}

/// What nothing is called, as long as what something is.
fn nothing(object: Object) -> Thing {
    let name =
        if object == Object::ApiKey { format!("key_{}", "0".repeat(32)) } else { "empty-0000".to_owned() };
    Thing { name, resource_id: "A".repeat(27) }
}

/// An answer's every byte, but for its date and the name that it quotes.
fn bytes(answer: &Answer, thing: &Thing) -> (String, String) {
    let head: Vec<&str> = answer.head.lines().filter(|line| !line.starts_with("date: ")).collect();
    let unnamed = |text: &str| text.replace(&thing.name, "THING");
    (unnamed(&head.join("\n")), unnamed(answer.text()))
}

fn assert_refused(answer: &Answer, row: &Row, who: &str, status: u16, code: &str, reason: &str) {
    let told = if row.is_google() {
        let (status, told, _) = answer.google();
        (status, told == reason)
    } else {
        let (status, told, _) = answer.problem();
        (status, told == code)
    };
    assert_eq!(told, (status, true), "{} for {who}: {answer:?}", row.route);
}

/// Whoever names another's object gets what they get who name nothing.
async fn assert_hidden(row: &Row, server: &TestServer, who: &str, token: &str, thing: &Thing) {
    let seen = row.call(server, Some(token), thing).await;
    let missing = nothing(row.object);
    let unseen = row.call(server, Some(token), &missing).await;
    assert_eq!(seen.status, 404, "{} for {who}: {seen:?}", row.route);
    assert_eq!(bytes(&seen, thing), bytes(&unseen, &missing), "{} for {who}", row.route);
}

async fn refused_calls(row: &Row, server: &TestServer, maker: &mut Maker<'_>) {
    let callers = Callers { server };
    let thing = maker.make(row.object).await;
    let before = server.stored().await;
    let answer = row.call(server, None, &thing).await;
    assert_refused(&answer, row, "nobody", 401, "credentialsMissing", "required");
    for (who, token) in callers.refused() {
        let answer = row.call(server, Some(&token), &thing).await;
        assert_refused(&answer, row, who, 401, "credentialsInvalid", "authError");
        assert!(answer.has_header("www-authenticate: Bearer realm=\"watchpost\""), "{answer:?}");
    }
    // `operator` under the key of API tokens is no scope at all.
    for scope in ["channels", "events", "admin", "operator", "", "ADMIN unknown"] {
        if row.takes(scope) && scope != "operator" {
            continue;
        }
        let token = server.token("p", "s", scope);
        let answer = row.call(server, Some(&token), &thing).await;
        assert_refused(&answer, row, scope, 403, "scopeMissing", "insufficientPermissions");
    }
    let first = row.scopes.split(' ').next().unwrap();
    let narrow = callers.with("p", "s", first, &["elsewhere/**"]);
    match row.narrow {
        403 => {
            let answer = row.call(server, Some(&narrow), &thing).await;
            assert_refused(&answer, row, "narrow", 403, "resourceNotAllowed", "insufficientPermissions");
        }
        404 => assert_hidden(row, server, "narrow", &narrow, &thing).await,
        _ => {}
    }
    if row.subject == 404 {
        assert_hidden(row, server, "another subject", &callers.with("p", "t", row.scopes, &[]), &thing).await;
    }
    if row.project == 404 {
        for scopes in [row.scopes, "admin"] {
            let token = callers.with("q", "s", scopes, &[]);
            assert_hidden(row, server, "another project", &token, &thing).await;
        }
    }
    assert_eq!(server.stored().await, before, "{}", row.route);
}

async fn answered_calls(row: &Row, server: &TestServer, maker: &mut Maker<'_>) {
    let callers = Callers { server };
    let mut cases = Vec::new();
    for scope in row.scopes.split(' ') {
        cases.push(("the owner", callers.with("p", "s", scope, &[]), row.own));
    }
    if row.takes("admin") {
        cases.push(("the project's admin", callers.with("p", "boss", "admin", &[]), row.own));
    }
    let first = row.scopes.split(' ').next().unwrap();
    cases.push(("another subject", callers.with("p", "t", row.scopes, &[]), row.subject));
    cases.push(("another project", callers.with("q", "s", row.scopes, &[]), row.project));
    cases.push(("narrow", callers.with("p", "s", first, &["elsewhere/**"]), row.narrow));
    for (who, token, status) in cases {
        let thing = maker.make(row.object).await;
        let answer = row.call(server, Some(&token), &thing).await;
        assert_eq!(answer.status, status, "{} for {who}: {answer:?}", row.route);
    }
}

async fn public_calls(row: &Row, server: &TestServer, maker: &mut Maker<'_>) {
    let callers = Callers { server };
    let mut tokens = vec![None, Some(callers.with("q", "t", "channels", &[]))];
    tokens.extend(callers.refused().into_iter().map(|(_, token)| Some(token)));
    let thing = maker.make(row.object).await;
    for token in tokens {
        let answer = row.call(server, token.as_deref(), &thing).await;
        assert_eq!(answer.status, row.own, "{}: {answer:?}", row.route);
    }
}

async fn everybody_gets_what_the_table_says(server: TestServer) {
    let mut maker = Maker { server: &server, made: 0 };
    for row in TABLE {
        if row.scopes.is_empty() {
            public_calls(row, &server, &mut maker).await;
        } else {
            refused_calls(row, &server, &mut maker).await;
            answered_calls(row, &server, &mut maker).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_the_table_says_sqlite() {
    everybody_gets_what_the_table_says(TestServer::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_the_table_says_postgres() {
    everybody_gets_what_the_table_says(TestServer::postgres().await).await;
}

/// Names that no object has, and what a proxy might be made to read as another route.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_object_is_called_is_not_there() {
    let server = TestServer::sqlite().await;
    let admin = server.token("p", "s", "admin");
    let mut maker = Maker { server: &server, made: 0 };
    let thing = maker.make(Object::Channel).await.name;
    for name in ["%00", "a%00b", "%27%20or%201=1--", "%E2%80%AE", &"a".repeat(300), "%2e%2e", "%2F", "null"] {
        for row in TABLE.iter().filter(|row| row.route.contains("{id}") && row.project == 404) {
            let malformed = Thing { name: name.to_owned(), resource_id: String::new() };
            let answer = row.call(&server, Some(&admin), &malformed).await;
            assert_eq!(answer.problem(), (404, "notFound".into(), None), "{} {name}", row.route);
        }
    }
    for target in [
        format!("/v1/channels/{thing}/"),
        format!("/v1//channels/{thing}"),
        format!("/V1/channels/{thing}"),
        format!("/v1/channels/../channels/{thing}"),
        format!("/v1/Channels/{thing}"),
    ] {
        let answer = server.ask("GET", &target).token(&admin).send().await;
        assert_eq!(answer.problem(), (404, "noSuchRoute".into(), None), "{target}");
    }
    for method in ["HEAD", "OPTIONS", "TRACE", "POST", "PROPFIND"] {
        let answer = server.ask(method, &format!("/v1/channels/{thing}")).token(&admin).send().await;
        assert_eq!(answer.status, 404, "{method}");
    }
    // A method is what the request line says.
    let answer = server
        .ask("GET", &format!("/v1/channels/{thing}"))
        .token(&admin)
        .header("X-HTTP-Method-Override", "DELETE")
        .header("X-HTTP-Method", "DELETE")
        .send()
        .await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &"active".into()));
    server.stop().await;
}
