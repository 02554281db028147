//! Retention: what is older than it is kept goes, by age alone, in slices. Called by `app::retention`.
//!
//! No channel pins the log. Whoever stands inside a slice is moved to its end first, with a range that says what
//! expired for it (`places`); the last of these transactions deletes the slice, so nobody is ever left standing before
//! events that are gone without a word. A resource's head stays, so no seq is given out twice. What is not about the
//! log – attempts, notices, first answers – goes in `ledger`.

mod ledger;
mod places;

use diesel::{
    dsl::sql,
    prelude::*,
    sql_types::{BigInt, Nullable},
};
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::{Connection, on},
    error::StoreResult,
    resources,
    schema::events,
};
pub use ledger::Old;

use crate::domain::{
    channel::{ChannelKey, ResourceKey},
    time::Timestamp,
};

/// Events that one transaction deletes.
const SLICE_EVENTS: i64 = 1_000;
/// Payload bytes after which a slice ends early: SQLite overwrites every one of them.
const SLICE_BYTES_MAX: i64 = 16 * 1_024 * 1_024;

/// What was published, tried or answered at or before this moment is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff(pub Timestamp);

/// The oldest part of a log, all of it older than it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    pub through: i64,
    pub events: u64,
}

/// What one transaction did about the oldest slice of a log.
#[derive(Debug, Default)]
pub struct ExpiredSlice {
    /// Events that were deleted; none while channels still stand inside the slice.
    pub events: u64,
    /// Channels whose place changed: the engine has to hear of them.
    pub moved: Vec<ChannelKey>,
    /// Whether the log holds nothing any more that is old enough, as far as this transaction saw.
    pub is_done: bool,
}

impl Store {
    /// A page of resources after `after` in key order: those whose oldest event is no longer kept, and the last key of
    /// the page.
    pub async fn aged_resources(
        &self,
        after: ResourceKey,
        limit: i64,
        cutoff: Cutoff,
    ) -> StoreResult<(Vec<ResourceKey>, Option<ResourceKey>)> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            resource: i64,
            #[diesel(sql_type = Nullable<BigInt>)]
            oldest_ms: Option<i64>,
        }
        self.read(move |connection| {
            Box::pin(async move {
                // The oldest event of each is the first by the primary key.
                let rows: Vec<Row> = on!(connection, c => {
                    diesel::sql_query(
                        "select r.id as resource,
                                (select e.published_at_ms from events e where e.resource = r.id
                                 order by e.seq limit 1) as oldest_ms
                         from resources r where r.id > $1 order by r.id limit $2",
                    )
                    .bind::<BigInt, _>(after.0)
                    .bind::<BigInt, _>(limit)
                    .load(c)
                    .await
                })?;
                let aged = |row: &Row| row.oldest_ms.is_some_and(|oldest| oldest <= cutoff.0.as_millis());
                let found = rows.iter().filter(|row| aged(row)).map(|row| ResourceKey(row.resource));
                Ok((found.collect(), rows.last().map(|row| ResourceKey(row.resource))))
            })
        })
        .await
    }

    /// The first slice of a log after `after` that is no longer kept, for a run that only counts.
    pub async fn aged_slice(
        &self,
        resource: ResourceKey,
        after: i64,
        cutoff: Cutoff,
    ) -> StoreResult<Option<Aged>> {
        self.read(move |connection| {
            Box::pin(async move { oldest_slice(connection, resource, after, cutoff).await })
        })
        .await
    }

    /// One transaction on the oldest slice of a log: moves a batch of the channels that stand inside it, and deletes it
    /// once that was the last batch. To be called until it is done.
    pub async fn expire_slice(
        &self,
        resource: ResourceKey,
        cutoff: Cutoff,
        now: Timestamp,
    ) -> StoreResult<ExpiredSlice> {
        let (expired, through) = self
            .write(move |connection| {
                Box::pin(async move { expire_slice(connection, resource, cutoff, now).await })
            })
            .await?;
        if expired.events > 0 {
            self.cache().forget(resource, i64::MIN, through);
        }
        Ok(expired)
    }
}

async fn oldest_slice(
    connection: &mut Connection,
    resource: ResourceKey,
    after: i64,
    cutoff: Cutoff,
) -> StoreResult<Option<Aged>> {
    let rows: Vec<(i64, i64, i64)> = on!(connection, c => {
        events::table
            .filter(events::resource.eq(resource.0))
            .filter(events::seq.gt(after))
            .order(events::seq)
            .limit(SLICE_EVENTS)
            .select((
                events::seq,
                events::published_at_ms,
                sql::<BigInt>("cast(coalesce(octet_length(payload), 0) as bigint)"),
            ))
            .load(c)
            .await
    })?;
    let (mut aged, mut bytes) = (None, 0);
    // A log keeps its end: the first event that is young enough keeps all after it.
    for (seq, published_at, size) in rows {
        if published_at > cutoff.0.as_millis() || bytes >= SLICE_BYTES_MAX {
            break;
        }
        bytes += size;
        let events = aged.map_or(0, |aged: Aged| aged.events) + 1;
        aged = Some(Aged { through: seq, events });
    }
    Ok(aged)
}

async fn expire_slice(
    connection: &mut Connection,
    resource: ResourceKey,
    cutoff: Cutoff,
    now: Timestamp,
) -> StoreResult<(ExpiredSlice, i64)> {
    let head = resources::lock(connection, resource).await?;
    let Some(slice) = oldest_slice(connection, resource, i64::MIN, cutoff).await? else {
        return Ok((ExpiredSlice { is_done: true, ..ExpiredSlice::default() }, 0));
    };
    let mut expired = ExpiredSlice::default();
    let all_moved = places::move_on(connection, head, slice.through, now, &mut expired.moved).await?;
    let all_settled = all_moved
        && places::expire_exceptions(connection, head, slice.through, now, &mut expired.moved).await?;
    if all_settled {
        places::forget_fates(connection, resource, slice.through, cutoff).await?;
        on!(connection, c => {
            diesel::delete(events::table)
                .filter(events::resource.eq(resource.0))
                .filter(events::seq.le(slice.through))
                .execute(c)
                .await
        })?;
        expired.events = slice.events;
    }
    Ok((expired, slice.through))
}
