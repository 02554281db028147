//! The scenarios: what is opened, published and waited for. Each has a server of its own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    bare,
    client::Client,
    receiver::Receiver,
    row::Row,
    support::server::{Server, Used},
};

/// As many as the server's window to one origin holds by default.
const IN_FLIGHT: u64 = 64;
const PUBLISHERS: u64 = 64;
const PAYLOAD_BYTES: usize = 300;
/// `{"type", "timestamp", "data"}` around a payload.
const ENVELOPE_BYTES: usize = 80;
const BARE_REQUESTS: u64 = 60_000;

/// What is common to events that are published in bulk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub events: u64,
    pub per_call: u64,
    /// Over so many resources, one channel each.
    pub resources: u64,
    pub ordering: &'static str,
    pub signatures: &'static [&'static str],
}

/// Every event goes to one channel.
pub(crate) async fn spread(name: &str, settings: &[(&str, &str)], load: Load) -> Row {
    let begin = Instant::now();
    let (server, receiver) = (Server::start(settings), Receiver::start(begin, load.ordering == "fifo").await);
    let mut client = Client::connect(&server).await;
    for at in 0..load.resources {
        let mut channel = channel(&receiver, at, at);
        channel["ordering"] = load.ordering.into();
        channel["signatures"] = load.signatures.into();
        client.open(&channel).await;
    }
    let measured = Measured::begin(&server, &receiver, load.resources).await;
    let mut publishers = JoinSet::new();
    let calls = load.events / load.per_call;
    for publisher in 0..PUBLISHERS {
        let mut client = Client::connect(&server).await;
        publishers.spawn(async move {
            let mut call = publisher;
            while call < calls {
                let events = (0..load.per_call).map(|at| event((call + at) % load.resources, begin));
                client.post("/v1/events", body_of(events.collect())).await;
                call += PUBLISHERS;
            }
        });
    }
    all(publishers).await;
    let mut row = measured.end(name, calls * load.per_call).await;
    row.in_order = (load.ordering == "fifo").then(|| receiver.in_order());
    row.bare_per_second = Some(bare(PAYLOAD_BYTES + ENVELOPE_BYTES).await);
    row
}

/// One thin event after the other goes to all channels of one resource.
pub(crate) async fn fan_out(name: &str, channels: u64, events: u64) -> Row {
    let (server, receiver) = (Server::start(&[]), Receiver::start(Instant::now(), true).await);
    let mut client = Client::connect(&server).await;
    for at in 0..channels {
        let mut channel = channel(&receiver, at, 0);
        channel["payload"] = false.into();
        channel["catchUp"] = "all".into();
        client.open(&channel).await;
    }
    let measured = Measured::begin(&server, &receiver, channels).await;
    for _ in 0..events {
        client.post("/v1/events", json!({ "resource": resource(0), "name": "bench.tick" }).to_string()).await;
    }
    let mut row = measured.end(name, channels * events).await;
    row.in_order = Some(receiver.in_order());
    row.bare_per_second = Some(bare(200).await);
    row
}

/// One event at a time, and nothing else to do.
pub(crate) async fn idle(name: &str, events: u64, pause: Duration) -> Row {
    let begin = Instant::now();
    let (server, receiver) = (Server::start(&[]), Receiver::start(begin, true).await);
    let mut client = Client::connect(&server).await;
    client.open(&channel(&receiver, 0, 0)).await;
    let measured = Measured::begin(&server, &receiver, 1).await;
    for sent in 1..=events {
        client.post("/v1/events", body_of(vec![event(0, begin)])).await;
        receiver.wait_for(sent).await;
        tokio::time::sleep(pause).await;
    }
    measured.end(name, events).await
}

/// From the first publish to the last arrival.
struct Measured<'s> {
    server: &'s Server,
    receiver: &'s Receiver,
    begin: Instant,
    before: Used,
}

impl<'s> Measured<'s> {
    /// Once the syncs are through.
    async fn begin(server: &'s Server, receiver: &'s Receiver, channels: u64) -> Self {
        receiver.wait_for(channels).await;
        receiver.forget();
        Self { server, receiver, begin: Instant::now(), before: server.used() }
    }

    async fn end(self, name: &str, deliveries: u64) -> Row {
        self.receiver.wait_for(deliveries).await;
        let (took, after) = (self.begin.elapsed(), self.server.used());
        assert_eq!(self.receiver.arrived(), deliveries, "nothing comes twice");
        Row {
            name: name.to_owned(),
            deliveries,
            took,
            latencies: self.receiver.latencies(),
            used: Used {
                cpu: after.cpu.saturating_sub(self.before.cpu),
                written_bytes: after.written_bytes - self.before.written_bytes,
                ..after
            },
            ..Row::default()
        }
    }
}

async fn bare(body_bytes: usize) -> f64 {
    let receiver = Receiver::start(Instant::now(), false).await;
    bare::per_second(&receiver, BARE_REQUESTS, IN_FLIGHT, body_bytes).await
}

fn resource(number: u64) -> String {
    format!("bench/{number}")
}

fn channel(receiver: &Receiver, number: u64, of: u64) -> Value {
    json!({ "id": format!("c{number}"), "resource": resource(of), "address": format!("http://{}/", receiver.address) })
}

fn event(of: u64, begin: Instant) -> Value {
    let sent_at = u64::try_from(begin.elapsed().as_micros()).unwrap();
    let padding = "x".repeat(PAYLOAD_BYTES - 36);
    json!({ "resource": resource(of), "name": "bench.tick", "data": { "sentAt": sent_at, "padding": padding } })
}

fn body_of(mut events: Vec<Value>) -> Bytes {
    let body = if events.len() == 1 { events.remove(0) } else { json!({ "events": events }) };
    body.to_string().into()
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
