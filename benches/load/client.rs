//! A publisher that costs little: one kept connection, one request after the other.

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::server::Server;

pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    bearer: String,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let host = server.url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await.expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host, bearer: format!("Bearer {}", server.token) }
    }

    /// Anything but a 2xx ends the run: a harness measures what works.
    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Bytes {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.expect("the server answers");
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        body
    }

    pub(crate) async fn open(&mut self, channel: &Value) {
        self.post("/v1/channels", channel.to_string()).await;
    }
}
