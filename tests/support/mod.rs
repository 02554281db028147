//! What the test binaries share: a PostgreSQL to test on, a receiver to deliver to, a name server and
//! proxies. Used through
//! `#[path = "../support/mod.rs"] mod support;`, so no binary uses all of it.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::missing_panics_doc,
    missing_debug_implementations,
    reason = "test code: a broken expectation is a failed test"
)]

pub mod certificate;
pub mod connect;
pub mod dns;
pub mod misbehaving;
pub mod postgres;
pub mod receiver;
pub mod socks;
pub mod tls;
