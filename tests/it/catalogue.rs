//! The catalogue of misbehaving receivers: what each does, and what has to come of it. Most are a line of a table
//! ([`rows`]), which is run as a whole: one server, a channel per line, all of them at once. The others have
//! a story of their own, of time ([`stories`]) or of bytes ([`connections`]).
//!
//! Told elsewhere: B-34 (many channels on one host) in `retry`, where a host begins with sixteen; what of B-42 (names)
//! can be told without a resolver that lies, beside the resolver and the policy; how little of an answer is read
//! (B-12, B-13) beside the sender.
//!
//! Left out, since there is nothing yet that could be shown: B-31 (a poisoned event: no such rule yet), B-32's
//! ping and its alert to the owner (no notices yet; the status is in the table), B-45 (a receiver that publishes:
//! no hop counter yet), B-47 and B-48 (verification: none yet), the slow lane of B-33, the dashboard of B-40.
//!
//! Left out, since it cannot be shown here: B-14 (500 endless answers at full speed) and what the floods of B-21
//! and B-37 cost are measurements and not tests (here they flood at a pace that leaves the machine to others); the
//! rest of B-42, and B-44 (an address that changes), take a resolver that the tests write; of B-35 revoked and weak
//! certificates and of B-36 renegotiation are more than the tests' TLS can make; B-49 (a receiver that confirms
//! what it has not read) is outside anybody's power.

mod connections;
mod rows;
mod stories;

use std::sync::Arc;

use serde_json::{Value, json};
use watchpost::domain::time::Timestamp;

use crate::{
    app::{TestApp, seconds},
    base::{Base, Kind},
    support::{
        misbehaving::{
            Misbehaving,
            script::{Script, on_request},
            tls::Authority,
        },
        receiver::Receiver,
    },
};

/// Where events are small, and where one of them is close to the largest there may be.
const SMALL: &str = "orders/17";
const BIG: &str = "orders/18";
const BIG_BYTES: usize = 250 * 1024;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const OK_AND_CLOSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A line of the table.
pub struct Row {
    case: &'static str,
    /// What the receiver does.
    what: &'static str,
    script: Script,
    expected: Expected,
    /// What it gets is big.
    big: bool,
    /// Its address is `https:`.
    secure: bool,
    /// The sender may use its connection for what comes next.
    kept: bool,
}

/// What the ledger says of each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    outcome: &'static str,
    status: Option<u16>,
    error: Option<&'static str>,
}

const fn delivered(status: u16) -> Expected {
    Expected { outcome: "delivered", status: Some(status), error: None }
}

const fn failed(status: u16) -> Expected {
    Expected { outcome: "failed", status: Some(status), error: None }
}

/// There was no answer.
const fn broken(error: &'static str) -> Expected {
    Expected { outcome: "failed", status: None, error: Some(error) }
}

/// There was none in time.
const fn late(error: &'static str) -> Expected {
    Expected { outcome: "overloaded", status: None, error: Some(error) }
}

fn row(case: &'static str, what: &'static str, script: Script, expected: Expected) -> Row {
    let secure = !script.is_plain();
    Row { case, what, script, expected, big: false, secure, kept: false }
}

impl Row {
    fn big(self) -> Self {
        Self { big: true, ..self }
    }

    fn secure(self) -> Self {
        Self { secure: true, ..self }
    }

    fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    fn resource(&self) -> &'static str {
        if self.big { BIG } else { SMALL }
    }

    fn is_delivered(&self) -> bool {
        self.expected.outcome == "delivered"
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.case, self.what)
    }
}

/// One request per connection, so that each attempt finds a new one.
fn polite() -> Script {
    on_request().says(OK_AND_CLOSE).closes()
}

async fn open(app: &TestApp, id: &str, resource: &str, address: &str) {
    let opening = json!({ "id": id, "resource": resource, "address": address, "payload": true });
    app.open(opening).await;
}

/// Number, attempt and what came of it, per attempt.
async fn ledger(app: &TestApp, id: &str) -> Vec<(u64, u64, String)> {
    let attempts = app.attempts(id).await;
    attempts.iter().map(|of| (number(of, "number"), number(of, "attempt"), outcome(of))).collect()
}

fn number(attempt: &Value, key: &str) -> u64 {
    attempt[key].as_u64().unwrap()
}

fn outcome(attempt: &Value) -> String {
    format!("{} {} {}", attempt["outcome"], attempt["status"], attempt["error"])
}

impl Expected {
    fn text(self) -> String {
        outcome(&json!({ "outcome": self.outcome, "status": self.status, "error": self.error }))
    }
}

