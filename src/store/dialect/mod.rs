//! What truly differs between the databases: appending, checkpoints, connecting, the lease. Written natively.

pub(super) mod postgres;
pub(super) mod sqlite;
