//! The faces, from outside: what they answer to bad input and to strangers, what a publisher can hold on to, what
//! the commands say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::similar_names,
    reason = "test code, helpers included"
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod api_keys;
mod bad_channels;
mod bad_events;
mod bad_google;
mod bad_queries;
mod canaries;
mod cli;
mod http;
mod limits;
mod matrix;
mod publishing;
mod server;
mod slow;
mod smuggling;
mod wrong;
