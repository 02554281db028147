//! The receiver records in order, answers as told, and misbehaves as told.

use std::{
    io::{ErrorKind, Read as _},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::receiver::{Answer, Received, Receiver, in_time};

/// A sender that speaks bytes, so that nothing of a client library is in between.
struct Sender {
    stream: TcpStream,
}

impl Sender {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    async fn post(&mut self, channel: &str, number: u64, body: &str) {
        let request = format!(
            "POST /hook?a=b HTTP/1.1\r\nHost: x\r\nX-Goog-Channel-ID: {channel}\r\n\
             X-Goog-Message-Number: {number}\r\nX-Goog-Resource-State: exists\r\n\
             webhook-id: msg_u{channel}_{number}\r\nWatchpost-Attempt: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads one response, whose body the caller knows.
    async fn answer(&mut self, body: &str) -> String {
        let mut bytes = Vec::new();
        let whole = format!("\r\n\r\n{body}");
        in_time("an answer", async {
            while !bytes.ends_with(whole.as_bytes()) {
                assert!(self.stream.read_buf(&mut bytes).await.unwrap() > 0, "closed after {bytes:?}");
            }
        })
        .await;
        String::from_utf8(bytes).unwrap()
    }
}

#[tokio::test]
async fn requests_are_recorded_in_order_on_one_kept_connection() {
    let receiver = Receiver::start().await;
    receiver.answer_with(|request| match request.message_number() {
        Some(2) => Answer::status(503).with_header("Retry-After", "7").with_body("later"),
        _ => Answer::ok(),
    });
    let mut sender = Sender::connect(receiver.address()).await;
    sender.post("c", 1, "").await;
    assert!(sender.answer("").await.starts_with("HTTP/1.1 200 "));
    sender.post("c", 2, "{\"a\":1}").await;
    let refused = sender.answer("later").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nRetry-After: 7\r\n"), "{refused}");

    let received = receiver.wait_for(2).await;
    assert_eq!(received.iter().map(|request| request.at).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(receiver.connections(), 1);
    let second = &received[1];
    assert_eq!((second.method.as_str(), second.path.as_str()), ("POST", "/hook?a=b"));
    assert_eq!(second.channel_id(), Some("c"));
    assert_eq!(second.channel_uid(), Some("uc"));
    assert_eq!(second.state(), Some("exists"));
    assert_eq!(second.attempt(), Some(1));
    assert_eq!(second.notice(), None);
    assert_eq!(second.json(), serde_json::json!({ "a": 1 }));
    assert_eq!(receiver.received_by("uc").len(), 2);
    assert_eq!(receiver.max_in_flight("c"), 1);
}

#[tokio::test]
async fn chunked_bodies_and_pipelined_requests_are_understood() {
    let receiver = Receiver::start().await;
    let mut sender = Sender::connect(receiver.address()).await;
    let both = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n\
                 POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nfg";
    sender.stream.write_all(both).await.unwrap();
    let received = receiver.wait_for(2).await;
    assert_eq!(received.iter().map(Received::text).collect::<Vec<_>>(), ["abcde", "fg"]);
}

#[tokio::test]
async fn what_hangs_counts_as_in_flight_until_released() {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Hang);
    let mut senders = Vec::new();
    for channel in ["a", "a", "b"] {
        let mut sender = Sender::connect(receiver.address()).await;
        sender.post(channel, 1, "").await;
        senders.push(sender);
    }
    receiver.wait_for(3).await;
    receiver.release_with(&Answer::status(204));
    for sender in &mut senders {
        assert!(sender.answer("").await.starts_with("HTTP/1.1 204 "));
    }
    receiver.wait_until_idle().await;
    assert_eq!((receiver.max_in_flight("a"), receiver.max_in_flight("ub")), (2, 1));
    assert_eq!(receiver.max_in_flight_of_any_channel(), 2);
    assert_eq!(receiver.max_in_flight_overall(), 3);

    // A later one hangs again: a release is for those that hang at that moment.
    senders[0].post("a", 2, "").await;
    receiver.wait_for(4).await;
    receiver.release();
    assert!(senders[0].answer("").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_request_given_up_by_its_sender_is_no_longer_in_flight() {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Hang);
    for number in 1..=3 {
        let mut sender = Sender::connect(receiver.address()).await;
        sender.post("a", number, "").await;
        receiver.wait_for(usize::try_from(number).unwrap()).await;
    }
    assert_eq!(receiver.max_in_flight("a"), 1);
    receiver.wait_until_idle().await;
}

#[tokio::test]
async fn a_reset_and_raw_bytes_reach_the_sender_as_they_are() {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Reset);
    let mut sender = Sender::connect(receiver.address()).await;
    sender.post("a", 1, "").await;
    let error = in_time("the reset", sender.stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    receiver.answer(Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()));
    let mut sender = Sender::connect(receiver.address()).await;
    sender.post("a", 2, "").await;
    receiver.wait_for(2).await;
    receiver.release();
    let mut bytes = Vec::new();
    in_time("the end", sender.stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"HTTP/1.1 200 OK\r\nContent-Le");
}

#[tokio::test]
async fn a_stopped_receiver_refuses_and_comes_back_on_its_port() {
    let receiver = Receiver::start().await;
    let mut sender = Sender::connect(receiver.address()).await;
    sender.post("a", 1, "").await;
    sender.answer("").await;
    for round in 1..=3 {
        receiver.stop().await;
        let refused = TcpStream::connect(receiver.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        receiver.restart();
        let mut sender = Sender::connect(receiver.address()).await;
        sender.post("a", 2, "").await;
        sender.answer("").await;
        assert_eq!(receiver.received().len(), round + 1);
    }
    // The connection from before the stop is over.
    let old = sender.stream.into_std().unwrap();
    old.set_nonblocking(false).unwrap();
    assert!(matches!((&old).read(&mut [0]), Ok(0) | Err(_)));
}
