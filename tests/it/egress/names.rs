//! What a name server may answer, and what comes of it: an answer counts as a whole, a connection goes where the
//! answer that was judged says, and whose failure it is depends on whether the name server said anything.
//!
//! 127.0.0.1 stands for the public internet: it alone is opened. Canaries listen beside it, on the same port.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use serde_json::json;

use crate::{
    app::TestApp,
    base::Kind,
    support::{
        dns::{A, AAAA, DnsServer, HTTPS, NXDOMAIN, Record, Reply, SERVFAIL, TXT},
        receiver::{Answer, Receiver},
    },
};

on_both!(
    an_answer_counts_as_a_whole,
    a_name_that_moves_inside_takes_no_new_connection_with_it,
    a_failing_name_server_is_not_the_receivers_failure,
);

const PUBLIC: &str = "127.0.0.1";
const CANARY: &str = "127.0.0.2";

struct Place {
    app: TestApp,
    dns: DnsServer,
    receiver: Receiver,
    canaries: Vec<TcpListener>,
}

impl Place {
    async fn new(kind: Kind) -> Self {
        let (dns, receiver) = (DnsServer::start().await, Receiver::start().await);
        let address = dns.address.to_string();
        let settings = [
            ("EGRESS_ALLOW", PUBLIC),
            ("EGRESS_HTTP", "true"),
            ("EGRESS_PORTS", "any"),
            ("EGRESS_DNS", &address),
        ];
        let app = TestApp::with(kind, &settings).await;
        let port = receiver.address().port();
        let places = [SocketAddr::new(CANARY.parse().unwrap(), port), (Ipv6Addr::LOCALHOST, port).into()];
        let canaries: Vec<TcpListener> = places.iter().filter_map(|it| TcpListener::bind(it).ok()).collect();
        assert!(!canaries.is_empty());
        Self { app, dns, receiver, canaries }
    }

    /// Opens the channel `name` on a resource of the same name, at the receiver's port of `name.shop.com`.
    async fn open(&self, name: &str) {
        let address = format!("http://{}:{}/{name}", host(name), self.receiver.address().port());
        self.app.open(json!({ "id": name, "resource": name, "address": address })).await;
        self.app.settle().await;
    }

    async fn publish(&self, name: &str) {
        self.app.publish_many(name, "order.changed", 1).await;
        self.app.settle().await;
    }

    /// What came of the last attempt: its error, or its outcome.
    async fn last(&self, name: &str) -> String {
        let attempts = self.app.attempts(name).await;
        let last = attempts.last().unwrap_or(&serde_json::Value::Null);
        last["error"].as_str().or(last["outcome"].as_str()).unwrap_or("no attempt").to_owned()
    }

    fn told(&self, name: &str) -> usize {
        let path = format!("/{name}");
        self.receiver.received().iter().filter(|request| request.path == path).count()
    }

    fn assert_canaries_heard_nothing(&self) {
        for canary in &self.canaries {
            canary.set_nonblocking(true).unwrap();
            assert!(canary.accept().is_err(), "{:?} was connected to", canary.local_addr());
        }
    }
}

fn host(name: &str) -> String {
    format!("{name}.shop.com")
}

