//! Random lives of channels against a model: the real server on both stores with a real receiver, and beside it a model
//! in memory that was written from the contract. What the receiver sees in which order, what every caller hears, and
//! where each channel stands after every round must be what the model says, on both stores with the same seeds.
//!
//! A life is some rounds of commands, in changing weather at the receiver, with steps of time between them. Once in it the
//! server crashes while nothing is under way, which repeats nothing and loses nothing; and once right after everybody's
//! turn, where a channel may see again what was in flight and what was not durable, in order, and nothing else.
//!
//! A run lives the lives of one fixed seed and those of a fresh one. `MODEL_SEED` replaces both, `MODEL_STORE` and
//! `MODEL_HISTORY` choose one store and one life; a failure prints the command that lives it again, and its transcript.
//! A life that breaks only among others does so with them again: without `MODEL_HISTORY`. `MODEL_TIMES` multiplies the
//! number of lives.
//!
//! What the model leaves out: `ordering: none`, notices but for pings, payloads (and with them poison), rate limits, first
//! delays, redirects that are followed, channels that renew themselves, changes of a filter, more than one channel on a
//! resource, and more than one node.

#![allow(
    clippy::similar_names,
    clippy::single_match_else,
    clippy::format_collect,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::print_stderr,
    missing_debug_implementations,
    reason = "test code: a broken expectation is a failed test"
)]

mod aging;
#[allow(dead_code, reason = "the integration tests use more of it")]
#[path = "../it/base.rs"]
mod base;
mod calls;
mod channel;
mod command;
mod coverage;
mod dice;
mod fleet;
mod history;
mod judge;
mod sending;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::hash::{BuildHasher, Hasher, RandomState};

use futures_util::{StreamExt as _, stream};

use self::{base::Kind, coverage::Coverage, fleet::FLEET};

/// Half of the lives of every run are those of this seed, the others are new.
const FIXED_SEED: u64 = 20_261_124;
const ON_SQLITE: u64 = 2_000;
const ON_POSTGRES: u64 = 200;
/// Servers at a time, each with lives of its own.
const FLEETS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn every_life_on_sqlite_is_what_the_model_says() {
    lives(Kind::Sqlite, ON_SQLITE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_life_on_postgresql_is_what_the_model_says() {
    lives(Kind::Postgres, ON_POSTGRES).await;
}

async fn lives(kind: Kind, count: u64) {
    let store = word_of(kind);
    if setting("MODEL_STORE").is_some_and(|chosen| chosen != store) {
        return;
    }
    let number = |text: String| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no number"));
    let count = count * setting("MODEL_TIMES").map_or(1, number);
    let one = setting("MODEL_HISTORY").map(number);
    let seeds = match setting("MODEL_SEED").map(number) {
        Some(seed) => vec![(seed, count)],
        None => vec![(FIXED_SEED, count / 2), (fresh_seed(), count - count / 2)],
    };
    let mut coverage = Coverage::default();
    for (seed, count) in seeds {
        eprintln!("{store}: MODEL_SEED={seed}, {count} lives");
        let fleets = match one {
            Some(index) => vec![(index / FLEET, vec![index])],
            None => (0..count.div_ceil(FLEET))
                .map(|fleet| (fleet, (fleet * FLEET..count.min((fleet + 1) * FLEET)).collect()))
                .collect(),
        };
        let lives = fleets.into_iter().map(|(fleet, indices)| fleet::live(kind, seed, fleet, indices));
        let mut lives = stream::iter(lives).buffered(FLEETS);
        while let Some(lived) = lives.next().await {
            coverage = coverage + lived.unwrap_or_else(|broken| panic!("{broken}"));
        }
    }
    eprintln!("{store}: {coverage:?}");
    // Of few lives some things are rare.
    if count >= ON_SQLITE && one.is_none() {
        assert!(coverage.missing().is_empty(), "no life came to {:?}", coverage.missing());
    }
}

pub fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgres",
    }
}

/// Both stores live the same lives.
fn fresh_seed() -> u64 {
    static FRESH: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *FRESH.get_or_init(|| RandomState::new().build_hasher().finish() >> 16)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own switches, which the program's settings do not know"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
