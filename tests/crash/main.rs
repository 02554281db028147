//! The judge: the real program is killed in the middle of load, again and again, and nothing that it promised may
//! break. Publishers keep fsynced journals, a receiver writes down what reached it and fails one request in
//! twenty, and a checker – itself tested on forged histories – compares the two with the program's own account.
//!
//! A seed decides payloads, answers and moments, and is printed: `CRASH_SEED=… cargo test --test crash`. A failing
//! campaign keeps its store, journals and log, and says where.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_debug_implementations,
    reason = "test code, helpers included: a broken expectation is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod board;
mod campaign;
mod checker;
mod clock;
mod dice;
mod forged;
mod history;
mod http;
mod journal;
mod load;
mod program;
mod receiver;

use campaign::{Blow, Campaign, DatabaseUrl};
use support::postgres::{Cluster, database};

/// Most fall while everything flows, some on a start and some on a change of a channel.
fn kills(count: usize) -> Vec<Blow> {
    let kinds = [Blow::Kill, Blow::KillChanging, Blow::KillStarting, Blow::Kill, Blow::KillStarting];
    kinds.into_iter().cycle().take(count).collect()
}

#[test]
fn thirty_kills_on_sqlite() {
    let blows = kills(30);
    Campaign { name: "sqlite kills", seed: dice::seed(), database_url: DatabaseUrl::Sqlite, blows }.run();
}

#[test]
fn ten_kills_on_postgres() {
    let database = database();
    let database_url = DatabaseUrl::Postgres(database.url());
    Campaign { name: "postgres kills", seed: dice::seed(), database_url, blows: kills(10) }.run();
}

#[test]
fn orderly_stops_on_sqlite_repeat_nothing() {
    let blows = vec![Blow::Stop; 6];
    Campaign { name: "sqlite stops", seed: dice::seed(), database_url: DatabaseUrl::Sqlite, blows }.run();
}

#[test]
fn orderly_stops_on_postgres_repeat_nothing() {
    let database = database();
    let database_url = DatabaseUrl::Postgres(database.url());
    Campaign { name: "postgres stops", seed: dice::seed(), database_url, blows: vec![Blow::Stop; 4] }.run();
}

#[test]
fn kills_of_the_database_lose_and_repeat_nothing() {
    let cluster = Cluster::new();
    let database = cluster.database();
    let database_url = DatabaseUrl::Owned(database.url(), &cluster);
    let blows =
        vec![Blow::KillDatabase, Blow::KillDatabase, Blow::Kill, Blow::KillDatabase, Blow::KillDatabase];
    Campaign { name: "database kills", seed: dice::seed(), database_url, blows }.run();
}
