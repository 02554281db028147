//! Against raw sockets on both sides. Nothing here waits for a fixed time but where a deadline is the point.

use std::net::Ipv6Addr;

use super::*;
use crate::{clock::SystemClock, entropy::SeededEntropy};

const IN_TIME: Duration = Duration::from_secs(30);
/// 203.0.113.7:443, asked for by its address.
const ADDRESS: &[u8] = &[5, 1, 0, 1, 203, 0, 113, 7, 1, 187];
const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

struct Place {
    bridge: Bridge,
    /// What the proxy listens on.
    proxy: TcpListener,
}

impl Place {
    async fn new(credentials: Option<Credentials>, deadline: Duration) -> Self {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = ProxyServer { address: proxy.local_addr().unwrap(), credentials };
        let (clock, entropy, tasks) = (Arc::new(SystemClock::new()), SeededEntropy::new(7), Tasks::current());
        let bridge = Bridge::start(&server, deadline, clock, entropy.as_ref(), &tasks).await.unwrap();
        Self { bridge, proxy }
    }

    /// Says what a client says, piece by piece, and gives back what the bridge answers to each.
    async fn talk(&self, pieces: &[(&[u8], usize)]) -> (TcpStream, Vec<Vec<u8>>) {
        let mut client = TcpStream::connect(self.bridge.address).await.unwrap();
        let mut answers = Vec::new();
        for (words, answer_bytes) in pieces {
            client.write_all(words).await.unwrap();
            let mut answer = vec![0; *answer_bytes];
            client.read_exact(&mut answer).await.unwrap();
            answers.push(answer);
        }
        (client, answers)
    }

    /// A client that knows the password, and what comes of its request.
    async fn ask(&self, request: &[u8]) -> (TcpStream, Vec<u8>) {
        let shown = self.shown(self.bridge.password.reveal());
        let (client, mut answers) = self.talk(&[(&[5, 1, 2], 2), (&shown, 2), (request, 10)]).await;
        assert_eq!(answers[..2], [[5, 2], [1, 0]]);
        (client, answers.remove(2))
    }

    fn shown(&self, password: &str) -> Vec<u8> {
        let user = self.bridge.as_socks5().credentials.unwrap().user;
        let field = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![1], field(&user), field(password)].concat()
    }

    /// Takes a connection as the proxy does, reads the head of the request, and answers.
    async fn open(&self, answer: &[u8]) -> (String, TcpStream) {
        let (mut stream, _) = self.proxy.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
        }
        // A bridge that has seen enough may be gone before everything is written.
        let _ = stream.write_all(answer).await;
        (String::from_utf8(head).unwrap(), stream)
    }

    fn assert_proxy_untouched(self) {
        let proxy = self.proxy.into_std().unwrap();
        assert_eq!(proxy.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

async fn is_ended(mut stream: TcpStream) -> bool {
    let mut rest = [0; 1];
    matches!(timeout(IN_TIME, stream.read(&mut rest)).await.unwrap(), Ok(0) | Err(_))
}

#[tokio::test]
async fn only_who_knows_the_password_is_listened_to_and_only_about_addresses() {
    let place = Place::new(None, IN_TIME).await;
    let (client, answers) = place.talk(&[(&[5, 1, 0], 2)]).await;
    assert_eq!(answers, [[5, 0xff]], "it offers no password");
    assert!(is_ended(client).await);

    let (client, answers) = place.talk(&[(&[4, 1, 2], 2)]).await;
    assert_eq!(answers, [[5, 0xff]], "it speaks another version");
    assert!(is_ended(client).await);

    let almost = &place.bridge.password.reveal()[1..];
    for password in ["", "watchpost", almost] {
        let (client, answers) = place.talk(&[(&[5, 2, 0, 2], 2), (&place.shown(password), 2)]).await;
        assert_eq!(answers, [[5, 2], [1, 1]], "{password}");
        assert!(is_ended(client).await);
    }

    let name = b"\x05\x01\x00\x03\x0breceiver.io\x01\xbb";
    let bind = [&[5, 2], &ADDRESS[2..]].concat();
    for (request, code) in [(&name[..], 8), (&bind, 7)] {
        let (client, answer) = place.ask(request).await;
        assert_eq!(answer[..2], [5, code]);
        assert!(is_ended(client).await);
    }
    place.assert_proxy_untouched();
}

#[tokio::test]
async fn the_proxy_is_asked_for_the_address_and_then_both_are_connected() {
    let credentials = Credentials::new("Aladdin".to_owned(), "open sesame".to_owned());
    let place = Place::new(credentials, IN_TIME).await;
    let v6 = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80]].concat();
    let basic = "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    for (request, target) in [(ADDRESS, "203.0.113.7:443"), (&v6, "[::1]:80")] {
        // The receiver is so quick that its first words come with the head.
        let answer = [b"HTTP/1.0 204 \xff\r\nContent-Length: 7\r\n\r\n", &b"early"[..]].concat();
        let ((mut client, reply), (head, mut proxy)) = tokio::join!(place.ask(request), place.open(&answer));
        assert_eq!(head, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{basic}\r\n"));
        assert_eq!(reply, socks5::OPENED);
        let mut read = [0; 5];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"early");
        client.write_all(b"there").await.unwrap();
        proxy.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"there");
        proxy.write_all(b"again").await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"again");
        drop(client);
        assert!(is_ended(proxy).await, "nobody is left behind it");
    }
}

