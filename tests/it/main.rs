//! The whole server, started in this process and used from outside: a real listener, real receivers, both
//! databases, and a clock that only the test moves. Nothing here sleeps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::similar_names,
    missing_debug_implementations,
    reason = "test code, helpers included; and a receiver has received"
)]

#[path = "../support/mod.rs"]
mod support;

/// Makes two tests of each case, one per database.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(crate::base::Kind::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(crate::base::Kind::Postgres).await;
            })+
        }
    };
}

mod acceptance;
mod app;
mod auth;
mod authorizer;
mod base;
mod catalogue;
mod catch_up;
mod changes;
mod claims;
mod egress;
mod endings;
mod erasure;
mod feed;
mod filters;
mod formats;
mod google;
mod http;
mod issuer;
mod ledger;
mod lifecycle;
mod moves;
mod nodes;
mod opening;
mod resources;
mod restart;
mod retention;
mod retry;
mod rewrap;
mod secrets;
mod signing_keys;
mod stop_all;
mod storm;
mod verifiers;
mod window;
