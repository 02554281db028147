//! A receiver that plays a script: raw bytes over TCP or TLS, good and bad, with no HTTP library in between. Each
//! connection is played from the beginning; who wants an orderly receiver that answers as told takes
//! [`Receiver`](super::receiver::Receiver).
//!
//! It counts the connections that came and the requests that were read from them to the end.

pub mod frames;
pub mod script;
pub mod tls;

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use self::script::{End, Script, Step};
use super::receiver::in_time;

const BACKLOG: u32 = 1024;
/// So small that 256 KiB do not vanish in it: who does not read is noticed.
const READ_BUFFER_BYTES: u32 = 16 * 1024;
/// Between two pieces of what drips.
const PACE: Duration = Duration::from_millis(200);

/// A request that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The connection it came on, from 1.
    pub connection: usize,
    /// As it came; empty where it came in frames, which are counted and not understood.
    pub head: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &str| line.split(':').next().is_some_and(|known| known.eq_ignore_ascii_case(name));
        let line = self.head.lines().find(|line| named(line))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    pub fn has_header(&self, name: &str) -> bool {
        self.header(name).is_some()
    }

    /// Message number and attempt.
    pub fn place(&self) -> Option<(u64, u64)> {
        let number = |name| self.header(name)?.parse().ok();
        Some((number("watchpost-message")?, number("watchpost-attempt")?))
    }
}

/// The receiver; its connections end with it.
pub struct Misbehaving {
    address: SocketAddr,
    polite: Arc<Script>,
    shared: Arc<Shared>,
    /// Dropping the set ends the listener and every connection.
    _tasks: JoinSet<()>,
}

struct Shared {
    /// A change of it ends every connection.
    script: watch::Sender<Arc<Script>>,
    seen: Mutex<Seen>,
    /// Rings after every change of what was seen.
    changed: watch::Sender<()>,
}

#[derive(Clone, Default)]
struct Seen {
    connections: usize,
    /// Connections that have ended, by whichever side.
    ended: usize,
    requests: Vec<Request>,
}

impl Misbehaving {
    /// On a free port of 127.0.0.1. `polite` is how it behaves when it does; through TLS if that is.
    pub fn start(polite: Script) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(READ_BUFFER_BYTES).unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let polite = Arc::new(polite);
        let shared = Arc::new(Shared {
            script: watch::Sender::new(Arc::clone(&polite)),
            seen: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, polite, shared, _tasks: tasks }
    }

    /// `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.polite.door.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// From now on every new connection gets this; those that are open end.
    pub fn plays(&self, script: &Script) {
        self.shared.script.send_replace(Arc::new(script.clone()));
    }

    /// From now on every new connection finds it polite; those that are open end.
    pub fn behaves(&self) {
        self.shared.script.send_replace(Arc::clone(&self.polite));
    }

    pub fn connections(&self) -> usize {
        lock(&self.shared.seen).connections
    }

