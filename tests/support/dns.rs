//! A name server of the tests, on UDP and TCP of one port of 127.0.0.1: it answers what the test says, badly if the
//! test says so, and writes down what it was asked. Written down to the bytes, so that what it gets wrong is meant.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;

pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;

/// What fits into an answer over UDP; the rest is asked for again over TCP.
const UDP_BYTES_MAX: usize = 1232;
const IN: u16 = 1;
/// A response to a recursive query, and one that was cut short.
const RESPONSE: u16 = 0x8580;
const TRUNCATED: u16 = 0x0200;

/// One record of an answer, of the name that was asked for unless it has an owner of its own.
#[derive(Clone, Debug)]
pub struct Record {
    owner: Option<String>,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
}

impl Record {
    pub fn address(ip: &str) -> Self {
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => Self::new(A, ip.octets().to_vec()),
            IpAddr::V6(ip) => Self::new(AAAA, ip.octets().to_vec()),
        }
    }

    pub fn alias(name: &str) -> Self {
        Self::new(CNAME, wire_name(name))
    }

    pub fn new(kind: u16, data: Vec<u8>) -> Self {
        Self { owner: None, kind, ttl: 0, data }
    }

    pub fn of(self, owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), ..self }
    }

    pub fn living(self, ttl: u32) -> Self {
        Self { ttl, ..self }
    }
}

/// What the server does with a question.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Those of the type that was asked for, and everything that is no address.
    Records(Vec<Record>),
    /// An answer that says nothing but this code.
    Code(u8),
    /// Nothing over UDP but that it must be asked over TCP.
    OverTcp(Vec<Record>),
    Silence,
}

impl Reply {
    pub fn addresses(ips: &[&str]) -> Self {
        Self::Records(ips.iter().map(|ip| Record::address(ip)).collect())
    }
}

type Script = Box<dyn FnMut(u16) -> Reply + Send>;

#[derive(Default)]
struct Shared {
    zone: Mutex<HashMap<String, Script>>,
    asked: Mutex<Vec<(String, u16)>>,
}

/// Ends with the value.
pub struct DnsServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    /// Knows no name yet.
    pub async fn start() -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // Another program may have that port.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(over_udp(udp, Arc::clone(&shared)));
        tasks.spawn(over_tcp(tcp, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    pub fn answer(&self, name: &str, reply: Reply) {
        self.answer_with(name, move |_| reply.clone());
    }

    /// `script` is called for each question, with its type.
    pub fn answer_with(&self, name: &str, script: impl FnMut(u16) -> Reply + Send + 'static) {
        lock(&self.shared.zone).insert(name.to_owned(), Box::new(script));
    }

    /// Names and types, in the order in which they were asked for.
    pub fn asked(&self) -> Vec<(String, u16)> {
        lock(&self.shared.asked).clone()
    }

    pub fn was_asked_for(&self, name: &str) -> bool {
        self.asked().iter().any(|(asked, _)| asked == name)
    }
}

async fn over_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut bytes = [0; 4096];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut bytes).await else { continue };
        if let Some(answer) = shared.answer(&bytes[..length], UDP_BYTES_MAX) {
            let _gone = socket.send_to(&answer, peer).await;
        }
    }
}

async fn over_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(talk(stream, Arc::clone(&shared)));
    }
}

async fn talk(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; usize::from(length)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some(answer) = shared.answer(&question, usize::from(u16::MAX)) else { continue };
        let mut bytes = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(answer);
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// The whole answer to a question in at most `bytes_max`, or that it does not fit.
    fn answer(&self, message: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
        let question = message.get(12..)?;
        let (name, length) = read_name(question)?;
        let kind = u16::from_be_bytes(question.get(length..length + 2)?.try_into().ok()?);
        lock(&self.asked).push((name.clone(), kind));
        let reply = lock(&self.zone).get_mut(&name).map_or(Reply::Code(NXDOMAIN), |script| script(kind));
        let over_udp = bytes_max == UDP_BYTES_MAX;
        let (records, code, mut flags) = match reply {
            Reply::Silence => return None,
            Reply::Code(code) => (Vec::new(), code, RESPONSE),
            Reply::OverTcp(_) if over_udp => (Vec::new(), 0, RESPONSE | TRUNCATED),
            Reply::Records(records) | Reply::OverTcp(records) => (records, 0, RESPONSE),
        };
        let is_other_address = |record: &Record| [A, AAAA].contains(&record.kind) && record.kind != kind;
        let mut count = 0_u16;
        let mut answers = Vec::new();
        for record in records.iter().filter(|record| !is_other_address(record)) {
            answers.extend(record.owner.as_deref().map_or(vec![0xc0, 12], wire_name));
            answers.extend([record.kind.to_be_bytes(), IN.to_be_bytes()].concat());
            answers.extend(record.ttl.to_be_bytes());
            answers.extend(u16::try_from(record.data.len()).unwrap().to_be_bytes());
            answers.extend(&record.data);
            count += 1;
        }
        let question = question.get(..length + 4)?;
        if 12 + question.len() + answers.len() > bytes_max {
            (count, flags) = (0, flags | TRUNCATED);
            answers.clear();
        }
        let mut bytes = message.get(..2)?.to_vec();
        bytes.extend((flags | u16::from(code)).to_be_bytes());
        bytes.extend([1_u16.to_be_bytes(), count.to_be_bytes(), [0; 2], [0; 2]].concat());
        bytes.extend(question);
        bytes.extend(answers);
        Some(bytes)
    }
}

/// The name at the beginning, in lower case without a dot at its end, and how many bytes it takes.
fn read_name(bytes: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (0, Vec::new());
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(bytes.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
