//! Secrets are planted wherever one can be given, and looked for where none may be: in the log, at its most talkative, in
//! answers, and in the files of the store.

use std::{
    fs::{self, File},
    io::BufReader,
    net::SocketAddr,
    process::Stdio,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    cli::{Place, Running},
    http::Ask,
    support::receiver::{Answer, Receiver},
};

const MASTER_KEY: [u8; 32] = *b"canary-of-the-master-key-32-byte";
const SIGNING: &[u8; 32] = b"canary-of-a-signing-secret-bytes";
const JWT_SECRET: &str = "canary-of-the-shared-jwt-secret-0123456789";
const BEARER: &str = "canary-of-the-receivers-bearer";
const HEADER: &str = "canary-of-a-header-value";
/// Shown to the channel's owner.
const TOKEN: &str = "canary-of-the-channel-token";
/// Lies in the store as it is, which the documentation says.
const QUERY: &str = "canary-of-the-address-query";
const WRONG: &str = "canary-of-a-wrong-credential";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_echoed_or_stored_in_clear() {
    let master = BASE64_STANDARD.encode(MASTER_KEY);
    let place = Place::new(&[
        ("LISTEN", "127.0.0.1:0"),
        ("DATABASE_URL", "sqlite:./data/here.db"),
        ("EGRESS_ALLOW", "127.0.0.0/8"),
        ("MASTER_KEY", &master),
        ("JWT_SECRET", JWT_SECRET),
        ("RETRY_SCHEDULE", "0s,1s"),
        ("LOG", "trace"),
    ]);
    let (mut server, log) = serve(&place);
    let at: SocketAddr = server.until("listening on http://").parse().unwrap();
    let mint = ["token", "mint", "--project", "p", "--subject", "s", "--scope", "channels events admin"];
    let caller = place.json(&mint)["token"].as_str().unwrap().to_owned();
    let ask = |method: &str, target: &str, body: Value| {
        Ask::new(at, method, target).token(&caller).body(body.to_string()).send()
    };
    let key = ask("POST", "/v1/apikeys", json!({ "subject": "s", "scopes": ["channels"] })).await.json();
    let key = key["key"].as_str().unwrap().to_owned();

    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503));
    let signing = format!("whsec_{}", BASE64_STANDARD.encode(SIGNING));
    let opened = ask(
        "POST",
        "/v1/channels",
        json!({
            "id": "c", "resource": "rooms/1", "address": receiver.url(&format!("/?key={QUERY}")), "token": TOKEN,
            "secret": signing, "signatures": ["v1", "v1a", "jwt"], "headers": { "X-Api-Key": HEADER },
            "auth": { "type": "bearer", "token": BEARER }, "lifecycle": true, "excerpts": true,
        }),
    );
    let opened = opened.await.json();
    let claim = url::Url::parse(opened["claimUrl"].as_str().unwrap()).unwrap().path().to_owned();
    let capability = claim.rsplit('/').next().unwrap().to_owned();
    ask("POST", "/v1/events", json!({ "resource": "rooms/1", "name": "room.changed", "data": 1 })).await;
    receiver.wait_for(1).await;
    receiver.answer(Answer::ok());
    receiver.wait_for(3).await;
    let rotated = ask("POST", "/v1/channels/c/secret/rotate", json!({})).await.json();
    let rotated = rotated["secret"].as_str().unwrap().to_owned();

    // What others hear, and what somebody hears who got it wrong.
    let mut answers = Vec::new();
    for (target, credential) in [
        ("/v1/channels/c", caller.as_str()),
        ("/v1/channels", &key),
        ("/v1/channels", WRONG),
        (&claim, WRONG),
    ] {
        answers.push(Ask::new(at, "GET", target).token(credential).send().await);
    }
    for target in [format!("/rooms/1/watch?access_token={WRONG}"), format!("/claims/{WRONG}/ack")] {
        answers.push(Ask::new(at, "POST", &target).body("{}").send().await);
    }
    for wrong in [
        json!({ "resource": "rooms/1", "address": format!("http://u:{BEARER}@127.0.0.1/?key={QUERY}") }),
        json!({ "resource": "rooms/1", "address": receiver.url("/"), "secret": format!("{signing}!") }),
        json!({ "resource": "rooms/1", "address": receiver.url("/"), "auth": { "type": "bearer", "token": [BEARER] } }),
        json!({ "resource": "rooms/1", "address": receiver.url("/"), "headers": { "X-Api-Key": format!("{HEADER}\n") } }),
    ] {
        let answer = ask("POST", "/v1/channels", wrong).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        answers.push(answer);
    }
    let broken = format!("{{\"secret\": \"{signing}\", \"auth\": \"{BEARER}\"");
    answers.push(Ask::new(at, "POST", "/v1/channels").token(&caller).body(broken).send().await);
    server.terminate();

    let texts = [&caller, &key, &capability, &signing, &rotated, &master].map(String::as_str);
    let secrets: Vec<&[u8]> = texts
        .into_iter()
        .chain([JWT_SECRET, BEARER])
        .map(str::as_bytes)
        .chain([SIGNING.as_slice(), &MASTER_KEY, signing.trim_start_matches("whsec_").as_bytes()])
        .collect();
    let shown: Vec<&[u8]> = [QUERY, HEADER, WRONG].map(str::as_bytes).to_vec();
    for answer in &answers {
        let said = [answer.head.as_bytes(), &answer.body].concat();
        let told_to_owner = capability.as_bytes();
        for secret in secrets.iter().filter(|secret| **secret != told_to_owner).chain(&shown) {
            assert!(!holds(&said, secret), "{} in {}", String::from_utf8_lossy(secret), answer.text());
        }
    }
    let logged = fs::read(&log).unwrap();
    assert!(holds(&logged, b"TRACE") && holds(&logged, b"an address was refused"), "the log says something");
    for secret in secrets.iter().chain(&shown).chain([&TOKEN.as_bytes()]) {
        assert!(!holds(&logged, secret), "{} is logged", String::from_utf8_lossy(secret));
    }
    let files: Vec<_> = fs::read_dir(place.path("data")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().any(|file| holds(&fs::read(file).unwrap(), QUERY.as_bytes())), "the store was read");
    for file in files {
        let stored = fs::read(&file).unwrap();
        for secret in secrets.iter().chain([&HEADER.as_bytes(), &TOKEN.as_bytes()]) {
            assert!(!holds(&stored, secret), "{} in {}", String::from_utf8_lossy(secret), file.display());
        }
    }
}

/// A server whose log goes to a file.
fn serve(place: &Place) -> (Running, String) {
    let log = place.path("log");
    let mut command = place.command(&["serve"]);
    let mut child = command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (Running { child, lines, said: String::new() }, log)
}

fn holds(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
