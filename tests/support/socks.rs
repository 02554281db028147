//! A SOCKS5 proxy of the tests: it writes down what it was asked to connect to, and connects to the receiver of the
//! test instead, so that requests to public addresses stay on this machine.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const VERSION: u8 = 5;
const NO_AUTH: u8 = 0;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const HTTPS_PORT: u16 = 443;

/// Ends with the value.
pub struct SocksProxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl SocksProxy {
    pub async fn start(receiver: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, receiver, Arc::clone(&asked)));
        Self { address, asked, _tasks: tasks }
    }

    /// `ADDRESS:PORT` or `NAME:PORT`, in the order in which they were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, receiver: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let asked = Arc::clone(&asked);
        connections.spawn(async move {
            let _broken = serve(stream, receiver, &asked).await;
        });
    }
}

async fn serve(
    mut client: TcpStream,
    receiver: SocketAddr,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let _version = client.read_u8().await?;
    let mut methods = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut methods).await?;
    client.write_all(&[VERSION, NO_AUTH]).await?;
    let [_version, _connect, _reserved, kind] = client.read_u32().await?.to_be_bytes();
    let host = match kind {
        IPV4 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        NAME => {
            let mut name = vec![0; usize::from(client.read_u8().await?)];
            client.read_exact(&mut name).await?;
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => format!("[{}]", Ipv6Addr::from_bits(client.read_u128().await?)),
    };
    let port = client.read_u16().await?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{host}:{port}"));
    let mut server = TcpStream::connect(receiver).await?;
    client.write_all(&[VERSION, 0, 0, IPV4, 0, 0, 0, 0, 0, 0]).await?;
    if port == HTTPS_PORT {
        // The receiver speaks no TLS, and would wait for a request that never ends.
        return Ok(());
    }
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
