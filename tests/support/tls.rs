//! TLS in front of a receiver of the tests, with a certificate from an authority of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

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
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), receiver));
        Self { address, ca_pem: ca.pem(), _tasks: tasks }
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
