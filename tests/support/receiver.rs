//! A receiver of notifications on a real socket: HTTP/1.1 with keep-alive, written down to the bytes so that
//! it can also misbehave. It records every request in order, answers as the test says, and knows how many
//! requests of a channel it ever had in its hands at once.

mod http;
mod request;

use std::{
    collections::HashMap,
    fmt::Write as _,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

pub use request::Received;

/// In real time, since real sockets are waited for: far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

const BACKLOG: u32 = 1024;

/// What the receiver does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response; `Content-Length` is added.
    Reply { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Nothing until [`Receiver::release`], then its answer.
    Hang,
    /// The connection is reset without an answer.
    Reset,
    /// These bytes as they are, then the connection stays open and silent until [`Receiver::release`]: for
    /// malformed and unfinished responses.
    Raw(Vec<u8>),
}

impl Answer {
    pub fn ok() -> Self {
        Self::status(200)
    }

    pub fn status(status: u16) -> Self {
        Self::Reply { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Agrees where it is asked whether notifications are wanted, and takes them.
    pub fn agreeing(request: &Received) -> Self {
        request.challenge().map_or_else(Self::ok, |challenge| Self::ok().with_body(challenge))
    }

    /// Adds a header to a reply.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let Self::Reply { headers, .. } = &mut self else { panic!("only a reply has headers") };
        headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives a reply a body.
    pub fn with_body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let Self::Reply { body, .. } = &mut self else { panic!("only a reply has a body") };
        *body = bytes.into();
        self
    }
}

type Script = Box<dyn FnMut(&Received) -> Answer + Send>;

/// The receiver; its connections end with it.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    door: Mutex<Door>,
}

enum Door {
    /// Dropping the set ends the listener and every connection.
    Open(JoinSet<()>),
    /// The port is kept by a socket that does not listen: connections are refused, and nobody else gets it.
    Closed(TcpSocket),
    /// Between the two.
    Moving,
}

impl Receiver {
    /// On a free port of 127.0.0.1, answering 200 to everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new());
        let door = Mutex::new(Door::Open(accept(listener, &shared)));
        Self { address, shared, door }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT/path`; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on every request is answered by `script`. It runs when the request is complete, one request at
    /// a time and in the recorded order; it may look at [`Self::received`], and must not set a new script.
    pub fn answer_with(&self, script: impl FnMut(&Received) -> Answer + Send + 'static) {
        *lock(&self.shared.script) = Box::new(script);
    }

    /// From now on everything gets this answer.
    pub fn answer(&self, answer: Answer) {
        self.answer_with(move |_| answer.clone());
    }

    /// Lets every request that hangs at this moment go on with 200.
    pub fn release(&self) {
        self.release_with(&Answer::ok());
    }

    /// Lets every request that hangs at this moment go on with `answer`.
    pub fn release_with(&self, answer: &Answer) {
        self.shared.released.send_modify(|released| {
            released.times += 1;
            released.answer = answer.clone();
        });
    }

    /// Everything received so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.shared.transcript().iter().map(|exchange| exchange.request.clone()).collect()
    }

    /// What was received for one channel (by its id or uid), oldest first.
    pub fn received_by(&self, channel: &str) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|request| request.channel_keys().any(|key| key == channel));
        received
    }

    /// Waits until at least `count` requests have arrived and returns all of them.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} requests"), |received| received.len() >= count).await
    }

    /// Waits until the requests so far satisfy `condition`, and returns them. `what` names it in the panic.
    pub async fn wait_until(&self, what: &str, condition: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let satisfied = async {
            loop {
                arrivals.mark_unchanged();
                let received = self.received();
                if condition(&received) {
                    return received;
                }
                arrivals.changed().await.expect("the sender lives in self");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, satisfied).await;
        waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}; received:\n{}", self.transcript()))
    }

    /// Waits until no request is being answered. Hanging ones count, so release them first.
    pub async fn wait_until_idle(&self) {
        let mut arrivals = self.shared.arrivals.subscribe();
        let idle = async {
            loop {
                arrivals.mark_unchanged();
                if lock(&self.shared.in_hand).is_empty() {
                    return;
                }
                arrivals.changed().await.expect("the sender lives in self");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, idle).await;
        waited.unwrap_or_else(|_| panic!("still busy after {PATIENCE:?}; received:\n{}", self.transcript()));
    }

    /// The most requests of one channel (by its id or uid) that were in flight at the same time. A request
    /// whose connection the sender has closed is over; one that it gave up without closing still counts.
    pub fn max_in_flight(&self, channel: &str) -> usize {
        lock(&self.shared.in_hand).most.get(channel).copied().unwrap_or_default()
    }

    /// The same for whichever channel had the most.
    pub fn max_in_flight_of_any_channel(&self) -> usize {
        lock(&self.shared.in_hand).most.values().copied().max().unwrap_or_default()
    }

    /// The most requests in flight at the same time, over all channels.
    pub fn max_in_flight_overall(&self) -> usize {
        lock(&self.shared.in_hand).most_overall
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        lock(&self.shared.in_hand).connections
    }

    /// One line per request and its answer, for the message of a failing test.
    pub fn transcript(&self) -> String {
        self.shared.transcript().iter().fold(String::new(), |mut lines, Exchange { request, answer }| {
            let answer = match answer {
                Answer::Reply { status, .. } => status.to_string(),
                other => format!("{other:?}"),
            };
            writeln!(lines, "  {request} -> {answer}").unwrap();
            lines
        })
    }

    /// Goes down: every connection breaks, new ones are refused. Returns once that is so.
    pub async fn stop(&self) {
        let Door::Open(mut tasks) = self.exchange_door(Door::Moving) else {
            panic!("the receiver is stopped already");
        };
        tasks.shutdown().await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).expect("the port is still ours");
        self.exchange_door(Door::Closed(socket));
    }

    /// Comes back on the same port, with its script and transcript.
    pub fn restart(&self) {
        let Door::Closed(socket) = self.exchange_door(Door::Moving) else {
            panic!("the receiver is not stopped");
        };
        let listener = socket.listen(BACKLOG).expect("the port was kept");
        self.exchange_door(Door::Open(accept(listener, &self.shared)));
    }

    fn exchange_door(&self, door: Door) -> Door {
        std::mem::replace(&mut *lock(&self.door), door)
    }
}

/// One request and what was done with it.
struct Exchange {
    request: Received,
    answer: Answer,
}

struct Shared {
    /// Held while a request gets its place, its answer and its line in the transcript.
    script: Mutex<Script>,
    transcript: Mutex<Vec<Exchange>>,
    in_hand: Mutex<InHand>,
    released: watch::Sender<Released>,
    /// Rings after every change that somebody may wait for.
    arrivals: watch::Sender<()>,
}

struct Released {
    times: u64,
    answer: Answer,
}

/// The requests that are being answered, each with a second handle on its connection.
#[derive(Default)]
struct InHand {
    requests: HashMap<usize, (Vec<String>, Arc<std::net::TcpStream>)>,
    most: HashMap<String, usize>,
    most_overall: usize,
    connections: u64,
}

impl InHand {
    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn begin(&mut self, request: &Received, connection: &Arc<std::net::TcpStream>) {
        // The sender may have given up on a request before our task for it has noticed.
        self.requests.retain(|_, (_, connection)| !http::closed_by_peer(connection));
        let keys = request.channel_keys().map(str::to_owned).collect::<Vec<_>>();
        self.requests.insert(request.at, (keys.clone(), Arc::clone(connection)));
        for key in keys {
            let count = self.requests.values().filter(|(keys, _)| keys.contains(&key)).count();
            let most = self.most.entry(key).or_default();
            *most = count.max(*most);
        }
        self.most_overall = self.requests.len().max(self.most_overall);
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            script: Mutex::new(Box::new(|_| Answer::ok())),
            transcript: Mutex::default(),
            in_hand: Mutex::default(),
            released: watch::Sender::new(Released { times: 0, answer: Answer::ok() }),
            arrivals: watch::Sender::new(()),
        }
    }

    fn transcript(&self) -> MutexGuard<'_, Vec<Exchange>> {
        lock(&self.transcript)
    }

    /// Gives the request its place, asks the script and writes both down.
    fn record(&self, mut request: Received, connection: &Arc<std::net::TcpStream>) -> (usize, Answer) {
        let mut script = lock(&self.script);
        let at = self.transcript().len();
        request.at = at;
        lock(&self.in_hand).begin(&request, connection);
        let answer = script(&request);
        self.transcript().push(Exchange { request, answer: answer.clone() });
        drop(script);
        self.arrivals.send_replace(());
        (at, answer)
    }

    /// Must come before the answer's first byte: once it has that, the sender may send the next request.
    fn finish(&self, at: usize) {
        lock(&self.in_hand).requests.remove(&at);
        self.arrivals.send_replace(());
    }
}

/// Ends the request also when its task is aborted.
struct Finish<'a> {
    shared: &'a Shared,
    at: usize,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.shared.finish(self.at);
    }
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) -> JoinSet<()> {
    let shared = Arc::clone(shared);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // The peer may be gone again, or the process out of descriptors: neither is the end.
                    let Ok((stream, _)) = accepted else { continue };
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    tasks
}

/// One connection, until either side closes it. How it ends is the sender's to notice.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let number = {
        let mut in_hand = lock(&shared.in_hand);
        in_hand.connections += 1;
        in_hand.connections
    };
    let _ended = serve_requests(stream, number, &shared).await;
}

async fn serve_requests(stream: TcpStream, number: u64, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut connection, handle) = http::Connection::new(stream)?;
    while let Some(mut request) = connection.read_request().await? {
        request.connection = number;
        let mut released = shared.released.subscribe();
        let before = released.borrow().times;
        let (at, mut answer) = shared.record(request, &handle);
        let finish = Finish { shared, at };
        if answer == Answer::Hang {
            until_released(&mut released, before, &mut connection).await?;
            answer = released.borrow().answer.clone();
        }
        match answer {
            Answer::Reply { status, headers, body } => {
                drop(finish);
                connection.write_reply(status, &headers, &body).await?;
            }
            Answer::Raw(bytes) => {
                connection.write(&bytes).await?;
                until_released(&mut released, before, &mut connection).await?;
                return Ok(());
            }
            Answer::Hang => panic!("a request is released with an answer"),
            Answer::Reset => {
                drop(finish);
                drop(handle);
                return connection.reset();
            }
        }
    }
    Ok(())
}

/// Ends at the first release after `before`; an error when the sender closes the connection first.
async fn until_released(
    released: &mut watch::Receiver<Released>,
    before: u64,
    connection: &mut http::Connection,
) -> io::Result<()> {
    tokio::select! {
        reached = released.wait_for(|released| released.times > before) => {
            reached.map(drop).map_err(io::Error::other)
        }
        closed = connection.closed() => Err(closed),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `future` with the patience of this module: for conditions that are not requests.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}
