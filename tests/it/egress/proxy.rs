//! Requests through a proxy: it is asked for addresses that we have judged, never for names, and for nothing that is
//! forbidden. What it is asked for never leaves this machine, so here public addresses can be sent to.

use serde_json::json;

use super::vectors::{at_send, public};
use crate::{
    app::{TestApp, seconds},
    base::Kind,
    support::{
        connect::ConnectProxy,
        dns::{DnsServer, Reply},
        receiver::{Answer, Receiver},
        socks::SocksProxy,
    },
};

pub const RESOURCE: &str = "orders/17";
pub const PUBLIC: &str = "203.0.112.7";

pub enum Proxy {
    Socks5(SocksProxy),
    Http(ConnectProxy),
}

impl Proxy {
    fn asked(&self) -> Vec<String> {
        match self {
            Self::Socks5(proxy) => proxy.asked(),
            Self::Http(proxy) => proxy.asked(),
        }
    }
}

pub struct Place {
    pub app: TestApp,
    pub dns: DnsServer,
    pub proxy: Proxy,
    pub receiver: Receiver,
}

impl Place {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let receiver = Receiver::start().await;
        let proxy = Proxy::Socks5(SocksProxy::start(receiver.address()).await);
        Self::behind(proxy, "", receiver, settings).await
    }

    /// On SQLite: on a shared database the tests have a receiver of their own, which a proxy would hide.
    /// `credentials` as they stand in a URL, with their `@`.
    pub async fn behind(
        proxy: Proxy,
        credentials: &str,
        receiver: Receiver,
        settings: &[(&str, &str)],
    ) -> Self {
        let through = match &proxy {
            Proxy::Socks5(proxy) => format!("socks5://{credentials}{}", proxy.address),
            Proxy::Http(proxy) => format!("http://{credentials}{}", proxy.address),
        };
        let dns = DnsServer::start().await;
        let name_server = dns.address.to_string();
        let mut all = vec![
            ("EGRESS_ALLOW", ""),
            ("EGRESS_DNS", &name_server),
            ("EGRESS_PROXY", &through),
            ("EGRESS_HTTP", "true"),
            ("EGRESS_IP_LITERALS", "true"),
        ];
        all.extend(settings);
        let app = TestApp::with(Kind::Sqlite, &all).await;
        Self { app, dns, proxy, receiver }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_is_asked_for_what_was_judged() {
    is_asked_for_what_was_judged(&Place::new(&[]).await).await;
}

pub async fn is_asked_for_what_was_judged(place: &Place) {
    for host in ["example.com", "xn--bcher-kva.de"] {
        place.dns.answer(host, Reply::addresses(&[PUBLIC]));
    }
    place.dns.answer("127.0.0.1.nip.io", Reply::addresses(&["127.0.0.1"]));
    place.dns.answer("169.254.169.254.nip.io", Reply::addresses(&[PUBLIC, "169.254.169.254"]));
    let mut expected = Vec::new();
    for (at, address) in public().into_iter().enumerate() {
        let id = format!("public-{at}");
        place.app.open(json!({ "id": id, "resource": RESOURCE, "address": address })).await;
        place.app.settle().await;
        let url = url::Url::parse(&address).unwrap();
        let host = match url.host().unwrap() {
            url::Host::Domain(_) => PUBLIC.to_owned(),
            ip => ip.to_string(),
        };
        expected.push(format!("{host}:{}", url.port_or_known_default().unwrap()));
        let attempts = place.app.attempts(&id).await;
        // Behind the proxy nobody speaks TLS.
        let outcome = if url.scheme() == "https" { "failed" } else { "delivered" };
        assert_eq!(attempts[0]["outcome"], outcome, "{address}: {attempts:?}");
    }
    assert!(expected.len() > 10);
    assert_eq!(place.proxy.asked(), expected);
    for (at, address) in at_send().into_iter().enumerate() {
        let id = format!("at-send-{at}");
        place.app.open(json!({ "id": id, "resource": RESOURCE, "address": address })).await;
        place.app.settle().await;
        let attempts = place.app.attempts(&id).await;
        assert_eq!(attempts[0]["error"], "target_not_allowed", "{address}: {attempts:?}");
    }
    assert_eq!(place.proxy.asked(), expected, "nobody is asked for what is forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_destination_has_its_pace_over_all_projects() {
    let place = Place::new(&[("DESTINATION_RATE", "5/s")]).await;
    let app = &place.app;
    for at in 0..15 {
        let host = format!("h{}.victim.com", at % 3);
        place.dns.answer(&host, Reply::addresses(&[PUBLIC]));
        let token = app.token(&format!("project-{at}"), "liz", "channels");
        let body = json!({ "id": "c", "resource": RESOURCE, "address": format!("http://{host}/") });
        assert_eq!(app.call("POST", "/v1/channels", &token, Some(body)).await.status, 201);
    }
    app.settle().await;
    assert_eq!(place.receiver.received().len(), 5);
    for told in [10, 15, 15] {
        app.advance(seconds(1)).await;
        assert_eq!(place.receiver.received().len(), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_keeps_the_pace_of_its_destination() {
    let place = Place::new(&[("DESTINATION_RATE", "5/s"), ("VERIFY", "challenge")]).await;
    place.receiver.answer_with(Answer::agreeing);
    for at in 0..4 {
        let host = format!("h{at}.victim.com");
        place.dns.answer(&host, Reply::addresses(&[PUBLIC]));
        let address = format!("http://{host}/");
        let body = json!({ "id": format!("c{at}"), "resource": RESOURCE, "address": address });
        place.app.open(body).await;
    }
    place.app.settle().await;
    // Four channels, each with two questions and its sync.
    for told in [5, 10, 12, 12] {
        assert_eq!(place.receiver.received().len(), told);
        place.app.advance(seconds(1)).await;
    }
}