async fn an_answer_counts_as_a_whole(kind: Kind) {
    const REFUSED: &str = "target_not_allowed";
    const DELIVERED: &str = "delivered";
    const NO_ADDRESS: &str = "dns_no_address";
    let place = Place::new(kind).await;
    let inner = || Record::address(CANARY).of("db.inside.shop.com");
    let many = |last: &str| {
        let mut ips = vec![PUBLIC; 999];
        ips.push(last);
        Reply::addresses(&ips)
    };
    let text = |at: u8| Record::new(TXT, [vec![240], vec![at; 240]].concat());
    let stuffed = (0..240).map(text).chain([Record::address(PUBLIC)]).collect();
    // Priority 1, the name itself, and ipv4hint.
    let hint = Record::new(HTTPS, vec![0, 1, 0, 0, 4, 0, 4, 127, 0, 0, 2]);
    let cases = [
        ("d1", Reply::addresses(&[CANARY]), REFUSED),
        ("d2", Reply::addresses(&[PUBLIC, CANARY]), REFUSED),
        ("d2-private", Reply::addresses(&["8.8.8.8", "10.0.0.1"]), REFUSED),
        ("d3", Reply::addresses(&[PUBLIC, "::1"]), REFUSED),
        ("d4", Reply::addresses(&["::ffff:169.254.169.254"]), REFUSED),
        ("d7", Reply::Records(vec![Record::alias("db.inside.shop.com"), inner()]), REFUSED),
        ("d7-asked", Reply::Records(vec![Record::alias("db.elsewhere.shop.com")]), REFUSED),
        ("d8", Reply::Records(vec![Record::alias("d8b.shop.com")]), NO_ADDRESS),
        ("d8b", Reply::Records(vec![Record::alias("d8.shop.com")]), NO_ADDRESS),
        ("d9", many(PUBLIC), DELIVERED),
        ("d9-inside", many(CANARY), REFUSED),
        ("d10", Reply::Code(NXDOMAIN), NO_ADDRESS),
        ("d10-empty", Reply::Records(Vec::new()), NO_ADDRESS),
        ("d13", Reply::OverTcp(vec![Record::address(PUBLIC)]), DELIVERED),
        ("d13-inside", Reply::OverTcp(vec![Record::address(CANARY)]), REFUSED),
        ("d14", Reply::Records(stuffed), DELIVERED),
        ("d17", Reply::addresses(&["0.0.0.0"]), REFUSED),
        ("d17-v6", Reply::addresses(&["::"]), REFUSED),
        ("d18", Reply::addresses(&["64:ff9b::7f00:1"]), REFUSED),
        ("d18-6to4", Reply::addresses(&["2002:7f00:1::1"]), REFUSED),
        ("d20", Reply::Records(vec![Record::address(PUBLIC), hint]), DELIVERED),
    ];
    place.dns.answer("db.elsewhere.shop.com", Reply::addresses(&[CANARY]));
    for (name, reply, _) in &cases {
        place.dns.answer(&host(name), reply.clone());
    }
    for (name, _, expected) in &cases {
        place.open(name).await;
        assert_eq!(place.last(name).await, *expected, "{name}");
        assert_eq!(place.told(name), usize::from(*expected == DELIVERED), "{name}");
    }
    // A short name is looked for nowhere but under itself, and two types are all that is asked for.
    let short = json!({ "id": "d15", "resource": "d15", "address": "http://intranet:9000/" });
    place.app.open(short).await;
    place.app.settle().await;
    assert_eq!(place.last("d15").await, NO_ADDRESS);
    let asked = place.dns.asked();
    assert!(asked.iter().all(|(_, kind)| [A, AAAA].contains(kind)), "{asked:?}");
    assert!(asked.iter().all(|(name, _)| name.ends_with(".shop.com") || name == "intranet"), "{asked:?}");
    place.assert_canaries_heard_nothing();
}

async fn a_name_that_moves_inside_takes_no_new_connection_with_it(kind: Kind) {
    let place = Place::new(kind).await;
    // A lookup of one's own for every connection, however long the first answer wants to live.
    for (name, ttl) in [("d5", 0), ("d19", u32::MAX / 2 + 1)] {
        let mut lookups = 0;
        place.dns.answer_with(&host(name), move |kind| {
            lookups += usize::from(kind == A);
            let ip = if lookups <= 1 { PUBLIC } else { CANARY };
            Reply::Records(vec![Record::address(ip).living(ttl)])
        });
        place.receiver.answer(Answer::ok().with_header("connection", "close"));
        place.open(name).await;
        assert_eq!(place.last(name).await, "delivered", "{name}");
        place.publish(name).await;
        assert_eq!((place.last(name).await.as_str(), place.told(name)), ("target_not_allowed", 1), "{name}");
    }

    place.receiver.answer(Answer::ok());
    place.dns.answer(&host("d6"), Reply::addresses(&[PUBLIC]));
    place.open("d6").await;
    place.dns.answer(&host("d6"), Reply::addresses(&[CANARY]));
    let before = place.receiver.connections();
    place.publish("d6").await;
    assert_eq!(
        (place.told("d6"), place.receiver.connections()),
        (2, before),
        "the connection idles where it was"
    );
    place.receiver.stop().await;
    place.receiver.restart();
    for _ in 0..2 {
        place.publish("d6").await;
        if place.last("d6").await != "target_not_allowed" {
            place.app.advance_to(place.app.next_attempt_at("d6").await).await;
        }
    }
    assert_eq!((place.last("d6").await.as_str(), place.told("d6")), ("target_not_allowed", 2));
    place.assert_canaries_heard_nothing();
}

