//! The receiver: lean, because it shares two cores with the program. It writes down every request that reached it
//! whole, checks its form and signature on the spot, and fails one in twenty, by seed.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

use crate::{
    board::Board,
    dice::Dice,
    history::{Answer, Request},
    program::AGENT,
};

/// Every full channel brings this secret along, so that a lost answer to its opening loses nothing.
pub const SECRET: &str = "whsec_Y3Jhc2ggdGVzdHMga2VlcCB0aGlzIHNlY3JldCE=";
const SYNC: &str = "watchpost.channel.sync";

pub struct Receiver {
    address: SocketAddr,
    log: Arc<Log>,
    /// Its connections end with it.
    _runtime: Runtime,
}

struct Log {
    seed: u64,
    board: Arc<Board>,
    key: Hmac<Sha256>,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    requests: Vec<Request>,
    /// How often each message of each channel came.
    times: HashMap<(String, i64), u32>,
    uids: HashMap<String, String>,
}

impl Receiver {
    pub fn start(seed: u64, board: Arc<Board>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let secret = BASE64_STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
        let key = Hmac::new_from_slice(&secret).unwrap();
        let log = Arc::new(Log { seed, board, key, written: Mutex::default() });
        runtime.spawn(accept(listener, Arc::clone(&log)));
        Self { address, log, _runtime: runtime }
    }

    /// Where a channel's notifications go. The version in it has to agree with the token's.
    pub fn url(&self, channel: &str, version: usize) -> String {
        format!("http://{}/{channel}/v{version}", self.address)
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        self.log.written().requests.len()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.written().requests.clone()
    }
}

impl Log {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a request down and says how it is answered.
    fn take(&self, head: &Head, body: &[u8]) -> Answer {
        let mut request = read_request(head, body);
        request.signed = self.is_signed(head, body);
        let mut written = self.written();
        let id = head.get("webhook-id").unwrap_or_default();
        match id.rsplit_once('_') {
            Some((uid, number)) if number == request.number.to_string() => {
                let first = written.uids.entry(request.channel.clone()).or_insert_with(|| uid.to_owned());
                if first != uid {
                    request.fault = Some(format!("webhook-id {id} after {first}"));
                }
            }
            _ => request.fault = Some(format!("webhook-id {id}")),
        }
        let times = written.times.entry((request.channel.clone(), request.number)).or_default();
        *times += 1;
        let purpose = format!("{}/{}/{times}", request.channel, request.number);
        request.answer = match Dice::new(self.seed, &purpose).between(1, 100) {
            1 | 2 => Answer::Status(500),
            3 | 4 => Answer::Status(503),
            5 => Answer::Reset,
            _ => Answer::Status(200),
        };
        let answer = request.answer;
        let (channel, seq) = (request.channel.clone(), request.seq);
        written.requests.push(request);
        drop(written);
        if answer.is_success() {
            self.board.note(|state| {
                state.delivered += 1;
                let highest = state.had.entry(channel).or_insert(seq);
                *highest = seq.max(*highest);
            });
        }
        answer
    }

    fn is_signed(&self, head: &Head, body: &[u8]) -> bool {
        let (Some(id), Some(time), Some(signature)) =
            (head.get("webhook-id"), head.get("webhook-timestamp"), head.get("webhook-signature"))
        else {
            return false;
        };
        let mut mac = self.key.clone();
        mac.update(format!("{id}.{time}.").as_bytes());
        mac.update(body);
        signature == format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

struct Head {
    first: String,
    headers: HashMap<String, String>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Self { first, headers: lines.filter_map(header).collect() }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).and_then(|text| text.parse().ok())
    }
}

/// What is missing or makes no sense becomes a fault, for the judge.
fn read_request(head: &Head, body: &[u8]) -> Request {
    let path = head.first.split(' ').nth(1).unwrap_or_default();
    let mut segments = path.split('/').skip(1);
    let channel = segments.next().unwrap_or_default().to_owned();
    let version = |text: &str| text.strip_prefix('v').and_then(|version| version.parse::<usize>().ok());
    let google = head.get("x-goog-channel-id").is_some();
    let named = head.get(if google { "x-goog-channel-id" } else { "watchpost-channel-id" });
    let token = head.get(if google { "x-goog-channel-token" } else { "watchpost-channel-token" });
    let (token, address) = (token.and_then(version), segments.next().and_then(version));
    let number = head.number::<i64>("watchpost-message");
    let sync = head.get("watchpost-event") == Some(SYNC);
    let body = std::str::from_utf8(body).unwrap_or("not UTF-8");
    let faults = [
        (!head.first.starts_with("POST "), "method"),
        (head.get("content-length").is_none(), "no Content-Length"),
        (named != Some(&channel), "channel id"),
        (token.is_none() || token != address, "token and address are of different versions"),
        (number.is_none() || sync != (number == Some(1)), "message number"),
        (google && head.number("x-goog-message-number") != number, "Google's message number"),
        (google && (head.get("x-goog-resource-state") == Some("sync")) != sync, "Google's resource state"),
        (google && !body.is_empty(), "a body"),
        (!google && serde_json::from_str::<serde_json::Value>(body).is_err(), "the body is no JSON"),
        (sync == head.get("watchpost-event-id").is_some(), "event id"),
        (head.number::<i64>("watchpost-sequence").is_none(), "sequence"),
        (head.number::<u32>("watchpost-attempt").is_none(), "attempt"),
    ];
    let faults: Vec<&str> = faults.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
    Request {
        incarnation: head
            .get("user-agent")
            .and_then(|agent| agent.strip_prefix(AGENT)?.parse().ok())
            .unwrap_or(0),
        channel,
        number: number.unwrap_or(0),
        seq: head.number("watchpost-sequence").unwrap_or(-1),
        attempt: head.number("watchpost-attempt").unwrap_or(0),
        previous: head.number("watchpost-previous-message"),
        event: head.get("watchpost-event-id").map(str::to_owned),
        data: (!google && !sync).then(|| data_of(body).unwrap_or_default().to_owned()),
        signed: false,
        token: token.unwrap_or(0),
        fault: (!faults.is_empty()).then(|| format!("{} in {:?}", faults.join(", "), head.headers)),
        answer: Answer::Reset,
    }
}

/// The data's own bytes, cut out rather than parsed: they have to arrive as they were published.
fn data_of(body: &str) -> Option<&str> {
    body.split_once("\"data\":")?.1.strip_suffix('}')
}

async fn accept(listener: TcpListener, log: Arc<Log>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let log = Arc::clone(&log);
                connections.spawn(async move {
                    // However it ends: the other side may have been killed.
                    let _ended = serve(stream, &log).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, log: &Log) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let head_end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = Head::parse(&String::from_utf8_lossy(&buffer[..head_end]));
        let body_start = head_end + 4;
        let end = body_start + head.number("content-length").unwrap_or(0);
        while buffer.len() < end {
            if stream.read_buf(&mut buffer).await? == 0 {
                // Cut off in the middle: it never arrived.
                return Ok(());
            }
        }
        match log.take(&head, &buffer[body_start..end]) {
            Answer::Status(status) => {
                let answer = format!("HTTP/1.1 {status} Judged\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
            Answer::Reset => return stream.set_zero_linger(),
        }
        buffer.drain(..end);
    }
}
