//! Every address of `vectors.tsv`, at each place where an address comes in or goes out: open, patch, ping, delivery.
//!
//! What is sent to is what the row of a channel says, so the rows of refused addresses are written past the gate,
//! as rows from before a rule would be. Canaries listen where a spelling of this host would lead, and a policy that
//! lets the very same rows through shows that they hear.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::{
    app::TestApp,
    base::Kind,
    support::{
        dns::{DnsServer, Reply},
        receiver::{Answer, Receiver},
    },
};

on_both!(
    a_refused_address_is_refused_alike_wherever_it_is_given,
    what_was_let_in_before_is_refused_where_it_is_used,
    no_redirect_leads_to_a_refused_address,
);

const VECTORS: &str = include_str!("vectors.tsv");
const RESOURCE: &str = "orders/17";

struct Vector {
    id: &'static str,
    verdict: &'static str,
    address: String,
}

impl Vector {
    fn is_refused(&self) -> bool {
        !["public", "at-send"].contains(&self.verdict)
    }
}

fn vectors() -> Vec<Vector> {
    let rows = VECTORS.lines().filter(|line| !line.starts_with('#'));
    let vector = |line: &'static str| {
        let [id, verdict, address, _why] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four columns in {line}");
        };
        Vector { id, verdict, address: serde_json::from_str(address).unwrap() }
    };
    rows.map(vector).collect()
}

fn of_verdict(verdict: &str) -> Vec<String> {
    vectors().into_iter().filter(|vector| vector.verdict == verdict).map(|vector| vector.address).collect()
}

/// Addresses that are let through.
pub fn public() -> Vec<String> {
    of_verdict("public")
}

/// Addresses that are let through until their names are looked up.
pub fn at_send() -> Vec<String> {
    of_verdict("at-send")
}

/// Addresses that lead to this host's `port` when they are let through.
fn spellings_of_this_host(port: u16) -> Vec<String> {
    let local = |vector: &Vector| {
        let host = vector.address.split("//").nth(1).unwrap_or_default();
        let marks = [
            "127.",
            "2130706433",
            "0x7f",
            "0X7F",
            "0177",
            "0/",
            "0x0/",
            "[::1]",
            "[::ffff:7f",
            "[::FFFF:127",
        ];
        vector.verdict == "address" && marks.iter().any(|mark| host.starts_with(mark))
    };
    let at_port = |vector: Vector| {
        let host = vector.address.strip_suffix('/').filter(|host| !host.ends_with('/'));
        host.map(|host| format!("{host}:{port}/"))
    };
    vectors().into_iter().filter(local).filter_map(at_port).collect()
}

/// Where names of everybody for this host lead to it.
async fn name_server() -> DnsServer {
    let dns = DnsServer::start().await;
    for ip in ["127.0.0.1", "169.254.169.254"] {
        dns.answer(&format!("{ip}.nip.io"), Reply::addresses(&[ip]));
    }
    dns
}

/// Where a spelling of this host would lead: a receiver on 127.0.0.1, and a listener on the same port of `::1`.
struct Canaries {
    receiver: Receiver,
    v6: Option<TcpListener>,
}

impl Canaries {
    async fn start() -> Self {
        let receiver = Receiver::start().await;
        // A machine without IPv6 has no canary to hear.
        let v6 = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, receiver.address().port()))).ok();
        Self { receiver, v6 }
    }

    fn port(&self) -> u16 {
        self.receiver.address().port()
    }

    fn heard(&self) -> bool {
        let v6 = self.v6.as_ref().is_some_and(|listener| {
            listener.set_nonblocking(true).unwrap();
            listener.accept().is_ok()
        });
        v6 || self.receiver.connections() > 0
    }
}

/// Towards public addresses http and IP literals are open, and the canaries' port; nothing of this machine is but
/// the port by which a shared database's tests know that a node may send.
async fn close(app: &mut TestApp, canaries: &Canaries, dns: &DnsServer) {
    app.set("EGRESS_DNS", &dns.address.to_string());
    app.set("EGRESS_ALLOW", &format!("127.0.0.0/8:{}", app.canary_port().await));
    app.set("EGRESS_HTTP", "true");
    app.set("EGRESS_IP_LITERALS", "true");
    app.set("EGRESS_PORTS", &format!("443,8443,{}", canaries.port()));
    app.restart().await;
}

async fn a_refused_address_is_refused_alike_wherever_it_is_given(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let (canaries, dns) = (Canaries::start().await, name_server().await);
    // Paused, so that nothing is sent to the public addresses that it is given.
    let address = canaries.receiver.url("/");
    app.open(json!({ "id": "patched", "resource": RESOURCE, "address": address })).await;
    app.settle().await;
    app.post("/v1/channels/patched/pause", json!({})).await;
    let before = canaries.receiver.connections();
    close(&mut app, &canaries, &dns).await;

    let of_this_host = spellings_of_this_host(canaries.port());
    assert!(of_this_host.len() > 15, "{of_this_host:?}");
    let refused = vectors().into_iter().filter(Vector::is_refused).map(|vector| vector.address);
    let mut texts = Vec::new();
    for address in refused.chain(of_this_host) {
        let opened = app.post("/v1/channels", json!({ "resource": RESOURCE, "address": address })).await;
        let patched = app.patch("patched", json!({ "address": address })).await;
        for answer in [opened, patched] {
            assert_eq!(
                (answer.status, &answer.json()["field"]),
                (400, &json!("address")),
                "{address:?}: {answer:?}"
            );
            texts.push(answer.body);
        }
        let watch = json!({ "id": "watched", "type": "web_hook", "address": address });
        let watched = app.post(&format!("/{RESOURCE}/watch"), watch).await;
        assert!([400, 401].contains(&watched.status), "{address:?}: {watched:?}");
        assert!(watched.reason().starts_with("push.webhookUrl"), "{address:?}: {watched:?}");
    }
    texts.dedup();
    assert_eq!(
        texts.len(),
        1,
        "one text for all: {:?}",
        texts.iter().map(|text| String::from_utf8_lossy(text))
    );
    assert_eq!(app.channel("patched").await["address"], address);

    for vector in vectors().into_iter().filter(|vector| !vector.is_refused()) {
        let patched = app.patch("patched", json!({ "address": vector.address })).await;
        assert_eq!(patched.status, 200, "{}: {patched:?}", vector.id);
    }
    assert_eq!(canaries.receiver.connections(), before);
    assert_eq!(dns.asked(), [], "who names an address makes nobody look a name up");
}

