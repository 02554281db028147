//! Certificates, ALPN, and HTTP/2 frames written by hand.

use std::sync::Arc;

use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::certificate::receiver_called;
use super::*;

#[path = "../../../../tests/support/certificate.rs"]
mod certificate;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS_FRAME: u8 = 1;
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// HEADERS on stream 1 that end headers and stream: `:status: 200`, from the static table.
const STATUS_200: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
/// RST_STREAM on stream 1 with REFUSED_STREAM, which a client may answer by sending again.
const REFUSED_STREAM: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];

struct Receiver {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ca_pem: String,
}

impl Receiver {
    /// With a certificate for `name` from an authority of its own.
    async fn new(name: &str, protocol: &[u8]) -> (Self, Address) {
        let (mut config, ca_pem) = receiver_called(name);
        config.alpn_protocols = vec![protocol.to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = address(&format!("https://{}/", listener.local_addr().unwrap()));
        (Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem }, address)
    }

    /// A sender that trusts the authority.
    fn sender(&self) -> Sender {
        let port = self.listener.local_addr().unwrap().port();
        let path = std::env::temp_dir().join(format!("watchpost-ca-{}-{port}.pem", std::process::id()));
        std::fs::write(&path, &self.ca_pem).unwrap();
        let sender = Sender::new(SenderConfig { ca_file: Some(path.clone()), ..config(LOOPBACK) });
        std::fs::remove_file(path).unwrap();
        sender.unwrap()
    }

    async fn accept(&self) -> io::Result<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await.unwrap();
        self.acceptor.accept(stream).await
    }

    /// Answers the first HTTP/2 request with these frames; counts the requests until the client is gone.
    async fn serve_frames(&self, frames: &[u8]) -> usize {
        let mut stream = self.accept().await.unwrap();
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        stream.write_all(SETTINGS).await.unwrap();
        let mut requests = 0;
        loop {
            let mut head = [0; FRAME_HEAD_BYTES];
            if stream.read_exact(&mut head).await.is_err() {
                return requests;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS_FRAME {
                requests += 1;
                stream.write_all(frames).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn only_a_certificate_that_is_trusted_gets_a_request() {
    let (receiver, address) = Receiver::new("127.0.0.1", b"http/1.1").await;
    // Nobody the system trusts has signed it.
    let stranger = sender();
    let (outcome, accepted) = tokio::join!(post(&stranger, &address), receiver.accept());
    assert_eq!(outcome, Err(SendError::Tls { certificate: true }));
    assert!(accepted.is_err());

    let sender = receiver.sender();
    let (outcome, ()) = tokio::join!(post(&sender, &address), async {
        let mut stream = receiver.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut read).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    assert_eq!(outcome.unwrap().status, 200);
}

#[tokio::test]
async fn a_certificate_for_another_host_is_none() {
    let (receiver, address) = Receiver::new("elsewhere.org", b"http/1.1").await;
    let sender = receiver.sender();
    let (outcome, accepted) = tokio::join!(post(&sender, &address), receiver.accept());
    assert_eq!(outcome, Err(SendError::Tls { certificate: true }));
    assert!(accepted.is_err());
}

#[tokio::test]
async fn http2_is_spoken_where_offered_and_a_refused_stream_is_not_sent_again() {
    for (frames, expected) in [(STATUS_200, Ok(200)), (REFUSED_STREAM, Err(SendError::Reset))] {
        let (receiver, address) = Receiver::new("127.0.0.1", b"h2").await;
        let sender = receiver.sender();
        let (outcome, requests) = tokio::join!(
            async {
                let outcome = post(&sender, &address).await;
                // Closes the connection, and with it the count.
                drop(sender);
                outcome
            },
            receiver.serve_frames(frames)
        );
        assert_eq!(outcome.map(|answer| answer.status), expected);
        assert_eq!(requests, 1);
        assert_untouched(receiver.listener);
    }
}
