//! The real thing: a server on a store, driven through its use cases, and one receiver on a real socket that many
//! channels share, each by a path of its own.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Runtime;
use watchpost::{
    app::{App, Principal},
    cli::server::{ConnectionLimits, Parts, Server, bind},
    clock::{Clock as _, ManualClock, SharedClock},
    config::Config,
    domain::time::Timestamp,
    entropy::{Entropy, SeededEntropy, SharedEntropy},
    jobs::JobName,
    store::{ChannelFilter, ChannelView},
};

use crate::{
    aging::KEPT,
    base::{Base, Kind},
    calls::{Caller, Owner},
    command::{About, Seen},
    history::{Answer, History},
    support::receiver::{Answer as Wire, Received, Receiver, in_time},
};

const PROJECT: &str = "acme";
const MASTER_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Longer steps may run past the lease of a node, which then has to renew it before it may send.
const LEASE_SAFE: Duration = Duration::from_secs(1);
/// A channel whose receiver always works: what was published to it arrives as soon as the node may send.
const CANARY: &str = "canary";

pub struct World {
    base: Arc<Base>,
    clock: Arc<ManualClock>,
    node: Option<Node>,
    receiver: Receiver,
    board: Arc<Board>,
}

struct Node {
    server: Server,
    runtime: Runtime,
    owner: Owner,
}

/// What the receiver is told to answer, and what it saw.
struct Board {
    histories: Vec<History>,
    round: AtomicUsize,
    seen: Vec<Mutex<Vec<Seen>>>,
    canary: AtomicUsize,
}

/// Ids and secrets by seed, but no jitter: waits are exactly what the schedule says.
#[derive(Debug)]
struct NoJitter(Arc<SeededEntropy>);

impl Entropy for NoJitter {
    fn fill(&self, bytes: &mut [u8]) {
        // Jitter alone is drawn from eight bytes.
        if bytes.len() == 8 { bytes.fill(0) } else { self.0.fill(bytes) }
    }
}

impl Board {
    /// `/h/{slot}/{address}`
    fn answer(&self, request: &Received) -> Wire {
        let mut parts = request.path.split('/').skip(2);
        let slot: usize = match parts.next() {
            Some(CANARY) | None => {
                self.canary.fetch_add(1, Ordering::Relaxed);
                return Wire::ok();
            }
            Some(slot) => slot.parse().unwrap(),
        };
        let number = |number: Option<u64>| i64::try_from(number.unwrap()).unwrap();
        let seen = Seen {
            address: parts.next().unwrap().parse().unwrap(),
            about: if request.notice().is_some() { About::Ping } else { About::Notification },
            number: number(request.message_number()),
            attempt: number(request.attempt()),
            replayed: request.replay().is_some(),
        };
        self.seen[slot].lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        match answer(&self.histories[slot], self.round.load(Ordering::Relaxed), &seen) {
            Answer::Status(status) => Wire::status(status),
            Answer::Busy(seconds) => Wire::status(503).with_header("retry-after", &seconds.to_string()),
            Answer::Reset => Wire::Reset,
        }
    }
}

/// What the receiver answers to a request: the model asks the same.
pub fn answer(history: &History, round: usize, seen: &Seen) -> Answer {
    history.answer(round, seen.about == About::Ping, seen.number, seen.attempt)
}

impl World {
    pub async fn start(kind: Kind, histories: Vec<History>) -> Self {
        let receiver = Receiver::start().await;
        let board = Arc::new(Board {
            seen: histories.iter().map(|_| Mutex::default()).collect(),
            histories,
            round: AtomicUsize::new(0),
            canary: AtomicUsize::new(0),
        });
        let script = Arc::clone(&board);
        receiver.answer_with(move |request| script.answer(request));
        let clock = ManualClock::at(Timestamp::parse_rfc3339("2027-03-01T08:00:00Z").unwrap());
        let mut world = Self { base: Arc::new(Base::new(kind)), clock, node: None, receiver, board };
        world.come_up().await;
        if world.base.is_shared() {
            let address = world.receiver.url(&format!("/h/{CANARY}"));
            let caller = world.caller();
            world.run(async move { caller.open_canary(CANARY, address).await }).await;
            world.may_send().await;
        }
        world
    }

