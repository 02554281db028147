//! The server's half of SOCKS5 (RFC 1928), as far as our own clients speak it: they show a password (RFC 1929) and ask
//! for connections to addresses. Used by the bridge alone.
//!
//! Nothing is read without a bound: a field has at most 255 bytes. How long a client may take is the caller's to say.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const VERSION: u8 = 5;
const BY_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

const PASSWORD_VERSION: u8 = 1;
const KNOWN: u8 = 0;
const UNKNOWN: u8 = 1;

const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const IPV6: u8 = 4;

/// What becomes of a request. Whence the connection comes is nobody's business.
pub const OPENED: [u8; 10] = reply(0);
pub const FAILED: [u8; 10] = reply(1);
const NO_SUCH_COMMAND: [u8; 10] = reply(7);
const NO_SUCH_ADDRESS: [u8; 10] = reply(8);

const fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// Where the client wants to go, once it has shown the password. It waits for a reply then.
pub async fn target(client: &mut TcpStream, password: &str) -> io::Result<SocketAddr> {
    let version = client.read_u8().await?;
    let methods = field(client).await?;
    if version != VERSION || !methods.contains(&BY_PASSWORD) {
        return refuse(client, &[VERSION, NO_METHOD]).await;
    }
    client.write_all(&[VERSION, BY_PASSWORD]).await?;

    let _version = client.read_u8().await?;
    let _user = field(client).await?;
    let shown = field(client).await?;
    if !bool::from(shown.ct_eq(password.as_bytes())) {
        return refuse(client, &[PASSWORD_VERSION, UNKNOWN]).await;
    }
    client.write_all(&[PASSWORD_VERSION, KNOWN]).await?;

    let [_version, command, _reserved, kind] = client.read_u32().await?.to_be_bytes();
    if command != CONNECT {
        return refuse(client, &NO_SUCH_COMMAND).await;
    }
    let ip: IpAddr = match kind {
        IPV4 => Ipv4Addr::from_bits(client.read_u32().await?).into(),
        IPV6 => Ipv6Addr::from_bits(client.read_u128().await?).into(),
        // A name, which nobody has judged.
        _ => return refuse(client, &NO_SUCH_ADDRESS).await,
    };
    Ok(SocketAddr::new(ip, client.read_u16().await?))
}

async fn refuse<T>(client: &mut TcpStream, words: &[u8]) -> io::Result<T> {
    client.write_all(words).await?;
    Err(io::ErrorKind::PermissionDenied.into())
}

/// With its length before it.
async fn field(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut field = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut field).await?;
    Ok(field)
}
