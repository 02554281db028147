//! As much HTTP/1.1 as a receiver needs: requests with `Content-Length` or chunked bodies, keep-alive.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Received;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) struct Connection {
    stream: TcpStream,
    /// Read and not yet used: the next requests of a pipelining sender.
    buffer: Vec<u8>,
}

impl Connection {
    /// The connection and a second handle on its socket, for [`closed_by_peer`].
    pub(super) fn new(stream: TcpStream) -> io::Result<(Self, Arc<std::net::TcpStream>)> {
        let stream = stream.into_std()?;
        let handle = Arc::new(stream.try_clone()?);
        let stream = TcpStream::from_std(stream)?;
        Ok((Self { stream, buffer: Vec::new() }, handle))
    }

    /// The next request, or nothing when the sender has closed the connection between two.
    pub(super) async fn read_request(&mut self) -> io::Result<Option<Received>> {
        let Some(head) = self.read_head().await? else { return Ok(None) };
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(path), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
            return Err(malformed("request line"));
        };
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Received {
            at: 0,
            connection: 0,
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            body: Vec::new(),
        };
        let chunked = request.header("transfer-encoding").is_some();
        let length = match request.header("content-length") {
            Some(length) => length.parse().map_err(|_| malformed("content-length"))?,
            None => 0,
        };
        request.body = if chunked { self.read_chunks().await? } else { self.take(length).await? };
        Ok(Some(request))
    }

    /// The head without its blank line. Latin-1, so that any bytes of a header can be looked at.
    async fn read_head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer[..end].iter().copied().map(char::from).collect();
                self.buffer.drain(..end + 4);
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("head, which is too long"));
            }
            if !self.read_more().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.read_needed().await?;
            };
            let line = self.take(end + 2).await?;
            let size = std::str::from_utf8(&line[..end]).map_err(|_| malformed("chunk"))?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed("chunk"))?;
            let chunk = self.take(size).await?;
            self.take(2).await?;
            body.extend_from_slice(&chunk);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            return Err(malformed("body, which is too long"));
        }
        while self.buffer.len() < length {
            self.read_needed().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn read_needed(&mut self) -> io::Result<()> {
        if self.read_more().await? { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// False at the end of the stream.
    async fn read_more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// Ends, with the reason, when the sender closes the connection; what it sends meanwhile is kept.
    pub(super) async fn closed(&mut self) -> io::Error {
        loop {
            match self.read_more().await {
                Ok(true) => {}
                Ok(false) => return ErrorKind::UnexpectedEof.into(),
                Err(error) => return error,
            }
        }
    }

    pub(super) async fn write_reply(
        &mut self,
        status: u16,
        headers: &[(String, String)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        // These have no body by definition, and 204 must not even announce one.
        let bodiless = matches!(status, 100..=199 | 204 | 304);
        if !bodiless && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            write!(head, "content-length: {}\r\n", body.len()).unwrap();
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.write(&bytes).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes with a reset instead of an orderly end. No other handle on the socket may be open.
    pub(super) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }
}

/// Whether the sender has closed this connection, by a look at the socket itself.
pub(super) fn closed_by_peer(connection: &std::net::TcpStream) -> bool {
    match connection.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed {what}"))
}
