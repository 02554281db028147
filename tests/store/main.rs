//! The store's conformance suite: every case runs on SQLite and on PostgreSQL, through the public interface;
//! where a database must be looked at or interfered with from outside, over a connection of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    reason = "test code, helpers included"
)]

#[path = "../support/mod.rs"]
mod support;

/// Makes two tests of each case, one per database.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(crate::base::Base::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(crate::base::Base::postgres()).await;
            })+
        }
    };
}

mod api_keys;
mod base;
mod build;
mod changing;
mod channels;
mod checkpoints;
mod ending;
mod erasure;
mod fates;
mod idempotency;
mod lanes;
mod lease;
mod ledger;
mod opening;
mod outage;
mod publishing;
mod races;
mod resources;
mod retention;
mod scale;
mod secrets;
mod signing_keys;
