//! What the load harnesses share.

pub(crate) mod server;
