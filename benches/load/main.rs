//! How fast the server is, and how far from the limit: the release binary under load, each scenario on a fresh store with
//! durable commits, the ledger and signatures on, and in the same run a bare loop of the client that it uses.
//!
//! `cargo bench --bench load [SCENARIO]…` prints a line of JSON for each. Everything shares the machine: the ratios count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a load harness measures real time, and whatever breaks ends it"
)]

mod bare;
mod client;
mod receiver;
mod row;
mod scenario;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use row::Row;
use scenario::{Load, fan_out, idle, spread};

const SCENARIOS: [&str; 8] =
    ["idle", "fifo", "single-none", "single-fifo", "batch-none", "batch-fifo", "fan-out", "v1a"];

async fn run(name: &str) -> Row {
    let single = Load { events: 60_000, per_call: 1, resources: 1, ordering: "none", signatures: &["v1"] };
    let batch = Load { events: 120_000, per_call: 100, ..single };
    match name {
        "idle" => idle(name, 500, Duration::from_millis(10)).await,
        "fifo" => spread(name, &[], Load { events: 20_000, ordering: "fifo", ..batch }).await,
        "single-none" => spread(name, &[], single).await,
        "single-fifo" => spread(name, &[], Load { resources: 64, ordering: "fifo", ..single }).await,
        "batch-none" => spread(name, &[], batch).await,
        "batch-fifo" => spread(name, &[], Load { resources: 64, ordering: "fifo", ..batch }).await,
        "fan-out" => fan_out(name, 1_000, 100).await,
        "v1a" => spread(name, &[], Load { signatures: &["v1a"], ..batch }).await,
        other => panic!("{other} is none of {SCENARIOS:?}"),
    }
}

#[tokio::main]
async fn main() {
    // Cargo adds its own flag.
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let all = || SCENARIOS.iter().map(|name| (*name).to_owned()).collect();
    for name in if asked.is_empty() { all() } else { asked } {
        println!("{}", run(&name).await.json());
    }
}
