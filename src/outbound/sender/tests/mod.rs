//! Against raw sockets, never a polite HTTP library. Nothing here waits for a fixed time.

use std::{net::SocketAddr, path::PathBuf, process::Command, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

mod proxy;
mod tls;

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    outbound::policy::EgressRules,
};

const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1"];

fn policy(allow: &[&str]) -> EgressPolicy {
    let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    EgressPolicy::new(EgressRules { allow, ..EgressRules::default() })
}

fn config(allow: &[&str]) -> SenderConfig {
    SenderConfig {
        policy: policy(allow),
        attempt_timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(5),
        user_agent: "watchpost/test".to_owned(),
        ca_file: None,
        name_servers: Vec::new(),
        proxy: None,
        host_window: 64,
    }
}

fn sender_with(allow: &[&str], attempt_timeout: Duration) -> Sender {
    Sender::new(SenderConfig { attempt_timeout, ..config(allow) }).unwrap()
}

fn sender() -> Sender {
    sender_with(LOOPBACK, Duration::from_secs(15))
}

fn address(raw: &str) -> Address {
    policy(LOOPBACK).judge(raw).unwrap()
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address(&format!("http://{}/hook?x=1", listener.local_addr().unwrap()));
    (listener, address)
}

async fn post(sender: &Sender, address: &Address) -> Result<Answer, SendError> {
    sender.send(Request { address, headers: HeaderMap::new(), body: Bytes::new() }, &SystemClock::new()).await
}

/// One request: its head and, by its `Content-Length`, its body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse::<usize>().unwrap() {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the request ended early: {text}");
    }
}

/// Takes one connection, reads the request, answers, and gives both back.
async fn serve(listener: &TcpListener, answer: &[u8]) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let request = read_request(&mut stream).await;
    // A client that has seen enough may be gone before everything is written.
    let _ = stream.write_all(answer).await;
    (request, stream)
}

/// What comes of one answer; the connection closes behind it.
async fn outcome_of(answer: &[u8]) -> Result<Answer, SendError> {
    let (listener, address) = listen().await;
    let sender = sender();
    let (outcome, ()) = tokio::join!(post(&sender, &address), async {
        drop(serve(&listener, answer).await);
    });
    assert_untouched(listener);
    outcome
}

