//! Google's own Python client, and a fuzzer that reads the API's description, against a server of this process, on the
//! system's clock.

use std::{path::Path, process::Command, sync::Arc};

use watchpost::clock::SystemClock;

use crate::{
    app::{PROJECT, TestApp},
    base::Kind,
};

on_both!(googles_client_finds_nothing_to_complain_about, the_api_answers_as_it_is_described);

async fn googles_client_finds_nothing_to_complain_about(kind: Kind) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".cache/venv/bin/python");
    assert!(python.exists(), "{} is missing: `make setup` makes it", python.display());
    let app = TestApp::on_clock(kind, Arc::new(SystemClock::new())).await;
    let mut command = Command::new(python);
    command.arg(root.join("tests/acceptance/google_client.py"));
    command.arg("--server").arg(format!("http://{}", app.server().address));
    command.arg("--token").arg(app.token(PROJECT, "liz@example.com", "channels events"));
    command.arg("--other-token").arg(app.token(PROJECT, "tom@example.com", "channels"));
    command.arg("--foreign-token").arg(app.token("else", "liz@example.com", "channels events"));
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("all checks passed\n"), "{said}");
}

/// Every operation with values that fit its description and values that do not: no failure of ours, and no answer that is not
/// described. A failure prints the request and the seed.
async fn the_api_answers_as_it_is_described(kind: Kind) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fuzzer = root.join(".cache/venv/bin/schemathesis");
    assert!(fuzzer.exists(), "{} is missing: `make setup` makes it", fuzzer.display());
    let app = TestApp::on_clock(kind, Arc::new(SystemClock::new())).await;
    let mut command = Command::new(fuzzer);
    command.arg("run").arg(format!("http://{}/openapi.json", app.server().address));
    command
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", app.token(PROJECT, "fuzzer", "channels events admin")));
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--no-color"]);
    let checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    ];
    command.args(["--checks", &checks.join(",")]);
    command.current_dir(&app.base.folder);
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" generated, "), "it has tried something: {said}");
}
