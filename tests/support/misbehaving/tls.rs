//! Certificates, good and bad, and what is no TLS at all.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

pub const HTTP1: &str = "http/1.1";
pub const HTTP2: &str = "h2";

/// The receivers' own address.
const HOST: &str = "127.0.0.1";
/// The type of a TLS record that carries the handshake.
const HANDSHAKE: u8 = 22;
/// As much as one record holds.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// An authority that the sender may be told to trust.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate in a file, in `folder`.
    pub fn write_to(&self, folder: &Path) -> PathBuf {
        let path = folder.join("authority.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// A door with nothing wrong about it.
    pub fn good(&self, protocol: &str) -> Arc<ServerConfig> {
        self.signs(&for_host(HOST), protocol)
    }

    pub fn expired(&self) -> Arc<ServerConfig> {
        self.signs(&valid(2020, 2021), HTTP1)
    }

    pub fn not_yet_valid(&self) -> Arc<ServerConfig> {
        self.signs(&valid(2120, 2121), HTTP1)
    }

    pub fn for_another_host(&self) -> Arc<ServerConfig> {
        self.signs(&for_host("elsewhere.org"), HTTP1)
    }

    fn signs(&self, params: &CertificateParams, protocol: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        door(&certificate, &key, protocol)
    }

    /// Wants to know who is there, and lets in only whom this authority vouches for.
    pub fn good_for_known_clients(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = for_host(HOST).signed_by(&key, &self.0).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        let (chain, key) = chain_and_key(&certificate, &key);
        Arc::new(config.with_single_cert(chain, key).unwrap())
    }
}

pub fn self_signed() -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = for_host(HOST).self_signed(&key).unwrap();
    door(&certificate, &key, HTTP1)
}

fn for_host(host: &str) -> CertificateParams {
    CertificateParams::new([host.to_owned()]).unwrap()
}

fn valid(from_year: i32, to_year: i32) -> CertificateParams {
    let mut params = for_host(HOST);
    params.not_before = date_time_ymd(from_year, 1, 1);
    params.not_after = date_time_ymd(to_year, 1, 1);
    params
}

fn door(certificate: &Certificate, key: &KeyPair, protocol: &str) -> Arc<ServerConfig> {
    let (chain, key) = chain_and_key(certificate, key);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

fn chain_and_key(
    certificate: &Certificate,
    key: &KeyPair,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    (chain, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))
}

/// The fatal alert `protocol_version` of a server that knows only what came before TLS 1.2.
pub fn version_alert() -> Vec<u8> {
    vec![21, 3, 1, 0, 2, 2, 70]
}

/// What such a server says when it tries nevertheless.
pub fn hello_of_tls_1_0() -> Vec<u8> {
    record(1, &hello([3, 1]))
}

/// TLS 1.2, where certificates come in clear, with a chain of one mebibyte.
pub fn endless_chain() -> Vec<u8> {
    let mut bytes = record(3, &hello([3, 3]));
    let certificates = handshake(11, &vec![0; 1024 * 1024]);
    for part in certificates.chunks(RECORD_BYTES_MAX) {
        bytes.extend(record(3, part));
    }
    bytes
}

/// ServerHello: a version, 32 random bytes, no session, ECDHE with ECDSA and AES-128-GCM, no compression.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([4; 32]);
    body.extend([0, 0xc0, 0x2b, 0]);
    handshake(2, &body)
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    message[0] = kind;
    message.extend(body);
    message
}

fn record(minor_version: u8, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![HANDSHAKE, 3, minor_version];
    record.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    record.extend(payload);
    record
}
