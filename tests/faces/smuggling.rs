//! Requests that somebody in front might read as others than we do: how long a body is, where a head ends. Each is
//! followed on its connection by a publish with a good token, which must not become a request of its own: there is one
//! answer, the connection ends, and nothing is stored.

use crate::{
    http::{Answer, raw},
    server::TestServer,
};

const EVENT: &str = "{\"resource\":\"a/b\",\"name\":\"a.b\"}";

/// A publish that would be stored.
fn publish(token: &str, headers: &str, body: &str) -> String {
    format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n\r\n{body}")
}

fn whole(token: &str) -> String {
    publish(token, &format!("Content-Length: {}", EVENT.len()), EVENT)
}

/// The one answer to these bytes, after which nothing comes and nothing is stored.
async fn only_answer(server: &TestServer, bytes: &[u8]) -> Answer {
    let before = server.stored().await;
    let mut answers = raw(server.address, bytes).await;
    let sent = bytes[..bytes.len().min(300)].escape_ascii();
    assert_eq!(answers.len(), 1, "{sent}: {answers:?}");
    assert_eq!(server.stored().await, before, "{sent}");
    answers.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_one_length() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "events");
    let length = EVENT.len();
    let equal = format!("Content-Length: {length}\r\nContent-Length: {length}");
    let differing = format!("Content-Length: {length}\r\nContent-Length: 0");
    let listed = format!("Content-Length: {length}, {length}");
    let signed = format!("Content-Length: +{length}");
    let hex = format!("Content-Length: 0x{length:x}");
    let folded = format!("Content-Length:\r\n {length}");
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        // To us a bare line feed ends a line, as RFC 9112 lets it. Somebody in front may see one header here, with a
        // length behind it; we see two that contradict each other.
        "X-A: a\nTransfer-Encoding: chunked\r\nContent-Length: 4",
        "X-A: a\rTransfer-Encoding: chunked",
        &equal,
        &differing,
        &listed,
        &signed,
        &hex,
        &folded,
        "Content-Length: -1",
        "Content-Length: ",
        "Content-Length: 4 4",
        "Content-Length: 18446744073709551616",
        "Content_Length: 4\0",
        "X\0: 4",
        "X-A: a\0b",
        "X-A",
        "X A: b",
        "Host: y",
    ] {
        let bodies = ["0\r\n\r\n".to_owned(), EVENT.to_owned()];
        for body in bodies {
            let sent = publish(&token, headers, &body) + &whole(&token);
            let answer = only_answer(&server, sent.as_bytes()).await;
            assert_eq!(answer.status, 400, "{headers:?}: {answer:?}");
        }
    }
    for start in [
        "POST /v1/events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/events HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST /v1/events HTTP/2.0\r\nHost: x\r\n\r\n",
        "POST /v1/events\r\nHost: x\r\n\r\n",
        "POST  /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
        "PO\0ST /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = only_answer(&server, (start.to_owned() + &whole(&token)).as_bytes()).await;
        assert_eq!(answer.status, 400, "{start:?}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_what_they_say_they_are() {
    let server = TestServer::sqlite().await;
    let token = server.token("p", "s", "events");
    let (length, end) = (EVENT.len(), "0\r\n\r\n");
    for chunks in [
        format!("0x{length:x}\r\n{EVENT}\r\n{end}"),
        format!("+{length:x}\r\n{EVENT}\r\n{end}"),
        format!("-{length:x}\r\n{EVENT}\r\n{end}"),
        format!("{length:x}\n{EVENT}\n0\n\n"),
        format!("{length:x};a=\"\n\"\r\n{EVENT}\r\n{end}"),
        format!("{length:x}\r\n{EVENT}{end}"),
        format!("{:x}\r\n{EVENT}\r\n{end}", length - 1),
        format!("ffffffffffffffff{length:x}\r\n{EVENT}\r\n{end}"),
        format!("\r\n{length:x}\r\n{EVENT}\r\n{end}"),
        format!("{length:x}\r\n{EVENT}\r\n\r\n\r\n"),
    ] {
        let sent = publish(&token, "Transfer-Encoding: chunked", &chunks) + &whole(&token);
        let answer = only_answer(&server, sent.as_bytes()).await;
        assert_eq!(answer.problem(), (408, "bodyTimeout".into(), None), "{chunks:?}");
    }
    // The same in order, twice on one connection: the cases above fail for what they say, and whoever chunks properly
    // keeps the connection.
    let chunks = format!("{length:x}\r\n{EVENT}\r\n{end}");
    let first = publish(&token, "Transfer-Encoding: chunked", &chunks);
    let last = publish(&token, "Transfer-Encoding: chunked\r\nConnection: close", &chunks);
    let answers = raw(server.address, (first + &last).as_bytes()).await;
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200]);
    server.stop().await;
}

/// Whoever does not want a body must not leave it for the next request.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_reads_is_no_request() {
    const LAST: &str = "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let server = TestServer::sqlite().await;
    let before = server.stored().await;
    let token = server.token("p", "s", "channels events");
    let inside = whole(&token);
    let by_length = format!("Content-Length: {}\r\n\r\n{inside}", inside.len());
    let by_chunks = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inside}\r\n0\r\n\r\n", inside.len());
    let good = format!("Authorization: Bearer {token}\r\n");
    let bad = "Authorization: Bearer x\r\n";
    for (start, credential, status) in [
        ("GET /v1/channels", good.as_str(), 200),
        ("GET /healthz", "", 200),
        ("HEAD /healthz", "", 200),
        ("DELETE /v1/channels/x", &good, 404),
        ("POST /v1/events", bad, 401),
        ("POST /v1/events", "", 401),
        ("POST /a/b/watch", bad, 401),
        ("POST /nowhere", &good, 404),
        ("OPTIONS *", "", 404),
    ] {
        for body in [&by_length, &by_chunks] {
            let sent = format!("{start} HTTP/1.1\r\nHost: x\r\n{credential}{body}{LAST}");
            let answers = raw(server.address, sent.as_bytes()).await;
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            // A body that came whole is passed over; for another one the connection ends.
            assert!(statuses == [status, 404] || statuses == [status], "{start}: {answers:?}");
            assert_eq!(server.stored().await, before, "{start}");
        }
    }
    for head in [
        "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/channels HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let answer = only_answer(&server, (head.to_owned() + &inside).as_bytes()).await;
        assert!([400, 401, 404].contains(&answer.status), "{head:?}: {answer:?}");
    }
    server.stop().await;
}
