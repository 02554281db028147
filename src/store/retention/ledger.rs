//! What is kept for its own sake goes by its own age: attempts, notices that are through, first answers of publishes.
//!
//! Attempts and notices are walked by their keys, which rise with time, so no index of their ages has to be kept.

use diesel::{prelude::*, sql_types::BigInt};
use diesel_async::RunQueryDsl;

use super::Cutoff;
use crate::store::{
    Store,
    connection::{Connection, on},
    error::StoreResult,
    schema::{attempts, notices},
};

/// Rows that one transaction looks at or deletes.
const SLICE_ROWS: i64 = 1_000;

/// What a run does with rows that are old enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    Delete,
    /// Only says how many they are.
    Count,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    found: i64,
}

impl Store {
    /// A slice of the attempts after `after`: how many were old enough, and where the next slice begins. `None` after
    /// the last one.
    pub async fn old_attempts(
        &self,
        after: i64,
        cutoff: Cutoff,
        old: Old,
    ) -> StoreResult<Option<(u64, i64)>> {
        let page = self
            .read(move |connection| {
                Box::pin(async move {
                    Ok(on!(connection, c => {
                        attempts::table
                            .filter(attempts::id.gt(after))
                            .order(attempts::id)
                            .limit(SLICE_ROWS)
                            .select((attempts::id, attempts::started_at_ms))
                            .load(c)
                            .await
                    })?)
                })
            })
            .await?;
        let Some((count, last)) = aged(&page, cutoff) else { return Ok(None) };
        if old == Old::Delete {
            self.write(move |connection| {
                Box::pin(async move {
                    Ok(on!(connection, c => {
                        diesel::delete(attempts::table)
                            .filter(attempts::id.gt(after))
                            .filter(attempts::id.le(last))
                            .filter(attempts::started_at_ms.le(cutoff.0.as_millis()))
                            .execute(c)
                            .await
                    })?)
                })
            })
            .await?;
        }
        Ok(Some((count, last)))
    }

    /// The same of notices that are through. The newest of each kind stays while its channel lives: the next one takes
    /// its number from it.
    pub async fn old_notices(&self, after: i64, cutoff: Cutoff, old: Old) -> StoreResult<Option<(u64, i64)>> {
        let page = self
            .read(move |connection| {
                Box::pin(async move {
                    Ok(on!(connection, c => {
                        notices::table
                            .filter(notices::id.gt(after))
                            .order(notices::id)
                            .limit(SLICE_ROWS)
                            .select((notices::id, notices::created_at_ms))
                            .load(c)
                            .await
                    })?)
                })
            })
            .await?;
        let Some((_, last)) = aged(&page, cutoff) else { return Ok(None) };
        let count = match old {
            Old::Count => {
                self.read(move |connection| {
                    Box::pin(async move { count_notices(connection, after, last, cutoff).await })
                })
                .await?
            }
            Old::Delete => {
                self.write(move |connection| {
                    Box::pin(async move { delete_notices(connection, after, last, cutoff).await })
                })
                .await?
            }
        };
        Ok(Some((count, last)))
    }

    /// A slice of the first answers, the oldest first: how many went, or how many would. The last slice is not full.
    pub async fn old_keys(&self, cutoff: Cutoff, old: Old) -> StoreResult<u64> {
        match old {
            Old::Count => self.read(move |c| Box::pin(async move { count_keys(c, cutoff).await })).await,
            Old::Delete => self.write(move |c| Box::pin(async move { delete_keys(c, cutoff).await })).await,
        }
    }
}

/// How many rows of a page are old enough, and the page's last key. `None` when none is.
fn aged(page: &[(i64, i64)], cutoff: Cutoff) -> Option<(u64, i64)> {
    let count = page.iter().filter(|(_, at)| *at <= cutoff.0.as_millis()).count();
    let (last, _) = page.last()?;
    (count > 0).then(|| (u64::try_from(count).unwrap_or(u64::MAX), *last))
}

/// Which notices of a slice go: those that are through, old enough, and not needed for the next one's number.
macro_rules! going_notices {
    ($verb:literal) => {
        concat!(
            $verb,
            " from notices where id > $1 and id <= $2 and created_at_ms <= $3 and due_at_ms is null
               and (exists (select 1 from notices newer
                     where newer.channel = notices.channel and newer.kind = notices.kind
                       and newer.n > notices.n)
                 or exists (select 1 from channels c
                     where c.id = notices.channel and c.ended_at_ms <= $3))"
        )
    };
}

async fn count_notices(
    connection: &mut Connection,
    after: i64,
    last: i64,
    cutoff: Cutoff,
) -> StoreResult<u64> {
    let counted: Counted = on!(connection, c => {
        diesel::sql_query(going_notices!("select count(*) as found"))
            .bind::<BigInt, _>(after)
            .bind::<BigInt, _>(last)
            .bind::<BigInt, _>(cutoff.0.as_millis())
            .get_result(c)
            .await
    })?;
    Ok(u64::try_from(counted.found).unwrap_or_default())
}

async fn delete_notices(
    connection: &mut Connection,
    after: i64,
    last: i64,
    cutoff: Cutoff,
) -> StoreResult<u64> {
    let deleted = on!(connection, c => {
        diesel::sql_query(going_notices!("delete"))
            .bind::<BigInt, _>(after)
            .bind::<BigInt, _>(last)
            .bind::<BigInt, _>(cutoff.0.as_millis())
            .execute(c)
            .await
    })?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}

async fn count_keys(connection: &mut Connection, cutoff: Cutoff) -> StoreResult<u64> {
    let counted: Counted = on!(connection, c => {
        diesel::sql_query("select count(*) as found from idempotency_keys where created_at_ms <= $1")
            .bind::<BigInt, _>(cutoff.0.as_millis())
            .get_result(c)
            .await
    })?;
    Ok(u64::try_from(counted.found).unwrap_or_default())
}

async fn delete_keys(connection: &mut Connection, cutoff: Cutoff) -> StoreResult<u64> {
    let deleted = on!(connection, c => {
        diesel::sql_query(
            "delete from idempotency_keys where (project, scope, key) in (
               select project, scope, key from idempotency_keys
               where created_at_ms <= $1 order by created_at_ms limit $2)",
        )
        .bind::<BigInt, _>(cutoff.0.as_millis())
        .bind::<BigInt, _>(SLICE_ROWS)
        .execute(c)
        .await
    })?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}
