//! As much of an HTTP client as publishers and owners need: blocking, one kept connection, and every doubt an error.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Far above what a loaded machine needs; after that the outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    token: String,
    connection: Option<(SocketAddr, BufReader<TcpStream>)>,
}

pub struct Response {
    pub status: u16,
    /// `null` where there is none.
    pub body: Value,
}

impl Client {
    pub fn new(token: &str) -> Self {
        Self { token: token.to_owned(), connection: None }
    }

    /// An error means that nobody knows whether it took effect.
    pub fn send(&mut self, to: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Response> {
        let kept = self.connection.take().filter(|(address, _)| *address == to);
        let (_, mut connection) = match kept {
            Some(kept) => kept,
            None => (to, BufReader::new(connect(to)?)),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len(),
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let response = read(&mut connection)?;
        self.connection = Some((to, connection));
        Ok(response)
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Response> {
    let malformed = || io::Error::from(ErrorKind::InvalidData);
    let first = read_line(connection)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    let mut length = 0;
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| malformed())?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
    Ok(Response { status, body })
}

/// Without its end; a connection that closes is an error.
fn read_line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}
