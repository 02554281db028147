//! What a receiver does to its connections and to the bytes on them, where one attempt does not tell it all.

use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{OK, SMALL, ledger, open, polite};
use crate::{
    app::{TestApp, numbers, seconds},
    base::Kind,
    support::{
        misbehaving::{
            Misbehaving,
            script::{on_connection, on_request},
        },
        receiver::{Answer, Receiver},
    },
};

async fn publish(app: &TestApp, count: usize) {
    app.publish_many(SMALL, "order.changed", count).await;
    app.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b02_b04_b36_what_does_not_connect_is_given_up_after_five_seconds() {
    let app = TestApp::start(Kind::Sqlite).await;
    let full = FullHouse::open().await;
    let stalls = Misbehaving::start(on_connection());
    open(&app, "full", SMALL, &full.url()).await;
    open(&app, "stalls", SMALL, &stalls.url("/").replace("http:", "https:")).await;
    app.settle().await;
    let given_up = (1, 1, "\"overloaded\" null \"connect_timeout\"".to_owned());
    for id in ["full", "stalls"] {
        assert_eq!(ledger(&app, id).await, std::slice::from_ref(&given_up), "{id}");
    }
    stalls.is_left("the handshake that stalls").await;
}

/// A port whose queue of connections is full: what else comes is dropped, as behind a firewall.
struct FullHouse {
    listener: TcpListener,
    _guests: Vec<TcpStream>,
}

impl FullHouse {
    async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut guests = Vec::new();
        // How many there is room for depends on the system; the first that waits shows that there is no more.
        let patience = Duration::from_millis(200);
        while let Ok(guest) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            guests.push(guest.unwrap());
        }
        Self { listener, _guests: guests }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().unwrap())
    }
}

