//! Signatures against verifiers that are not ours, with their default arguments and on the system's clock.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use watchpost::{clock::SystemClock, jobs::JobName};

use crate::{
    app::TestApp,
    base::Kind,
    support::receiver::{Answer, Received, Receiver},
};

on_both!(standard_webhooks_verify_in_python_and_javascript, pyjwt_verifies_with_the_published_keys);

const RESOURCE: &str = "orders/17";
const AUDIENCE: &str = "https://receiver.example";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a verifier reads.
fn message(kind: &str, request: &Received, secret: &str) -> Value {
    let headers: BTreeMap<&str, &str> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    json!({ "kind": kind, "headers": headers, "body": BASE64_STANDARD.encode(&request.body), "secret": secret })
}

/// Runs a verifier over messages, all of which must verify.
fn verify(program: impl AsRef<OsStr>, script: &str, messages: &[Value]) {
    let program = program.as_ref();
    let script = root().join("tests/acceptance").join(script);
    let mut running = Command::new(program)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: `make setup` brings it", Path::new(program).display()));
    running.stdin.take().unwrap().write_all(Value::from(messages).to_string().as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("all checks passed\n"), "{said}");
    assert_eq!(said.lines().count(), messages.len() + 1, "{said}");
}

fn python() -> PathBuf {
    root().join(".cache/venv/bin/python")
}

async fn standard_webhooks_verify_in_python_and_javascript(kind: Kind) {
    let app = TestApp::on_clock(kind, Arc::new(SystemClock::new())).await;
    let (full, thin) = (Receiver::start().await, Receiver::start().await);
    let opened = app.open(json!({ "id": "full", "resource": RESOURCE, "address": full.url("/") })).await;
    let first = opened["secret"].as_str().unwrap();
    let retry = json!({ "schedule": ["0s"], "maxAttempts": 1 });
    let opening = json!({ "id": "thin", "resource": RESOURCE, "address": thin.url("/"), "payload": false,
                          "lifecycle": true, "retry": retry });
    let opened = app.open(opening).await;
    let secret = opened["secret"].as_str().unwrap();
    app.settle().await;

    let event =
        json!({ "resource": RESOURCE, "name": "order.changed", "data": { "é": "\u{1f600}", "n": 1.50 } });
    app.publish(event.clone()).await;
    app.settle().await;
    // Half-way through a rotation either secret will do.
    let rotated = app.post("/v1/channels/full/secret/rotate", json!({})).await.json();
    let second = rotated["secret"].as_str().unwrap();
    // The thin one is suspended by its first failure, and told what there is to claim.
    thin.answer(Answer::status(503));
    app.publish(event).await;
    app.settle().await;
    app.server().jobs.run_once(JobName::Claims).await.unwrap();
    let claim = |request: &Received| request.notice() == Some("claim");
    let told = app.until(&thin, "the claim", |received| received.iter().any(claim)).await;

    let [sync, payload, rotating] = &*full.received() else { panic!("{}", full.transcript()) };
    let messages = [
        message("sync", sync, first),
        message("payload", payload, first),
        message("rotating, old secret", rotating, first),
        message("rotating, new secret", rotating, second),
        message("thin", &told[1], secret),
        message("claim", told.iter().find(|request| claim(request)).unwrap(), secret),
    ];
    tokio::task::block_in_place(|| {
        verify(python(), "signatures.py", &messages);
        verify("node", "signatures.cjs", &messages);
    });
}

async fn pyjwt_verifies_with_the_published_keys(kind: Kind) {
    let app = TestApp::on_clock(kind, Arc::new(SystemClock::new())).await;
    let (google, standard) = (Receiver::start().await, Receiver::start().await);
    let audience = Receiver::start().await;
    let watch = json!({ "id": "google", "type": "web_hook", "address": google.url("/"),
                        "params": { "signatures": "jwt" } });
    let watched = app.watch(RESOURCE, watch).await;
    assert_eq!(watched.get("params"), None, "there is no secret to keep");
    let opening = json!({ "id": "standard", "resource": RESOURCE, "address": standard.url("/"), "payload": false,
                          "signatures": ["v1", "v1a", "jwt"], "lifecycle": true });
    app.open(opening).await;
    app.settle().await;
    let opening = json!({ "id": "audience", "resource": RESOURCE, "address": audience.url("/"), "payload": false,
                          "auth": { "type": "jwt", "audience": AUDIENCE } });
    app.open(opening).await;
    app.settle().await;
    app.publish(json!({ "resource": RESOURCE, "name": "order.deleted", "state": "not_exists" })).await;
    app.settle().await;
    app.post("/v1/channels/standard/renew", json!({})).await;
    let renewed = |request: &Received| request.notice() == Some("renewed");
    let told = app.until(&standard, "the notice", |received| received.iter().any(renewed)).await;

    let jwks = format!("http://{}/.well-known/jwks.json", app.server().address);
    let message = |kind: &str, channel: &str, request: &Received| {
        let mut message = message(kind, request, "");
        (message["jwks"], message["channel"]) = (jwks.as_str().into(), channel.into());
        message
    };
    let mut for_audience = message("thin, for an audience", "audience", &audience.received()[1]);
    for_audience["audience"] = AUDIENCE.into();
    let messages = [
        for_audience,
        message("google sync", "google", &google.received()[0]),
        message("google thin", "google", &google.received()[1]),
        message("standard sync", "standard", &told[0]),
        message("standard thin", "standard", &told[1]),
        message("notice", "standard", told.iter().find(|request| renewed(request)).unwrap()),
    ];
    tokio::task::block_in_place(|| verify(python(), "tokens.py", &messages));
}