async fn a_failing_name_server_is_not_the_receivers_failure(kind: Kind) {
    let place = Place::new(kind).await;
    let half = |kind| if kind == A { Reply::addresses(&[PUBLIC]) } else { Reply::Code(SERVFAIL) };
    place.dns.answer_with(&host("half"), half);
    place.open("half").await;
    assert_eq!(place.last("half").await, "delivered", "one kind of address is enough");

    for (name, reply) in [("d11", Reply::Code(SERVFAIL)), ("d12", Reply::Silence)] {
        place.dns.answer(&host(name), reply);
        place.open(name).await;
        assert_eq!(place.last(name).await, "no attempt", "{name}");
        assert!(place.dns.was_asked_for(&host(name)));
        place.dns.answer(&host(name), Reply::addresses(&[PUBLIC]));
        place.app.advance(std::time::Duration::from_mins(2)).await;
        assert_eq!((place.last(name).await.as_str(), place.told(name)), ("delivered", 1), "{name}");
    }
}

/// On SQLite, as is the next: on a shared database the tests have a receiver of their own, which must be open.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_leads_nowhere_but_into_what_is_opened() {
    let mut place = Place::new(Kind::Sqlite).await;
    let port = place.receiver.address().port();
    let address = |host: &str| format!("http://{host}:{port}/{host}");
    place.dns.answer("hook", Reply::addresses(&[PUBLIC]));
    // As a search domain or a hosts file would have it.
    place.dns.answer("d15", Reply::addresses(&[CANARY]));
    place.dns.answer("d15-mixed", Reply::addresses(&[PUBLIC, CANARY]));
    for (name, expected) in
        [("hook", "delivered"), ("d15", "target_not_allowed"), ("d15-mixed", "target_not_allowed")]
    {
        place.app.open(json!({ "id": name, "resource": name, "address": address(name) })).await;
        place.app.settle().await;
        assert_eq!(place.last(name).await, expected, "{name}");
    }

    // Where nothing is opened it is refused as it stands, and nobody is asked for it.
    place.app.set("EGRESS_ALLOW", "");
    place.app.restart().await;
    let before = place.dns.asked().len();
    let body = json!({ "id": "c", "resource": "c", "address": address("intranet") });
    let refused = place.app.post("/v1/channels", body).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("addressNotAllowed")));
    assert_eq!(place.dns.asked().len(), before);
    place.assert_canaries_heard_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_the_hosts_file_is_judged_like_any_answer() {
    // The one entry that every machine has.
    let canary = TcpListener::bind((PUBLIC, 0)).unwrap();
    let app = TestApp::with(Kind::Sqlite, &[("EGRESS_ALLOW", "127.0.0.2")]).await;
    let address = format!("http://localhost:{}/", canary.local_addr().unwrap().port());
    app.open(json!({ "id": "d16", "resource": "d16", "address": address })).await;
    app.settle().await;
    assert_eq!(app.attempts("d16").await[0]["error"], "target_not_allowed");
    canary.set_nonblocking(true).unwrap();
    assert!(canary.accept().is_err(), "it was connected to");
}
