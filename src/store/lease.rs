//! Who delivers. On PostgreSQL one lease row, with an epoch that fences every checkpoint; times are the
//! database's own. On SQLite the lock file has settled it already, so the lease is granted for good.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, connection::Connection, error::StoreResult};

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
            0,
            term.0,
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
            lease.epoch,
            term.0,
        )
        .await
    }

    /// Gives the lease up, so that a standing-by node need not wait for it to run out.
    pub async fn release_lease(&self, node: String, lease: Lease) -> StoreResult<()> {
        self.lease_statement(
            "update lease
             set owner = '', until = '-infinity'
             where id = 1 and owner = $1 and epoch = $3 and $2 >= 0
             returning epoch",
            node,
            lease.epoch,
            Duration::ZERO,
        )
        .await?;
        Ok(())
    }

    /// Runs one lease statement: `$1` node, `$2` seconds, `$3` epoch.
    async fn lease_statement(
        &self,
        sql: &'static str,
        node: String,
        epoch: i64,
        term: Duration,
    ) -> StoreResult<Option<Lease>> {
        if !self.is_shared() {
            return Ok(Some(Lease { epoch: 0 }));
        }
        let seconds = term.as_secs_f64();
        self.write(move |connection| {
            let node = node.clone();
            Box::pin(async move {
                let Connection::Postgres(c) = connection else { return Ok(None) };
                let query = diesel::sql_query(sql)
                    .bind::<diesel::sql_types::Text, _>(node)
                    .bind::<diesel::sql_types::Double, _>(seconds);
                let row: Option<EpochRow> = if sql.contains("$3") {
                    query.bind::<diesel::sql_types::BigInt, _>(epoch).get_result(&mut **c).await.optional()?
                } else {
                    query.get_result(&mut **c).await.optional()?
                };
                Ok(row.map(|row| Lease { epoch: row.epoch }))
            })
        })
        .await
    }
}