#[tokio::test]
async fn the_last_words_of_a_receiver_that_hangs_up_arrive() {
    let place = Place::new(None, IN_TIME).await;
    let ((mut client, _), (head, mut proxy)) = tokio::join!(place.ask(ADDRESS), place.open(OPEN));
    assert!(!head.contains("Authorization"), "{head}");
    proxy.write_all(b"bye").await.unwrap();
    drop(proxy);
    let mut words = Vec::new();
    client.read_to_end(&mut words).await.unwrap();
    assert_eq!(words, b"bye");
}

#[tokio::test]
async fn whatever_is_no_2xx_opens_nothing() {
    let place = Place::new(None, IN_TIME).await;
    let endless = [b"HTTP/1.1 200 OK\r\n", "a: b\r\n".repeat(2_000).as_bytes()].concat();
    let just_too_long = [b"HTTP/1.1 200 OK\r\na: ", "b".repeat(8 * 1024).as_bytes(), b"\r\n\r\n"].concat();
    for answer in [
        &b"HTTP/1.1 403 Forbidden\r\n\r\n"[..],
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
        &endless,
        &just_too_long,
    ] {
        let ((client, reply), ()) = tokio::join!(place.ask(ADDRESS), async {
            drop(place.open(answer).await);
        });
        assert_eq!(reply, socks5::FAILED, "{}", String::from_utf8_lossy(answer));
        assert!(is_ended(client).await);
    }
}

#[tokio::test]
async fn nobody_may_be_slow_for_ever() {
    let place = Place::new(None, Duration::from_secs(2)).await;
    let (client, _) = place.talk(&[(&[5, 1], 0)]).await;
    assert!(is_ended(client).await, "a client that does not go on");

    let ((client, reply), (_, proxy)) = tokio::join!(place.ask(ADDRESS), place.open(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(reply, socks5::FAILED, "a proxy that does not go on");
    assert!(is_ended(client).await && is_ended(proxy).await);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_opens_nothing() {
    let mut place = Place::new(None, IN_TIME).await;
    // Another takes its place here, and the bridge does not know of it.
    place.proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, reply) = place.ask(ADDRESS).await;
    assert_eq!(reply, socks5::FAILED);
    assert!(is_ended(client).await);
}

#[tokio::test]
async fn the_password_is_shown_by_nothing() {
    let place = Place::new(None, IN_TIME).await;
    let password = place.bridge.password.reveal();
    assert_eq!(password.len(), 43);
    assert!(!format!("{:?} {:?}", place.bridge, place.bridge.as_socks5()).contains(password));
}
