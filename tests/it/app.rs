//! A server under test and its only user.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    runtime::{Handle, Runtime},
    sync::OnceCell,
};
use watchpost::{
    cli::server::{ConnectionLimits, Parts, Server, bind},
    clock::{Clock as _, ManualClock, SharedClock},
    config::Config,
    domain::time::Timestamp,
    entropy::SeededEntropy,
    jobs::{JobName, Report},
};

use crate::{
    base::{Base, Kind},
    http::{self, Http},
    support::receiver::{Answer, Received, Receiver, in_time},
};

pub const PROJECT: &str = "acme";
pub const SUBJECT: &str = "liz@example.com";
/// As the back end and a customer of it in one.
pub const SCOPES: &str = "channels events";
pub const CALENDAR: &str = "calendar/v3/calendars/primary/events";
/// The team's own API host, as the tests' servers know it.
pub const API: &str = "https://api.example.com";

/// 32 bytes, as every node of a shared database must have them.
const MASTER_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// A graceful stop must not take longer, whatever receivers do.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Longer steps may run past the lease of a node, which then has to renew it before it may send.
const LEASE_SAFE: Duration = Duration::from_secs(1);

/// A server on a database of its own, or one of several nodes on a shared one.
pub struct TestApp {
    pub base: Arc<Base>,
    pub clock: Arc<ManualClock>,
    /// Where time passes by itself.
    real_clock: Option<SharedClock>,
    node: Option<Node>,
    settings: Vec<(String, String)>,
    http: Http,
    canary: OnceCell<Canary>,
}

struct Node {
    server: Server,
    /// Its own, so that it can be dropped with everything on it, as a crash does.
    runtime: OwnRuntime,
}

struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(Some(builder.worker_threads(2).enable_all().build().unwrap()))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("a runtime until it is dropped").handle()
    }

    /// Ends everything on it where it stands.
    fn kill(mut self) {
        let runtime = self.0.take().expect("a runtime until it is dropped");
        tokio::task::block_in_place(|| runtime.shutdown_timeout(Duration::from_secs(5)));
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A channel whose receiver always works: what was published to it arrives as soon as the node may send.
struct Canary {
    receiver: Receiver,
}

impl TestApp {
    pub async fn start(kind: Kind) -> Self {
        Self::with(kind, &[]).await
    }

    /// With settings of its own.
    pub async fn with(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let app = Self::on(Arc::new(Base::new(kind)), settings).await;
        // On a shared database the first lease is asked for in the background.
        app.may_send().await;
        app
    }

    /// Another node on a database, with a clock of its own. It may have to stand by.
    pub async fn on(base: Arc<Base>, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut app = Self { settings, ..Self::new(base) };
        app.come_up().await.expect("the server starts");
        app
    }

    /// On a clock that runs.
    pub async fn on_clock(kind: Kind, clock: SharedClock) -> Self {
        let mut app = Self { real_clock: Some(clock), ..Self::new(Arc::new(Base::new(kind))) };
        app.come_up().await.expect("the server starts");
        app.may_send().await;
        app
    }

    fn new(base: Arc<Base>) -> Self {
        Self {
            base,
            clock: ManualClock::at(start_of_time()),
            real_clock: None,
            node: None,
            settings: Vec::new(),
            http: Http::new(),
            canary: OnceCell::new(),
        }
    }

    /// What a start on the database of `base` says when it fails.
    pub async fn refusal_on(base: &Arc<Base>) -> String {
        Self::refusal_with(base, &[]).await
    }

    /// The same with settings of its own.
    pub async fn refusal_with(base: &Arc<Base>, settings: &[(&str, &str)]) -> String {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut app = Self { settings, ..Self::new(Arc::clone(base)) };
        app.come_up().await.expect_err("the start is refused")
    }

    async fn come_up(&mut self) -> Result<(), String> {
        /// Two starts must not make up the same ids.
        static SEED: AtomicU64 = AtomicU64::new(1);
        let (url, state) = (self.base.url(), self.base.folder.to_string_lossy().into_owned());
        let mut pairs = vec![
            ("LISTEN", "127.0.0.1:0"),
            ("DATABASE_URL", url.as_str()),
            ("EGRESS_ALLOW", "127.0.0.0/8"),
            ("MASTER_KEY", MASTER_KEY),
            ("STATE_DIR", state.as_str()),
            ("API_URL", API),
        ];
        for (key, value) in &self.settings {
            pairs.retain(|(known, _)| known != key);
            pairs.push((key, value));
        }
        let parts = Parts {
            config: Config::from_pairs(&pairs).unwrap(),
            clock: self.real_clock.clone().unwrap_or_else(|| Arc::clone(&self.clock) as SharedClock),
            entropy: SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed)),
            listener: bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "LISTEN").unwrap(),
            ops_listener: None,
            limits: ConnectionLimits::default(),
            extra: None,
            pulse: false,
        };
        let runtime = OwnRuntime::new();
        let starting =
            runtime.handle().spawn(async { Server::start(parts).await.map_err(|e| e.to_string()) });
        match in_time("the server to start", starting).await.unwrap() {
            Ok(server) => {
                self.node = Some(Node { server, runtime });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub fn server(&self) -> &Server {
        &self.node.as_ref().expect("the server runs").server
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Stops in order and starts again on the same database.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Starts on the same database after [`stop`](Self::stop).
    pub async fn start_again(&mut self) {
        self.base.is_free().await;
        self.come_up().await.expect("the server starts again");
        self.may_send().await;
    }

    /// A setting from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// The one port that a shared database's tests need open.
    pub async fn canary_port(&self) -> u16 {
        self.canary().await.receiver.address().port()
    }

    pub async fn stop(&mut self) {
        let Node { server, runtime } = self.node.take().expect("the server runs");
        let stopping = runtime.handle().spawn(server.stop());
        let stopped = tokio::time::timeout(STOP_WITHIN, stopping).await;
        stopped.expect("a graceful stop within 20 s").unwrap();
        drop(runtime);
    }

    /// Everything stops where it is, and starts again on the same database.
    pub async fn crash(&mut self) {
        let Node { server, runtime } = self.node.take().expect("the server runs");
        runtime.kill();
        drop(server);
        self.base.is_free().await;
        self.come_up().await.expect("the server starts after a crash");
        self.may_send().await;
    }

    /// Moves time. On a shared database a long step runs past the node's lease: waits until it may send again.
    pub async fn advance(&self, by: Duration) {
        if by > LEASE_SAFE {
            self.canary().await;
        }
        self.clock.advance(by);
        if by > LEASE_SAFE {
            self.may_send().await;
        }
        self.settle().await;
    }

    /// Moves time to `when`, or not at all where it has passed.
    pub async fn advance_to(&self, when: Timestamp) {
        self.advance(when.since(self.now())).await;
    }

    /// Returns once nothing is under way.
    pub async fn settle(&self) {
        in_time("the engine to settle", self.server().engine.settle()).await;
    }

    /// What the cron does every ten seconds.
    pub async fn sweep(&self) -> Report {
        let report = self.server().jobs.run_once(JobName::Retry).await.unwrap();
        self.settle().await;
        report
    }

    pub async fn expire(&self) -> Report {
        self.server().jobs.run_once(JobName::Expiry).await.unwrap()
    }

    /// Waits until requests so far satisfy `condition`, looking for work all the time as polls would.
    pub async fn until(
        &self,
        receiver: &Receiver,
        what: &str,
        condition: impl Fn(&[Received]) -> bool,
    ) -> Vec<Received> {
        let looking = async {
            loop {
                self.sweep().await;
            }
        };
        tokio::select! {
            received = receiver.wait_until(what, condition) => received,
            () = looking => unreachable!(),
        }
    }

    /// Waits until this node may send, which only a shared database makes it wait for.
    async fn may_send(&self) {
        if !self.base.is_shared() {
            return;
        }
        let canary = self.canary().await;
        let before = canary.receiver.received().len();
        self.publish(json!({ "resource": "canary", "name": "canary.sings" })).await;
        self.until(&canary.receiver, "the canary", |received| received.len() > before).await;
        self.sweep().await;
    }

    async fn canary(&self) -> &Canary {
        let made = self.canary.get_or_init(|| async {
            let receiver = Receiver::start().await;
            receiver.answer_with(Answer::agreeing);
            let opening = json!({ "resource": "canary", "address": receiver.url("/"), "ttlSeconds": 2_592_000,
                                  "renewal": "auto", "retry": { "schedule": ["0s"] } });
            self.open(opening).await;
            Canary { receiver }
        });
        made.await
    }

    // ---- its user ----

    pub fn token(&self, project: &str, subject: &str, scopes: &str) -> String {
        self.token_for(project, subject, scopes, &[])
    }

    /// A token that may watch only what the patterns name, where there are any.
    pub fn token_for(&self, project: &str, subject: &str, scopes: &str, resources: &[&str]) -> String {
        let scopes: BTreeSet<String> = scopes.split(' ').map(str::to_owned).collect();
        let resources: Vec<String> = resources.iter().map(|pattern| (*pattern).to_owned()).collect();
        let year = Duration::from_hours(24 * 365);
        let jwt = &self.server().app.keys.jwt;
        jwt.mint(project, subject, &scopes, &resources, year, self.server().app.now()).unwrap()
    }

    fn own_token(&self) -> String {
        self.token(PROJECT, SUBJECT, SCOPES)
    }

    /// `POST /v1/events`, which must work: the placed events.
    pub async fn publish(&self, body: Value) -> Vec<Value> {
        let answer = self.post("/v1/events", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["events"].as_array().unwrap().clone()
    }

    /// `count` events of one name on `resource`, each with its place among them as data.
    pub async fn publish_many(&self, resource: &str, name: &str, count: usize) {
        let events: Vec<Value> = (0..count)
            .map(|at| json!({ "resource": resource, "name": name, "data": { "at": at } }))
            .collect();
        self.publish(json!({ "events": events })).await;
    }

    /// `POST /{resource}/watch`, which must work: the channel as Google's clients see it.
    pub async fn watch(&self, resource: &str, body: Value) -> Value {
        let answer = self.post(&format!("/{resource}/watch"), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// `POST /v1/channels`, which must work: the channel.
    pub async fn open(&self, body: Value) -> Value {
        let answer = self.post("/v1/channels", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    pub async fn patch(&self, id: &str, body: Value) -> http::Answer {
        self.call("PATCH", &format!("/v1/channels/{id}"), &self.own_token(), Some(body)).await
    }

    /// `DELETE /v1/channels/{id}`, which must work.
    pub async fn stop_channel(&self, id: &str) {
        let answer = self.call("DELETE", &format!("/v1/channels/{id}"), &self.own_token(), None).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    pub async fn channel(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/channels/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The ledger of a channel, oldest attempt first.
    pub async fn attempts(&self, id: &str) -> Vec<Value> {
        let mut attempts = Vec::new();
        let mut page = String::new();
        loop {
            let answer = self.get(&format!("/v1/channels/{id}/attempts?limit=200{page}")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let body = answer.json();
            attempts.extend(body["items"].as_array().unwrap().iter().cloned());
            let Some(next) = body["nextPageToken"].as_str() else { break };
            page = format!("&pageToken={next}");
        }
        attempts.reverse();
        attempts
    }

    /// When the channel's head is tried again.
    pub async fn next_attempt_at(&self, id: &str) -> Timestamp {
        let channel = self.channel(id).await;
        let text = channel["cursor"]["nextAttemptAt"].as_str();
        let text = text.unwrap_or_else(|| panic!("a channel that waits, not {channel}"));
        Timestamp::parse_rfc3339(text).unwrap()
    }

    pub async fn get(&self, path: &str) -> http::Answer {
        self.call("GET", path, &self.own_token(), None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> http::Answer {
        self.call("POST", path, &self.own_token(), Some(body)).await
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> http::Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, path, token, "application/json", body.into_bytes()).await
    }

    /// Any body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> http::Answer {
        let url = format!("http://{}{path}", self.server().address);
        in_time(path, self.http.send(method, &url, token, content_type, body)).await
    }
}

fn start_of_time() -> Timestamp {
    Timestamp::parse_rfc3339("2027-03-01T08:00:00Z").unwrap()
}

/// The message numbers of requests, in their order.
pub fn numbers(received: &[Received]) -> Vec<u64> {
    received.iter().map(|request| request.message_number().expect("a message number")).collect()
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