/// Counts no interim answers: the last line decides, and the attempt's time is the limit.
#[tokio::test(flavor = "multi_thread")]
async fn b21_a_thousand_interim_answers_are_no_answer() {
    let app = TestApp::start(Kind::Sqlite).await;
    for (id, interim) in [("c100", "100 Continue\r\n"), ("c103", "103 Hints\r\nlink: </x>; rel=preload\r\n")]
    {
        let receiver = Misbehaving::start(polite());
        let many = format!("HTTP/1.1 {interim}\r\n").repeat(1_000);
        for (last, expected) in [(OK, "\"delivered\" 200 null"), ("", "\"failed\" null \"reset\"")] {
            let script = on_request().says(&many).says(last);
            receiver.plays(&if last.is_empty() { script.closes() } else { script.again() });
            let id = format!("{id}-{}", last.len());
            open(&app, &id, SMALL, &receiver.url("/")).await;
            app.settle().await;
            assert_eq!(ledger(&app, &id).await, [(1, 1, expected.to_owned())], "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b23_no_redirect_leads_anywhere() {
    let app = TestApp::start(Kind::Sqlite).await;
    let (from, to) = (Misbehaving::start(polite()), Misbehaving::start(polite()));
    let long = format!("{}{}", to.url("/"), "y".repeat(10 * 1024));
    let places =
        [&from.url("/"), &to.url("/"), &long, "//127.0.0.1/", "http://169.254.169.254/", "file:///", ""];
    let mut count = 0;
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for place in places {
            let answer = format!("HTTP/1.1 {status} Away\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n");
            from.plays(&on_request().says(answer).again());
            let id = format!("c{count}");
            open(&app, &id, SMALL, &from.url("/")).await;
            app.settle().await;
            count += 1;
            assert_eq!(ledger(&app, &id).await, [(1, 1, format!("\"failed\" {status} null"))], "{place}");
            assert_eq!((from.requests().len(), to.connections()), (count, 0), "{status} {place}");
            app.stop_channel(&id).await;
        }
    }
}

/// Beside what `retry` tells of this header: what no polite library would write.
#[tokio::test(flavor = "multi_thread")]
async fn b27_no_wish_to_be_left_alone_does_harm() {
    let app = TestApp::start(Kind::Sqlite).await;
    let wishes: [(&[u8], u64, u64); 9] = [
        (b"retry-after:600", 600, 600),
        (b"retry-after: \t 600 \t ", 600, 600),
        (b"retry-after:", 5, 7),
        (b"retry-after: 600\r\nretry-after: 600", 5, 7),
        (b"retry-after: 600, 600", 5, 7),
        (b"retry-after: \xff\xfe", 5, 7),
        (b"retry-after: \xd9\xa3\xd9\xa6", 5, 7),
        (b"retry-after: -9223372036854775808", 5, 7),
        (b"retry-after: Thu, 01 Jan 1970 00:00:00 GMT", 5, 7),
    ];
    for (at, (wish, least, most)) in wishes.into_iter().enumerate() {
        let answer = [b"HTTP/1.1 503 Busy\r\n", wish, b"\r\ncontent-length: 0\r\n\r\n"].concat();
        let receiver = Misbehaving::start(polite());
        receiver.plays(&on_request().says(answer).again());
        let id = format!("c{at}");
        open(&app, &id, SMALL, &receiver.url("/")).await;
        app.settle().await;
        let wait = app.next_attempt_at(&id).await.since(app.now());
        let wish = String::from_utf8_lossy(wish);
        assert!(wait >= seconds(least) && wait <= seconds(most), "{wish}: {wait:?}");
        assert_eq!(ledger(&app, &id).await, [(1, 1, "\"overloaded\" 503 null".to_owned())], "{wish}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b33_who_takes_his_time_takes_nobody_elses() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Hang);
    let well = Receiver::start().await;
    open(&app, "c", SMALL, &receiver.url("/")).await;
    open(&app, "well", SMALL, &well.url("/")).await;
    for round in 1..=3 {
        receiver.wait_for(round).await;
        app.publish_many(SMALL, "order.changed", 10).await;
        well.wait_for(round * 10 + 1).await;
        receiver.release();
    }
    receiver.answer(Answer::ok());
    receiver.release();
    app.settle().await;
    assert_eq!(numbers(&receiver.received()), (1..=31).collect::<Vec<_>>(), "{}", receiver.transcript());
    assert!(ledger(&app, "c").await.iter().all(|(_, _, outcome)| outcome == "\"delivered\" 200 null"));
}

/// The second answer says 410: whoever took it for his would lose the channel.
#[tokio::test(flavor = "multi_thread")]
async fn b39_no_answer_without_a_request_is_anybodys() {
    let app = TestApp::start(Kind::Sqlite).await;
    let receiver = Misbehaving::start(polite());
    open(&app, "c", SMALL, &receiver.url("/")).await;
    app.settle().await;
    let gone = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
    // In one piece, behind a body, and by itself when the connection is idle.
    let body = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{gone}");
    for script in
        [on_request().says(format!("{OK}{gone}")), on_request().says(body), on_request().says(OK).says(gone)]
    {
        receiver.plays(&script);
        for _ in 0..5 {
            publish(&app, 1).await;
            receiver.is_left("after an answer too many").await;
        }
    }
    assert_eq!(receiver.places(), (1..=16).map(|number| (number, 1)).collect::<Vec<_>>());
    assert_eq!(receiver.connections(), 16);
    assert_eq!(app.channel("c").await["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn b43_a_name_with_a_dead_and_a_live_address() {
    let app = TestApp::with(Kind::Sqlite, &[("EGRESS_ALLOW", "127.0.0.0/8,::1")]).await;
    // Where the name has both addresses, nobody listens on the other.
    let receiver = Receiver::start().await;
    open(&app, "c", SMALL, &receiver.url("/").replace("127.0.0.1", "localhost")).await;
    publish(&app, 3).await;
    assert_eq!(numbers(&receiver.received()), [1, 2, 3, 4], "{}", receiver.transcript());
    assert_eq!(ledger(&app, "c").await.len(), 4);
}