/// Whatever an answer does: the attempt ends as expected, it is one request, it is recorded once, it is tried again
/// on the schedule, the next channel does not notice, and once the receiver behaves it gets everything in order.
async fn run(authority: &Authority, rows: &[Row], attempt_timeout: &str) {
    let base = Arc::new(Base::new(Kind::Sqlite));
    let roots = authority.write_to(&base.folder).to_string_lossy().into_owned();
    let mut app = TestApp::on(base, &[("EGRESS_CA_FILE", &roots)]).await;
    let well = Receiver::start().await;
    for resource in [SMALL, BIG] {
        open(&app, &format!("well{}", &resource[7..]), resource, &well.url("/")).await;
    }
    let good = authority.good("http/1.1");
    let mut receivers = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let polite = if row.secure { polite().through(&good) } else { polite() };
        let receiver = Misbehaving::start(polite);
        open(&app, &format!("c{at}"), row.resource(), &receiver.url("/")).await;
        receivers.push(receiver);
    }
    let all = || rows.iter().zip(&receivers).enumerate().map(|(at, (row, it))| (format!("c{at}"), row, it));
    app.settle().await;
    for (row, receiver) in rows.iter().zip(&receivers) {
        assert_eq!(receiver.places(), [(1, 1)], "{row}: the sync");
        receiver.plays(&row.script);
    }
    app.set("ATTEMPT_TIMEOUT", attempt_timeout);
    app.restart().await;
    app.publish_many(SMALL, "order.changed", 3).await;
    let fill = "x".repeat(BIG_BYTES);
    let events = [json!({ "fill": fill }), json!(2), json!(3)]
        .map(|data| json!({ "resource": BIG, "name": "order.changed", "data": data }));
    app.publish(json!({ "events": events })).await;
    well.wait_for(2 * 4).await;
    for attempt in 1..=2 {
        app.settle().await;
        // All of them are told at once.
        let mut wrong = Vec::new();
        for (id, row, receiver) in all() {
            let ok = delivered(200).text();
            let mut expected = vec![(1, 1, ok)];
            if row.is_delivered() {
                expected.extend((2..=4).map(|number| (number, 1, row.expected.text())));
            } else {
                expected.extend((1..=attempt).map(|attempt| (2, attempt, row.expected.text())));
            }
            let ledger = ledger(&app, &id).await;
            if ledger != expected {
                wrong.push(format!("{row}: {ledger:?} instead of {expected:?}"));
            }
            let channel = app.channel(&id).await;
            assert_eq!(channel["state"], "active", "{row}");
            if let Some(due) = channel["cursor"]["nextAttemptAt"].as_str() {
                let wait = Timestamp::parse_rfc3339(due).unwrap().since(app.now());
                let step = if attempt == 1 { 5 } else { 30 };
                assert!(wait >= seconds(step) && wait <= seconds(step).mul_f64(1.25), "{row}: {wait:?}");
            }
            if row.script.is_held() && !row.kept {
                receiver.is_left(&row.to_string()).await;
                if receiver.connections() != expected.len() {
                    wrong.push(format!("{row}: {} connections", receiver.connections()));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        app.advance(seconds(7)).await;
    }
    for receiver in &receivers {
        receiver.behaves();
    }
    app.set("ATTEMPT_TIMEOUT", "15s");
    app.restart().await;
    app.advance(seconds(40)).await;
    app.sweep().await;
    for (id, row, receiver) in all() {
        let ledger = ledger(&app, &id).await;
        let ledger: Vec<_> = ledger.into_iter().map(|(number, attempt, _)| (number, attempt)).collect();
        let expected: &[(u64, u64)] = if row.is_delivered() {
            &[(1, 1), (2, 1), (3, 1), (4, 1)]
        } else {
            &[(1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)]
        };
        assert_eq!(ledger, expected, "{row}");
        // What was not read to its end is missing here; nothing is here twice or early.
        let places = receiver.places();
        assert!(places.is_sorted_by(|a, b| a < b), "{row}: {places:?}");
        assert!(places.iter().all(|place| expected.contains(place)), "{row}: {places:?}");
        assert!(row.is_delivered() || places.ends_with(&expected[3..]), "{row}: {places:?}");
        assert!(receiver.connections() <= ledger.len(), "{row}: no connection without an attempt");
        assert!(receiver.requests().len() <= ledger.len(), "{row}: no request without an attempt");
        assert_eq!(app.channel(&id).await["cursor"]["lag"], 0, "{row}");
        assert!(!receiver.requests().iter().any(|request| request.has_header("cookie")), "{row}");
    }
    assert_eq!(well.received().len(), 2 * 4, "{}", well.transcript());
}
