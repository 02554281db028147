//! A receiver that costs little: it counts what arrives, notes how long it was on its way, and answers 204.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Notify};

/// Waiting longer than this for an arrival is a failure of the server.
const STALLED: Duration = Duration::from_mins(1);

pub(crate) struct Receiver {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    begin: Instant,
    arrived: AtomicU64,
    expected: AtomicU64,
    all_here: Notify,
    latencies: Mutex<Vec<Duration>>,
    /// Per channel the last message number, where order is looked at.
    last: Option<Mutex<HashMap<String, u64>>>,
    in_order: AtomicBool,
}

impl Receiver {
    /// `begin` is what `sentAt` in a payload counts from, in microseconds.
    pub(crate) async fn start(begin: Instant, watch_order: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            begin,
            arrived: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
            all_here: Notify::new(),
            latencies: Mutex::default(),
            last: watch_order.then(Mutex::default),
            in_order: AtomicBool::new(true),
        });
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let seen = Arc::clone(&kept);
                let service = service_fn(move |request| receive(Arc::clone(&seen), request));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { address, seen }
    }

    /// Forgets what has arrived, so that only what follows counts.
    pub(crate) fn forget(&self) {
        self.seen.arrived.store(0, Ordering::SeqCst);
        self.seen.latencies.lock().unwrap().clear();
    }

    /// Waits until so many have arrived since the start, or the last [`Self::forget`].
    pub(crate) async fn wait_for(&self, count: u64) {
        self.seen.expected.store(count, Ordering::SeqCst);
        let mut before = 0;
        while self.arrived() < count {
            let notified = self.seen.all_here.notified();
            if tokio::time::timeout(STALLED, notified).await.is_err() {
                assert!(self.arrived() > before, "nothing arrives any more: {} of {count}", self.arrived());
                before = self.arrived();
            }
        }
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.seen.arrived.load(Ordering::SeqCst)
    }

    /// Sorted.
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        let mut latencies = std::mem::take(&mut *self.seen.latencies.lock().unwrap());
        latencies.sort_unstable();
        latencies
    }

    /// Whether no channel's messages overtook each other, came twice or were missing.
    pub(crate) fn in_order(&self) -> bool {
        self.seen.in_order.load(Ordering::SeqCst)
    }
}

async fn receive(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if let Ok(body) = body.collect().await {
        seen.note(&head.headers, &body.to_bytes());
    }
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

impl Seen {
    fn note(&self, headers: &HeaderMap, body: &[u8]) {
        if let Some(sent) = sent_at(body) {
            self.latencies.lock().unwrap().push(self.begin.elapsed().saturating_sub(sent));
        }
        if let Some(last) = &self.last {
            let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let number: u64 = text("watchpost-message").parse().unwrap_or(0);
            let before = last.lock().unwrap().insert(text("watchpost-channel-id").to_owned(), number);
            if number != before.unwrap_or(0) + 1 {
                self.in_order.store(false, Ordering::SeqCst);
            }
        }
        if self.arrived.fetch_add(1, Ordering::SeqCst) + 1 >= self.expected.load(Ordering::SeqCst) {
            self.all_here.notify_one();
        }
    }
}

/// When the event was published. Looked for as text: parsing JSON would cost more than all the rest.
fn sent_at(body: &[u8]) -> Option<Duration> {
    const MARK: &[u8] = b"\"sentAt\":";
    let at = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let micros = digits.fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(Duration::from_micros(micros))
}
