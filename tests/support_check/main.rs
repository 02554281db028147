//! The tools of the tests, tested: a wrong ruler makes every measurement wrong.

#![expect(clippy::similar_names, reason = "a receiver has received")]
#![allow(clippy::unwrap_used, reason = "test code, helpers included")]

#[path = "../support/mod.rs"]
mod support;

mod postgres;
mod receiver;