/// Nobody has connected, or not once more. Loopback connections are in the queue before `connect` returns.
fn assert_untouched(listener: TcpListener) {
    let listener = listener.into_std().unwrap();
    assert_eq!(listener.accept().map(|(_, peer)| peer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn the_request_is_what_was_given_and_content_length_is_always_there() {
    let (listener, address) = listen().await;
    let (sender, answer) = (sender(), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (outcome, (request, _)) = tokio::join!(post(&sender, &address), serve(&listener, answer));
    assert_eq!(outcome.unwrap().status, 200);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("post /hook?x=1 http/1.1"));
    let mut headers = lines.map(str::to_owned).collect::<Vec<_>>();
    headers.sort();
    let host = format!("host: 127.0.0.1:{}", address.port());
    assert_eq!(headers, ["accept: */*", "content-length: 0", &host, "user-agent: watchpost/test"]);
    assert_eq!(body, "");
    drop(sender);

    let (listener, address) = listen().await;
    let sender = self::sender();
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("x-goog-channel-token", "a  b"), ("content-length", "7"), ("transfer-encoding", "chunked")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("host", HeaderValue::from_static("elsewhere"));
    let body = Bytes::from_static(b"{\"a\": 1}");
    let request = Request { address: &address, headers, body };
    let clock = SystemClock::new();
    let (_, (request, _)) = tokio::join!(sender.send(request, &clock), serve(&listener, answer));
    assert!(request.contains("\r\nx-goog-channel-token: a  b\r\n"), "{request}");
    assert!(
        request.contains("\r\ncontent-length: 8\r\n") && request.ends_with("\r\n\r\n{\"a\": 1}"),
        "{request}"
    );
    assert!(!request.contains("transfer-encoding") && !request.contains("elsewhere"), "{request}");
}

#[tokio::test]
async fn a_connection_is_used_again_and_a_lost_request_is_not_sent_again() {
    let (listener, address) = listen().await;
    let sender = sender();
    let answers = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops").await.unwrap();
        read_request(&mut stream).await;
    };
    let requests = async {
        let first = post(&sender, &address).await.unwrap();
        assert_eq!((first.status, &first.body_excerpt[..]), (500, &b"oops"[..]));
        post(&sender, &address).await
    };
    let (second, ()) = tokio::join!(requests, answers);
    assert_eq!(second, Err(SendError::Reset));
    assert_untouched(listener);
}

#[tokio::test]
async fn a_connection_that_ends_early_is_a_reset() {
    assert_eq!(outcome_of(b"").await, Err(SendError::Reset));
    assert_eq!(outcome_of(b"HTTP/1.1 200 OK\r\ncontent-le").await, Err(SendError::Reset));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_told_apart() {
    for answer in
        ["ICY 200 OK\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "\u{16}\u{3}\u{1}\0\r\n\r\n", "hello\r\n\r\n"]
    {
        assert_eq!(outcome_of(answer.as_bytes()).await, Err(SendError::BadHttp), "{answer:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(65));
    assert_eq!(outcome_of(many.as_bytes()).await, Err(SendError::BadHttp));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1_000_000));
    assert_eq!(outcome_of(large.as_bytes()).await, Err(SendError::BadHttp));
}

#[tokio::test]
async fn the_last_status_line_counts() {
    for (answer, status) in [
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 101),
        ("HTTP/1.1 204 No Content\r\n\r\nsurplus", 204),
        ("HTTP/1.0 410 Gone\r\n\r\n", 410),
        ("HTTP/1.1 999 Odd\r\n\r\n", 999),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nbad", 200),
        ("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\ntruncated", 200),
    ] {
        assert_eq!(outcome_of(answer.as_bytes()).await.map(|answer| answer.status), Ok(status), "{answer}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (canary, elsewhere) = listen().await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            elsewhere.as_str()
        );
        assert_eq!(outcome_of(answer.as_bytes()).await.unwrap().status, status);
    }
    assert_untouched(canary);
}

#[tokio::test]
async fn retry_after_passes_as_text_where_there_is_one() {
    let long = "9".repeat(129);
    for (header, expected) in [
        ("retry-after: 3600\r\n".to_owned(), Some("3600")),
        ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n".to_owned(), Some("Fri, 31 Dec 9999 23:59:59 GMT")),
        ("retry-after: -1e308\r\n".to_owned(), Some("-1e308")),
        ("retry-after: 1\r\nretry-after: 2\r\n".to_owned(), None),
        (format!("retry-after: {long}\r\n"), None),
        ("retry-after: \u{e9}\r\n".to_owned(), None),
        (String::new(), None),
    ] {
        let answer = format!("HTTP/1.1 503 Busy\r\n{header}content-length: 0\r\n\r\n");
        let answer = outcome_of(answer.as_bytes()).await.unwrap();
        assert_eq!((answer.status, answer.retry_after.as_deref()), (503, expected), "{header}");
    }
}

#[tokio::test]
async fn of_a_long_body_little_is_read() {
    let body = "x".repeat(4 * 1024 * 1024);
    for head in ["content-length: 1000000000000", "connection: close"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let (listener, address) = listen().await;
        let sender = sender();
        let (outcome, (_, mut stream)) =
            tokio::join!(post(&sender, &address), serve(&listener, answer.as_bytes()));
        let answer = outcome.unwrap();
        assert_eq!((answer.status, answer.body_excerpt.len()), (200, EXCERPT_BYTES_MAX));
        // The client has hung up: the rest found nobody.
        assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_body_without_end_holds_nobody_for_long() {
    let (listener, address) = listen().await;
    let (sender, clock) = (sender(), SystemClock::new());
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (outcome, (_, mut stream)) = tokio::join!(post(&sender, &address), serve(&listener, answer));
    let answer = outcome.unwrap();
    assert_eq!((answer.status, &answer.body_excerpt[..]), (200, &b"abc"[..]));
    assert!(clock.monotonic() < Duration::from_secs(3));
    assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let (listener, address) = listen().await;
    let sender = sender_with(LOOPBACK, Duration::from_millis(50));
    let (outcome, _held) = tokio::join!(post(&sender, &address), serve(&listener, b"HTTP/1.1 20"));
    assert_eq!(outcome, Err(SendError::Timeout { phase: Phase::Answer }));
}

#[tokio::test]
async fn a_closed_port_is_no_connection() {
    let (listener, address) = listen().await;
    drop(listener);
    assert_eq!(post(&sender(), &address).await, Err(SendError::Connect));
}

#[tokio::test]
async fn a_forbidden_literal_is_never_connected_to() {
    let (canary, address) = listen().await;
    let strict = sender_with(&["10.0.0.0/8"], Duration::from_secs(15));
    let outcome = post(&strict, &address).await;
    assert_eq!(outcome, Err(SendError::Forbidden(Refusal::AddressNotAllowed)));
    let mapped = self::address(&format!("http://[::ffff:127.0.0.1]:{}/", address.port()));
    assert_eq!(post(&strict, &mapped).await, Err(SendError::Forbidden(Refusal::AddressNotAllowed)));
    // One port alone is open, and it is another.
    let elsewhere = sender_with(&["127.0.0.1:1"], Duration::from_secs(15));
    assert_eq!(post(&elsewhere, &address).await, Err(SendError::Forbidden(Refusal::AddressNotAllowed)));
    assert_untouched(canary);
}

#[tokio::test]
async fn a_name_goes_by_what_it_resolves_to() {
    let (canary, literal) = listen().await;
    let address = address(&format!("http://localhost:{}/", literal.port()));
    assert!(address.must_be_inside());
    let port = literal.port();
    for allow in [vec![], vec!["10.0.0.0/8".to_owned()], vec!["127.0.0.0/8:1".to_owned()]] {
        let allow = allow.iter().map(String::as_str).collect::<Vec<_>>();
        let outcome = post(&sender_with(&allow, Duration::from_secs(15)), &address).await;
        assert_eq!(outcome, Err(SendError::Forbidden(Refusal::AddressNotAllowed)), "{allow:?}");
    }
    assert_untouched(canary);

    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    let one_port = [format!("127.0.0.0/8:{port}"), format!("[::1/128]:{port}")];
    let sender = sender_with(&one_port.each_ref().map(String::as_str), Duration::from_secs(15));
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (outcome, (request, _)) = tokio::join!(post(&sender, &address), serve(&listener, answer));
    assert_eq!(outcome.unwrap().status, 200);
    assert!(request.contains(&format!("\r\nhost: localhost:{port}\r\n")), "{request}");
}

#[tokio::test]
async fn no_certificate_no_session() {
    let (listener, literal) = listen().await;
    let address = address(&format!("https://127.0.0.1:{}/", literal.port()));
    let sender = sender();
    // The peer talks plainly, then another says nothing at all.
    for answer in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b""] {
        let (outcome, hello) = tokio::join!(post(&sender, &address), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 3];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            // Unread bytes would turn the end of the stream into a reset.
            while !matches!(stream.read(&mut [0; 4096]).await, Ok(0) | Err(_)) {}
            hello
        });
        assert_eq!(outcome, Err(SendError::Tls { certificate: false }), "{answer:?}");
        assert_eq!(hello[..2], [22, 3], "a TLS handshake record");
    }
}

/// Run by the next test in a process of its own, since only a new process can have another environment.
#[tokio::test]
async fn one_request_to_loopback() {
    // With a limit, since a request that went elsewhere would leave this receiver waiting.
    let outcome = outcome_of(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(timeout(Duration::from_secs(20), outcome).await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used() {
    let (canary, proxy) = listen().await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "outbound::sender::tests::one_request_to_loopback"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, proxy.origin().as_str());
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_untouched(canary);
}

#[test]
fn a_shortage_of_this_node_is_not_the_receivers_failure() {
    for errno in [23, 24] {
        let error = io::Error::other(io::Error::from_raw_os_error(errno));
        assert!(chain(&error).iter().filter_map(|link| link.downcast_ref()).any(is_exhausted));
    }
    assert!(!is_exhausted(&io::Error::from(io::ErrorKind::ConnectionRefused)));
    assert!(SendError::Local.is_ours() && SendError::Dns(DnsFailure::NoAnswer).is_ours());
    assert!(!SendError::Dns(DnsFailure::NoAddress).is_ours() && !SendError::Connect.is_ours());
}

#[test]
fn a_configuration_that_cannot_work_is_told_at_once() {
    let config = |user_agent: &str, ca_file: Option<&str>| SenderConfig {
        user_agent: user_agent.to_owned(),
        ca_file: ca_file.map(PathBuf::from),
        ..config(&[])
    };
    assert!(matches!(Sender::new(config("a\nb", None)), Err(SetupError::Client(_))));
    assert!(matches!(Sender::new(config("a", Some("/nonexistent"))), Err(SetupError::CaFile { .. })));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(matches!(Sender::new(config("a", Some(manifest))), Err(SetupError::CaFormat { .. })));
}