    async fn come_up(&mut self) {
        /// Two starts must not make up the same ids.
        static SEED: AtomicU64 = AtomicU64::new(1);
        let (url, state) = (self.base.url(), self.base.folder.to_string_lossy().into_owned());
        let kept = format!("{}h", KEPT.as_secs() / 3_600);
        let pairs = [
            ("RETENTION_EVENTS", kept.as_str()),
            ("LISTEN", "127.0.0.1:0"),
            ("DATABASE_URL", url.as_str()),
            ("EGRESS_ALLOW", "127.0.0.0/8"),
            ("MASTER_KEY", MASTER_KEY),
            ("STATE_DIR", state.as_str()),
        ];
        let entropy = NoJitter(SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed)));
        let parts = Parts {
            config: Config::from_pairs(&pairs).unwrap(),
            clock: Arc::clone(&self.clock) as SharedClock,
            entropy: Arc::new(entropy) as SharedEntropy,
            listener: bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "LISTEN").unwrap(),
            ops_listener: None,
            limits: ConnectionLimits::default(),
            extra: None,
            pulse: false,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let starting = runtime.spawn(async { Server::start(parts).await.map_err(|error| error.to_string()) });
        let server = in_time("the server to start", starting).await.unwrap().unwrap();
        let owner = Owner::new(principal(&server.app).await);
        self.node = Some(Node { server, runtime, owner });
    }

    /// Everything stops where it is, and starts again on the same database.
    pub async fn crash(&mut self) {
        let Node { server, runtime, .. } = self.node.take().expect("a server");
        tokio::task::block_in_place(|| runtime.shutdown_timeout(Duration::from_secs(5)));
        drop(server);
        self.base.is_free().await;
        self.come_up().await;
        self.may_send().await;
        self.settle().await;
    }

    /// Ends in order.
    pub async fn stop(mut self) {
        let Node { server, runtime, .. } = self.node.take().expect("a server");
        in_time("a graceful stop", runtime.spawn(server.stop())).await.unwrap();
        runtime.shutdown_background();
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("a server")
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// From now on the receiver answers as this round says.
    pub fn begin_round(&self, round: usize) {
        self.board.round.store(round, Ordering::Relaxed);
    }

    /// Where a channel's notifications go.
    pub fn address(&self, slot: usize, address: u8) -> String {
        self.receiver.url(&format!("/h/{slot}/{address}"))
    }

    pub fn caller(&self) -> Caller {
        Caller { app: self.node().server.app.clone(), owner: self.node().owner.clone() }
    }

    /// On the server's runtime, so that a crash leaves nothing of it.
    pub async fn run<T: Send + 'static>(&self, calls: impl Future<Output = T> + Send + 'static) -> T {
        in_time("commands", self.node().runtime.spawn(calls)).await.unwrap()
    }

    pub async fn settle(&self) {
        in_time("the engine to settle", self.node().server.engine.settle()).await;
    }

    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if by > LEASE_SAFE {
            self.may_send().await;
        }
        self.settle().await;
    }

    pub async fn ring(&self, job: JobName) {
        let jobs = Arc::clone(&self.node().server.jobs);
        self.run(async move { jobs.run_once(job).await.unwrap() }).await;
        self.settle().await;
    }

    /// What was seen of one channel since the last time this was asked.
    pub fn take_seen(&self, slot: usize) -> Vec<Seen> {
        std::mem::take(&mut *self.board.seen[slot].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every channel of the project.
    pub async fn views(&self) -> Vec<ChannelView> {
        let store = self.node().server.app.store.clone();
        let owner = watchpost::store::Owner { project: PROJECT.to_owned(), subject: None };
        let filter = ChannelFilter { limit: 100_000, ..ChannelFilter::default() };
        self.run(async move { store.channels(owner, filter).await.unwrap() }).await
    }

    /// Waits until this node may send, which only a shared database makes it wait for.
    async fn may_send(&self) {
        if !self.base.is_shared() {
            return;
        }
        let before = self.board.canary.load(Ordering::Relaxed);
        let caller = self.caller();
        self.run(async move { caller.publish(vec![(CANARY.to_owned(), vec![0])]).await }).await;
        in_time("the canary", async {
            while self.board.canary.load(Ordering::Relaxed) == before {
                self.node().server.engine.sweep().await;
                self.settle().await;
            }
        })
        .await;
        self.node().server.engine.sweep().await;
    }
}

/// Also where a test fails: a runtime must not be waited for on another one.
impl Drop for World {
    fn drop(&mut self) {
        if let Some(Node { runtime, .. }) = self.node.take() {
            runtime.shutdown_background();
        }
    }
}

/// The back end and its customer in one.
async fn principal(app: &App) -> Principal {
    let scopes: BTreeSet<String> = ["channels", "events"].map(str::to_owned).into();
    let year = Duration::from_hours(24 * 365);
    let token = app.keys.jwt.mint(PROJECT, "liz", &scopes, &[], year, app.now()).unwrap();
    app.authenticate(|| Ok(Some(token))).await.unwrap()
}