async fn what_was_let_in_before_is_refused_where_it_is_used(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let (canaries, receiver) = (Canaries::start().await, Receiver::start().await);
    let dns = name_server().await;
    receiver.answer(Answer::ok());
    let of_this_host = spellings_of_this_host(canaries.port());
    let by_name = format!("http://127.0.0.1.nip.io:{}/", canaries.port());
    let refused =
        vectors().into_iter().filter(|vector| vector.verdict != "public").map(|vector| vector.address);
    // PostgreSQL keeps no NUL in a text, so no row can have one.
    let rows = refused.chain(of_this_host).chain([by_name]).filter(|address| !address.contains('\0'));
    let rows: Vec<String> = rows.collect();
    for at in 0..rows.len() {
        app.open(json!({ "id": format!("c{at}"), "resource": RESOURCE, "address": receiver.url("/") })).await;
    }
    receiver.wait_for(rows.len()).await;
    app.settle().await;
    close(&mut app, &canaries, &dns).await;
    app.stop().await;
    let update = |(at, address): (usize, &String)| {
        let address = address.replace('\'', "''");
        format!("update channels set address = '{address}' where channel_id = 'c{at}';")
    };
    app.base.run(&rows.iter().enumerate().map(update).collect::<String>()).await;
    app.set("RETRY_SCHEDULE", "0s,1h");
    app.start_again().await;

    for (at, address) in rows.iter().enumerate() {
        assert_eq!(app.channel(&format!("c{at}")).await["address"], *address);
        let pinged = app.post(&format!("/v1/channels/c{at}/ping"), json!({})).await;
        assert_eq!(pinged.status, 202, "{pinged:?}");
    }
    app.settle().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.settle().await;
    for (at, address) in rows.iter().enumerate() {
        let attempts = app.attempts(&format!("c{at}")).await;
        let refused: Vec<&Value> = attempts.iter().filter(|it| it["error"] == "target_not_allowed").collect();
        let notices: Vec<&Value> = refused.iter().map(|attempt| &attempt["notice"]).collect();
        assert!(notices.contains(&&json!("ping")), "{address:?}: {attempts:?}");
        assert!(notices.contains(&&Value::Null), "{address:?}: {attempts:?}");
        assert_eq!(
            attempts.len(),
            refused.len() + 1,
            "all but the sync of before: {address:?}: {attempts:?}"
        );
    }
    assert!(!canaries.heard());
    assert!(dns.asked().iter().all(|(name, _)| name.ends_with(".nip.io")), "{:?}", dns.asked());
    assert_eq!(receiver.received().len(), rows.len(), "the first address is not asked again");

    // The same rows under a policy that opens this machine: now the canaries hear.
    app.set("EGRESS_ALLOW", "127.0.0.0/8,0.0.0.0,::1");
    app.set("ATTEMPT_TIMEOUT", "1s");
    app.restart().await;
    app.publish_many(RESOURCE, "order.changed", 1).await;
    app.advance(std::time::Duration::from_hours(2)).await;
    assert!(
        canaries.heard() && canaries.receiver.received().len() > 10,
        "{}",
        canaries.receiver.transcript()
    );
}

async fn no_redirect_leads_to_a_refused_address(kind: Kind) {
    let mut app = TestApp::start(kind).await;
    let (canaries, receiver) = (Canaries::start().await, Receiver::start().await);
    let port = receiver.address().port();
    app.set("EGRESS_ALLOW", &format!("127.0.0.1:{port},127.0.0.0/8:{}", app.canary_port().await));
    app.restart().await;
    // A header carries no control characters, and what begins with no `//` is a place on the receiver itself.
    let is_reference = |address: &String| {
        address.bytes().all(|byte| byte >= b' ' && byte != 0x7f)
            && address != "http:127.0.0.1/"
            && address.contains(':')
    };
    let refused = vectors().into_iter().filter(Vector::is_refused).map(|vector| vector.address);
    let refused: Vec<String> =
        refused.chain(spellings_of_this_host(canaries.port())).filter(is_reference).collect();
    let locations = refused.clone();
    receiver.answer_with(move |request| {
        let at: usize = request.path.trim_start_matches('/').parse().unwrap_or_default();
        Answer::status(308).with_header("location", &locations[at])
    });
    for at in 0..refused.len() {
        let address = receiver.url(&format!("/{at}"));
        let body = json!({ "id": format!("c{at}"), "resource": RESOURCE, "address": address, "redirects": "update" });
        app.open(body).await;
    }
    receiver.wait_for(refused.len()).await;
    app.settle().await;
    for (at, location) in refused.iter().enumerate() {
        let channel = app.channel(&format!("c{at}")).await;
        assert_eq!(channel["address"], receiver.url(&format!("/{at}")), "{location:?}");
    }
    assert!(!canaries.heard());
}
