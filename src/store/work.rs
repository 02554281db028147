//! Busy resources: those whose log has grown past what every level channel has had.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, connection::on, error::StoreResult, schema::work};
use crate::domain::channel::ResourceKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyResource {
    pub resource: ResourceKey,
    pub head: i64,
    /// Every level channel has had the log up to here.
    pub fanned: i64,
}

macro_rules! busy_query {
    ($after:expr, $limit:expr) => {
        work::table.filter(work::resource.gt($after)).order(work::resource).limit($limit).select((
            work::resource,
            work::head_seq,
            work::fanned_seq,
        ))
    };
}
pub(super) use busy_query;

impl Store {
    /// Busy resources after `after` in key order; at most `limit`.
    pub async fn busy_resources(&self, after: ResourceKey, limit: i64) -> StoreResult<Vec<BusyResource>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, i64, i64)> =
                    on!(connection, c => busy_query!(after.0, limit).load(c).await)?;
                let busy = rows.into_iter().map(|(resource, head, fanned)| BusyResource {
                    resource: ResourceKey(resource),
                    head,
                    fanned,
                });
                Ok(busy.collect())
            })
        })
        .await
    }
}
