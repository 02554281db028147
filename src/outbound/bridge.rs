//! A bridge inside the process to an HTTP proxy: a client speaks SOCKS5 to it, and it speaks `CONNECT` to the proxy.
//! Put up by `cli::server` where the operator's proxy is an HTTP one; the clients know it as any SOCKS5 proxy.
//!
//! A client that spoke to an HTTP proxy itself would hand it names. So the proxy is asked for addresses alone, those
//! that our own resolver has judged, and TLS stays between us and the receiver. The bridge asks for whatever it is told,
//! hence it listens to nobody who does not know the password that was made at its start.

mod socks5;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::StatusCode;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    clock::SharedClock,
    domain::{
        egress_proxy::{Credentials, ProxyServer},
        hidden::Hidden,
    },
    entropy::Entropy,
    runtime::Tasks,
};

/// Four times what may be in flight: the rest are idle, kept open for a while by the clients. More have to wait.
const CONNECTIONS_MAX: usize = 4 * 1024;
/// Where there are no descriptors left, some may be free after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// As long as the longest attempt: for whoever takes nothing for so long, nobody is waiting any more.
const STALL_MAX: Duration = Duration::from_mins(1);
const HEAD_BYTES_MAX: u64 = 8 * 1024;
const COPY_BYTES: usize = 8 * 1024;

const USER: &str = "watchpost";

/// Taken down with the value: nobody gets in any more; who is in stays until the client or the proxy ends it.
#[derive(Debug)]
pub struct Bridge {
    address: SocketAddr,
    password: Hidden,
    accepting: JoinHandle<()>,
}

impl Bridge {
    /// Each of the two handshakes, the client's and the proxy's, may take as long as `deadline`.
    pub async fn start(
        proxy: &ProxyServer,
        deadline: Duration,
        clock: SharedClock,
        entropy: &dyn Entropy,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let password = Hidden::new(BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<32>()));
        let crossing = Crossing {
            proxy: proxy.address,
            authorization: proxy.credentials.as_ref().map(authorization).unwrap_or_default(),
            password: password.clone(),
            deadline,
        };
        let accepting = tasks.spawn("bridge", accept(listener, Arc::new(crossing), clock, tasks.clone()));
        Ok(Self { address, password, accepting })
    }

    /// What the clients see of it.
    pub fn as_socks5(&self) -> ProxyServer {
        let credentials = Credentials { user: USER.to_owned(), password: self.password.clone() };
        ProxyServer { address: self.address, credentials: Some(credentials) }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, crossing: Arc<Crossing>, clock: SharedClock, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((client, _)) = listener.accept().await else {
            clock.sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let crossing = Arc::clone(&crossing);
        tasks.spawn("bridge connection", async move {
            // However it ends, the client sees it.
            let _ = crossing.serve(client).await;
            drop(place);
        });
    }
}

/// Why the proxy opened no tunnel.
#[derive(Debug, Error)]
enum NoTunnel {
    #[error("no connection to it: {0}")]
    Io(#[from] io::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is not HTTP, or too large")]
    BadHttp,
    #[error("no answer in time")]
    Late,
}

/// What every connection needs to know. Without a `Debug`, which would show who we are to the proxy.
struct Crossing {
    proxy: SocketAddr,
    /// The header's line, or nothing.
    authorization: String,
    password: Hidden,
    deadline: Duration,
}

impl Crossing {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let asked = socks5::target(&mut client, self.password.reveal());
        let target = timeout(self.deadline, asked).await??;
        let tunnel = timeout(self.deadline, self.tunnel(target)).await.unwrap_or(Err(NoTunnel::Late));
        match tunnel {
            Ok((proxy, early)) => {
                client.write_all(&socks5::OPENED).await?;
                client.write_all(&early).await?;
                pass_both(client, proxy).await
            }
            Err(error) => {
                tracing::warn!(
                    proxy.address = %self.proxy,
                    proxy.target = %target,
                    error = %error,
                    "the proxy opened no tunnel"
                );
                client.write_all(&socks5::FAILED).await
            }
        }
    }

    /// A connection through the proxy, and what has come of it already.
    async fn tunnel(&self, target: SocketAddr) -> Result<(TcpStream, Vec<u8>), NoTunnel> {
        let mut proxy = TcpStream::connect(self.proxy).await?;
        proxy.set_nodelay(true)?;
        let authorization = &self.authorization;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
        proxy.write_all(request.as_bytes()).await?;

        let mut answer = (&mut proxy).take(HEAD_BYTES_MAX);
        let mut head = Vec::new();
        let end = loop {
            if answer.read_buf(&mut head).await? == 0 {
                return Err(NoTunnel::BadHttp);
            }
            if let Some(at) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let early = head.split_off(end);
        match status(&head) {
            Some(status) if status.is_success() => Ok((proxy, early)),
            Some(status) => Err(NoTunnel::Status(status)),
            None => Err(NoTunnel::BadHttp),
        }
    }
}

fn authorization(credentials: &Credentials) -> String {
    let basic = BASE64_STANDARD.encode(format!("{}:{}", credentials.user, credentials.password.reveal()));
    format!("Proxy-Authorization: Basic {basic}\r\n")
}

fn status(head: &[u8]) -> Option<StatusCode> {
    let line = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let code = line.split(|byte| matches!(byte, b' ' | b'\r')).next()?;
    StatusCode::from_bytes(code).ok()
}

/// Until the client hangs up, which it always does in time: when the receiver has, when the attempt is over, when the
/// connection was idle for long.
async fn pass_both(mut client: TcpStream, mut proxy: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_proxy, mut to_proxy) = proxy.split();
    let back = async {
        pass(&mut from_proxy, &mut to_client).await?;
        to_client.shutdown().await?;
        std::future::pending().await
    };
    tokio::select! {
        ended = pass(&mut from_client, &mut to_proxy) => ended,
        ended = back => ended,
    }
}

async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut bytes = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut bytes).await?;
        let Some(read) = bytes.get(..read).filter(|read| !read.is_empty()) else { return Ok(()) };
        timeout(STALL_MAX, to.write_all(read)).await??;
    }
}

#[cfg(test)]
mod tests;
