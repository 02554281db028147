//! Notifications that failed where they may overtake each other, and wait for attempts of their own: exceptions of the
//! kind `retry`. Checkpoints write them, lanes are loaded with them, and whatever moves a cursor from outside ends them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    checkpoint::Retrying,
    connection::{Connection, on},
    error::StoreResult,
    exceptions::{RETRY, waiting},
    schema::exceptions,
};
use crate::domain::{channel::ChannelKey, time::Timestamp};

#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = exceptions)]
pub(super) struct RetryRow {
    pub channel: i64,
    pub seq: i64,
    pub kind: &'static str,
    pub status: Option<i16>,
    pub attempts: i64,
    pub created_at_ms: i64,
    pub error: Option<&'static str>,
    pub due_at_ms: Option<i64>,
    pub told: bool,
}

impl From<&Retrying> for RetryRow {
    fn from(retrying: &Retrying) -> Self {
        Self {
            channel: retrying.channel.0,
            seq: retrying.seq,
            kind: RETRY,
            status: retrying.status.and_then(|status| i16::try_from(status).ok()),
            attempts: i64::from(retrying.attempts),
            created_at_ms: retrying.since.as_millis(),
            error: retrying.error,
            due_at_ms: Some(retrying.due_at.as_millis()),
            // Its owner is told of what is set aside, and not of this.
            told: true,
        }
    }
}

/// A notification that waits for its own attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingRetry {
    pub channel: ChannelKey,
    pub seq: i64,
    pub attempts: u32,
    pub status: Option<u16>,
    /// When it failed first.
    pub since: Timestamp,
    pub due_at: Timestamp,
}

impl Store {
    /// Channels with notifications that wait for their own attempts, after `after` in key order; at most `limit`.
    pub async fn retrying_channels(&self, after: ChannelKey, limit: i64) -> StoreResult<Vec<ChannelKey>> {
        self.read(move |connection| {
            Box::pin(async move {
                let keys: Vec<i64> = on!(connection, c => {
                    exceptions::table
                        .filter(waiting())
                        .filter(exceptions::kind.eq(RETRY))
                        .filter(exceptions::channel.gt(after.0))
                        .group_by(exceptions::channel)
                        .order(exceptions::channel)
                        .limit(limit)
                        .select(exceptions::channel)
                        .load(c)
                        .await
                })?;
                Ok(keys.into_iter().map(ChannelKey).collect())
            })
        })
        .await
    }
}

/// What of these channels waits for its own attempts.
pub(super) async fn retries(connection: &mut Connection, keys: &[i64]) -> StoreResult<Vec<WaitingRetry>> {
    type Row = (i64, i64, i64, Option<i16>, i64, Option<i64>);
    let rows: Vec<Row> = on!(connection, c => {
        exceptions::table
            .filter(exceptions::channel.eq_any(keys.to_vec()))
            .filter(waiting())
            .filter(exceptions::kind.eq(RETRY))
            .order((exceptions::channel, exceptions::seq))
            .select((
                exceptions::channel,
                exceptions::seq,
                exceptions::attempts,
                exceptions::status,
                exceptions::created_at_ms,
                exceptions::due_at_ms,
            ))
            .load(c)
            .await
    })?;
    let waiting = rows.into_iter().map(|(channel, seq, attempts, status, since, due_at)| WaitingRetry {
        channel: ChannelKey(channel),
        seq,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        status: status.and_then(|status| u16::try_from(status).ok()),
        since: Timestamp::from_millis(since),
        due_at: Timestamp::from_millis(due_at.unwrap_or(since)),
    });
    Ok(waiting.collect())
}

/// Ends the waiting of everything up to `through`; the seqs, in order.
pub(super) async fn settle_retries(
    connection: &mut Connection,
    key: ChannelKey,
    through: i64,
) -> StoreResult<Vec<i64>> {
    let mut seqs: Vec<i64> = on!(connection, c => {
        diesel::delete(
            exceptions::table
                .filter(exceptions::channel.eq(key.0))
                .filter(exceptions::kind.eq(RETRY))
                .filter(exceptions::seq.le(through)),
        )
        .returning(exceptions::seq)
        .get_results(c)
        .await
    })?;
    seqs.sort_unstable();
    Ok(seqs)
}

/// Whatever waits for its own attempts is due at `now`: its receiver gets a fresh start, or is another one.
pub(super) async fn hurry_retries(
    connection: &mut Connection,
    key: ChannelKey,
    now: Timestamp,
) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(
            exceptions::table
                .filter(exceptions::channel.eq(key.0))
                .filter(exceptions::kind.eq(RETRY))
                .filter(exceptions::due_at_ms.gt(now.as_millis())),
        )
        .set(exceptions::due_at_ms.eq(Some(now.as_millis())))
        .execute(c)
        .await
    })?;
    Ok(())
}
