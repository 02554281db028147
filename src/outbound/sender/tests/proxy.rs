//! Through proxies: what a sender makes of one that does not let it through, and how it says who it is.

use super::*;
use crate::{
    clock::SystemClock,
    domain::egress_proxy::{Credentials, ProxyServer},
    entropy::SeededEntropy,
    outbound::Bridge,
    runtime::Tasks,
};

fn sender_behind(proxy: ProxyServer, connect_timeout: Duration) -> Sender {
    Sender::new(SenderConfig { connect_timeout, proxy: Some(proxy), ..config(LOOPBACK) }).unwrap()
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_no_connection() {
    for (says, within, expected) in [
        (Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), 10, SendError::Connect),
        (Some("garbage\r\n\r\n"), 10, SendError::Connect),
        (Some(""), 10, SendError::Connect),
        (None, 2, SendError::Timeout { phase: Phase::Connect }),
    ] {
        let connect_timeout = Duration::from_secs(within);
        let (proxy, _) = listen().await;
        let (receiver, address) = listen().await;
        let server = ProxyServer { address: proxy.local_addr().unwrap(), credentials: None };
        let (clock, entropy, tasks) = (Arc::new(SystemClock::new()), SeededEntropy::new(7), Tasks::current());
        let bridge = Bridge::start(&server, connect_timeout, clock, entropy.as_ref(), &tasks).await.unwrap();
        let sender = sender_behind(bridge.as_socks5(), connect_timeout);
        let (outcome, asked) = tokio::join!(post(&sender, &address), async {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let asked = read_request(&mut stream).await;
            match says {
                Some(words) => stream.write_all(words.as_bytes()).await.unwrap(),
                // Until the bridge gives up.
                None => assert_eq!(stream.read(&mut [0]).await.unwrap(), 0),
            }
            asked
        });
        assert_eq!(outcome, Err(expected), "{says:?}");
        assert!(asked.starts_with(&format!("connect 127.0.0.1:{} http/1.1\r\n", address.port())), "{asked}");
        assert_untouched(receiver);
    }
}

#[tokio::test]
async fn a_socks5_proxy_is_told_who_asks() {
    let (proxy, _) = listen().await;
    let (_receiver, address) = listen().await;
    let credentials = Credentials::new("a%41".to_owned(), "p:@/%?".to_owned());
    let server = ProxyServer { address: proxy.local_addr().unwrap(), credentials };
    let sender = sender_behind(server, Duration::from_secs(5));
    let (outcome, ()) = tokio::join!(post(&sender, &address), async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut methods = [0; 3];
        stream.read_exact(&mut methods).await.unwrap();
        assert_eq!(methods, [5, 1, 2]);
        stream.write_all(&[5, 2]).await.unwrap();
        let mut shown = [0; 13];
        stream.read_exact(&mut shown).await.unwrap();
        assert_eq!(&shown, b"\x01\x04a%41\x06p:@/%?");
        stream.write_all(&[1, 1]).await.unwrap();
    });
    assert_eq!(outcome, Err(SendError::Connect));
}
