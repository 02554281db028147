//! A client that speaks bytes, so that it can also send what no library would.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::receiver::in_time;

#[derive(Clone)]
pub struct Ask {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Ask {
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { address, method, target, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Unless a test says who asks, each request comes from an address of its own: a server that trusts this host counts
    /// nobody's wrong credentials against another.
    fn forwarded_line(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        if self.headers.iter().any(|(name, _)| name == "X-Forwarded-For") {
            return String::new();
        }
        let client = Ipv4Addr::from_bits(0xc612_0000 + NUMBER.fetch_add(1, Ordering::Relaxed) % 0x2_0000);
        format!("X-Forwarded-For: {client}\r\n")
    }

    pub async fn send(self) -> Answer {
        // A test that says how the body comes says how long it is as well.
        let length = if self.headers.iter().any(|(name, _)| name == "Transfer-Encoding") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", self.body.len())
        };
        let mut request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{length}{}",
            self.method,
            self.target,
            self.address,
            self.forwarded_line(),
        )
        .into_bytes();
        for (name, value) in &self.headers {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(&self.body);
        let mut answers = raw(self.address, &request).await;
        assert_eq!(answers.len(), 1, "{} {}: {answers:?}", self.method, self.target);
        answers.remove(0)
    }
}

/// What comes back for these bytes until the server closes the connection.
pub async fn raw(address: SocketAddr, request: &[u8]) -> Vec<Answer> {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let mut bytes = Vec::new();
    in_time("an answer", async {
        // The server may answer and close before it has read everything.
        let write = async { drop(writer.write_all(request).await) };
        let read = async { while matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {} };
        tokio::join!(write, read);
    })
    .await;
    answers(&bytes, &String::from_utf8_lossy(request))
}

/// The answers that one connection has brought, taken apart where the next one begins.
pub fn answers(bytes: &[u8], request: &str) -> Vec<Answer> {
    const START: &[u8] = b"HTTP/1.1 ";
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(START));
    let mut ends: Vec<usize> = starts.chain([bytes.len()]).collect();
    assert_eq!(ends.first(), Some(&0), "no answer to {request:.200}: {}", bytes.escape_ascii());
    ends.dedup();
    ends.windows(2).map(|ends| Answer::parse(&bytes[ends[0]..ends[1]], request)).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8], request: &str) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer to {request:.200}: {bytes:?}"));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn has_header(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(header))
    }

    /// The `code` and `field` of a problem.
    pub fn problem(&self) -> (u16, String, Option<String>) {
        assert!(self.has_header("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let text = |name: &str| problem[name].as_str().map(str::to_owned);
        (self.status, text("code").unwrap(), text("field"))
    }

    /// The reason and message of a Google error.
    pub fn google(&self) -> (u16, String, String) {
        assert!(self.has_header("content-type: application/json; charset=UTF-8"), "{self:?}");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], self.status, "{}", self.text());
        assert_eq!(error["errors"][0]["message"], error["message"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (self.status, text(&error["errors"][0]["reason"]), text(&error["message"]))
    }
}
