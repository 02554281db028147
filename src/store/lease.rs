//! Who delivers. On PostgreSQL one lease row, with an epoch that fences every checkpoint; times are the
//! database's own. On SQLite the lock file has settled it already, so the lease is granted for good.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, connection::Handle, error::StoreResult};

/// How long a lease runs without renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerm(pub Duration);

/// A lease that this node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub epoch: i64,
}

#[derive(QueryableByName)]
struct EpochRow {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    epoch: i64,
}

impl Store {
    /// Takes the lease if it is free, has run out, or was this very node's before it restarted.
    pub async fn take_lease(&self, node: String, term: LeaseTerm) -> StoreResult<Option<Lease>> {
        self.lease_statement(
            "update lease
             set owner = $1, epoch = epoch + 1, until = clock_timestamp() + make_interval(secs => $2)
             where id = 1 and (until < clock_timestamp() or owner = $1)
             returning epoch",
            node,
            Some(term),
            None,
        )
        .await
    }

    /// Prolongs a lease that is still this node's. `None`: another node has it.
    pub async fn renew_lease(
        &self,
        node: String,
        lease: Lease,
        term: LeaseTerm,
    ) -> StoreResult<Option<Lease>> {
        self.lease_statement(
            "update lease
             set until = clock_timestamp() + make_interval(secs => $2)
             where id = 1 and owner = $1 and epoch = $3
             returning epoch",
            node,
            Some(term),
            Some(lease),
        )
        .await
    }

    /// Gives the lease up, so that a standing-by node need not wait for it to run out.
    pub async fn release_lease(&self, node: String, lease: Lease) -> StoreResult<()> {
        self.lease_statement(
            "update lease
             set owner = '', until = '-infinity'
             where id = 1 and owner = $1 and epoch = $2
             returning epoch",
            node,
            None,
            Some(lease),
        )
        .await?;
        Ok(())
    }

    /// Runs one lease statement. `$1` is the node, then come the term in seconds and the epoch, where they are given.
    async fn lease_statement(
        &self,
        sql: &'static str,
        node: String,
        term: Option<LeaseTerm>,
        held: Option<Lease>,
    ) -> StoreResult<Option<Lease>> {
        if !self.is_shared() {
            return Ok(Some(Lease { epoch: 0 }));
        }
        self.write(move |connection| {
            let node = node.clone();
            Box::pin(async move {
                let Handle::Postgres(c) = &mut connection.handle else { return Ok(None) };
                let mut query = diesel::sql_query(sql).into_boxed().bind::<diesel::sql_types::Text, _>(node);
                if let Some(LeaseTerm(term)) = term {
                    query = query.bind::<diesel::sql_types::Double, _>(term.as_secs_f64());
                }
                if let Some(Lease { epoch }) = held {
                    query = query.bind::<diesel::sql_types::BigInt, _>(epoch);
                }
                let row: Option<EpochRow> = query.get_result(&mut **c).await.optional()?;
                Ok(row.map(|row| Lease { epoch: row.epoch }))
            })
        })
        .await
    }
}
