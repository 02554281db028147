//! An HTTP proxy of the tests that takes `CONNECT`: it writes down what it was asked, and connects to the receivers of
//! the test instead, so that requests to public addresses stay on this machine. It misbehaves where the test says so.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const OPENED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const WHO_ARE_YOU: &[u8] =
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\n\r\n";

/// What the proxy does when it is asked.
#[derive(Clone, Debug)]
pub enum Manner {
    Open,
    /// Only who says this in `Proxy-Authorization` gets through.
    OpenTo(&'static str),
    /// These bytes, then the connection ends.
    Say(Vec<u8>),
    /// Header after header, as long as anybody reads.
    Endless,
}

/// Where it connects to, whatever it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    pub http: SocketAddr,
    /// On port 443. Without one the connection ends there.
    pub https: Option<SocketAddr>,
}

/// Ends with the value.
pub struct ConnectProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    heads: Mutex<Vec<String>>,
    manner: Mutex<Manner>,
    behind: Behind,
}

impl ConnectProxy {
    pub async fn start(behind: Behind) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { heads: Mutex::default(), manner: Mutex::new(Manner::Open), behind });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// From the next request on.
    pub fn behave(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }

    /// The heads of all requests, in their order.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.shared.heads).clone()
    }

    /// `ADDRESS:PORT` or `NAME:PORT`, in the order in which they were asked for.
    pub fn asked(&self) -> Vec<String> {
        let target = |head: String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads().into_iter().map(target).collect()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _broken = serve(stream, &shared).await;
        });
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Nothing may come before the answer, so nothing is read that does not belong to the head.
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    lock(&shared.heads).push(head.clone());
    let manner = lock(&shared.manner).clone();
    match manner {
        Manner::Open => {}
        Manner::OpenTo(whom) if head.contains(&format!("\r\nProxy-Authorization: {whom}\r\n")) => {}
        Manner::OpenTo(_) => return client.write_all(WHO_ARE_YOU).await,
        Manner::Say(bytes) => return client.write_all(&bytes).await,
        Manner::Endless => {
            client.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                client.write_all(b"more: and more\r\n").await?;
            }
        }
    }
    let is_secure = head.lines().next().is_some_and(|line| line.ends_with(":443 HTTP/1.1"));
    let receiver = if is_secure { shared.behind.https } else { Some(shared.behind.http) };
    client.write_all(OPENED).await?;
    let Some(receiver) = receiver else { return Ok(()) };
    let mut server = TcpStream::connect(receiver).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
