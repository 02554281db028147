//! Publishers that send too much, too slowly or too often at once: they are answered, let go, and hurt nobody else.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use watchpost::{
    cli::server::ConnectionLimits,
    clock::{ManualClock, SystemClock},
    domain::time::Timestamp,
};

use crate::{
    http::{answers, raw},
    server::TestServer,
    support::receiver::in_time,
};

const MEBIBYTE: usize = 1_024 * 1_024;

fn head(more: &str) -> String {
    format!("POST /v1/events HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_an_end() {
    let server = TestServer::sqlite_with(&[("AUTH", "off")]).await;
    let headers = |count: usize| {
        let headers: Vec<String> = (0..count).map(|at| format!("X-{at}: v\r\n")).collect();
        headers.concat() + "Connection: close\r\n"
    };
    for (headers, status) in [
        (headers(90), 400),
        (headers(100), 431),
        (format!("X-A: {}\r\n", "v".repeat(MEBIBYTE)), 431),
        (headers(100_000), 431),
    ] {
        let answers = raw(server.address, head(&headers).as_bytes()).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_not_read_to_its_end() {
    let server = TestServer::sqlite_with(&[("AUTH", "off")]).await;
    let before = server.stored().await;
    let spaces = vec![b' '; MEBIBYTE];
    let chunk = [format!("{MEBIBYTE:x}\r\n").as_bytes(), &spaces, b"\r\n"].concat();
    for (length, part) in
        [("Content-Length: 1000000000000\r\n", spaces), ("Transfer-Encoding: chunked\r\n", chunk)]
    {
        let (mut reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
        writer.write_all(head(length).as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // The client sends for ever, until nobody listens any longer.
        let write = async { while writer.write_all(&part).await.is_ok() {} };
        let read = async { while matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {} };
        in_time("the end of the connection", async { tokio::join!(write, read) }).await;
        let answers = answers(&bytes, length);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].problem(), (413, "bodyTooLarge".into(), None));
    }
    assert_eq!(server.stored().await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_waited_for_half_a_minute() {
    let clock = ManualClock::at(Timestamp::from_millis(1_767_225_600_000));
    let server =
        TestServer::on(&[("AUTH", "off")], Arc::clone(&clock) as _, ConnectionLimits::default()).await;
    for length in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let idle = clock.sleepers();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head(length).as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        in_time("an answer", async {
            let mut read = pin!(async { while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {} });
            loop {
                tokio::select! {
                    biased;
                    () = &mut read => break,
                    () = tokio::task::yield_now() => {}
                }
                // Once somebody waits for the body.
                if clock.sleepers() > idle {
                    clock.advance(Duration::from_secs(10));
                }
            }
        })
        .await;
        let answers = answers(&bytes, length);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].problem(), (408, "bodyTimeout".into(), None));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_are_let_go_and_keep_nobody_out() {
    let limits = ConnectionLimits { connections_max: 2, head_within: Duration::from_secs(1) };
    let server = TestServer::on(&[("AUTH", "off")], Arc::new(SystemClock::new()), limits).await;
    let mut silent = Vec::new();
    for at in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Some say a little, which is no request either.
        let said: &[u8] = if at % 2 == 0 { b"" } else { b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-A:" };
        stream.write_all(said).await.unwrap();
        silent.push(stream);
    }
    let answer = server.ask("GET", "/healthz").send().await;
    assert_eq!(answer.status, 200);
    for mut stream in silent {
        let mut bytes = Vec::new();
        in_time("the end of the connection", async {
            while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {}
        })
        .await;
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "), "{}", bytes.escape_ascii());
    }
    server.stop().await;
}
