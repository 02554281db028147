//! TLS in front of a receiver of the tests, with a certificate from an authority of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::certificate::receiver_called;

/// Ends with the value.
pub struct TlsFront {
    pub address: SocketAddr,
    /// Of the authority.
    pub ca_pem: String,
    _tasks: JoinSet<()>,
}

impl TlsFront {
    /// With a certificate for `name`.
    pub async fn start(name: &str, receiver: SocketAddr) -> Self {
        let (config, ca_pem) = receiver_called(name);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), receiver));
        Self { address, ca_pem, _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, receiver: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that does not trust the certificate goes away here.
            let Ok(mut client) = acceptor.accept(stream).await else { return };
            let Ok(mut server) = TcpStream::connect(receiver).await else { return };
            let _broken = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
