//! What the load harnesses share.

#![allow(dead_code, reason = "each harness uses a part")]

pub(crate) mod server;