    /// What was read to its end so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.seen).requests.clone()
    }

    /// Message number and attempt of the requests that came as text.
    pub fn places(&self) -> Vec<(u64, u64)> {
        self.requests().iter().filter_map(Request::place).collect()
    }

    /// Waits until no connection is open. `what` names it in the panic.
    pub async fn is_left(&self, what: &str) {
        let mut changed = self.shared.changed.subscribe();
        in_time(&format!("the sender to hang up: {what}"), async {
            loop {
                changed.mark_unchanged();
                let Seen { connections, ended, .. } = *lock(&self.shared.seen);
                if connections == ended {
                    return;
                }
                changed.changed().await.expect("the sender lives in self");
            }
        })
        .await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // The peer may be gone again, or the process out of descriptors: neither is the end.
                let Ok((stream, _)) = accepted else { continue };
                let number = shared.saw(|seen| {
                    seen.connections += 1;
                    seen.connections
                });
                let (mut scripts, shared) = (shared.script.subscribe(), Arc::clone(&shared));
                let script = Arc::clone(&scripts.borrow_and_update());
                connections.spawn(async move {
                    tokio::select! {
                        // How it ends is the sender's to notice.
                        _ended = play(stream, number, &script, &shared) => {}
                        _ = scripts.changed() => {}
                    }
                    shared.saw(|seen| seen.ended += 1);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    fn saw<T>(&self, see: impl FnOnce(&mut Seen) -> T) -> T {
        let result = see(&mut lock(&self.seen));
        self.changed.send_replace(());
        result
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

async fn play(stream: TcpStream, number: usize, script: &Script, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if script.end == End::Reset {
        // Closing such a socket is a reset.
        stream.set_zero_linger()?;
    }
    let wire: Box<dyn Wire> = match &script.door {
        Some(door) => Box::new(TlsAcceptor::from(Arc::clone(door)).accept(stream).await?),
        None => Box::new(stream),
    };
    let mut connection = Connection { wire, buffer: Vec::new(), number, shared };
    loop {
        for step in &script.steps {
            connection.take(step).await?;
        }
        match script.end {
            End::Next => {}
            End::Close | End::Reset => return Ok(()),
            End::Hold if script.in_frames => loop {
                connection.read_frame().await?;
            },
            End::Hold => loop {
                connection.read_more().await?;
                connection.buffer.clear();
            },
            End::Deaf => return std::future::pending().await,
        }
    }
}

struct Connection<'s> {
    wire: Box<dyn Wire>,
    /// Read and not yet used.
    buffer: Vec<u8>,
    number: usize,
    shared: &'s Shared,
}

impl Connection<'_> {
    async fn take(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::ReadRequest => self.read_request().await,
            Step::Read(bytes) => self.read(*bytes).await.map(drop),
            Step::ReadFramesOfRequest => {
                while !self.read_frame().await? {}
                Ok(())
            }
            Step::Say(bytes) => self.say(bytes).await,
            Step::Drip(pieces) => self.drip(pieces).await,
            Step::Flood(bytes) => self.flood(bytes).await,
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
    }

    /// One piece after another, from the beginning again after the last, until the sender hangs up.
    async fn drip(&mut self, pieces: &[Vec<u8>]) -> io::Result<()> {
        for piece in pieces.iter().cycle() {
            self.say(piece).await?;
            // Whoever waits for a sender to leave may as well look at the time.
            if let Ok(read) = tokio::time::timeout(PACE, self.read_more()).await {
                read?;
            }
        }
        Ok(())
    }

    /// The same bytes as fast as they are taken, until the sender hangs up. What it says meanwhile is not kept.
    async fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut reading, mut writing) = tokio::io::split(&mut self.wire);
        let mut heard = vec![0; 4096];
        let listen = async {
            loop {
                if reading.read(&mut heard).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        };
        let talk = async {
            loop {
                writing.write_all(bytes).await?;
                writing.flush().await?;
            }
        };
        tokio::select! {
            ended = listen => ended,
            ended = talk => ended,
        }
    }

    /// A request with its body, which has a `Content-Length`.
    async fn read_request(&mut self) -> io::Result<()> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await?;
        };
        let head = self.read(end).await?.into_iter().map(char::from).collect();
        let request = Request { connection: self.number, head };
        let length = request.header("content-length").and_then(|length| length.parse().ok());
        self.read(length.ok_or(ErrorKind::InvalidData)?).await?;
        self.shared.saw(|seen| seen.requests.push(request));
        Ok(())
    }

    /// One HTTP/2 frame. True if it begins a request, which is then counted.
    async fn read_frame(&mut self) -> io::Result<bool> {
        let head = self.read(frames::HEAD_BYTES).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        self.read(usize::try_from(length).unwrap()).await?;
        let begins = head[3] == frames::HEADERS;
        if begins {
            let request = Request { connection: self.number, head: String::new() };
            self.shared.saw(|seen| seen.requests.push(request));
        }
        Ok(begins)
    }

    async fn read(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < bytes {
            self.read_more().await?;
        }
        Ok(self.buffer.drain(..bytes).collect())
    }

    /// An error at the end of the stream.
    async fn read_more(&mut self) -> io::Result<()> {
        if self.wire.read_buf(&mut self.buffer).await? > 0 {
            Ok(())
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
