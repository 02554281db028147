//! Through an HTTP proxy: it is asked with `CONNECT` for addresses that we have judged, whom it leads to proves itself
//! by a certificate for the name, and a proxy that does not let us through is a receiver out of reach.

use serde_json::json;

use super::proxy::{PUBLIC, Place, Proxy, RESOURCE, is_asked_for_what_was_judged};
use crate::support::{
    connect::{Behind, ConnectProxy, Manner},
    dns::Reply,
    receiver::Receiver,
    tls::TlsFront,
};

const NAME: &str = "receiver.example.com";
/// `watch:p@ss`
const AUTHORIZATION: &str = "Basic d2F0Y2g6cEBzcw==";

async fn place(settings: &[(&str, &str)], credentials: &str, https: Option<&TlsFront>) -> Place {
    let receiver = Receiver::start().await;
    let behind = Behind { http: receiver.address(), https: https.map(|front| front.address) };
    let proxy = ConnectProxy::start(behind).await;
    Place::behind(Proxy::Http(proxy), credentials, receiver, settings).await
}

fn http_proxy(place: &Place) -> &ConnectProxy {
    let Proxy::Http(proxy) = &place.proxy else { panic!("an HTTP proxy") };
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_for_what_was_judged() {
    is_asked_for_what_was_judged(&place(&[], "", None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sees_no_name_and_whom_it_leads_to_must_have_the_certificate() {
    let secure = Receiver::start().await;
    let front = TlsFront::start(NAME, secure.address()).await;
    let ca_file = std::env::temp_dir().join(format!("watchpost-ca-{}.pem", front.address));
    std::fs::write(&ca_file, &front.ca_pem).unwrap();
    let settings = [("EGRESS_CA_FILE", ca_file.to_str().unwrap())];
    let place = place(&settings, "watch:p%40ss@", Some(&front)).await;
    std::fs::remove_file(ca_file).unwrap();
    let proxy = http_proxy(&place);
    proxy.behave(Manner::OpenTo(AUTHORIZATION));

    for (id, name) in [("right", NAME), ("wrong", "elsewhere.example.com")] {
        place.dns.answer(name, Reply::addresses(&[PUBLIC]));
        let address = format!("https://{name}/hook");
        place.app.open(json!({ "id": id, "resource": RESOURCE, "address": address })).await;
        place.app.settle().await;
    }
    let received = secure.received();
    assert_eq!(received.len(), 1, "{}", secure.transcript());
    assert_eq!(received[0].header("host"), Some(NAME));
    assert_eq!(place.app.attempts("right").await[0]["outcome"], "delivered");
    assert_eq!(place.app.attempts("wrong").await[0]["error"], "tls_certificate");
    let target = format!("{PUBLIC}:443");
    let head = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {AUTHORIZATION}\r\n\r\n"
    );
    assert_eq!(proxy.heads(), [head.clone(), head]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_does_not_let_us_through_the_receiver_is_tried_again() {
    let place = place(&[], "watch:wrong@", None).await;
    let (app, proxy) = (&place.app, http_proxy(&place));
    let say = |bytes: &str| Manner::Say(bytes.as_bytes().to_vec());
    for (at, manner) in [
        say("HTTP/1.1 403 Forbidden\r\n\r\n"),
        Manner::OpenTo(AUTHORIZATION),
        say("220 smtp.example.com ESMTP\r\n\r\n"),
        say(""),
        Manner::Endless,
    ]
    .into_iter()
    .enumerate()
    {
        proxy.behave(manner.clone());
        // Another host each, so that no connection is open already.
        let (id, name) = (format!("c{at}"), format!("h{at}.example.com"));
        place.dns.answer(&name, Reply::addresses(&[PUBLIC]));
        let opening = json!({ "id": id, "resource": RESOURCE, "address": format!("http://{name}/") });
        app.open(opening).await;
        app.settle().await;
        assert_eq!(app.attempts(&id).await[0]["error"], "connect_failed", "{manner:?}");
        assert_eq!(place.receiver.received().len(), at);

        proxy.behave(Manner::Open);
        app.clock.advance(app.next_attempt_at(&id).await.since(app.now()));
        app.settle().await;
        assert_eq!(place.receiver.received().len(), at + 1, "{manner:?}");
    }
    assert_eq!(proxy.asked(), vec![format!("{PUBLIC}:80"); 2 * 5]);
}
