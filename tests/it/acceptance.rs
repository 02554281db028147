//! Google's own Python client against a server of this process, on the system's clock.

use std::{path::Path, process::Command, sync::Arc};

use watchpost::clock::SystemClock;

use crate::{
    app::{PROJECT, TestApp},
    base::Kind,
};

on_both!(googles_client_finds_nothing_to_complain_about);

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
